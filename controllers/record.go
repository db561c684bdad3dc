package controllers

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/plan"
)

// patchServices writes Services by strategic merge patches that name the UID:
// the finalizers, annotations and conditions of others survive them, and a
// Service that was deleted and made again meanwhile is left alone.
type patchServices struct {
	client  client.Client
	written *written
}

// object is a JSON object of a patch.
type object = map[string]any

func (p patchServices) metadata(ctx context.Context, svc *corev1.Service, metadata object) error {
	metadata["uid"] = svc.UID
	data, err := json.Marshal(object{"metadata": metadata})
	if err != nil {
		return err
	}
	return p.send(ctx, svc, data, p.client.Patch)
}

func (p patchServices) status(ctx context.Context, svc *corev1.Service, status object) error {
	data, err := json.Marshal(object{"metadata": object{"uid": svc.UID}, "status": status})
	if err != nil {
		return err
	}
	return p.send(ctx, svc, data, func(ctx context.Context, obj client.Object, patch client.Patch, _ ...client.PatchOption) error {
		return p.client.Status().Patch(ctx, obj, patch)
	})
}

type patchFunc func(context.Context, client.Object, client.Patch, ...client.PatchOption) error

func (p patchServices) send(ctx context.Context, svc *corev1.Service, data []byte, patch patchFunc) error {
	answer := &corev1.Service{}
	answer.Namespace, answer.Name = svc.Namespace, svc.Name
	err := patch(ctx, answer, client.RawPatch(types.StrategicMergePatchType, data))
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return nil // it was deleted, or made again, meanwhile: its events start another reconcile
	}
	if err != nil {
		return fmt.Errorf("patching Service %s/%s: %w", svc.Namespace, svc.Name, err)
	}
	p.written.add(answer)
	return nil
}

// patchStatus writes the status of one of our kinds, unless the object was changed
// since it was read, or is gone: then its events start another reconcile.
func patchStatus(ctx context.Context, c client.Client, was, now client.Object) (written bool, err error) {
	err = c.Status().Patch(ctx, now, client.MergeFromWithOptions(was, client.MergeFromWithOptimisticLock{}))
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("status of %s: %w", was.GetName(), err)
	}
	return true, nil
}

// holdPatch is the metadata that records what a Service holds, nil where it is
// on record already. It is written before anything is programmed.
func holdPatch(svc *corev1.Service, record plan.Record) object {
	finalizers := []string{v1alpha1.CleanupFinalizer}
	if svc.Spec.Type == corev1.ServiceTypeLoadBalancer {
		finalizers = append(finalizers, v1alpha1.SharedFinalizer)
	}
	missing := slices.DeleteFunc(slices.Clone(finalizers), func(f string) bool { return slices.Contains(svc.Finalizers, f) })
	annotations := recordAnnotations(record)
	same := len(missing) == 0
	for key, value := range annotations {
		was, there := svc.Annotations[key]
		same = same && there == (value != nil) && (!there || was == value)
	}
	if same {
		return nil
	}
	return locked(svc, record, object{"finalizers": finalizers, "annotations": annotations})
}

// recordAnnotations are a record as it is written; nil: not there.
func recordAnnotations(r plan.Record) object {
	annotations := object{
		v1alpha1.HeldByAnnotation:        strings.Join(r.Holders, ","),
		v1alpha1.HeldAddressesAnnotation: plan.FormatAddresses(r.Addresses),
		v1alpha1.CarriedByAnnotation:     nil,
	}
	if r.Carrier != r.Holders[0] {
		annotations[v1alpha1.CarriedByAnnotation] = r.Carrier
	}
	return annotations
}

// locked makes a patch of what several Balancers write fail if the Service was
// changed since it was read.
func locked(svc *corev1.Service, record plan.Record, metadata object) object {
	if len(record.Holders) > 1 || len(plan.Holders(svc)) > 1 {
		metadata["resourceVersion"] = svc.ResourceVersion
	}
	return metadata
}

// releasePatch is the metadata that ends our part in a Service. The shared
// finalizer of a live Service of another class is its provider's by now.
func releasePatch(svc *corev1.Service, othersClass bool) object {
	finalizers := []string{v1alpha1.CleanupFinalizer}
	if !othersClass {
		finalizers = append(finalizers, v1alpha1.SharedFinalizer)
	}
	present := slices.DeleteFunc(finalizers, func(f string) bool { return !slices.Contains(svc.Finalizers, f) })
	return object{
		"$deleteFromPrimitiveList/finalizers": present,
		"annotations": object{
			v1alpha1.HeldByAnnotation:            nil,
			v1alpha1.HeldAddressesAnnotation:     nil,
			v1alpha1.CarriedByAnnotation:         nil,
			v1alpha1.AssignedAddressesAnnotation: nil,
		},
	}
}
