package controllers

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/test/wait"
)

// A Service that cannot be written is tried again less and less often, down to twice a
// minute, and told once.
func TestSetbacks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, web, other := newSetbacks(), part{"web", true}, part{"other", true}
		denied := apierrors.NewForbidden(schema.GroupResource{Resource: "services"}, "web", errors.New("policy"))
		var waited []time.Duration
		told := 0
		for range 8 {
			s.begin()
			if s.waits(web) || s.waits(other) {
				t.Fatal("it waits for longer than it said")
			}
			if s.failed(web, denied) {
				told++
			}
			result, err := s.end(reconcile.Result{RequeueAfter: time.Hour}, nil)
			if err != nil || !s.waits(web) || s.waits(other) {
				t.Fatalf("%v, web waits %t, other waits %t", err, s.waits(web), s.waits(other))
			}
			waited = append(waited, result.RequeueAfter/time.Second)
			<-time.After(result.RequeueAfter)
		}
		if want := []time.Duration{1, 2, 4, 8, 16, 30, 30, 30}; !slices.Equal(waited, want) || told != 1 {
			t.Errorf("waited %d, want %d; told %d times", waited, want, told)
		}
		s.wrote(web, nil)
		if s.begin(); s.waits(web) {
			t.Error("it waits though it was written")
		}
		for try, want := range []bool{false, false, true, false} { // a failure of the API server's may pass
			if got := s.failed(web, apierrors.NewInternalError(errors.New("webhook"))); got != want {
				t.Errorf("try %d: told %t", try, got)
			}
		}
		<-time.After(2 * calm)
		if s.begin(); len(s.of) > 0 {
			t.Error("a Service that is gone is remembered")
		}
	})
}

// Where neither part of a Service can be written, that is told once, and again when the
// one that was told of is written and the other is still refused.
func TestBothPartsAreToldOnce(t *testing.T) {
	s, status, record := newSetbacks(), part{"web", true}, part{"web", false}
	denied := apierrors.NewForbidden(schema.GroupResource{Resource: "services"}, "web", errors.New("policy"))
	fails := func(p part, want bool) {
		t.Helper()
		if told := s.failed(p, denied); told != want {
			t.Errorf("%+v: told %t, want %t", p, told, want)
		}
	}
	fails(record, true)
	fails(status, false)
	fails(record, false)
	fails(part{"other", true}, true)
	s.wrote(record, nil)
	fails(status, true)
	fails(status, false)
}

// Why a Service cannot be written may change: an API server that has just started refuses what
// it allows a moment later, and then a policy refuses it. The last reason is the one that counts.
// Words that are others each time are told ever less often.
func TestAnotherReasonIsTold(t *testing.T) {
	s, web := newSetbacks(), part{"web", true}
	var told []int
	for try := 1; try <= 100; try++ {
		words := "no role allows it"
		if try > 1 {
			words = "a policy says no"
		}
		if try > 40 {
			words = fmt.Sprint("request ", try)
		}
		if s.failed(web, apierrors.NewForbidden(schema.GroupResource{Resource: "services"}, "web", errors.New(words))) {
			told = append(told, try)
		}
	}
	if want := []int{1, 2, 41, 82}; !slices.Equal(told, want) {
		t.Errorf("told at %d, want %d", told, want)
	}
}

// The API server drops events after an hour: what lasts is told again.
func TestWhatLastsIsToldAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, web := newSetbacks(), part{"web", true}
		told := 0
		for began := time.Now(); time.Since(began) < 119*time.Minute; time.Sleep(longestSetback) {
			if s.failed(web, apierrors.NewForbidden(schema.GroupResource{Resource: "services"}, "web", errors.New("policy"))) {
				told++
			}
		}
		if told != 4 {
			t.Errorf("told %d times in two hours", told)
		}
	})
}

// A status that somebody else overwrites is repaired less and less often, and told once for
// each who does; anything else that is written is not held back.
func TestContestedStatus(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, web, rival := newSetbacks(), part{"web", true}, "kubectl-edit"
		write := func(p part, data string) (told bool, waits time.Duration) {
			s.begin()
			told = s.contested(p, []byte(data)) && s.rivals(p, rival)
			s.wrote(p, []byte(data))
			s.waits(p)
			result, _ := s.end(reconcile.Result{}, nil)
			<-time.After(result.RequeueAfter)
			return told, result.RequeueAfter.Round(time.Second) / time.Second
		}
		for i, want := range []time.Duration{0, 1, 2, 4, 8, 16, 30, 30} {
			if i > 3 {
				rival = "servicelb"
			}
			told, waits := write(web, fmt.Sprintf(`{"ingress":1,"lastTransitionTime":"%d"}`, i))
			if told != (i == 1 || i == 4) || waits != want {
				t.Errorf("repair %d: told %t, waits %d, want %d", i, told, waits, want)
			}
		}
		for i, want := range []time.Duration{0, 1} {
			if told, waits := write(web, `{"ingress":2}`); told || waits != want {
				t.Errorf("another status, repair %d: told %t, waits %d, want %d", i, told, waits, want)
			}
		}
		for range 3 {
			if told, waits := write(part{"web", false}, "record"); told || waits != 0 {
				t.Errorf("the record: told %t, waits %d", told, waits)
			}
		}
	})
}

