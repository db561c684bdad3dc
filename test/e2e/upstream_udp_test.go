package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/test/cluster"
	"github.com/external-lb/external-lb/test/wait"
)

// flow is a UDP client that keeps its source port, as a resolver or a phone does.
type flow struct {
	*scene
	net.Conn
}

func (s *scene) flow(address string, port int32) flow {
	s.t.Helper()
	conn, err := env.DialFrom(s.t.Context(), "client", "udp", net.JoinHostPort(address, fmt.Sprint(port)))
	must(s.t, err)
	s.t.Cleanup(func() { conn.Close() })
	return flow{s, conn}
}

// answeredBy sends until a pod answers.
func (f flow) answeredBy(pod string) {
	f.t.Helper()
	wait.For(f.t, func(context.Context) error {
		answer, err := f.ask()
		if err == nil && answer.Pod != pod {
			err = fmt.Errorf("answered by %s, want %s", answer.Pod, pod)
		}
		return err
	})
}

func (f flow) ask() (answer cluster.Answer, err error) {
	if err := f.SetDeadline(time.Now().Add(100 * time.Millisecond)); err != nil {
		return answer, err
	}
	if _, err := f.Write([]byte("hello\n")); err != nil {
		return answer, err
	}
	buffer := make([]byte, 64<<10)
	n, err := f.Read(buffer)
	if err != nil {
		return answer, err
	}
	return answer, json.Unmarshal(buffer[:n], &answer)
}

func TestE10_UDPWhenThePodCyclesToAnotherNode(t *testing.T) {
	t.Parallel()
	udpCycle(t, "node1", "node2", false)
}

func TestE11_UDPWhenThePodCyclesOnItsNode(t *testing.T) {
	t.Parallel()
	udpCycle(t, "node1", "node1", false)
}

// The pod is there no more before the next one comes: datagrams get lost, and the
// flow is not.
func TestS36_UDPClientsThatKeepTheirPort(t *testing.T) {
	t.Parallel()
	udpCycle(t, "node1", "node3", true)
}

// udpCycle replaces the one pod while a client that keeps its port goes on asking.
func udpCycle(t *testing.T, from, to string, gap bool) {
	carries(t, corev1.ProtocolUDP)
	for _, policy := range []corev1.ServiceExternalTrafficPolicy{corev1.ServiceExternalTrafficPolicyCluster, corev1.ServiceExternalTrafficPolicyLocal} {
		t.Run(string(policy), func(t *testing.T) {
			if policy == corev1.ServiceExternalTrafficPolicyLocal && from != to {
				needsHosts(t) // a cloud's balancer may stay with the node
			}
			s := besideScene(t)
			s.pod("dns", "dns-1", from)
			svc := s.service("dns", withPort("udp", corev1.ProtocolUDP, 53, 9000), func(svc *corev1.Service) {
				svc.Spec.ExternalTrafficPolicy = policy
			})
			f := s.flow(s.published(svc)[0], 53)
			f.answeredBy("dns-1")
			if !gap {
				s.pod("dns", "dns-2", to)
			}
			must(t, env.RemovePod(t.Context(), s.namespace, "dns-1"))
			if gap {
				wait.For(t, func(context.Context) error {
					if answer, err := f.ask(); err == nil {
						return fmt.Errorf("answered by %s", answer.Pod)
					}
					return nil
				})
				s.pod("dns", "dns-2", to)
			}
			f.answeredBy("dns-2")
		})
	}
}

// A node whose kube-proxy forgets to forget: what the flow was translated to is gone,
// and nobody tells the kernel. With Local the balancer itself leaves the node; with
// Cluster only the node can help.
func TestS36_StaleTranslations(t *testing.T) {
	carries(t, corev1.ProtocolUDP)
	needsHosts(t)
	s := newScene(t)
	s.pod("dns", "dns-1", "node1")
	f := s.flow(s.published(s.service("dns", withLocal, withPort("udp", corev1.ProtocolUDP, 53, 9000)))[0], 53)
	f.answeredBy("dns-1")
	proxy := func(ctx context.Context, signal string) error {
		_, err := env.Exec(ctx, "node1", "pkill", "-"+signal, "-f", "kube-proxy .*/node1.yaml$")
		return err
	}
	must(t, proxy(t.Context(), "STOP"))
	t.Cleanup(func() { must(t, proxy(context.Background(), "CONT")) })
	must(t, env.RemovePod(t.Context(), s.namespace, "dns-1"))
	s.pod("dns", "dns-2", "node2")
	f.answeredBy("dns-2")
}

// One flow is one client for kube-proxy, whatever process of the balancer gets its
// datagrams: the pod that has answered first answers all of it.
func TestS36_OneFlowReachesOnePod(t *testing.T) {
	carries(t, corev1.ProtocolUDP)
	s := newScene(t)
	for i := range 4 {
		s.pod("dns", fmt.Sprintf("dns-%d", i), fmt.Sprintf("node%d", i%3+1))
	}
	address := s.published(s.service("dns", withPort("udp", corev1.ProtocolUDP, 53, 9000)))[0]
	s.datagramAnswers("dns", address, 53)
	s.inSync(balancer) // from here on no other processes come
	for range 5 {
		f, first := s.flow(address, 53), ""
		for range 200 {
			answer, err := f.ask()
			if err != nil {
				continue // late, as it may be on a busy machine
			}
			if first == "" {
				first = answer.Pod
			}
			if answer.Pod != first {
				t.Fatalf("answered by %s and by %s", first, answer.Pod)
			}
		}
	}
}

// A question with one answer, as DNS, keeps a session no longer than it needs: of a busy
// resolver, they would use up a host's connections.
func TestS36_SessionsEndSoon(t *testing.T) {
	carries(t, corev1.ProtocolUDP)
	if engine.name == v1alpha1.EngineLVS || engine.datagrams != "" || cloud != nil {
		return // the kernel has a timeout of its own
	}
	t.Parallel()
	s := besideScene(t)
	s.pod("dns", "dns-1", "node1")
	svc := s.service("dns", withPort("udp", corev1.ProtocolUDP, 53, 9000))
	address := s.published(svc)[0]
	for range 20 {
		s.datagramAnswers("dns", address, 53) // each from a port of its own
	}
	none := func(ctx context.Context) error {
		for _, host := range getBalancer(s.t, balancer).Spec.Hosts { // the cluster has those of other tests, too
			name := host.Name
			h, err := env.Host(name)
			if err != nil {
				return err
			}
			sessions, err := h.Shell(ctx, fmt.Sprintf("ss -Hun dst :%d", s.get(svc).Spec.Ports[0].NodePort))
			if err != nil {
				return err
			}
			if sessions = strings.TrimSpace(sessions); sessions != "" {
				return fmt.Errorf("%s has sessions:\n%s", name, sessions)
			}
		}
		return nil
	}
	if none(t.Context()) == nil {
		t.Error("sessions are not seen")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 45*time.Second)
	defer cancel()
	must(t, wait.Until(ctx, none))
}
