package controllers

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/conditions"
	"github.com/external-lb/external-lb/internal/deliver"
	"github.com/external-lb/external-lb/internal/ipam"
	"github.com/external-lb/external-lb/internal/plan"
	"github.com/external-lb/external-lb/test/builder"
)

// statusTaker takes every status.
type statusTaker struct{ client.Client }

func (statusTaker) Status() client.SubResourceWriter { return takesAll{} }

type takesAll struct{ client.SubResourceWriter }

func (takesAll) Patch(context.Context, client.Object, client.Patch, ...client.SubResourcePatchOption) error {
	return nil
}

// eventsOf something are those that it writes, on a server.
func eventsOf(t *testing.T, do func(ctx context.Context, e *events)) *eventServer {
	t.Helper()
	s := &eventServer{tries: map[string]int{}, counts: map[string]int32{}}
	synctest.Test(t, func(t *testing.T) {
		e := newEvents(s, Scheme())
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- e.Start(ctx) }()
		do(ctx, e)
		time.Sleep(time.Hour) // of the bubble
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return s
}

// Where the words of a state change alone, as numbers in them do, that is no event: of none of our kinds.
func TestAChangeOfWordsIsNoEvent(t *testing.T) {
	const times = 5
	words := func(i int) string { return fmt.Sprintf("%d of 7 cannot be had", i) }
	cases := map[string]func(ctx context.Context, e *events, i int, reason string){}

	pool := builder.AddressPool("public", "192.0.2.0/28").Obj()
	cases["a pool"] = func(ctx context.Context, e *events, i int, reason string) {
		r := &balancerReconciler{client: statusTaker{}, events: e, patch: patchServices{written: newWritten(), setbacks: newSetbacks()}}
		about := conditions.Pool{Object: pool, Problem: &ipam.Problem{Reason: reason, Message: words(i)}}
		if err := r.reportPool(ctx, newNumbers(), about); err != nil {
			t.Error(err)
		}
		setConditions(&pool.Status.Conditions, about.Conditions())
	}
	balancer := builder.Balancer("edge").Obj()
	cases["a Balancer"] = func(ctx context.Context, e *events, i int, reason string) {
		now := []metav1.Condition{{Type: v1alpha1.ConditionDegraded, Status: metav1.ConditionTrue, Reason: reason, Message: words(i)}}
		(&balancerReconciler{events: e}).tellBalancer(ctx, balancer, now)
		setConditions(&balancer.Status.Conditions, now)
	}
	for name, kind := range map[string]string{"a policy": v1alpha1.ConditionAccepted, "a policy's certificate": v1alpha1.ConditionCertificateReady} {
		policy := builder.UpstreamPolicy("default", "web").For("web").Obj()
		cases[name] = func(ctx context.Context, e *events, i int, reason string) {
			targets := []v1alpha1.PolicyTargetStatus{{Conditions: []metav1.Condition{
				{Type: kind, Status: metav1.ConditionFalse, Reason: reason, Message: words(i)},
			}}}
			if err := (&policyReconciler{statuses: ownStatuses{statusTaker{}, e, newSetbacks()}, events: e}).report(ctx, policy, targets); err != nil {
				t.Error(err)
			}
			policy.Status = conditions.Policy(policy, targets)
		}
	}
	for name, say := range cases {
		got := eventsOf(t, func(ctx context.Context, e *events) {
			for i := range times {
				say(ctx, e, i, v1alpha1.ReasonInvalid)
			}
			say(ctx, e, times, v1alpha1.ReasonUnsupported)
		}).created
		if want := []string{words(0), words(times)}; !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}

// A withdrawal that does not end says the way out, and says it again before the API server has dropped the event.
func TestAWithdrawalThatDoesNotEndSaysTheWayOut(t *testing.T) {
	cloud := &v1alpha1.Provider{}
	for name, c := range map[string]struct {
		cloud   *v1alpha1.Provider
		deleted bool
		wayOut  string
	}{
		"hosts":                       {nil, true, outOfHosts},
		"a cloud, and it is deleted":  {cloud, true, outByHand},
		"a cloud, and it only leaves": {cloud, false, outOfProvider},
	} {
		t.Run(name, func(t *testing.T) {
			balancer, svc := builder.Balancer("edge").Obj(), builder.Service("default", "web").Obj()
			balancer.Spec.Provider = c.cloud
			if c.deleted {
				svc.DeletionTimestamp = new(metav1.Now())
			}
			where := []deliver.State{{Host: "lb1", Message: "no route to it"}, {Host: "lb2"}}
			told := eventsOf(t, func(ctx context.Context, e *events) {
				r := &balancerReconciler{events: e, memory: map[string]*memory{}}
				s := &scope{balancer: balancer, memory: r.remember(balancer)}
				for range 11 {
					r.tellWithdrawal(ctx, s, svc, where)
					time.Sleep(tellAgain / 10) // of the bubble
				}
			})
			says := slices.DeleteFunc(slices.Clone(told.created), func(m string) bool { return !strings.HasPrefix(m, "not withdrawn from lb1: ") })
			if len(says) != 1 || !strings.HasSuffix(says[0], "; the way out is "+c.wayOut) {
				t.Fatalf("%q, want the way out %q", told.created, c.wayOut)
			}
			if n := told.counts[says[0]]; n != 2 {
				t.Errorf("told %d times in %s, want 2", n, tellAgain)
			}
		})
	}
}

// Whom nobody serves is told again, too.
func TestWhomNobodyServesIsToldAgain(t *testing.T) {
	svc := builder.Service("default", "web").Class(v1alpha1.DefaultClassPrefix + "nobody").Obj()
	services := toolscache.NewIndexer(toolscache.MetaNamespaceKeyFunc, toolscache.Indexers{indexServices: indexBy(serviceKeys)})
	if err := services.Add(svc); err != nil {
		t.Fatal(err)
	}
	told := eventsOf(t, func(ctx context.Context, e *events) {
		r := &balancerReconciler{events: e, reader: reader{stores: stores{services: services}, written: newWritten()}, unclaimed: map[string]map[types.UID]time.Time{}}
		for range 11 {
			if err := r.tellUnclaimed(ctx, "nobody", plan.Claims{}); err != nil {
				t.Error(err)
			}
			time.Sleep(tellAgain / 10) // of the bubble
		}
	})
	if len(told.created) != 1 || told.counts[told.created[0]] != 2 {
		t.Errorf("told %v, want one event twice", told.counts)
	}
}
