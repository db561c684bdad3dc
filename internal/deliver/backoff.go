package deliver

import (
	"math/rand/v2"
	"time"
)

// How often things are looked at and tried again.
const (
	retryFirst   = time.Second
	retryMax     = 30 * time.Second    // what somebody has to repair
	reconnectMax = 5 * time.Second     // a network heals by itself
	statusEvery  = 30 * time.Second    // also for what was refused
	statusLast   = statusEvery * 6 / 5 // after this long every host has been asked

	// For a host that was too slow they are doubled, as the time for its login is: what it has done by then is
	// for nothing. maxSlow is how often: 40 s for a login are enough where each processor has some hundred
	// processes to run, and an agent ends itself when a delivery takes an hour.
	statusTimeout = 30 * time.Second
	applyTimeout  = 5 * time.Minute
	maxSlow       = 3
)

// backoff grows from retryFirst to max with each failure.
type backoff struct{ last time.Duration }

func (b *backoff) next(limit time.Duration) time.Duration {
	b.last = min(max(2*b.last, retryFirst), limit)
	return jitter(b.last)
}

func (b *backoff) reset() { b.last = 0 }

// jitter spreads a duration over ± 20 %, so that hosts do not move in step.
func jitter(d time.Duration) time.Duration {
	return d - d/5 + rand.N(2*d/5+1)
}
