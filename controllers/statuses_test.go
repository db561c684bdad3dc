package controllers

import (
	"errors"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/test/builder"
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
