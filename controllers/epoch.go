package controllers

import (
	"context"
	"fmt"
	"sync"

	coordinationv1 "k8s.io/api/coordination/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// epoch is the leader's term, from its Lease: hosts refuse an older one, so a
// deposed leader cannot overwrite its successor.
type epoch struct {
	reader   client.Reader
	lease    client.ObjectKey
	identity string // of this process in the leader election

	mu          sync.Mutex
	known       bool
	made, terms int64
}

// fixedEpoch is for a controller that runs without leader election: a later
// start is a newer epoch.
func fixedEpoch(startedAt int64) *epoch { return &epoch{known: true, made: startedAt} }

// acquire reads the term from the Lease, once, after this process was elected.
func (e *epoch) acquire(ctx context.Context) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.known {
		return nil
	}
	var lease coordinationv1.Lease
	if err := e.reader.Get(ctx, e.lease, &lease); err != nil {
		return fmt.Errorf("reading the Lease of the leader election: %w", err)
	}
	if holder := ptr.Deref(lease.Spec.HolderIdentity, ""); holder != e.identity {
		return fmt.Errorf("the Lease %s is held by %q now, not by this process", e.lease, holder)
	}
	e.made = lease.CreationTimestamp.Unix()
	e.terms = int64(ptr.Deref(lease.Spec.LeaseTransitions, 0))
	e.known = true
	return nil
}

// term is what acquire read.
func (e *epoch) term() (made, terms int64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.made, e.terms
}
