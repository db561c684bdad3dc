package page

import (
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/test/builder"
)

// node that is ready.
func node(name, ip string) *corev1.Node {
	return builder.Node(name).IP(ip).With(func(n *corev1.Node) {
		n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}
	}).Obj()
}

// A node that is cordoned drains where the Balancer says so, and is shown as what it is.
func TestANodeThatDrainsIsShownSo(t *testing.T) {
	for cordoned, want := range map[v1alpha1.Cordoned]Health{v1alpha1.CordonedKeep: Good, v1alpha1.CordonedDrain: Middle} {
		o := world()
		o.Balancers[0].Spec.Nodes.Cordoned = cordoned
		o.Nodes = []*corev1.Node{node("node1", "10.0.0.1"), node("node2", "10.0.0.2")}
		o.Nodes[1].Spec.Unschedulable = true
		n := item[Node](t, o, "node/node2")
		if n.Health != want || slices.Contains(n.Draining, "edge") != (want == Middle) || strings.HasPrefix(n.Message, "drains: ") != (want == Middle) {
			t.Errorf("with cordoned: %s it is %+v", cordoned, n)
		}
		if n := item[Node](t, o, "node/node1"); n.Health != Good || n.Draining != nil {
			t.Errorf("the other one is %+v", n)
		}
	}
}

// A node on which the last pod of a Service ends drains for that Service alone.
func TestANodeWhosePodEndsDrainsForItsService(t *testing.T) {
	o := world()
	o.Balancers[0].Spec.Engine = v1alpha1.EngineLVS // which is told of it
	o.Nodes[1] = node("node2", "10.0.0.2")
	o.Services[0].Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
	ends := endpoints("node1", "node2")
	ends.Endpoints[1].Conditions = discoveryv1.EndpointConditions{Ready: new(false), Serving: ptr.To(true), Terminating: ptr.To(true)}
	o.Slices = []*discoveryv1.EndpointSlice{ends}
	svc := item[Service](t, o, "service/default/web")
	if !slices.Equal(svc.Nodes, []string{"node1", "node2"}) || !slices.Equal(svc.Draining, []string{"node2"}) {
		t.Errorf("nodes %v, of which drain %v", svc.Nodes, svc.Draining)
	}
	if n := item[Node](t, o, "node/node2"); n.Health != Good {
		t.Errorf("for others it is %+v", n)
	}
}

// What the hosts say of nodes is told in their words, with the time.
func TestNodesThatAreDownAreTold(t *testing.T) {
	for reason, want := range map[string]struct {
		status metav1.ConditionStatus
		health Health
	}{
		v1alpha1.ReasonSomeNodesDown: {metav1.ConditionFalse, Bad},
		v1alpha1.ReasonAllNodesUp:    {metav1.ConditionTrue, Good},
	} {
		o := world()
		c := condition(v1alpha1.ConditionBackendsHealthy, want.status, reason, "lb1: down: node2")
		o.Services[0].Status.Conditions = append(o.Services[0].Status.Conditions, c)
		got := item[Service](t, o, "service/default/web").Backends
		if got == nil || got.Health != want.health || got.Text != "lb1: down: node2" || got.At != "2026-01-02T12:00:00Z" {
			t.Errorf("%s: %+v", reason, got)
		}
	}
	if got := item[Service](t, world(), "service/default/web").Backends; got != nil {
		t.Errorf("where nobody has said anything it says %+v", got)
	}
}
