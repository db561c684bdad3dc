package explain

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/plan"
	"github.com/external-lb/external-lb/internal/record"
	"github.com/external-lb/external-lb/test/builder"
)

// facts are those of a test before they are read.
type facts struct {
	svc       *corev1.Service
	balancers []*v1alpha1.Balancer
	pools     []v1alpha1.AddressPool
	others    []*corev1.Service
	nodes     []*corev1.Node
	ready     []string // nodes with a ready pod
	policies  []*v1alpha1.UpstreamPolicy
	unread    map[string]string
	manager   Manager
}

// well is a Service of which all is well.
func well() *facts {
	svc := builder.Service("default", "web").Class("external-lb.dev/edge").Port(80).With(func(svc *corev1.Service) {
		svc.Spec.IPFamilies = []corev1.IPFamily{corev1.IPv4Protocol}
	}).Obj()
	edge := builder.Balancer("edge").Hosts(v1alpha1.Host{Name: "lb1", Address: "192.0.2.5"}).Obj()
	edge.Status.Conditions = []metav1.Condition{condition(v1alpha1.ConditionAccepted, true, v1alpha1.ReasonAccepted, "in force")}
	edge.Status.Hosts = []v1alpha1.HostStatus{{Name: "lb1", State: v1alpha1.HostInSync}}
	f := &facts{
		svc: svc, balancers: []*v1alpha1.Balancer{edge},
		pools: []v1alpha1.AddressPool{*builder.AddressPool("public", "203.0.113.0/30").Obj()},
		nodes: []*corev1.Node{builder.Node("node1").IP("10.0.0.1").Obj(), builder.Node("node2").IP("10.0.0.2").Obj()},
		ready: []string{"node2"},
	}
	f.publish("203.0.113.0")
	return f
}

func warns(words string) []v1alpha1.HostNote {
	return []v1alpha1.HostNote{{Reason: v1alpha1.NoteWarns, Message: words}}
}

func condition(kind string, is bool, reason, message string) metav1.Condition {
	c := metav1.Condition{Type: kind, Status: metav1.ConditionFalse, Reason: reason, Message: message, ObservedGeneration: 1}
	if is {
		c.Status = metav1.ConditionTrue
	}
	return c
}

// publish an address, proved and on record.
func (f *facts) publish(address string) {
	f.svc = record.Record{Holders: []string{"edge"}, Carrier: "edge", Addresses: builder.Addresses(address)}.Write(f.svc)
	f.svc.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: address}}
	f.tell(condition(v1alpha1.ConditionServiceProgrammed, true, v1alpha1.ReasonProgrammed, "its listeners are proved to be live"))
}

// fresh takes back what publish did.
func (f *facts) fresh() { f.svc.Status = corev1.ServiceStatus{} }

func (f *facts) tell(c metav1.Condition) { meta.SetStatusCondition(&f.svc.Status.Conditions, c) }

func (f *facts) edge() *v1alpha1.Balancer { return f.balancers[0] }

func (f *facts) explain(t *testing.T) Chain {
	t.Helper()
	key := types.NamespacedName{Namespace: "default", Name: "web"}
	slice := builder.EndpointSlice("default", "1", discoveryv1.AddressTypeIPv4).Ready(f.ready...).Obj()
	chain, err := Explain(Facts{Service: f.svc, Unread: f.unread, Manager: f.manager, Objects: plan.Objects{
		Balancers: f.balancers, Pools: plan.ParsePools(f.pools), Services: append(f.others, f.svc), Nodes: f.nodes,
		Slices:     map[types.NamespacedName][]*discoveryv1.EndpointSlice{key: {slice}},
		Namespaces: map[string]labels.Set{"default": {}}, Policies: f.policies,
	}})
	if err != nil {
		t.Fatal(err)
	}
	return chain
}

// lines of a chain, for comparisons.
func lines(c Chain) string {
	var out strings.Builder
	for _, f := range c {
		fmt.Fprintf(&out, "%s %s: %s\n", f.State, f.Link, f.Message)
	}
	return out.String()
}

