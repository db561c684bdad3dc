package plan

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/lb"
	"github.com/external-lb/external-lb/internal/record"
	"github.com/external-lb/external-lb/test/builder"
)

func TestMove(t *testing.T) {
	svc := service("web", held("edge", "192.0.2.1"), published("192.0.2.1"))
	m := newMove(t, svc)
	m.carries(m.looks("edge", true), svc, "192.0.2.1")
	m.carries(m.looks("next", true), svc, "")
	m.isHeldBy(svc, "edge*")

	// The pool moves. Both have it, on the address that it had.
	m.pools[0].Spec.Balancer = "next"
	m.carries(m.looks("next", true), svc, "192.0.2.1")
	m.isHeldBy(svc, "edge* next")
	// The old one goes on, with what changes meanwhile (S18).
	svc.Spec.Ports[0].Port = 81
	old := m.looks("edge", true)
	m.carries(old, svc, "192.0.2.1")
	if key, _ := Key(svc); !old.Services[0].Staying || old.Services[0].Shape == "" {
		t.Errorf("%s: %+v", key, old.Services[0])
	}
	m.isHeldBy(svc, "edge* next")

	// The new one proves it. Only then is it withdrawn from the old one, and the
	// old one is on record until its hosts confirm.
	m.proves("next")
	m.isHeldBy(svc, "edge next*")
	m.carries(m.looks("edge", false), svc, "")
	m.carries(m.looks("next", true), svc, "192.0.2.1")
	m.isHeldBy(svc, "edge next*")
	m.looks("edge", true)
	m.isHeldBy(svc, "next*")
	if got := record.FormatAddresses(record.Addresses(svc)); got != "192.0.2.1" {
		t.Errorf("addresses on record: %s", got)
	}
}

func TestMoveBack(t *testing.T) {
	for name, c := range map[string]struct {
		before func(*move)
		then   string // on record when the pool is back and both have looked
	}{
		"before the proof":    {func(m *move) { m.looks("next", true) }, "edge*"},
		"after the proof":     {func(m *move) { m.looks("next", true); m.proves("next") }, "edge next*"},
		"before anybody knew": {func(*move) {}, "edge*"},
	} {
		t.Run(name, func(t *testing.T) {
			svc := service("web", held("edge", "192.0.2.1"), published("192.0.2.1"))
			m := newMove(t, svc)
			m.pools[0].Spec.Balancer = "next"
			c.before(m)
			m.pools[0].Spec.Balancer = "edge"
			m.carries(m.looks("edge", true), svc, "192.0.2.1")
			m.looks("next", true)
			m.isHeldBy(svc, c.then)
			m.proves("edge")
			m.looks("next", true)
			m.isHeldBy(svc, "edge*")
		})
	}
}

// Nobody else gets the address of a Service that is on its way, or that stays
// behind in a pool that has moved.
func TestS33_AddressesOfAMovedPool(t *testing.T) {
	stranger := func(svc *corev1.Service) { svc.Spec.LoadBalancerClass = ptr.To("external-lb.dev/other") }
	for name, svc := range map[string]*corev1.Service{
		"on its way":   service("web", held("edge", "192.0.2.0"), published("192.0.2.0")),
		"stays behind": service("web", held("other", "192.0.2.0"), published("192.0.2.0"), stranger),
		"is withdrawn": service("web", held("other", "192.0.2.0"), func(svc *corev1.Service) { svc.DeletionTimestamp = ptr.To(metav1.Now()) }),
	} {
		t.Run(name, func(t *testing.T) {
			fresh := service("fresh")
			m := newMove(t, svc, fresh)
			m.balancers = append(m.balancers, builder.Balancer("other").Age(5).Obj())
			m.pools[0].Spec.Balancer = "next"
			m.looks("next", true)
			if got := has(fresh); !slices.Equal(got, []netip.Addr{netip.MustParseAddr("192.0.2.1")}) {
				t.Errorf("a new Service got %v", got)
			}
			m.isHeldBy(fresh, "next*") // the oldest of its class has no pool
		})
		// Where Services share, another port is no way to it either.
		t.Run(name+", one address for all", func(t *testing.T) {
			fresh := service("fresh", onPort(8443))
			m := newMove(t, svc.DeepCopy(), fresh)
			m.balancers = append(m.balancers, builder.Balancer("other").Age(5).Obj())
			m.pools[0].Spec.Balancer, m.pools[0].Spec.Sharing = "next", v1alpha1.SharingPorts
			m.pools[0].Spec.Addresses = []v1alpha1.AddressRange{"192.0.2.0"}
			m.looks("next", true)
			if got := has(fresh); len(got) > 0 {
				t.Errorf("a new Service got %v", got)
			}
		})
	}
}

