package conditions

import (
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/deliver"
	"github.com/external-lb/external-lb/internal/ipam"
	"github.com/external-lb/external-lb/internal/lb"
	"github.com/external-lb/external-lb/internal/plan"
	"github.com/external-lb/external-lb/internal/translate"
	"github.com/external-lb/external-lb/test/builder"
)

// facts of a Balancer of generation 7, with some hosts.
func facts(states ...deliver.State) Balancer {
	b := builder.Balancer("edge").Obj()
	b.Generation = 7
	claims := plan.NewClaims([]*v1alpha1.Balancer{b}, nil, nil)
	return Balancer{Object: b, Claims: claims, Plan: &plan.Plan{}, Delivered: true, States: states}
}

// said before, of generation 6: everything was well.
func (b Balancer) said() Balancer {
	for _, c := range []metav1.Condition{
		{Type: v1alpha1.ConditionProgrammed, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonProgrammed, Message: "before"},
		{Type: v1alpha1.ConditionDegraded, Status: metav1.ConditionFalse, Reason: v1alpha1.ReasonHealthy, Message: "before"},
	} {
		c.ObservedGeneration = 6
		meta.SetStatusCondition(&b.Object.Status.Conditions, c)
	}
	return b
}

func (b Balancer) with(change func(*Balancer)) Balancer { change(&b); return b }

