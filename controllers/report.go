package controllers

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/conditions"
	"github.com/external-lb/external-lb/internal/ipam"
	"github.com/external-lb/external-lb/internal/plan"
)

func (r *balancerReconciler) statuses() ownStatuses {
	return ownStatuses{r.client, r.events, r.patch.setbacks}
}

// reportBalancer writes a Balancer's status where it differs.
func (r *balancerReconciler) reportBalancer(ctx context.Context, s *scope) error {
	changed := s.balancer.DeepCopy()
	status := &changed.Status
	status.LoadBalancerClass = plan.Class(s.balancer)
	if selector, err := s.balancer.Spec.Nodes.Selector.Parse(); err == nil {
		status.NodeSelector = new(selector.String())
	}
	status.Services = int32(len(s.plan.Services))
	status.Nodes = int32(len(s.plan.Nodes))
	status.Hosts = conditions.Hosts(s.balancer, s.states)
	status.Provider = conditions.Provider(s.balancer, s.states)
	inSync := 0
	for _, h := range status.Hosts {
		if h.State == v1alpha1.HostInSync {
			inSync++
		}
	}
	status.HostsInSync = fmt.Sprintf("%d/%d", inSync, len(s.states))
	facts := conditions.Balancer{Object: s.balancer, Claims: s.snapshot.Claims(), Plan: s.plan, Delivered: !s.withheld(), States: s.states,
		Unread: s.certificates.whyUnread()}
	status.ObservedGeneration = setConditions(&status.Conditions, facts.Conditions())
	r.metrics.report(changed, s.states, s.plan)
	r.metrics.reportCertificates(s.balancer.Name, s.certificates.Certificates, s.plan.Set)
	was, same := &s.balancer.Status, equality.Semantic.DeepEqual
	if same(*was, *status) {
		s.memory.numbers.told(s.balancer.UID)
		return nil
	}
	asks := same(was.Provider, status.Provider) && same(was.NodeSelector, status.NodeSelector)
	if asks && was.ObservedGeneration == status.ObservedGeneration && !turnedAny(was.Conditions, status.Conditions) &&
		s.memory.numbers.wait(s.balancer.UID) {
		return nil
	}
	if written, err := r.statuses().write(ctx, s.balancer, changed); err != nil || !written {
		r.pace.causes.must(s.balancer.Name, false) // also if what comes next is a write of our own
		if errors.Is(err, errLater) {
			return nil
		}
		return err
	}
	r.patch.written.keep(changed)
	if asks { // else plans are made of it
		r.patch.written.final(changed)
	}
	r.tellBalancer(ctx, s.balancer, status.Conditions)
	return nil
}

// setConditions dates those that turned, and returns the generation that Ready is about.
func setConditions(into *[]metav1.Condition, now []metav1.Condition) (generation int64) {
	for _, c := range now {
		meta.SetStatusCondition(into, conditions.Bounded(c))
		if c.Type == v1alpha1.ConditionReady {
			generation = c.ObservedGeneration
		}
	}
	return generation
}

// toTell reports whether a condition is to be told: numbers and names in its words change all the time. Other words
// are told of another spec. How long a certificate is still valid is told twice, in words alone.
func toTell(was *metav1.Condition, now metav1.Condition) bool {
	return was == nil || was.Type != now.Type || was.Status != now.Status || was.Reason != now.Reason || was.Message != now.Message &&
		(now.Reason == v1alpha1.ReasonCertificateExpiring || was.ObservedGeneration != now.ObservedGeneration)
}

// turnedAny reports whether a condition says something else, but for words.
func turnedAny(was, now []metav1.Condition) bool {
	return len(was) != len(now) || slices.ContainsFunc(now, func(c metav1.Condition) bool { return toTell(meta.FindStatusCondition(was, c.Type), c) })
}

