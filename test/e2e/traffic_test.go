package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/test/builder"
	"github.com/external-lb/external-lb/test/wait"
)

func contains(s, part string) bool { return strings.Contains(s, part) }

// patchNode changes a node and puts it back after the test.
func patchNode(t *testing.T, name, patch, undo string) {
	t.Helper()
	node := builder.Node(name).Manifest()
	must(t, env.Kube.Patch(t.Context(), node, client.RawPatch(types.StrategicMergePatchType, []byte(patch))))
	t.Cleanup(func() {
		must(t, env.Kube.Patch(context.Background(), node, client.RawPatch(types.StrategicMergePatchType, []byte(undo))))
	})
}

// fragment reads what a host runs for a Service, or the HAProxy of its load balancer in Octavia.
func fragment(t *testing.T, svc *corev1.Service) string {
	t.Helper()
	if cloud != nil {
		text, err := cloud.Configuration(t.Context(), string(svc.UID))
		must(t, err)
		return text
	}
	h, err := env.Host("lb1")
	must(t, err)
	out, err := h.Shell(t.Context(), fmt.Sprintf("cat %sservices/%s.%s.*", engine.live(), svc.Namespace, svc.Name))
	must(t, err)
	return out
}

// isServer reports whether a fragment sends new connections to an address: to a server
// with a name (HAProxy), without (nginx), or with the port in a word of its own, and
// more than no weight (keepalived).
func isServer(fragment string, address netip.Addr) bool {
	host := address.String()
	joined := host
	if address.Is6() {
		joined = "[" + host + "]"
	}
	return regexp.MustCompile(`(?m)^\s*(server (\S+ )?` + regexp.QuoteMeta(joined) + `:|real_server ` + regexp.QuoteMeta(host) + ` \d+ {\s+weight [1-9])`).MatchString(fragment)
}

// carriedBy waits until exactly these nodes are a Service's backends on a host.
func (s *scene) carriedBy(svc *corev1.Service, nodes ...string) {
	s.t.Helper()
	wait.For(s.t, func(ctx context.Context) error {
		text := fragment(s.t, svc)
		for _, node := range env.Nodes() {
			want := slices.Contains(nodes, node)
			if got := isServer(text, env.Addrs(node)[0]); got != want {
				return fmt.Errorf("%s is a backend: %t, want %t:\n%s", node, got, want, text)
			}
		}
		return nil
	})
}

func TestS19_LocalFollowsEndpoints(t *testing.T) {
	t.Parallel()
	s := besideScene(t)
	s.pod("web", "web-1", "node1")
	svc := s.service("web", withLocal)
	address := s.published(svc)[0]
	s.carriedBy(svc, "node1")
	s.answers("web", address, 80)
	s.pod("web", "web-2", "node3")
	s.carriedBy(svc, "node1", "node3")
	// Not ready, or terminating (S21): no new connections.
	must(t, env.SetPodReady(t.Context(), s.namespace, "web-1", false))
	s.carriedBy(svc, "node3")
	must(t, env.SetPodReady(t.Context(), s.namespace, "web-1", true))
	s.carriedBy(svc, "node1", "node3")
	must(t, env.TerminatePod(t.Context(), s.namespace, "web-1"))
	s.carriedBy(svc, "node3")
	// The file is there before the proof, and on one host before the other.
	wait.For(t, func(context.Context) error {
		if got := s.nodesOf(address, 80, 10); len(got) != 1 || got[0] != "node3" {
			return fmt.Errorf("answered by %v, want node3", got)
		}
		return nil
	})
}

// Without endpoints every node refuses: that says nothing of the nodes, so the
// balancer keeps them all, and the address, and does not reload.
func TestS20_NoEndpointsSayNothingOfNodes(t *testing.T) {
	t.Parallel()
	s := besideScene(t)
	svc := s.service("web")
	address := s.published(svc)[0]
	s.inSync(balancer)
	before := fragment(t, svc)
	if answer, err := s.web(t.Context(), address, 80); err == nil {
		t.Errorf("answered by %s", answer.Pod)
	}
	s.pod("web", "web-1", "node1")
	s.answers("web", address, 80)
	must(t, env.RemovePod(t.Context(), s.namespace, "web-1"))
	s.silent(address, 80)
	s.settled()
	if after := fragment(t, svc); after != before {
		t.Errorf("endpoints of a Cluster Service changed what the balancer runs, from\n%s\nto\n%s", before, after)
	}
	if got := addresses(s.get(svc)); len(got) != 1 || got[0] != address {
		t.Errorf("the address became %v", got)
	}
}

