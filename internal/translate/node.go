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
	"k8s.io/apimachinery/pkg/labels"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/engine"
	"github.com/external-lb/external-lb/internal/lb"
)

// toBeDeleted is the cluster autoscaler's taint on a node that it removes.
const toBeDeleted = "ToBeDeletedByClusterAutoscaler"

// nodes are those that may be backends.
type nodes struct {
	all        []lb.Node // sorted by name, each once
	ipv4, ipv6 bool      // some have an address of the family
	// none says why there are none, nil if there are some.
	none *Problem
	// unweighed says which nodes have a weight that cannot be read; "" if none has.
	unweighed string
	// unread says why a selector cannot be read, and what is in force instead.
	unread *Problem
}

func (ns *nodes) of(ipv4 bool) bool {
	if ipv4 {
		return ns.ipv4
	}
	return ns.ipv6
}

// eligible finds the nodes that may be backends.
//
// The autoscaler's taint makes a node ineligible (S23), but is no reason to look
// (S24): the node serves until it goes, and a reload for the taint would be
// followed by another for its removal. Kubernetes' own service controller has
// it the same way. So the taint is read here, and SameNode, which decides what
// starts a reconcile, does not see it come: it counts from the next change on.
func eligible(b *v1alpha1.Balancer, all []*corev1.Node) *nodes {
	selector, unread := nodeSelector(b)
	if selector == nil {
		return &nodes{none: unread, unread: unread}
	}
	backup, unreadBackup := backupSelector(b)
	out := &nodes{unread: cmp.Or(unread, unreadBackup)}
	able := slices.ContainsFunc(Carriers(b).All(), func(e *engine.Engine) bool { return e.Backups.Missing == "" })
	labelled, addressless, stays := 0, 0, false
	for _, n := range all {
		if n.DeletionTimestamp != nil || !lb.SafeNode(n.Name) || tainted(n) || !selector.Matches(labels.Set(n.Labels)) {
			continue
		}
		if excluded(n) && !b.Spec.Nodes.IgnoreExcludeLabel {
			labelled++
			continue
		}
		v4, v6 := addresses(n)
		if !v4.IsValid() && !v6.IsValid() {
			addressless++
			continue
		}
		w, err := weight(n)
		if err != nil && out.unweighed == "" {
			out.unweighed = err.Error()
		}
		drains := n.Spec.Unschedulable && b.Spec.Nodes.Cordoned == v1alpha1.CordonedDrain
		stays = stays || !drains && !NotReady(n)
		out.all = append(out.all, lb.Node{Name: n.Name, IPv4: v4, IPv6: v6, Weight: w, Draining: drains, Backup: able && backup.Matches(labels.Set(n.Labels))})
		out.ipv4, out.ipv6 = out.ipv4 || v4.IsValid(), out.ipv6 || v6.IsValid()
	}
	for i := range out.all { // new nodes that are not Ready yet do not take what a cordoned pool has
		out.all[i].Draining = out.all[i].Draining && stays
	}
	slices.SortFunc(out.all, func(a, b lb.Node) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), a.IPv4.Compare(b.IPv4), a.IPv6.Compare(b.IPv6))
	})
	out.all = slices.CompactFunc(out.all, func(a, b lb.Node) bool { return a.Name == b.Name }) // in files
	if len(out.all) == 0 {
		out.none = &Problem{Reason: v1alpha1.ReasonNoEligibleNodes, Message: whyNone(b.Name, labelled, addressless)}
	}
	return out
}

// nodeSelector is spec.nodes.selector, or the one that was in force before if that
// cannot be read; nil if none is known.
func nodeSelector(b *v1alpha1.Balancer) (labels.Selector, *Problem) {
	selector, err := b.Spec.Nodes.Selector.Parse()
	if err == nil {
		return selector, nil
	}
	unread := &Problem{
		Reason:  v1alpha1.ReasonInvalid,
		Message: fmt.Sprintf("correct spec.nodes.selector of Balancer %s: %s", b.Name, clip(err.Error())),
	}
	if b.Status.NodeSelector != nil {
		if selector, err := labels.Parse(*b.Status.NodeSelector); err == nil {
			unread.Message += "; until then the one before it is in force"
			return selector, unread
		}
	}
	unread.Fatal = true
	unread.Message += "; until then what is live on the hosts goes on"
	return nil, unread
}

