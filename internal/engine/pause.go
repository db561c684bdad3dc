package engine

import (
	"context"
	"sync"
	"time"
)

// Pause is how long something is not tried again: when it has failed, and when it has just been done.
type Pause struct {
	Rest time.Duration // after what went well

	mu    sync.Mutex
	until time.Time
	why   error
}

const pauseTime = 30 * time.Second

// After something was tried. Whoever hung up meanwhile has learned nothing.
func (p *Pause) After(ctx context.Context, err error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case err == nil:
		p.until, p.why = time.Now().Add(p.Rest), nil
	case ctx.Err() == nil:
		p.until, p.why = time.Now().Add(pauseTime), err
	}
	return err
}

// Over reports whether it may be tried, and else why it failed, if it did.
func (p *Pause) Over() (over bool, why error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if time.Now().Before(p.until) {
		return false, p.why
	}
	return true, nil
}
