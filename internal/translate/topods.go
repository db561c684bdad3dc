package translate

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/lb"
)

// forPods are the nodes where pods get the traffic: hosts know them, so that what they carried
// before may stay, and no Service waits for any.
func (ns *nodes) forPods() *nodes {
	out := *ns
	out.none = nil
	if ns.unread != nil {
		out.unread = &Problem{ns.unread.Reason, ns.unread.Message, false}
	}
	return &out
}

// backed is what pods hosts would be sent of a Service, if there were no other: what is never sent
// takes nothing from others.
type backed struct{ ports, pods int } // pods of the port that has most

// toPods gives Frontends their pods, no more than hosts are sent.
func (t *translation) toPods(ports []corev1.ServicePort, frontends []lb.Frontend) {
	t.backed.ports = len(frontends)
	most := min(lb.MaxPods, maxPods(max(len(frontends), len(ports))))
	limit, why := most, "a Service"
	if t.cap > 0 && t.cap < limit {
		limit, why = t.cap, "all Services of its namespace, which has the most"
	}
	cut := t.in.Pods != nil && t.in.Pods.cut && (t.limit == 0 || t.limit > limit)
	for i := range frontends {
		f := &frontends[i]
		at := slices.IndexFunc(ports, func(p corev1.ServicePort) bool {
			return uint16(p.Port) == f.Listener.Port && lb.Protocol(p.Protocol) == f.Listener.Protocol
		})
		answer, drain := t.in.Pods.of(&ports[at], f.Listener.Address.Is4(), !t.carriers.For(f.Listener.Protocol).KeepsConnections)
		if t.limit > 0 {
			answer, drain = t.choosePods(answer, t.limit), t.choosePods(drain, t.limit)
		}
		t.backed.pods = max(t.backed.pods, min(most, len(answer)+len(drain)))
		cut = cut || len(answer)+len(drain) > limit
		answer = t.choosePods(answer, limit)
		drain = drain[:min(len(drain), limit-len(answer))]
		f.Endpoints = slices.SortedFunc(slices.Values(append(answer, drain...)), func(a, b lb.Endpoint) int { return a.Address.Compare(b.Address) })
		if h := &f.Settings.HealthCheck; h.Port != 0 {
			h.Port = 0
			t.asksElsewhere = true
		}
	}
	if cut {
		t.problem(v1alpha1.ReasonTooLarge, "%d of its pods carry it, for each port: hosts are sent no more of %s. Spread them over several Services or Balancers, or set nodes.maxPerService of the Balancer", limit, why)
	}
	if t.asksElsewhere {
		t.problem(v1alpha1.ReasonUnsupported, "healthCheck.http.port: pods are asked where traffic goes to, and ports of nodes do not count")
	}
}

func (t *translation) choosePods(all []lb.Endpoint, limit int) []lb.Endpoint {
	return lb.Choose(all, func(e lb.Endpoint) string { return e.Address.String() }, string(t.in.Object.UID), limit)
}

// tellPodless tells of addresses at which nobody answers.
func (t *translation) tellPodless(s *lb.Service) {
	answers := map[netip.Addr]bool{}
	for i := range s.Frontends {
		f := &s.Frontends[i]
		answers[f.Listener.Address] = answers[f.Listener.Address] || len(f.Endpoints) > 0
	}
	why := "none of its pods is ready"
	if t.in.Pods != nil && t.in.Pods.strangers {
		why = "its endpoints are no pods of its namespace with an address of their own, and with nodes.backends: Pods of the Balancer only these are sent anything"
	}
	for _, a := range slices.SortedFunc(maps.Keys(answers), netip.Addr.Compare) {
		if !answers[a] {
			t.problem(v1alpha1.ReasonNoEndpoints, "nothing answers at %s: %s", a, why)
		}
	}
}

// caps are how many pods of a port are carried at most, by namespace, where all together are
// more than hosts are sent: the namespace that has most gives way. None: all are.
func (t *Translator) caps(in Input) map[string]int {
	if !in.Balancer.Spec.ToPods() {
		return nil
	}
	byNamespace, total := map[string][]backed{}, 0
	for namespace, in := range t.tenants {
		for _, m := range in.members {
			if m.left == nil && m.backed.pods > 0 {
				byNamespace[namespace] = append(byNamespace[namespace], m.backed)
				total += m.backed.ports * m.backed.pods
			}
		}
	}
	if total <= t.mostEndpoints {
		return nil
	}
	return capped(byNamespace, t.mostEndpoints)
}

func capped(byNamespace map[string][]backed, most int) map[string]int {
	caps, need := map[string]int{}, map[string]int{}
	total := 0
	for namespace, all := range byNamespace {
		need[namespace] = needed(all, lb.MaxPods)
		total += need[namespace]
	}
	names := slices.Sorted(maps.Keys(need))
	for total > most {
		largest := ""
		for _, name := range names {
			if caps[name] != 1 && (largest == "" || need[name] > need[largest]) {
				largest = name
			}
		}
		if largest == "" {
			break // one for each port: what listeners are bounded by
		}
		was := caps[largest]
		if was == 0 {
			was = lb.MaxPods
		}
		caps[largest] = was / 2
		total -= need[largest]
		need[largest] = needed(byNamespace[largest], caps[largest])
		total += need[largest]
	}
	return caps
}

// needed is how many endpoints Services have with so many pods for each port.
func needed(all []backed, most int) (n int) {
	for _, b := range all {
		n += b.ports * min(b.pods, most)
	}
	return n
}

// podsUnread is a Problem where the controller cannot read pods: to send nothing because of
// that would be worse than what the hosts have.
func podsUnread(in Input) *Problem {
	if in.PodsUnread == "" || !in.Balancer.Spec.ToPods() {
		return nil
	}
	return &Problem{v1alpha1.ReasonPodsUnreadable, fmt.Sprintf("spec.nodes.backends is %s, and the Pods of the cluster cannot be read: %s. "+
		"Until they can, hosts go on with what they carry", v1alpha1.BackendsPods, in.PodsUnread), true}
}
