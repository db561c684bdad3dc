package conditions_test

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/conditions"
	"github.com/external-lb/external-lb/internal/deliver"
	"github.com/external-lb/external-lb/internal/host"
	"github.com/external-lb/external-lb/internal/lb"
	"github.com/external-lb/external-lb/test/builder"
)

var seenWeb = lb.ID{Namespace: "default", Name: "web", UID: "uid-1"}

// listener at a port: so many nodes are up, and these are down.
func listener(port uint16, up int, down ...string) host.Traffic {
	t := host.Traffic{}
	t.Service, t.Listener = seenWeb, lb.Listener{Address: netip.MustParseAddr("192.0.2.1"), Port: port, Protocol: lb.TCP}
	t.Up, t.Down = up, len(down)
	for _, n := range down {
		if len(t.Named) < host.MaxNamed {
			t.Named = append(t.Named, host.DownNode{Node: n, For: host.Unknown})
		}
	}
	return t
}

func sees(name string, all ...host.Traffic) deliver.State {
	return deliver.State{Host: name, Seen: &deliver.Seen{At: time.Unix(1, 0), Traffic: all}}
}

func TestBackendsHealthy(t *testing.T) {
	had := []metav1.Condition{{Type: v1alpha1.ConditionBackendsHealthy, Status: metav1.ConditionFalse, Message: "lb2: down: n1"}}
	others := []metav1.Condition{{Type: v1alpha1.ConditionBackendsHealthy, Status: metav1.ConditionFalse, Message: "lb1: down: n1"}}
	silent := deliver.State{Host: "lb2"}
	stuck := deliver.State{Host: "lb2", Seen: &deliver.Seen{Message: "the daemon is stuck"}}
	for name, tc := range map[string]struct {
		states  []deliver.State
		have    []metav1.Condition
		unknown bool
		status  metav1.ConditionStatus
		reason  string
		words   string
	}{
		"nobody says anything":         {states: []deliver.State{silent}, have: had, unknown: true},
		"a daemon that is stuck":       {states: []deliver.State{stuck}, have: had, unknown: true},
		"nobody judges nodes":          {states: []deliver.State{sees("lb1", listener(80, 0))}, have: had},
		"all are up, as always":        {states: []deliver.State{sees("lb1", listener(80, 2))}},
		"all are up again":             {states: []deliver.State{sees("lb1", listener(80, 2))}, have: had, status: metav1.ConditionTrue, reason: v1alpha1.ReasonAllNodesUp},
		"up, as one of two hosts says": {states: []deliver.State{sees("lb1", listener(80, 2)), silent}, have: had, unknown: true},
		"up, as who said otherwise says": {states: []deliver.State{sees("lb1", listener(80, 2)), silent}, have: others,
			status: metav1.ConditionTrue, reason: v1alpha1.ReasonAllNodesUp},
		"some are down": {
			states: []deliver.State{sees("lb1", listener(80, 1, "n1")), sees("lb2", listener(80, 2))},
			status: metav1.ConditionFalse, reason: v1alpha1.ReasonSomeNodesDown, words: "lb1: down: n1",
		},
		"down on one host of two": {
			states: []deliver.State{sees("lb1", listener(80, 0, "n1")), sees("lb2", listener(80, 1))},
			status: metav1.ConditionFalse, reason: v1alpha1.ReasonSomeNodesDown, words: "lb1: down: n1",
		},
		"all are down": {
			states: []deliver.State{sees("lb1", listener(80, 0, "n1", "n2")), sees("lb2", listener(80, 0, "n1"))},
			status: metav1.ConditionFalse, reason: v1alpha1.ReasonNoNodeUp,
			words: "no node is up for 192.0.2.1:80/TCP; lb1: down: n1, n2; lb2: down: n1",
		},
		"one port has none": {
			states: []deliver.State{sees("lb1", listener(80, 2), listener(443, 0, "n1", "n2"))},
			status: metav1.ConditionFalse, reason: v1alpha1.ReasonNoNodeUp, words: "no node is up for 192.0.2.1:443/TCP; lb1: down: n1, n2",
		},
		"many": {
			states: []deliver.State{sees("lb1", listener(80, 1, strings.Split("a b c d e f g h i j", " ")...))},
			status: metav1.ConditionFalse, reason: v1alpha1.ReasonSomeNodesDown, words: "lb1: down: a, b, c, d, e, f, g, h and 2 more",
		},
		"hosts that are drained do not count": {
			states: []deliver.State{sees("lb1", listener(80, 2)), sees("drained", listener(80, 0, "n1"))}, have: had,
			status: metav1.ConditionTrue, reason: v1alpha1.ReasonAllNodesUp,
		},
	} {
		b := builder.Balancer("edge").Hosts(v1alpha1.Host{Name: "lb1"}, v1alpha1.Host{Name: "lb2"}, v1alpha1.Host{Name: "drained", Drain: true}).Obj()
		c, known := conditions.NewBackends(b, tc.states).Of(lb.ServiceKey(seenWeb), false, tc.have)
		if known == tc.unknown || known && (c.Status != tc.status || c.Reason != tc.reason || !strings.HasPrefix(c.Message, tc.words)) {
			t.Errorf("%s: known %t, %+v", name, known, c)
		}
	}
}

