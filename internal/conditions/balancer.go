package conditions

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/deliver"
	"github.com/external-lb/external-lb/internal/lb"
	"github.com/external-lb/external-lb/internal/plan"
	"github.com/external-lb/external-lb/internal/text"
	"github.com/external-lb/external-lb/internal/translate"
)

// Balancer is what a Balancer's status is made of.
type Balancer struct {
	Object *v1alpha1.Balancer
	Claims plan.Claims
	Plan   *plan.Plan
	// Delivered: the hosts were told of Plan. They are not where it is not known which
	// nodes may be backends.
	Delivered bool
	States    []deliver.State
	// Unread are the Secrets with certificates that cannot be read, each with why.
	Unread []string
}

// Conditions are Ready, Stalled, Accepted, Programmed and Degraded, not dated yet. Each has the
// generation of the Balancer that it is about: one that says what was said before,
// until more is known, has the one from then.
func (b Balancer) Conditions() []metav1.Condition {
	return whole(2, b.accepted(), b.programmed(), b.degraded())
}

// was is what a condition said before, nil if it said nothing.
func (b Balancer) was(kind string) *metav1.Condition {
	return meta.FindStatusCondition(b.Object.Status.Conditions, kind)
}

func (b Balancer) condition(kind string, status metav1.ConditionStatus) metav1.Condition {
	return metav1.Condition{Type: kind, Status: status, ObservedGeneration: b.Object.Generation}
}

func (b Balancer) accepted() metav1.Condition {
	c := b.condition(v1alpha1.ConditionAccepted, metav1.ConditionTrue)
	c.Reason, c.Message = v1alpha1.ReasonAccepted, "in force"
	var oldest *v1alpha1.Balancer
	if defaults := b.Claims.Defaults(); b.Object.Spec.Default && len(defaults) > 0 {
		oldest = defaults[0]
	}
	switch {
	case b.Object.DeletionTimestamp != nil:
		c.Status, c.Reason, c.Message = metav1.ConditionFalse, v1alpha1.ReasonWithdrawing, "being deleted: its Services are withdrawn from every host, or proved on another Balancer's, first"
	case oldest != nil && oldest.Name != b.Object.Name:
		c.Reason = v1alpha1.ReasonDefaultTaken
		c.Message = fmt.Sprintf("Balancer %s is older and serves Services without a class; of these, this one serves those whose addresses are of its pools, and those for which the other has no pool", oldest.Name)
	case b.podsUnreadable():
		c.Status, c.Reason, c.Message = metav1.ConditionFalse, b.Plan.NodesProblem.Reason, b.Plan.NodesProblem.Message
	case b.Plan.Unread != nil:
		c.Status, c.Reason, c.Message = metav1.ConditionFalse, b.Plan.Unread.Reason, b.Plan.Unread.Message
	case b.Claims.SameRouter(b.Object) != nil:
		other := b.Claims.SameRouter(b.Object)
		c.Reason = v1alpha1.ReasonRouterIDShared
		c.Message = fmt.Sprintf("Balancer %s has the virtual router ID %d, too: if their hosts are on one network segment, give one of them another",
			other.Name, b.Object.Spec.VirtualAddresses.VRRP.VirtualRouterID)
	default:
		if others := b.sameClass(); others != nil {
			c.Message = fmt.Sprintf("in force; %s has the class %s, too: each Service is served by the one whose pool has its addresses",
				plan.NameBalancers(others), plan.Class(b.Object))
		}
	}
	if cannot := strings.Join(b.Plan.Unsupported, "; "); cannot != "" && c.Reason == v1alpha1.ReasonAccepted {
		c.Reason, c.Message = v1alpha1.ReasonUnsupported, "in force without these settings of spec.defaults: "+cannot
	} else if cannot != "" {
		c.Message += "; settings of spec.defaults that are not in force: " + cannot
	}
	for _, told := range []string{b.Plan.Unbacked, b.Plan.Unweighed} {
		if told != "" {
			c.Message += "; " + told
		}
	}
	return c
}

// podsUnreadable reports whether nothing can be said of the pods that are to get the traffic.
func (b Balancer) podsUnreadable() bool {
	return b.Plan.NodesProblem != nil && b.Plan.NodesProblem.Reason == v1alpha1.ReasonPodsUnreadable
}

