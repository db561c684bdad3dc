package chaos

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/record"
	"github.com/external-lb/external-lb/test/wait"
)

// calm ends all that is open, and waits for what must be so then: every Service has its
// address and answers at every host, what was withdrawn has left nothing, and hosts carry
// what there is and nothing else.
func (w *world) calm(ctx context.Context) error {
	if err := w.endAll(ctx); err != nil {
		return err
	}
	if err := w.sweep(ctx); err != nil {
		return err
	}
	err := wait.Until(ctx, func(ctx context.Context) error {
		if err := w.keepManager(ctx); err != nil {
			return err
		}
		return w.applyAll(ctx)
	})
	if err != nil {
		return err
	}
	for _, name := range sorted(w.apps) {
		if err := w.settled(ctx, w.apps[name]); err != nil {
			return err
		}
	}
	return w.inSync(ctx, w.nothingElse)
}

// endAll ends all that has begun: first what others need, last what is told once all else is well.
func (w *world) endAll(ctx context.Context) error {
	rank := func(k kind) int {
		switch {
		case k == outage:
			return 0
		case slices.Contains(meddlers, k):
			return 2
		}
		return 1
	}
	for now := range 3 {
		for about, kinds := range maps.Clone(w.open) {
			for _, k := range slices.Clone(kinds) {
				if rank(k) != now {
					continue
				}
				if err := w.end(ctx, k, about); err != nil {
					return fmt.Errorf("%s %s: %w", endOf[k], about, err)
				}
			}
		}
	}
	return nil
}

// inSync waits until the Balancer says that of all hosts, and something else is so.
func (w *world) inSync(ctx context.Context, more func(context.Context) error) error {
	return wait.Until(ctx, func(ctx context.Context) error {
		b := &v1alpha1.Balancer{}
		if err := w.Kube.Get(ctx, client.ObjectKey{Name: "edge"}, b); err != nil {
			return err
		}
		if want := fmt.Sprintf("%d/%[1]d", hosts); b.Status.HostsInSync != want {
			return fmt.Errorf("hosts in sync: %s, want %s: %+v", b.Status.HostsInSync, want, b.Status.Hosts)
		}
		return more(ctx)
	})
}

// settled waits until an app's Service is as its user wants it, at every host.
func (w *world) settled(ctx context.Context, a *app) error {
	err := wait.Until(ctx, func(ctx context.Context) error {
		if err := w.apply(ctx, a); err != nil { // it may have been in the way of its successor
			return err
		}
		svc := &corev1.Service{}
		err := w.Kube.Get(ctx, client.ObjectKey{Namespace: namespace, Name: a.name}, svc)
		switch {
		case apierrors.IsNotFound(err) && !a.wanted:
			return nil
		case err != nil:
			return err
		case !a.wanted:
			return fmt.Errorf("it is still there, with the finalizers %v", svc.Finalizers)
		case !a.exposed:
			return letGo(svc)
		case len(svc.Status.LoadBalancer.Ingress) != 1:
			return fmt.Errorf("it has no address: %+v", svc.Status.Conditions)
		}
		return w.answersEverywhere(ctx, svc)
	})
	if err != nil {
		return fmt.Errorf("Service %s (wanted %t, exposed %t, port %d): %w", a.name, a.wanted, a.exposed, a.port, err)
	}
	return nil
}

func (w *world) answersEverywhere(ctx context.Context, svc *corev1.Service) error {
	for _, l := range listeners(svc, svc.Status.LoadBalancer.Ingress[0].IP) {
		w.held[l] = map[string]bool{}
		for _, host := range w.Hosts() {
			app, err := w.ask(ctx, host, l)
			if err == nil && app != svc.Name {
				err = wait.GiveUp(fmt.Errorf("answered by %q", app))
			}
			if err != nil {
				return fmt.Errorf("%s by way of %s: %w", l, host, err)
			}
			w.held[l][host] = true
		}
	}
	return nil
}

// letGo holds that nothing of ours is left on a Service.
func letGo(svc *corev1.Service) error {
	if len(svc.Finalizers) > 0 || record.Marked(svc) {
		return fmt.Errorf("left on it are %v and %v", svc.Finalizers, svc.Status.Conditions)
	}
	return nil
}

// nothingElse holds that the hosts have files of the Services that there are, and of no others.
func (w *world) nothingElse(ctx context.Context) error {
	var services corev1.ServiceList
	if err := w.Kube.List(ctx, &services); err != nil {
		return err
	}
	var want []string
	for _, svc := range services.Items {
		if svc.Spec.Type == corev1.ServiceTypeLoadBalancer {
			want = append(want, strings.Join([]string{svc.Namespace, svc.Name, string(svc.UID)}, ".")+".conf")
		}
	}
	slices.Sort(want)
	for _, name := range w.Hosts() {
		h, err := w.Host(name)
		if err != nil {
			return err
		}
		out, err := h.Shell(ctx, "cd /var/lib/external-lb/"+string(w.engine)+"/live/services 2>/dev/null && ls || true")
		if err != nil {
			return err
		}
		if have := strings.Fields(out); !slices.Equal(have, want) {
			return fmt.Errorf("%s carries %q, want %q", name, have, want)
		}
	}
	return nil
}
