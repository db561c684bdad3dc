package plan

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/lb"
	"github.com/external-lb/external-lb/internal/record"
	"github.com/external-lb/external-lb/test/builder"
)

// exposedAt is a Service of type NodePort whose users were told an address, if it is one.
func exposedAt(address string) func(*corev1.Service) {
	return func(svc *corev1.Service) {
		svc.Spec.Type, svc.Spec.LoadBalancerClass = corev1.ServiceTypeNodePort, nil
		metav1.SetMetaDataAnnotation(&svc.ObjectMeta, v1alpha1.AssignedAddressesAnnotation, address)
		metav1.SetMetaDataAnnotation(&svc.ObjectMeta, v1alpha1.BalancerAnnotation, "edge")
		if r := record.Of(svc); record.Held(svc) {
			r.Published = builder.Addresses(address)
			*svc = *r.Write(svc)
		}
	}
}

// programmed is what a status says of a Service that is, or was, live.
func programmed(svc *corev1.Service) {
	is := metav1.Condition{Type: v1alpha1.ConditionServiceProgrammed, Status: metav1.ConditionTrue}
	svc.Status.Conditions = append(svc.Status.Conditions, is)
}

// forged is what a Service's author can write to look as if a Balancer held it, and what a
// status says that was copied from another Service.
func forged(by, addresses string) func(*corev1.Service) {
	return func(svc *corev1.Service) {
		svc.Finalizers = []string{v1alpha1.CleanupFinalizer, v1alpha1.SharedFinalizer}
		for _, key := range []string{"held-by", "carried-by"} {
			metav1.SetMetaDataAnnotation(&svc.ObjectMeta, "external-lb.dev/"+key, by)
		}
		for _, key := range []string{"held-addresses", "assigned-addresses"} {
			metav1.SetMetaDataAnnotation(&svc.ObjectMeta, "external-lb.dev/"+key, addresses)
		}
		if !record.Held(svc) {
			copied := service("another", held(by, addresses))
			svc.Status.Conditions = append(svc.Status.Conditions, copied.Status.Conditions...)
		}
	}
}

// isBroughtBy wants 192.0.2.1 on the hosts of one of two Balancers with VRRP, edge and
// internal, whatever somebody has written on a Service.
func (m *move) isBroughtBy(want string, forged *corev1.Service) {
	m.t.Helper()
	m.balancers = append(m.balancers, builder.Balancer("internal").Age(5).Obj())
	for _, b := range m.balancers {
		withVRRP(b)
	}
	for range 3 {
		for _, name := range []string{"edge", "internal"} {
			if _, has := m.looks(name, false).Set.Get(lb.AddressKey(netip.MustParseAddr("192.0.2.1"))); has != (name == want) {
				m.t.Errorf("%s brings 192.0.2.1: %t; the forged Service is held by %v on %v",
					name, has, record.Holders(forged), record.Addresses(forged))
			}
		}
	}
}

// Somebody writes on a Service of theirs that another Balancer has had it. The address
// that it shares stays with those who are served there.
func TestForgedRecordMovesNobody(t *testing.T) {
	for name, change := range map[string]func(*corev1.Service){"LoadBalancer": func(*corev1.Service) {}, "NodePort": exposedAt("192.0.2.1")} {
		t.Run(name, func(t *testing.T) {
			victim := service("victim", held("edge", "192.0.2.1"), published("192.0.2.1"))
			svc := service("forged", change, forged("internal", "192.0.2.1"), onPort(8080))
			newMove(t, victim, svc).isBroughtBy("edge", svc)
		})
	}
}

