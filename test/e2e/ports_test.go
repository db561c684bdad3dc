package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/test/cluster"
	"github.com/external-lb/external-lb/test/wait"
)

// datagram asks an address once over UDP.
func (s *scene) datagram(ctx context.Context, address string, port int32) (cluster.Answer, error) {
	var answer cluster.Answer
	conn, err := env.DialFrom(ctx, "client", "udp", net.JoinHostPort(address, fmt.Sprint(port)))
	if err != nil {
		return answer, err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(2 * time.Second)); err != nil {
		return answer, err
	}
	if _, err := conn.Write([]byte("hello\n")); err != nil {
		return answer, err
	}
	buffer := make([]byte, 64<<10)
	n, err := conn.Read(buffer)
	if err != nil {
		return answer, err
	}
	if err := json.Unmarshal(buffer[:n], &answer); err != nil {
		return answer, err
	}
	if answer.Namespace != s.namespace {
		s.t.Errorf("%s answered from namespace %s: misrouted", address, answer.Namespace)
	}
	return answer, nil
}

func (s *scene) datagramAnswers(app, address string, port int32) {
	s.t.Helper()
	wait.For(s.t, func(ctx context.Context) error {
		answer, err := s.datagram(ctx, address, port)
		if err == nil && answer.Labels["app"] != app {
			s.t.Errorf("answered with app %q, want %q: misrouted", answer.Labels["app"], app)
		}
		return err
	})
}

func TestS10_DualStack(t *testing.T) {
	t.Parallel()
	s := besideScene(t)
	s.pod("web", "web-1", "node1")
	svc := s.service("web", func(svc *corev1.Service) {
		svc.Spec.IPFamilyPolicy = ptr.To(corev1.IPFamilyPolicyRequireDualStack)
	})
	got := s.published(svc)
	if !families(t, 2) {
		s.hasOneFamily(svc)
		return
	}
	if len(got) != 2 || !isIPv4(got[0]) || isIPv4(got[1]) {
		t.Fatalf("addresses %v, want IPv4 and IPv6", got)
	}
	for _, a := range got {
		s.answers("web", a, 80)
	}
	// The secondary family goes and comes, the first address stays.
	s.update(svc, func(svc *corev1.Service) {
		svc.Spec.IPFamilyPolicy = ptr.To(corev1.IPFamilyPolicySingleStack)
	})
	s.until(svc, "single stack", func(svc *corev1.Service) bool { return slices.Equal(addresses(svc), got[:1]) })
	s.silent(got[1], 80)
	s.update(svc, func(svc *corev1.Service) {
		svc.Spec.IPFamilyPolicy = ptr.To(corev1.IPFamilyPolicyPreferDualStack)
	})
	again := s.until(svc, "dual stack again", func(svc *corev1.Service) bool { return len(addresses(svc)) == 2 })
	if addresses(again)[0] != got[0] {
		t.Errorf("the first address changed from %s to %s", got[0], addresses(again)[0])
	}
	s.answers("web", addresses(again)[1], 80)
}

// hasOneFamily wants the IPv4 address of a Service alone, with words about the other one.
func (s *scene) hasOneFamily(svc *corev1.Service) {
	s.t.Helper()
	fresh := s.until(svc, "told that there is one family", func(svc *corev1.Service) bool {
		return contains(condition(svc, v1alpha1.ConditionPortsError).Message, "the cloud has no IPv6 addresses")
	})
	got := addresses(fresh)
	if len(got) != 1 || !isIPv4(got[0]) {
		s.t.Fatalf("addresses %v, want IPv4 alone", got)
	}
	s.answers("web", got[0], 80)
}

// Every policy and order of families, live: what a Service asks for it has, in its order.
func TestS10_Families(t *testing.T) {
	t.Parallel()
	applies(t, families(t, 2))
	const v4, v6 = corev1.IPv4Protocol, corev1.IPv6Protocol
	for _, c := range []struct {
		name  string
		steps [][]corev1.IPFamily // the first is what it is created with
	}{
		{"IPv4, then IPv6 too", [][]corev1.IPFamily{{v4}, {v4, v6}, {v4}}},
		{"IPv6, then IPv4 too", [][]corev1.IPFamily{{v6}, {v6, v4}, {v6}}},
		{"both, IPv6 first", [][]corev1.IPFamily{{v6, v4}, {v6}, {v6, v4}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := besideScene(t)
			s.pod("web", "web-1", "node1")
			var svc *corev1.Service
			first := ""
			for _, families := range c.steps {
				ask := func(svc *corev1.Service) {
					svc.Spec.IPFamilies, svc.Spec.IPFamilyPolicy = families, ptr.To(corev1.IPFamilyPolicySingleStack)
					if len(families) == 2 {
						svc.Spec.IPFamilyPolicy = ptr.To(corev1.IPFamilyPolicyRequireDualStack)
					}
				}
				if svc == nil {
					svc = s.service("web", ask)
				} else {
					svc = s.update(svc, ask)
				}
				fresh := s.until(svc, "as asked for", func(svc *corev1.Service) bool {
					return slices.EqualFunc(addresses(svc), families, func(a string, f corev1.IPFamily) bool { return isIPv4(a) == (f == v4) })
				})
				got := addresses(fresh)
				if first == "" {
					first = got[0]
				} else if got[0] != first {
					t.Errorf("the first address became %s, want %s", got[0], first)
				}
				for _, a := range got {
					s.answers("web", a, 80)
				}
			}
		})
	}
}

