package cli

import (
	"context"
	"fmt"
	"strings"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/external-lb/external-lb/internal/explain"
)

// renewalPatience is how long the renewal of a Lease is waited for that looks old: longer
// than a manager takes from one to the next, which is two seconds.
const renewalPatience = 6 * time.Second

// manager says whether one works, as its Lease tells. An old renewal may be the fault of this
// machine's clock: so the next one is waited for.
func manager(ctx context.Context, kube client.Reader, namespace string, patience time.Duration) (explain.Manager, error) {
	key := client.ObjectKey{Namespace: namespace, Name: leaseName}
	var first time.Time
	for until := time.Now().Add(patience); ; {
		lease := &coordinationv1.Lease{}
		if err := kube.Get(ctx, key, lease); err != nil {
			return managerOfNoLease(key, err)
		}
		who, now := holder(lease), time.Now()
		if lease.Spec.RenewTime == nil {
			return explain.Manager{State: explain.Unknown, Message: "its Lease " + key.String() + " is not renewed: it runs without leader election, or never did"}, nil
		}
		renewed := lease.Spec.RenewTime.Time
		if first.IsZero() {
			first = renewed
		}
		switch {
		case who == "":
			return gone("nobody has its Lease %s: it does not run, or has only begun", key), nil
		case strings.HasPrefix(who, uninstaller):
			return gone("%s has its Lease %s", who, key), nil
		case now.Sub(renewed).Abs() < lasts(lease) || !renewed.Equal(first):
			return explain.Manager{State: explain.OK, Message: pod(who) + " works"}, nil
		case !now.Before(until):
			return gone("%s, which has its Lease %s, renewed it last at %s: it does not run, or does not reach the API server", pod(who), key, stamp(renewed)), nil
		}
		if err := sleep(ctx, min(patience, time.Second)); err != nil {
			return explain.Manager{}, err
		}
	}
}

// pod that has a Lease: it adds an identifier to its name, which has no underscore.
func pod(who string) string {
	name, _, _ := strings.Cut(who, "_")
	return name
}

func managerOfNoLease(key client.ObjectKey, err error) (explain.Manager, error) {
	switch {
	case apierrors.IsNotFound(err):
		return explain.Manager{State: explain.Unknown, Message: fmt.Sprintf("there is no Lease %s: it runs in another namespace, or never did", key)}, nil
	case apierrors.IsForbidden(err):
		return explain.Manager{State: explain.Unknown, Message: "you may not get Leases in " + key.Namespace}, nil
	}
	return explain.Manager{}, fmt.Errorf("asking the API server: %w", err)
}

func gone(format string, args ...any) explain.Manager {
	return explain.Manager{State: explain.Wrong, Message: fmt.Sprintf(format, args...)}
}

// sleep until it is over, or the context is.
func sleep(ctx context.Context, long time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(long):
		return nil
	}
}
