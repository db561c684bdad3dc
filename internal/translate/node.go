package translate

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/external-lb/external-lb/api/v1alpha1"
)

// toBeDeleted is the cluster autoscaler's taint on a node that it removes.
const toBeDeleted = "ToBeDeletedByClusterAutoscaler"

// nodes are those that may be backends.
type nodes struct {
	names  []string // sorted
	v4, v6 []node   // by family, sorted by address and name
	// none says why there are none, nil if there are some.
	none *Problem
}

// node is one that may be a backend, by its address of one family.
type node struct {
	name    string
	address netip.Addr
	// For one Service:
	weight   uint16
	draining bool
}

func (ns *nodes) of(ipv4 bool) []node {
	if ipv4 {
		return ns.v4
	}
	return ns.v6
}

// eligible finds the nodes that may be backends.
//
// The autoscaler's taint makes a node ineligible (S23), but is no reason to look
// (S24): the node serves until it goes, and a reload for the taint would be
// followed by another for its removal. Kubernetes' own service controller has
// it the same way. So the taint is read here, and SameNode, which decides what
// starts a reconcile, does not see it come: it counts from the next change on.
func eligible(b *v1alpha1.Balancer, all []*corev1.Node) *nodes {
	selector, err := metav1.LabelSelectorAsSelector(&b.Spec.Nodes.Selector)
	if err != nil {
		return &nodes{none: &Problem{Reason: v1alpha1.ReasonInvalid, Message: fmt.Sprintf("spec.nodes.selector of Balancer %s: %s", b.Name, clip(err.Error())), Fatal: true}}
	}
	out := &nodes{}
	labelled, addressless := 0, 0
	for _, n := range all {
		if n.DeletionTimestamp != nil || !safeName(n.Name) || tainted(n) || !selector.Matches(labels.Set(n.Labels)) {
			continue
		}
		if excluded(n) && !b.Spec.Nodes.IgnoreExcludeLabel {
			labelled++
			continue
		}
		v4, v6 := addresses(n)
		if v4.IsValid() {
			out.v4 = append(out.v4, node{name: n.Name, address: v4})
		}
		if v6.IsValid() {
			out.v6 = append(out.v6, node{name: n.Name, address: v6})
		}
		if !v4.IsValid() && !v6.IsValid() {
			addressless++
			continue
		}
		out.names = append(out.names, n.Name)
	}
	slices.Sort(out.names)
	slices.SortFunc(out.v4, compareNodes)
	slices.SortFunc(out.v6, compareNodes)
	if len(out.names) == 0 {
		out.none = &Problem{Reason: v1alpha1.ReasonNoEligibleNodes, Message: whyNone(b.Name, labelled, addressless)}
	}
	return out
}

func compareNodes(a, b node) int {
	return cmp.Or(a.address.Compare(b.address), cmp.Compare(a.name, b.name))
}

func whyNone(balancer string, labelled, addressless int) string {
	switch {
	case labelled > 0:
		return fmt.Sprintf("every node that could be a backend has the label %s, which kubeadm puts on control-plane nodes: "+
			"remove it from some, or set spec.nodes.ignoreExcludeLabel of Balancer %s", corev1.LabelNodeExcludeBalancers, balancer)
	case addressless > 0:
		return "no node that may be a backend reports an InternalIP or ExternalIP"
	default:
		return "no node of the cluster may be a backend: see spec.nodes of Balancer " + balancer
	}
}

// safeName reports whether a node's name is in the alphabet of the model. The
// API server guarantees it; manifests read from files need it.
func safeName(name string) bool {
	return name != "" && len(name) <= 253 && !strings.ContainsFunc(name, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '.' && r != '-'
	})
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
// What is not an address is skipped.
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

// SameNode reports whether a node's new version means the same to a balancer as
// its old one, so that what kubelets report all the time costs nothing. That an
// autoscaler's taint came is no difference, see eligible. That it went is one:
// the node may have been left out meanwhile.
func SameNode(before, after *corev1.Node) bool {
	return (before.DeletionTimestamp == nil) == (after.DeletionTimestamp == nil) &&
		!(tainted(before) && !tainted(after)) &&
		maps.Equal(before.Labels, after.Labels) &&
		slices.Equal(before.Status.Addresses, after.Status.Addresses)
}
