package e2e

import (
	"context"
	"fmt"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/test/cluster"
	"github.com/external-lb/external-lb/test/wait"
)

// ask an address once: over HTTP where the protocol is TCP, else with a datagram.
func (s *scene) ask(ctx context.Context, protocol corev1.Protocol, address string, port int32) (cluster.Answer, error) {
	if protocol == corev1.ProtocolUDP {
		return s.datagram(ctx, address, port)
	}
	return s.web(ctx, address, port)
}

// reaches waits until an address answers with a pod of an app, over a protocol.
func (s *scene) reaches(app string, protocol corev1.Protocol, address string, port int32) {
	s.t.Helper()
	if protocol == corev1.ProtocolUDP {
		s.datagramAnswers(app, address, port)
		return
	}
	s.answers(app, address, port)
}

// unreachable waits until an address no longer answers, over a protocol.
func (s *scene) unreachable(protocol corev1.Protocol, address string, port int32) {
	s.t.Helper()
	wait.For(s.t, func(ctx context.Context) error {
		if answer, err := s.ask(ctx, protocol, address, port); err == nil {
			return fmt.Errorf("%s:%d still answers, with %s", address, port, answer.Pod)
		}
		return nil
	})
}

// echoPort is where pods listen for a protocol: see cluster.Answer.
func echoPort(protocol corev1.Protocol) int {
	if protocol == corev1.ProtocolUDP {
		return 9000
	}
	return 8080
}

func TestE01_TypeAndPortsOfTCP(t *testing.T) {
	t.Parallel()
	typeAndPorts(t, corev1.ProtocolTCP, nodePortOfTCP, nodePortOfTCPLater)
}

func TestE02_TypeAndPortsOfUDP(t *testing.T) {
	t.Parallel()
	carries(t, corev1.ProtocolUDP)
	typeAndPorts(t, corev1.ProtocolUDP, nodePortOfUDP, nodePortOfUDPLater)
}

// typeAndPorts changes both of a Service, among them the nodePort to another one.
func typeAndPorts(t *testing.T, protocol corev1.Protocol, nodePort, another int32) {
	s := besideScene(t)
	s.pod("web", "web-1", "node1")
	svc := s.service("web", withPort("p", protocol, 80, echoPort(protocol)), func(svc *corev1.Service) {
		svc.Spec.Type, svc.Spec.LoadBalancerClass = corev1.ServiceTypeClusterIP, nil
	})
	node := env.Addrs("node2")[0].String()
	svc = s.update(svc, func(svc *corev1.Service) {
		svc.Spec.Type, svc.Spec.Ports[0].NodePort = corev1.ServiceTypeNodePort, nodePort
	})
	s.reaches("web", protocol, node, nodePort)

	svc = s.update(svc, func(svc *corev1.Service) {
		svc.Spec.Type, svc.Spec.LoadBalancerClass = corev1.ServiceTypeLoadBalancer, ptr.To(class)
	})
	if got := svc.Spec.Ports[0].NodePort; got != nodePort {
		t.Errorf("the nodePort became %d, want %d", got, nodePort)
	}
	address := s.published(svc)[0]
	same := func(after string) {
		t.Helper()
		if got := addresses(s.get(svc)); !slices.Equal(got, []string{address}) {
			t.Errorf("after %s: addresses %v, want %s", after, got, address)
		}
	}
	s.reaches("web", protocol, address, 80)

	svc = s.update(svc, func(svc *corev1.Service) { svc.Spec.Ports[0].NodePort = another })
	s.reaches("web", protocol, node, svc.Spec.Ports[0].NodePort)
	s.unreachable(protocol, node, nodePort)
	s.reaches("web", protocol, address, 80)
	same("a change of the nodePort")

	svc = s.update(svc, func(svc *corev1.Service) { svc.Spec.Ports[0].Port = 81 })
	s.reaches("web", protocol, address, 81)
	s.unreachable(protocol, address, 80)
	same("a change of the port")

	must(t, env.RemovePod(t.Context(), s.namespace, "web-1"))
	s.unreachable(protocol, address, 81)
	same("the last endpoint went")
	s.pod("web", "web-2", "node3")
	s.reaches("web", protocol, address, 81)

	s.update(svc, func(svc *corev1.Service) {
		svc.Spec.Type, svc.Spec.LoadBalancerClass, svc.Spec.Ports[0].NodePort = corev1.ServiceTypeClusterIP, nil, 0
	})
	s.unreachable(protocol, address, 81)
	s.unreachable(protocol, node, another)
	fresh := s.until(svc, "let go", func(svc *corev1.Service) bool { return len(svc.Finalizers) == 0 })
	if got := addresses(fresh); len(got) > 0 {
		t.Errorf("addresses %v of a ClusterIP Service", got)
	}
}

