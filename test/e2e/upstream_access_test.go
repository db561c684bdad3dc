package e2e

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/external-lb/external-lb/test/wait"
)

// outsider is a client beside the one that tests mostly are.
func outsider(t *testing.T) string {
	t.Helper()
	const name = "outsider"
	if !slices.Contains(env.Clients(), name) {
		must(t, env.AddClient(t.Context(), name))
	}
	return name
}

func TestE03_SourceRanges(t *testing.T) {
	t.Parallel()
	sourceRanges(t)
}

// sourceRanges: two clients, and which of them are let in.
func sourceRanges(t *testing.T) {
	s := besideScene(t)
	s.pod("web", "web-1", "node1")
	one, other := env.Addrs("client")[0].String(), env.Addrs(outsider(t))[0].String()
	svc := s.service("web")
	address := s.published(svc)[0]
	for _, c := range []struct {
		name       string
		ranges     []string
		one, other bool
	}{
		{"unset", nil, true, true},
		{"one client", []string{one + "/32"}, true, false},
		{"the other client", []string{other + "/32"}, false, true},
		{"both", []string{one + "/32", other + "/32"}, true, true},
		{"everybody in two halves", []string{"0.0.0.0/1", "128.0.0.0/1"}, true, true},
		{"nobody", []string{"192.0.2.1/32"}, false, false},
		{"cleared", nil, true, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			s.update(svc, func(svc *corev1.Service) { svc.Spec.LoadBalancerSourceRanges = c.ranges })
			for where, want := range map[string]bool{"client": c.one, "outsider": c.other} {
				steadily(t, func(ctx context.Context) error {
					if _, err := s.webFrom(ctx, where, address, 80); (err == nil) != want {
						return fmt.Errorf("%s is let in: %t, want %t (%v)", where, err == nil, want, err)
					}
					return nil
				})
			}
		})
	}
}

func TestE04_AffinityWithLocal(t *testing.T)           { t.Parallel(); affinity(t, withLocal, false) }
func TestE05_AffinitySwitchedWithLocal(t *testing.T)   { t.Parallel(); affinity(t, withLocal, true) }
func TestE06_AffinityWithCluster(t *testing.T)         { affinity(t, func(*corev1.Service) {}, false) }
func TestE07_AffinitySwitchedWithCluster(t *testing.T) { affinity(t, func(*corev1.Service) {}, true) }

// affinity: 15 answers in a row are from one pod. With Cluster it is kube-proxy that
// chooses the pod, for each balancer host that asks it; so there all goes by one.
func affinity(t *testing.T, policy option, switched bool) {
	s := besideScene(t)
	for _, node := range env.Nodes() {
		s.pod("web", "web-"+node, node)
	}
	svc := s.service("web", policy, func(svc *corev1.Service) { svc.Spec.SessionAffinity = corev1.ServiceAffinityClientIP })
	if svc.Spec.ExternalTrafficPolicy != corev1.ServiceExternalTrafficPolicyLocal {
		routeVia(t, carrying()[0])
	}
	address := s.published(svc)[0]
	s.spreads(address, 1)
	if !switched {
		return
	}
	for range 2 {
		s.update(svc, func(svc *corev1.Service) {
			svc.Spec.SessionAffinity, svc.Spec.SessionAffinityConfig = corev1.ServiceAffinityNone, nil
		})
		s.spreads(address, len(env.Nodes()))
		s.update(svc, func(svc *corev1.Service) { svc.Spec.SessionAffinity = corev1.ServiceAffinityClientIP })
		s.spreads(address, 1)
	}
}

// spreads waits until 15 answers in a row are from so many pods.
func (s *scene) spreads(address string, pods int) {
	s.t.Helper()
	wait.For(s.t, func(ctx context.Context) error {
		seen := map[string]bool{}
		for range 15 {
			answer, err := s.web(ctx, address, 80)
			if err != nil {
				return err
			}
			seen[answer.Pod] = true
		}
		if len(seen) != pods {
			return fmt.Errorf("answers from %v, want %d pods", seen, pods)
		}
		return nil
	})
}

// Each pod in turn is the only one, and always reached.
func TestE15_LocalFollowsAPodOverTheNodes(t *testing.T) {
	t.Parallel()
	s := besideScene(t)
	svc := s.service("web", withLocal)
	address := s.published(svc)[0]
	before := ""
	for _, node := range env.Nodes() {
		s.pod("web", "web-"+node, node)
		if before != "" {
			must(t, env.RemovePod(t.Context(), s.namespace, "web-"+before))
		}
		before = node
		s.carriedBy(svc, node)
		wait.For(t, func(ctx context.Context) error {
			for range 10 {
				answer, err := s.web(ctx, address, 80)
				if err != nil {
					return err
				}
				if answer.Node != node {
					return fmt.Errorf("answered by %s, want %s", answer.Node, node)
				}
			}
			return nil
		})
		s.healthOfNodes(svc, node)
	}
}

func TestE16_LocalUsesAllNodesWithEndpoints(t *testing.T) {
	t.Parallel()
	s := besideScene(t)
	svc := s.service("web", withLocal)
	address := s.published(svc)[0]
	var with []string
	for _, node := range env.Nodes() {
		s.pod("web", "web-"+node, node)
		with = append(with, node)
		s.carriedBy(svc, with...)
		s.spreads(address, len(with))
		s.healthOfNodes(svc, with...)
	}
}

// healthOfNode is what a node says at a Service's health check node port.
func (s *scene) healthOfNode(svc *corev1.Service, node string) (*http.Response, error) {
	c := env.HTTPClientFrom("client")
	defer c.CloseIdleConnections()
	response, err := c.Get("http://" + net.JoinHostPort(env.Addrs(node)[0].String(), fmt.Sprint(s.get(svc).Spec.HealthCheckNodePort)) + "/healthz")
	if err == nil {
		response.Body.Close() // status and headers are what counts
	}
	return response, err
}

// healthOfNodes waits until the health check node port says ready on exactly these nodes.
func (s *scene) healthOfNodes(svc *corev1.Service, ready ...string) {
	s.t.Helper()
	wait.For(s.t, func(ctx context.Context) error {
		for _, node := range env.Nodes() {
			response, err := s.healthOfNode(svc, node)
			if err != nil {
				return err
			}
			if got := response.StatusCode == 200; got != slices.Contains(ready, node) {
				return fmt.Errorf("%s says %s, want it ready: %t", node, response.Status, !got)
			}
		}
		return nil
	})
}
