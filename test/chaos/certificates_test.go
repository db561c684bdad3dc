package chaos

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/test/builder"
	"github.com/external-lb/external-lb/test/wait"
)

// tlsLabel is on strangers' Services that must never be served without TLS.
const tlsLabel = "example.com/tls"

// pairs are certificates with keys that are not as they should be, and the reason that
// their policy is told.
var pairs = []struct {
	reason string
	make   func() (chain, key []byte, err error)
}{
	{v1alpha1.ReasonCertificateInvalid, func() ([]byte, []byte, error) { // a handshake of it would take a second
		modulus := new(big.Int).SetBit(big.NewInt(1), 16383, 1) // is no product of two primes; who looks is a daemon
		return certified(&rsa.PublicKey{N: modulus, E: 65537}, time.Hour)
	}},
	{v1alpha1.ReasonCertificateInvalid, func() ([]byte, []byte, error) { // words of configurations
		return []byte("-----BEGIN CERTIFICATE-----\n}\nserver { listen 22; }\n-----END CERTIFICATE-----\n"), []byte("\x00\xff"), nil
	}},
	{v1alpha1.ReasonCertificateInvalid, func() ([]byte, []byte, error) { // the key of another one
		chain, _, err := certified(nil, time.Hour)
		_, key, failed := certified(nil, time.Hour)
		if err == nil {
			err = failed
		}
		return chain, key, err
	}},
	{v1alpha1.ReasonCertificateInvalid, func() ([]byte, []byte, error) { // as large as a Secret may be
		chain, key, err := certified(nil, time.Hour)
		for len(chain) < 900<<10 {
			chain = append(chain, chain...)
			chain = chain[:min(len(chain), 900<<10)]
		}
		return chain, key, err
	}},
	{v1alpha1.ReasonCertificateExpired, func() ([]byte, []byte, error) { return certified(nil, -time.Hour) }},
}

// certified is a certificate of a key, until some time from now, and its own key where
// it has one; else that of another.
func certified(public crypto.PublicKey, valid time.Duration) (chain, key []byte, err error) {
	signer, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	if public == nil {
		public = signer.Public()
	}
	until := time.Now().Add(valid)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"evil.example"}, NotBefore: until.Add(-48 * time.Hour), NotAfter: until}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, public, signer)
	if err != nil {
		return nil, nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(signer)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), err
}

// certify makes a stranger's Service with one of the pairs. Where nothing is in the way, its
// policy is told what is wrong. Some are deleted at once.
func (w *world) certify(ctx context.Context, n int) error {
	name, pair := fmt.Sprintf("evil-tls-%d", n), pairs[n%len(pairs)]
	chain, key, err := pair.make()
	if err != nil {
		return err
	}
	secret := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: stranger, Name: name}, Type: corev1.SecretTypeTLS,
		Data: map[string][]byte{corev1.TLSCertKey: chain, corev1.TLSPrivateKeyKey: key},
	}
	policy := builder.UpstreamPolicy(stranger, name).For(name).TLS(name).Manifest()
	svc := theirs(name, 80).Annotate(v1alpha1.AddressPoolAnnotation, strangersPool).
		With(func(svc *corev1.Service) { svc.Labels = map[string]string{tlsLabel: "yes"} }).Manifest()
	if err := w.Create(ctx, secret, policy, svc); err != nil {
		return err
	}
	if n%3 == 0 { // while it is on its way; the Service goes first, whose policy must outlive it
		return client.IgnoreNotFound(w.Kube.Delete(ctx, svc))
	}
	if !w.well() || w.engine == v1alpha1.EngineLVS { // which terminates none
		return nil
	}
	err = wait.Until(ctx, func(ctx context.Context) error {
		if err := w.Kube.Get(ctx, client.ObjectKeyFromObject(policy), policy); err != nil {
			return err
		}
		for _, target := range policy.Status.Targets {
			if c := meta.FindStatusCondition(target.Conditions, v1alpha1.ConditionCertificateReady); c != nil && c.Reason == pair.reason {
				return nil
			}
		}
		return fmt.Errorf("it says %+v", policy.Status)
	})
	if err != nil {
		return fmt.Errorf("policy %s is to say %s: %w", name, pair.reason, err)
	}
	return nil
}

// plain are Services that have answered without TLS, and must not.
func (w *world) plain(ctx context.Context, services []corev1.Service) (names map[types.UID]string) {
	names = map[types.UID]string{}
	for i := range services {
		svc := &services[i]
		if svc.Labels[tlsLabel] == "" {
			continue
		}
		for _, in := range svc.Status.LoadBalancer.Ingress {
			for _, host := range w.carrying() {
				if app, err := w.ask(ctx, host, listeners(svc, in.IP)[0]); err == nil {
					names[svc.UID] = fmt.Sprintf("Service %s is to be served with TLS alone, and %s has answered for it without, by way of %s", svc.Name, app, host)
				}
			}
		}
	}
	return names
}
