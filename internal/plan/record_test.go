package plan

import (
	"net/netip"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/ipam"
)

func exposedAt(address string) func(*corev1.Service) {
	return func(svc *corev1.Service) {
		svc.Spec.Type, svc.Spec.LoadBalancerClass = corev1.ServiceTypeNodePort, nil
		svc.Annotations[v1alpha1.AssignedAddressesAnnotation] = address
		svc.Annotations[v1alpha1.BalancerAnnotation] = "edge"
	}
}

// Somebody writes on a Service of theirs that another Balancer has had it. The address
// that it shares stays with those who are served there.
func TestForgedRecordMovesNobody(t *testing.T) {
	for name, change := range map[string]func(*corev1.Service){"LoadBalancer": func(*corev1.Service) {}, "NodePort": exposedAt("192.0.2.1")} {
		t.Run(name, func(t *testing.T) {
			victim := service("victim", held("edge", "192.0.2.1"), published("192.0.2.1"))
			forged := service("forged", held("internal", "192.0.2.1"), change, onPort(8080))
			m := newMove(t, victim, forged)
			m.balancers = append(m.balancers, balancer("internal", 5))
			for _, b := range m.balancers {
				withVRRP(b)
			}
			for range 3 {
				for _, name := range []string{"edge", "internal"} {
					if _, has := m.looks(name, false).Set.Get(AddressPath(netip.MustParseAddr("192.0.2.1"))); has != (name == "edge") {
						t.Errorf("%s brings 192.0.2.1: %t; the forged Service is held by %v", name, has, Holders(forged))
					}
				}
			}
		})
	}
}

// The API server, or somebody's webhook, takes no record of a new address: until it
// does, the Service stays on the address that it has.
func TestWhatCannotBeRecordedStaysWhereItIs(t *testing.T) {
	wish := service("wish", held("edge", "192.0.2.1"), published("192.0.2.1"))
	wish.Annotations[v1alpha1.AddressesAnnotation] = "192.0.2.5"
	dual := service("dual", held("edge", "192.0.2.2"), published("192.0.2.2"))
	dual.Spec.IPFamilies = []corev1.IPFamily{corev1.IPv4Protocol, corev1.IPv6Protocol}
	s := snapshot(t, wish, dual)
	pools, problems := ipam.ParsePools([]v1alpha1.AddressPool{pool("pool", "edge", "192.0.2.0/29", "2001:db8::/120")})
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	s.Pools, s.Claims = pools, NewClaims([]*v1alpha1.Balancer{s.Balancer}, pools, nil)
	planner, err := NewPlanner(v1alpha1.EngineNginx)
	if err != nil {
		t.Fatal(err)
	}
	p, err := planner.Plan(s, Assign(s))
	if err != nil {
		t.Fatal(err)
	}
	for _, view := range p.Services {
		want := Published(view.Object)
		if _, on := p.Set.Get(view.Path); !on || !slices.Equal(view.Addresses, want) {
			t.Errorf("%s is on the hosts: %t, on %v; want %v", view.Object.Name, on, view.Addresses, want)
		}
	}
}
