package translate

import (
	"cmp"
	"hash/fnv"
	"maps"
	"net/netip"
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/external-lb/external-lb/api/v1alpha1"
)

// toBeDeleted is the cluster autoscaler's taint on a node that it removes.
const toBeDeleted = "ToBeDeletedByClusterAutoscaler"

// node is one that may be a backend.
type node struct {
	name   string
	v4, v6 netip.Addr // invalid: none of this family
}

func (n node) address(ipv4 bool) netip.Addr {
	if ipv4 {
		return n.v4
	}
	return n.v6
}

// eligible finds the nodes that may be backends, sorted by name, and says why
// there are none. As in Kubernetes' own service controller, the autoscaler's
// taint counts when something else is a reason to look, and is none itself: see
// SameNode.
func eligible(b *v1alpha1.Balancer, nodes []*corev1.Node) ([]node, *Problem) {
	selector, err := metav1.LabelSelectorAsSelector(&b.Spec.Nodes.Selector)
	if err != nil {
		return nil, &Problem{Reason: v1alpha1.ReasonInvalid, Message: "spec.nodes.selector of Balancer " + b.Name + ": " + err.Error()}
	}
	var out []node
	labelled := 0
	for _, n := range nodes {
		if n.DeletionTimestamp != nil || !selector.Matches(labels.Set(n.Labels)) || tainted(n) {
			continue
		}
		if excluded(n) && !b.Spec.Nodes.IgnoreExcludeLabel {
			labelled++
			continue
		}
		v4, v6 := addresses(n)
		if v4.IsValid() || v6.IsValid() {
			out = append(out, node{n.Name, v4, v6})
		}
	}
	slices.SortFunc(out, func(a, b node) int { return cmp.Compare(a.name, b.name) })
	switch {
	case len(out) > 0:
		return out, nil
	case labelled > 0:
		return nil, &Problem{Reason: v1alpha1.ReasonNoEligibleNodes, Message: "every node has the label " + corev1.LabelNodeExcludeBalancers +
			", which kubeadm puts on control-plane nodes: remove it from some, or set spec.nodes.ignoreExcludeLabel of Balancer " + b.Name}
	default:
		return nil, &Problem{Reason: v1alpha1.ReasonNoEligibleNodes, Message: "no node of the cluster may be a backend: see spec.nodes of Balancer " + b.Name}
	}
}

func tainted(n *corev1.Node) bool {
	return slices.ContainsFunc(n.Spec.Taints, func(t corev1.Taint) bool { return t.Key == toBeDeleted })
}

// excluded reads the label as Kubernetes does: any value but a false one excludes.
func excluded(n *corev1.Node) bool {
	value, set := n.Labels[corev1.LabelNodeExcludeBalancers]
	if !set {
		return false
	}
	exclude, err := strconv.ParseBool(value)
	return err != nil || exclude
}

// addresses are a node's first InternalIP of each family, else its ExternalIP.
func addresses(n *corev1.Node) (v4, v6 netip.Addr) {
	for _, kind := range []corev1.NodeAddressType{corev1.NodeInternalIP, corev1.NodeExternalIP} {
		for _, na := range n.Status.Addresses {
			if na.Type != kind {
				continue
			}
			a, ok := unicast(na.Address)
			switch {
			case !ok:
			case a.Is4() && !v4.IsValid():
				v4 = a
			case a.Is6() && !v6.IsValid():
				v6 = a
			}
		}
	}
	return v4, v6
}

// unicast parses an address that one machine of the network can have.
func unicast(s string) (netip.Addr, bool) {
	a, err := netip.ParseAddr(s)
	a = a.Unmap()
	return a, err == nil && a.Zone() == "" && a.IsGlobalUnicast()
}

// SameNode reports whether two versions of a node mean the same to a balancer,
// so that what kubelets report all the time costs nothing. An autoscaler's taint
// alone is no difference: the node still serves, and its removal is one.
func SameNode(a, b *corev1.Node) bool {
	return (a.DeletionTimestamp == nil) == (b.DeletionTimestamp == nil) &&
		maps.Equal(a.Labels, b.Labels) &&
		slices.Equal(a.Status.Addresses, b.Status.Addresses)
}

// subset keeps k of the nodes, by rendezvous hashing: a node that comes or goes
// moves only the Services that it wins or had. 0 keeps all.
func subset(nodes []node, uid string, k int) []node {
	if k == 0 || len(nodes) <= k {
		return nodes
	}
	scores := make(map[string]uint64, len(nodes))
	for _, n := range nodes {
		scores[n.name] = score(uid, n.name)
	}
	out := slices.SortedFunc(slices.Values(nodes), func(a, b node) int {
		return cmp.Or(cmp.Compare(scores[b.name], scores[a.name]), cmp.Compare(a.name, b.name))
	})[:k]
	slices.SortFunc(out, func(a, b node) int { return cmp.Compare(a.name, b.name) })
	return out
}

func score(uid, node string) uint64 {
	h := fnv.New64a()
	h.Write([]byte(uid))
	h.Write([]byte{0})
	h.Write([]byte(node))
	// FNV mixes its last bytes badly; node names differ in just those.
	x := h.Sum64()
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	x *= 0xc4ceb9fe1a85ec53
	return x ^ x>>33
}
