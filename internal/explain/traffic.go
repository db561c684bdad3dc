package explain

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/types"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/lb"
	"github.com/external-lb/external-lb/internal/plan"
	"github.com/external-lb/external-lb/internal/translate"
)

// hosts are those of the Balancer, as the controller reported on them.
func (e *explanation) hosts() {
	if e.balancer == nil {
		if why := e.unread(Balancers); why != "" {
			e.unknown(LinkHost, "%s", why)
		}
		return
	}
	for _, h := range e.balancer.Spec.AllHosts() {
		i := slices.IndexFunc(e.balancer.Status.Hosts, func(s v1alpha1.HostStatus) bool { return s.Name == h.Name })
		if i < 0 {
			e.unknown(LinkHost, "%s: the controller has not reported on it yet", h.Name)
			continue
		}
		e.host(e.balancer.Status.Hosts[i])
	}
}

func (e *explanation) host(h v1alpha1.HostStatus) {
	text := fmt.Sprintf("%s is %s", h.Name, h.State)
	if h.Draining {
		text += ", and taken out for maintenance"
	}
	if h.Active {
		text += ", and has the addresses"
	}
	sep := ": "
	if h.Message != "" {
		text += sep + h.Message
		sep = "; "
	}
	for _, n := range h.Notes {
		text += sep + n.Message
		sep = "; "
	}
	f := Finding{Link: LinkHost, State: OK, Message: text}
	warns := h.Note(v1alpha1.NoteWarns) // all else that is noted keeps no Service from being carried
	switch h.State {
	case v1alpha1.HostInSync, v1alpha1.HostPartial: // what it refuses of this Service is told by that
		if strings.Contains(warns, "fails its health check") {
			f.State, f.See = Wrong, seeHealth
		} else if warns != "" {
			f.State, f.See = Wrong, seeWarns
		}
	case v1alpha1.HostConnecting, v1alpha1.HostDelivering:
		f.State = Unknown
	default:
		if h.Draining {
			break // it is to carry nothing
		}
		f.State, f.See = Wrong, seeBalancer
		if c := meta.FindStatusCondition(e.balancer.Status.Conditions, v1alpha1.ConditionDegraded); c != nil && c.Reason == v1alpha1.ReasonContested &&
			strings.Contains(h.Message, "reset-term") {
			f.See = seeOthers
		}
	}
	e.reported(f)
}

// refusals are what hosts say of the Service, in the controller's words. That they cannot
// be reached is said of each.
func (e *explanation) refusals() {
	hosts := slices.ContainsFunc(e.chain, func(f Finding) bool { return f.Link == LinkHost && f.State == Wrong })
	for _, c := range e.tells(LinkHost) {
		if c.Reason == v1alpha1.ReasonRefused || !hosts {
			e.wrong(c.Reason, c.Message)
		}
	}
}

// nodes are those that may carry the Service.
func (e *explanation) nodes() {
	switch c := e.told(v1alpha1.ConditionBackendsHealthy); c.Reason {
	case v1alpha1.ReasonNoNodeUp:
		defer e.wrong(c.Reason, c.Message)
	case v1alpha1.ReasonSomeNodesDown: // the others carry it
		defer e.ok(LinkNodes, "%s", c.Message)
	}
	switch {
	case e.balancer != nil && e.balancer.Spec.ToPods():
		e.ok(LinkNodes, "none carries traffic: the hosts send to pods themselves")
		return
	case e.balancer == nil:
		e.nodesAsTold(Balancers)
		return
	case !e.read(Nodes):
		e.nodesAsTold(Nodes)
		return
	case e.plan == nil: // of the Service too little is known, but of nodes enough
		p, err := plan.Expect(e.balancer, plan.Objects{Balancers: e.Objects.Balancers, Nodes: e.Objects.Nodes})
		if err != nil {
			e.unknown(LinkNodes, "%v", err)
			return
		}
		e.eligible(p)
	default:
		e.eligible(e.plan)
		for _, p := range e.problems(LinkNodes) {
			if e.plan.NodesProblem == nil {
				e.wrong(p.Reason, p.Message)
			}
		}
	}
}

