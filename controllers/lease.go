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

// renewDeadline is how long a leader works without renewing its Lease. Others take it
// after leaseDuration.
const (
	leaseDuration = 15 * time.Second
	renewDeadline = 10 * time.Second
)

// renewals notes when this process last wrote the Lease. A leader that cannot renew it
// ends by itself. One that does neither is stuck, and somebody else may lead by now.
type renewals struct {
	resourcelock.Interface
	last atomic.Pointer[time.Time] // nil: this process never led

	restored func()                            // says that the cluster was restored from a backup
	seen     resourcelock.LeaderElectionRecord // the newest; the leader election asks one by one
}

// errRestored ends a process that was started before the cluster was restored.
var errRestored = errors.New("the Lease is older than it was: the cluster was restored from a backup, or somebody deleted the Lease, or the " +
	"clock of its holder was set back. After a restore this process would see little of what comes: it must be started anew")

// Get implements resourcelock.Interface. After a restore the API server gives versions of
// objects a second time, and whoever went on watching would be told nothing until the new
// ones have passed the old ones. The Lease shows it, which is written every two seconds.
func (r *renewals) Get(ctx context.Context) (*resourcelock.LeaderElectionRecord, []byte, error) {
	record, raw, err := r.Interface.Get(ctx)
	if err != nil {
		return nil, nil, err
	}
	if older(record, &r.seen) {
		r.restored()
		return nil, nil, errRestored // and nothing is written over it, so that whoever waits sees it, too
	}
	r.seen = *record
	return record, raw, nil
}

// older reports whether a record of the Lease is from before another one. The times of two
// holders are of two clocks; those of one are stored in microseconds.
func older(record, seen *resourcelock.LeaderElectionRecord) bool {
	if record.LeaderTransitions != seen.LeaderTransitions {
		return record.LeaderTransitions < seen.LeaderTransitions
	}
	return record.HolderIdentity == seen.HolderIdentity && seen.RenewTime.Sub(record.RenewTime.Time) > time.Second
}

// Create implements resourcelock.Interface.
func (r *renewals) Create(ctx context.Context, record resourcelock.LeaderElectionRecord) error {
	at := time.Now()
	return r.note(at, record, r.Interface.Create(ctx, record))
}

// Update implements resourcelock.Interface.
func (r *renewals) Update(ctx context.Context, record resourcelock.LeaderElectionRecord) error {
	at := time.Now()
	return r.note(at, record, r.Interface.Update(ctx, record))
}

// note when a request that was taken began: an answer may come long after it.
func (r *renewals) note(at time.Time, record resourcelock.LeaderElectionRecord, err error) error {
	if err == nil {
		r.last.Store(&at)
		r.seen = record
	}
	return err
}

// age of the last renewal; 0: this process never led. A process that was stopped sees it
// on the monotonic clock, a machine that was on the other one.
func (r *renewals) age() time.Duration {
	last := r.last.Load()
	if last == nil {
		return 0
	}
	now := time.Now()
	return max(now.Sub(*last), now.Round(0).Sub(last.Round(0)))
}

// check is a healthz.Checker: kubelet starts a process anew that is stuck.
func (r *renewals) check(*http.Request) error {
	if age := r.age(); age >= overdue {
		return fmt.Errorf("this process leads, and renewed its Lease last %s ago", age.Round(time.Second))
	}
	return nil
}

// errNotLeading says that a write was not sent: somebody else may lead by now.
var errNotLeading = errors.New("this process has not renewed its Lease in time, and writes no more")

// leading lets a process write only as long as it leads. One that was stopped, as a
// machine that is moved, finds itself in the midst of its work when it wakes, some time
// before the leader election ends it.
func (r *renewals) leading(next http.RoundTripper) http.RoundTripper {
	return roundTripper(func(req *http.Request) (*http.Response, error) {
		if req.Method == http.MethodGet || r.age() < renewDeadline {
			return next.RoundTrip(req)
		}
		if req.Body != nil {
			req.Body.Close()
		}
		return nil, errNotLeading
	})
}

type roundTripper func(*http.Request) (*http.Response, error)

// RoundTrip implements http.RoundTripper.
func (t roundTripper) RoundTrip(req *http.Request) (*http.Response, error) { return t(req) }
