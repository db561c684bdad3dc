package controllers

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/retry"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// termAnnotation on the Lease is the term of the last leader, also of one without
// election. Hosts refuse an older one.
const termAnnotation = "external-lb.dev/term"

// maxTerm is more than any number of leaders.
const maxTerm = 1 << 40

// leader is this process as the one that delivers. Its term is newer than that of each
// leader before it; see deliver.Leader.
type leader struct {
	reader   client.Reader // of the API server itself
	writer   client.Writer
	lease    client.ObjectKey
	identity string // of this process in the leader election; "": there is none

	cluster string // the UID of the namespace kube-system

	writing sync.Mutex
	term    atomic.Int64 // 0: not known yet
}

// Cluster implements deliver.Leader.
func (l *leader) Cluster() string { return l.cluster }

// Term implements deliver.Leader.
func (l *leader) Term() int64 { return l.term.Load() }

// acquire takes a term of its own, once, after this process was elected.
func (l *leader) acquire(ctx context.Context) error {
	if l.Term() > 0 {
		return nil
	}
	var system corev1.Namespace
	if err := l.reader.Get(ctx, client.ObjectKey{Name: metav1.NamespaceSystem}, &system); err != nil {
		return fmt.Errorf("reading the identity of the cluster: %w", err)
	}
	l.cluster = string(system.UID)
	return l.Raise(ctx, 0)
}

// Raise implements deliver.Leader.
func (l *leader) Raise(ctx context.Context, seen int64) error {
	l.writing.Lock()
	defer l.writing.Unlock()
	if l.Term() > seen {
		return nil
	}
	raced := func(err error) bool { return apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err) }
	return retry.OnError(retry.DefaultBackoff, raced, func() error { return l.write(ctx, seen) })
}

// write a newer term into the Lease, unless somebody else changes that meanwhile.
func (l *leader) write(ctx context.Context, seen int64) error {
	lease := &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: l.lease.Namespace, Name: l.lease.Name}}
	err := l.reader.Get(ctx, l.lease, lease)
	create := apierrors.IsNotFound(err) && l.identity == ""
	if err != nil && !create {
		return fmt.Errorf("reading the Lease of the leader election: %w", err)
	}
	if holder := ptr.Deref(lease.Spec.HolderIdentity, ""); l.identity != "" && holder != l.identity {
		return fmt.Errorf("the Lease %s is held by %q now, not by this process", l.lease, holder)
	}
	last, err := termOf(lease)
	if err != nil {
		return err
	}
	if l.identity == "" && l.Term() > 0 && last > l.Term() {
		return fmt.Errorf("the Lease %s is in term %d by now: another process leads, which was started later", l.lease, last)
	}
	next := max(last, seen, l.Term()) + 1
	metav1.SetMetaDataAnnotation(&lease.ObjectMeta, termAnnotation, strconv.FormatInt(next, 10))
	if create {
		err = l.writer.Create(ctx, lease)
	} else {
		err = l.writer.Update(ctx, lease)
	}
	if err != nil {
		return fmt.Errorf("writing the term into the Lease of the leader election: %w", err)
	}
	l.term.Store(next)
	return nil
}

// termOf the last leader; 0: there was none.
func termOf(lease *coordinationv1.Lease) (int64, error) {
	text, ok := lease.Annotations[termAnnotation]
	if !ok {
		return 0, nil
	}
	term, err := strconv.ParseInt(text, 10, 64)
	if err != nil || term < 0 || term >= maxTerm {
		return 0, fmt.Errorf("the annotation %s of the Lease %s/%s is %.40q, which is no term: remove it", termAnnotation, lease.Namespace, lease.Name, text)
	}
	return term, nil
}
