package conditions

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/deliver"
	"github.com/external-lb/external-lb/internal/lb"
	"github.com/external-lb/external-lb/internal/plan"
	"github.com/external-lb/external-lb/internal/record"
	"github.com/external-lb/external-lb/test/builder"
)

func hasVRRP(b *v1alpha1.Balancer) { b.Spec.VirtualAddresses.Mode = v1alpha1.VRRP }

// What keeps a Service from being proved is told, and never with empty words.
func TestWhyAServiceIsNotProgrammed(t *testing.T) {
	plain, vrrp := builder.Balancer("edge").Obj(), builder.Balancer("edge").With(hasVRRP).Obj()
	well := deliver.State{Host: "lb1", State: v1alpha1.HostInSync}
	active, away := well, deliver.State{Host: "lb1", State: v1alpha1.HostUnreachable, Message: "no route"}
	active.Active = true
	conflict := []plan.Problem{{Reason: v1alpha1.ReasonPortConflict, Message: "default/older has it"}}
	const unproved, keepalived = "too few hosts can prove it: ", "no host has the addresses: see keepalived on the hosts"
	const lb1 = "Balancer edge says what is wrong with lb1"
	for name, c := range map[string]struct {
		balancer      *v1alpha1.Balancer
		state         deliver.State
		shape         string
		problems      []plan.Problem
		reason, words string
		says          string
	}{
		"no listener left":       {plain, well, "", conflict, v1alpha1.ReasonPortConflict, "", "default/older has it"},
		"some listeners left":    {plain, away, "s", conflict, v1alpha1.ReasonHostsUnreachable, unproved, lb1},
		"out of reach":           {vrrp, away, "s", nil, v1alpha1.ReasonHostsUnreachable, unproved, lb1},
		"nobody has the address": {vrrp, well, "s", nil, v1alpha1.ReasonHostsUnreachable, unproved, keepalived},
		"nothing is wrong":       {vrrp, active, "s", nil, "", "", ""},
		"not on the hosts yet":   {plain, well, "", nil, "", "", ""},
	} {
		svc := Service{
			Service: &plan.Service{Object: builder.Service("default", "web").Obj(), Shape: c.shape, Problems: c.problems, From: "old"},
			Proof:   Proof{Settled: true}, Hosts: WhyUnproved(c.balancer, []deliver.State{c.state}), By: c.balancer.Name,
		}
		got, known := svc.programmed()
		if known != (c.reason != "") || known && (got.Reason != c.reason || got.Message != c.words+c.says) {
			t.Errorf("%s: %t, %s: %q", name, known, got.Reason, got.Message)
		}
		if c.reason == "" {
			c.reason, c.says = v1alpha1.ReasonPending, ", which is to prove it first"
		}
		wants := map[string]string{
			v1alpha1.ReasonPortConflict:     ", which cannot take it: " + c.says,
			v1alpha1.ReasonHostsUnreachable: ", of which " + c.words + c.says,
			v1alpha1.ReasonPending:          c.says,
		}
		want := "Balancer old carries it; it moves to Balancer " + c.balancer.Name + wants[c.reason]
		if got := svc.Arriving(""); got.Reason != c.reason || got.Message != want {
			t.Errorf("%s, on its way: %s: %q", name, got.Reason, got.Message)
		}
	}
}

// A host's words may change with each try: a Service's do not.
func TestAHostsWordsAreTheBalancersAlone(t *testing.T) {
	b := builder.Balancer("edge").Obj()
	svc := Service{Service: &plan.Service{Object: builder.Service("default", "web").Obj(), Shape: "s"}, Proof: Proof{Settled: true}, By: b.Name}
	arriving := Service{Service: &plan.Service{Object: svc.Object, Shape: "s", From: "old"}, Proof: svc.Proof, By: b.Name}
	var said [][]metav1.Condition
	for _, s := range []deliver.State{
		{Host: "lb1", State: v1alpha1.HostUnreachable, Message: "read tcp 192.0.2.9:40001->192.0.2.5:22: connection reset by peer"},
		{Host: "lb1", State: v1alpha1.HostUnreachable, Message: "read tcp 192.0.2.9:40002->192.0.2.5:22: connection reset by peer"},
		{Host: "lb1", State: v1alpha1.HostFailed, Message: "nginx 4711 ended"},
	} {
		svc.Hosts = WhyUnproved(b, []deliver.State{s})
		arriving.Hosts = svc.Hosts
		said = append(said, append(svc.Conditions(), arriving.Arriving("")))
	}
	for _, other := range said[1:] {
		if diff := cmp.Diff(said[0], other); diff != "" {
			t.Errorf("other words: %s", diff)
		}
	}
}