// Who does not move is told so, and so is the pool's owner; nothing is lost.
func TestMoveToAnotherClass(t *testing.T) {
	svc := service("web", held("edge", "192.0.2.1"), published("192.0.2.1"))
	m := newMove(t, svc)
	m.balancers[1].Spec.LoadBalancerClass = "" // of its own
	m.pools[0].Spec.Balancer = "next"
	p := m.looks("edge", true)
	m.carries(p, svc, "192.0.2.1")
	const says = "AddressPool public, which has 192.0.2.1, is now of Balancer next, which does not serve the class external-lb.dev/edge"
	if told := p.Services[0].ProblemMessages(); !strings.Contains(told, says) || p.Services[0].Fatal() != nil {
		t.Errorf("the Service is told %q", told)
	}
	note := m.looks("next", true).PoolNotes["public"]
	if note == nil || note.Reason != v1alpha1.ReasonHeldElsewhere ||
		!strings.Contains(note.Message, "(default/web) keep addresses of this pool on Balancer edge") {
		t.Errorf("the pool is told %+v", note)
	}
	m.isHeldBy(svc, "edge*")
}

// What keeps a Service where it is although the new Balancer proved it.
func TestMoveIsKept(t *testing.T) {
	at := func(name string, port int32) *corev1.Service {
		return service(name, held("edge", "192.0.2.1"), published("192.0.2.1"), onPort(port))
	}
	t.Run("by keepOn", func(t *testing.T) {
		svc := at("web", 80)
		m := newMove(t, svc)
		m.pools[0].Spec.Balancer = "next"
		for _, names := range [][]string{{"edge"}, {"egde"}} { // a slip holds it, too
			m.pools[0].Spec.KeepOn = names
			if why := m.proves("next")[svc.UID]; !strings.Contains(why, names[0]) {
				t.Errorf("retained because of %q", why)
			}
			m.carries(m.looks("edge", true), svc, "192.0.2.1")
			m.isHeldBy(svc, "edge* next")
		}
		if note := m.looks("next", true).PoolNotes["public"]; note == nil || !strings.Contains(note.Message, "egde") {
			t.Errorf("the pool is told %+v", note)
		}
		m.pools[0].Spec.KeepOn = nil
		m.proves("next")
		m.isHeldBy(svc, "edge next*")
	})
	t.Run("by one that shares its address", func(t *testing.T) {
		web, other := at("web", 80), at("other", 81)
		other.Spec.LoadBalancerClass = ptr.To("external-lb.dev/other")
		held("other", "192.0.2.1")(other)
		m := newMove(t, web, other)
		m.balancers = append(m.balancers, builder.Balancer("other").Age(5).Obj())
		m.pools[0].Spec.Balancer = "next"
		if why := m.proves("next")[web.UID]; !strings.Contains(why, "default/other") {
			t.Errorf("retained because of %q", why)
		}
		m.isHeldBy(web, "edge* next")
		other.DeletionTimestamp = ptr.To(metav1.Now())
		m.proves("next")
		m.isHeldBy(web, "edge next*")
	})
	t.Run("by a port that would be lost", func(t *testing.T) {
		svc := at("dns", 53)
		svc.Spec.Ports[0].Protocol = corev1.ProtocolSCTP // as if edge could carry it
		m := newMove(t, svc)
		m.pools[0].Spec.Balancer = "next"
		m.looks("next", true)
		if why := m.looks("next", true).Services[0].Retained; !strings.Contains(why, "53/SCTP") {
			t.Errorf("retained because of %q", why)
		}
	})
	t.Run("by a port that another one of its address would lose", func(t *testing.T) {
		web, dns := at("web", 80), at("dns", 53)
		more := dns.Spec.Ports[0]
		more.Name, more.Port, more.Protocol = "more", 54, corev1.ProtocolSCTP
		dns.Spec.Ports = append(dns.Spec.Ports, more)
		m := newMove(t, web, dns)
		m.pools[0].Spec.Balancer = "next"
		m.looks("next", true)
		if why := m.proves("next")[web.UID]; !strings.Contains(why, "default/dns") {
			t.Errorf("retained because of %q", why)
		}
		note := m.looks("next", true).PoolNotes["public"]
		if note == nil || note.Reason != v1alpha1.ReasonHeldElsewhere || !strings.Contains(note.Message, "1 Services (default/dns) stay on Balancer edge") ||
			!strings.Contains(note.Message, "54/SCTP") {
			t.Errorf("the pool is told %+v", note)
		}
		m.isHeldBy(web, "edge* next")
		dns.Spec.Ports = dns.Spec.Ports[:1]
		m.proves("next")
		m.isHeldBy(web, "edge next*")
		m.isHeldBy(dns, "edge next*")
		if note := m.looks("next", true).PoolNotes["public"]; note != nil {
			t.Errorf("the pool is told %+v", note)
		}
	})
}

