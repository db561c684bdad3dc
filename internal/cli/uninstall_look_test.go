package cli

import (
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/test/builder"
)

func TestRemains_SayWhatIsWaitedFor(t *testing.T) {
	var many []*corev1.Service
	for i := range 7 {
		many = append(many, holding("edge").Write(builder.Service("shop", fmt.Sprintf("s%d", i)).Obj()))
	}
	orphan := holding("gone").Write(builder.Service("shop", "orphan").Obj())
	edge := builder.Balancer("edge").Hosts(v1alpha1.Host{Name: "lb1"}).Deleting().Obj()
	edge.Finalizers = []string{v1alpha1.CleanupFinalizer, "argocd.example/hook"}
	edge.Status.Hosts = []v1alpha1.HostStatus{{Name: "lb1", State: v1alpha1.HostFailed, Message: "disk\nfull"}}
	got := remains{balancers: []*v1alpha1.Balancer{edge}, services: append(slices.Clone(many), orphan)}.waits()
	want := []string{
		"host lb1 of Balancer edge, since 2026-01-01T00:00:00Z. It is Failed: disk full. " +
			"It is to withdraw 7 Services: shop/s0, shop/s1, shop/s2, shop/s3, shop/s4, 2 more",
		"the controller, to let go of what no Balancer holds: 1 Service: shop/orphan",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	edge.Finalizers, edge.Status.Hosts[0] = edge.Finalizers[1:], v1alpha1.HostStatus{Name: "lb1", State: v1alpha1.HostInSync}
	got = remains{balancers: []*v1alpha1.Balancer{edge}}.waits()
	if want := []string{"somebody to take argocd.example/hook off Balancer edge, since 2026-01-01T00:00:00Z"}; !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
}