// tellBalancer writes an event for each condition that turned. Ready and Stalled repeat
// others.
func (r *balancerReconciler) tellBalancer(ctx context.Context, b *v1alpha1.Balancer, now []metav1.Condition) {
	for _, c := range now {
		was := meta.FindStatusCondition(b.Status.Conditions, c.Type)
		if c.Type == v1alpha1.ConditionReady || c.Type == v1alpha1.ConditionStalled || !toTell(was, c) {
			continue
		}
		bad := c.Status == metav1.ConditionTrue == (c.Type == v1alpha1.ConditionDegraded) ||
			c.Type == v1alpha1.ConditionAccepted && c.Reason != v1alpha1.ReasonAccepted // in force in part
		switch {
		case bad && c.Reason != v1alpha1.ReasonPending:
			r.events.warning(ctx, b, c.Reason, "%s", c.Message)
		case was != nil && !bad:
			r.events.normal(ctx, b, c.Reason, "%s", c.Message)
		}
	}
}

// reportPools writes the statuses of a Balancer's pools where they differ.
func (r *balancerReconciler) reportPools(ctx context.Context, s *scope) error {
	mine := poolsOf(s.objects, s.balancer.Name)
	accepted := map[string]ipam.Usage{}
	for _, p := range mine {
		if used, ok := s.assigned.Usage[p.Name]; ok {
			accepted[p.Name] = used
		}
	}
	r.metrics.reportPools(s.balancer.Name, accepted)
	return each(ctx, mine, func(ctx context.Context, p *v1alpha1.AddressPool) error {
		return r.reportPool(ctx, s.memory.numbers, conditions.Pool{
			Object: p, Problem: cmp.Or(s.objects.Pools.Problems[p.Name], s.snapshot.Claims().Misplaced(p.Name)),
			Note: s.plan.PoolNotes[p.Name], Usage: s.assigned.Usage[p.Name],
		})
	})
}

// reportOrphanPools tells pools that their Balancer does not exist.
func (r *balancerReconciler) reportOrphanPools(ctx context.Context, seen objects, balancer string) error {
	return each(ctx, poolsOf(seen, balancer), func(ctx context.Context, p *v1alpha1.AddressPool) error {
		problem := seen.Pools.Problems[p.Name]
		if problem == nil {
			problem = &ipam.Problem{
				Reason:  v1alpha1.ReasonUnknownBalancer,
				Message: fmt.Sprintf("there is no Balancer %q: create it, or correct spec.balancer", balancer),
			}
		}
		return r.reportPool(ctx, newNumbers(), conditions.Pool{Object: p, Problem: problem})
	})
}

func poolsOf(o objects, balancer string) []*v1alpha1.AddressPool {
	return slices.DeleteFunc(pointers(o.pools), func(p *v1alpha1.AddressPool) bool { return p.Spec.Balancer != balancer })
}

// reportPool writes the status of a pool where it differs.
func (r *balancerReconciler) reportPool(ctx context.Context, n *numbers, pool conditions.Pool) error {
	p := pool.Object
	changed := p.DeepCopy()
	changed.Status.IPv4, changed.Status.IPv6 = conditions.AddressUsage(pool.Usage.IPv4), conditions.AddressUsage(pool.Usage.IPv6)
	changed.Status.ObservedGeneration = setConditions(&changed.Status.Conditions, pool.Conditions())
	if equality.Semantic.DeepEqual(p.Status, changed.Status) {
		n.told(p.UID)
		return nil
	}
	if p.Status.ObservedGeneration == changed.Status.ObservedGeneration && !turnedAny(p.Status.Conditions, changed.Status.Conditions) && n.wait(p.UID) {
		return nil
	}
	if written, err := r.statuses().write(ctx, p, changed); err != nil || !written {
		r.pace.causes.must(p.Spec.Balancer, false) // also if what comes next is a write of our own
		return err
	}
	r.patch.written.keep(changed)
	r.patch.written.final(changed)
	c := meta.FindStatusCondition(changed.Status.Conditions, v1alpha1.ConditionAccepted)
	was := meta.FindStatusCondition(p.Status.Conditions, v1alpha1.ConditionAccepted)
	if c.Reason != v1alpha1.ReasonAccepted && toTell(was, *c) {
		r.events.warning(ctx, p, c.Reason, "%s", c.Message)
	}
	return nil
}