// backupSelector is spec.nodes.backup; one that cannot be read chooses no node.
func backupSelector(b *v1alpha1.Balancer) (labels.Selector, *Problem) {
	s := &b.Spec.Nodes.Backup
	if len(s.MatchLabels)+len(s.MatchExpressions) == 0 {
		return labels.Nothing(), nil
	}
	selector, err := s.Parse()
	if err != nil {
		return labels.Nothing(), &Problem{
			Reason:  v1alpha1.ReasonInvalid,
			Message: fmt.Sprintf("correct spec.nodes.backup of Balancer %s: %s; until then no node waits for others", b.Name, clip(err.Error())),
		}
	}
	return selector, nil
}

// unbacked says why some nodes wait for no others though the Balancer wants it; "": they do.
func unbacked(b *v1alpha1.Balancer) string {
	if s := &b.Spec.Nodes.Backup; len(s.MatchLabels)+len(s.MatchExpressions) == 0 {
		return ""
	}
	var why []string
	c := Carriers(b)
	for _, p := range []lb.Protocol{lb.TCP, lb.UDP} {
		if missing := c.For(p).Backups.Missing; missing != "" && (p == lb.TCP || c.Datagrams != nil) {
			why = append(why, missing+c.Ports(p))
		}
	}
	if len(why) == 0 {
		return ""
	}
	return "spec.nodes.backup: " + strings.Join(why, "; ")
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

// NotReady reports whether Kubernetes takes a node for down.
func NotReady(n *corev1.Node) bool {
	return slices.ContainsFunc(n.Status.Conditions, func(c corev1.NodeCondition) bool {
		return c.Type == corev1.NodeReady && c.Status != corev1.ConditionTrue
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

// weight of a node as its annotation says. The error is for people: the node counts as if
// it had none.
func weight(n *corev1.Node) (uint16, error) {
	value, set := n.Annotations[v1alpha1.WeightAnnotation]
	if !set {
		return 0, nil
	}
	w, err := strconv.ParseUint(value, 10, 16)
	if err != nil || w < 1 || w > lb.MaxWeight {
		return 0, fmt.Errorf("the annotation %s of node %s is %s, not a number from 1 to %d, and counts as 1",
			v1alpha1.WeightAnnotation, n.Name, quoted(value), lb.MaxWeight)
	}
	return uint16(w), nil
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

// SameNodeFor reports whether a node's new version means the same to a Balancer as its old
// one: labels that it does not ask for are nothing to it.
func SameNodeFor(b *v1alpha1.Balancer, before, after *corev1.Node) bool {
	if b.Spec.Nodes.Cordoned == v1alpha1.CordonedDrain && NotReady(before) != NotReady(after) {
		return false // others drain once one that does not is Ready
	}
	if maps.Equal(before.Labels, after.Labels) {
		return SameNode(before, after)
	}
	selector, _ := nodeSelector(b)
	backup, _ := backupSelector(b)
	same := func(s labels.Selector) bool {
		return s.Matches(labels.Set(before.Labels)) == s.Matches(labels.Set(after.Labels))
	}
	isControlPlane := func(n *corev1.Node) bool { _, is := n.Labels[controlPlaneLabel]; return is }
	like := *after
	like.Labels = before.Labels
	return selector != nil && same(selector) && same(backup) &&
		excluded(before) == excluded(after) && isControlPlane(before) == isControlPlane(after) && SameNode(before, &like)
}

// SameNode reports whether a node's new version means the same to a balancer as
// its old one, so that what kubelets report all the time costs nothing. That an
// autoscaler's taint came is no difference, see eligible. That it went is one:
// the node may have been left out meanwhile.
func SameNode(before, after *corev1.Node) bool {
	return (before.DeletionTimestamp == nil) == (after.DeletionTimestamp == nil) &&
		!(tainted(before) && !tainted(after)) &&
		before.Spec.Unschedulable == after.Spec.Unschedulable &&
		maps.Equal(before.Labels, after.Labels) &&
		before.Annotations[v1alpha1.WeightAnnotation] == after.Annotations[v1alpha1.WeightAnnotation] &&
		slices.Equal(before.Status.Addresses, after.Status.Addresses)
}