func TestS13_ProtocolsThatTheEngineCannotCarry(t *testing.T) {
	t.Parallel()
	applies(t, !carried(t, corev1.ProtocolUDP) || !carried(t, corev1.ProtocolSCTP))
	for _, protocol := range []corev1.Protocol{corev1.ProtocolUDP, corev1.ProtocolSCTP} {
		if !carried(t, protocol) {
			t.Run(string(protocol), func(t *testing.T) { cannotCarry(t, protocol) })
		}
	}
}

func cannotCarry(t *testing.T, protocol corev1.Protocol) {
	s := besideScene(t)
	s.pod("web", "web-1", "node1")
	svc := s.service("web",
		withPort("http", corev1.ProtocolTCP, 80, 8080),
		withPort("signal", protocol, 80, 9001))
	address := s.published(svc)[0]
	s.answers("web", address, 80)
	fresh := s.until(svc, "told of its port", func(svc *corev1.Service) bool {
		return condition(svc, v1alpha1.ConditionPortsError).Status == "True"
	})
	if reason := condition(fresh, v1alpha1.ConditionPortsError).Reason; reason != v1alpha1.ReasonMixedProtocol {
		t.Errorf("reason %q", reason)
	}
	ports := fresh.Status.LoadBalancer.Ingress[0].Ports
	if len(ports) != 2 || ports[0].Error != nil || ports[1].Error == nil || *ports[1].Error != v1alpha1.PortErrorProtocol {
		t.Errorf("ports %+v: want one entry for each port and an error for %s (S12)", ports, protocol)
	}
	s.event(svc, v1alpha1.EventSyncFailed, string(protocol))
}

func TestS15_StaysThroughChanges(t *testing.T) {
	s := newScene(t)
	s.pod("web", "web-1", "node1")
	svc := s.service("web", withNodePort(nodePortOnceKept))
	address := s.published(svc)[0]
	s.update(svc, func(svc *corev1.Service) { svc.Spec.Ports[0].Port = 8080 })
	s.answers("web", address, 8080)
	s.silent(address, 80)
	s.event(svc, v1alpha1.EventUpdated, "") // before the kill, which loses events that are not written
	s.update(svc, func(svc *corev1.Service) { svc.Spec.Ports[0].NodePort = nodePortKept })
	wait.For(t, func(context.Context) error { // the old nodePort answers until kube-proxy has heard of it
		if text := fragment(t, svc); !contains(text, fmt.Sprint(nodePortKept)) {
			return fmt.Errorf("not yet by the nodePort %d:\n%s", nodePortKept, text)
		}
		return nil
	})
	s.inSync(balancer)
	s.answers("web", address, 8080)
	must(t, env.Manager.Kill())
	s.answers("web", address, 8080)
	must(t, env.StartManager(t.Context()))
	s.settled()
	if got := addresses(s.get(svc)); !slices.Equal(got, []string{address}) {
		t.Errorf("the address became %v, want %s", got, address)
	}
}

func TestS16_TCPAndUDPOnOnePort(t *testing.T) {
	t.Parallel()
	carries(t, corev1.ProtocolUDP)
	s := besideScene(t)
	s.pod("dns", "dns-1", "node1")
	svc := s.service("dns",
		withPort("tcp", corev1.ProtocolTCP, 53, 8080),
		withPort("udp", corev1.ProtocolUDP, 53, 9000))
	address := s.published(svc)[0]
	s.answers("dns", address, 53)
	s.datagramAnswers("dns", address, 53)
}

func TestS17_NoNodePort(t *testing.T) {
	t.Parallel()
	s := besideScene(t)
	s.pod("web", "web-1", "node1")
	svc := s.service("web", func(svc *corev1.Service) { svc.Spec.AllocateLoadBalancerNodePorts = ptr.To(false) })
	s.until(svc, "told that it has no nodePort", func(svc *corev1.Service) bool {
		return condition(svc, v1alpha1.ConditionServiceProgrammed).Reason == v1alpha1.ReasonNoNodePort
	})
	s.event(svc, v1alpha1.EventSyncFailed, "nodePort")
	s.update(svc, func(svc *corev1.Service) { svc.Spec.AllocateLoadBalancerNodePorts = ptr.To(true) })
	s.answers("web", s.published(svc)[0], 80)
}