// The engine is named with what carries datagrams beside it.
func TestWhatCarriesIsNamed(t *testing.T) {
	f := well()
	f.edge().Spec.Datagrams = v1alpha1.DatagramsLVS
	if got := lines(f.explain(t)); !strings.Contains(got, "edge, with nginx+lvs: in force") {
		t.Error(got)
	}
}

func TestAllIsWell(t *testing.T) {
	f := well()
	f.policies = []*v1alpha1.UpstreamPolicy{builder.UpstreamPolicy("default", "tuned").For("web").Obj(), builder.UpstreamPolicy("default", "other").For("api").Obj()}
	f.policies[0].Status = v1alpha1.UpstreamPolicyStatus{ObservedGeneration: 1, Targets: []v1alpha1.PolicyTargetStatus{{TargetRef: f.policies[0].Spec.TargetRefs[0]}}}
	want := strings.TrimLeft(`
ok service: of type LoadBalancer
ok class: its class is external-lb.dev/edge: Balancer edge
ok balancer: edge, with nginx: in force
ok address: 203.0.113.0, of AddressPool public
ok listener: 203.0.113.0:80/TCP to nodePort 30080
ok host: lb1 is InSync
ok nodes: 2 of 2 may carry traffic: node1, node2
ok endpoints: 1 ready, on node2
ok policy: tuned is in force
ok status: 203.0.113.0 is published: its listeners are proved to be live
`, "\n")
	chain := f.explain(t)
	if diff := cmp.Diff(want, lines(chain)); diff != "" {
		t.Error(diff)
	}
	if first := chain.First(); first != nil {
		t.Errorf("wrong is %+v", first)
	}
}

// A certificate that is valid for some days more is told, and nothing is wrong yet.
func TestACertificateThatExpiresIsNoFault(t *testing.T) {
	f := well()
	f.policies = []*v1alpha1.UpstreamPolicy{builder.UpstreamPolicy("default", "tls").For("web").Obj()}
	f.policies[0].Status = v1alpha1.UpstreamPolicyStatus{ObservedGeneration: 1, Targets: []v1alpha1.PolicyTargetStatus{{
		TargetRef:  f.policies[0].Spec.TargetRefs[0],
		Conditions: []metav1.Condition{condition(v1alpha1.ConditionCertificateReady, true, v1alpha1.ReasonCertificateExpiring, "in less than 14 days")},
	}}}
	chain := f.explain(t)
	if said := lines(chain); !strings.Contains(said, "ok policy: tls: in less than 14 days\n") || chain.First() != nil {
		t.Errorf("%s\nwrong is %+v", said, chain.First())
	}
}

