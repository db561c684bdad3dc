package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/external-lb/external-lb/test/cluster"
	"github.com/external-lb/external-lb/test/wait"
)

// connection is one that is kept open, to a pod that answers each line.
type connection struct {
	net.Conn
	lines *bufio.Reader
}

func (s *scene) connect(address string, port int32) (*connection, error) {
	ctx, cancel := context.WithTimeout(s.t.Context(), 5*time.Second)
	defer cancel()
	conn, err := env.DialFrom(ctx, "client", "tcp", net.JoinHostPort(address, fmt.Sprint(port)))
	if err != nil {
		return nil, err
	}
	s.t.Cleanup(func() { conn.Close() })
	return &connection{conn, bufio.NewReader(conn)}, nil
}

func (c *connection) ask() (answer cluster.Answer, err error) {
	if err := c.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return answer, err
	}
	if _, err := c.Write([]byte("hello\n")); err != nil {
		return answer, err
	}
	line, err := c.lines.ReadBytes('\n')
	if err != nil {
		return answer, err
	}
	return answer, json.Unmarshal(line, &answer)
}

// connectTo opens connections until one is to a pod.
func (s *scene) connectTo(pod, address string, port int32) *connection {
	s.t.Helper()
	var c *connection
	wait.For(s.t, func(context.Context) (err error) {
		if c, err = s.connect(address, port); err != nil {
			return err
		}
		answer, err := c.ask()
		if err == nil && answer.Pod != pod {
			err = fmt.Errorf("to %s, want %s", answer.Pod, pod)
		}
		return err
	})
	return c
}

// lives fails the test if a connection to a pod is no more.
func (c *connection) lives(t *testing.T, pod string) {
	t.Helper()
	if answer, err := c.ask(); err != nil || answer.Pod != pod {
		t.Errorf("the established connection to %s: answered by %q, %v", pod, answer.Pod, err)
	}
}

// newConnectionsGo waits until a number of new connections in a row are to a pod.
func (s *scene) newConnectionsGo(pod, address string, port int32) {
	s.t.Helper()
	wait.For(s.t, func(context.Context) error {
		for range 20 {
			c, err := s.connect(address, port)
			if err != nil {
				return err
			}
			answer, err := c.ask()
			c.Close()
			if err != nil || answer.Pod != pod {
				return fmt.Errorf("a new connection to %q, want %s (%v)", answer.Pod, pod, err)
			}
		}
		return nil
	})
}

func TestS21_TerminatingEndpointsKeepTheirConnections(t *testing.T) {
	t.Parallel()
	terminatingEndpoints(t)
}

// terminatingEndpoints: a pod terminates on a node that has no other. New connections go
// to other nodes, and those that it has stay.
func terminatingEndpoints(t *testing.T) {
	recorded(t)
	for _, policy := range []corev1.ServiceExternalTrafficPolicy{corev1.ServiceExternalTrafficPolicyCluster, corev1.ServiceExternalTrafficPolicyLocal} {
		t.Run(string(policy), func(t *testing.T) {
			s := besideScene(t)
			s.pod("web", "web-1", "node1")
			s.pod("web", "web-2", "node2")
			svc := s.service("web", withPort("tcp", corev1.ProtocolTCP, 80, 9000), func(svc *corev1.Service) { svc.Spec.ExternalTrafficPolicy = policy })
			address := s.published(svc)[0]
			kept := s.connectTo("web-1", address, 80)
			must(t, env.TerminatePod(t.Context(), s.namespace, "web-1"))
			s.newConnectionsGo("web-2", address, 80)
			s.inSync(balancer)
			kept.lives(t, "web-1")
		})
	}
}

// With terminating endpoints alone the health check node port fails on every node, and
// what is established lives on, until the pod ends.
func TestE18_HealthCheckNodePortWithTerminatingEndpoints(t *testing.T) {
	t.Parallel()
	s := besideScene(t)
	s.pod("web", "web-1", "node1")
	svc := s.service("web", withLocal, withPort("tcp", corev1.ProtocolTCP, 80, 9000))
	address := s.published(svc)[0]
	s.healthOfNodes(svc, "node1")
	kept := s.connectTo("web-1", address, 80)
	must(t, env.TerminatePod(t.Context(), s.namespace, "web-1"))
	s.healthOfNodes(svc)
	wait.For(t, func(context.Context) error {
		c, err := s.connect(address, 80)
		if err != nil {
			return nil
		}
		defer c.Close()
		if answer, err := c.ask(); err == nil {
			return fmt.Errorf("a new connection is answered by %s", answer.Pod)
		}
		return nil
	})
	s.inSync(balancer)
	kept.lives(t, "web-1")
	s.pod("web", "web-2", "node2")
	s.newConnectionsGo("web-2", address, 80)
	kept.lives(t, "web-1")
	must(t, env.RemovePod(t.Context(), s.namespace, "web-1"))
	s.healthOfNodes(svc, "node2")
}