// A cloud does not tell what it sees: what hosts have told before a Service moved to a provider goes.
func TestBackendsHealthy_OfAProvider(t *testing.T) {
	had := []metav1.Condition{{Type: v1alpha1.ConditionBackendsHealthy, Status: metav1.ConditionFalse, Message: "lb1: down: n1"}}
	b := builder.Balancer("edge").Obj()
	b.Spec.Provider = &v1alpha1.Provider{}
	if c, known := conditions.NewBackends(b, []deliver.State{{Host: "provider"}}).Of(lb.ServiceKey(seenWeb), false, had); !known || c.Status != "" {
		t.Errorf("known %t, %+v", known, c)
	}
}

// Which pods are down, and how many, is another with every roll-out: it is not told.
func TestBackendsHealthy_OfPods(t *testing.T) {
	had := []metav1.Condition{{Type: v1alpha1.ConditionBackendsHealthy, Status: metav1.ConditionFalse, Message: "lb1: down: some of its pods"}}
	for name, tc := range map[string]struct {
		states  []deliver.State
		have    []metav1.Condition
		unknown bool
		status  metav1.ConditionStatus
		message string
	}{
		"all are up, as always": {states: []deliver.State{sees("lb1", listener(80, 2))}},
		"some are down":         {states: []deliver.State{sees("lb1", listener(80, 1, "10.244.0.1"))}, status: metav1.ConditionFalse, message: "lb1: down: some of its pods"},
		"more are":              {states: []deliver.State{sees("lb1", listener(80, 1, "10.244.0.2", "10.244.0.3"))}, have: had, status: metav1.ConditionFalse, message: "lb1: down: some of its pods"},
		"none is up":            {states: []deliver.State{sees("lb1", listener(80, 0, "10.244.0.1"))}, status: metav1.ConditionFalse, message: "no pod is up for 192.0.2.1:80/TCP"},
		"all are up again":      {states: []deliver.State{sees("lb1", listener(80, 2))}, have: had, status: metav1.ConditionTrue, message: "every host that tells says that all pods are up"},
		"who said so is silent": {states: []deliver.State{{Host: "lb1"}, sees("lb2", listener(80, 2))}, have: had, unknown: true},
	} {
		b := builder.Balancer("edge").Hosts(v1alpha1.Host{Name: "lb1"}, v1alpha1.Host{Name: "lb2"}).Obj()
		c, known := conditions.NewBackends(b, tc.states).Of(lb.ServiceKey(seenWeb), true, tc.have)
		if known == tc.unknown || known && (c.Status != tc.status || c.Message != tc.message) {
			t.Errorf("%s: known %t, %+v", name, known, c)
		}
	}
}
