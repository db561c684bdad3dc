package host

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/external-lb/external-lb/internal/engine"
	"github.com/external-lb/external-lb/internal/fileset"
)

// patience is how long a reload may take at least, as far as the host is known. One that is merely
// slow must not have what is good undone: that takes another reload, which makes it slower still.
type patience struct{ nanoseconds atomic.Int64 }

const (
	checkToReload = 10 // times what the check of the same took
	lastToNext    = 2  // times what the last reload took
	mostPatience  = 5 * time.Minute
)

func (p *patience) now() time.Duration { return time.Duration(p.nanoseconds.Load()) }

// expect that a reload takes up to so long. Whoever does holds the lock of the store.
func (p *patience) expect(d time.Duration) {
	p.nanoseconds.Store(int64(max(p.now(), min(d, mostPatience))))
}

// learn from a reload that was proved.
func (p *patience) learn(took time.Duration) {
	p.nanoseconds.Store(0)
	p.expect(lastToNext * took)
}

// reload has the daemon load what is live. One that is late has longer the next time.
func (u *unit) reload(ctx context.Context, want fileset.Digest) error {
	began := time.Now()
	err := u.daemon.Reload(ctx, want, u.patience.now())
	if r, ok := errors.AsType[*engine.Refusal](err); ok && r.Late {
		u.patience.expect(lastToNext * time.Since(began))
	}
	return err
}