func TestWhatIsWrongFirst(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*facts)
		link   string
		says   string
		see    string
	}{
		"another type": {func(f *facts) { f.svc.Spec.Type = corev1.ServiceTypeClusterIP }, LinkService, "of type ClusterIP", seeAddress},
		"a NodePort Service of nobody": {func(f *facts) {
			f.svc.Spec.Type, f.svc.Annotations = corev1.ServiceTypeNodePort, map[string]string{v1alpha1.BalancerAnnotation: "egde"}
		}, LinkClass, "it names Balancer \"egde\", and there is none of that name, only edge", seeAddress},
		"a class of nobody": {func(f *facts) { f.svc.Spec.LoadBalancerClass = new("external-lb.dev/egde") }, LinkClass,
			"no Balancer serves it: the classes are external-lb.dev/edge", seeAddress},
		"no class, no default": {func(f *facts) { f.svc.Spec.LoadBalancerClass = nil }, LinkClass, "it names no class", seeAddress},
		"no Balancer":          {func(f *facts) { f.balancers = nil }, LinkClass, "there is no Balancer", seeAddress},
		"a Balancer that goes": {func(f *facts) { f.balancers[0] = builder.Balancer("edge").Deleting().Obj() }, LinkClass,
			"Balancer edge is being deleted", seeAddress},
		"a Balancer that nobody has seen": {func(f *facts) { f.edge().Status = v1alpha1.BalancerStatus{}; f.fresh() }, LinkBalancer, "is it running?", seeBalancer},
		"a Balancer not accepted": {func(f *facts) {
			f.edge().Status.Conditions[0] = condition(v1alpha1.ConditionAccepted, false, v1alpha1.ReasonInvalid, "correct spec.nodes.selector")
		}, LinkBalancer, "correct spec.nodes.selector", seeBalancer},
		"another Balancer has it still": {func(f *facts) {
			f.tell(condition(v1alpha1.ConditionMoving, true, v1alpha1.ReasonKept, "keepOn keeps it"))
		}, LinkBalancer, "keepOn keeps it", seeMove},
		"no pool": {func(f *facts) { f.pools = nil; f.fresh() }, LinkAddress, "no AddressPool is in force for this Balancer", seeAddress},
		"a pool that is not in force": {func(f *facts) {
			f.pools = append(f.pools, *builder.AddressPool("older", "203.0.113.0/29").Balancer("other").Age(1).Obj())
			f.fresh()
		}, LinkAddress, "AddressPool public is not in force: AddressPool older, which is older", seeAddress},
		"an address that another Service has": {func(f *facts) {
			f.pools[0].Spec.Addresses = []v1alpha1.AddressRange{"203.0.113.0"}
			f.others = []*corev1.Service{f.svc.DeepCopy()}
			f.others[0].Name, f.others[0].UID = "api", "api-uid"
			f.others[0] = record.Record{Holders: []string{"edge"}, Carrier: "edge", Addresses: builder.Addresses("203.0.113.0")}.Write(f.others[0])
			f.fresh()
		}, LinkAddress, "203.0.113.0 is held by Service default/api", seeAddress},
		"no such address": {func(f *facts) {
			f.svc.Annotations = map[string]string{v1alpha1.AddressesAnnotation: "somewhere"}
			f.fresh()
		}, LinkAddress, `"somewhere" is not an address`, seeAddress},
		"a port without nodePort": {func(f *facts) { f.svc.Spec.Ports[0].NodePort = 0 }, LinkListener, "no nodePort for 80/TCP", seeAddress},
		"a protocol that the engine cannot": {func(f *facts) { f.svc.Spec.Ports[0].Protocol = corev1.ProtocolSCTP }, LinkListener,
			"nginx cannot carry 80/SCTP", seeAddress},
		"a certificate that is missing": {func(f *facts) {
			f.policies = []*v1alpha1.UpstreamPolicy{builder.UpstreamPolicy("default", "tls").For("web").TLS("cert").Obj()}
			f.tell(condition(v1alpha1.ConditionPortsError, true, v1alpha1.ReasonNoCertificate, "there is no Secret cert"))
		}, LinkListener, "80/TCP: there is no Secret cert", seeTLS},
		"a host that fails": {func(f *facts) {
			f.edge().Status.Hosts[0] = v1alpha1.HostStatus{Name: "lb1", State: v1alpha1.HostUnreachable, Message: "no route to host"}
			f.tell(condition(v1alpha1.ConditionServiceProgrammed, false, v1alpha1.ReasonHostsUnreachable, "too few hosts can prove it"))
		}, LinkHost, "lb1 is Unreachable: no route to host", seeBalancer},
		"a host that another controller has": {func(f *facts) {
			f.edge().Status.Hosts[0] = v1alpha1.HostStatus{Name: "lb1", State: v1alpha1.HostFailed, Message: "run `external-lb host reset-term` on it"}
			meta.SetStatusCondition(&f.edge().Status.Conditions, condition(v1alpha1.ConditionDegraded, true, v1alpha1.ReasonContested, ""))
		}, LinkHost, "lb1 is Failed", seeOthers},
		"a host that warns": {func(f *facts) {
			f.edge().Status.Hosts[0].Notes = warns("the kernel tracks nearly as many connections as it may, 4096")
		}, LinkHost, "the kernel tracks nearly as many connections", seeWarns},
		"a host on which no node is well": {func(f *facts) {
			f.edge().Status.Hosts[0].Notes = warns("every node fails its health check on port 10256, so nothing answers")
		}, LinkHost, "every node fails its health check", seeHealth},
		"the same, and it refuses somebody": {func(f *facts) {
			f.edge().Status.Hosts[0] = v1alpha1.HostStatus{Name: "lb1", State: v1alpha1.HostPartial,
				Message: "left out: other", Notes: warns("every node fails its health check on port 10256, so nothing answers")}
		}, LinkHost, "every node fails its health check", seeHealth},
		"no endpoint counts": {func(f *facts) {
			f.tell(condition(v1alpha1.ConditionServiceProgrammed, true, v1alpha1.ReasonNoEndpoints, "nothing answers at 203.0.113.0"))
		}, LinkEndpoints, "nothing answers at 203.0.113.0", seeEndpoints},
		"a host that refuses it": {func(f *facts) {
			f.edge().Status.Hosts[0].State = v1alpha1.HostPartial
			f.tell(condition(v1alpha1.ConditionServiceProgrammed, false, v1alpha1.ReasonRefused, "lb1: port 80 is taken"))
		}, LinkHost, "lb1: port 80 is taken", seeRefused},
		"no node may carry it": {func(f *facts) {
			for _, n := range f.nodes {
				n.Labels = map[string]string{corev1.LabelNodeExcludeBalancers: ""}
			}
		}, LinkNodes, "every node that could be a backend has the label", seeNodes},
		"no node of the family": {func(f *facts) {
			f.nodes = []*corev1.Node{builder.Node("node1").IP("2001:db8::1").Obj()}
		}, LinkNodes, "nothing answers at 203.0.113.0", seeNodes},
		"no pod is ready": {func(f *facts) { f.ready = nil }, LinkEndpoints, "no pod of the Service is ready", seeSilent},
		"a policy that does nothing": {func(f *facts) {
			p := builder.UpstreamPolicy("default", "tuned").For("web", "http").Obj()
			p.Status = v1alpha1.UpstreamPolicyStatus{ObservedGeneration: 1, Targets: []v1alpha1.PolicyTargetStatus{{
				TargetRef:  p.Spec.TargetRefs[0],
				Conditions: []metav1.Condition{condition(v1alpha1.ConditionAccepted, false, v1alpha1.ReasonTargetNotFound, "no port named http")},
			}}}
			f.policies = []*v1alpha1.UpstreamPolicy{p}
		}, LinkPolicy, "tuned, for port http: no port named http", seePolicy},
		"a controller that says nothing": {(*facts).fresh, LinkStatus, "the controller has not said why", seeAddress},
		"a reason that is no longer one": {func(f *facts) {
			f.fresh()
			f.tell(condition(v1alpha1.ConditionServiceProgrammed, false, v1alpha1.ReasonNoPool, "no AddressPool is in force"))
		}, LinkStatus, "no AddressPool is in force", seeAddress},
		"a deleted Service": {func(f *facts) { f.svc.DeletionTimestamp = new(metav1.Now()) }, LinkService, "waits until every host has confirmed", seeDeleted},
	} {
		t.Run(name, func(t *testing.T) {
			f := well()
			c.change(f)
			chain := f.explain(t)
			first := chain.First()
			if first == nil || first.Link != c.link || !strings.Contains(first.Message, c.says) || first.See != c.see {
				t.Errorf("wrong first is %+v\nwant %s: %s, see %q\n%s", first, c.link, c.says, c.see, lines(chain))
			}
		})
	}
}

