package engine

import (
	"context"
	"errors"
	"testing"
	"time"
)

// What failed is not tried again for a while, and why is known; what somebody gave up is. What was done
// has its rest.
func TestPause(t *testing.T) {
	var p Pause
	is := func(over bool, why error) {
		t.Helper()
		if gotOver, gotWhy := p.Over(); gotOver != over || gotWhy != why {
			t.Errorf("over: %t, %v; want %t, %v", gotOver, gotWhy, over, why)
		}
	}
	tried := func(ctx context.Context, err error) {
		t.Helper()
		if got := p.After(ctx, err); got != err {
			t.Errorf("%v, want %v", got, err)
		}
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	failed := errors.New("no luck")
	tried(gone, failed)
	is(true, nil)
	tried(t.Context(), failed)
	is(false, failed)
	p.until = time.Now()
	is(true, nil)
	tried(t.Context(), failed)
	tried(t.Context(), nil)
	is(true, nil)
	p.Rest = time.Hour
	tried(t.Context(), nil)
	is(false, nil)
}
