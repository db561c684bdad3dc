package controllers

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/lb"
	"github.com/external-lb/external-lb/internal/plan"
	"github.com/external-lb/external-lb/internal/record"
	"github.com/external-lb/external-lb/test/builder"
	"github.com/external-lb/external-lb/test/wait"
)

// partner makes a second Balancer with a class and a fake host of its own.
func (w *world) partner(class string) *v1alpha1.Balancer {
	w.t.Helper()
	w.second = newFakeHost()
	secret := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceDefault, Name: w.balancer},
		Data:       map[string][]byte{corev1.SSHAuthPrivateKey: []byte("key"), knownHostsKey: []byte("hosts")},
	}
	w.create(secret)
	remote := v1alpha1.Host{Name: "lb2", Address: "192.0.2.2", SecretRef: &corev1.LocalObjectReference{Name: secret.Name}}
	b := builder.Balancer(w.balancer + "-next").Hosts(remote).With(impatient).Manifest()
	b.Spec.LoadBalancerClass = class
	w.create(b)
	w.t.Cleanup(func() {
		w.second.set(func(h *fakeHost) { h.down, h.refuse, h.closed = false, nil, nil })
		w.check(kube.Delete(context.Background(), b))
	})
	return b
}

// movePool gives the world's pool to a Balancer.
func (w *world) movePool(to string, keepOn ...string) {
	w.t.Helper()
	p := &v1alpha1.AddressPool{}
	w.check(kube.Get(w.t.Context(), client.ObjectKey{Name: w.balancer}, p))
	before := p.DeepCopy()
	p.Spec.Balancer, p.Spec.KeepOn = to, keepOn
	w.check(kube.Patch(w.t.Context(), p, client.MergeFrom(before)))
}

func heldBy(names ...string) func(*corev1.Service) bool {
	return func(svc *corev1.Service) bool { return slices.Equal(record.Holders(svc), names) }
}

func moving(reason, part string) func(*corev1.Service) bool {
	return func(svc *corev1.Service) bool {
		c := meta.FindStatusCondition(svc.Status.Conditions, v1alpha1.ConditionMoving)
		if reason == "" {
			return c == nil
		}
		return c != nil && c.Status == metav1.ConditionTrue && c.Reason == reason && strings.Contains(c.Message, part)
	}
}

// item is what a host carries of a Service, the zero Sum for nothing.
func (h *fakeHost) item(svc *corev1.Service) lb.Sum {
	h.mu.Lock()
	defer h.mu.Unlock()
	key, _ := plan.Key(svc)
	return h.live[key]
}

// A pool moves to a Balancer that cannot prove anything, then can; and back to
// one that refuses.
func TestMove(t *testing.T) {
	w := newWorld(t)
	svc := w.service("web")
	address := w.published(svc)
	next := w.partner(v1alpha1.DefaultClassPrefix + w.balancer)
	w.second.set(func(h *fakeHost) { h.down = true })
	stays := func(s *corev1.Service) bool {
		return len(s.Status.LoadBalancer.Ingress) == 1 && s.Status.LoadBalancer.Ingress[0].IP == address
	}

	w.movePool(next.Name)
	w.event(svc, v1alpha1.EventMoving, "to Balancer "+next.Name)
	w.until(svc, "told that the new hosts are down", moving(v1alpha1.ReasonHostsUnreachable, "lb2"))
	w.event(svc, v1alpha1.EventUpdateFailed, "lb2")
	w.until(svc, "held by both", heldBy(w.balancer, next.Name))
	was := w.host.item(svc)
	wait.For(w.t, func(ctx context.Context) error {
		fresh := &corev1.Service{}
		w.check(kube.Get(ctx, client.ObjectKeyFromObject(svc), fresh))
		fresh.Spec.Ports[0].Port = 81
		return kube.Update(ctx, fresh)
	})
	wait.For(w.t, func(context.Context) error {
		if now := w.host.item(svc); now == was || now == (lb.Sum{}) {
			return fmt.Errorf("it has %v", now)
		}
		return nil
	})

	w.second.set(func(h *fakeHost) { h.down = false })
	fresh := w.until(svc, "moved", func(s *corev1.Service) bool { return heldBy(next.Name)(s) && moving("", "")(s) })
	if !stays(fresh) || record.Of(fresh).Carrier != next.Name {
		t.Errorf("after the move: %v %+v", record.Of(fresh), fresh.Status)
	}
	if w.host.item(svc) != (lb.Sum{}) || w.second.item(svc) == (lb.Sum{}) {
		t.Error("the old host has it still, or the new one has not")
	}
	w.event(svc, v1alpha1.EventMoving, "proved on Balancer "+next.Name)
	w.event(svc, v1alpha1.EventMoved, "withdrawn from Balancer "+w.balancer)

	w.host.set(func(h *fakeHost) { h.refuse = map[string]string{"web": "unknown directive"} })
	w.movePool(w.balancer)
	w.until(svc, "told that the other host refuses it", moving(v1alpha1.ReasonRefused, "unknown directive"))
	w.movePool(next.Name)
	fresh = w.until(svc, "where it was", func(s *corev1.Service) bool { return heldBy(next.Name)(s) && moving("", "")(s) })
	if !stays(fresh) || w.second.item(svc) == (lb.Sum{}) {
		t.Errorf("after the move that was not: %+v", fresh.Status)
	}
	if got := w.published(w.service("new")); got == address {
		t.Errorf("a new Service got the address that is held")
	}
}