func (e *explanation) eligible(p *plan.Plan) {
	if none := p.NodesProblem; none != nil {
		e.add(Finding{Link: LinkNodes, State: Wrong, Reason: none.Reason, Message: none.Message, See: seeNodes})
		return
	}
	names := NodeNames(p.Nodes)
	text := fmt.Sprintf("%d of %d may carry traffic: %s", len(names), len(e.Objects.Nodes), some(names))
	if down := notReady(e.Objects.Nodes, p.Nodes); len(down) > 0 {
		text += fmt.Sprintf("; %d of them are not ready, such as %s", len(down), down[0])
	}
	e.ok(LinkNodes, "%s", text)
}

// notReady are the names of backends that Kubernetes takes for down. They stay backends: the hosts' checks decide.
func notReady(nodes []*corev1.Node, backends []lb.Node) (names []string) {
	for _, n := range nodes {
		if translate.NotReady(n) && slices.ContainsFunc(backends, func(b lb.Node) bool { return b.Name == n.Name }) {
			names = append(names, n.Name)
		}
	}
	return names
}

// NodeNames are those of nodes that may be backends, and say which of them drain.
func NodeNames(nodes []lb.Node) []string {
	names := make([]string, len(nodes))
	for i, n := range nodes {
		names[i] = n.Name
		if n.Draining {
			names[i] += " (cordoned: drains)"
		}
		if n.Backup {
			names[i] += " (backup: waits for others to fail)"
		}
	}
	return names
}

func (e *explanation) nodesAsTold(kind string) {
	if !e.blame(e.tells(LinkNodes)) && e.unread(kind) != "" {
		e.unknown(LinkNodes, "%s", e.unread(kind))
	}
}

// endpoints are the pods behind the Service. They are no business of the controller's, but
// without them nothing answers.
func (e *explanation) endpoints() {
	if !e.read(Slices) {
		e.unknown(LinkEndpoints, "%s", e.unread(Slices))
		return
	}
	pods := e.balancer != nil && e.balancer.Spec.ToPods()
	told := e.problems(LinkEndpoints)
	if pods && !e.read(Pods) {
		told = nil // which endpoints are pods is not known
	}
	if len(told) == 0 {
		told = e.tells(LinkEndpoints)
	}
	if len(told) > 0 {
		e.wrong(told[0].Reason, told[0].Message)
		return
	}
	ready, nodes := e.ready()
	if pods && e.view != nil && e.read(Pods) {
		ready = e.pods()
	}
	local := e.Service.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal
	switch {
	case ready == 0:
		e.add(Finding{Link: LinkEndpoints, State: Wrong, See: seeSilent, Message: "no pod of the Service is ready, so nothing answers: " +
			"see spec.selector and the pods"})
	case pods:
		e.ok(LinkEndpoints, "%d ready", ready)
	case local:
		e.ok(LinkEndpoints, "%d ready; with externalTrafficPolicy: Local only their nodes get traffic: %s", ready, some(nodes))
	default:
		e.ok(LinkEndpoints, "%d ready, on %s", ready, some(nodes))
	}
}

// pods counts those that hosts are to send to: of the endpoints not all may be pods.
func (e *explanation) pods() int {
	all := map[netip.Addr]bool{}
	for _, f := range e.frontends() {
		for _, endpoint := range f.Endpoints {
			all[endpoint.Address.Addr()] = true
		}
	}
	return len(all)
}

// ready counts the Service's endpoints that take new connections, and names their nodes.
func (e *explanation) ready() (n int, nodes []string) {
	seen := map[string]bool{}
	key := types.NamespacedName{Namespace: e.Service.Namespace, Name: e.Service.Name}
	for _, s := range e.Objects.Slices[key] {
		for _, endpoint := range s.Endpoints {
			if len(endpoint.Addresses) == 0 || seen[endpoint.Addresses[0]] || !takes(endpoint.Conditions) {
				continue
			}
			seen[endpoint.Addresses[0]] = true
			n++
			if name := endpoint.NodeName; name != nil && !slices.Contains(nodes, *name) {
				nodes = append(nodes, *name)
			}
		}
	}
	slices.Sort(nodes)
	return n, nodes
}

func takes(c discoveryv1.EndpointConditions) bool {
	return (c.Ready == nil || *c.Ready) && (c.Terminating == nil || !*c.Terminating)
}
