package deliver

import (
	"time"

	"github.com/external-lb/external-lb/internal/lb"
)

type action int

const (
	actWait action = iota
	actStatus
	actApply
)

// plan says what a connected worker does next: at once, or what it waits for
// until when.
func (w *worker) plan(now time.Time, want desire, minInterval time.Duration) (action, string, time.Time) {
	if !now.Before(w.statusAt) {
		return actStatus, "", now
	}
	cause, due := w.due(want)
	if due.IsZero() {
		return actWait, "", w.statusAt
	}
	if !w.reloadAt.IsZero() {
		due = latest(due, w.reloadAt.Add(w.patience(now, want, minInterval)), w.turn(now, want))
	}
	if !now.Before(due) {
		return actApply, cause, now
	}
	if w.statusAt.Before(due) {
		due = w.statusAt
	}
	return actWait, "", due
}

// A reload leaves processes behind that carry connections, and where these hold nearly as much
// memory as the host's owner allows, the next reload cuts some. So what only adds something waits
// until they hold less, or for this long: then the changes of a few seconds cost one reload.
const (
	additionsWait = 5 * time.Second
	lookAgain     = 2 * time.Second // at a host that is near that bound
	nearBound     = 80              // hundredths of it
)

// Of changes, some go at once, one after the other, and in a long series one each second: else somebody who changes
// a Service all the time would fill the host with old processes. Near that bound there is more: see tenants.
const (
	changesAtOnce = 5
	changesEvery  = time.Second
)

// patience is how long after a reload there may be no other. What takes something away or changes it waits for no
// interval of the owner's: a nodePort that somebody else has by now, say.
func (w *worker) patience(now time.Time, want desire, minInterval time.Duration) time.Duration {
	wanted := want.set.Manifest()
	switch changes := w.drifted || w.unknown() || withdraws(w.have.Wanted, wanted); {
	case changes && w.changes.TokensAt(now) >= 1:
		return 0
	case changes:
		return min(minInterval, changesEvery)
	case w.old.Crowded(nearBound) && !w.have.Wanted.Equal(wanted):
		return max(minInterval, additionsWait)
	default:
		return minInterval
	}
}

// turn is when those whose items differ may have another reload; zero: there is no need to wait. Near the bound
// a withdrawal may so wait for tenantEvery, though its nodePort may be somebody else's by then (S18). That is bearable:
// only who has changed something all the time reaches that one for some seconds. Else all lose
// their connections again and again.
func (w *worker) turn(now time.Time, want desire) time.Time {
	if !w.old.Crowded(nearBound) || w.drifted || w.unknown() {
		return time.Time{}
	}
	return now.Add(w.tenants.wait(now, w.have.Wanted, want.set.Manifest()))
}

// unknown: the host does not know what it was to carry, and carries something.
func (w *worker) unknown() bool { return w.have.Wanted.Len() == 0 && w.have.Live.Len() > 0 }

// reloaded notes that the daemon has, for a change whose delivery began at start.
func (w *worker) reloaded(start time.Time, c lb.Change) {
	w.reloadAt = start
	w.changes.AllowN(start, 1)
	w.tenants.spend(start, c)
}

// withdraws reports whether a change takes something away, or changes something that is there.
func withdraws(have, want lb.Manifest) bool {
	for d := range have.Differences(want) {
		if d.Was != nil {
			return true
		}
	}
	return false
}

// due says when a delivery should be made and why; zero: none is needed.
func (w *worker) due(want desire) (string, time.Time) {
	switch {
	case want.set == nil || w.have == nil || w.barred != nil:
		return "", time.Time{}
	case w.drifted:
		return CauseDrift, w.after(want)
	case w.done != want.digest() || w.lost || w.behind:
		return want.cause, w.after(want)
	case w.renews() && !w.mayRenew():
		return "", time.Time{} // other hosts come first
	case w.renews():
		return CauseRenewal, latest(w.renewAt, w.after(want))
	case !w.refuseAt.IsZero():
		return CauseRetry, latest(w.refuseAt, w.after(want))
	default:
		return "", time.Time{}
	}
}

// renews reports whether what the host runs is to be made anew: not if a delivery of
// the same by the same Renderer has not helped.
func (w *worker) renews() bool {
	return w.have != nil && w.have.Outdated && w.renewed != w.have.Renderer
}

func (w *worker) mayRenew() bool {
	w.fleet.mu.Lock()
	defer w.fleet.mu.Unlock()
	return w.renewal
}

// after is when a delivery may be tried: what failed waits, something else does not.
func (w *worker) after(want desire) time.Time {
	if w.failedWant == want.digest() {
		return latest(time.Unix(1, 0), w.retryAt, w.holdAt)
	}
	return latest(time.Unix(1, 0), w.holdAt)
}

func latest(a time.Time, others ...time.Time) time.Time {
	for _, b := range others {
		if b.After(a) {
			a = b
		}
	}
	return a
}