// sameClass are the other Balancers with the class of one.
func (b Balancer) sameClass() (names []string) {
	for _, other := range b.Claims.OfClass(plan.Class(b.Object)) {
		if other.Name != b.Object.Name {
			names = append(names, other.Name)
		}
	}
	return names
}

func (b Balancer) programmed() metav1.Condition {
	was := b.was(v1alpha1.ConditionProgrammed)
	if !b.Delivered && was != nil && was.Status == metav1.ConditionTrue {
		return *was // it is about what the hosts were told last
	}
	c := b.condition(v1alpha1.ConditionProgrammed, metav1.ConditionFalse)
	proved, underWay, failed := 0, 0, 0
	hosts := serving(b.Object, b.States)
	for _, s := range hosts {
		switch {
		case pending(s):
			underWay++
		case s.State == v1alpha1.HostInSync, s.State == v1alpha1.HostPartial:
			proved++
		case s.State == v1alpha1.HostFailed:
			failed++
		}
	}
	need := needed(b.Object, len(hosts))
	switch {
	case !b.Delivered && translate.Unknown(b.Object):
		c.Reason, c.Message = v1alpha1.ReasonPending, "nothing is delivered until the provider has said what its cloud can do; "+hostTrouble(b.States)
	case !b.Delivered && b.podsUnreadable():
		c.Reason, c.Message = b.Plan.NodesProblem.Reason, b.Plan.NodesProblem.Message
	case !b.Delivered:
		c.Reason, c.Message = v1alpha1.ReasonPending, "nothing is delivered until the Balancer is accepted"
	case proved >= need:
		c.Status, c.Reason, c.Message = metav1.ConditionTrue, v1alpha1.ReasonProgrammed, "enough hosts proved the configuration to be live"
	case proved+underWay >= need:
		if was != nil && was.Status == metav1.ConditionTrue {
			return *was // said before and on its way again: a delivery is no reason to flap
		}
		c.Reason, c.Message = v1alpha1.ReasonPending, "waiting for hosts to prove the configuration"
	case failed > 0:
		c.Reason, c.Message = v1alpha1.ReasonHostsFailed, hostTrouble(b.States)
	default:
		c.Reason, c.Message = v1alpha1.ReasonHostsUnreachable, hostTrouble(b.States)
	}
	return c
}

func (b Balancer) degraded() metav1.Condition {
	c := b.condition(v1alpha1.ConditionDegraded, metav1.ConditionFalse)
	var messages []string
	add := func(reason, message string) {
		if message == "" {
			return
		}
		if messages = append(messages, message); c.Reason == "" {
			c.Status, c.Reason = metav1.ConditionTrue, reason
		}
	}
	add(b.hostsDown())
	add(b.servicesRefused())
	add(b.itemsRefused())
	add(b.templatesInvalid())
	add(b.hostsDiffer())
	add(b.hostsCrowded())
	add(b.secretsUnread())
	for _, p := range []*translate.Problem{b.Plan.NodesProblem, b.Plan.ControlPlane} {
		if p != nil {
			add(p.Reason, p.Message)
		}
	}
	c.Message = strings.Join(messages, "; ")
	if c.Reason != "" {
		return c
	}
	if was := b.was(c.Type); was != nil && slices.ContainsFunc(b.States, pending) {
		return *was // until it is known to be better
	}
	c.Reason, c.Message = v1alpha1.ReasonHealthy, "every host runs what is desired"
	return c
}

func (b Balancer) hostsDown() (reason, message string) {
	severity := 0
	worse := func(than int, what string) {
		if than > severity {
			severity, reason, message = than, what, hostTrouble(b.States)
		}
	}
	for _, s := range b.States {
		switch {
		case s.State == v1alpha1.HostFailed && (s.Reason == deliver.ReasonContested || s.Reason == deliver.ReasonTermJump):
			worse(4, v1alpha1.ReasonContested)
		case s.State == v1alpha1.HostFailed && s.Reason == deliver.ReasonOtherCluster:
			worse(3, v1alpha1.ReasonOtherCluster)
		case s.State == v1alpha1.HostUnreachable && !drained(b.Object, s.Host): // its machine may be off
			worse(2, v1alpha1.ReasonHostsUnreachable)
		case s.State == v1alpha1.HostFailed:
			worse(1, v1alpha1.ReasonHostsFailed)
		}
	}
	return reason, message
}