// LoadBalancer, ClusterIP, and LoadBalancer again: meanwhile somebody else may have the
// address, and then it is his.
func TestS33_TheAddressIsSomebodyElsesByNow(t *testing.T) {
	t.Parallel()
	s := besideScene(t)
	s.pod("web", "web-1", "node1")
	s.pod("heir", "heir-1", "node2")
	const wanted = "203.0.113.133"
	svc := s.service("web", withAnnotation(v1alpha1.AddressesAnnotation, wanted))
	s.published(svc)
	heir := s.service("heir", withAnnotation(v1alpha1.AddressesAnnotation, wanted)) // waits
	s.update(svc, func(svc *corev1.Service) {
		svc.Spec.Type, svc.Spec.LoadBalancerClass = corev1.ServiceTypeClusterIP, nil
	})
	s.published(heir)
	svc = s.update(svc, func(svc *corev1.Service) {
		svc.Spec.Type, svc.Spec.LoadBalancerClass = corev1.ServiceTypeLoadBalancer, ptr.To(class)
	})
	s.until(svc, "told who has it", func(svc *corev1.Service) bool {
		if got := addresses(svc); len(got) > 0 {
			t.Fatalf("reports %v, which is another Service's", got)
		}
		return contains(condition(svc, v1alpha1.ConditionServiceProgrammed).Message, s.namespace+"/heir")
	})
	s.answers("heir", wanted, 80)
}

func TestS33_SameNameNewUID(t *testing.T) {
	t.Parallel()
	s := besideScene(t)
	s.pod("web", "web-1", "node1")
	first := s.service("web")
	s.published(first)
	s.remove(t.Context(), first)
	second := s.service("web", withPort("http", corev1.ProtocolTCP, 8081, 8080))
	address := s.published(second)[0]
	s.answers("web", address, 8081)
	s.silent(address, 80)
}

func TestS34_TheOlderKeepsTheAddress(t *testing.T) {
	t.Parallel()
	s := besideScene(t)
	s.pod("older", "older-1", "node1")
	s.pod("younger", "younger-1", "node2")
	const wanted = "203.0.113.130"
	older := s.service("older", withAnnotation(v1alpha1.AddressesAnnotation, wanted))
	s.published(older)
	younger := s.service("younger", withAnnotation(v1alpha1.AddressesAnnotation, wanted))
	s.until(younger, "told who has it", func(svc *corev1.Service) bool {
		c := condition(svc, v1alpha1.ConditionServiceProgrammed)
		return c.Status == "False" && contains(c.Message, s.namespace+"/older")
	})
	s.event(younger, v1alpha1.EventSyncFailed, s.namespace+"/older")
	s.answers("older", wanted, 80)
	t.Run("another port of the same address is free", func(t *testing.T) { // this pool shares by port
		needsHosts(t)
		s.published(s.service("neighbour", withAnnotation(v1alpha1.AddressesAnnotation, wanted), withPort("http", corev1.ProtocolTCP, 81, 8080)))
	})
	s.remove(t.Context(), older)
	if got := s.published(younger); got[0] != wanted {
		t.Errorf("got %v, want %s", got, wanted)
	}
	s.answers("younger", wanted, 80)
}

func TestS30_RequestedAddresses(t *testing.T) {
	t.Parallel()
	s := besideScene(t)
	s.pod("web", "web-1", "node1")
	for name, c := range map[string]struct {
		change option
		want   string // address, or
		reason string
	}{
		"annotation":       {change: withAnnotation(v1alpha1.AddressesAnnotation, "203.0.113.131"), want: "203.0.113.131"},
		"load-balancer-ip": {change: func(svc *corev1.Service) { svc.Spec.LoadBalancerIP = "203.0.113.132" }, want: "203.0.113.132"},
		"no-pool":          {change: withAnnotation(v1alpha1.AddressesAnnotation, "192.0.2.77"), reason: v1alpha1.ReasonAddressUnavailable},
		"garbage":          {change: withAnnotation(v1alpha1.AddressesAnnotation, "} server { listen 1; }"), reason: v1alpha1.ReasonInvalidAnnotation},
		"pool":             {change: withAnnotation(v1alpha1.AddressPoolAnnotation, "on-call")},
	} {
		t.Run(name, func(t *testing.T) {
			svc := s.service(name, c.change)
			if c.reason != "" {
				s.until(svc, "refused", func(svc *corev1.Service) bool {
					return condition(svc, v1alpha1.ConditionServiceProgrammed).Reason == c.reason
				})
				s.event(svc, v1alpha1.EventSyncFailed, "")
				return
			}
			got := s.published(svc)[0]
			if c.want != "" && got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
			if pool := netip.MustParsePrefix("203.0.113.128/28"); !pool.Contains(netip.MustParseAddr(got)) {
				t.Errorf("got %s, want one of %s", got, pool)
			}
		})
	}
}
