package e2e

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/external-lb/external-lb/api/v1alpha1"
	table "github.com/external-lb/external-lb/internal/engine/engines"
	"github.com/external-lb/external-lb/internal/lb"
	"github.com/external-lb/external-lb/test/builder"
	"github.com/external-lb/external-lb/test/cluster"
	"github.com/external-lb/external-lb/test/wait"
)

// terminates ends a test of an engine that cannot terminate TLS. What it does
// instead is another test's matter.
func terminates(t *testing.T) {
	t.Helper()
	if reason := table.Named(engine.name).Unsupported("tls.secretRef", lb.TCP); reason != "" {
		t.Skipf("not applicable: %s", reason)
	}
}

// pair is a certificate with its key, as a Secret holds them.
type pair struct {
	name       string
	chain, key []byte
}

// newPair makes a certificate for a name that signs itself.
func newPair(t *testing.T, name string, until time.Time) pair {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), DNSNames: []string{name}, NotBefore: until.Add(-48 * time.Hour), NotAfter: until}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	must(t, err)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	must(t, err)
	return pair{name, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})}
}

func tomorrow() time.Time { return time.Now().Add(24 * time.Hour) }

// client trusts the certificate alone, and asks over a new connection each time.
func (p pair) client() *http.Client {
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(p.chain)
	c := env.HTTPClientFrom("client")
	transport := c.Transport.(*http.Transport).Clone()
	transport.TLSClientConfig = &tls.Config{RootCAs: roots, ServerName: p.name}
	transport.DisableKeepAlives = true
	return &http.Client{Transport: transport, Timeout: lostAfter}
}

// get asks an address over HTTPS.
func (p pair) get(ctx context.Context, address string) (cluster.Answer, error) {
	var answer cluster.Answer
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+net.JoinHostPort(address, "443")+"/", nil)
	if err != nil {
		return answer, err
	}
	httpClient := p.client()
	defer httpClient.CloseIdleConnections()
	response, err := httpClient.Do(request)
	if err != nil {
		return answer, err
	}
	defer response.Body.Close()
	return answer, json.NewDecoder(io.LimitReader(response.Body, 1<<20)).Decode(&answer)
}

// certify puts a pair into a Secret.
func (s *scene) certify(name string, p pair) *corev1.Secret {
	s.t.Helper()
	secret := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: name}, Type: corev1.SecretTypeTLS,
		Data: map[string][]byte{corev1.TLSCertKey: p.chain, corev1.TLSPrivateKeyKey: p.key},
	}
	must(s.t, env.Kube.Create(s.t.Context(), secret))
	return secret
}

// replace puts another pair into a Secret.
func (s *scene) replace(secret *corev1.Secret, p pair) {
	s.t.Helper()
	wait.For(s.t, func(ctx context.Context) error {
		fresh := &corev1.Secret{}
		if err := env.Kube.Get(ctx, client.ObjectKeyFromObject(secret), fresh); err != nil {
			return err
		}
		fresh.Data = map[string][]byte{corev1.TLSCertKey: p.chain, corev1.TLSPrivateKeyKey: p.key}
		return env.Kube.Update(ctx, fresh)
	})
}

// terminateTLS makes a policy for the port https of a Service.
func (s *scene) terminateTLS(service, secret string, change ...func(*v1alpha1.UpstreamPolicySpec)) *v1alpha1.UpstreamPolicy {
	s.t.Helper()
	p := builder.UpstreamPolicy(s.namespace, service+"-tls").Manifest()
	p.Spec.TargetRefs = []v1alpha1.PolicyTargetReference{{Kind: "Service", Name: service, SectionName: "https"}}
	p.Spec.TLS = &v1alpha1.TLS{SecretRef: v1alpha1.SecretReference{Name: secret}}
	for _, c := range change {
		c(&p.Spec)
	}
	must(s.t, env.Kube.Create(s.t.Context(), p))
	return p
}

func withHTTPS(svc *corev1.Service) {
	withPort("http", corev1.ProtocolTCP, 80, 8080)(svc)
	withPort("https", corev1.ProtocolTCP, 443, 8080)(svc)
}

// certificateIs waits for a policy's condition.
func (s *scene) certificateIs(p *v1alpha1.UpstreamPolicy, reason string) {
	s.t.Helper()
	wait.For(s.t, func(ctx context.Context) error {
		fresh := &v1alpha1.UpstreamPolicy{}
		if err := env.Kube.Get(ctx, client.ObjectKeyFromObject(p), fresh); err != nil {
			return err
		}
		for _, target := range fresh.Status.Targets {
			c := meta.FindStatusCondition(target.Conditions, v1alpha1.ConditionCertificateReady)
			if c != nil && c.Reason == reason && (c.Status == metav1.ConditionTrue) == (reason == v1alpha1.ReasonCertificateValid) {
				return nil
			}
		}
		return fmt.Errorf("not %s: %+v", reason, fresh.Status)
	})
}

// portError waits for what a Service's port 443 says of itself; "" for nothing.
func (s *scene) portError(svc *corev1.Service, want string) *corev1.Service {
	s.t.Helper()
	return s.until(svc, "published with the port error "+want, func(svc *corev1.Service) bool {
		for _, in := range svc.Status.LoadBalancer.Ingress {
			got := ""
			for _, port := range in.Ports {
				if port.Port == 443 && port.Error != nil {
					got = *port.Error
				}
			}
			if got != want {
				return false
			}
		}
		return len(svc.Status.LoadBalancer.Ingress) > 0
	})
}

// serves waits until an address is answered with a certificate.
func (s *scene) serves(address string, p pair) {
	s.t.Helper()
	wait.For(s.t, func(ctx context.Context) error {
		answer, err := p.get(ctx, address)
		if err == nil && answer.Namespace != s.namespace {
			s.t.Errorf("%s answered from namespace %s: misrouted", address, answer.Namespace)
		}
		return err
	})
}

// closed waits until nobody answers at port 443, whatever he is asked in.
func (s *scene) closed(address string) {
	s.t.Helper()
	wait.For(s.t, func(ctx context.Context) error {
		conn, err := env.DialFrom(ctx, "client", "tcp", net.JoinHostPort(address, "443"))
		if err != nil {
			return nil
		}
		conn.Close()
		return fmt.Errorf("%s:443 is open", address)
	})
}

// keyFiles lists the mode, the owner and the name of every file with a key on a host. Files may go
// meanwhile: what is no longer used is cleaned up.
func keyFiles(t *testing.T, host string) []string {
	t.Helper()
	h, err := env.Host(host)
	must(t, err)
	out, err := h.Shell(t.Context(), `grep -rl 'PRIVATE KEY' /var/lib/external-lb | while read -r f; do stat -c '%a %U %n' "$f" || [ ! -e "$f" ]; done`)
	must(t, err)
	return strings.Split(strings.TrimSpace(out), "\n")
}
