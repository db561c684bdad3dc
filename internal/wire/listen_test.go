package wire

import (
	"context"
	"errors"
	"net"
	"os"
	"slices"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/external-lb/external-lb/internal/host"
)

// failing is a listener that fails first, or whenever it is told to.
type failing struct {
	*pipes
	errs chan error
}

func newFailing(errs ...error) *failing {
	f := &failing{&pipes{make(chan net.Conn), make(chan struct{})}, make(chan error, len(errs))}
	for _, err := range errs {
		f.errs <- err
	}
	return f
}

func (f *failing) Accept() (net.Conn, error) {
	failed := func(err error) (net.Conn, error) {
		return nil, &net.OpError{Op: "accept", Net: "unix", Err: os.NewSyscallError("accept4", err)}
	}
	select {
	case err := <-f.errs:
		return failed(err)
	default:
	}
	select {
	case err := <-f.errs:
		return failed(err)
	case c := <-f.arrive:
		return c, nil
	case <-f.done:
		return nil, net.ErrClosed
	}
}

// A machine that is short of files or memory for a while has an agent afterwards, which did not
// try all the time.
func TestAgentsOutliveWhatPasses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFailing(slices.Concat(slices.Repeat([]error{syscall.EMFILE}, 10), slices.Repeat([]error{syscall.ENFILE, syscall.ENOMEM}, 5))...)
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		go func() { ended <- Listen(ctx, f, quick{}) }()
		arrived := make(chan net.Conn)
		began := time.Now()
		go func() { arrived <- f.dial() }()
		select {
		case err := <-ended:
			t.Fatalf("it ended: %v", err)
		case ours := <-arrived:
			if paused := time.Since(began); paused < 10*time.Second || paused > 20*time.Second {
				t.Errorf("20 failures took %s: want pauses that grow up to a second", paused)
			}
			c, err := NewClient(t.Context(), ours)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := c.Status(t.Context()); err != nil {
				t.Error(err)
			}
			c.Close()
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// An agent whose socket is broken ends, also while a peer is served: whoever started it starts another one.
func TestAgentsWithABrokenSocketEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFailing()
		ended := make(chan error, 1)
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		go func() { ended <- Listen(ctx, f, lasting{}) }()
		c := connected(t, f.pipes)
		defer c.Close()
		answered := make(chan error, 1)
		go func() {
			_, err := c.Status(t.Context())
			answered <- err
		}()
		synctest.Wait() // until it is asked
		f.errs <- syscall.EINVAL
		select {
		case err := <-ended:
			if !errors.Is(err, syscall.EINVAL) {
				t.Errorf("it ended: %v", err)
			}
		case <-time.After(time.Hour):
			t.Error("it has not ended after an hour")
			cancel()
			<-ended
		}
		if err := <-answered; err == nil {
			t.Error("the peer has an answer")
		}
	})
}

// lasting answers when nobody asks any more.
type lasting struct{ quick }

func (lasting) Status(ctx context.Context) (host.Status, error) {
	<-ctx.Done()
	return host.Status{}, ctx.Err()
}
