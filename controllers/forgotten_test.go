package controllers

import (
	"net/netip"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/deliver"
	"github.com/external-lb/external-lb/internal/record"
	"github.com/external-lb/external-lb/test/builder"
)

// hostless have nothing live anywhere.
type hostless struct{ fleet }

func (hostless) States(string) []deliver.State { return nil }

// What was written in the name of a Balancer that there is not, and of Balancers and pools that
// are gone, is forgotten.
func TestWhatIsGoneIsForgotten(t *testing.T) {
	p := newOnePlace(t, 1, 1)
	orphan := builder.Service("default", "orphan").Class("external-lb.dev/gone").Port(80).Obj()
	orphan = record.Record{Holders: []string{"gone"}, Carrier: "gone", Addresses: []netip.Addr{netip.MustParseAddr("10.1.0.1")}}.Write(orphan)
	p.put(orphan)
	p.r.fleet = hostless{p.host}
	gone := builder.Balancer("gone").Obj()
	gone.UID = "gone"
	p.r.patch.written.keep(gone)
	for _, name := range []string{"", "gone"} {
		p.r.pace.causes.must(name, false)
		if _, err := p.r.Reconcile(t.Context(), request(name)); err != nil {
			t.Fatal(err)
		}
	}
	w := p.r.patch.written
	if p.writes == 0 || len(w.touched) > 0 || w.statuses["gone"] != nil {
		t.Errorf("%d writes; remembered of Services: %v; of statuses: %v", p.writes, w.touched, w.statuses)
	}
}

// Who carries a Service depends on more than its spec.
func TestWhichChangesOfServicesPoliciesHearOf(t *testing.T) {
	web := func(change ...func(*corev1.Service)) client.Object {
		return builder.Service("default", "web").Port(80).With(change...).Obj()
	}
	annotated := func(key string) func(*corev1.Service) {
		return func(s *corev1.Service) { s.Annotations = map[string]string{key: "edge"} }
	}
	for what, tc := range map[string]struct {
		now  client.Object
		want bool
	}{
		"nothing": {web(), false},
		"an address": {web(func(s *corev1.Service) {
			s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "192.0.2.1"}}
		}), false},
		"a port":      {web(func(s *corev1.Service) { s.Spec.Ports[0].Port = 81 }), true},
		"exposed":     {web(annotated(v1alpha1.BalancerAnnotation)), true},
		"its pool":    {web(annotated(v1alpha1.AddressPoolAnnotation)), true},
		"its address": {web(annotated(v1alpha1.AddressesAnnotation)), true},
		"a foreign":   {web(annotated("metallb.io/address-pool")), true},
		"a label":     {web(func(s *corev1.Service) { s.Labels = map[string]string{"tier": "gold"} }), true},
		"its record": {record.Record{Holders: []string{"edge"}, Carrier: "edge", Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.1")}}.
			Write(web().(*corev1.Service)), true},
	} {
		if got := serviceChanged.Update(event.UpdateEvent{ObjectOld: web(), ObjectNew: tc.now}); got != tc.want {
			t.Errorf("%s: %t", what, got)
		}
	}
}
