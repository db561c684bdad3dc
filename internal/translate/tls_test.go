package translate

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/engine/engines"
	"github.com/external-lb/external-lb/internal/lb"
	"github.com/external-lb/external-lb/test/builder"
)

var (
	validFrom  = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	validUntil = time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)
	inBetween  = validFrom.Add(time.Hour)
)

// MakeSecret holds a certificate, which differs by its serial number.
func MakeSecret(name string, serial int64) *corev1.Secret {
	key := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	template := &x509.Certificate{SerialNumber: big.NewInt(serial), NotBefore: validFrom, NotAfter: validUntil}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		panic(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		panic(err)
	}
	s := &corev1.Secret{Type: corev1.SecretTypeTLS, Data: map[string][]byte{
		corev1.TLSCertKey:       pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}),
		corev1.TLSPrivateKeyKey: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}),
	}}
	s.Namespace, s.Name = "default", name
	return s
}

// Secrets are those that there are.
func (b *inputBuilder) Secrets(secrets ...*corev1.Secret) *inputBuilder {
	b.Certificates = Certificates{}
	for _, s := range secrets {
		b.Certificates[types.NamespacedName{Namespace: s.Namespace, Name: s.Name}] = ReadCertificate(s)
	}
	return b
}

// served is the Secret whose certificate each port has; none: "".
func served(t *testing.T, in *inputBuilder) map[uint16]string {
	t.Helper()
	out := map[uint16]string{}
	for port, s := range settings(t, in) {
		out[port] = ""
		for name, c := range in.Certificates {
			if c.Served != nil && s.Certificate == c.Served.Name() {
				out[port] = name.Name
			}
		}
	}
	return out
}

func TestTLSPrecedence(t *testing.T) {
	in := MakeInput(web()).Secrets(MakeSecret("a", 1), MakeSecret("b", 2)).Policies(
		policy("young").For("web").TLS("a").Age(4),
		policy("old").For("web").Retries(1).Age(6),
		policy("port").For("web", "p443").TLS("b").Age(1),
		policy("port-too-late").For("web", "p443").TLS("a"))
	got := served(t, in)
	if got[80] != "a" || got[443] != "b" {
		t.Errorf("got %v", got)
	}
}

func TestTLSOfOnePortAlone(t *testing.T) {
	in := MakeInput(web()).Secrets(MakeSecret("a", 1)).Policies(policy("p").For("web", "p443").TLS("a"))
	if got := served(t, in); got[80] != "" || got[443] != "a" {
		t.Errorf("got %v", got)
	}
}

// A port that is to have TLS is never carried without it.
func TestPortsAreNotCarriedWithoutTheirTLS(t *testing.T) {
	other := MakeSecret("elsewhere", 1)
	other.Namespace = "elsewhere"
	opaque, broken := MakeSecret("opaque", 1), MakeSecret("broken", 1)
	opaque.Type = corev1.SecretTypeOpaque
	broken.Data[corev1.TLSPrivateKeyKey] = []byte("x")
	secrets := []*corev1.Secret{MakeSecret("good", 1), other, opaque, broken}
	for name, tc := range map[string]struct {
		policy *builder.UpstreamPolicyBuilder
		engine v1alpha1.Engine
		want   string // port error
		texts  string // in the problem
	}{
		"no Secret":                   {policy("p").For("web", "p443").TLS("none"), "", v1alpha1.PortErrorCertificate, "TLS cannot be terminated for 443/TCP: there is no Secret none"},
		"a Secret elsewhere":          {policy("p").For("web", "p443").TLS("elsewhere"), "", v1alpha1.PortErrorCertificate, "in the namespace default"},
		"of another type":             {policy("p").For("web", "p443").TLS("opaque"), "", v1alpha1.PortErrorCertificate, `of type "Opaque", want kubernetes.io/tls`},
		"without a key":               {policy("p").For("web", "p443").TLS("broken"), "", v1alpha1.PortErrorCertificate, "tls.key has no private key"},
		"an engine that cannot":       {policy("p").For("web", "p443").TLS("good"), v1alpha1.EngineLVS, v1alpha1.PortErrorTLS, "LVS forwards packets"},
		"settings that are nonsense":  {policy("p").For("web", "p443").TLS("none").Retries(-1), "", v1alpha1.PortErrorCertificate, "none"},
		"nonsense, and a certificate": {policy("p").For("web", "p443").TLS("good").Retries(-1), "", "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			in := MakeInput(web()).Secrets(secrets...).Policies(tc.policy)
			if tc.engine != "" {
				in.Balancer.Spec.Engine = tc.engine
			}
			got := in.Only(t)
			if e := got.PortErrors[PortKey{tcp, 443}]; e != tc.want {
				t.Errorf("port error %q, want %q", e, tc.want)
			}
			if tc.want == "" {
				return
			}
			got.want(t, "192.0.2.1:80/TCP -> 30080 on all")
			if len(got.Problems) != 1 || got.Problems[0].Fatal || !strings.Contains(got.Problems[0].Message, tc.texts) {
				t.Errorf("problems %+v, want one with %q", got.Problems, tc.texts)
			}
			wantTellable(t, &got.Problems[0])
		})
	}
}

