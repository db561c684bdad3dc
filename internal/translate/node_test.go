package translate

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/test/builder"
)

const exclude = corev1.LabelNodeExcludeBalancers

func TestS23_EligibleNodes(t *testing.T) {
	for name, tc := range map[string]struct {
		node *builder.NodeBuilder
		want bool
	}{
		"plain":                  {builder.Node("n"), true},
		"being deleted":          {builder.Node("n").Deleting(), false},
		"excluded, empty":        {builder.Node("n").Label(exclude, ""), false},
		"excluded, true":         {builder.Node("n").Label(exclude, "true"), false},
		"excluded, True":         {builder.Node("n").Label(exclude, "True"), false},
		"excluded, 1":            {builder.Node("n").Label(exclude, "1"), false},
		"excluded, garbage":      {builder.Node("n").Label(exclude, "no"), false},
		"excluded, fALSE":        {builder.Node("n").Label(exclude, "fALSE"), false}, // no bool to Go either
		"included, false":        {builder.Node("n").Label(exclude, "false"), true},
		"included, FALSE":        {builder.Node("n").Label(exclude, "FALSE"), true},
		"included, 0":            {builder.Node("n").Label(exclude, "0"), true},
		"included, f":            {builder.Node("n").Label(exclude, "f"), true},
		"the autoscaler's taint": {builder.Node("n").Taint("ToBeDeletedByClusterAutoscaler"), false},
		"another taint":          {builder.Node("n").Taint("node.kubernetes.io/unschedulable"), true},
		"S24 not ready":          {builder.Node("n").NotReady(), true},
		"no name":                {builder.Node(""), false},
		"a hostile name":         {builder.Node("n; }"), false},
		"a long name":            {builder.Node(strings.Repeat("n", 254)), false},
	} {
		t.Run(name, func(t *testing.T) {
			out := New().Translate(MakeInput().Nodes(tc.node.IP("10.0.0.1")).Input)
			if got := len(out.Config.Nodes) == 1; got != tc.want {
				t.Errorf("eligible: %v, want %v", got, tc.want)
			}
			if (out.NodesProblem == nil) != tc.want {
				t.Errorf("problem: %+v", out.NodesProblem)
			}
		})
	}
}

func TestS23_NodeSelector(t *testing.T) {
	in := MakeInput().Nodes(
		builder.Node("a").IP("10.0.0.1").Label("edge", "yes"),
		builder.Node("b").IP("10.0.0.2").Label("edge", "yes").Label("gpu", ""),
		builder.Node("c").IP("10.0.0.3"))
	in.Spec(func(s *v1alpha1.BalancerSpec) {
		s.Nodes.Selector = v1alpha1.LabelSelector{
			MatchLabels:      map[string]v1alpha1.LabelValue{"edge": "yes"},
			MatchExpressions: []v1alpha1.LabelSelectorRequirement{{Key: "gpu", Operator: metav1.LabelSelectorOpDoesNotExist}},
		}
	})
	if out := New().Translate(in.Input); !slices.Equal(names(out), []string{"a"}) {
		t.Errorf("nodes %v, want a", names(out))
	}
}

// A selector that cannot be read leaves the one before it in force. Where none is known,
// nothing is.
func TestSelectorsThatCannotBeRead(t *testing.T) {
	in := MakeInput(web()).Nodes(builder.Node("a").IP("10.0.0.1").Label("edge", "yes"), builder.Node("c").IP("10.0.0.3"))
	for name, bad := range map[string]v1alpha1.LabelSelector{
		"operator": {MatchExpressions: []v1alpha1.LabelSelectorRequirement{{Key: "edge", Operator: "in", Values: []v1alpha1.LabelValue{"yes"}}}},
		"values":   {MatchExpressions: []v1alpha1.LabelSelectorRequirement{{Key: "edge", Operator: "In"}}},
		"key":      {MatchLabels: map[string]v1alpha1.LabelValue{"-": "yes"}},
		"value":    {MatchLabels: map[string]v1alpha1.LabelValue{"edge": "-"}},
	} {
		for was, want := range map[string][]string{
			"edge=yes": {"a"}, "edge in (yes),!gpu": {"a"}, "": {"a", "c"}, "edge": {"a"}, "!edge": {"c"},
		} {
			t.Run(name+" after "+was, func(t *testing.T) {
				in.Balancer.Spec.Nodes.Selector, in.Balancer.Status.NodeSelector = bad, &was
				out := New().Translate(in.Input)
				if !slices.Equal(names(out), want) || out.NodesProblem != nil {
					t.Errorf("nodes %v, want %v; problem %+v", names(out), want, out.NodesProblem)
				}
				if p := out.Unread; p == nil || p.Fatal || p.Reason != v1alpha1.ReasonInvalid || !strings.Contains(p.Message, "spec.nodes.selector") {
					t.Errorf("unread: %+v", p)
				}
			})
		}
		for what, was := range map[string]*string{"nothing": nil, "garbage": new("edge in")} {
			t.Run(name+" after "+what, func(t *testing.T) {
				in.Balancer.Spec.Nodes.Selector, in.Balancer.Status.NodeSelector = bad, was
				out := New().Translate(in.Input)
				if p := out.Unread; p == nil || !p.Fatal || out.NodesProblem != p || len(names(out)) > 0 {
					t.Errorf("unread %+v, problem %+v, nodes %v", p, out.NodesProblem, names(out))
				}
			})
		}
	}
}