// Both carry it for as long as the pool's owner says.
func TestMoveKeptOnTheOldBalancer(t *testing.T) {
	w := newWorld(t)
	svc := w.service("web")
	w.published(svc)
	next := w.partner(v1alpha1.DefaultClassPrefix + w.balancer)
	w.movePool(next.Name, w.balancer)
	w.until(svc, "proved on both", moving(v1alpha1.ReasonKept, "spec.keepOn"))
	if w.host.item(svc) == (lb.Sum{}) || w.second.item(svc) == (lb.Sum{}) {
		t.Error("not on both hosts")
	}
	// A Balancer that is deleted waits, too.
	old := builder.Balancer(w.balancer).Manifest()
	w.check(kube.Delete(t.Context(), old))
	wait.For(w.t, func(ctx context.Context) error {
		w.check(kube.Get(ctx, client.ObjectKeyFromObject(old), old))
		if c := meta.FindStatusCondition(old.Status.Conditions, v1alpha1.ConditionAccepted); c == nil || c.Reason != v1alpha1.ReasonWithdrawing {
			return fmt.Errorf("%+v", old.Status)
		}
		return nil
	})
	if w.host.item(svc) == (lb.Sum{}) {
		t.Error("a Balancer that is deleted has withdrawn what it should keep")
	}
	w.movePool(next.Name)
	w.until(svc, "moved", func(s *corev1.Service) bool { return heldBy(next.Name)(s) && moving("", "")(s) })
	w.gone(old)
}

// A pool given to a Balancer that does not serve its Services: they stay, nobody
// else gets their addresses, and all are told.
func TestMoveToABalancerOfAnotherClass(t *testing.T) {
	w := newWorld(t)
	svc := w.service("web")
	address := w.published(svc)
	next := w.partner("")
	w.movePool(next.Name)
	w.until(svc, "told why it stays", func(s *corev1.Service) bool {
		c := meta.FindStatusCondition(s.Status.Conditions, v1alpha1.ConditionServiceProgrammed)
		return c != nil && c.Status == metav1.ConditionTrue && c.Reason == v1alpha1.ReasonAddressUnavailable &&
			strings.Contains(c.Message, "does not serve the class "+v1alpha1.DefaultClassPrefix+w.balancer)
	})
	wait.For(w.t, func(ctx context.Context) error {
		p := &v1alpha1.AddressPool{}
		w.check(kube.Get(ctx, client.ObjectKey{Name: w.balancer}, p))
		if c := meta.FindStatusCondition(p.Status.Conditions, v1alpha1.ConditionAccepted); c == nil || c.Reason != v1alpha1.ReasonHeldElsewhere ||
			!strings.Contains(c.Message, w.namespace+"/web") || p.Status.IPv4.Assigned != 1 {
			return fmt.Errorf("%+v", p.Status)
		}
		return nil
	})
	other := w.service("other", func(s *corev1.Service) { *s.Spec.LoadBalancerClass = v1alpha1.DefaultClassPrefix + next.Name })
	if got := w.published(other); got == address {
		t.Errorf("two Services have %s", got)
	}
	fresh := w.until(svc, "where it was", heldBy(w.balancer))
	if len(fresh.Status.LoadBalancer.Ingress) != 1 || fresh.Status.LoadBalancer.Ingress[0].IP != address || w.host.item(svc) == (lb.Sum{}) {
		t.Errorf("%+v", fresh.Status)
	}
}
