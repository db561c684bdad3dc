package controllers

import (
	"context"
	"fmt"
	"net/url"
	"testing"

	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/lb"
	"github.com/external-lb/external-lb/test/builder"
	"github.com/external-lb/external-lb/test/wait"
)

// apiServers waits until the host is to carry these API servers.
func (w *world) apiServers(want string) {
	w.t.Helper()
	wait.For(w.t, func(context.Context) error {
		w.host.mu.Lock()
		defer w.host.mu.Unlock()
		it, there := w.host.wanted.Get(lb.ServiceKey(lb.ControlPlane))
		got := "none"
		if there {
			part, err := lb.Decode(it)
			if err != nil {
				return wait.GiveUp(err)
			}
			servers := part.(*lb.Service).Servers
			words := make([]string, len(servers))
			for i, n := range servers {
				words[i] = n.Name + " " + n.IPv4.String()
			}
			got = fmt.Sprint(words)
		}
		if got != want {
			return fmt.Errorf("the host is to carry %s, want %s", got, want)
		}
		return nil
	})
}

// Those of the real API server's own endpoints, and of others as they come and go.
func TestAPIServersAreFollowed(t *testing.T) {
	w := newWorld(t)
	at, err := url.Parse(api.Host)
	w.check(err)
	w.create(builder.Node("cp1").Label("node-role.kubernetes.io/control-plane", "").Manifest())
	w.node("cp1", at.Hostname())
	w.create(builder.Node("cp2").Label("node-role.kubernetes.io/control-plane", "").Manifest())
	w.node("cp2", "10.0.0.12")
	w.apiServers("none")
	b := &v1alpha1.Balancer{}
	w.check(kube.Get(t.Context(), client.ObjectKey{Name: w.balancer}, b))
	w.check(kube.Patch(t.Context(), b, client.RawPatch("application/merge-patch+json", []byte(`{"spec": {"controlPlane": {"address": "192.0.2.9"}}}`))))
	cp1 := "cp1 " + at.Hostname()
	w.apiServers("[" + cp1 + "]")

	second := builder.EndpointSlice(metav1.NamespaceDefault, "another", discoveryv1.AddressTypeIPv4).Label(discoveryv1.LabelServiceName, "kubernetes").
		With(func(s *discoveryv1.EndpointSlice) {
			s.Endpoints = []discoveryv1.Endpoint{{Addresses: []string{"10.0.0.12", "10.0.0.99"}}}
		}).Manifest()
	w.create(second)
	w.apiServers("[" + cp1 + " cp2 10.0.0.12]")
	w.check(kube.Delete(t.Context(), second))
	w.apiServers("[" + cp1 + "]")
}