var (
	address = netip.MustParseAddr("192.0.2.1")
	web     = lb.ServiceKey(lb.ID{Namespace: "default", Name: "web", UID: "u"})
	http    = lb.Listener{Address: address, Port: 80, Protocol: lb.TCP}
	https   = lb.Listener{Address: address, Port: 443, Protocol: lb.TCP}
)

// What a host says that has an older version of a Service without one port.
var (
	olderStays = lb.Refusal{Key: web, Message: "no", OlderStays: true}
	olderLacks = lb.Refusal{Key: web, Listener: https, Message: "another nodePort", OlderStays: true}
)

const olderWords = "lb1: no (the older version stays); lb1: 192.0.2.1:443/TCP: another nodePort (the older version stays)"

func frontends(of ...lb.Listener) (out []lb.Frontend) {
	for _, l := range of {
		out = append(out, lb.Frontend{Listener: l})
	}
	return out
}

// view is a Service with two ports, of a plan for two hosts.
func view() (*plan.Service, *plan.Plan) {
	svc := &plan.Service{
		Object: builder.Service("default", "web").Port(80).Port(443).Obj(),
		Key:    web, Addresses: []netip.Addr{address}, Frontends: frontends(http, https), Shape: "s",
	}
	set := lb.NewSet(lb.NewItem(web, []byte("now")), lb.NewItem(lb.AddressKey(address), []byte("a")))
	svc.Targets = []lb.Targets{{All: true}, {All: true}}
	nodes := []lb.Node{{Name: "n1", IPv4: netip.MustParseAddr("10.0.0.1")}, {Name: "n2", IPv4: netip.MustParseAddr("10.0.0.2")}}
	return svc, &plan.Plan{Set: set, Sets: map[string]*lb.Set{"lb1": set, "lb2": set}, Nodes: nodes}
}

// inSync is a host that serves all of a plan but what it refuses.
func inSync(name string, p *plan.Plan, refused ...lb.Refusal) deliver.State {
	s := deliver.State{Host: name, State: v1alpha1.HostInSync, Proven: p.Set.Manifest(), Refused: refused}
	if len(refused) > 0 {
		s.State = v1alpha1.HostPartial
	}
	for _, r := range refused {
		if r.OfItem() {
			s.Proven = s.Proven.Without(r.Key)
		}
	}
	return s
}

