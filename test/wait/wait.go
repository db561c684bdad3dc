// Package wait waits for conditions, where a test cannot know how long something takes.
package wait

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"
)

// Patience is longer than anything takes that is waited for, however busy the machine.
const Patience = 3 * time.Minute

// Checks are frequent at first, as much is so within milliseconds; later they leave the
// machine to what is waited for, unless somebody measures.
const (
	firstPause   = 2 * time.Millisecond
	lastPause    = 200 * time.Millisecond
	precisePause = 10 * time.Millisecond
)

// hopeless is an error after which there is no use in waiting.
type hopeless struct{ error }

func (h hopeless) Unwrap() error { return h.error }

// GiveUp makes an error with which a check ends the waiting at once.
func GiveUp(err error) error { return hopeless{err} }

// Until checks until there is no error, or there is no use in it: see GiveUp. When ctx
// ends, or after Patience, it returns the last error of a check that was not cut off.
func Until(ctx context.Context, check func(ctx context.Context) error) error {
	return until(ctx, Patience, lastPause, check)
}

func until(ctx context.Context, patience, longest time.Duration, check func(ctx context.Context) error) error {
	limited, cancel := context.WithTimeoutCause(ctx, patience, fmt.Errorf("waited for %s", patience))
	defer cancel()
	var last error
	for pause := firstPause; ; pause = min(2*pause, longest) {
		err := check(limited)
		if err == nil || errors.As(err, new(hopeless)) {
			return err
		}
		if limited.Err() == nil || last == nil {
			last = err
		}
		next := time.NewTimer(pause)
		select {
		case <-limited.Done():
			next.Stop()
			return fmt.Errorf("%w: %w", context.Cause(limited), last)
		case <-next.C:
		}
	}
}

// For is Until, and ends the test where that returns an error. It may wait in a cleanup,
// too, when the test's context has ended.
func For(t testing.TB, check func(ctx context.Context) error) {
	t.Helper()
	if err := Until(context.WithoutCancel(t.Context()), check); err != nil {
		t.Fatal(err)
	}
}

// UntilTrue is Until where all that can be said of a condition is what it is.
func UntilTrue(ctx context.Context, what string, is func() (bool, error)) error {
	return Until(ctx, check(what, is))
}

// Precisely is UntilTrue for who measures how long something takes: it sees it 10 ms
// late at most.
func Precisely(ctx context.Context, what string, is func() (bool, error)) error {
	return PreciselyWithin(ctx, Patience, what, is)
}

// PreciselyWithin is Precisely for what takes longer than anything else.
func PreciselyWithin(ctx context.Context, patience time.Duration, what string, is func() (bool, error)) error {
	return until(ctx, patience, precisePause, check(what, is))
}

func check(what string, is func() (bool, error)) func(context.Context) error {
	return func(context.Context) error {
		ok, err := is()
		if err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		return isTrue(what, ok)
	}
}

func isTrue(what string, ok bool) error {
	if !ok {
		return errors.New("not so: " + what)
	}
	return nil
}

// True is UntilTrue, and ends the test where that returns an error.
func True(t testing.TB, what string, is func() bool) {
	t.Helper()
	For(t, func(context.Context) error { return isTrue(what, is()) })
}
