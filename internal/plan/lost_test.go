package plan

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/test/builder"
)

// The pool's owner lets Services lose ports: they move without them, also where none is left,
// and so do all who share an address with them. One pool alone does not decide for two.
func TestMoveWithoutLostPorts(t *testing.T) {
	const sctp = corev1.ProtocolSCTP
	more := func(svc *corev1.Service) {
		svc.Spec.Ports = append(svc.Spec.Ports, corev1.ServicePort{Name: "more", Port: 54, NodePort: 30054, Protocol: sctp})
	}
	for name, change := range map[string]func(*corev1.Service){
		"one of two": more,
		"all":        func(svc *corev1.Service) { svc.Spec.Ports[0].Protocol = sctp },
		"of two families": func(svc *corev1.Service) {
			more(svc)
			svc.Spec.IPFamilies = []corev1.IPFamily{corev1.IPv4Protocol, corev1.IPv6Protocol}
			held("edge", "192.0.2.1,2001:db8::1")(svc)
			published("2001:db8::1")(svc)
		},
	} {
		t.Run(name, func(t *testing.T) {
			web := service("web", held("edge", "192.0.2.1"), published("192.0.2.1"))
			dns := service("dns", held("edge", "192.0.2.1"), published("192.0.2.1"), onPort(53), change)
			programmed(dns) // by an engine that carries SCTP
			m := newMove(t, web, dns)
			m.pools = append(m.pools, *builder.AddressPool("six", "2001:db8::/120").Shared().Obj())
			m.pools[0].Spec.Balancer, m.pools[1].Spec.Balancer = "next", "next"
			m.proves("next")
			m.isHeldBy(web, "edge* next")
			m.pools[0].Spec.OnLostPorts = v1alpha1.LostPortsMove
			if m.proves("next"); len(dns.Spec.IPFamilies) > 1 {
				m.isHeldBy(web, "edge* next")
				m.pools[1].Spec.OnLostPorts = v1alpha1.LostPortsMove
				m.proves("next")
			}
			m.isHeldBy(web, "edge next*")
			m.isHeldBy(dns, "edge next*")
			if note := m.looks("next", true).PoolNotes["public"]; note != nil {
				t.Errorf("the pool is told %+v", note)
			}
		})
	}
}

// Who has nothing on the old hosts keeps nobody there, and does not stay there either.
func TestMoveWithOneOfWhichNothingAnswers(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*corev1.Service)
		reason string
	}{
		"its spec is wrong": {func(svc *corev1.Service) { svc.Spec.LoadBalancerSourceRanges = []string{"x"} }, v1alpha1.ReasonInvalidSpec},
		"no port can be carried": {func(svc *corev1.Service) {
			svc.Spec.Ports[0].Protocol = corev1.ProtocolSCTP
			svc.Status.LoadBalancer.Ingress[0].Ports = []corev1.PortStatus{{Port: 81, Protocol: corev1.ProtocolSCTP, Error: ptr.To(v1alpha1.PortErrorProtocol)}}
		}, v1alpha1.ReasonMixedProtocol},
		"others have its ports": {onPort(80), v1alpha1.ReasonPortConflict},
	} {
		t.Run(name, func(t *testing.T) {
			web := service("a", held("edge", "192.0.2.1"), published("192.0.2.1"))
			wrong := service("wrong", held("edge", "192.0.2.1"), published("192.0.2.1"), onPort(81))
			m := newMove(t, web, wrong)
			m.looks("edge", true) // both are live
			c.change(wrong)
			m.pools[0].Spec.Balancer = "next"
			m.looks("next", true)
			m.proves("next") // edge has not said yet what is wrong: it may be that only next cannot have it
			m.isHeldBy(web, "edge* next")
			says := m.looks("edge", true).Services[1]
			if says.Object.Name != "wrong" || says.Shape != "" || says.Problems[0].Reason != c.reason {
				t.Fatalf("edge says %+v of %s", says.Problems, says.Object.Name)
			}
			tells := func(reason string) {
				meta.SetStatusCondition(&wrong.Status.Conditions,
					metav1.Condition{Type: v1alpha1.ConditionServiceProgrammed, Status: metav1.ConditionFalse, Reason: reason})
			}
			tells(v1alpha1.ReasonHostsUnreachable) // it may be there still
			m.proves("next")
			m.isHeldBy(web, "edge* next")
			tells(c.reason)
			m.proves("next")
			m.isHeldBy(web, "edge next*")
			m.isHeldBy(wrong, "edge next*")
			m.looks("edge", true)
			m.isHeldBy(wrong, "next*") // a Balancer that is deleted does not wait for it
		})
	}
}
