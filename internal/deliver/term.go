package deliver

import (
	"context"
	"fmt"
	"time"

	"github.com/external-lb/external-lb/internal/host"
)

// Leader is the term in which this process delivers, and for whom.
type Leader interface {
	// Cluster is the one that this process delivers for: see host.Delivery.
	Cluster() string
	// Term grows with each leader of the cluster. It does not block.
	Term() int64
	// Raise makes Term newer than one that a host has seen, or says why this process
	// may not: another one leads.
	Raise(ctx context.Context, seen int64) error
}

// nextEpoch is newer than every other of this process, and than the term that a host has
// seen. A host that is far behind gets there by several deliveries: it takes no more in one.
func (f *Fleet) nextEpoch(seen int64) host.Epoch {
	e := host.Epoch{Term: min(f.opts.Leader.Term(), seen+host.MaxTermJump), Seq: f.seq.Add(1)}
	f.mu.Lock()
	f.terms[e.Term] = true
	f.mu.Unlock()
	return e
}

// firstTerm is that in which this process began, before hosts made it raise that.
func (f *Fleet) firstTerm() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.began == 0 {
		f.began = f.opts.Leader.Term()
	}
	return f.began
}

// ours reports whether an epoch is of this process.
func (f *Fleet) ours(e host.Epoch) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.terms[e.Term] && e.Seq <= f.seq.Load()
}

// tookEpoch notes that the host has taken a delivery.
func (w *worker) tookEpoch(e host.Epoch) {
	w.seen, w.taken, w.behind = e, e, e.Term < w.fleet.opts.Leader.Term()
}

// Twice within overtakenFor is once too often: a cluster that was restored from a backup
// finds its hosts ahead of it, but it finds them once.
const (
	overtakenOften = 2
	overtakenFor   = time.Hour
)

// overtakings are deliveries of somebody else who leads, too.
type overtakings struct {
	term  int64 // of the last one
	at    time.Time
	count int
}

// heed looks at the epoch that the host has taken. It reports whether somebody else has
// overtaken this process there: not a leader before it, and not if the host has forgotten.
// Then it decides whether this process goes on.
func (w *worker) heed(seen host.Epoch) (overtaken bool) {
	w.seen = seen
	own := w.fleet.opts.Leader.Term()
	before := w.taken == (host.Epoch{}) && seen.Term < w.fleet.firstTerm()
	if before || seen.Compare(w.taken) <= 0 || w.fleet.ours(seen) {
		w.barred = nil
		return false
	}
	if now := time.Now(); seen.Term > w.others.term {
		if now.Sub(w.others.at) > overtakenFor {
			w.others.count = 0
		}
		w.others = overtakings{term: seen.Term, at: now, count: w.others.count + 1}
	}
	switch {
	case seen.Term-own > host.MaxTermJump:
		w.barred = &Error{Reason: ReasonTermJump, Message: fmt.Sprintf(
			"it has taken a delivery in term %d, and this cluster is in term %d: somebody else has used its key. Give it another key, "+
				"and run `external-lb host reset-term` on it as root", seen.Term, own)}
	case w.others.count >= overtakenOften:
		w.barred = &Error{Reason: ReasonContested, Message: fmt.Sprintf(
			"somebody else delivers to it in the name of this cluster, last in term %d, and has overtaken this controller again: mostly a copy of the cluster "+
				"that was made from a backup. Nothing more is delivered from here. Stop the other controller, or take the host out of its Balancer; "+
				"then run `external-lb host reset-term` on the host as root", seen.Term)}
	}
	return true
}

// lead makes sure that the next epoch is newer than what the host has taken, or says why
// it cannot be.
func (w *worker) lead(ctx context.Context) *Error {
	if w.seen.Term < w.fleet.opts.Leader.Term() || w.fleet.ours(w.seen) {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	if err := w.fleet.opts.Leader.Raise(ctx, w.seen.Term); err != nil {
		return &Error{Reason: ReasonStaleEpoch, Err: err, Message: fmt.Sprintf(
			"it has taken a delivery in term %d, which is newer than those of this controller: %v", w.seen.Term, err)}
	}
	return nil
}