// The finalizer is there exactly as long as the Service has a balancer, and its
// deletion completes.
func TestE08_FinalizerFollowsTheType(t *testing.T) {
	t.Parallel()
	s := besideScene(t)
	svc := s.service("web")
	for range 2 {
		s.published(svc)
		if fresh := s.get(svc); !slices.Contains(fresh.Finalizers, v1alpha1.SharedFinalizer) {
			t.Fatalf("finalizers %v of a LoadBalancer Service", fresh.Finalizers)
		}
		s.update(svc, func(svc *corev1.Service) {
			svc.Spec.Type, svc.Spec.LoadBalancerClass = corev1.ServiceTypeClusterIP, nil
		})
		s.until(svc, "without finalizers", func(svc *corev1.Service) bool { return len(svc.Finalizers) == 0 })
		s.update(svc, func(svc *corev1.Service) {
			svc.Spec.Type, svc.Spec.LoadBalancerClass = corev1.ServiceTypeLoadBalancer, ptr.To(class)
		})
	}
	s.published(svc)
	s.remove(t.Context(), svc)
}

func TestE09_NoNodePortAtFirst(t *testing.T) {
	t.Parallel()
	s := besideScene(t)
	s.pod("web", "web-1", "node1")
	svc := s.service("web", withoutNodePorts)
	s.until(svc, "told that it has no nodePort", func(svc *corev1.Service) bool {
		return condition(svc, v1alpha1.ConditionServiceProgrammed).Reason == v1alpha1.ReasonNoNodePort
	})
	if fresh := s.get(svc); fresh.Spec.Ports[0].NodePort != 0 {
		t.Errorf("nodePort %d", fresh.Spec.Ports[0].NodePort)
	}
	// One that its owner chooses, without allocation.
	svc = s.update(svc, func(svc *corev1.Service) { svc.Spec.Ports[0].NodePort = nodePortChosenLater })
	s.answers("web", s.published(svc)[0], 80)
	s.until(svc, "programmed", func(svc *corev1.Service) bool {
		return condition(svc, v1alpha1.ConditionServiceProgrammed).Status == "True"
	})
}

func withoutNodePorts(svc *corev1.Service) { svc.Spec.AllocateLoadBalancerNodePorts = ptr.To(false) }

// TCP and UDP on one port, added one after the other, and taken away.
func TestE19_OnePortTwoProtocols(t *testing.T) {
	t.Parallel()
	carries(t, corev1.ProtocolUDP)
	s := besideScene(t)
	s.pod("dns", "dns-1", "node1")
	svc := s.service("dns", withPort("tcp", corev1.ProtocolTCP, 53, 8080))
	address := s.published(svc)[0]
	s.answers("dns", address, 53)
	svc = s.update(svc, func(svc *corev1.Service) { withPort("udp", corev1.ProtocolUDP, 53, 9000)(svc) })
	s.datagramAnswers("dns", address, 53)
	s.answers("dns", address, 53)
	// The two may share the number of their nodePort.
	s.update(svc, func(svc *corev1.Service) { svc.Spec.Ports[1].NodePort = svc.Spec.Ports[0].NodePort })
	s.datagramAnswers("dns", address, 53)
	s.answers("dns", address, 53)
	s.update(svc, func(svc *corev1.Service) { svc.Spec.Ports = svc.Spec.Ports[1:] })
	s.unreachable(corev1.ProtocolTCP, address, 53)
	s.datagramAnswers("dns", address, 53)
	if got := addresses(s.get(svc)); !slices.Equal(got, []string{address}) {
		t.Errorf("addresses %v, want %s", got, address)
	}
}
