package controllers

import (
	"context"
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/lb"
	"github.com/external-lb/external-lb/internal/record"
	"github.com/external-lb/external-lb/test/wait"
)

// dropRecord is what another service controller does that writes a whole status, as it was
// before there was a record.
func (w *world) dropRecord(svc *corev1.Service) {
	w.t.Helper()
	fresh := w.until(svc, "on record", record.Held)
	meta.RemoveStatusCondition(&fresh.Status.Conditions, v1alpha1.ConditionRecord)
	w.check(kube.Status().Update(w.t.Context(), fresh))
}

// Another service controller may write over a status what it read before there was a record,
// and a version of external-lb that kept it elsewhere wrote none. What the status shows stays
// with its Service, whoever waits for it, and is on record again.
func TestAShownAddressOutlivesItsRecord(t *testing.T) {
	w := newWorld(t, "192.0.2.1-192.0.2.2")
	older := w.service("older", clusterIP)
	web, np := w.service("web"), w.service("np", exposedOn(w.balancer))
	address := w.published(web)
	assigned := func(s *corev1.Service) bool { return s.Annotations[v1alpha1.AssignedAddressesAnnotation] != "" }
	second := w.until(np, "assigned", assigned).Annotations[v1alpha1.AssignedAddressesAnnotation]
	w.stop()
	w.dropRecord(web)
	w.dropRecord(np)
	w.edit(web, func(s *corev1.Service) {
		metav1.SetMetaDataAnnotation(&s.ObjectMeta, "external-lb.dev/held-by", w.balancer)
	})
	w.edit(older, func(s *corev1.Service) {
		s.Spec.Type, s.Spec.LoadBalancerClass = corev1.ServiceTypeLoadBalancer, ptr.To(v1alpha1.DefaultClassPrefix+w.balancer)
	})
	w.start()
	if c := w.judged(older); c.Reason != v1alpha1.ReasonPoolExhausted {
		t.Errorf("who waits is told %+v", c)
	}
	fresh := w.until(web, "on record", record.Held)
	if got := w.published(web); got != address || len(fresh.Annotations) > 0 {
		t.Errorf("the Service has %s, had %s, with %v", got, address, fresh.Annotations)
	}
	fresh = w.until(np, "on record", record.Held)
	if got := record.FormatAddresses(record.Addresses(fresh)); got != second || !assigned(fresh) {
		t.Errorf("the exposed Service has %s, had %s", got, second)
	}
}

// A Service that has lost its record, and is deleted, goes when the hosts have let go of it.
func TestADeletedServiceGoesWithoutItsRecord(t *testing.T) {
	w := newWorld(t)
	svc := w.service("web")
	w.published(svc)
	w.stop()
	w.dropRecord(svc)
	w.check(kube.Delete(t.Context(), svc))
	w.host.set(func(h *fakeHost) { h.down = true })
	w.start()
	w.otherWords(t.Context()) // the host was asked, and says nothing of what it has
	if fresh := w.until(svc, "there", func(*corev1.Service) bool { return true }); len(fresh.Finalizers) == 0 {
		t.Error("it was let go though the host may have it")
	}
	w.host.set(func(h *fakeHost) { h.down = false })
	wait.For(t, func(ctx context.Context) error {
		if err := kube.Get(ctx, client.ObjectKeyFromObject(svc), svc); !apierrors.IsNotFound(err) {
			return fmt.Errorf("it is there: %v", err)
		}
		return nil
	})
	if w.host.item(svc) != (lb.Sum{}) {
		t.Error("it went before the host had let go of it")
	}
}