func (b Balancer) servicesRefused() (reason, message string) {
	var names []string
	for _, s := range b.States {
		for _, r := range s.Refused {
			if id, ok := r.Key.ServiceID(); ok && id != lb.ControlPlane && r.Reason != lb.RefusedPending {
				names = append(names, id.String())
			}
		}
	}
	if names == nil {
		return "", ""
	}
	slices.Sort(names)
	names = slices.Compact(names)
	return v1alpha1.ReasonServicesRefused, fmt.Sprintf("a host refused %d Services, or ports of them; their events say why: %s",
		len(names), strings.Join(names[:min(listed, len(names))], ", "))
}

func (b Balancer) itemsRefused() (reason, message string) {
	var refused []string
	for _, s := range b.States {
		for _, r := range s.Refused {
			if id, service := r.Key.ServiceID(); !service || id == lb.ControlPlane { // which has no events
				refused = append(refused, refusal(s, r))
			}
		}
	}
	return v1alpha1.ReasonItemsRefused, list(refused)
}

func (b Balancer) templatesInvalid() (reason, message string) {
	var broken []string
	for _, s := range b.States {
		if s.Templates != "" {
			broken = append(broken, s.Host+": "+s.Templates)
		}
	}
	return v1alpha1.ReasonTemplatesInvalid, list(broken)
}

// hostsDiffer tells of hosts that make different files of one model.
func (b Balancer) hostsDiffer() (reason, message string) {
	var first *deliver.State
	var versions []string
	differ := false
	for i := range b.States {
		s := &b.States[i]
		if s.Version == "" || s.Renderer == "" {
			continue // not known yet
		}
		if first == nil {
			first = s
		}
		differ = differ || s.Differs(*first)
		versions = append(versions, fmt.Sprintf("%s has external-lb %s, which renders with %s", s.Host, s.Version, s.Renderer))
	}
	if !differ {
		return "", ""
	}
	return v1alpha1.ReasonHostsDiffer, "hosts differ: " + list(versions) + ". Give all of them the same version, templates and settings"
}

// secretsUnread tells of certificates that are not the newest, or are missing, since Secrets
// cannot be read.
func (b Balancer) secretsUnread() (reason, message string) {
	if len(b.Unread) == 0 {
		return "", ""
	}
	message = "Secrets with certificates cannot be read, and are tried again: " + list(b.Unread) + ". "
	if !b.Delivered {
		return v1alpha1.ReasonSecretsUnreadable, message + "Until they can, hosts go on with what they carry, and nothing is delivered to them"
	}
	return v1alpha1.ReasonSecretsUnreadable, message + "What was read of them last is served; ports of which nothing was read are closed"
}

// hostsCrowded tells of hosts that have nearly used up what all Services share: without
// numbers, which change all the time.
func (b Balancer) hostsCrowded() (reason, message string) {
	var all []string
	for _, s := range b.States {
		for _, use := range crowded(s, status(b.Object, s.Host)) {
			all = append(all, fmt.Sprintf("%s of %s", use.Name, s.Host))
		}
	}
	if all == nil {
		return "", ""
	}
	return v1alpha1.ReasonHostsCrowded, "nearly used up, and all Services of a host share it: " + list(all) +
		". `external-lb host status` there says how much is in use"
}

// Hosts are the statuses of a Balancer's hosts. What was said stays of a host of which
// nothing else is known yet: a restart of the controller is no change of the host.
func Hosts(b *v1alpha1.Balancer, states []deliver.State) []v1alpha1.HostStatus {
	out := make([]v1alpha1.HostStatus, 0, len(states))
	for _, s := range states {
		was := status(b, s.Host)
		h := v1alpha1.HostStatus{
			Name: s.Host, State: s.State, EngineVersion: s.EngineVersion, Message: text.Cut(s.Message, maxMessage),
			Digest: s.Live.Short(), DesiredDigest: s.Desired.Short(), Notes: notes(s, was),
		}
		if !s.LastApplied.IsZero() {
			h.LastAppliedTime = &metav1.Time{Time: s.LastApplied.Truncate(time.Second)}
		}
		if pending(s) && s.Message == "" && was.DesiredDigest == h.DesiredDigest && was.Name != "" {
			h = was
			h.Notes = notes(s, was)
		}
		if h.LastAppliedTime == nil {
			h.LastAppliedTime = was.LastAppliedTime
		}
		h.Draining = drained(b, s.Host)
		h.Active = b.Spec.UsesVRRP() && s.Active && s.State != v1alpha1.HostUnreachable
		out = append(out, h)
	}
	return out
}