// What is noted of a host beside its state, such as its clock, keeps no Service from being carried.
func TestNotesOfAHostAreNotWrong(t *testing.T) {
	f := well()
	f.edge().Status.Hosts[0].Notes = []v1alpha1.HostNote{{Reason: v1alpha1.NoteClock, Message: "its clock is behind"}}
	chain := f.explain(t)
	if first := chain.First(); first != nil || !strings.Contains(lines(chain), "ok host: lb1 is InSync: its clock is behind\n") {
		t.Errorf("wrong first is %+v\n%s", first, lines(chain))
	}
}

// A user of one namespace may read the Service, its policies and EndpointSlices.
func TestWhatCannotBeReadIsNotWrong(t *testing.T) {
	f := well()
	f.balancers, f.pools, f.nodes, f.others = nil, nil, nil, nil
	f.unread = map[string]string{}
	for _, kind := range []string{Balancers, Pools, Services, Nodes, Namespaces} {
		f.unread[kind] = "you may not list " + kind
	}
	want := strings.TrimLeft(`
ok service: of type LoadBalancer
unknown class: its class is external-lb.dev/edge: whether a Balancer serves that is not known: you may not list balancers
ok balancer: edge, as the Service's record says
ok address: 203.0.113.0, as the Service's status says
ok listener: 80/TCP, as the Service's status says
unknown host: you may not list balancers
unknown nodes: you may not list balancers
ok endpoints: 1 ready, on node2
ok status: 203.0.113.0 is published: its listeners are proved to be live
`, "\n")
	if diff := cmp.Diff(want, lines(f.explain(t))); diff != "" {
		t.Error(diff)
	}
	f.fresh()
	f.tell(condition(v1alpha1.ConditionServiceProgrammed, false, v1alpha1.ReasonNoPool, "no AddressPool is in force"))
	if first := f.explain(t).First(); first == nil || first.Link != LinkAddress || first.Message != "no AddressPool is in force" {
		t.Errorf("wrong first is %+v, want the condition's words", first)
	}
}

