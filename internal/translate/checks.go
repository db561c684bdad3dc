package translate

import (
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/lb"
)

// checksPerSecond is what the Services of a Balancer may have one host ask by checks of
// their own: all tenants pay for them, on the hosts and on the nodes. Each Service has the
// same share of it.
const checksPerSecond = 10_000

// longestFloor: nodes that fail are to be found out in any cluster.
const longestFloor = time.Minute

// load is nodes times Services, rounded up to a power of two: a change of it changes every
// Service.
func load(in Input, ns *nodes) int {
	n := len(ns.all)
	if in.Balancer.Spec.ToPods() {
		n = 1 // see podLoad
	}
	if limit := int(in.Balancer.Spec.Nodes.MaxPerService); limit > 0 {
		if slices.ContainsFunc(ns.all, func(n lb.Node) bool { return n.Backup }) {
			limit *= 2 // so many of either
		}
		n = min(n, limit)
	}
	all := 1
	for all < n*len(in.Services) {
		all *= 2
	}
	return all
}

// podLoad is how many pods a Service counts for, in coarse steps: where one comes or goes, the
// checks of others stay as they are, and mostly its own.
func podLoad(pods int) int {
	n := 4
	for n < pods {
		n *= 4
	}
	return n
}

// floor is how far apart the checks of a Service with so many ports are at least.
func floor(load, ports int) time.Duration {
	d := lb.MinInterval
	for d.Seconds()*checksPerSecond < float64(load)*float64(ports) && 2*d <= longestFloor {
		d *= 2
	}
	return d
}

// spread the checks that are made for this Service alone.
func (t *translation) spread(frontends []lb.Frontend) {
	var own []*lb.HealthCheck
	for i := range frontends {
		if h := &frontends[i].Settings.HealthCheck; t.checkedAlone(h, frontends[i].Listener.Protocol) {
			own = append(own, h)
		}
	}
	load := t.load
	if t.pods {
		load *= podLoad(t.backed.pods)
	}
	least := floor(load, len(own))
	asked := least
	for _, h := range own {
		asked = min(asked, h.Interval)
		h.Interval = max(h.Interval, least)
	}
	if asked < least && t.asksForInterval() {
		t.problem(v1alpha1.ReasonChecksSpread, "healthCheck.interval: nodes are asked every %s for this Service alone, not every %s: the Services of a Balancer share what its hosts may ask. "+
			"With fewer nodes (spec.nodes.maxPerService of the Balancer), or fewer ports with checks of their own, it is more often", least, asked)
	}
}

// asksForInterval reports whether a policy of the Service says how far checks are apart.
func (t *translation) asksForInterval() bool {
	return slices.ContainsFunc(t.precedence.policies, func(p *v1alpha1.UpstreamPolicy) bool {
		return p.Spec.HealthCheck != nil && p.Spec.HealthCheck.Interval != ""
	})
}

// checkedAlone reports whether a check is not one that all Services of a Balancer share.
func (t *translation) checkedAlone(h *lb.HealthCheck, p lb.Protocol) bool {
	engine := t.carriers.For(p)
	switch {
	case engine.PassiveChecks || h.Type == lb.CheckNone:
		return false
	case t.pods: // each answers for itself, and who is not asked over TCP is not asked
		return p == lb.TCP
	case h.Type != lb.CheckAuto || !engine.SharesChecks || t.in.Object.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal:
		return true
	}
	return *h != precedence{nobody, t.precedence.defaults}.resolve(t.carriers, "", p).HealthCheck
}