// With endpoints of one family on one node and of the other on another, each
// listener has the node of its own family.
func TestS22_HealthIsPerFamily(t *testing.T) {
	t.Parallel()
	applies(t, families(t, 2))
	s := besideScene(t)
	svc := s.service("web", withLocal, func(svc *corev1.Service) {
		svc.Spec.Selector = nil // its endpoints are made here
		svc.Spec.IPFamilyPolicy = ptr.To(corev1.IPFamilyPolicyRequireDualStack)
	})
	for _, e := range []struct {
		family        discoveryv1.AddressType
		address, node string
	}{
		{discoveryv1.AddressTypeIPv4, "10.244.1.99", "node1"},
		{discoveryv1.AddressTypeIPv6, "fd00:10:244:2::99", "node2"},
	} {
		slice := builder.EndpointSlice(s.namespace, strings.ToLower("web-"+string(e.family)), e.family).Label(discoveryv1.LabelServiceName, "web").Manifest()
		slice.Endpoints = []discoveryv1.Endpoint{{Addresses: []string{e.address}, NodeName: &e.node}}
		slice.Ports = []discoveryv1.EndpointPort{{Name: ptr.To("http"), Port: ptr.To[int32](8080)}}
		must(t, env.Kube.Create(t.Context(), slice))
	}
	s.published(svc)
	want := map[netip.Addr]bool{env.Addrs("node1")[0]: true, env.Addrs("node2")[1]: true}
	wait.For(t, func(context.Context) error {
		text := fragment(t, svc)
		for _, node := range env.Nodes() {
			for _, address := range env.Addrs(node) {
				if got := isServer(text, address); got != want[address] {
					return fmt.Errorf("%s %s is a backend: %t, want %t\n%s", node, address, got, want[address], text)
				}
			}
		}
		return nil
	})
}

// A node's address is its first InternalIP of a family, else its ExternalIP,
// and is followed. A node whose status is hostile costs nobody anything.
func TestS25_AddressesOfNodes(t *testing.T) {
	s := newScene(t)
	s.pod("web", "web-1", "node1")
	svc := s.service("web")
	address := s.published(svc)[0]
	node := builder.Node("elsewhere").Manifest()
	must(t, env.Kube.Create(t.Context(), node))
	t.Cleanup(func() { must(t, env.Kube.Delete(context.Background(), node)) })
	for _, c := range []struct {
		name      string
		addresses []corev1.NodeAddress
		want      string // backend, "" for none
	}{
		{"external only", []corev1.NodeAddress{{Type: corev1.NodeExternalIP, Address: "192.0.2.50"}}, "192.0.2.50"},
		{"internal first", []corev1.NodeAddress{{Type: corev1.NodeExternalIP, Address: "192.0.2.50"}, {Type: corev1.NodeInternalIP, Address: "192.0.2.51"}, {Type: corev1.NodeInternalIP, Address: "192.0.2.52"}}, "192.0.2.51"},
		{"another", []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "192.0.2.53"}}, "192.0.2.53"},
		{"hostile", []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "192.0.2.54:1; } server { listen 1; #"}}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			wait.For(t, func(ctx context.Context) error {
				if err := env.Kube.Get(ctx, client.ObjectKeyFromObject(node), node); err != nil {
					return err
				}
				node.Status.Addresses = c.addresses
				return env.Kube.Status().Update(ctx, node)
			})
			wait.For(t, func(context.Context) error {
				text := fragment(t, svc)
				for _, a := range []string{"192.0.2.50", "192.0.2.51", "192.0.2.52", "192.0.2.53", "192.0.2.54"} {
					if got := strings.Contains(text, a); got != (a == c.want) {
						return fmt.Errorf("%s is there: %t\n%s", a, got, text)
					}
				}
				return nil
			})
		})
	}
	s.answers("web", address, 80)
}

// Without an eligible node the listener stays, and works when a node comes.
func TestS27_NoEligibleNode(t *testing.T) {
	s := newScene(t)
	s.pod("web", "web-1", "node1")
	changeBalancer(t, balancer, func(b *v1alpha1.Balancer) {
		b.Spec.Nodes.Selector.MatchLabels = map[string]v1alpha1.LabelValue{"example.com/edge": "yes"}
	})
	t.Cleanup(func() {
		changeBalancer(t, balancer, func(b *v1alpha1.Balancer) { b.Spec.Nodes.Selector.MatchLabels = nil })
	})
	svc := s.service("web")
	address := s.published(svc)[0]
	s.event(svc, v1alpha1.EventUnavailable, "spec.nodes of Balancer")
	wait.For(t, func(ctx context.Context) error { // nobody answers, and a client need not wait to know
		conn, err := env.DialFrom(ctx, "client", "tcp", address+":80")
		if engine.name == v1alpha1.EngineLVS { // has no listener of its own to accept and close it
			if !errors.Is(err, syscall.ECONNREFUSED) {
				return fmt.Errorf("connected: %v, want refused", err)
			}
			return nil
		}
		if err != nil {
			return err
		}
		return conn.Close()
	})
	patchNode(t, "node1", `{"metadata":{"labels":{"example.com/edge":"yes"}}}`, `{"metadata":{"labels":{"example.com/edge":null}}}`)
	s.answers("web", address, 80)
	s.carriedBy(svc, "node1")
}