// A NodePort Service has nothing but its record to show that it has an address.
func TestExposedStaysWhenItsPoolIsBad(t *testing.T) {
	for name, edit := range map[string]func(*move, *v1alpha1.AddressPoolSpec){
		"host bits": func(_ *move, p *v1alpha1.AddressPoolSpec) { p.Addresses = append(p.Addresses, "198.51.100.1/24") },
		"reversed": func(_ *move, p *v1alpha1.AddressPoolSpec) {
			p.Addresses = append(p.Addresses, "198.51.100.9-198.51.100.1")
		},
		"selector": func(_ *move, p *v1alpha1.AddressPoolSpec) {
			p.ServiceSelector.MatchLabels = map[string]v1alpha1.LabelValue{"-": "-"}
		},
		"overlap": func(m *move, _ *v1alpha1.AddressPoolSpec) {
			m.pools = append(m.pools, *builder.AddressPool("older", "192.0.2.4/30").Shared().Obj())
		},
		"overlap with another's": func(m *move, _ *v1alpha1.AddressPoolSpec) {
			m.pools = append(m.pools, *builder.AddressPool("older", "192.0.2.0/30").Balancer("next").Shared().Obj())
		},
		"another's, with a slip": func(_ *move, p *v1alpha1.AddressPoolSpec) {
			p.Balancer, p.Addresses = "next", append(p.Addresses, "198.51.100.1/24")
		},
	} {
		t.Run(name, func(t *testing.T) {
			exposed := service("exposed", held("edge", "192.0.2.2"), exposedAt("192.0.2.2"))
			fresh := service("fresh", onPort(81))
			m := newMove(t, exposed, fresh)
			edit(m, &m.pools[0].Spec)
			for range 2 {
				m.carries(m.looks("edge", true), exposed, "192.0.2.2")
				m.looks("next", true)
			}
			m.isHeldBy(exposed, "edge*")
			if got := has(fresh); len(got) > 0 && m.snapshot("edge").Claims().poolOf(got[0]) == nil {
				t.Errorf("a new Service got %v", got)
			}
		})
	}
}

// Somebody's older Service says that it is leaving the address that another one has.
func TestForgedRecordTakesNoAddress(t *testing.T) {
	thief := service("thief", held("edge", "192.0.2.1"), published("192.0.2.1"), forged("edge", "192.0.2.1,192.0.2.2,192.0.2.3"))
	exposed := service("exposed", held("edge", "192.0.2.2"), exposedAt("192.0.2.2"))
	other := service("other", held("edge", "192.0.2.3"), published("192.0.2.3"))
	thief.CreationTimestamp = metav1.NewTime(thief.CreationTimestamp.Add(-time.Hour))
	m := newMove(t, exposed, other, thief)
	m.pools[0].Spec.Sharing = v1alpha1.SharingNone
	for range 2 {
		p := m.looks("edge", true)
		m.carries(p, thief, "192.0.2.1")
		m.carries(p, exposed, "192.0.2.2")
		m.carries(p, other, "192.0.2.3")
	}
}

// Somebody writes an address of another Balancer's pool on a Service of theirs, which
// never had it: it is not programmed here.
func TestForgedRecordTakesNoAddressOfAnotherBalancer(t *testing.T) {
	victim := service("victim", held("internal", "192.0.2.1"), published("192.0.2.1"))
	victim.Spec.LoadBalancerClass = ptr.To(Class(builder.Balancer("internal").Age(5).Obj()))
	svc := service("forged", forged("edge", "192.0.2.1"), onPort(8080))
	m := newMove(t, victim, svc)
	m.pools[0].Spec.Balancer = "internal"
	m.isBroughtBy("internal", svc)
}

