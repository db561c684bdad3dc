package controllers

import (
	"context"
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/plan"
)

// recordSuffix and a Balancer's name make the name of the ConfigMap in which its
// last good templates outlive this process. It goes with the Balancer, which owns it,
// and the name is ours.
const recordSuffix = ".last-good-templates"

// wantedTemplates are those that a Balancer refers to. There may be none.
func (r *balancerReconciler) wantedTemplates(ctx context.Context, b *v1alpha1.Balancer) (map[string]string, *plan.Problem, error) {
	if b.Spec.Templates == nil {
		return nil, nil, nil
	}
	key := client.ObjectKey{Namespace: r.namespace, Name: b.Spec.Templates.ConfigMapRef.Name}
	var cm corev1.ConfigMap
	err := r.reader.Get(ctx, key, &cm, client.UnsafeDisableDeepCopy)
	switch {
	case apierrors.IsNotFound(err):
		return nil, &plan.Problem{
			Reason:  v1alpha1.ReasonTemplatesNotFound,
			Message: fmt.Sprintf("there is no ConfigMap %s: create it, or correct spec.templates", key),
		}, nil
	case err != nil:
		return nil, nil, fmt.Errorf("reading ConfigMap %s: %w", key, err)
	}
	wanted, problem := Templates(&cm)
	return wanted, problem, nil
}

// Templates are those that a ConfigMap holds.
func Templates(cm *corev1.ConfigMap) (map[string]string, *plan.Problem) {
	if len(cm.BinaryData) > 0 {
		name := slices.Sorted(maps.Keys(cm.BinaryData))[0]
		return nil, invalidTemplates(name + ": is in binaryData, and no text")
	}
	return cm.Data, nil
}

// LastGoodTemplates are those that every host of a Balancer proved last; none: the
// built-in ones.
func LastGoodTemplates(ctx context.Context, reader client.Reader, namespace string, b *v1alpha1.Balancer) (map[string]string, error) {
	if b.Spec.Templates == nil {
		return nil, nil
	}
	var record corev1.ConfigMap
	key := client.ObjectKey{Namespace: namespace, Name: b.Name + recordSuffix}
	err := reader.Get(ctx, key, &record)
	if err != nil && !apierrors.IsNotFound(err) {
		return nil, fmt.Errorf("reading ConfigMap %s: %w", key, err)
	}
	if !metav1.IsControlledBy(&record, b) {
		return nil, nil // of a Balancer that is gone
	}
	return record.Data, nil
}

// recordTemplates writes down what is good, where that differs. Who is late starts
// another reconcile.
func (r *balancerReconciler) recordTemplates(ctx context.Context, b *v1alpha1.Balancer, good map[string]string) error {
	record := &corev1.ConfigMap{}
	key := client.ObjectKey{Namespace: r.namespace, Name: b.Name + recordSuffix}
	err := r.reader.Get(ctx, key, record)
	missing := apierrors.IsNotFound(err)
	switch {
	case err != nil && !missing:
		return fmt.Errorf("reading ConfigMap %s: %w", key, err)
	case len(good) == 0 && (missing || !metav1.IsControlledBy(record, b)):
		return nil
	case len(good) == 0:
		err = r.client.Delete(ctx, record, client.Preconditions{UID: &record.UID, ResourceVersion: &record.ResourceVersion})
		err = client.IgnoreNotFound(err)
	case missing:
		record.Namespace, record.Name = key.Namespace, key.Name
		record.OwnerReferences, record.Data = owner(b), maps.Clone(good)
		err = client.IgnoreAlreadyExists(r.client.Create(ctx, record))
	case metav1.IsControlledBy(record, b) && maps.Equal(record.Data, good):
		return nil
	default:
		record.OwnerReferences, record.Data, record.BinaryData = owner(b), maps.Clone(good), nil
		err = client.IgnoreNotFound(r.client.Update(ctx, record))
	}
	if err != nil && !apierrors.IsConflict(err) {
		return fmt.Errorf("writing down the last good templates: %w", err)
	}
	return nil
}

func owner(b *v1alpha1.Balancer) []metav1.OwnerReference {
	ref := metav1.NewControllerRef(b, v1alpha1.GroupVersion.WithKind("Balancer"))
	ref.BlockOwnerDeletion = nil // which takes more rights
	return []metav1.OwnerReference{*ref}
}
