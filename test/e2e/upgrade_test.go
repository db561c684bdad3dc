package e2e

import (
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/external-lb/external-lb/api/v1alpha1"
)

// Each node is cordoned, drained, started again and uncordoned, as docs/howto/upgrade-nodes.md
// has it, and no request is lost.
func TestUpgrade_OfNodesLosesNoRequest(t *testing.T) {
	cordonedDrain(t)
	for _, policy := range []corev1.ServiceExternalTrafficPolicy{corev1.ServiceExternalTrafficPolicyCluster, corev1.ServiceExternalTrafficPolicyLocal} {
		t.Run(string(policy), func(t *testing.T) {
			d := newScene(t).deploy(policy)
			for _, node := range env.Nodes() {
				d.upgrade(node)
			}
			d.load.end(t)
		})
	}
}

// cordonedDrain lets nodes drain that are cordoned.
func cordonedDrain(t *testing.T) {
	t.Helper()
	changeBalancer(t, balancer, func(b *v1alpha1.Balancer) { b.Spec.Nodes.Cordoned = v1alpha1.CordonedDrain })
	t.Cleanup(func() {
		changeBalancer(t, balancer, func(b *v1alpha1.Balancer) { b.Spec.Nodes.Cordoned = v1alpha1.CordonedKeep })
	})
}

// Patches of a node.
const cordon, uncordon = `{"spec":{"unschedulable":true}}`, `{"spec":{"unschedulable":null}}`

func (d *deployment) upgrade(node string) {
	t := d.t
	t.Helper()
	patchNode(t, node, cordon, uncordon)
	d.cordoned = node
	d.evict(node)
	d.carriedBy(d.svc, d.backends()...)
	d.inSync(balancer)
	d.load.onTheirWayEnd(t)
	must(t, env.NodeDown(t.Context(), node))
	d.load.answered(t, perSecond)
	must(t, env.NodeUp(t.Context(), node))
	if !d.moves { // else it has no pods, and does not answer
		d.nodesSend("web", d.svc, node)
	}
	patchNode(t, node, uncordon, uncordon)
	d.cordoned = ""
	d.carriedBy(d.svc, d.backends()...)
	d.inSync(balancer)
	if !d.moves {
		d.isUsed(node)
	}
}

// evict moves the pods of a node to the next one.
func (d *deployment) evict(node string) {
	d.t.Helper()
	d.round++
	for i, old := range d.pods {
		if old.node == node {
			d.replace(i, d.after(node))
		}
	}
}