func TestServiceWithoutAnyPortLeft(t *testing.T) {
	got := MakeInput(web()).Policies(policy("p").For("web").TLS("none")).Only(t)
	got.wantProblems(t, "!"+v1alpha1.ReasonNoCertificate)
	if got.Service != nil || len(got.PortErrors) != 2 {
		t.Errorf("carried: %v, errors %v", got.lines(), got.PortErrors)
	}
}

// TLS is a matter of TCP: what is beside it on the same Service goes on.
func TestTLSLeavesUDPAlone(t *testing.T) {
	quic := on(service("web").PortOf(tcp, 443, 30443).PortOf(udp, 443, 30443), "192.0.2.1")
	for engine, udpIsCarried := range map[v1alpha1.Engine]bool{
		v1alpha1.EngineNginx: true, v1alpha1.EngineHAProxy: false, v1alpha1.EngineLVS: true,
	} {
		in := MakeInput(quic).Secrets(MakeSecret("a", 1)).Policies(policy("p").For("web").TLS("a"))
		in.Balancer.Spec.Engine = engine
		carried := map[lb.Protocol]string{}
		for _, f := range in.Only(t).Frontends {
			carried[f.Listener.Protocol] = f.Settings.Certificate
		}
		c, ok := carried[lb.UDP]
		if ok != udpIsCarried || c != "" {
			t.Errorf("%s: UDP is carried: %t, with %v", engine, ok, c)
		}
		if c, ok := carried[lb.TCP]; ok != (engine != v1alpha1.EngineLVS) || ok && c == "" {
			t.Errorf("%s: TCP is carried: %t, with %v", engine, ok, c)
		}
	}
}

// What is remembered of a Service is not used once its certificate is another one.
func TestCertificatesAreNotForgotten(t *testing.T) {
	in := MakeInput(web()).Policies(policy("p").For("web", "p443").TLS("a"))
	translator := New()
	var before *lb.Service
	for _, step := range []struct {
		secrets []*corev1.Secret
		changed bool
	}{
		{nil, true}, {[]*corev1.Secret{MakeSecret("a", 1)}, true}, {[]*corev1.Secret{MakeSecret("a", 1), MakeSecret("b", 3)}, false},
		{[]*corev1.Secret{MakeSecret("a", 2)}, true}, {nil, true},
	} {
		now := translator.Translate(in.Secrets(step.secrets...).Input).Config.Services[0]
		if (now != before) != step.changed {
			t.Errorf("with %d Secrets: changed %t, want %t", len(step.secrets), !step.changed, step.changed)
		}
		before = now
	}
}

// A certificate is in the Config once, however many name it, and only if somebody does.
func TestCertificatesOfAConfig(t *testing.T) {
	other := on(service("other").Port(443), "192.0.2.2")
	a, b := MakeSecret("a", 1), MakeSecret("b", 2)
	same := a.DeepCopy()
	same.Name = "same"
	in := MakeInput(web(), other).Secrets(a, b, same).Policies(policy("p").For("web").TLS("a"), policy("o").For("other").TLS("same"))
	got := New().Translate(in.Input).Config.Certificates
	if len(got) != 1 || !got[0].Equal(ReadCertificate(a).Served) {
		t.Errorf("certificates %v", got)
	}
}

