package cli

import (
	"context"
	"strings"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/external-lb/external-lb/controllers"
	"github.com/external-lb/external-lb/internal/explain"
)

func TestManager_AsItsLeaseTells(t *testing.T) {
	const long = -10 * time.Minute
	for name, c := range map[string]struct {
		lease *coordinationv1.Lease
		renew bool // while it is looked at
		state explain.State
		says  string
	}{
		"at work":                  {leaseOf("m-1_1fe4e0ba-9d4d-4ff8-a7e4-45ab3e2b4e5c", time.Now()), false, explain.OK, "m-1 works"},
		"gone":                     {leaseOf("m-1", time.Now().Add(long)), false, explain.Wrong, "m-1, which has its Lease external-lb-system/external-lb, renewed it last at "},
		"by a clock that is late":  {leaseOf("m-1", time.Now().Add(long)), true, explain.OK, "m-1 works"},
		"by a clock that is early": {leaseOf("m-1", time.Now().Add(-long)), true, explain.OK, "m-1 works"},
		"ended":                    {leaseOf("", time.Now()), false, explain.Wrong, "nobody has its Lease"},
		"without an election":      {&coordinationv1.Lease{ObjectMeta: leaseOf("", time.Now()).ObjectMeta}, false, explain.Unknown, "without leader election"},
		"another has its place":    {leaseOf(uninstaller+"on b, process 7", time.Now()), false, explain.Wrong, "external-lb uninstall on b"},
		"nobody ever":              {nil, false, explain.Unknown, "there is no Lease external-lb-system/external-lb"},
	} {
		t.Run(name, func(t *testing.T) {
			builder := fake.NewClientBuilder().WithScheme(controllers.Scheme())
			if c.lease != nil {
				builder.WithObjects(c.lease)
			}
			gets := 0
			kube := interceptor.NewClient(builder.Build(), interceptor.Funcs{Get: func(ctx context.Context, w client.WithWatch, key client.ObjectKey, obj client.Object, options ...client.GetOption) error {
				err := w.Get(ctx, key, obj, options...)
				if gets++; c.renew && err == nil && gets > 1 {
					lease, _ := obj.(*coordinationv1.Lease)
					lease.Spec.RenewTime = ptr.To(metav1.NewMicroTime(lease.Spec.RenewTime.Add(2 * time.Second)))
				}
				return err
			}})
			got, err := manager(t.Context(), kube, defaultNamespace, 10*time.Millisecond)
			if err != nil || got.State != c.state || !strings.Contains(got.Message, c.says) {
				t.Errorf("%+v, %v; want %s: %s", got, err, c.state, c.says)
			}
		})
	}
}

// Who may not read the Lease is told so, and the rest is explained.
func TestManager_WhoseLeaseMayNotBeRead(t *testing.T) {
	got, err := manager(t.Context(), forbidding(t, inCluster(t, "")), defaultNamespace, 0)
	if err != nil || got.State != explain.Unknown || got.Message != "you may not get Leases in external-lb-system" {
		t.Errorf("%+v, %v", got, err)
	}
}
