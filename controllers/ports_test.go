package controllers

import (
	"context"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/test/builder"
	"github.com/external-lb/external-lb/test/wait"
)

// An older Service that shares an address asks for the port of a younger one, while no manager
// works: the one that starts then remembers nothing, and still leaves the port with who has it.
func TestS34_NobodyTakesALiveListenerByTheirAge(t *testing.T) {
	w := newWorld(t, "192.0.2.1")
	shared := client.RawPatch(types.MergePatchType, []byte(`{"spec":{"sharing":"Ports"}}`))
	w.check(kube.Patch(t.Context(), builder.AddressPool(w.balancer).Manifest(), shared))
	attacker := w.service("attacker", func(s *corev1.Service) { s.Spec.Ports[0].Port = 8443 })
	w.published(attacker)
	victim := w.service("victim", func(s *corev1.Service) { s.Spec.Ports[0].Port = 80 })
	w.published(victim)
	moved := client.RawPatch(types.MergePatchType, []byte(`{"spec":{"ports":[{"port":443,"targetPort":8080,"name":"web"}]}}`))
	w.check(kube.Patch(t.Context(), victim, moved)) // what is live is what the younger one asked for last
	w.until(victim, "has its new port on record", func(s *corev1.Service) bool {
		c := meta.FindStatusCondition(s.Status.Conditions, v1alpha1.ConditionRecord)
		return c != nil && strings.Contains(c.Message, "listeners=443/TCP@192.0.2.1")
	})
	w.stop()
	w.check(kube.Patch(t.Context(), attacker, moved))
	w.start()
	told := w.until(attacker, "told who has it", func(s *corev1.Service) bool {
		return meta.IsStatusConditionFalse(s.Status.Conditions, v1alpha1.ConditionServiceProgrammed)
	})
	c := meta.FindStatusCondition(told.Status.Conditions, v1alpha1.ConditionServiceProgrammed)
	if c.Reason != v1alpha1.ReasonPortConflict || !strings.Contains(c.Message, w.namespace+"/victim") {
		t.Errorf("told %s: %s", c.Reason, c.Message)
	}
	fresh := &corev1.Service{}
	wait.For(t, func(ctx context.Context) error { return kube.Get(ctx, client.ObjectKeyFromObject(victim), fresh) })
	if c := meta.FindStatusCondition(fresh.Status.Conditions, v1alpha1.ConditionServiceProgrammed); c == nil || c.Status != metav1.ConditionTrue {
		t.Errorf("the victim is told %+v", c)
	}
}
