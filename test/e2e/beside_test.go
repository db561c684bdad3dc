package e2e

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/test/builder"
	"github.com/external-lb/external-lb/test/wait"
)

// Most tests wait more than they work. Those that change nothing but what is in their
// namespace say t.Parallel() and run beside each other, when all others have ended:
// those have the hosts, the nodes, the Balancer and the manager for themselves.

// atOnce is how many tests run beside each other.
const atOnce = "6"

// poolsMade is how many scenes have had a pool.
var poolsMade atomic.Int32

// besideScene is the scene of a test that runs beside others. Its addresses come from a
// pool of its own: those that it gives back are nobody else's soon after.
func besideScene(t *testing.T) *scene {
	t.Helper()
	s := newScene(t)
	s.beside = true
	n := poolsMade.Add(1)
	pool := builder.AddressPool(s.namespace,
		v1alpha1.AddressRange(fmt.Sprintf("10.64.%d.%d/28", 4+n/16, n%16*16)),
		v1alpha1.AddressRange(fmt.Sprintf("2001:db8:0:1::%x/120", (n+1)<<8)),
	).Priority(1).Namespaces(corev1.LabelMetadataName, s.namespace).Manifest()
	s.make(pool)
	wait.For(t, func(ctx context.Context) error {
		if err := env.Kube.Get(ctx, client.ObjectKeyFromObject(pool), pool); err != nil {
			return err
		}
		if !meta.IsStatusConditionTrue(pool.Status.Conditions, v1alpha1.ConditionAccepted) {
			return fmt.Errorf("the pool %s: %+v", pool.Name, pool.Status)
		}
		return nil
	})
	return s
}