// Another provider that writes the same Service is named once, and gets its write
// overwritten ever less often.
func TestAnotherProviderIsNamed(t *testing.T) {
	w := newWorld(t)
	svc := w.service("web")
	address := w.published(svc)
	ours := func(s *corev1.Service) bool {
		return len(s.Status.LoadBalancer.Ingress) == 1 && s.Status.LoadBalancer.Ingress[0].IP == address
	}
	started := time.Now()
	for range 5 {
		now := w.until(svc, "repaired", ours)
		before := now.DeepCopy()
		now.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "192.0.2.99"}}
		w.check(kube.Status().Patch(t.Context(), now, client.MergeFrom(before), client.FieldOwner("other-provider")))
	}
	w.until(svc, "repaired still", ours)
	if took := time.Since(started); took < 6*time.Second {
		t.Errorf("5 repairs within %v", took)
	}
	w.event(svc, v1alpha1.EventUpdateFailed, "other-provider writes the status of this Service, too")
	w.restart() // what was told is written by then
	if times, words := w.told(t.Context(), svc, v1alpha1.EventUpdateFailed); times != 1 {
		t.Errorf("the other provider was told %d times: %q", times, words)
	}
	if times, words := w.told(t.Context(), svc, v1alpha1.EventEnsured); times != 1 {
		t.Errorf("the address was told %d times: %q", times, words)
	}
}

// deny makes the API server refuse what changes Services with the label denied.
func (w *world) deny() (allow func()) {
	w.t.Helper()
	probe := w.service("probe", denied, func(s *corev1.Service) { s.Spec.LoadBalancerClass = ptr.To("example.com/other") })
	return w.denyChanges(admissionv1.Rule{APIGroups: []string{""}, APIVersions: []string{"v1"}, Resources: []string{"services", "services/status"}},
		func(ctx context.Context) error {
			return kube.Patch(ctx, probe, client.RawPatch(types.MergePatchType, []byte(`{"metadata":{"annotations":{"a":"b"}}}`)), client.DryRunAll)
		})
}

// denyChanges makes the API server refuse some of what has the label denied, until allow is called. It
// does so once it refuses a try.
func (w *world) denyChanges(what admissionv1.Rule, try func(context.Context) error) (allow func()) {
	w.t.Helper()
	policy := &admissionv1.ValidatingAdmissionPolicy{
		ObjectMeta: metav1.ObjectMeta{Name: w.namespace},
		Spec: admissionv1.ValidatingAdmissionPolicySpec{
			FailurePolicy: ptr.To(admissionv1.Fail),
			MatchConstraints: &admissionv1.MatchResources{
				ObjectSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"denied": "true"}},
				ResourceRules: []admissionv1.NamedRuleWithOperations{{RuleWithOperations: admissionv1.RuleWithOperations{
					Operations: []admissionv1.OperationType{admissionv1.Update},
					Rule:       what,
				}}},
			},
			Validations: []admissionv1.Validation{{Expression: "false", Message: "nobody changes this"}},
		},
	}
	binding := &admissionv1.ValidatingAdmissionPolicyBinding{
		ObjectMeta: metav1.ObjectMeta{Name: w.namespace},
		Spec:       admissionv1.ValidatingAdmissionPolicyBindingSpec{PolicyName: policy.Name, ValidationActions: []admissionv1.ValidationAction{admissionv1.Deny}},
	}
	w.create(policy)
	w.create(binding)
	wait.For(w.t, func(ctx context.Context) error {
		if err := try(ctx); err != nil {
			return nil
		}
		return errors.New("it is not denied yet")
	})
	allow = sync.OnceFunc(func() {
		w.check(kube.Delete(context.Background(), binding))
		w.check(kube.Delete(context.Background(), policy))
	})
	w.t.Cleanup(allow)
	return allow
}

func denied(s *corev1.Service) { s.Labels = map[string]string{"denied": "true"} }

// What the API server refuses is told on the Service in its words, costs no other one
// anything, and is tried again soon.
func TestADeniedWriteIsToldAndTriedAgain(t *testing.T) {
	w := newWorld(t)
	allow := w.deny()
	svc := w.service("denied", denied)
	w.event(svc, v1alpha1.EventSyncFailed, "nobody changes this")
	w.published(w.service("free"))
	wait.For(w.t, func(context.Context) error { // until it waits for long
		if tries := w.logged("Service not written"); tries < 4 {
			return fmt.Errorf("%d tries", tries)
		}
		return nil
	})
	w.published(w.service("free-too"))
	allow()
	since := time.Now()
	w.published(svc)
	if took := time.Since(since); took > longestSetback+10*time.Second {
		t.Errorf("it came back %v after it could", took)
	}
	if times, words := w.told(t.Context(), svc, v1alpha1.EventSyncFailed); times != 1 {
		t.Errorf("told %d times: %s", times, strings.Join(words, "\n"))
	}
}