func TestBalancerConditions(t *testing.T) {
	well := deliver.State{Host: "lb1", State: v1alpha1.HostInSync}
	on := func(state v1alpha1.HostState, message string) deliver.State {
		return deliver.State{Host: "lb2", State: state, Message: message}
	}
	refuses := func(key lb.Key, words string) deliver.State {
		return deliver.State{Host: "lb2", State: v1alpha1.HostPartial, Refused: []lb.Refusal{{Key: key, Message: words}}}
	}
	fails := func(reason deliver.Reason) deliver.State {
		return deliver.State{Host: "lb3", State: v1alpha1.HostFailed, Reason: reason, Message: string(reason)}
	}
	renders := func(name, version, renderer string) deliver.State {
		return deliver.State{Host: name, State: v1alpha1.HostInSync, Version: version, Renderer: renderer}
	}
	uses := func(percent int) deliver.State {
		s := well
		s.Uses.Connections.Used, s.Uses.Connections.Limit = percent, 100
		return s
	}
	told := func(b Balancer) Balancer {
		b.Object.Status.Hosts = []v1alpha1.HostStatus{{Name: "lb1", Notes: []v1alpha1.HostNote{{Reason: v1alpha1.NoteConnections, Message: "before"}}}}
		return b
	}
	broken := well
	broken.Templates = "service.conf.tmpl:3: unexpected {{end}}"
	unread := &translate.Problem{Reason: v1alpha1.ReasonInvalid, Message: "spec.nodes.selector", Fatal: true}
	unknown := func(b *Balancer) { b.Plan.NodesProblem, b.Plan.Unread, b.Delivered = unread, unread, false }
	const accepted, programmed, degraded = v1alpha1.ConditionAccepted, v1alpha1.ConditionProgrammed, v1alpha1.ConditionDegraded
	for name, c := range map[string]struct {
		facts Balancer
		kind  string
		// want is the status, the reason and the generation that it is about.
		status     metav1.ConditionStatus
		reason     string
		generation int64
		words      string
		ready      metav1.ConditionStatus
	}{
		"all is well":         {facts(well), programmed, "True", v1alpha1.ReasonProgrammed, 7, "", "True"},
		"and not degraded":    {facts(well), degraded, "False", v1alpha1.ReasonHealthy, 7, "", "True"},
		"first delivery":      {facts(on(v1alpha1.HostDelivering, "")), programmed, "False", v1alpha1.ReasonPending, 7, "", "False"},
		"another delivery":    {facts(on(v1alpha1.HostDelivering, "")).said(), programmed, "True", v1alpha1.ReasonProgrammed, 6, "before", "True"},
		"and no news":         {facts(on(v1alpha1.HostDelivering, "")).said(), degraded, "False", v1alpha1.ReasonHealthy, 6, "before", "True"},
		"failed":              {facts(on(v1alpha1.HostFailed, "disk full")), programmed, "False", v1alpha1.ReasonHostsFailed, 7, "disk full", "False"},
		"out of reach":        {facts(on(v1alpha1.HostUnreachable, "no route")), programmed, "False", v1alpha1.ReasonHostsUnreachable, 7, "no route", "False"},
		"one is out of reach": {facts(well, on(v1alpha1.HostUnreachable, "no route")), degraded, "True", v1alpha1.ReasonHostsUnreachable, 7, "no route", "True"},
		"it is taken out": {facts(well, on(v1alpha1.HostUnreachable, "no route")).with(func(b *Balancer) {
			b.Object.Spec.Hosts = []v1alpha1.Host{{Name: "lb1"}, {Name: b.States[1].Host, Drain: true}}
		}), degraded, "False", v1alpha1.ReasonHealthy, 7, "", "True"},
		"two true leaders":      {facts(well, on(v1alpha1.HostUnreachable, "no route"), fails(deliver.ReasonContested)), degraded, "True", v1alpha1.ReasonContested, 7, "no route; lb3 is Failed: Contested", "True"},
		"a stolen term":         {facts(well, fails(deliver.ReasonTermJump)), degraded, "True", v1alpha1.ReasonContested, 7, "lb3 is Failed: TermJump", "True"},
		"another cluster":       {facts(well, fails(deliver.ReasonOtherCluster), on(v1alpha1.HostUnreachable, "no route")), degraded, "True", v1alpha1.ReasonOtherCluster, 7, "lb3 is Failed: OtherCluster", "True"},
		"another cluster alone": {facts(fails(deliver.ReasonOtherCluster)), programmed, "False", v1alpha1.ReasonHostsFailed, 7, "lb3 is Failed", "False"},
		"a Service is refused":  {facts(well, refuses(web, "bad")), degraded, "True", v1alpha1.ReasonServicesRefused, 7, "default/web", "True"},
		"an address is refused": {facts(well, refuses(lb.AddressKey(address), "not admitted")), degraded, "True", v1alpha1.ReasonItemsRefused, 7, "lb2: address 192.0.2.1: not admitted", "True"},
		"a node is refused":     {facts(well, refuses(lb.NodeKey("n1"), "loopback")), degraded, "True", v1alpha1.ReasonItemsRefused, 7, "lb2: node n1: loopback", "True"},
		"broken templates":      {facts(broken), degraded, "True", v1alpha1.ReasonTemplatesInvalid, 7, "lb1: service.conf.tmpl:3: unexpected {{end}}", "True"},
		"versions differ":       {facts(renders("lb1", "v1", "a"), renders("lb2", "v2", "a")), degraded, "True", v1alpha1.ReasonHostsDiffer, 7, "lb2 has external-lb v2", "True"},
		"ports are held":        {facts(renders("lb1", "v1", "a.1"), renders("lb2", "v1", "a.2")), degraded, "False", v1alpha1.ReasonHealthy, 7, "", "True"},
		"templates differ":      {facts(renders("lb1", "v1", "a"), renders("lb2", "v1", "b")), degraded, "True", v1alpha1.ReasonHostsDiffer, 7, "renders with b", "True"},
		"one did not tell yet":  {facts(renders("lb1", "v1", ""), renders("lb2", "v1", "a")), degraded, "False", v1alpha1.ReasonHealthy, 7, "", "True"},
		"hosts are alike":       {facts(renders("lb1", "v1", "a"), renders("lb2", "v1", "a"), on(v1alpha1.HostInSync, "")), degraded, "False", v1alpha1.ReasonHealthy, 7, "", "True"},
		"nearly full":           {facts(uses(80)), degraded, "True", v1alpha1.ReasonHostsCrowded, 7, "connections of lb1. `external-lb host status` there", "True"},
		"not nearly full":       {facts(uses(79)), degraded, "False", v1alpha1.ReasonHealthy, 7, "", "True"},
		"a little less":         {told(facts(uses(79))), degraded, "True", v1alpha1.ReasonHostsCrowded, 7, "connections of lb1", "True"},
		"much less":             {told(facts(uses(69))), degraded, "False", v1alpha1.ReasonHealthy, 7, "", "True"},
		"a Secret is unread": {facts(well).with(func(b *Balancer) { b.Unread = []string{"default/web: no key"} }), degraded, "True",
			v1alpha1.ReasonSecretsUnreadable, 7, "default/web: no key. What was read of them last is served", "True"},
		"and was never read": {facts(well).said().with(func(b *Balancer) { b.Unread, b.Delivered = []string{"default/web: no key"}, false }), degraded, "True",
			v1alpha1.ReasonSecretsUnreadable, 7, "hosts go on with what they carry", "True"},
		"two things are wrong": {facts(broken, on(v1alpha1.HostUnreachable, "no route")), degraded, "True", v1alpha1.ReasonHostsUnreachable, 7, "no route; lb1: service.conf", "True"},
		"which nodes, unknown": {facts(well).said().with(unknown),
			accepted, "False", v1alpha1.ReasonInvalid, 7, "spec.nodes.selector", "False"},
		"which nodes, from before": {facts(well).said().with(func(b *Balancer) { b.Plan.Unread = unread }),
			accepted, "False", v1alpha1.ReasonInvalid, 7, "spec.nodes.selector", "False"},
		"so all of it was delivered": {facts(well).said().with(func(b *Balancer) { b.Plan.Unread = unread }),
			programmed, "True", v1alpha1.ReasonProgrammed, 7, "enough hosts", "False"},
		"so nothing was delivered": {facts(well).said().with(unknown),
			programmed, "True", v1alpha1.ReasonProgrammed, 6, "before", "False"},
		"nor ever": {facts(well).with(unknown),
			programmed, "False", v1alpha1.ReasonPending, 7, "", "False"},
		"a weight that is none": {facts(well).with(func(b *Balancer) { b.Plan.Unweighed = "node a" }),
			accepted, "True", v1alpha1.ReasonAccepted, 7, "in force; node a", "True"},
		"nodes that cannot wait": {facts(well).with(func(b *Balancer) { b.Plan.Unbacked = "spec.nodes.backup: no" }),
			accepted, "True", v1alpha1.ReasonAccepted, 7, "in force; spec.nodes.backup: no", "True"},
		"settings that are not in force": {facts(well).with(func(b *Balancer) { b.Plan.Unsupported = []string{"mode=HTTP: no"} }),
			accepted, "True", v1alpha1.ReasonUnsupported, 7, "without these settings of spec.defaults: mode=HTTP: no", "True"},
		"the API servers are refused": {facts(well, refuses(lb.ServiceKey(lb.ControlPlane), "not admitted")),
			degraded, "True", v1alpha1.ReasonItemsRefused, 7, "lb2: the control plane: not admitted", "True"},
		"an API server is refused": {facts(well, refuses(lb.ServerKey("cp1"), "not admitted")),
			degraded, "True", v1alpha1.ReasonItemsRefused, 7, "lb2: apiserver cp1: not admitted", "True"},
		"no API server is known": {facts(well).with(func(b *Balancer) {
			b.Plan.ControlPlane = &translate.Problem{Reason: v1alpha1.ReasonNoAPIServers, Message: "no label"}
		}),
			degraded, "True", v1alpha1.ReasonNoAPIServers, 7, "no label", "True"},
		"a provider refuses the token": {facts(on(v1alpha1.HostUnreachable, "token")).with(func(b *Balancer) {
			b.Object.Spec.Provider, b.Delivered = &v1alpha1.Provider{}, false
			meta.SetStatusCondition(&b.Object.Status.Conditions, metav1.Condition{
				Type: programmed, Status: "False", Reason: v1alpha1.ReasonPending, Message: "lb2 is Connecting"})
		}),
			programmed, "False", v1alpha1.ReasonPending, 7, "lb2 is Unreachable: token", "False"},
		"being deleted": {facts(well).with(func(b *Balancer) { b.Object.DeletionTimestamp = new(metav1.Now()) }),
			accepted, "False", v1alpha1.ReasonWithdrawing, 7, "being deleted", "False"},
	} {
		t.Run(name, func(t *testing.T) {
			all := c.facts.Conditions()
			got := meta.FindStatusCondition(all, c.kind)
			if got == nil || got.Status != c.status || got.Reason != c.reason || got.ObservedGeneration != c.generation ||
				!strings.Contains(got.Message, c.words) {
				t.Errorf("%+v", got)
			}
			if ready := meta.FindStatusCondition(all, v1alpha1.ConditionReady); ready.Status != c.ready || ready.Reason == "" {
				t.Errorf("%+v", ready)
			}
		})
	}
}

