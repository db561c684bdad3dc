package e2e

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"fmt"
	"slices"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/test/builder"
	"github.com/external-lb/external-lb/test/cluster"
	"github.com/external-lb/external-lb/test/lab"
	"github.com/external-lb/external-lb/test/wait"
)

// spareHost is a machine that carries nothing for the other tests.
func spareHost(ctx context.Context) (*cluster.Host, error) {
	const name = "spare"
	if slices.Contains(env.Hosts(), name) {
		return env.Host(name)
	}
	if err := env.AddHost(ctx, name); err != nil {
		return nil, err
	}
	if err := env.InstallHost(ctx, name); err != nil {
		return nil, err
	}
	return env.Host(name)
}

// spare makes a Balancer of the spare host with a pool of its own.
func (s *scene) spare(change func(*v1alpha1.Balancer)) (*v1alpha1.Balancer, *cluster.Host) {
	s.t.Helper()
	h, err := spareHost(s.t.Context())
	must(s.t, err)
	b := builder.Balancer(s.namespace).Manifest()
	b.Spec.Hosts = []v1alpha1.Host{{Name: "spare", Address: h.Addr().String(), SecretRef: &corev1.LocalObjectReference{Name: s.namespace}}}
	b.Spec.Engine, b.Spec.Datagrams, b.Spec.Reload.MinInterval = engine.name, engine.datagrams, "100ms"
	if change != nil {
		change(b)
	}
	pool := builder.AddressPool(s.namespace, "203.0.113.192/28").Balancer(b.Name).Manifest()
	for _, obj := range []client.Object{b, pool} {
		must(s.t, env.Kube.Create(s.t.Context(), obj))
	}
	s.t.Cleanup(func() {
		s.removeServices(context.Background()) // while the hosts can be asked
		secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: lab.Namespace, Name: s.namespace}}
		for _, obj := range []client.Object{b, pool, secret} {
			if err := client.IgnoreNotFound(env.Kube.Delete(context.Background(), obj)); err != nil {
				s.t.Error(err)
			}
		}
	})
	return b, h
}

// via leads the client to an address by a host that the cluster's routes leave out.
func (s *scene) via(h *cluster.Host, address string) {
	s.t.Helper()
	_, err := env.Exec(s.t.Context(), "client", "ip", "route", "replace", address+"/32", "via", h.Addr().String())
	must(s.t, err)
	s.t.Cleanup(func() {
		_, err := env.Exec(context.Background(), "client", "ip", "route", "del", address+"/32")
		must(s.t, err)
	})
}

// secret makes or changes the Secret of a spare Balancer.
func (s *scene) secret(privateKey []byte, knownHosts string) {
	s.t.Helper()
	secret := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: lab.Namespace, Name: s.namespace},
		Type:       corev1.SecretTypeSSHAuth,
		Data:       map[string][]byte{corev1.SSHAuthPrivateKey: privateKey, "known_hosts": []byte(knownHosts)},
	}
	if err := env.Kube.Create(s.t.Context(), secret); apierrors.IsAlreadyExists(err) {
		must(s.t, env.Kube.Update(s.t.Context(), secret))
	} else {
		must(s.t, err)
	}
}

// hostSays waits until a Balancer's status says something of a host.
func (s *scene) hostSays(balancer, host string, state v1alpha1.HostState, part string) {
	s.t.Helper()
	wait.For(s.t, func(context.Context) error {
		for _, h := range getBalancer(s.t, balancer).Status.Hosts {
			if h.Name == host && h.State == state && strings.Contains(h.Message, part) {
				return nil
			}
		}
		return fmt.Errorf("want %s %s with %q: %+v", host, state, part, getBalancer(s.t, balancer).Status.Hosts)
	})
}

func strangersKey(t *testing.T) (private []byte, public ssh.PublicKey) {
	t.Helper()
	pub, priv, err := ed25519.GenerateKey(rand.Reader)
	must(t, err)
	block, err := ssh.MarshalPrivateKey(priv, "")
	must(t, err)
	public, err = ssh.NewPublicKey(pub)
	must(t, err)
	return pem.EncodeToMemory(block), public
}
