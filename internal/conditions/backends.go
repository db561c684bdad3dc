package conditions

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/deliver"
	"github.com/external-lb/external-lb/internal/host"
	"github.com/external-lb/external-lb/internal/lb"
)

// Backends are what the hosts of a Balancer say of the nodes behind its Services.
type Backends struct {
	silent []string // hosts that do not say anything now
	hosts  []hostBackends
}

type hostBackends struct {
	name string
	seen *deliver.Seen
	of   map[lb.Key][]*host.Traffic
}

// NewBackends takes what the hosts that serve say.
func NewBackends(b *v1alpha1.Balancer, states []deliver.State) *Backends {
	out := &Backends{}
	if b.Spec.Provider != nil {
		return out // nothing is known of what its cloud sees
	}
	for _, s := range serving(b, states) {
		if s.Seen == nil || s.Seen.Message != "" {
			out.silent = append(out.silent, s.Host)
			continue
		}
		h := hostBackends{s.Host, s.Seen, map[lb.Key][]*host.Traffic{}}
		for i := range s.Seen.Traffic {
			t := &s.Seen.Traffic[i]
			if t.Up+t.Down > 0 {
				key := lb.ServiceKey(t.Service)
				h.of[key] = append(h.of[key], t)
			}
		}
		out.hosts = append(out.hosts, h)
	}
	return out
}

// Of is the condition of a Service that has some already; one with Status "" should not
// be there. It is not known where no host says anything of the Service now that could.
//
// Of pods it is told that some are down, or that none is up: which, and how many, is another
// with every roll-out.
func (b *Backends) Of(key lb.Key, pods bool, have []metav1.Condition) (c metav1.Condition, known bool) {
	c.Type = v1alpha1.ConditionBackendsHealthy
	var words []string
	dead, told := b.dead(key), false
	for _, h := range b.hosts {
		if len(h.of[key]) > 0 {
			told = true
		}
		if text := h.down(h.of[key], len(dead) > 0); text != "" {
			if pods {
				text = "down: some of its pods"
			}
			words = append(words, h.name+": "+text)
		}
	}
	is := meta.FindStatusCondition(have, c.Type)
	switch {
	case !told:
		return c, len(b.silent) == 0 // else no host judges nodes: it is not there
	case len(dead) > 0 && pods:
		c.Status, c.Reason, c.Message = metav1.ConditionFalse, v1alpha1.ReasonNoNodeUp, "no pod is up for "+strings.Join(dead, ", ")
	case len(dead) > 0:
		c.Status, c.Reason = metav1.ConditionFalse, v1alpha1.ReasonNoNodeUp
		c.Message = "no node is up for " + strings.Join(dead, ", ") + "; " + strings.Join(words, "; ")
	case len(words) > 0:
		c.Status, c.Reason = metav1.ConditionFalse, v1alpha1.ReasonSomeNodesDown
		c.Message = strings.Join(words, "; ")
	case is != nil && slices.ContainsFunc(b.silent, func(host string) bool { return strings.Contains(is.Message, host+": down") }):
		return c, false // who said so may see it as before
	case is != nil && pods:
		c.Status, c.Reason, c.Message = metav1.ConditionTrue, v1alpha1.ReasonAllNodesUp, "every host that tells says that all pods are up"
	case is != nil:
		c.Status, c.Reason, c.Message = metav1.ConditionTrue, v1alpha1.ReasonAllNodesUp, "every host that tells says that all nodes are up"
	}
	return c, true
}

// dead are the listeners of a Service for which every host that says something says that
// all nodes are down.
func (b *Backends) dead(key lb.Key) (out []string) {
	up, all := map[lb.Listener]bool{}, map[lb.Listener]bool{}
	for _, h := range b.hosts {
		for _, t := range h.of[key] {
			all[t.Listener] = true
			up[t.Listener] = up[t.Listener] || t.Up > 0
		}
	}
	for l := range all {
		if !up[l] {
			out = append(out, l.String())
		}
	}
	slices.Sort(out)
	return out
}

// down says which nodes a host holds for down, and since when; "" if none. Those that are
// down for a moment only are no news, but where no node is up.
func (h hostBackends) down(of []*host.Traffic, moments bool) string {
	since, most := map[string]time.Time{}, 0
	for _, t := range of {
		count := t.Down
		for _, n := range t.Named {
			if !moments && !h.seen.Lasts(t.Listener, n.Node) {
				count--
				continue
			}
			at := h.seen.Since(t.Listener, n.Node)
			if was, there := since[n.Node]; !there || at.Before(was) {
				since[n.Node] = at
			}
		}
		most = max(most, count)
	}
	var words []string
	for node, at := range since {
		if !at.IsZero() {
			node += " since " + at.UTC().Format(time.RFC3339)
		}
		words = append(words, node)
	}
	slices.Sort(words)
	words = words[:min(len(words), host.MaxNamed)]
	switch {
	case most == 0:
		return ""
	case len(words) == 0:
		return fmt.Sprintf("down: %d nodes", most)
	}
	more := ""
	if n := max(most, len(since)) - len(words); n > 0 {
		more = fmt.Sprintf(" and %d more", n)
	}
	return "down: " + strings.Join(words, ", ") + more
}
