package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/record"
)

// remains are what hangs if external-lb is deleted now.
type remains struct {
	balancers []*v1alpha1.Balancer
	services  []*corev1.Service // with our finalizer
	idle      string            // why nobody withdraws anything; "" while a controller works, or none is needed
}

func (r remains) nothing() bool { return len(r.balancers)+len(r.services) == 0 }

func (r remains) count() string {
	return fmt.Sprintf("left are %s, and with our finalizer %s", plural(len(r.balancers), "Balancer"), plural(len(r.services), "Service"))
}

// look asks the API server what is left. That there are no such kinds is an answer, too.
func (u *uninstall) look(ctx context.Context) (r remains, err error) {
	var balancers v1alpha1.BalancerList
	if err := u.kube.List(ctx, &balancers); err != nil && !meta.IsNoMatchError(err) && !apierrors.IsNotFound(err) {
		return r, fmt.Errorf("asking the API server: %w", err)
	}
	var services corev1.ServiceList
	if err := u.kube.List(ctx, &services); err != nil {
		return r, fmt.Errorf("asking the API server: %w", err)
	}
	for i := range balancers.Items {
		r.balancers = append(r.balancers, &balancers.Items[i])
	}
	for i := range services.Items {
		if record.Marked(&services.Items[i]) {
			r.services = append(r.services, &services.Items[i])
		}
	}
	if !u.keep {
		r.idle, err = u.idle(ctx)
	}
	return r, err
}

// idle says why no controller works, as far as its Lease tells.
func (u *uninstall) idle(ctx context.Context) (string, error) {
	lease := &coordinationv1.Lease{}
	name := client.ObjectKey{Namespace: u.namespace, Name: leaseName}
	switch err := u.kube.Get(ctx, name, lease); {
	case apierrors.IsNotFound(err):
		return fmt.Sprintf("there is no Lease %s, so it has not run, or what it needs is deleted", name), nil
	case err != nil:
		return "", fmt.Errorf("asking the API server: %w", err)
	case holder(lease) == "":
		return fmt.Sprintf("nobody has its Lease %s", name), nil
	case u.lease.expired(lease, time.Now()):
		return fmt.Sprintf("%s, which has its Lease %s, no longer renews it", holder(lease), name), nil
	}
	return "", nil
}

// waits are what is waited for, a line for each cause: a host, the controller, somebody
// else's finalizer. Times in them are those since when, so a line changes with its cause.
func (r remains) waits() (lines []string) {
	held := map[string][]*corev1.Service{} // by Balancer, "" for those that none is there for
	names := map[string]bool{}
	for _, b := range r.balancers {
		names[b.Name] = true
	}
	for _, svc := range r.services {
		holders := slices.DeleteFunc(record.Holders(svc), func(name string) bool { return !names[name] })
		if len(holders) == 0 {
			holders = []string{""}
		}
		for _, name := range holders {
			held[name] = append(held[name], svc)
		}
	}
	if r.idle != "" {
		return []string{"the controller, which does not work: " + r.idle +
			". Start it, or leave the hosts as they are with --keep-hosts. It is to withdraw " + list(r.services)}
	}
	for _, b := range r.balancers {
		lines = append(lines, balancerWaits(b, held[b.Name])...)
	}
	if orphans := held[""]; len(orphans) > 0 {
		lines = append(lines, "the controller, to let go of what no Balancer holds: "+list(orphans))
	}
	return lines
}

// balancerWaits are the hosts that hold up a Balancer, or who else does.
func balancerWaits(b *v1alpha1.Balancer, services []*corev1.Service) (lines []string) {
	since := ""
	if b.DeletionTimestamp != nil {
		since = ", since " + stamp(b.DeletionTimestamp.Time)
	}
	for _, h := range hostViews(b) {
		if h.State != v1alpha1.HostInSync {
			line := fmt.Sprintf("host %s of Balancer %s%s. It is %s", h.Name, b.Name, since, h.State)
			if h.Message != "" {
				line += ": " + plain(h.Message)
			}
			lines = append(lines, line+". It is to withdraw "+list(services))
		}
	}
	others := slices.DeleteFunc(slices.Clone(b.Finalizers), func(f string) bool { return f == v1alpha1.CleanupFinalizer })
	switch {
	case len(lines) > 0:
	case len(others) > 0 && len(others) == len(b.Finalizers):
		lines = append(lines, fmt.Sprintf("somebody to take %s off Balancer %s%s", strings.Join(others, ", "), b.Name, since))
	default:
		lines = append(lines, fmt.Sprintf("Balancer %s%s, whose hosts answer, to withdraw %s", b.Name, since, list(services)))
	}
	return lines
}

// listed is how many Services a line names.
const listed = 5

func list(services []*corev1.Service) string {
	if len(services) == 0 {
		return "no Service any more"
	}
	var names []string
	for _, svc := range services[:min(listed, len(services))] {
		names = append(names, svc.Namespace+"/"+svc.Name)
	}
	if more := len(services) - listed; more > 0 {
		names = append(names, fmt.Sprintf("%d more", more))
	}
	return plural(len(services), "Service") + ": " + strings.Join(names, ", ")
}

func plural(n int, kind string) string {
	if n == 1 {
		return "1 " + kind
	}
	return fmt.Sprintf("%d %ss", n, kind)
}

// describeService with the addresses that its users were told.
func describeService(svc *corev1.Service) string {
	name := svc.Namespace + "/" + svc.Name
	if shown := record.Shows(svc); len(shown) > 0 {
		name += " (" + strings.Join(shown, ",") + ")"
	}
	return name
}

func hostNames(b *v1alpha1.Balancer) string {
	names := make([]string, len(b.Spec.AllHosts()))
	for i, h := range b.Spec.AllHosts() {
		names[i] = h.Name
	}
	return strings.Join(names, ", ")
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// delete a Balancer, if it is still as it must be.
func (u *uninstall) delete(ctx context.Context, b *v1alpha1.Balancer, still client.Preconditions) error {
	if u.dryRun {
		return nil
	}
	still.UID = &b.UID
	if err := client.IgnoreNotFound(u.kube.Delete(ctx, b, still)); err != nil {
		return fmt.Errorf("deleting Balancer %s: %w", b.Name, err)
	}
	return nil
}
