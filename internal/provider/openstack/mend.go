package openstack

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gophercloud/gophercloud/v2/openstack/loadbalancer/v2/listeners"
	"github.com/gophercloud/gophercloud/v2/openstack/loadbalancer/v2/pools"

	"github.com/external-lb/external-lb/provider"
)

// mendInterval is between two tries to make anew what is in ERROR: each is some calls, and
// Octavia may fail each time.
const mendInterval = 30 * time.Second

// mends are when parts of load balancers were last made anew, by the balancer's ID.
type mends struct {
	mu   sync.Mutex
	last map[string]time.Time
	late map[string]late // of what a part is PENDING below a balancer that is ACTIVE
}

// late is since when that is so, and when it was last seen.
type late struct{ since, seen time.Time }

// finishing reports whether Octavia is about to finish what is below a load balancer: it marks
// that ACTIVE first, and the parts one after the other. What stays PENDING for longer is stuck,
// and is mended as if it were in ERROR.
func (m *mends) finishing(t *tree) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	for id, l := range m.late {
		if time.Since(l.seen) >= 10*mendInterval { // nobody asks for it any more
			delete(m.late, id)
		}
	}
	if t.lb.ProvisioningStatus != active || !t.pending() {
		delete(m.late, t.lb.ID)
		return false
	}
	now := time.Now()
	l, waits := m.late[t.lb.ID]
	if !waits {
		l.since = now
	}
	if m.late == nil {
		m.late = map[string]late{}
	}
	l.seen = now
	m.late[t.lb.ID] = l
	return now.Sub(l.since) < mendInterval
}

// pending reports whether a part is.
func (t *tree) pending() bool {
	is := func(status string) bool { return strings.HasPrefix(status, pending) }
	return slices.ContainsFunc(t.listeners, func(l listeners.Listener) bool { return is(l.ProvisioningStatus) }) ||
		slices.ContainsFunc(t.pools, func(p pool) bool {
			return is(p.ProvisioningStatus) || p.monitor != nil && is(p.monitor.ProvisioningStatus) ||
				slices.ContainsFunc(p.members, func(m pools.Member) bool { return is(m.ProvisioningStatus) })
		})
}

// may reports whether it is time for another one, which is then noted.
func (m *mends) may(id string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	for other, at := range m.last {
		if now.Sub(at) >= mendInterval {
			delete(m.last, other)
		}
	}
	if _, recent := m.last[id]; recent {
		return false
	}
	if m.last == nil {
		m.last = map[string]time.Time{}
	}
	m.last[id] = now
	return true
}

// mend removes a listener or pool that is in ERROR, to be made anew.
func (s *session) mend(ctx context.Context, t *tree, _ provider.Spec) (bool, error) {
	remove := t.broken()
	if remove == nil || s.finishing || !s.mends.may(t.lb.ID) {
		return false, nil
	}
	return true, remove(ctx, s)
}

// broken is how to remove the first part that Octavia has not finished, or nil.
func (t *tree) broken() func(context.Context, *session) error {
	for i := range t.listeners {
		if l := &t.listeners[i]; l.ProvisioningStatus != active {
			return func(ctx context.Context, s *session) error { return listeners.Delete(ctx, s.API, l.ID).ExtractErr() }
		}
	}
	for i := range t.pools {
		if p := &t.pools[i]; !p.works() {
			return func(ctx context.Context, s *session) error { return pools.Delete(ctx, s.API, p.ID).ExtractErr() }
		}
	}
	return nil
}

// works reports whether Octavia has finished a Listener, and all that is below it.
func (t *tree) works(l provider.Listener) bool {
	at, p := t.at(l), t.pool(l)
	return at != nil && at.ProvisioningStatus == active && p != nil && p.works()
}

// inError are the Listeners that are there and do not work.
func (t *tree) inError(want provider.Spec) (all []provider.Refusal) {
	for _, l := range want.Listeners {
		if t.works(l) {
			continue
		}
		all = append(all, inError(l))
	}
	return all
}

func inError(l provider.Listener) provider.Refusal {
	return provider.Refusal{Port: l.Port, Protocol: l.Protocol, Reason: provider.Internal,
		Message: "it is in ERROR in Octavia, whose logs say why; it is made anew each 30 seconds"}
}

// finished reports whether Octavia has finished a listener, and the pool that it has.
func (t *tree) finished(l *listeners.Listener) bool {
	p := t.poolOf(l)
	return l.ProvisioningStatus == active && (p == nil || p.works())
}

// poolOf is the pool that a listener sends to, or nil.
func (t *tree) poolOf(l *listeners.Listener) *pool {
	i := slices.IndexFunc(t.pools, func(p pool) bool { return p.ID == l.DefaultPoolID })
	if i < 0 {
		return nil
	}
	return &t.pools[i]
}
