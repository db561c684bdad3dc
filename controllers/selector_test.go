package controllers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/lb"
	"github.com/external-lb/external-lb/test/builder"
	"github.com/external-lb/external-lb/test/wait"
)

// garble gives the Balancer a selector that the schema refuses: it is from a time when
// the schema did not.
func (w *world) garble() {
	w.t.Helper()
	crd := &unstructured.Unstructured{}
	crd.SetAPIVersion("apiextensions.k8s.io/v1")
	crd.SetKind("CustomResourceDefinition")
	key := client.ObjectKey{Name: "balancers.external-lb.dev"}
	w.check(kube.Get(w.t.Context(), key, crd))
	const at = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/nodes/properties/selector"
	loose := fmt.Sprintf(`[{"op": "replace", "path": %q, "value": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}]`, at)
	was, _, err := unstructured.NestedMap(crd.Object["spec"].(map[string]any)["versions"].([]any)[0].(map[string]any),
		"schema", "openAPIV3Schema", "properties", "spec", "properties", "nodes", "properties", "selector")
	w.check(err)
	strict, err := json.Marshal([]any{map[string]any{"op": "replace", "path": at, "value": was}})
	w.check(err)

	w.check(kube.Patch(w.t.Context(), crd, client.RawPatch(types.JSONPatchType, []byte(loose))))
	const bad = `{"spec": {"nodes": {"selector": {"matchExpressions": [{"key": "edge", "operator": "in", "values": ["yes"]}]}}}}`
	wait.For(w.t, func(ctx context.Context) error {
		return kube.Patch(ctx, builder.Balancer(w.balancer).Manifest(), client.RawPatch(types.MergePatchType, []byte(bad)))
	})
	w.check(kube.Patch(w.t.Context(), crd, client.RawPatch(types.JSONPatchType, strict)))
	wait.For(w.t, func(ctx context.Context) error { // as strict as before
		b := &v1alpha1.Balancer{}
		if err := kube.Get(ctx, client.ObjectKey{Name: w.balancer}, b); err != nil {
			return err
		}
		b.Spec.Nodes.Selector.MatchExpressions[0].Operator = "notin"
		if err := kube.Update(ctx, b, client.DryRunAll); !apierrors.IsInvalid(err) {
			return fmt.Errorf("taken, or else: %w", err)
		}
		return nil
	})
}

// unread waits until the Balancer says what became of its selector.
func (w *world) unread(words string) *v1alpha1.Balancer {
	w.t.Helper()
	b := &v1alpha1.Balancer{}
	wait.For(w.t, func(ctx context.Context) error {
		if err := kube.Get(ctx, client.ObjectKey{Name: w.balancer}, b); err != nil {
			return err
		}
		c := meta.FindStatusCondition(b.Status.Conditions, v1alpha1.ConditionAccepted)
		if c == nil || c.Status != metav1.ConditionFalse || c.Reason != v1alpha1.ReasonInvalid || !strings.Contains(c.Message, words) ||
			!meta.IsStatusConditionTrue(b.Status.Conditions, v1alpha1.ConditionStalled) || b.Status.ObservedGeneration != b.Generation {
			return fmt.Errorf("%+v", b.Status)
		}
		return nil
	})
	return b
}

// A selector of nodes that cannot be read leaves the one before it in force, also after
// a restart, and holds nothing up.
func TestSelectorThatCannotBeRead(t *testing.T) {
	w := newWorld(t)
	web, old := w.service("web"), w.service("old")
	w.published(web)
	w.published(old)
	w.garble()
	w.event(w.unread("the one before it is in force"), v1alpha1.ReasonInvalid, "spec.nodes.selector")
	w.restart()
	w.check(kube.Delete(t.Context(), old))
	w.gone(old)
	w.published(w.service("new"))
	if b := w.unread("the one before it is in force"); b.Status.Nodes != 1 || *b.Status.NodeSelector != "" {
		t.Errorf("%+v", b.Status)
	}
	w.host.set(func(h *fakeHost) {
		if _, ok := h.wanted.Manifest().Sums()[lb.NodeKey(w.balancer+"-node")]; !ok {
			t.Error("the host has lost its node")
		}
	})
}

// Where no selector could ever be read, what runs goes on, and the Balancer can be
// deleted: the end of each world does it.
func TestSelectorThatCouldNeverBeRead(t *testing.T) {
	w := newWorld(t)
	web := w.service("web")
	w.published(web)
	w.garble()
	w.unread("the one before it is in force")
	w.stop()
	b := &v1alpha1.Balancer{}
	w.check(kube.Get(t.Context(), client.ObjectKey{Name: w.balancer}, b))
	before := b.DeepCopy()
	b.Status.NodeSelector = nil
	w.check(kube.Status().Patch(t.Context(), b, client.MergeFrom(before)))
	var had lb.Manifest
	w.host.set(func(h *fakeHost) { had = h.wanted.Manifest() })
	w.start()
	w.unread("what is live on the hosts goes on")
	pool := &v1alpha1.AddressPool{}
	w.check(kube.Get(t.Context(), client.ObjectKey{Name: w.balancer}, pool))
	bare := pool.DeepCopy()
	pool.Status = v1alpha1.AddressPoolStatus{}
	w.check(kube.Status().Patch(t.Context(), pool, client.MergeFrom(bare)))
	wait.For(w.t, func(ctx context.Context) error {
		if err := kube.Get(ctx, client.ObjectKey{Name: w.balancer}, pool); err != nil {
			return err
		}
		if pool.Status.IPv4 == nil || pool.Status.IPv4.Assigned != 1 {
			return errors.New("the pool is not told about")
		}
		return nil
	})
	w.host.set(func(h *fakeHost) {
		if has := h.wanted.Manifest(); !has.Equal(had) {
			t.Errorf("the host was told %v", has.Sums())
		}
	})
}
