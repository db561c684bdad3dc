package controllers

import (
	"context"
	"encoding/json"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/conditions"
	"github.com/external-lb/external-lb/internal/record"
)

// patchServices writes Services by strategic merge patches that name the UID:
// the finalizers, annotations and conditions of others survive them, and a
// Service that was deleted and made again meanwhile is left alone.
type patchServices struct {
	client   client.Client
	written  *written
	setbacks *setbacks
	events   *events
}

// object is a JSON object of a patch.
type object = record.Metadata

func (p patchServices) metadata(ctx context.Context, svc *corev1.Service, metadata object) error {
	metadata["uid"] = svc.UID
	data, err := json.Marshal(object{"metadata": metadata})
	if err != nil {
		return err
	}
	return p.send(ctx, svc, part{svc.UID, false}, data)
}

func (p patchServices) status(ctx context.Context, svc *corev1.Service, status object) error {
	data, err := json.Marshal(object{"metadata": object{"uid": svc.UID}, "status": status})
	if err != nil {
		return err
	}
	return p.send(ctx, svc, part{svc.UID, true}, data)
}

// send writes a part of a Service. The error is errLater where that takes care of itself.
func (p patchServices) send(ctx context.Context, svc *corev1.Service, of part, data []byte) error {
	if p.setbacks.waits(of) {
		return errLater
	}
	answer := &corev1.Service{}
	answer.Namespace, answer.Name = svc.Namespace, svc.Name
	patch := client.RawPatch(types.StrategicMergePatchType, data)
	var err error
	if of.status {
		err = p.client.Status().Patch(ctx, answer, patch)
	} else {
		err = p.client.Patch(ctx, answer, patch)
	}
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return nil // it was deleted, or made again, meanwhile: its events start another reconcile
	}
	if ctx.Err() != nil {
		return err // we are stopping
	}
	if err != nil {
		p.tellSetback(ctx, svc, of, err)
		return errLater
	}
	p.setbacks.wrote(of)
	p.written.add(answer)
	return nil
}

// maxAPIWords is how much of an error of the API server's a Service is told.
const maxAPIWords = 500

func (p patchServices) tellSetback(ctx context.Context, svc *corev1.Service, of part, err error) {
	log.FromContext(ctx).Error(err, "Service not written", "service", client.ObjectKeyFromObject(svc))
	if p.setbacks.failed(of, err) {
		p.events.warning(ctx, svc, v1alpha1.EventSyncFailed,
			"what external-lb has to write on this Service is not taken; it is tried again twice a minute. The API server says: %s",
			conditions.Cut(err.Error(), maxAPIWords))
	}
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
