package controllers

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"
	"time"

	"k8s.io/client-go/tools/leaderelection/resourcelock"
)

// overdue is how long after its last renewal a Lease has run out, and the process that
// held it has had time to end.
const overdue = 45 * time.Second

// renewals notes when this process last wrote the Lease. A leader that cannot renew it
// ends by itself. One that does neither is stuck, and somebody else may lead by now.
type renewals struct {
	resourcelock.Interface
	last atomic.Pointer[time.Time] // nil: this process never led
}

// Create implements resourcelock.Interface.
func (r *renewals) Create(ctx context.Context, record resourcelock.LeaderElectionRecord) error {
	return r.note(r.Interface.Create(ctx, record))
}

// Update implements resourcelock.Interface.
func (r *renewals) Update(ctx context.Context, record resourcelock.LeaderElectionRecord) error {
	return r.note(r.Interface.Update(ctx, record))
}

func (r *renewals) note(err error) error {
	if err == nil {
		r.last.Store(new(time.Now()))
	}
	return err
}

// check is a healthz.Checker: kubelet starts a process anew that is stuck.
func (r *renewals) check(*http.Request) error {
	last := r.last.Load()
	if last == nil || time.Since(*last) < overdue {
		return nil
	}
	return fmt.Errorf("this process leads, and renewed its Lease last %s ago", time.Since(*last).Round(time.Second))
}

// synced tells when all that this process watches has been read once: until then it could
// not take over from another one.
type synced struct{ atomic.Bool }

// Start implements manager.Runnable: it is called once the caches are filled.
func (s *synced) Start(context.Context) error {
	s.Store(true)
	return nil
}

// NeedLeaderElection implements manager.LeaderElectionRunnable: a standby watches, too.
func (*synced) NeedLeaderElection() bool { return false }

// check is a healthz.Checker.
func (s *synced) check(*http.Request) error {
	if s.Load() {
		return nil
	}
	return errors.New("the API server has not answered yet to all that is watched")
}
