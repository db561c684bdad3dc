package controllers

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/host"
	"github.com/external-lb/external-lb/test/builder"
	"github.com/external-lb/external-lb/test/wait"
)

// askingInVain asks for an address of no pool.
func askingInVain(s *corev1.Service) {
	metav1.SetMetaDataAnnotation(&s.ObjectMeta, v1alpha1.AddressesAnnotation, "198.51.100.77")
}

// Who never had an address was told why. Once nobody is asked for one any more, that goes,
// and nothing else does.
func TestS14_WhoNeverHadAnAddressIsLetGo(t *testing.T) {
	for name, change := range map[string]func(*corev1.Service){
		"another type": clusterIP,
		"another class": func(s *corev1.Service) {
			s.Spec.Type, s.Spec.LoadBalancerClass = corev1.ServiceTypeLoadBalancer, ptr.To("example.com/other")
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			svc := w.service("nowhere", askingInVain)
			if c := w.judged(svc); c.Status != metav1.ConditionFalse {
				t.Fatalf("%+v", c)
			}
			theirs := metav1.Condition{Type: "example.com/Announced", Status: metav1.ConditionTrue, Reason: "Told", LastTransitionTime: metav1.Now()}
			wait.For(t, func(ctx context.Context) error {
				fresh := &corev1.Service{}
				w.check(kube.Get(ctx, client.ObjectKeyFromObject(svc), fresh))
				fresh.Status.Conditions = append(fresh.Status.Conditions, theirs)
				return kube.Status().Update(ctx, fresh)
			})
			w.stop()                                                                                              // so that all of it is one event
			w.edit(svc, clusterIP, func(s *corev1.Service) { s.Finalizers = []string{v1alpha1.SharedFinalizer} }) // another provider's
			w.edit(svc, change)
			w.start()
			fresh := w.until(svc, "let go", func(s *corev1.Service) bool { return len(s.Status.Conditions) == 1 })
			if fresh.Status.Conditions[0].Type != theirs.Type || len(fresh.Finalizers) != 1 {
				t.Errorf("left: %v %+v", fresh.Finalizers, fresh.Status.Conditions)
			}
			w.edit(svc, func(s *corev1.Service) { s.Finalizers = nil })
		})
	}
}

// The same where it is the Balancer that changes, or goes.
func TestWhoIsServedByNobodyAnyMoreIsLetGo(t *testing.T) {
	w := newWorld(t)
	svc := w.service("nowhere", askingInVain)
	w.judged(svc)
	w.check(kube.Delete(t.Context(), builder.Balancer(w.balancer).Manifest()))
	w.until(svc, "let go", func(s *corev1.Service) bool { return len(s.Status.Conditions) == 0 })
}

// All providers share the condition of ports. On a Service that is another's by now it goes
// where it says what ours does.
func TestPortsErrorOfAnotherProviderStays(t *testing.T) {
	for message, left := range map[string]int{"nginx cannot carry 53/SCTP": 1, "no listener for 53/SCTP": 0} {
		svc := builder.Service("default", "web").Class("example.com/other").Obj()
		svc.Status.Conditions = []metav1.Condition{
			{Type: v1alpha1.ConditionServiceProgrammed, Reason: v1alpha1.ReasonMixedProtocol, Message: "nginx cannot carry 53/SCTP"},
			{Type: v1alpha1.ConditionPortsError, Reason: v1alpha1.ReasonMixedProtocol, Message: message},
		}
		patch, _ := withdrawnStatus(svc, false)["conditions"].([]any)
		if len(patch) != 1+left {
			t.Errorf("%s: %v", message, patch)
		}
	}
}

// On a real API server: what a host tells of its clock and of its daemons is in the Balancer's status, and a
// restart is an event as well. None of it keeps the host from being in sync.
func TestSignsOfAHost(t *testing.T) {
	w := newWorld(t)
	w.published(w.service("web"))
	const words = "nginx was started anew at 2026-01-01T00:00:00Z"
	w.host.set(func(h *fakeHost) {
		h.status = func(st *host.Status) {
			late := time.Now().Add(-time.Minute)
			st.Clock, st.Restarts, st.Restarted = host.Clock{Asked: late, Answered: late}, 1, words
		}
	})
	b := &v1alpha1.Balancer{}
	wait.For(t, func(ctx context.Context) error {
		if err := kube.Get(ctx, client.ObjectKey{Name: w.balancer}, b); err != nil {
			return err
		}
		const clock = "its clock is 1m0s behind the manager's: let both keep time by NTP"
		if len(b.Status.Hosts) == 0 {
			return errors.New("no host is told of yet")
		}
		if h := b.Status.Hosts[0]; h.State != v1alpha1.HostInSync || h.Message != "" || h.Note(v1alpha1.NoteClock) != clock ||
			h.Note(v1alpha1.NoteRestarted) != words {
			return fmt.Errorf("%+v", h)
		}
		return nil
	})
	w.event(b, "DaemonRestarted", "lb1: "+words)
}
