package cli

import (
	"context"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/external-lb/external-lb/provider"
)

const (
	maxLogin    = time.Minute      // that one try may take
	loginPause  = time.Second      // after the first try that fails
	loginPauses = 30 * time.Second // at most, between two tries
)

// lateCloud is a cloud that may be away when its provider starts, or does not let it in. The provider must not end for
// that: it may be a container beside the manager, and while one of its containers is down, a Pod is not ready.
type lateCloud struct {
	tried chan struct{} // closed when the first try to log in has ended

	mu    sync.Mutex
	cloud provider.Cloud
	err   error // of the last try
}

// logIn tries until it is let in, or ctx ends.
func (l *lateCloud) logIn(ctx context.Context, out io.Writer, login func(context.Context) (provider.Cloud, error)) {
	try := func() error {
		ctx, cancel := context.WithTimeout(ctx, maxLogin)
		defer cancel()
		cloud, err := login(ctx)
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.err = err; err == nil {
			l.cloud = cloud
		}
		return err
	}
	err := try()
	close(l.tried)
	for pause := loginPause; err != nil; pause = min(2*pause, loginPauses) {
		if ctx.Err() != nil {
			return
		}
		fmt.Fprintf(out, "cannot log in to the cloud, next try in %v: %v\n", pause, err)
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
		if err = try(); err == nil {
			fmt.Fprintln(out, "logged in to the cloud")
		}
	}
}

// get the cloud, or the answer that says why it is not there.
func (l *lateCloud) get(ctx context.Context) (provider.Cloud, error) {
	select {
	case <-l.tried:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil {
		return nil, &provider.Error{Code: provider.Unavailable, Message: "cannot log in to the cloud: " + l.err.Error(), RetryAfterSeconds: 5}
	}
	return l.cloud, nil
}

func (l *lateCloud) Capabilities(ctx context.Context) (provider.Capabilities, error) {
	c, err := l.get(ctx)
	if err != nil {
		return provider.Capabilities{}, err
	}
	return c.Capabilities(ctx)
}

func (l *lateCloud) Put(ctx context.Context, id provider.ID, s provider.Spec) (provider.Observed, error) {
	c, err := l.get(ctx)
	if err != nil {
		return provider.Observed{}, err
	}
	return c.Put(ctx, id, s)
}

func (l *lateCloud) Get(ctx context.Context, id provider.ID) (provider.Observed, error) {
	c, err := l.get(ctx)
	if err != nil {
		return provider.Observed{}, err
	}
	return c.Get(ctx, id)
}

func (l *lateCloud) Delete(ctx context.Context, id provider.ID) (provider.Observed, error) {
	c, err := l.get(ctx)
	if err != nil {
		return provider.Observed{}, err
	}
	return c.Delete(ctx, id)
}

func (l *lateCloud) List(ctx context.Context, cluster string) ([]provider.Observed, error) {
	c, err := l.get(ctx)
	if err != nil {
		return nil, err
	}
	return c.List(ctx, cluster)
}