func TestS23_EligibleNodes(t *testing.T) {
	s := newScene(t)
	s.pod("web", "web-1", "node1")
	svc := s.service("web")
	s.published(svc)
	s.carriedBy(svc, "node1", "node2", "node3")
	for value, excluded := range map[string]bool{"": true, "true": true, "garbage": true, "false": false, "0": false} {
		t.Run("exclude="+value, func(t *testing.T) {
			const label = corev1.LabelNodeExcludeBalancers
			patchNode(t, "node2",
				fmt.Sprintf(`{"metadata":{"labels":{%q:%q}}}`, label, value),
				fmt.Sprintf(`{"metadata":{"labels":{%q:null}}}`, label))
			if excluded {
				s.carriedBy(svc, "node1", "node3")
			} else {
				s.settled()
				s.carriedBy(svc, "node1", "node2", "node3")
			}
		})
		s.carriedBy(svc, "node1", "node2", "node3")
	}
}

func TestS24_NotReadyStays(t *testing.T) {
	s := newScene(t)
	svc := s.service("web")
	s.published(svc)
	must(t, env.SetNodeReady(t.Context(), "node2", false))
	t.Cleanup(func() { must(t, env.SetNodeReady(context.Background(), "node2", true)) })
	s.settled()
	s.carriedBy(svc, "node1", "node2", "node3")
}

func TestS26_EveryNodeExcluded(t *testing.T) {
	s := newScene(t)
	svc := s.service("web")
	address := s.published(svc)[0]
	s.pod("web", "web-1", "node1")
	for _, node := range []string{"node1", "node2", "node3"} {
		const label = corev1.LabelNodeExcludeBalancers
		patchNode(t, node, fmt.Sprintf(`{"metadata":{"labels":{%q:""}}}`, label), fmt.Sprintf(`{"metadata":{"labels":{%q:null}}}`, label))
	}
	s.event(svc, v1alpha1.EventUnavailable, "ignoreExcludeLabel") // S27
	if got := addresses(s.get(svc)); len(got) != 1 || got[0] != address {
		t.Errorf("the address became %v", got)
	}
	patch := func(value bool) {
		b := builder.Balancer(balancer).Manifest()
		raw := fmt.Appendf(nil, `{"spec":{"nodes":{"ignoreExcludeLabel":%t}}}`, value)
		must(t, env.Kube.Patch(context.Background(), b, client.RawPatch(types.MergePatchType, raw)))
	}
	patch(true)
	t.Cleanup(func() { patch(false) })
	s.answers("web", address, 80)
}

func TestS28_SourceRanges(t *testing.T) {
	t.Parallel()
	s := besideScene(t)
	s.pod("web", "web-1", "node1")
	own := env.Addrs("client")[0].String() + "/32"
	svc := s.service("web")
	address := s.published(svc)[0]
	many := []string{own}
	for i := range 100 {
		many = append(many, fmt.Sprintf("192.0.%d.0/24", 100+i))
	}
	for _, c := range []struct {
		name   string
		ranges []string
		open   bool
	}{
		{"own address", []string{own}, true},
		{"somebody else's", []string{"192.0.2.0/24"}, false},
		{"ranges that hold one another", []string{"0.0.0.0/0", own, "10.0.0.0/8", "10.1.0.0/16"}, true},
		{"other such ranges", []string{"10.0.0.0/8", "10.1.0.0/16"}, false},
		{"everybody in two halves", []string{"0.0.0.0/1", "128.0.0.0/1"}, true},
		{"the other family only", []string{"2001:db8::/32"}, false},
		{"a hundred and one", many, true},
		{"a hundred", many[1:], false},
		{"none", nil, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			s.update(svc, func(svc *corev1.Service) { svc.Spec.LoadBalancerSourceRanges = c.ranges })
			steadily(t, func(ctx context.Context) error {
				if _, err := s.web(ctx, address, 80); (err == nil) != c.open {
					return fmt.Errorf("open: %t, want %t (%v)", err == nil, c.open, err)
				}
				return nil
			})
		})
	}
}

func TestS29_ClientIPAffinity(t *testing.T) {
	t.Parallel()
	s := besideScene(t)
	for _, node := range []string{"node1", "node2", "node3"} {
		s.pod("web", "web-"+node, node)
	}
	// Local, so that the node that answers is the one that the balancer chose.
	svc := s.service("web", withLocal, func(svc *corev1.Service) { svc.Spec.SessionAffinity = corev1.ServiceAffinityClientIP })
	address := s.published(svc)[0]
	s.carriedBy(svc, "node1", "node2", "node3")
	if got := s.nodesOf(address, 80, 15); len(got) != 1 {
		t.Errorf("one client was answered by %v", got)
	}
	s.update(svc, func(svc *corev1.Service) { svc.Spec.SessionAffinity = corev1.ServiceAffinityNone })
	wait.For(t, func(context.Context) error {
		if got := s.nodesOf(address, 80, 6); len(got) != 3 {
			return fmt.Errorf("without affinity answered by %v", got)
		}
		return nil
	})
}
