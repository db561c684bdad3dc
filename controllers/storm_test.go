package controllers

import (
	"context"
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/test/wait"
)

// told counts the events of an object with one reason, and quotes them.
func (w *world) told(ctx context.Context, obj client.Object, reason string) (times int, words []string) {
	w.t.Helper()
	var list corev1.EventList
	w.check(kube.List(ctx, &list, client.InNamespace(obj.GetNamespace())))
	for _, e := range list.Items {
		if e.InvolvedObject.UID == obj.GetUID() && e.Reason == reason {
			times, words = times+int(e.Count), append(words, fmt.Sprintf("%d times: %s", e.Count, e.Message))
		}
	}
	return times, words
}

// otherWords waits until the world's Balancer has said something else of its host a
// few times.
func (w *world) otherWords(ctx context.Context) {
	w.t.Helper()
	seen := map[string]bool{}
	wait.For(w.t, func(context.Context) error {
		var b v1alpha1.Balancer
		w.check(kube.Get(ctx, client.ObjectKey{Name: w.balancer}, &b))
		for _, h := range b.Status.Hosts {
			if h.State == v1alpha1.HostUnreachable || h.State == v1alpha1.HostFailed {
				seen[h.Message] = true
			}
		}
		if len(seen) < 3 {
			return fmt.Errorf("it said only %v", seen)
		}
		return nil
	})
}

// A host that fails in other words each time costs no Service a write or an event,
// published or not, also after a restart. Nor does it one that is withdrawn.
func TestAHostsWordsWriteNoService(t *testing.T) {
	w := newWorld(t)
	old, gone := w.service("old"), w.service("gone")
	w.published(old)
	w.published(gone)
	w.host.set(func(h *fakeHost) { h.down = true })
	w.restart()
	w.check(kube.Delete(t.Context(), gone))
	fresh := w.service("new")
	unreachable := func(s *corev1.Service) bool {
		c := meta.FindStatusCondition(s.Status.Conditions, v1alpha1.ConditionServiceProgrammed)
		return c != nil && c.Status == metav1.ConditionFalse && c.Reason == v1alpha1.ReasonHostsUnreachable
	}
	fresh, old = w.until(fresh, "told that its host is down", unreachable), w.until(old, "told the same", unreachable)
	w.event(old, v1alpha1.EventUpdateFailed, "lb1")
	w.event(gone, v1alpha1.EventDeleteFailed, "lb1")
	w.otherWords(t.Context())
	for svc, reason := range map[*corev1.Service]string{fresh: v1alpha1.EventSyncFailed, old: v1alpha1.EventUpdateFailed} {
		now := w.until(svc, "there", func(*corev1.Service) bool { return true })
		if now.ResourceVersion != svc.ResourceVersion {
			t.Errorf("%s was written again: %+v", svc.Name, now.Status.Conditions)
		}
		if times, words := w.told(t.Context(), svc, reason); times != 1 {
			t.Errorf("%s of %s was told %d times: %q", reason, svc.Name, times, words)
		}
	}
	if times, words := w.told(t.Context(), gone, v1alpha1.EventDeleteFailed); times != 1 {
		t.Errorf("that the withdrawal waits was told %d times: %q", times, words)
	}
}

// What is wrong with a port is told once, though two conditions say it.
func TestOneWarningForOneProblem(t *testing.T) {
	w := newWorld(t)
	svc := w.service("web", func(s *corev1.Service) {
		s.Spec.Ports = append(s.Spec.Ports, corev1.ServicePort{Name: "signal", Port: 81, Protocol: corev1.ProtocolSCTP})
	})
	w.published(svc)
	w.until(svc, "told of its ports", func(s *corev1.Service) bool {
		c := meta.FindStatusCondition(s.Status.Conditions, v1alpha1.ConditionServiceProgrammed)
		return c != nil && c.Status == metav1.ConditionTrue && c.Reason == v1alpha1.ReasonMixedProtocol
	})
	w.restart() // what was told is written by then
	times, words := w.told(t.Context(), svc, v1alpha1.EventSyncFailed)
	again, more := w.told(t.Context(), svc, v1alpha1.EventUpdateFailed)
	if times+again != 1 {
		t.Errorf("told %d times: %q %q", times+again, words, more)
	}
}
