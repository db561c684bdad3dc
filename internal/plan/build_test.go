package plan

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/record"
	"github.com/external-lb/external-lb/test/builder"
)

// move is a cluster of several Balancers, each of which looks at it when it is
// told to, and writes what it would.
type move struct {
	t         *testing.T
	balancers []*v1alpha1.Balancer
	pools     []v1alpha1.AddressPool
	services  []*corev1.Service
	policies  []*v1alpha1.UpstreamPolicy
}

func sharesClass(b *v1alpha1.Balancer) { b.Spec.LoadBalancerClass = "external-lb.dev/edge" }

func withVRRP(b *v1alpha1.Balancer) {
	b.Spec.Hosts = []v1alpha1.Host{{Name: b.Name + "-1"}}
	b.Spec.VirtualAddresses = v1alpha1.VirtualAddresses{
		Mode: v1alpha1.VRRP,
		VRRP: &v1alpha1.VRRPSettings{Interface: "eth0", VirtualRouterID: 51, AdvertisementInterval: "1s"},
	}
}

// newMove has edge with one pool, and next with the same class and none.
func newMove(t *testing.T, services ...*corev1.Service) *move {
	return &move{
		t: t, services: services,
		balancers: []*v1alpha1.Balancer{builder.Balancer("edge").Age(9).Obj(), builder.Balancer("next").Age(1).With(sharesClass).Obj()},
		pools:     []v1alpha1.AddressPool{*builder.AddressPool("public", "192.0.2.0/29").Shared().Obj()},
	}
}

func published(address string) func(*corev1.Service) {
	return func(svc *corev1.Service) {
		svc.Status.LoadBalancer.Ingress = append(svc.Status.LoadBalancer.Ingress, corev1.LoadBalancerIngress{IP: address})
	}
}

func onPort(port int32) func(*corev1.Service) {
	return func(svc *corev1.Service) { svc.Spec.Ports[0].Port = port }
}

func (m *move) snapshot(name string) *Snapshot {
	return NewSnapshot(named(m.balancers, name), Objects{
		Balancers: m.balancers, Pools: ParsePools(m.pools), Policies: m.policies, Services: m.services,
	})
}

// looks is one reconcile of a Balancer up to its plan. What is withdrawn is
// confirmed at once if confirmed says so.
func (m *move) looks(name string, confirmed bool) *Plan {
	m.t.Helper()
	s := m.snapshot(name)
	a := Assign(s)
	for _, svc := range a.Carried {
		if len(a.ByService[svc.UID].Addresses) > 0 {
			write(svc, a.Record(svc))
		}
	}
	p, err := NewPlanner(s.Balancer.Spec.Engine).Plan(s, a)
	if err != nil {
		m.t.Fatal(err)
	}
	for _, svc := range a.Leaving {
		if !confirmed {
			continue
		}
		if left := a.Without(svc); left != nil {
			write(svc, *left)
		} else {
			svc.Finalizers, svc.Annotations, svc.Status = nil, nil, corev1.ServiceStatus{}
		}
	}
	return p
}

// proves lets a Balancer take over what can be, and says what cannot and why.
func (m *move) proves(name string) map[types.UID]string {
	m.t.Helper()
	p := m.looks(name, false)
	ready, blocked := p.Ready(func(svc *Service) bool { return svc.Shape != "" })
	for svc := range ready {
		a := Assign(m.snapshot(name))
		r := a.Record(svc.Object)
		r.Carrier = name
		write(svc.Object, r)
	}
	return blocked
}

func write(svc *corev1.Service, r record.Record) { *svc = *r.Write(svc) }

// isHeldBy checks who holds a Service; the carrier has a star.
func (m *move) isHeldBy(svc *corev1.Service, want string) {
	m.t.Helper()
	holders := record.Holders(svc)
	carrier := record.Carrier(holders, svc)
	for i, name := range holders {
		if name == carrier {
			holders[i] += "*"
		}
	}
	if got := strings.Join(holders, " "); got != want {
		m.t.Errorf("held by %q, want %q", got, want)
	}
}

// carries checks on which address a plan has a Service, "" for none.
func (m *move) carries(p *Plan, svc *corev1.Service, want string) {
	m.t.Helper()
	var got string
	if listeners := listeners(m.t, p, svc); len(listeners) > 0 {
		got = listeners[0].Address.String()
	}
	if got != want {
		m.t.Errorf("%s is carried on %q, want %q", svc.Name, got, want)
	}
}
