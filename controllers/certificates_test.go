package controllers

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/external-lb/external-lb/api/v1alpha1"
	tlskeys "github.com/external-lb/external-lb/internal/certificate"
	"github.com/external-lb/external-lb/internal/lb"
	"github.com/external-lb/external-lb/internal/translate"
	"github.com/external-lb/external-lb/test/builder"
	"github.com/external-lb/external-lb/test/wait"
)

func watchedSecrets(o Options) map[string]cache.Config {
	for obj, by := range cacheOptions(o, newWatches()).ByObject {
		if _, ok := obj.(*corev1.Secret); ok {
			return by.Namespaces
		}
	}
	return nil
}

// Secrets of other namespaces are watched only where that is wanted, and then
// those with certificates alone.
func TestSecretsThatAreWatched(t *testing.T) {
	if got := watchedSecrets(Options{Namespace: "ours"}); len(got) != 1 || got["ours"].FieldSelector != nil {
		t.Errorf("without the flag: %v", got)
	}
	got := watchedSecrets(Options{Namespace: "ours", TLSSecrets: true})
	others, ok := got[cache.AllNamespaces]
	if len(got) != 2 || !ok || others.FieldSelector == nil {
		t.Fatalf("with the flag: %v", got)
	}
	for kind, wants := range map[corev1.SecretType]bool{
		corev1.SecretTypeTLS: true, corev1.SecretTypeOpaque: false, corev1.SecretTypeSSHAuth: false,
	} {
		if others.FieldSelector.Matches(fields.Set{"type": string(kind)}) != wants {
			t.Errorf("%s of other namespaces: %t, want %t", kind, !wants, wants)
		}
	}
}

// What is in the Secrets of others is read where a policy names them, once for each
// version, and forgotten when none does any more.
func TestOnlySecretsThatPoliciesNameAreRead(t *testing.T) {
	secret := func(name, version string) *corev1.Secret {
		return &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, UID: types.UID(name), ResourceVersion: version,
				Annotations: map[string]string{corev1.LastAppliedConfigAnnotation: "the key"}},
			Data: map[string][]byte{corev1.TLSPrivateKeyKey: []byte("the key")}, Type: corev1.SecretTypeTLS,
		}
	}
	server, known := secrets{}, secrets{}
	stored := func(s *corev1.Secret) {
		server.put(t, s)
		cached, err := watchedSecrets(Options{TLSSecrets: true})[cache.AllNamespaces].Transform(s.DeepCopy())
		if err != nil {
			t.Fatal(err)
		}
		known.put(t, cached.(*corev1.Secret))
	}
	stored(secret("web", "1"))
	stored(secret("other", "1"))
	if text := fmt.Sprintf("%+v", known.all); strings.Contains(text, "the key") || strings.Contains(text, fmt.Sprint([]byte("the key"))) {
		t.Errorf("the cache has the content: %s", text)
	}
	c := &certificates{reader: reader{Reader: &known}, content: &server, allowed: true}
	web := builder.UpstreamPolicy("default", "web").For("web").With(func(p *v1alpha1.UpstreamPolicy) {
		p.Spec.TLS = &v1alpha1.TLS{SecretRef: v1alpha1.SecretReference{Name: "web"}}
	}).Obj()
	gone := web.DeepCopy()
	gone.Spec.TLS.SecretRef.Name = "gone"
	reads := func(want int, policies ...*v1alpha1.UpstreamPolicy) {
		t.Helper()
		c.forget(policies)
		all, err := c.of(t.Context(), policies)
		if _, has := all.Certificates[client.ObjectKeyFromObject(web)]; err != nil || has != slices.Contains(policies, web) || server.reads != want {
			t.Errorf("%v, %v after %d reads, want %d", all, err, server.reads, want)
		}
	}
	reads(1, web, gone)
	reads(1, web)
	stored(secret("web", "2"))
	reads(2, web)
	reads(2)
	reads(3, web)
}

// secrets answers for a cache, or for an API server.
type secrets struct {
	client.Reader
	mu    sync.Mutex
	all   map[client.ObjectKey]*corev1.Secret
	reads int
	err   error // of each that it has
}

func (s *secrets) put(t *testing.T, secret *corev1.Secret) {
	t.Helper()
	if s.all == nil {
		s.all = map[client.ObjectKey]*corev1.Secret{}
	}
	s.all[client.ObjectKeyFromObject(secret)] = secret
}

