package builder

import corev1 "k8s.io/api/core/v1"

// NodeBuilder makes a Node.
type NodeBuilder struct {
	object[corev1.Node, NodeBuilder]
}

// Node begins one without addresses.
func Node(name string) *NodeBuilder {
	b, node := &NodeBuilder{}, &corev1.Node{}
	b.object = begin(b, node, &node.ObjectMeta, "", name)
	return b
}

// IP adds addresses of the type InternalIP.
func (b *NodeBuilder) IP(addresses ...string) *NodeBuilder {
	return b.Address(corev1.NodeInternalIP, addresses...)
}

// Address adds addresses of a type.
func (b *NodeBuilder) Address(kind corev1.NodeAddressType, addresses ...string) *NodeBuilder {
	for _, address := range addresses {
		b.obj.Status.Addresses = append(b.obj.Status.Addresses, corev1.NodeAddress{Type: kind, Address: address})
	}
	return b
}

// Taint adds a taint of the effect NoSchedule.
func (b *NodeBuilder) Taint(key string) *NodeBuilder {
	b.obj.Spec.Taints = append(b.obj.Spec.Taints, corev1.Taint{Key: key, Effect: corev1.TaintEffectNoSchedule})
	return b
}

// Cordoned is as `kubectl cordon` leaves it.
func (b *NodeBuilder) Cordoned() *NodeBuilder {
	b.obj.Spec.Unschedulable = true
	return b
}

// NotReady says that the node is not ready. Without it, nothing is said.
func (b *NodeBuilder) NotReady() *NodeBuilder {
	b.obj.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionFalse}}
	return b
}