// Without a manager, a status may be of long ago.
func TestStatusesOfAManagerThatIsGone(t *testing.T) {
	f := well()
	f.policies = []*v1alpha1.UpstreamPolicy{builder.UpstreamPolicy("default", "tuned").For("web").Obj()}
	f.policies[0].Status = v1alpha1.UpstreamPolicyStatus{ObservedGeneration: 1, Targets: []v1alpha1.PolicyTargetStatus{{TargetRef: f.policies[0].Spec.TargetRefs[0]}}}
	f.manager = Manager{OK, "m-1 works"}
	if chain := f.explain(t); chain[0].Link != LinkManager || len(chain.Unknown()) > 0 || chain.First() != nil {
		t.Errorf("with a manager:\n%s", lines(chain))
	}
	f.manager = Manager{Wrong, "nobody works"}
	chain := f.explain(t)
	if first := chain.First(); first == nil || first.Link != LinkManager || first.See != seeManager {
		t.Errorf("wrong first is %+v, want the manager", first)
	}
	if diff := cmp.Diff([]string{LinkBalancer, LinkHost, LinkPolicy, LinkStatus}, chain.Unknown()); diff != "" {
		t.Errorf("%s\n%s", diff, lines(chain))
	}
}

// A node that is down stays a backend, and is told.
func TestNodesThatAreNotReadyAreTold(t *testing.T) {
	f := well()
	f.nodes[1].Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionUnknown}}
	if text := lines(f.explain(t)); !strings.Contains(text, "ok nodes: 2 of 2 may carry traffic: node1, node2; 1 of them are not ready, such as node2\n") {
		t.Error(text)
	}
}

// Nodes and Services of other namespaces are read by few.
func TestWhatCanBeReadIsUsed(t *testing.T) {
	f := well()
	f.fresh()
	f.pools = nil
	f.nodes, f.unread = nil, map[string]string{Nodes: "you may not list nodes"}
	chain := f.explain(t)
	if first := chain.First(); first == nil || first.Link != LinkAddress {
		t.Errorf("wrong first is %+v, want the address", first)
	}
	if diff := cmp.Diff([]string{LinkNodes}, chain.Unknown()); diff != "" {
		t.Error(diff)
	}
	f = well()
	f.unread = map[string]string{Services: "you may not list services"}
	if text := lines(f.explain(t)); !strings.Contains(text, "ok nodes: 2 of 2 may carry traffic") {
		t.Errorf("nodes could be read, and are not told:\n%s", text)
	}
}

func TestWhereItIsWrittenWhatToDo(t *testing.T) {
	text, err := os.ReadFile("../../docs/troubleshooting.md")
	if err != nil {
		t.Fatal(err)
	}
	sees := []string{seePolicy, seeOthers, seeHealth, seeDeleted, seeSilent, seeWarns, seeManager}
	for _, at := range places {
		sees = append(sees, at.see)
	}
	for _, see := range sees {
		if !strings.Contains(string(text), "\n## "+see+"\n") {
			t.Errorf("docs/troubleshooting.md has no heading %q", see)
		}
	}
}
