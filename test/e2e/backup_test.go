package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/external-lb/external-lb/api/v1alpha1"
	table "github.com/external-lb/external-lb/internal/engine/engines"
	"github.com/external-lb/external-lb/test/builder"
	"github.com/external-lb/external-lb/test/cluster"
	"github.com/external-lb/external-lb/test/wait"
)

// A node in reserve carries nothing while another one is up, or the Balancer says why it does.
func TestNodesInReserve(t *testing.T) {
	s := newScene(t)
	must(t, env.RouteVia(t.Context(), "lb1"))
	t.Cleanup(func() { must(t, env.RouteVia(context.Background(), "lb1", "lb2")) })
	const reserve = "node3"
	s.labelNode(reserve, "tier", `"reserve"`)
	t.Cleanup(func() { s.labelNode(reserve, "tier", "null") })
	changeBalancer(t, balancer, func(b *v1alpha1.Balancer) {
		b.Spec.Nodes.Backup.MatchLabels = map[string]v1alpha1.LabelValue{"tier": "reserve"}
	})
	t.Cleanup(func() {
		changeBalancer(t, balancer, func(b *v1alpha1.Balancer) { b.Spec.Nodes.Backup = v1alpha1.LabelSelector{} })
	})
	for _, node := range env.Nodes() { // each with a pod, so that the pod says which node was chosen
		_, err := env.AddPod(t.Context(), cluster.PodSpec{Namespace: s.namespace, Name: "web-" + node, Node: node, Labels: map[string]string{"app": "web"}})
		must(t, err)
	}
	svc := s.service("web", withLocal, withPort("web", "TCP", 80, 9000))
	f := &field{scene: s, name: "backup", service: svc, host: s.published(svc)[0]}
	f.address = f.host + ":80"
	if why := table.Named(engine.name).Backups.Missing; why != "" {
		wait.For(t, func(context.Context) error {
			c := meta.FindStatusCondition(getBalancer(t, balancer).Status.Conditions, v1alpha1.ConditionAccepted)
			if c == nil || !strings.Contains(c.Message, "spec.nodes.backup: "+why) {
				return fmt.Errorf("the Balancer says %+v", c)
			}
			return nil
		})
		f.on(env.Nodes()...)
		return
	}
	f.on("node1", "node2")
	failing := []barrier{f.bar("node1", f.checkedPort(), reset), f.bar("node2", f.checkedPort(), reset)}
	f.on(reserve)
	for _, b := range failing {
		b.lift()
	}
	f.on("node1", "node2")
}

// labelNode gives a node a label, as JSON, or takes it away.
func (s *scene) labelNode(node, key, value string) {
	s.t.Helper()
	patch := fmt.Sprintf(`{"metadata":{"labels":{%q:%s}}}`, key, value)
	must(s.t, env.Kube.Patch(context.Background(), builder.Node(node).Obj(), client.RawPatch(types.MergePatchType, []byte(patch))))
}