// Of a NodePort Service no status tells which of its ports answer.
func TestMoveOfAnExposedServiceIsKept(t *testing.T) {
	const udp, sctp = corev1.ProtocolUDP, corev1.ProtocolSCTP
	tls := []*v1alpha1.UpstreamPolicy{builder.UpstreamPolicy("default", "tls").For("web", "more").TLS("web").Obj()}
	for name, c := range map[string]struct {
		from, to v1alpha1.Engine
		protocol corev1.Protocol
		policies []*v1alpha1.UpstreamPolicy
		told     string
		want     string // "": it is taken over
	}{
		"UDP":                         {v1alpha1.EngineNginx, v1alpha1.EngineHAProxy, udp, nil, "192.0.2.1", "53/UDP"},
		"UDP that nobody was told of": {v1alpha1.EngineNginx, v1alpha1.EngineHAProxy, udp, nil, "", ""},
		"SCTP":                        {v1alpha1.EngineLVS, v1alpha1.EngineNginx, sctp, nil, "192.0.2.1", "53/SCTP"},
		"SCTP, which nobody carries":  {v1alpha1.EngineNginx, v1alpha1.EngineHAProxy, sctp, nil, "192.0.2.1", ""},
		"TLS":                         {v1alpha1.EngineHAProxy, v1alpha1.EngineLVS, corev1.ProtocolTCP, tls, "192.0.2.1", "53/TCP"},
		"TLS without a certificate":   {v1alpha1.EngineHAProxy, v1alpha1.EngineNginx, corev1.ProtocolTCP, tls, "192.0.2.1", ""},
	} {
		t.Run(name, func(t *testing.T) {
			svc := service("web", held("edge", "192.0.2.1"), exposedAt(c.told))
			svc.Spec.Ports = append(svc.Spec.Ports, corev1.ServicePort{Name: "more", Port: 53, NodePort: 30053, Protocol: c.protocol})
			svc.Annotations[v1alpha1.BalancerAnnotation] = "next"
			m := newMove(t, svc)
			m.balancers[0].Spec.Engine, m.balancers[1].Spec.Engine = c.from, c.to
			m.balancers[0].DeletionTimestamp = ptr.To(metav1.Now()) // it waits for what moves
			m.policies, m.pools[0].Spec.Balancer = c.policies, "next"
			m.looks("next", true)
			if why := m.looks("next", true).Services[0].Retained; (why == "") != (c.want == "") || !strings.Contains(why, c.want) {
				t.Errorf("retained because of %q", why)
			}
			m.proves("next")
			m.carries(m.looks("edge", false), svc, map[bool]string{true: "192.0.2.1"}[c.want != ""])
		})
	}
}

// A Service with addresses of two families moves when both pools have.
func TestMoveOfTwoFamilies(t *testing.T) {
	svc := service("web", held("edge", "192.0.2.1,2001:db8::1"), published("192.0.2.1"), published("2001:db8::1"),
		func(svc *corev1.Service) {
			svc.Spec.IPFamilies = []corev1.IPFamily{corev1.IPv4Protocol, corev1.IPv6Protocol}
		})
	m := newMove(t, svc)
	m.pools = append(m.pools, *builder.AddressPool("six", "2001:db8::/120").Shared().Obj())
	m.pools[0].Spec.Balancer = "next"
	m.looks("next", true)
	p := m.looks("edge", true)
	m.carries(p, svc, "192.0.2.1")
	if told := p.Services[0].ProblemMessages(); !strings.Contains(told, "move their pool, too") {
		t.Errorf("told %q", told)
	}
	m.isHeldBy(svc, "edge*")
	m.pools[1].Spec.Balancer = "next"
	m.proves("next")
	m.isHeldBy(svc, "edge next*")
	m.carries(m.looks("next", true), svc, "192.0.2.1")
}