// Ready never says of a generation what was seen of another.
func TestReadyIsAboutTheOldest(t *testing.T) {
	at := func(generation int64, status metav1.ConditionStatus) metav1.Condition {
		return metav1.Condition{Status: status, Reason: "R", ObservedGeneration: generation}
	}
	for want, c := range map[int64]metav1.Condition{
		6: ready(at(7, "True"), at(6, "True")),
		7: ready(at(7, "False"), at(6, "True")),
		5: ready(at(7, "True"), at(5, "False")),
	} {
		if c.ObservedGeneration != want {
			t.Errorf("%+v, want generation %d", c, want)
		}
	}
}

// What was said of a host stays while nothing else is known.
func TestHostsAfterARestart(t *testing.T) {
	b := builder.Balancer("edge").Hosts(v1alpha1.Host{Name: "lb1"}, v1alpha1.Host{Name: "lb2", Drain: true}).Obj()
	b.Status.Hosts = []v1alpha1.HostStatus{
		{Name: "lb1", State: v1alpha1.HostInSync, DesiredDigest: "0123456789ab", LastAppliedTime: &metav1.Time{}},
	}
	got := Hosts(b, []deliver.State{
		{Host: "lb1", State: v1alpha1.HostConnecting, Desired: "0123456789abcdef"},
		{Host: "lb2", State: v1alpha1.HostConnecting},
	})
	if got[0].State != v1alpha1.HostInSync || got[1].State != v1alpha1.HostConnecting || !got[1].Draining {
		t.Errorf("%+v", got)
	}
	got = Hosts(b, []deliver.State{{Host: "lb1", State: v1alpha1.HostDelivering, Desired: "another"}})
	if got[0].State != v1alpha1.HostDelivering || got[0].LastAppliedTime == nil {
		t.Errorf("%+v", got)
	}
}

