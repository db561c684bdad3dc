package controllers

import (
	"maps"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/flowcontrol"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/conditions"
)

// A node that comes and goes is behind all Services. What hosts say of nodes is
// written of one Service only so often, and of all of a Balancer only so fast.
const (
	backendsEvery = time.Minute
	backendsQPS   = 10
	backendsBurst = 200
	backendsAgain = 5 * time.Second // what was held back is looked at
)

// backendsPace holds back what hosts say of nodes.
type backendsPace struct {
	written map[types.UID]time.Time
	budget  flowcontrol.RateLimiter
}

func newBackendsPace() *backendsPace {
	return &backendsPace{map[types.UID]time.Time{}, flowcontrol.NewTokenBucketRateLimiter(backendsQPS, backendsBurst)}
}

// add to the views of Services what hosts say of their nodes, as far as that may be
// written now: Services that nobody reaches go first. It reports whether some must wait.
func (p *backendsPace) add(views []conditions.Service, say *conditions.Backends, now time.Time) (held bool) {
	maps.DeleteFunc(p.written, func(_ types.UID, at time.Time) bool { return now.Sub(at) >= backendsEvery })
	var some []func()
	for i := range views {
		v := &views[i]
		c, known := say.Of(v.Key, v.Pods, v.Object.Status.Conditions)
		if v.From != "" || !known {
			continue
		}
		if is := meta.FindStatusCondition(v.Object.Status.Conditions, c.Type); sameCondition(is, conditions.Bounded(c)) {
			continue
		}
		write := func() {
			if _, lately := p.written[v.Object.UID]; lately || !p.budget.TryAccept() {
				held = true
				return
			}
			p.written[v.Object.UID] = now
			v.Backends = &c
		}
		if c.Reason == v1alpha1.ReasonNoNodeUp {
			write()
		} else {
			some = append(some, write)
		}
	}
	for _, write := range some {
		write()
	}
	return held
}

// sameCondition reports whether a condition is as it should be; Status "": not there.
func sameCondition(is *metav1.Condition, want metav1.Condition) bool {
	if is == nil || want.Status == "" {
		return is == nil && want.Status == ""
	}
	return is.Status == want.Status && is.Reason == want.Reason && is.Message == want.Message
}