func TestS24_WhatIsNoReasonToLook(t *testing.T) {
	before := func() *builder.NodeBuilder { return builder.Node("n").IP("10.0.0.1").Label("a", "b") }
	tainted := func() *builder.NodeBuilder { return before().Taint(toBeDeleted) }
	for name, tc := range map[string]struct {
		before, after *builder.NodeBuilder
		same          bool
	}{
		"nothing":                    {before(), before(), true},
		"not ready":                  {before(), before().NotReady(), true},
		"tainted by the autoscaler":  {before(), tainted(), true},
		"tainted by somebody else":   {before(), before().Taint("x"), true},
		"spared by the autoscaler":   {tainted(), before(), false},
		"still tainted":              {tainted(), tainted().NotReady(), true},
		"deleted":                    {before(), before().Deleting(), false},
		"tainted, then deleted":      {tainted(), tainted().Deleting(), false},
		"cordoned":                   {before(), before().Cordoned(), false},
		"labelled":                   {before(), before().Label(exclude, ""), false},
		"weighed":                    {before(), before().Annotate(v1alpha1.WeightAnnotation, "3"), false},
		"annotated otherwise":        {before(), before().Annotate("a", "b"), true},
		"S25 another address":        {before(), before().IP("fd00::1"), false},
		"S25 a host name, not an IP": {before(), before().Address(corev1.NodeHostName, "n"), false},
	} {
		t.Run(name, func(t *testing.T) {
			if same := SameNode(tc.before.Obj(), tc.after.Obj()); same != tc.same {
				t.Errorf("same: %v, want %v", same, tc.same)
			}
		})
	}
}

// A cordoned node stays among the nodes. That it drains is the Balancer's to say.
func TestACordonedNode(t *testing.T) {
	for cordoned, want := range map[v1alpha1.Cordoned]bool{"": false, v1alpha1.CordonedKeep: false, v1alpha1.CordonedDrain: true} {
		in := MakeInput().Nodes(builder.Node("n1").IP("10.0.0.1").Cordoned(), builder.Node("n2").IP("10.0.0.2"))
		in.Balancer.Spec.Nodes.Cordoned = cordoned
		got := New().Translate(in.Input).Config.Nodes
		if len(got) != 2 || got[0].Draining != want || got[1].Draining {
			t.Errorf("cordoned: %q: %+v", cordoned, got)
		}
	}
}

