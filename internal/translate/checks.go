package translate

import (
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/lb"
)

// checksPerMinute is what the Services of a Balancer may have one host ask by checks of
// their own: all tenants pay for them, on the hosts and on the nodes. Namespaces share it, so that
// those that ask little have what they ask for, and so do the Services of a namespace.
const checksPerMinute = 600_000

// longestFloor: nodes that fail are to be found out in any cluster.
const longestFloor = time.Minute

// askedOf is how many nodes a check of a Service asks at most; with pods, see podLoad.
func askedOf(in Input, ns *nodes) int {
	n := len(ns.all)
	if in.Balancer.Spec.ToPods() {
		n = 1
	}
	if limit := int(in.Balancer.Spec.Nodes.MaxPerService); limit > 0 {
		if slices.ContainsFunc(ns.all, func(n lb.Node) bool { return n.Backup }) {
			limit *= 2 // so many of either
		}
		n = min(n, limit)
	}
	return max(n, 1)
}

// shareChecks says how many checks of a node a Service may have in a minute, in each namespace that asks
// for too many. It reports whether that is another number than before.
func (t *Translator) shareChecks(asked int) (changed bool) {
	all := make([]int, 0, len(t.tenants))
	for _, in := range t.tenants {
		all = append(all, in.kept[inChecks])
	}
	most := lb.Level(t.mostChecks/asked, all)
	for _, in := range t.tenants {
		share := 0
		if in.kept[inChecks] > most {
			share = in.shareChecks(most)
		}
		changed = changed || share != in.share
		in.share = share
	}
	return changed
}

// shareChecks among the Services of a namespace: a power of two, so that it is mostly the same when one comes.
func (in *tenant) shareChecks(most int) int {
	var all []int
	for _, m := range in.members {
		if m.left == nil && m.counts != nil {
			all = append(all, m.counts.size[inChecks])
		}
	}
	share, each := lb.Level(most, all), 1
	for each <= share/2 {
		each *= 2
	}
	return each
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

// floor is how far apart so many checks are at least, for no more than a share in a minute.
func floor(share, checks int) time.Duration {
	d := lb.MinInterval
	for time.Duration(checks)*time.Minute > time.Duration(share)*d && 2*d <= longestFloor {
		d *= 2
	}
	return d
}

// spread the checks that are made for this Service alone.
func (t *translation) spread(frontends []lb.Frontend) {
	each := 1
	if t.pods {
		each = podLoad(t.backed.pods)
	}
	var own []*lb.HealthCheck
	asks := 0 // in a minute
	for i := range frontends {
		if h := &frontends[i].Settings.HealthCheck; t.checkedAlone(h, frontends[i].Listener.Protocol) {
			own = append(own, h)
			asks += each * int((time.Minute+h.Interval-1)/h.Interval)
		}
	}
	t.need.size[inChecks] = asks
	if t.share == 0 || asks <= t.share {
		return
	}
	least := floor(t.share, each*len(own))
	asked := least
	for _, h := range own {
		asked = min(asked, h.Interval)
		h.Interval = max(h.Interval, least)
	}
	if asked < least && t.asksForInterval() {
		t.problem(v1alpha1.ReasonChecksSpread, "healthCheck.interval: nodes are asked every %s for this Service alone, not every %s: the namespaces of a Balancer share what its hosts may ask, and this one asks the most. "+
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
