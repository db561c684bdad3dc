package e2e

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/test/builder"
	"github.com/external-lb/external-lb/test/cluster"
	"github.com/external-lb/external-lb/test/wait"
)

// deployment is an app with some pods, and the Service that carries it.
type deployment struct {
	*scene
	svc   *corev1.Service
	load  *load
	pods  []placed
	round int
	// moves: each pod is replaced by one on the next node.
	moves    bool
	cordoned string // a node that drains
}

type placed struct{ pod, node string }

// deploy starts an app, its Service, and requests to it. With Local, one node at a
// time has none of its pods.
func (s *scene) deploy(policy corev1.ServiceExternalTrafficPolicy) *deployment {
	s.t.Helper()
	d := &deployment{scene: s, moves: policy == corev1.ServiceExternalTrafficPolicyLocal}
	nodes := env.Nodes()
	if d.moves {
		nodes = nodes[1:]
	}
	for _, node := range nodes {
		d.pods = append(d.pods, placed{"web-0-" + node, node})
		s.pod("web", "web-0-"+node, node)
	}
	d.svc = s.service("web", func(svc *corev1.Service) { svc.Spec.ExternalTrafficPolicy = policy })
	address := s.published(d.svc)[0]
	s.nodesSend("web", d.svc, d.backends()...)
	s.answers("web", address, 80)
	d.load = s.startLoad(address, 80, isApp("web"))
	return d
}

// roll replaces every pod as a rolling update does: the new one is ready, the old one
// terminates and serves until it is asked no more, and ends.
func (d *deployment) roll() {
	d.t.Helper()
	d.round++
	for i, old := range d.pods {
		if d.moves {
			d.replace(i, d.after(old.node))
		} else {
			d.replace(i, old.node)
		}
	}
}

// after is the next node.
func (d *deployment) after(node string) string {
	nodes := env.Nodes()
	return nodes[(slices.Index(nodes, node)+1)%len(nodes)]
}

// replace a pod by one on a node.
func (d *deployment) replace(i int, node string) {
	d.t.Helper()
	old, young := d.pods[i], placed{fmt.Sprintf("web-%d-%d", d.round, i), node}
	d.pod("web", young.pod, young.node)
	d.isUsed(young.node)
	d.pods[i] = young
	d.drain(old)
}

// isUsed waits until kube-proxy of a node sends to its pods, and hosts that judge nodes by
// themselves have found it to be well. Deployments have minReadySeconds for that.
func (d *deployment) isUsed(node string) {
	d.t.Helper()
	if d.moves {
		d.hasPods(node)
	}
	at := netip.AddrPortFrom(env.Addrs(node)[0], uint16(d.get(d.svc).Spec.Ports[0].NodePort))
	for _, host := range getBalancer(d.t, balancer).Spec.Hosts {
		wait.For(d.t, func(context.Context) error { return holdsForUp(d.t, host.Name, at) })
	}
}

// holdsForUp is an error where a host has its own judgement of nodes, and does not send to this one.
func holdsForUp(t *testing.T, host string, node netip.AddrPort) error {
	t.Helper()
	switch engine.name {
	case v1alpha1.EngineLVS:
		if weight := weightOf(t, host, node.String()); weight < 1 {
			return fmt.Errorf("%s gives %s the weight %d", host, node, weight)
		}
	case v1alpha1.EngineHAProxy:
		if servers := serversOf(t, host, node); !slices.Contains(servers, "2") { // SRV_ST_RUNNING
			return fmt.Errorf("%s has servers for %s in the states %v", host, node, servers)
		}
	}
	return nil
}

// serversOf are the states of all servers that a host's HAProxy has for an address.
func serversOf(t *testing.T, host string, at netip.AddrPort) (states []string) {
	t.Helper()
	const address, state, port = 4, 5, 18 // of its management guide
	for line := range strings.Lines(tellHAProxy(t, host, "show servers state")) {
		if f := strings.Fields(line); len(f) > port && f[address] == at.Addr().String() && f[port] == fmt.Sprint(at.Port()) {
			states = append(states, f[state])
		}
	}
	return states
}

// tellHAProxy a command, and return what it answers.
func tellHAProxy(t *testing.T, host, command string) string {
	t.Helper()
	h, err := env.Host(host)
	must(t, err)
	answer, err := h.Ask(t.Context(), "/var/lib/external-lb/haproxy.sock", command)
	must(t, err)
	return answer
}

// hasPods waits until a node says that it has endpoints of its own.
func (d *deployment) hasPods(node string) {
	d.t.Helper()
	wait.For(d.t, func(context.Context) error {
		answer, err := d.healthOfNode(d.svc, node)
		if err != nil {
			return err
		}
		if answer.StatusCode != http.StatusOK {
			return fmt.Errorf("%s: %s", node, answer.Status)
		}
		return nil
	})
}

// drain ends a pod when it is asked no more, and neither a host nor a kube-proxy would: a
// process may be slow to end that asks until then.
func (d *deployment) drain(p placed) {
	d.t.Helper()
	must(d.t, env.TerminatePod(d.t.Context(), d.namespace, p.pod))
	if d.moves {
		d.carriedBy(d.svc, d.backends()...)
	}
	d.inSync(balancer)
	if !d.moves { // with Local, a node without other pods goes on sending to those that terminate
		for _, node := range env.Nodes() {
			d.forgets(node, p.pod)
		}
	}
	d.load.quiet(d.t, p.pod, perSecond/2)
	must(d.t, env.RemovePod(d.t.Context(), d.namespace, p.pod))
}

