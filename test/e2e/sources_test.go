package e2e

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"sigs.k8s.io/yaml"

	"github.com/external-lb/external-lb/api/v1alpha1"
	table "github.com/external-lb/external-lb/internal/engine/engines"
	"github.com/external-lb/external-lb/internal/lb"
	"github.com/external-lb/external-lb/test/builder"
	"github.com/external-lb/external-lb/test/cluster"
	"github.com/external-lb/external-lb/test/wait"
)

// hostSettings are what a host's owner has written.
const hostSettings = "/etc/external-lb/host.yaml"

// second is another address of a host, 60 behind its own.
func second(of netip.Addr) netip.Addr {
	b := of.AsSlice()
	b[len(b)-1] += 60
	a, _ := netip.AddrFromSlice(b)
	return a
}

// seconds are ranges with the second addresses of all hosts, one for each family.
func seconds() (all []string) {
	for _, a := range env.Addrs("lb1") {
		p, _ := second(a).Prefix(a.BitLen() - 2)
		all = append(all, p.String())
	}
	return all
}

// admitSources gives each host its second addresses, which the kernel does not choose by itself,
// and has its owner admit them.
func (s *scene) admitSources() {
	s.t.Helper()
	for _, name := range env.Hosts()[:2] {
		h := mustHost(s.t, name)
		before, err := h.ReadFile(s.t.Context(), hostSettings)
		must(s.t, err)
		settings := map[string]any{}
		must(s.t, yaml.Unmarshal(before, &settings))
		rules, _ := settings["admit"].(map[string]any)
		if rules == nil {
			rules = map[string]any{}
		}
		var sources, add, remove []string
		for _, a := range env.Addrs(name) {
			bits := map[bool]int{true: 20, false: 64}[a.Is4()]
			on := fmt.Sprintf("%s/%d dev $(ip -o addr show to %s | cut -d' ' -f2)", second(a), bits, a)
			sources = append(sources, second(a).String())
			add = append(add, "ip addr add "+on+" nodad preferred_lft 0")
			remove = append(remove, "ip addr del "+on)
		}
		rules["sources"], settings["admit"] = sources, rules
		after, err := yaml.Marshal(settings)
		must(s.t, err)
		s.owns(s.t.Context(), h, after, strings.Join(add, "\n"))
		s.t.Cleanup(func() { s.owns(context.Background(), h, before, strings.Join(remove, "\n")) })
	}
}

// owns lets a host's owner type something, and change the settings, which an agent that starts anew reads.
func (s *scene) owns(ctx context.Context, h *cluster.Host, settings []byte, script string) {
	s.t.Helper()
	if out, err := h.Shell(ctx, "set -e\n"+script); err != nil {
		s.t.Fatalf("%v\n%s", err, out)
	}
	must(s.t, h.WriteFile(ctx, hostSettings, settings))
	before, err := agentOn(ctx, h)
	must(s.t, err)
	must(s.t, signalAgent(ctx, h, "TERM"))
	if err := wait.Until(ctx, func(ctx context.Context) error {
		now, err := agentOn(ctx, h)
		if err == nil && (now == "" || now == before) {
			err = fmt.Errorf("the agent is %q, as it was", now)
		}
		return err
	}); err != nil {
		s.t.Error(err)
	}
}

// connectsFrom wants the pods to see the host's second address, and of the other Service its own.
func connectsFrom(f *field) {
	own := env.Addrs("lb1")[0]
	for address, want := range map[string]netip.Addr{f.address: second(own), addresses(f.otherwise)[0] + ":80": own} {
		h, err := f.open(f.t.Context(), "client", address, "")
		must(f.t, err)
		if seen, _, _ := net.SplitHostPort(h.Client); seen != want.String() {
			f.t.Errorf("the pod at %s sees %s, want %s", address, h.Client, want)
		}
	}
}

// A policy that asks for an address changes nothing, and is told, until the hosts' owners admit one.
// Then it is what pods see, whatever the protocol and the family.
func TestPolicy_SourceAddresses(t *testing.T) {
	if table.Named(engine.name).Unsupported("sourceAddresses", lb.TCP) != "" {
		return // TestPolicy_EveryField shows that it is told
	}
	s := newScene(t)
	must(t, env.RouteVia(t.Context(), "lb1"))
	t.Cleanup(func() { must(t, env.RouteVia(context.Background(), "lb1", "lb2")) })
	s.pod("web", "web-1", "node1")
	ports := []option{withLocal, dualStack, withPort("tcp", corev1.ProtocolTCP, 80, 8080), withPort("http", corev1.ProtocolTCP, 81, 8080)}
	udp := table.Named(engine.name).Carries(lb.UDP)
	if udp {
		ports = append(ports, withPort("udp", corev1.ProtocolUDP, 53, 9000))
	}
	s.make(builder.UpstreamPolicy(s.namespace, "http").For("web", "http").Set(func(set *v1alpha1.UpstreamSettings) { set.Mode = v1alpha1.ModeHTTP }).Manifest())
	s.policiesTold()
	svc := s.service("web", ports...)
	s.published(svc)
	s.inSync(balancer)
	s.make(builder.UpstreamPolicy(s.namespace, "from").For("web").Set(func(set *v1alpha1.UpstreamSettings) {
		for _, r := range seconds() {
			set.SourceAddresses = append(set.SourceAddresses, v1alpha1.SourceAddress(r))
		}
	}).Manifest())
	s.until(svc, "told that no host has an address for it", func(svc *corev1.Service) bool {
		c := condition(svc, v1alpha1.ConditionServiceProgrammed)
		return c.Reason == v1alpha1.ReasonRefused && strings.Contains(c.Message, "(the older version stays)") &&
			strings.Contains(c.Message, "asks for "+seconds()[0]+", and no address of this host may be used for that")
	})
	s.answers("web", s.published(svc)[0], 80)

	s.admitSources() // which takes effect with the next delivery
	hosts := env.Addrs("lb1")
	for i, address := range s.published(svc) {
		want := second(hosts[i])
		sees := func(what string, ask func(ctx context.Context) (cluster.Answer, error)) {
			wait.For(t, func(ctx context.Context) error {
				answer, err := ask(ctx)
				if err != nil {
					return fmt.Errorf("%s at %s: %w", what, address, err)
				}
				if seen, _, _ := net.SplitHostPort(answer.Client); seen != want.String() {
					return fmt.Errorf("%s at %s: the pod sees %s, want %s", what, address, answer.Client, want)
				}
				return nil
			})
		}
		for _, port := range []int32{80, 81} {
			sees(fmt.Sprint("port ", port), func(ctx context.Context) (cluster.Answer, error) { return s.web(ctx, address, port) })
		}
		if udp {
			sees("UDP", func(ctx context.Context) (cluster.Answer, error) { return s.datagram(ctx, address, 53) })
		}
	}
	if c := meta.FindStatusCondition(getBalancer(t, balancer).Status.Conditions, v1alpha1.ConditionDegraded); c != nil && c.Reason == v1alpha1.ReasonHostsDiffer {
		t.Errorf("hosts with addresses of their own are told to differ: %s", c.Message)
	}
}
