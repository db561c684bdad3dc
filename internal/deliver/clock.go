package deliver

import (
	"time"

	"github.com/external-lb/external-lb/internal/host"
)

// Clocks of hosts are to agree with this one: else times in logs, of events and of statuses
// cannot be compared, and nobody can say what came first.
const (
	clocksDiffer = 2 * time.Second // it is told
	clocksAgree  = time.Second     // it is told no longer
)

// ahead is how far the clock of a host is ahead of this one at least, whatever time the question
// and the answer took on their way; negative: it is behind. 0: they may be the same.
func ahead(c host.Clock, sent, got time.Time) time.Duration {
	switch {
	case c.Asked.IsZero() || c.Answered.Before(c.Asked):
		return 0 // it does not say, or was set meanwhile
	case c.Answered.After(got):
		return c.Answered.Sub(got)
	case c.Asked.Before(sent):
		return c.Asked.Sub(sent)
	}
	return 0
}

// clockTold is how far ahead a clock is said to be that is so far ahead now, and was said to be
// ahead before. What is told stays as long as it is about true: else it would be written all the time.
func clockTold(was, now time.Duration) time.Duration {
	off := now.Abs()
	switch {
	case off < clocksAgree, was == 0 && off <= clocksDiffer:
		return 0
	case was != 0 && (now-was).Abs() <= max(clocksAgree, was.Abs()/4):
		return was
	}
	return now.Round(time.Second)
}

// heedClock notes how far ahead the clock of the host is.
func (w *worker) heedClock(now time.Duration) {
	w.update(func(s *State) { s.Clock = clockTold(s.Clock, now) })
}
