package controllers

import (
	"context"
	"errors"
	"fmt"
	"testing"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/test/builder"
	"github.com/external-lb/external-lb/test/wait"
)

// refusals of a kind that were told so far.
func (e *events) refusals(kind string) (n int) {
	for _, q := range e.queues {
		for event := q.take(); event != nil; event = q.take() {
			if event.Reason == statusNotWritten && event.InvolvedObject.Kind == kind {
				n++
			}
		}
	}
	return n
}

// A status of a Balancer that is refused is told on it, once, and tried again by itself: what
// changes reaches the hosts meanwhile.
func TestABalancersStatusThatIsRefused(t *testing.T) {
	p := newOnePlace(t, 2, 1)
	p.r.events.refusals("")
	p.refuse = apierrors.NewForbidden(schema.GroupResource{Resource: "balancers"}, "edge", errors.New("policy"))
	before, told := p.host.wanted.Digest(), 0
	for range 3 {
		p.put(builder.Node("another").IP("172.17.0.1").Obj()) // the status has another number of nodes
		p.r.pace.causes.must("edge", false)
		again, err := p.r.Reconcile(t.Context(), request("edge"))
		if err != nil || again.RequeueAfter == 0 || again.RequeueAfter > longestSetback {
			t.Errorf("it is tried again after %v: %v", again.RequeueAfter, err)
		}
		told += p.r.events.refusals("Balancer")
	}
	if told != 1 {
		t.Errorf("it was told %d times", told)
	}
	if p.host.wanted.Digest() == before {
		t.Error("the hosts hear of nothing")
	}
	p.refuse = nil
	p.r.patch.setbacks.forget(p.balancer().UID)
	p.reconcile()
	if p.status == nil || p.status.Status.Nodes != 2 {
		t.Errorf("it was written: %+v", p.status)
	}
}

func (p *onePlace) balancer() *v1alpha1.Balancer {
	all, err := p.r.reader.balancers(p.tb.Context())
	if err != nil {
		p.tb.Fatal(err)
	}
	return all[0]
}

// On a real API server: a policy that denies the status of a Balancer freezes nothing but that status.
func TestADeniedStatusOfABalancer(t *testing.T) {
	w := newWorld(t)
	w.published(w.service("web"))
	b := builder.Balancer(w.balancer).Manifest()
	w.check(kube.Patch(t.Context(), b, client.RawPatch(types.MergePatchType, []byte(`{"metadata":{"labels":{"denied":"true"}}}`))))
	group := v1alpha1.GroupVersion
	allow := w.denyChanges(admissionv1.Rule{APIGroups: []string{group.Group}, APIVersions: []string{group.Version}, Resources: []string{"balancers/status"}},
		func(ctx context.Context) error {
			other := client.RawPatch(types.MergePatchType, []byte(`{"status":{"hostsInSync":"9/9"}}`))
			return kube.Status().Patch(ctx, b.DeepCopy(), other, &client.SubResourcePatchOptions{PatchOptions: client.PatchOptions{DryRun: []string{metav1.DryRunAll}}})
		})
	w.published(w.service("more"))
	w.event(b, statusNotWritten, "nobody changes this")
	w.published(w.service("still-more"))
	allow()
	wait.For(t, func(ctx context.Context) error {
		if err := kube.Get(ctx, client.ObjectKeyFromObject(b), b); err != nil || b.Status.Services == 3 {
			return err
		}
		return fmt.Errorf("its status: %+v", b.Status)
	})
	if times, words := w.told(t.Context(), b, statusNotWritten); times != 1 {
		t.Errorf("told %d times: %q", times, words)
	}
}