func TestProof(t *testing.T) {
	one := builder.Balancer("edge").Obj()
	two := builder.Balancer("edge").With(func(b *v1alpha1.Balancer) { b.Spec.Publish.MinHosts = 2 }).Obj()
	vrrp := builder.Balancer("edge").With(hasVRRP).Obj()
	drained := builder.Balancer("edge").Hosts(v1alpha1.Host{Name: "lb1"}, v1alpha1.Host{Name: "lb2", Drain: true}).Obj()
	svc, p := view()
	whole := lb.Refusal{Key: web, Message: "no"}
	port := lb.Refusal{Key: web, Listener: https, Message: "not admitted"}
	other := lb.Refusal{Key: web, Listener: http, Message: "not admitted"}
	noAddress := lb.Refusal{Key: lb.AddressKey(address), Message: "not admitted"}
	noNode := lb.Refusal{Key: lb.NodeKey("n1"), Message: "not admitted"}
	nowhere := []lb.Refusal{noNode, {Key: lb.NodeKey("n2"), Message: "not admitted"}}
	olderNodes := []lb.Refusal{{Key: lb.NodeKey("n1"), OlderStays: true}, {Key: lb.NodeKey("n2"), OlderStays: true}}
	older := inSync("lb2", p)
	older.Proven = lb.NewSet(lb.NewItem(web, []byte("before"))).Manifest()
	stays := inSync("lb1", p)
	stays.Refused = []lb.Refusal{olderStays, olderLacks}
	partly := stays
	partly.Proven = older.Proven
	late := older
	late.State = v1alpha1.HostDelivering
	away := deliver.State{Host: "lb2", State: v1alpha1.HostUnreachable}
	active, olderActive := inSync("lb1", p), older
	active.Active, olderActive.Active = true, true
	for name, c := range map[string]struct {
		balancer    *v1alpha1.Balancer
		states      []deliver.State
		addressed   bool
		enough, all bool
		closed      bool   // port 443
		refused     string // in words
	}{
		"both":                             {one, []deliver.State{inSync("lb1", p), inSync("lb2", p)}, false, true, true, false, ""},
		"one, the other is about to":       {one, []deliver.State{inSync("lb1", p), late}, false, false, false, false, ""},
		"one, the other is away":           {one, []deliver.State{inSync("lb1", p), away}, false, true, false, false, ""},
		"one of two that are needed":       {two, []deliver.State{inSync("lb1", p), away}, false, false, false, false, ""},
		"one, the other refuses":           {one, []deliver.State{inSync("lb1", p), inSync("lb2", p, whole)}, false, true, false, false, "lb2: no"},
		"none":                             {one, []deliver.State{inSync("lb1", p, whole)}, false, false, false, false, "lb1: no"},
		"an older version, but for a port": {one, []deliver.State{partly}, false, false, false, true, olderWords},
		"the older version is wanted now":  {one, []deliver.State{stays}, false, false, false, true, olderWords},
		"nobody knows":                     {one, nil, false, false, true, false, ""},
		"all but a port":                   {one, []deliver.State{inSync("lb1", p, port), inSync("lb2", p)}, false, true, true, true, "lb1: 192.0.2.1:443/TCP: not admitted"},
		"all but both ports":               {one, []deliver.State{inSync("lb1", p, port, other)}, false, false, false, true, "lb1: 192.0.2.1:443/TCP: not admitted; lb1: 192.0.2.1:80/TCP: not admitted"},
		"a drained host refuses a port":    {drained, []deliver.State{inSync("lb1", p), inSync("lb2", p, port)}, false, true, true, false, "lb2: 192.0.2.1:443/TCP: not admitted"},
		"a host has no plan":               {one, []deliver.State{inSync("lb3", p)}, false, false, false, false, ""},
		"the address is brought":           {one, []deliver.State{inSync("lb1", p)}, true, true, true, false, ""},
		"the address is refused":           {one, []deliver.State{inSync("lb1", p, noAddress)}, true, false, false, false, "lb1: address 192.0.2.1: not admitted"},
		"a node is refused":                {one, []deliver.State{inSync("lb1", p, noNode)}, false, true, true, false, ""},
		"every node is refused":            {one, []deliver.State{inSync("lb1", p, nowhere...)}, false, false, false, false, "lb1: it takes none of its nodes; node n1: not admitted"},
		"every node, on one host":          {one, []deliver.State{inSync("lb1", p), inSync("lb2", p, nowhere...)}, false, true, false, false, "lb2: it takes none of its nodes; node n1: not admitted"},
		"every node stays as it was":       {one, []deliver.State{inSync("lb1", p, olderNodes...)}, false, true, true, false, ""},
		"one, the address refused there":   {one, []deliver.State{inSync("lb1", p), inSync("lb2", p, noAddress)}, true, true, false, false, "lb2: address 192.0.2.1: not admitted"},
		"nobody has the addresses":         {vrrp, []deliver.State{inSync("lb1", p), inSync("lb2", p)}, false, false, true, false, ""},
		"who has the addresses has it":     {vrrp, []deliver.State{active, inSync("lb2", p)}, false, true, true, false, ""},
		"who has the addresses is another": {vrrp, []deliver.State{inSync("lb1", p, whole), olderActive}, false, false, false, false, "lb1: no"},
	} {
		t.Run(name, func(t *testing.T) {
			svc := *svc
			if c.addressed {
				svc.Addressed = []lb.Key{lb.AddressKey(address)}
			}
			got := NewProver(c.balancer, p, c.states).Prove(&svc)
			if got.Enough != c.enough || got.All != c.all || got.Closed[https] != c.closed {
				t.Errorf("%+v, want enough %t, all %t, closed %t", got, c.enough, c.all, c.closed)
			}
			if words := list(append(got.Refused, got.RefusedPorts...)); words != c.refused {
				t.Errorf("refused: %q, want %q", words, c.refused)
			}
		})
	}
}

