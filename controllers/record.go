package controllers

import (
	"context"
	"encoding/json"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/external-lb/external-lb/internal/record"
)

// patchServices writes Services by strategic merge patches that name the UID:
// the finalizers, annotations and conditions of others survive them, and a
// Service that was deleted and made again meanwhile is left alone.
type patchServices struct {
	client  client.Client
	written *written
}

// object is a JSON object of a patch.
type object = record.Metadata

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