// New nodes that are not Ready yet do not take what a cordoned pool has.
func TestACordonedPoolServesUntilOthersAreReady(t *testing.T) {
	for name, tc := range map[string]struct {
		young *builder.NodeBuilder
		want  bool
	}{"ready": {builder.Node("n2"), true}, "not ready": {builder.Node("n2").NotReady(), false}} {
		in := MakeInput().Nodes(builder.Node("n1").IP("10.0.0.1").Cordoned(), tc.young.IP("10.0.0.2"))
		in.Balancer.Spec.Nodes.Cordoned = v1alpha1.CordonedDrain
		if got := New().Translate(in.Input).Config.Nodes; len(got) != 2 || got[0].Draining != tc.want {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

func TestWeightsOfNodes(t *testing.T) {
	for value, want := range map[string]uint16{"1": 1, "3": 3, "256": 256, "0": 0, "257": 0, "-1": 0, "": 0, "3; }": 0, "65537": 0} {
		in := MakeInput(web()).Nodes(builder.Node("a").IP("10.0.0.1").Annotate(v1alpha1.WeightAnnotation, value), builder.Node("b").IP("10.0.0.2"))
		out := New().Translate(in.Input)
		if got := out.Config.Nodes; len(got) != 2 || got[0].Weight != want || got[1].Weight != 0 {
			t.Errorf("%q: nodes %+v, want a weight of %d", value, got, want)
		}
		if told := strings.Contains(out.Unweighed, "of node a is"); told != (want == 0) {
			t.Errorf("%q: told %q", value, out.Unweighed)
		}
	}
}

func TestBackupNodes(t *testing.T) {
	in := func(engine v1alpha1.Engine, backup v1alpha1.LabelSelector) Output {
		in := MakeInput(web()).Nodes(builder.Node("a").IP("10.0.0.1").Label("tier", "spare"), builder.Node("b").IP("10.0.0.2"))
		return New().Translate(in.Spec(func(s *v1alpha1.BalancerSpec) { s.Engine, s.Nodes.Backup = engine, backup }).Input)
	}
	spare := v1alpha1.LabelSelector{MatchLabels: map[string]v1alpha1.LabelValue{"tier": "spare"}}
	if out := in(v1alpha1.EngineHAProxy, spare); !out.Config.Nodes[0].Backup || out.Config.Nodes[1].Backup || out.Unbacked != "" || out.Unread != nil {
		t.Errorf("nodes %+v, told %q, %v", out.Config.Nodes, out.Unbacked, out.Unread)
	}
	if out := in(v1alpha1.EngineLVS, spare); !strings.HasPrefix(out.Unbacked, "spec.nodes.backup: ") {
		t.Errorf("LVS: told %q", out.Unbacked)
	}
	if out := in(v1alpha1.EngineLVS, v1alpha1.LabelSelector{}); out.Config.Nodes[0].Backup || out.Unbacked != "" {
		t.Errorf("nothing is asked for: nodes %+v, told %q", out.Config.Nodes, out.Unbacked)
	}
	unread := v1alpha1.LabelSelector{MatchExpressions: []v1alpha1.LabelSelectorRequirement{{Key: "tier", Operator: "Of"}}}
	if out := in(v1alpha1.EngineHAProxy, unread); out.Config.Nodes[0].Backup || out.Unread == nil || out.Unread.Fatal || !strings.Contains(out.Unread.Message, "spec.nodes.backup") {
		t.Errorf("a selector that cannot be read: nodes %+v, told %+v", out.Config.Nodes, out.Unread)
	}
}

// With a bound on nodes, those that wait are bounded by themselves.
func TestBackupNodesOfALocalServiceAreBounded(t *testing.T) {
	in := MakeInput(on(service("web").Local(30999).PortOf(corev1.ProtocolTCP, 80, 30080), "192.0.2.1")).
		Nodes(builder.Node("a").IP("10.0.0.1"), builder.Node("b").IP("10.0.0.2"), builder.Node("w").IP("10.0.0.3").Label("tier", "spare"), builder.Node("x").IP("10.0.0.4").Label("tier", "spare")).
		Slices("web", slice("web-1", discoveryv1.AddressTypeIPv4).Ready("a", "b", "w", "x"))
	in.Spec(func(s *v1alpha1.BalancerSpec) {
		s.Engine, s.Nodes.MaxPerService = v1alpha1.EngineHAProxy, 1
		s.Nodes.Backup.MatchLabels = map[string]v1alpha1.LabelValue{"tier": "spare"}
	})
	nodes := New().Translate(in.Input).Config.Services[0].IPv4.Targets.Nodes
	if len(nodes) != 2 || nodes[0].Node > "b" || nodes[1].Node < "w" {
		t.Errorf("it is on %+v, want one of a and b, and one of w and x", nodes)
	}
}

func TestS25_BackendAddresses(t *testing.T) {
	const external = corev1.NodeExternalIP
	for name, tc := range map[string]struct {
		node   *builder.NodeBuilder
		v4, v6 string
	}{
		"none":                    {builder.Node("n"), "invalid IP", "invalid IP"},
		"the first internal":      {builder.Node("n").IP("10.0.0.1", "10.0.0.2"), "10.0.0.1", "invalid IP"},
		"internal, then external": {builder.Node("n").Address(external, "203.0.113.1").IP("10.0.0.1"), "10.0.0.1", "invalid IP"},
		"else external":           {builder.Node("n").Address(external, "203.0.113.1", "203.0.113.2"), "203.0.113.1", "invalid IP"},
		"each family by itself":   {builder.Node("n").Address(external, "2001:db8::1").IP("10.0.0.1"), "10.0.0.1", "2001:db8::1"},
		"mapped":                  {builder.Node("n").IP("::ffff:10.0.0.1"), "10.0.0.1", "invalid IP"},
		"names are none":          {builder.Node("n").Address(corev1.NodeHostName, "10.0.0.1").Address(corev1.NodeInternalDNS, "10.0.0.2"), "invalid IP", "invalid IP"},
		"unparsable is skipped":   {builder.Node("n").IP("n.example", "010.0.0.1", "10.0.0.1:80", "unix:/var/run/docker.sock", "", "10.0.0.9"), "10.0.0.9", "invalid IP"},
		"no machine's address":    {builder.Node("n").IP("127.0.0.1", "0.0.0.0", "224.0.0.1", "255.255.255.255", "::1", "fe80::1", "fd00::9%eth0", "ff02::1").Address(external, "10.0.0.9"), "10.0.0.9", "invalid IP"},
	} {
		t.Run(name, func(t *testing.T) {
			v4, v6 := addresses(tc.node.Obj())
			if v4.String() != tc.v4 || v6.String() != tc.v6 {
				t.Errorf("%s and %s, want %s and %s", v4, v6, tc.v4, tc.v6)
			}
		})
	}
}

// The table follows, and no Service has to.
func TestS25_AddressesAreFollowed(t *testing.T) {
	remembers, in := New(), MakeInput(on(service("web").Port(80), "192.0.2.1")).Nodes(builder.Node("n1").IP("10.0.0.1"))
	before := remembers.Translate(in.Input).Config
	after := remembers.Translate(in.Nodes(builder.Node("n1").IP("10.0.0.7")).Input).Config
	if got := after.Nodes[0].IPv4.String(); got != "10.0.0.7" || before.Services[0] != after.Services[0] {
		t.Errorf("n1 has %s, the same Service: %t", got, before.Services[0] == after.Services[0])
	}
}

// They stay two in the table; the host makes one backend of them.
func TestTwoNodesWithOneAddressAreInTheTable(t *testing.T) {
	in := MakeInput(on(service("web").Port(80), "192.0.2.1")).Nodes(builder.Node("new").IP("10.0.0.1"), builder.Node("ghost").IP("10.0.0.1"))
	if got := names(New().Translate(in.Input)); !slices.Equal(got, []string{"ghost", "new"}) {
		t.Errorf("nodes %v", got)
	}
}

// Files may name a node twice; a table does not.
func TestANodeIsInTheTableOnce(t *testing.T) {
	in := MakeInput(web()).Nodes(builder.Node("n").IP("10.0.0.2"), builder.Node("n").IP("10.0.0.1"))
	if got := New().Translate(in.Input).Config.Nodes; len(got) != 1 || got[0].IPv4.String() != "10.0.0.1" {
		t.Errorf("nodes %v", got)
	}
}

func TestS26_EveryNodeIsExcludedByLabel(t *testing.T) {
	in := MakeInput(on(service("web").Port(80), "192.0.2.1")).Nodes(builder.Node("only").IP("10.0.0.1").Label(exclude, ""))
	out := New().Translate(in.Input)
	if p := out.NodesProblem; p == nil || p.Reason != v1alpha1.ReasonNoEligibleNodes || p.Fatal ||
		!strings.Contains(p.Message, exclude) || !strings.Contains(p.Message, "ignoreExcludeLabel") {
		t.Errorf("problem: %+v", p)
	}
	got := translated{out.Config.Services[0], out.Services["web-uid"]}
	got.want(t, "192.0.2.1:80/TCP -> 30080 on all")
	got.wantProblems(t, v1alpha1.ReasonNoEligibleNodes)
	in.Spec(func(s *v1alpha1.BalancerSpec) { s.Nodes.IgnoreExcludeLabel = true })
	got = in.Only(t)
	got.want(t, "192.0.2.1:80/TCP -> 30080 on all")
	got.wantProblems(t)
}

func TestS27_TheListenerStaysWithoutNodes(t *testing.T) {
	remembers, in := New(), MakeInput(on(service("web").Port(80), "192.0.2.1")).Nodes()
	out := remembers.Translate(in.Input)
	got := translated{out.Config.Services[0], out.Services["web-uid"]}
	got.want(t, "192.0.2.1:80/TCP -> 30080 on all")
	got.wantProblems(t, v1alpha1.ReasonNoEligibleNodes)
	out = remembers.Translate(in.Nodes(builder.Node("n1").IP("10.0.0.1")).Input)
	got = translated{out.Config.Services[0], out.Services["web-uid"]}
	got.want(t, "192.0.2.1:80/TCP -> 30080 on all")
	got.wantProblems(t)
}

func TestS27_NoNodeOfOneFamily(t *testing.T) {
	got := MakeInput(on(service("web").Port(80).Port(443), "192.0.2.1", "2001:db8::1")).Nodes(builder.Node("n1").IP("10.0.0.1")).Only(t)
	got.want(t,
		"192.0.2.1:80/TCP -> 30080 on all", "192.0.2.1:443/TCP -> 30443 on all",
		"[2001:db8::1]:80/TCP -> 30080 on all", "[2001:db8::1]:443/TCP -> 30443 on all")
	got.wantProblems(t, v1alpha1.ReasonNoEligibleNodes)
	if m := got.Problems[0].Message; !strings.Contains(m, "2001:db8::1") || !strings.Contains(m, "IPv6") {
		t.Errorf("message: %s", m)
	}
}

func TestS27_NodesWithoutAddresses(t *testing.T) {
	out := New().Translate(MakeInput().Nodes(builder.Node("n1")).Input)
	if p := out.NodesProblem; p == nil || !strings.Contains(p.Message, "InternalIP") {
		t.Errorf("problem: %+v", p)
	}
}

// manyNodes are n00, n01, …
func manyNodes(count int) []*builder.NodeBuilder {
	var nodes []*builder.NodeBuilder
	for i := range count {
		nodes = append(nodes, builder.Node(fmt.Sprintf("n%02d", i)).IP(fmt.Sprintf("10.0.0.%d", i+1), fmt.Sprintf("fd00::%x", i+1)))
	}
	return nodes
}

// nodesOf are the nodes that Local Services name.
func nodesOf(t *testing.T, in *inputBuilder) map[string][]string {
	t.Helper()
	out := map[string][]string{}
	for _, s := range New().Translate(in.Input).Config.Services {
		for _, n := range s.IPv4.Targets.Nodes {
			out[s.ID.Name] = append(out[s.ID.Name], n.Node)
		}
	}
	return out
}

func TestMaxPerServiceMovesLittle(t *testing.T) {
	const services, count, k = 200, 20, 3
	var list []Service
	for i := range services {
		list = append(list, on(service(fmt.Sprintf("s%03d", i)).Port(80).Local(32000), fmt.Sprintf("192.0.2.%d", i)))
	}
	in := MakeInput(list...).Nodes(manyNodes(count)...).Spec(func(s *v1alpha1.BalancerSpec) { s.Nodes.MaxPerService = k })
	for i := range services {
		endpoints := slice("a", discoveryv1.AddressTypeIPv4)
		for n := range count {
			endpoints.Ready(fmt.Sprintf("n%02d", n))
		}
		in.Slices(fmt.Sprintf("s%03d", i), endpoints)
	}
	before := nodesOf(t, in)
	load := map[string]int{}
	for name, nodes := range before {
		if len(nodes) != k {
			t.Fatalf("%s is on %v, want %d nodes", name, nodes, k)
		}
		for _, n := range nodes {
			load[n]++
		}
	}
	for n, l := range load { // 30 each would be even
		if l < 10 || l > 60 {
			t.Errorf("%s carries %d of %d", n, l, services*k)
		}
	}
	if len(load) != count {
		t.Errorf("only %d nodes carry anything", len(load))
	}
	after := nodesOf(t, in.Nodes(manyNodes(count)[1:]...)) // n00 is gone
	for name, nodes := range before {
		stayed := slices.DeleteFunc(slices.Clone(nodes), func(n string) bool { return n == "n00" || slices.Contains(after[name], n) })
		if len(stayed) > 0 {
			t.Errorf("%s left %v, which are still there", name, stayed)
		}
		if !slices.Contains(nodes, "n00") {
			if diff := cmp.Diff(nodes, after[name]); diff != "" {
				t.Errorf("%s moved without need:\n%s", name, diff)
			}
		}
	}
}

// The host chooses of the nodes of a Service that names none.
func TestMaxPerServiceOfAllNodesIsARule(t *testing.T) {
	in := MakeInput(on(service("web").Port(80), "192.0.2.1", "2001:db8::1")).Nodes(manyNodes(20)...)
	in.Spec(func(s *v1alpha1.BalancerSpec) { s.Nodes.MaxPerService = 3 }).Only(t).
		want(t, "192.0.2.1:80/TCP -> 30080 on 3 of all", "[2001:db8::1]:80/TCP -> 30080 on 3 of all")
	in.Spec(func(s *v1alpha1.BalancerSpec) { s.Nodes.MaxPerService = -1 }).Only(t). // from a file
											want(t, "192.0.2.1:80/TCP -> 30080 on all", "[2001:db8::1]:80/TCP -> 30080 on all")
}