// forgets waits until kube-proxy of a node sends nobody to a pod. Real pods sleep before they
// end, in the hope that it does so meanwhile.
func (d *deployment) forgets(node, pod string) {
	d.t.Helper()
	const all = `nft list ruleset; ! command -v iptables-save >/dev/null || { iptables-save -t nat; ip6tables-save -t nat; }`
	wait.For(d.t, func(ctx context.Context) error {
		rules, err := env.Exec(ctx, node, "/bin/sh", "-ec", all)
		if err != nil {
			return err
		}
		for _, at := range env.Addrs(d.namespace + "/" + pod) {
			for _, verb := range []string{"dnat to ", "--to-destination "} { // of nft, and of kube-proxy's mode iptables
				if to := verb + netip.AddrPortFrom(at, 8080).String(); strings.Contains(rules, to) {
					return fmt.Errorf("%s has %q", node, to)
				}
			}
		}
		return nil
	})
}

// backends are the nodes to which the Service is to be sent.
func (d *deployment) backends() (nodes []string) {
	nodes = env.Nodes()
	if d.moves {
		nodes = nil
		for _, p := range d.pods {
			nodes = append(nodes, p.node)
		}
	}
	return slices.DeleteFunc(nodes, func(node string) bool { return node == d.cordoned })
}

func TestE12_RollingUpdateWithCluster(t *testing.T) {
	recorded(t)
	rollingUpdate(t, corev1.ServiceExternalTrafficPolicyCluster, "alone", "a node is deleted", "many Services come and go")
}

func TestE13_RollingUpdateWithLocal(t *testing.T) {
	recorded(t)
	rollingUpdate(t, corev1.ServiceExternalTrafficPolicyLocal, "alone", "a node is deleted", "the manager restarts")
}

// rollingUpdate loses no request, whatever else goes on.
func rollingUpdate(t *testing.T, policy corev1.ServiceExternalTrafficPolicy, cases ...string) {
	for _, name := range cases {
		t.Run(name, func(t *testing.T) {
			if name == "a node is deleted" && policy == corev1.ServiceExternalTrafficPolicyCluster {
				applies(t, carriers(t).Main.KeepsConnections) // with Local it has none left
			}
			d := newScene(t).deploy(policy)
			switch name {
			case "once":
				d.roll()
			case "alone":
				for range 5 {
					d.roll()
				}
			case "a node is deleted":
				d.nodeDeleted()
			case "many Services come and go":
				d.manyServices()
			case "the manager restarts":
				d.roll()
				must(t, env.Manager.Stop())
				d.load.answered(t, perSecond)
				must(t, env.StartManager(t.Context()))
				d.roll()
			}
			d.load.end(t)
		})
	}
}

// nodeDeleted takes a node out as its administrator would: what is on it moves, the
// node is deleted, and ends when nobody sends it anything.
func (d *deployment) nodeDeleted() {
	const name = "leaving"
	t, last := d.t, placed{"web-leaving", name}
	must(t, env.AddNode(t.Context(), cluster.NodeSpec{Name: name}))
	d.pod("web", last.pod, last.node)
	d.carriedBy(d.svc, append(d.backends(), name)...)
	d.load.from(t, last.pod)
	d.drain(last)
	must(t, env.Kube.Delete(t.Context(), builder.Node(name).Manifest()))
	d.carriedBy(d.svc, slices.DeleteFunc(d.backends(), func(n string) bool { return n == name })...)
	d.inSync(balancer)
	d.load.onTheirWayEnd(t)
	must(t, env.RemoveNode(t.Context(), name))
	d.roll()
}

// manyServices come, are published, and go.
func (d *deployment) manyServices() {
	t, count := d.t, 200
	if cloud != nil {
		count = 15 // each of them is a load balancer, which takes a busy Octavia some seconds
	}
	pool := builder.AddressPool(d.namespace, "10.64.1.0/24").Manual().Manifest()
	d.make(pool)
	if engine.name == v1alpha1.EngineLVS { // asks every node for every Service: as its page says
		changeBalancer(t, balancer, func(b *v1alpha1.Balancer) { b.Spec.Defaults.HealthCheck = &v1alpha1.HealthCheck{Interval: "30s"} })
		t.Cleanup(func() {
			changeBalancer(t, balancer, func(b *v1alpha1.Balancer) { b.Spec.Defaults.HealthCheck = nil })
		})
	}
	all := make([]*corev1.Service, count)
	for i := range all {
		all[i] = d.service(fmt.Sprintf("other-%d", i), withAnnotation(v1alpha1.AddressPoolAnnotation, pool.Name))
	}
	d.roll()
	wait.For(t, func(ctx context.Context) error {
		var list corev1.ServiceList
		if err := env.Kube.List(ctx, &list, client.InNamespace(d.namespace)); err != nil {
			return err
		}
		for _, svc := range list.Items {
			if len(svc.Status.LoadBalancer.Ingress) == 0 {
				return fmt.Errorf("%s has no address", svc.Name)
			}
		}
		return nil
	})
	for _, svc := range all {
		must(t, env.Kube.Delete(t.Context(), svc))
	}
	for _, svc := range all {
		d.remove(t.Context(), svc)
	}
}
