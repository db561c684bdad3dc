package engine

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/external-lb/external-lb/internal/fileset"
)

// Answer is what a daemon says that it runs.
type Answer struct {
	Version string // nginx/1.22.1
	PID     int    // of the process that answers
	Digest  fileset.Digest
}

// Refusal is what a daemon says instead of taking a configuration.
type Refusal struct {
	Daemon, Message string
	// Late: it did not show in time that it took it. The Message may be all that is known of that.
	Late bool
}

func (r *Refusal) Error() string { return r.Daemon + " refuses the configuration: " + r.Message }

// NotWithin is what is said of a daemon of which nothing else is known.
func NotWithin(limit time.Duration) string {
	return fmt.Sprintf("it has not proved to run it within %s: is the host overloaded?", limit)
}

// AnswerTime is how long a daemon may take to say what it runs.
const AnswerTime = 10 * time.Second

// Proves reports whether the daemon runs a configuration now.
func Proves(ctx context.Context, d Prover, want fileset.Digest) bool {
	for range answersIfSeen {
		if a, err := d.Ask(ctx); err != nil || a.Digest != want {
			return false
		}
	}
	return true
}

// How often a daemon must say the same in a row. Old workers answer for a moment
// after a reload; where they can be seen, it is known when they no longer do.
const (
	answersIfSeen   = 3
	answersIfUnseen = 20
	askEvery        = 10 * time.Millisecond
	readLogEvery    = 500 * time.Millisecond
)

// Proof waits for one after a reload.
type Proof struct {
	Daemon  string
	Ask     func(context.Context) (Answer, error)
	Want    fileset.Digest
	Old     map[int]bool                // processes that accepted before
	Accepts func(old map[int]bool) bool // whether any of them still does, as far as that can be seen
	Seen    bool                        // what answers is all that there is
	Refused func(late bool) string      // what the daemon has said against it meanwhile; "" nothing
	Within  time.Duration
}

// Wait until nothing but the configuration accepts connections.
func (p Proof) Wait(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, p.Within)
	defer cancel()
	need := answersIfUnseen
	if p.Seen || len(p.Old) > 0 && p.Accepts != nil {
		need = answersIfSeen
	}
	again := time.NewTicker(askEvery)
	defer again.Stop()
	readLog := time.NewTicker(readLogEvery)
	defer readLog.Stop()
	streak := 0
	for {
		a, err := p.Ask(ctx)
		if err == nil && a.Digest == p.Want && !p.Old[a.PID] {
			streak++
		} else {
			streak = 0
		}
		if streak >= need && (p.Accepts == nil || !p.Accepts(p.Old)) {
			return nil
		}
		select {
		case <-again.C:
		case <-readLog.C:
			if words := p.Refused(false); words != "" {
				return &Refusal{Daemon: p.Daemon, Message: words}
			}
		case <-ctx.Done():
			words := cmp.Or(p.Refused(true), NotWithin(p.Within))
			return &Refusal{Daemon: p.Daemon, Message: words, Late: true}
		}
	}
}