func TestCertificateStatus(t *testing.T) {
	lvs := func(*corev1.Service) (Carrier, bool) {
		return Carrier{Balancer: "edge", Engines: engines.Carrying("lvs", "")}, true
	}
	dns := service("dns").PortOf(udp, 53, 30053).PortOf(tcp, 80, 30080).Obj()
	services := []*corev1.Service{web().Object, dns}
	certificates := MakeInput().Secrets(MakeSecret("a", 1), &corev1.Secret{}).Certificates
	certificates[types.NamespacedName{Namespace: "default", Name: "unread"}] = UnreadableCertificate()
	for name, tc := range map[string]struct {
		policy, older *builder.UpstreamPolicyBuilder
		carrier       func(*corev1.Service) (Carrier, bool)
		now           time.Time
		want          string // summary
		reason        string // of CertificateReady
		texts         string
	}{
		"valid":           {policy("p").For("web").TLS("a"), nil, edge, inBetween, "Accepted CertificateReady", v1alpha1.ReasonCertificateValid, "valid until 2027-01-01T00:00:00Z"},
		"to be renewed":   {policy("p").For("web").TLS("a"), nil, edge, validUntil.Add(-14*24*time.Hour + time.Second), "Accepted CertificateReady", v1alpha1.ReasonCertificateExpiring, "expires at 2027-01-01T00:00:00Z, in less than 14 days"},
		"at last":         {policy("p").For("web").TLS("a"), nil, edge, validUntil.Add(-3*24*time.Hour + time.Second), "Accepted CertificateReady", v1alpha1.ReasonCertificateExpiring, "in less than 3 days"},
		"in time":         {policy("p").For("web").TLS("a"), nil, edge, validUntil.Add(-14 * 24 * time.Hour), "Accepted CertificateReady", v1alpha1.ReasonCertificateValid, ""},
		"expired":         {policy("p").For("web").TLS("a"), nil, edge, validUntil.Add(time.Hour), "Accepted", v1alpha1.ReasonCertificateExpired, "is served still"},
		"not yet valid":   {policy("p").For("web").TLS("a"), nil, edge, validFrom.Add(-time.Hour), "Accepted", v1alpha1.ReasonCertificateEarly, "from 2026-01-01T00:00:00Z"},
		"missing":         {policy("p").For("web").TLS("none"), nil, edge, inBetween, "Accepted", v1alpha1.ReasonSecretNotFound, "kubectl create secret tls"},
		"not to be read":  {policy("p").For("web").TLS("unread"), nil, edge, inBetween, "Accepted", v1alpha1.ReasonSecretsUnreadable, "config/components/tls"},
		"on LVS":          {policy("p").For("web").TLS("a"), nil, lvs, inBetween, "Accepted Unsupported CertificateReady", v1alpha1.ReasonCertificateValid, "tls.secretRef: LVS"},
		"with UDP":        {policy("p").For("dns").TLS("a"), nil, edge, inBetween, "Accepted Unsupported CertificateReady", v1alpha1.ReasonCertificateValid, "tls.secretRef: TLS is spoken over TCP"},
		"but not here":    {policy("p").For("dns", "p80").TLS("a"), nil, edge, inBetween, "Accepted CertificateReady", v1alpha1.ReasonCertificateValid, ""},
		"an older policy": {policy("p").For("web").TLS("a"), policy("o").For("web").TLS("none").Age(1), edge, inBetween, "Accepted Conflicted CertificateReady", v1alpha1.ReasonCertificateValid, "tls.secretRef by o"},
		"not about TLS":   {policy("p").For("web").TLS("a"), policy("o").For("web").Retries(1).Age(1), edge, inBetween, "Accepted CertificateReady", v1alpha1.ReasonCertificateValid, ""},
		"without TLS":     {policy("p").For("web").Retries(1), nil, edge, inBetween, "Accepted", "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			policies := []*v1alpha1.UpstreamPolicy{tc.policy.Obj()}
			if tc.older != nil {
				policies = append(policies, tc.older.Obj())
			}
			status := PolicyStatus(policies, services, tc.carrier, certificates, tc.now)["p"][0]
			if got := summary(status); got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
			reason, said := "", ""
			for _, c := range status.Conditions {
				if said += c.Message + "\n"; c.Type == v1alpha1.ConditionCertificateReady {
					reason = c.Reason
					if (c.Reason == v1alpha1.ReasonCertificateValid) == Wrong(c) {
						t.Errorf("wrong: %t, with %s", Wrong(c), c.Reason)
					}
				}
			}
			if reason != tc.reason || !strings.Contains(said, tc.texts) {
				t.Errorf("reason %q, want %q; said\n%swant %q", reason, tc.reason, said, tc.texts)
			}
		})
	}
}

// Who has certificates for a day renews them hours before: nobody is warned all the time.
func TestACertificateForAShortTimeIsWarnedOfLate(t *testing.T) {
	c := &lb.Certificate{NotBefore: validFrom, NotAfter: validFrom.Add(24 * time.Hour)}
	want := []time.Time{c.NotBefore, c.NotAfter, c.NotAfter.Add(-3 * time.Hour), c.NotAfter.Add(-6 * time.Hour)}
	if got := Turns(c); !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	if got := days(6 * time.Hour); got != "6h0m0s" {
		t.Error(got)
	}
}