// The API server, or somebody's webhook, takes no record of a new address, or of a Service
// that has lost its own: until it does, the Service stays on the address that it has.
func TestWhatCannotBeRecordedStaysWhereItIs(t *testing.T) {
	requesting := service("requesting", held("edge", "192.0.2.1"), published("192.0.2.1"))
	metav1.SetMetaDataAnnotation(&requesting.ObjectMeta, v1alpha1.AddressesAnnotation, "192.0.2.5")
	dual := service("dual", held("edge", "192.0.2.2"), published("192.0.2.2"))
	dual.Spec.IPFamilies = []corev1.IPFamily{corev1.IPv4Protocol, corev1.IPv6Protocol}
	lost := service("lost", published("192.0.2.3"), programmed)
	m := newMove(t, requesting, dual, lost)
	m.pools[0].Spec.Addresses = []v1alpha1.AddressRange{"192.0.2.0/29", "2001:db8::/120"}
	p := planned(t, m.snapshot("edge"))
	for _, view := range p.Services {
		want := record.Published(view.Object)
		if _, on := p.Set.Get(view.Key); !on || !slices.Equal(view.Addresses, want) {
			t.Errorf("%s is on the hosts: %t, on %v; want %v", view.Object.Name, on, view.Addresses, want)
		}
	}
}

// Somebody made a Service early, got the address of another one with a port that nobody
// wants, and changes its ports then: all Balancers that look, whatever they remember, leave
// the others with whom they serve, on its way between two of them, too.
func TestS34_NobodyTakesALiveListenerByTheirAge(t *testing.T) {
	for name, pool := range map[string]string{"": "edge", "on its way": "next"} {
		t.Run(name, func(t *testing.T) {
			victim, attacker := service("victim", onPort(443)), service("attacker", onPort(8443))
			attacker.CreationTimestamp = metav1.NewTime(victim.CreationTimestamp.Add(-time.Hour))
			for _, svc := range []*corev1.Service{victim, attacker} {
				metav1.SetMetaDataAnnotation(&svc.ObjectMeta, v1alpha1.AddressesAnnotation, "192.0.2.1")
			}
			m := newMove(t, victim, attacker)
			m.looks("edge", true)
			for _, svc := range m.services {
				published("192.0.2.1")(svc)
			}
			m.pools[0].Spec.Balancer = pool
			attacker.Spec.Ports[0].Port = 443
			for range 2 {
				for _, b := range []string{"edge", "next"} {
					p := m.looks(b, false)
					if got := listeners(t, p, attacker); len(got) > 0 {
						t.Errorf("Balancer %s gives %v to the older one", b, got)
					}
					if b == pool || pool == "next" {
						m.carries(p, victim, "192.0.2.1")
					}
				}
			}
		})
	}
}

// A port that is added goes on record, before hosts have it, where others may have the address,
// and only there.
func TestS34_ListenersAreOnRecord(t *testing.T) {
	for sharing, want := range map[v1alpha1.SharingPolicy]int{v1alpha1.SharingPorts: 2, v1alpha1.SharingNone: 0} {
		svc := service("web")
		m := newMove(t, svc)
		m.pools[0].Spec.Sharing = sharing
		m.looks("edge", true)
		svc.Spec.Ports = append(svc.Spec.Ports, corev1.ServicePort{Name: "more", Port: 81, NodePort: 30081, Protocol: corev1.ProtocolTCP})
		if a := Assign(m.snapshot("edge")); (len(a.Unrecorded) > 0) != (want > 0) {
			t.Errorf("%s: to be recorded: %v", sharing, a.Unrecorded)
		}
		m.looks("edge", true)
		if got := record.Listeners(svc); len(got) != want {
			t.Errorf("%s: on record: %v", sharing, got)
		}
	}
}

// A Service whose record was dropped stays with the Balancer whose pool has what it shows.
func TestWhatIsShownStaysWhereItIs(t *testing.T) {
	svc := service("web", published("192.0.2.1"), programmed)
	m := newMove(t, svc)
	m.pools[0].Spec.Balancer = "next"
	m.pools = append(m.pools, *builder.AddressPool("more", "198.51.100.0/28").Obj()) // of edge, which is older
	m.carries(m.looks("edge", true), svc, "")
	m.carries(m.looks("next", true), svc, "192.0.2.1")
	m.isHeldBy(svc, "next*")
}
