package chaos

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/external-lb/external-lb/test/wait"
)

// saved is what a backup of the cluster has in it, as far as somebody here must know.
type saved struct {
	apps map[string]app
	once map[string]string // the addresses on record, by UID
}

// backUp keeps all that etcd has: Services on their way to hosts and from them, the Lease
// of the leader, Nodes that are down. The API server is away for that time.
func (w *world) backUp(ctx context.Context) error {
	w.saved = &saved{apps: map[string]app{}, once: maps.Clone(w.once)}
	for name, a := range w.apps {
		w.saved.apps[name] = *a
	}
	return w.Backup(ctx)
}

// restore brings the cluster back to what it was at its backup. Users do nothing again of
// what they have done since. The hosts know newer terms than the Lease has, and Services that
// are no more. Who is on record has the address again, whoever got it since; what both
// times know answers all the time. A manager that was not killed must see it, and end.
func (w *world) restore(ctx context.Context, n int) error {
	if err := w.endAll(ctx); err != nil {
		return err
	}
	before, err := w.services(ctx)
	if err != nil {
		return err
	}
	before = slices.DeleteFunc(before, func(svc corev1.Service) bool { return !w.live(ctx, &svc) })
	if err := w.age(ctx); err != nil {
		return err
	}
	if n%2 == 0 {
		if err := w.Manager.Kill(); err != nil {
			return err
		}
	}
	if err := w.Restore(ctx); err != nil {
		return err
	}
	if err := w.unmeddle(ctx); err != nil {
		return err
	}
	for _, node := range w.Nodes() { // whatever the backup says of them
		if err := w.noticed(ctx, node, true); err != nil {
			return err
		}
	}
	for name, a := range w.saved.apps {
		w.apps[name] = &a
	}
	w.once = maps.Clone(w.saved.once)
	after, err := w.services(ctx)
	if err != nil {
		return err
	}
	if err := w.reachable(ctx, unchanged(before, after)); err != nil {
		return fmt.Errorf("before and after the restore: %w", err)
	}
	err = wait.Until(ctx, func(context.Context) error { // what it knows is of another time, and it would be told of little
		if alive(w.Manager) {
			return errors.New("the manager goes on")
		}
		return nil
	})
	if err != nil {
		return err
	}
	if err := w.startManager(ctx); err != nil {
		return err
	}
	return w.calm(ctx)
}

// age makes the backup old: that of a busy cluster is many versions behind after an hour.
func (w *world) age(ctx context.Context) error {
	clock := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: stranger, Name: "clock"}}
	if err := w.Create(ctx, clock); err != nil {
		return err
	}
	for i := range 1000 {
		tick := fmt.Sprintf(`{"data": {"now": "%d"}}`, i)
		if err := w.Kube.Patch(ctx, clock, client.RawPatch(types.MergePatchType, []byte(tick))); err != nil {
			return err
		}
	}
	return nil
}

// live reports whether a Service that stays answers everywhere it is published.
func (w *world) live(ctx context.Context, svc *corev1.Service) bool {
	for _, in := range svc.Status.LoadBalancer.Ingress {
		for _, l := range listeners(svc, in.IP) {
			if !slices.ContainsFunc(w.carrying(), func(host string) bool {
				app, err := w.ask(ctx, host, l)
				return err == nil && app == svc.Name
			}) {
				return false
			}
		}
	}
	return svc.DeletionTimestamp.IsZero()
}

// unchanged are Services that are published now as they were before.
func unchanged(before, after []corev1.Service) (same []corev1.Service) {
	was := map[types.UID]listener{}
	for i := range before {
		if in := before[i].Status.LoadBalancer.Ingress; len(in) > 0 {
			was[before[i].UID] = listeners(&before[i], in[0].IP)[0]
		}
	}
	for i := range after {
		if in := after[i].Status.LoadBalancer.Ingress; len(in) > 0 && was[after[i].UID] == listeners(&after[i], in[0].IP)[0] {
			same = append(same, after[i])
		}
	}
	return same
}

// unmeddle takes away what others had begun when the backup was made, and nobody ends.
func (w *world) unmeddle(ctx context.Context) error {
	if err := w.mendSelector(ctx); err != nil {
		return err
	}
	for _, obj := range denial() {
		if err := client.IgnoreNotFound(w.Kube.Delete(ctx, obj)); err != nil {
			return err
		}
	}
	return nil
}