// What a cloud is still at work on is no fault: who has no address yet is told, and of others
// what was said stays.
func TestWhatIsPendingIsNoFault(t *testing.T) {
	svc, p := view()
	b, pending := builder.Balancer("edge").Obj(), lb.Refusal{Key: web, Reason: lb.RefusedPending, Message: "the cloud is still at work on it: booting"}
	state := inSync("provider", p, pending)
	state.State = v1alpha1.HostDelivering
	s := Service{Service: svc, Proof: NewProver(b, p, []deliver.State{state}).Prove(svc), By: "edge"}
	if c, known := s.programmed(); !known || c.Status != metav1.ConditionFalse || c.Reason != v1alpha1.ReasonPending || c.Message != "provider: "+pending.Message {
		t.Errorf("%t %+v", known, c)
	}
	svc.Object.Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionServiceProgrammed, Status: metav1.ConditionTrue}}
	if c, known := s.programmed(); known {
		t.Errorf("it answered before: %+v", c)
	}
	if _, refused := (Balancer{Object: b, Plan: p, States: []deliver.State{state}}).servicesRefused(); refused != "" {
		t.Error(refused)
	}
}

// A port that is refused is one port's error, and no more.
func TestRefusedPorts(t *testing.T) {
	svc, p := view()
	svc.PortErrors = nil
	state := inSync("lb1", p, lb.Refusal{Key: web, Listener: https, Message: "not admitted"})
	s := Service{Service: svc, Proof: NewProver(builder.Balancer("edge").Obj(), p, []deliver.State{state}).Prove(svc), By: "edge"}
	in := s.Ingress()
	if len(in) != 1 || len(in[0].Ports) != 2 || in[0].Ports[0].Error != nil || in[0].Ports[1].Error == nil ||
		*in[0].Ports[1].Error != v1alpha1.PortErrorRefused {
		t.Fatalf("ingress %+v", in)
	}
	for kind, want := range map[string]string{
		v1alpha1.ConditionPortsError:        "lb1: 192.0.2.1:443/TCP: not admitted",
		v1alpha1.ConditionServiceProgrammed: "ports are refused: lb1: 192.0.2.1:443/TCP: not admitted",
	} {
		c := meta.FindStatusCondition(s.Conditions(), kind)
		if c == nil || c.Status != metav1.ConditionTrue || c.Reason != v1alpha1.ReasonRefused || c.Message != want {
			t.Errorf("%s: %+v", kind, c)
		}
	}
	// It does not move where a port that answers would be lost, and does where that is lost already.
	svc.From = "old"
	svc.Object.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "192.0.2.1"}}
	if c := s.Arriving(""); !s.LosesPorts() || c.Reason != v1alpha1.ReasonRefused || !strings.Contains(c.Message, "ports that answer now") {
		t.Errorf("loses ports: %t, %+v", s.LosesPorts(), c)
	}
	svc.MayLose = true
	if s.LosesPorts() {
		t.Error("a port that may be lost keeps it")
	}
	svc.MayLose = false
	svc.Object.Status.LoadBalancer.Ingress = in
	if s.LosesPorts() {
		t.Error("a port that does not answer is lost")
	}
}

// Of a change that is refused, a port that the older version lacks is told to be closed;
// the others answer as before.
func TestPortsThatAnOlderVersionLacks(t *testing.T) {
	svc, p := view()
	svc.Object = record.Record{Holders: []string{"edge"}}.Write(svc.Object)
	svc.Object.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "192.0.2.1"}}
	state := inSync("lb1", p, olderStays, olderLacks)
	s := Service{Service: svc, Proof: NewProver(&v1alpha1.Balancer{}, p, []deliver.State{state}).Prove(svc), By: "edge"}
	in := s.Ingress()
	if len(in) != 1 || len(in[0].Ports) != 2 || in[0].Ports[0].Error != nil || in[0].Ports[1].Error == nil || *in[0].Ports[1].Error != v1alpha1.PortErrorRefused {
		t.Fatalf("ingress %+v", in)
	}
	c := meta.FindStatusCondition(s.Conditions(), v1alpha1.ConditionServiceProgrammed)
	if c == nil || c.Status != metav1.ConditionFalse || c.Reason != v1alpha1.ReasonRefused || c.Message != olderWords {
		t.Errorf("%+v", c)
	}
}

func TestListsAreBounded(t *testing.T) {
	var all []string
	for i := range 7 {
		all = append(all, fmt.Sprint(i))
	}
	if got := list(all); got != "0; 1; 2; 3; 4; and 2 more" {
		t.Error(got)
	}
}
