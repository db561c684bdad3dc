package deliver

import (
	"maps"
	"time"

	"golang.org/x/time/rate"

	"github.com/external-lb/external-lb/internal/lb"
)

// Where old workers hold nearly as much memory as the host's owner allows, each reload ends the oldest, with everybody's
// connections. So who has made many of the last reloads waits for the next one, by namespace.
const (
	tenantAtOnce = 5
	tenantEvery  = 10 * time.Second
	mostTenants  = 1024 // of whom something is remembered; of those who are more, nobody waits
)

// tenants are the reloads that each namespace may still have. One that is not there has all of them.
type tenants map[string]*rate.Limiter

// spend one for each namespace that has something in a change.
func (t tenants) spend(now time.Time, c lb.Change) {
	changed := map[string]bool{}
	note := func(key lb.Key) {
		if id, ok := key.ServiceID(); ok {
			changed[id.Namespace] = true
		}
	}
	for _, it := range c.Put {
		note(it.Key)
	}
	for _, key := range c.Delete {
		note(key)
	}
	for namespace := range changed {
		t.of(namespace, now).AllowN(now, 1)
	}
}

// of a namespace.
func (t tenants) of(namespace string, now time.Time) *rate.Limiter {
	l := t[namespace]
	if l != nil {
		return l
	}
	l = rate.NewLimiter(rate.Every(tenantEvery), tenantAtOnce)
	if len(t) >= mostTenants {
		maps.DeleteFunc(t, func(_ string, l *rate.Limiter) bool { return l.TokensAt(now) >= tenantAtOnce })
	}
	if len(t) < mostTenants {
		t[namespace] = l
	}
	return l
}

// wait is how long it takes until one of those may have a reload to whom all belongs that differs: tenantEvery at most.
// 0: one of them may now, or some of it belongs to nobody, such as a node.
func (t tenants) wait(now time.Time, have, want lb.Manifest) time.Duration {
	least := tenantEvery
	owned := false
	for d := range have.Differences(want) {
		id, service := d.Key.ServiceID()
		switch l := t[id.Namespace]; {
		case !service && (d.Key.IsCertificate() || d.Key.IsAddress()):
			continue // it comes and goes with a Service
		case !service || l == nil || l.TokensAt(now) >= 1:
			return 0
		default:
			owned = true
			least = min(least, time.Duration((1-l.TokensAt(now))*float64(tenantEvery)))
		}
	}
	if !owned {
		return 0
	}
	return least
}