// An address that nobody was told of is no reason to wait.
func TestMoveOfWhatWasNeverPublished(t *testing.T) {
	svc := service("web", held("edge", "192.0.2.1"))
	m := newMove(t, svc)
	m.pools[0].Spec.Balancer = "next"
	m.looks("next", true)
	m.carries(m.looks("edge", true), svc, "192.0.2.1")
	m.proves("next")
	m.carries(m.looks("next", true), svc, "192.0.2.1")
	m.isHeldBy(svc, "edge next*")
}

// An exposed NodePort Service names its Balancer: it comes when it names the
// other one, and keeps its address.
func TestMoveOfAnExposedService(t *testing.T) {
	svc := service("web", held("edge", "192.0.2.1"), exposedAt("192.0.2.1"))
	m := newMove(t, svc)
	m.pools[0].Spec.Balancer = "next"
	m.looks("next", true)
	if told := m.looks("edge", true).Services[0].ProblemMessages(); !strings.Contains(told, v1alpha1.BalancerAnnotation) {
		t.Errorf("told %q", told)
	}
	m.isHeldBy(svc, "edge*")
	svc.Annotations[v1alpha1.BalancerAnnotation] = "next"
	m.proves("next")
	m.isHeldBy(svc, "edge next*")
	m.carries(m.looks("next", true), svc, "192.0.2.1")
}

// A Service that is deleted on its way is withdrawn from both before it goes.
func TestS03_DeletedOnItsWay(t *testing.T) {
	svc := service("web", held("edge", "192.0.2.1"), published("192.0.2.1"))
	m := newMove(t, svc)
	m.pools[0].Spec.Balancer = "next"
	m.looks("next", true)
	svc.DeletionTimestamp = ptr.To(metav1.Now())
	m.carries(m.looks("edge", true), svc, "")
	m.isHeldBy(svc, "next*")
	if !record.Held(svc) {
		t.Fatal("the finalizer went before the other Balancer confirmed")
	}
	m.looks("next", true)
	if record.Held(svc) {
		t.Error("the finalizer stays")
	}
}

// A Balancer that is deleted waits until its Services have moved.
func TestMoveFromABalancerThatIsDeleted(t *testing.T) {
	svc := service("web", held("edge", "192.0.2.1"), published("192.0.2.1"))
	m := newMove(t, svc)
	m.pools[0].Spec.Balancer = "next"
	m.balancers[0].DeletionTimestamp = ptr.To(metav1.Now())
	m.carries(m.looks("edge", true), svc, "192.0.2.1")
	m.proves("next")
	m.carries(m.looks("edge", true), svc, "")
	m.isHeldBy(svc, "next*")
}

// Where hosts bring the addresses themselves, an address comes to the new ones
// when the old ones have let go of it, in whichever direction it moves.
func TestMoveWithVRRP(t *testing.T) {
	svc := service("web", held("edge", "192.0.2.1"), published("192.0.2.1"))
	m := newMove(t, svc)
	withVRRP(m.balancers[0])
	withVRRP(m.balancers[1])
	address := lb.AddressKey(netip.MustParseAddr("192.0.2.1"))
	onlyOn := func(name string) {
		t.Helper()
		for _, b := range []string{"edge", "next"} {
			p := m.looks(b, false)
			if _, got := p.Set.Get(address); got != (b == name) {
				t.Errorf("%s brings the address: %t", b, got)
			}
		}
	}
	onlyOn("edge")
	m.pools[0].Spec.Balancer = "next"
	m.looks("next", false)
	onlyOn("edge") // next listens and waits
	m.carries(m.looks("next", false), svc, "192.0.2.1")
	m.proves("next")
	onlyOn("")
	m.pools[0].Spec.Balancer = "edge" // back, before the hosts of edge have confirmed
	onlyOn("edge")
	m.pools[0].Spec.Balancer = "next"
	onlyOn("")
	m.looks("edge", true)
	onlyOn("next")
}
