package controllers

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/cache"

	tlskeys "github.com/external-lb/external-lb/internal/certificate"
	"github.com/external-lb/external-lb/internal/lb"
	"github.com/external-lb/external-lb/internal/translate"
)

// Secrets of other namespaces are watched only where that is wanted, and then
// those with certificates alone.
func TestSecretsThatAreWatched(t *testing.T) {
	watched := func(o Options) map[string]cache.Config {
		for obj, by := range cacheOptions(o).ByObject {
			if _, ok := obj.(*corev1.Secret); ok {
				return by.Namespaces
			}
		}
		return nil
	}
	if got := watched(Options{Namespace: "ours"}); len(got) != 1 || got["ours"].FieldSelector != nil {
		t.Errorf("without the flag: %v", got)
	}
	got := watched(Options{Namespace: "ours", TLSSecrets: true})
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
		"valid for a year": {[]translate.Certificate{valid(-time.Hour, 365*24*time.Hour)}, longestWait},
		"expires soon":     {[]translate.Certificate{bad, valid(-time.Hour, time.Hour), valid(-time.Hour, 2*time.Hour)}, time.Hour + time.Second},
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

// certificate makes one that is valid for some time.
func certificate(t *testing.T, from, until time.Time) *lb.Certificate {
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
	c, err := tlskeys.Parse(
		pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	if err != nil {
		t.Fatal(err)
	}
	return c
}
