package chaos

import (
	"context"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/controllers"
	"github.com/external-lb/external-lb/internal/deliver"
	"github.com/external-lb/external-lb/internal/lb"
	"github.com/external-lb/external-lb/test/lab"
	"github.com/external-lb/external-lb/test/wait"
)

// intruder leads another cluster, has the key of the hosts, and is far ahead.
type intruder struct{}

func (intruder) Cluster() string                    { return "0c0c6d4e-5a3f-4d0a-9d7e-1f6a0c9b7a51" }
func (intruder) Term() int64                        { return 1 << 19 }
func (intruder) Raise(context.Context, int64) error { return nil }

// intrude delivers to a host, in the name of another cluster, that it is to carry nothing.
// The host refuses, says so, and tells nothing of whom it belongs to.
func (w *world) intrude(ctx context.Context, host string) error {
	b, system := &v1alpha1.Balancer{}, &corev1.Namespace{}
	if err := w.Kube.Get(ctx, client.ObjectKey{Name: "edge"}, b); err != nil {
		return err
	}
	if err := w.Kube.Get(ctx, client.ObjectKey{Name: "kube-system"}, system); err != nil {
		return err
	}
	b.Spec.Hosts = slices.DeleteFunc(b.Spec.Hosts, func(h v1alpha1.Host) bool { return h.Name != host })
	fleet := deliver.NewFleet(deliver.Options{Leader: intruder{}})
	defer fleet.Close()
	fleet.Set(b.Name, controllers.Targets(ctx, w.Kube, lab.Namespace, b, nil))
	fleet.Deliver(b.Name, map[string]*lb.Set{host: lb.NewSet()}, "services")
	return wait.Until(ctx, func(context.Context) error {
		state := fleet.States(b.Name)[0]
		said := fmt.Sprintf("%+v", state)
		switch {
		case state.State == v1alpha1.HostInSync:
			return wait.GiveUp(fmt.Errorf("%s has taken it", host))
		case state.Reason != deliver.ReasonOtherCluster:
			return fmt.Errorf("%s says %s", host, said)
		case strings.Contains(said, string(system.UID)):
			return wait.GiveUp(fmt.Errorf("%s says too much: %s", host, said))
		}
		return nil
	})
}
