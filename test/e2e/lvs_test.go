package e2e

import (
	"context"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/test/cluster"
	"github.com/external-lb/external-lb/test/wait"
)

// With direct return, packets reach the nodes with the Service's address on them:
// pods see who asks, no nodePort is needed, and the status says so to kube-proxy.
func TestS11_DirectReturn(t *testing.T) {
	applies(t, engine.name == v1alpha1.EngineLVS)
	s := newScene(t)
	s.pod("web", "web-1", "node1")
	svc := s.service("web", func(svc *corev1.Service) {
		svc.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
		svc.Spec.AllocateLoadBalancerNodePorts = ptr.To(false)
	})
	s.until(svc, "told that it has no nodePort", func(svc *corev1.Service) bool {
		c := condition(svc, v1alpha1.ConditionServiceProgrammed)
		return c.Status == "False" && c.Reason == v1alpha1.ReasonNoNodePort
	})
	forward := func(lvs *v1alpha1.LVSSettings) {
		changeBalancer(t, balancer, func(b *v1alpha1.Balancer) { b.Spec.LVS = lvs })
	}
	t.Cleanup(func() { forward(nil) })
	forward(&v1alpha1.LVSSettings{Forwarding: v1alpha1.ForwardDR})
	address := s.published(svc)[0]
	s.until(svc, "published for kube-proxy to answer", func(svc *corev1.Service) bool {
		in := svc.Status.LoadBalancer.Ingress
		return len(in) == 1 && in[0].IPMode != nil && *in[0].IPMode == corev1.LoadBalancerIPModeVIP
	})
	wait.For(t, func(ctx context.Context) error {
		answer, err := s.web(ctx, address, 80)
		if err != nil {
			return err
		}
		if client, err := netip.ParseAddrPort(answer.Client); err != nil || client.Addr() != env.Addrs("client")[0] {
			return fmt.Errorf("the pod sees %q, want %s", answer.Client, env.Addrs("client")[0])
		}
		return nil
	})
	h, err := env.Host("lb1")
	must(t, err)
	table, err := h.ReadFile(t.Context(), "/proc/net/ip_vs")
	must(t, err)
	if !strings.Contains(string(table), " Route ") {
		t.Errorf("no route to a node:\n%s", table)
	}
}

// SCTP reaches pods on every node: associations begin, carry a question and an answer.
func TestLVS_CarriesSCTP(t *testing.T) {
	t.Parallel()
	if !carried(t, corev1.ProtocolSCTP) {
		t.Skip("not applicable: only LVS carries SCTP; that the others say so is S13")
	}
	s := besideScene(t)
	for _, node := range env.Nodes() {
		s.pod("web", "web-"+node, node)
	}
	svc := s.service("web", withLocal, withPort("sctp", corev1.ProtocolSCTP, 9000, 9000))
	at := netip.AddrPortFrom(netip.MustParseAddr(s.published(svc)[0]), 9000)
	wait.For(t, func(ctx context.Context) error {
		reached := map[string]bool{}
		for range 3 * len(env.Nodes()) {
			answer, err := env.AskSCTP(ctx, "client", at, "hello")
			if err != nil {
				return err
			}
			if answer.Namespace != s.namespace || answer.Received != "hello" || answer.Protocol != "sctp" {
				t.Errorf("%s answered %+v", at, answer)
			}
			reached[answer.Node] = true
		}
		if len(reached) != len(env.Nodes()) {
			return fmt.Errorf("answered by %v, want every node", reached)
		}
		return nil
	})
}

// Clients that come back to their node, and those of UDP that keep their port, get
// another node when theirs fails.
func TestLVS_ClientsOfANodeThatFails(t *testing.T) {
	if engine.name != v1alpha1.EngineLVS {
		t.Skip("not applicable: IPVS alone remembers what became of a node's clients")
	}
	s := newScene(t)
	nodes := env.Nodes()[:2]
	for _, node := range nodes {
		s.pod("web", "web-"+node, node)
	}
	svc := s.service("web", withLocal, withPort("tcp", corev1.ProtocolTCP, 80, 8080), withPort("udp", corev1.ProtocolUDP, 80, 9000),
		func(svc *corev1.Service) { svc.Spec.SessionAffinity = corev1.ServiceAffinityClientIP })
	address := s.published(svc)[0]
	f := s.flow(address, 80)
	for i, ask := range []func(context.Context) (cluster.Answer, error){
		func(ctx context.Context) (cluster.Answer, error) { return s.web(ctx, address, 80) },
		func(context.Context) (cluster.Answer, error) { return f.ask() },
	} {
		var first cluster.Answer
		wait.For(t, func(ctx context.Context) (err error) { first, err = ask(ctx); return err })
		must(t, env.Cut(t.Context(), first.Node))
		heal := sync.OnceFunc(func() { must(t, env.Heal(context.Background(), first.Node)) })
		t.Cleanup(heal)
		wait.For(t, func(ctx context.Context) error {
			answer, err := ask(ctx)
			if err == nil && answer.Node == first.Node {
				err = fmt.Errorf("answered by %s", answer.Node)
			}
			return err
		})
		heal()
		at := netip.AddrPortFrom(env.Addrs(first.Node)[0], uint16(s.get(svc).Spec.Ports[i].NodePort)).String()
		wait.For(t, func(context.Context) error {
			if weightOf(t, "lb1", at) < 1 {
				return fmt.Errorf("%s is out", first.Node)
			}
			return nil
		})
	}
}

// Somebody flushes the packet filter, as a reload of Debian's rules does: external-lb's
// come back, though no Service changes.
func TestLVS_FlushedRulesComeBack(t *testing.T) {
	if engine.name != v1alpha1.EngineLVS {
		t.Skip("not applicable: the other engines need no packet filter")
	}
	s := newScene(t)
	s.pod("web", "web-1", "node1")
	address := s.published(s.service("web", withLocal))[0]
	for _, host := range getBalancer(t, balancer).Spec.Hosts {
		h, err := env.Host(host.Name)
		must(t, err)
		_, err = h.Exec(t.Context(), "nft", "flush", "ruleset")
		must(t, err)
		wait.For(t, func(ctx context.Context) error {
			_, err := h.Exec(ctx, "nft", "list", "table", "inet", "external_lb")
			return err
		})
	}
	s.answers("web", address, 80)
}

// weightOf a real server in a host's kernel; -1 if it is not there.
func weightOf(t *testing.T, host, realServer string) int {
	t.Helper()
	h, err := env.Host(host)
	must(t, err)
	table, err := h.ReadFile(t.Context(), "/proc/net/ip_vs")
	must(t, err)
	at := netip.MustParseAddrPort(realServer)
	want := fmt.Sprintf("%X:%04X", at.Addr().AsSlice(), at.Port())
	for line := range strings.Lines(string(table)) {
		if f := strings.Fields(line); len(f) > 3 && f[0] == "->" && f[1] == want {
			weight, err := strconv.Atoi(f[3])
			must(t, err)
			return weight
		}
	}
	return -1
}
