package controllers

import (
	"context"
	"fmt"
	"strings"
	"testing"

	coordinationv1 "k8s.io/api/coordination/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/host"
	"github.com/external-lb/external-lb/test/wait"
)

// Each leader's term is newer than those before it, with and without election.
func TestTermsGrow(t *testing.T) {
	key := client.ObjectKey{Namespace: metav1.NamespaceDefault, Name: "terms"}
	start := func(identity string) *leader {
		return &leader{reader: kube, writer: kube, lease: key, identity: identity}
	}
	acquires := func(l *leader, want int64) {
		t.Helper()
		for range 2 {
			if err := l.acquire(t.Context()); err != nil || l.Term() != want {
				t.Fatalf("term %d, %v, want %d", l.Term(), err, want)
			}
		}
	}
	lease := func(change func(*coordinationv1.Lease)) {
		t.Helper()
		var of coordinationv1.Lease
		err := kube.Get(t.Context(), key, &of)
		if err == nil {
			change(&of)
			err = kube.Update(t.Context(), &of)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	holds := func(identity string) {
		t.Helper()
		lease(func(l *coordinationv1.Lease) { l.Spec.HolderIdentity = ptr.To(identity) })
	}
	t.Cleanup(func() {
		if err := kube.Delete(context.Background(), &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name}}); err != nil {
			t.Error(err)
		}
	})
	if err := start("a").acquire(t.Context()); err == nil {
		t.Error("elected without a Lease")
	}
	alone := start("")
	acquires(alone, 1)
	acquires(start(""), 2)
	holds("a")
	a := start("a")
	acquires(a, 3)
	if a.Cluster() == "" || a.Cluster() != alone.Cluster() {
		t.Errorf("cluster %q", a.Cluster())
	}
	holds("b")
	b := start("b")
	acquires(b, 4)

	// Hosts are ahead, as after the restoring of a backup.
	for _, seen := range []int64{0, 3, 57, 20} {
		if err := b.Raise(t.Context(), seen); err != nil {
			t.Error(err)
		}
	}
	if b.Term() != 58 {
		t.Errorf("term %d", b.Term())
	}
	if err := a.Raise(t.Context(), 58); err == nil || a.Term() != 3 || !strings.Contains(err.Error(), `is held by "b" now`) {
		t.Errorf("who leads no more raises its term to %d, %v", a.Term(), err)
	}
	if err := alone.Raise(t.Context(), 58); err == nil || alone.Term() != 1 || !strings.Contains(err.Error(), "is in term 58 by now") {
		t.Errorf("without election, who was started first raises its term to %d, %v", alone.Term(), err)
	}
	alone = start("")
	acquires(alone, 59)
	if err := alone.Raise(t.Context(), 70); err != nil || alone.Term() != 71 {
		t.Errorf("term %d, %v", alone.Term(), err)
	}
	if err := b.Raise(t.Context(), 71); err != nil || b.Term() != 72 {
		t.Errorf("who holds the Lease has term %d beside one without election, %v", b.Term(), err)
	}

	for _, text := range []string{"", "x", "-1", "99999999999999", "9999999999999999999"} {
		lease(func(l *coordinationv1.Lease) { l.Annotations[termAnnotation] = text })
		if err := start("b").acquire(t.Context()); err == nil || !strings.Contains(err.Error(), "which is no term: remove it") {
			t.Errorf("%q: %v", text, err)
		}
	}
	lease(func(l *coordinationv1.Lease) { delete(l.Annotations, termAnnotation) })
	acquires(start("b"), 1)
}

// degraded waits for what the Balancer says is wrong.
func (w *world) degraded(reason string) (message string) {
	w.t.Helper()
	wait.For(w.t, func(ctx context.Context) error {
		var b v1alpha1.Balancer
		if err := kube.Get(ctx, client.ObjectKey{Name: w.balancer}, &b); err != nil {
			return err
		}
		c := meta.FindStatusCondition(b.Status.Conditions, v1alpha1.ConditionDegraded)
		if c == nil || c.Reason != reason {
			return fmt.Errorf("%+v", c)
		}
		message = c.Message
		return nil
	})
	return message
}

// The hosts have seen more terms than the Lease: the cluster was restored from a backup,
// or somebody has deleted the Lease.
func TestALeaseThatStartsAnew(t *testing.T) {
	w := newWorld(t)
	w.published(w.service("web"))
	w.stop()
	w.host.set(func(h *fakeHost) { h.epoch.Term += 50 })
	w.check(kube.Delete(t.Context(), &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceDefault, Name: leaseName}}))
	w.start()
	w.published(w.service("another"))
}

// Somebody else delivers in the name of this cluster, again and again.
func TestAContestedHost(t *testing.T) {
	w := newWorld(t)
	w.published(w.service("web"))
	for i := range 2 {
		w.host.set(func(h *fakeHost) { h.epoch.Term += 3 })
		svc := w.service(fmt.Sprintf("web-%d", i))
		if i == 0 { // once, it moves past that
			w.published(svc)
		}
	}
	if message := w.degraded(v1alpha1.ReasonContested); !strings.Contains(message, "reset-term") {
		t.Errorf("%s", message)
	}
	b := &v1alpha1.Balancer{}
	w.check(kube.Get(t.Context(), client.ObjectKey{Name: w.balancer}, b))
	wait.For(t, func(ctx context.Context) error {
		if times, words := w.told(ctx, b, v1alpha1.ReasonContested); times != 1 {
			return fmt.Errorf("told %d times: %q", times, words)
		}
		return nil
	})
	w.host.set(func(h *fakeHost) { h.epoch = host.Epoch{} }) // the owner has decided
	w.restart()
	w.published(w.service("after"))
}