// Which host has the addresses is told where they move, and not of one that does not answer any more.
func TestHostsWithTheAddresses(t *testing.T) {
	b := builder.Balancer("edge").Hosts(v1alpha1.Host{Name: "lb1"}, v1alpha1.Host{Name: "lb2"}, v1alpha1.Host{Name: "lb3"}).Obj()
	states := []deliver.State{
		{Host: "lb1", State: v1alpha1.HostInSync, Active: true}, {Host: "lb2", State: v1alpha1.HostInSync}, {Host: "lb3", State: v1alpha1.HostUnreachable, Active: true},
	}
	for mode, want := range map[v1alpha1.VirtualAddressMode][]bool{v1alpha1.VRRP: {true, false, false}, v1alpha1.Static: {false, false, false}} {
		b.Spec.VirtualAddresses.Mode = mode
		for i, h := range Hosts(b, states) {
			if h.Active != want[i] {
				t.Errorf("%s: %s is active: %t", mode, h.Name, h.Active)
			}
		}
	}
}

func TestPoolConditions(t *testing.T) {
	p := builder.AddressPool("public").Obj()
	p.Generation = 3
	note := &ipam.Problem{Reason: v1alpha1.ReasonHeldElsewhere, Message: "note"}
	problem := &ipam.Problem{Reason: v1alpha1.ReasonOverlap, Message: "problem"}
	for name, c := range map[string]struct {
		pool   Pool
		status metav1.ConditionStatus
		reason string
	}{
		"in force":      {Pool{Object: p}, "True", v1alpha1.ReasonAccepted},
		"with a note":   {Pool{Object: p, Note: note}, "True", v1alpha1.ReasonHeldElsewhere},
		"not in force":  {Pool{Object: p, Problem: problem}, "False", v1alpha1.ReasonOverlap},
		"both of these": {Pool{Object: p, Problem: problem, Note: note}, "False", v1alpha1.ReasonOverlap},
	} {
		for _, got := range c.pool.Conditions() {
			if got.Type == v1alpha1.ConditionStalled {
				continue
			}
			if got.Status != c.status || got.Reason != c.reason || got.ObservedGeneration != 3 {
				t.Errorf("%s: %+v", name, got)
			}
		}
	}
}

func TestPolicySumsUpItsTargets(t *testing.T) {
	p := builder.UpstreamPolicy("default", "p").Obj()
	p.Generation = 4
	target := func(kind string, status metav1.ConditionStatus, message string) v1alpha1.PolicyTargetStatus {
		c := metav1.Condition{Type: kind, Status: status, Reason: "R", Message: message, ObservedGeneration: 4}
		return v1alpha1.PolicyTargetStatus{Conditions: []metav1.Condition{c}}
	}
	good, bad := target(v1alpha1.ConditionAccepted, "True", "in force"), target(v1alpha1.ConditionAccepted, "False", "no such Service")
	conflicted := target(v1alpha1.ConditionConflicted, "True", "an older policy decides")
	for name, c := range map[string]struct {
		targets []v1alpha1.PolicyTargetStatus
		ready   metav1.ConditionStatus
		message string
	}{
		"all in force":   {[]v1alpha1.PolicyTargetStatus{good, good}, "True", ""},
		"one is not":     {[]v1alpha1.PolicyTargetStatus{good, bad, good}, "False", "no such Service"},
		"one conflicted": {[]v1alpha1.PolicyTargetStatus{good, conflicted}, "True", "an older policy decides"},
	} {
		got := Policy(p, c.targets)
		if got.Message != c.message || got.Accepted != string(c.ready) || got.ObservedGeneration != 4 {
			t.Errorf("%s: %+v", name, got)
		}
		if is := got.Conditions[0]; is.Type != v1alpha1.ConditionReady || is.Status != c.ready || is.ObservedGeneration != 4 || is.Reason == "" {
			t.Errorf("%s: %+v", name, is)
		}
	}
}
