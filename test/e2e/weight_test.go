package e2e

import (
	"context"
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/test/builder"
	"github.com/external-lb/external-lb/test/wait"
)

// A node gets connections in proportion to its weight.
func TestNodesAreWeighed(t *testing.T) {
	s := newScene(t)
	must(t, env.RouteVia(t.Context(), "lb1"))
	t.Cleanup(func() { must(t, env.RouteVia(context.Background(), "lb1", "lb2")) })
	s.weigh("node1", "3")
	t.Cleanup(func() { s.weigh("node1", "") })
	s.pod("web", "web-1", "node2")
	svc := s.service("web")
	address := s.published(svc)[0]
	s.answers("web", address, 80)
	f := &field{scene: s, name: "weight", service: s.get(svc)}
	const asked, few, many = 50, 25, 35 // around 30
	at := f.bar("node1", f.nodePort(), "accept")
	wait.For(t, func(ctx context.Context) error {
		before := at.tried()
		for range asked {
			if _, err := s.web(ctx, address, 80); err != nil {
				return err
			}
		}
		if n := at.tried() - before; n < few || n > many {
			return fmt.Errorf("of %d connections %d went to node1, want three of five", asked, n)
		}
		return nil
	})
}

// weigh gives a node a weight, or takes it away.
func (s *scene) weigh(node, weight string) {
	s.t.Helper()
	patch := fmt.Sprintf(`{"metadata":{"annotations":{%q:%q}}}`, v1alpha1.WeightAnnotation, weight)
	if weight == "" {
		patch = fmt.Sprintf(`{"metadata":{"annotations":{%q:null}}}`, v1alpha1.WeightAnnotation)
	}
	must(s.t, env.Kube.Patch(context.Background(), builder.Node(node).Obj(), client.RawPatch(types.MergePatchType, []byte(patch))))
}

// Nodes get connections in proportion to their pods, as their health check node port
// counts them.
func TestS19_MorePodsMoreConnections(t *testing.T) {
	t.Parallel()
	s := besideScene(t)
	svc := s.service("web", withLocal)
	address := s.published(svc)[0]
	s.pod("web", "web-0", "node2")
	for i := range 3 {
		s.pod("web", fmt.Sprintf("web-%d", i+1), "node1")
	}
	s.weightOfNode(svc, "node1", 3)
	s.weightOfNode(svc, "node2", 1)
	const asked, few, many = 80, 50, 70 // around 60
	wait.For(t, func(ctx context.Context) error {
		got := map[string]int{}
		for range asked {
			answer, err := s.web(ctx, address, 80)
			if err != nil {
				return err
			}
			got[answer.Node]++
		}
		if n := got["node1"]; n < few || n > many || n+got["node2"] != asked {
			return fmt.Errorf("of %d connections %v, want three of four on node1", asked, got)
		}
		return nil
	})
}

// weightOfNode waits until a node says how many ready endpoints it has.
func (s *scene) weightOfNode(svc *corev1.Service, node string, weight int) {
	s.t.Helper()
	wait.For(s.t, func(context.Context) error {
		response, err := s.healthOfNode(svc, node)
		if err != nil {
			return err
		}
		if got := response.Header.Get("X-Load-Balancing-Endpoint-Weight"); got != fmt.Sprint(weight) {
			return fmt.Errorf("%s says a weight of %q, want %d", node, got, weight)
		}
		return nil
	})
}
