package host

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"

	"github.com/external-lb/external-lb/internal/engine"
	"github.com/external-lb/external-lb/test/wait"
)

// slow is a daemon that takes its time to tell what it sees.
type slow struct {
	engine.Daemon
	looks atomic.Int32
	goOn  chan struct{}
}

func (s *slow) Observe(ctx context.Context, _ []engine.Carried) ([]Traffic, error) {
	s.looks.Add(1)
	select {
	case <-s.goOn:
	case <-ctx.Done():
	}
	return nil, nil
}

// Who hangs up while a daemon tells what it sees waits for it no longer, and costs no other look.
func TestObserve_WhoHangsUpDoesNotWait(t *testing.T) {
	b := newBox(t)
	d := &slow{Daemon: b.unit.daemon, goOn: make(chan struct{})}
	b.unit.daemon = d
	first, hangUp := context.WithCancel(t.Context())
	gone := make(chan error, 1)
	go func() {
		_, err := b.agent.Observe(first)
		gone <- err
	}()
	wait.True(t, "it looks", func() bool { return d.looks.Load() == 1 })
	already, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := b.agent.Observe(already); !errors.Is(err, context.Canceled) {
		t.Errorf("who had hung up waited: %v", err)
	}
	hangUp()
	if err := <-gone; !errors.Is(err, context.Canceled) {
		t.Errorf("who asked first and hung up waited: %v", err)
	}
	close(d.goOn)
	if seen, err := b.agent.Observe(t.Context()); err != nil || seen.Message != "" || d.looks.Load() != 1 {
		t.Errorf("%+v, %v, %d looks", seen, err, d.looks.Load())
	}
}
