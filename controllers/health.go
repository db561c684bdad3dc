package controllers

import (
	"context"
	"errors"
	"net/http"
	"sync/atomic"
)

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
	return errors.New("the API server has not answered yet to all that is watched: the log says what it refuses")
}
