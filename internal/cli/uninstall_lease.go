package cli

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// What config/default calls the controller's Deployment and its Lease.
const (
	defaultNamespace = "external-lb-system"

	deploymentName = "external-lb"
	leaseName      = "external-lb"
)

// leaseWatch remembers since when a Lease has not been renewed: clocks of two machines
// are not compared.
type leaseWatch struct {
	renewal string
	since   time.Time
}

func holder(lease *coordinationv1.Lease) string { return ptr.Deref(lease.Spec.HolderIdentity, "") }

// expired reports whether the holder of a Lease is gone.
func (w *leaseWatch) expired(lease *coordinationv1.Lease, now time.Time) bool {
	renewal := holder(lease) + " " + ptr.Deref(lease.Spec.RenewTime, metav1.MicroTime{}).String()
	if renewal != w.renewal {
		w.renewal, w.since = renewal, now
	}
	return now.Sub(w.since) > lasts(lease)
}

// lasts is how long a Lease is its holder's without a renewal.
func lasts(lease *coordinationv1.Lease) time.Duration {
	return time.Duration(ptr.Deref(lease.Spec.LeaseDurationSeconds, 0)) * time.Second
}

// uninstaller begins the name of a holder that is this command. One that was killed does not
// give the Lease back, and whoever runs it again is not to wait for it.
const uninstaller = "external-lb uninstall "

// lead waits until no controller works, and sees to it that none does until release, or
// until the time is over.
func (u *uninstall) lead(ctx context.Context) (release func() error, err error) {
	machine, err := os.Hostname()
	if err != nil {
		return nil, err
	}
	me := fmt.Sprintf("%son %s, process %d", uninstaller, machine, os.Getpid())
	for {
		why, err := u.take(ctx, me)
		if err != nil {
			return nil, err
		}
		if why == "" {
			return func() error { return u.giveBack(context.WithoutCancel(ctx), me) }, nil
		}
		u.tell(why)
		if err := u.pause(ctx); err != nil {
			return nil, err
		}
	}
}

// take the controller's Lease, or say why not yet.
func (u *uninstall) take(ctx context.Context, me string) (why string, err error) {
	lease := &coordinationv1.Lease{}
	lease.Namespace, lease.Name = u.namespace, leaseName
	now := time.Now()
	err = u.kube.Get(ctx, client.ObjectKeyFromObject(lease), lease)
	there := err == nil
	switch {
	case there && holder(lease) != "" && !strings.HasPrefix(holder(lease), uninstaller) && !u.lease.expired(lease, now):
		return fmt.Sprintf("the controller to stop: %s renews the Lease %s", holder(lease), client.ObjectKeyFromObject(lease)), nil
	case there:
		hold(lease, me, u.timeout, now)
		err = u.kube.Update(ctx, lease)
	case apierrors.IsNotFound(err):
		hold(lease, me, u.timeout, now)
		if err = u.kube.Create(ctx, lease); apierrors.IsNotFound(err) || apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
			return "", nil // its namespace is gone, or about to be: no controller can lead either
		}
	}
	if apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err) || there && apierrors.IsNotFound(err) {
		return "the Lease " + client.ObjectKeyFromObject(lease).String() + ", which somebody else writes", nil
	}
	if err != nil {
		return "", fmt.Errorf("taking the controller's Lease: %w", err)
	}
	return "", nil
}

// hold writes down who leads. A new holder begins a new term, as with a controller.
func hold(lease *coordinationv1.Lease, who string, long time.Duration, now time.Time) {
	at := metav1.NewMicroTime(now)
	lease.Spec.HolderIdentity, lease.Spec.AcquireTime, lease.Spec.RenewTime = &who, &at, &at
	lease.Spec.LeaseDurationSeconds = ptr.To(int32(long/time.Second) + 1)
	lease.Spec.LeaseTransitions = ptr.To(ptr.Deref(lease.Spec.LeaseTransitions, 0) + 1)
}

// giveBack lets a controller lead again.
func (u *uninstall) giveBack(ctx context.Context, me string) error {
	lease := &coordinationv1.Lease{}
	err := u.kube.Get(ctx, client.ObjectKey{Namespace: u.namespace, Name: leaseName}, lease)
	if err == nil && holder(lease) == me {
		lease.Spec.HolderIdentity, lease.Spec.LeaseDurationSeconds = ptr.To(""), ptr.To[int32](1)
		err = u.kube.Update(ctx, lease)
	}
	if err == nil || apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return nil
	}
	return fmt.Errorf("giving the controller's Lease back: %w", err)
}