func (s *secrets) Get(_ context.Context, key client.ObjectKey, into client.Object, _ ...client.GetOption) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reads++
	found := s.all[key]
	if found == nil {
		return apierrors.NewNotFound(corev1.Resource("secrets"), key.Name)
	}
	if s.err != nil {
		return s.err
	}
	found.DeepCopyInto(into.(*corev1.Secret))
	return nil
}

func TestWhenCertificatesTurn(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	valid := func(from, until time.Duration) translate.Certificate {
		return translate.Certificate{Served: certificate(t, now.Add(from), now.Add(until))}
	}
	bad := translate.UnreadableCertificate()
	for name, tc := range map[string]struct {
		all  []translate.Certificate
		want time.Duration
	}{
		"none":             {nil, 0},
		"unreadable":       {[]translate.Certificate{bad}, 0},
		"expired":          {[]translate.Certificate{valid(-2*time.Hour, -time.Hour)}, 0},
		"valid for a year": {[]translate.Certificate{valid(-time.Hour, 365*24*time.Hour)}, longestWait + time.Second},
		"valid for ever":   {[]translate.Certificate{{Served: certificate(t, now.Add(-time.Hour), time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC))}, valid(-15*time.Hour, time.Hour)}, time.Hour + time.Second},
		"expires soon":     {[]translate.Certificate{bad, valid(-15*time.Hour, time.Hour), valid(-time.Hour, 100*time.Hour)}, time.Hour + time.Second},
		"warns soon":       {[]translate.Certificate{bad, valid(-5*time.Hour, 3*time.Hour)}, time.Hour + time.Second},
		"warns last":       {[]translate.Certificate{valid(-13*time.Hour, 3*time.Hour), valid(-365*24*time.Hour, 3*24*time.Hour+2*time.Hour)}, time.Hour + time.Second},
		"valid soon":       {[]translate.Certificate{valid(time.Minute, time.Hour), valid(-time.Hour, 2*time.Hour)}, time.Minute + time.Second},
	} {
		all := translate.Certificates{}
		for i, c := range tc.all {
			all[types.NamespacedName{Name: string(rune('a' + i))}] = c
		}
		if got := turns(all, now); got != tc.want {
			t.Errorf("%s: %s, want %s", name, got, tc.want)
		}
	}
}

// On a real API server: what a policy says of its certificate, and which events it has.
func TestACertificateThatExpires(t *testing.T) {
	w := newWorld(t)
	w.published(w.service("web"))
	const day = 24 * time.Hour
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: "web"}, Type: corev1.SecretTypeTLS}
	policy := builder.UpstreamPolicy(w.namespace, "web").For("web").TLS("web").Manifest()
	w.create(policy)
	for _, step := range []struct {
		left   time.Duration
		reason string
		says   string
	}{
		{60 * day, v1alpha1.ReasonCertificateValid, ""},
		{13 * day, v1alpha1.ReasonCertificateExpiring, "in less than 14 days"},
		{2 * day, v1alpha1.ReasonCertificateExpiring, "in less than 3 days"},
		{60 * day, v1alpha1.ReasonCertificateValid, ""},
	} {
		secret.ResourceVersion = ""
		secret.Data = pair(t, time.Now().Add(step.left-90*day), time.Now().Add(step.left))
		w.check(client.IgnoreNotFound(kube.Delete(t.Context(), secret.DeepCopy())))
		w.create(secret.DeepCopy())
		wait.For(t, func(ctx context.Context) error {
			if err := kube.Get(ctx, client.ObjectKeyFromObject(policy), policy); err != nil {
				return err
			}
			c := certificateReady(policy.Status)
			if c == nil || c.Status != metav1.ConditionTrue || c.Reason != step.reason || !strings.Contains(c.Message, step.says) ||
				!strings.Contains(policy.Status.Message, step.says) {
				return fmt.Errorf("%s left: %+v", step.left, policy.Status)
			}
			return nil
		})
		if step.says != "" {
			w.event(policy, step.reason, step.says)
		}
	}
}

// certificate makes one that is valid for some time.
func certificate(t *testing.T, from, until time.Time) *lb.Certificate {
	t.Helper()
	data := pair(t, from, until)
	c, err := tlskeys.Parse(data[corev1.TLSCertKey], data[corev1.TLSPrivateKeyKey])
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// pair is what a Secret with a certificate holds that is valid for some time.
func pair(t *testing.T, from, until time.Time) map[string][]byte {
	t.Helper()
	key := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: from, NotAfter: until}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return map[string][]byte{
		corev1.TLSCertKey:       pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}),
		corev1.TLSPrivateKeyKey: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}),
	}
}
