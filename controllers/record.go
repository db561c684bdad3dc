package controllers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/record"
	"github.com/external-lb/external-lb/internal/text"
)

// patchServices writes Services by strategic merge patches of their status that name
// the UID: the finalizers, annotations and conditions of others survive them, and a
// Service that was deleted and made again meanwhile is left alone. The API server takes
// metadata with a status, so nothing needs two writes.
type patchServices struct {
	client   client.Client
	written  *written
	setbacks *setbacks
	events   *events
	live     client.Reader // the API server: the cache does not know who wrote what
}

// fieldOwner is this program among those who write a Service.
const fieldOwner = client.FieldOwner("external-lb")

// object is a JSON object of a patch.
type object = record.Metadata

// record writes who holds a Service. It is final where whoever writes it goes on with it.
func (p patchServices) record(ctx context.Context, svc *corev1.Service, r *record.Patch, final bool) error {
	status := object{}
	if conditions, _ := conditionsPatch(svc.Status.Conditions, []metav1.Condition{r.Condition}); len(conditions) > 0 {
		status["conditions"] = conditions
	}
	return p.send(ctx, svc, part{svc.UID, false}, r.Metadata, status, final)
}

// status writes what a Service's users are told, with the metadata that goes with it. It is
// final where nothing follows from it.
func (p patchServices) status(ctx context.Context, svc *corev1.Service, metadata, status object, final bool) error {
	return p.send(ctx, svc, part{svc.UID, true}, metadata, status, final)
}

// send writes a part of a Service. The error is errLater where that takes care of itself.
func (p patchServices) send(ctx context.Context, svc *corev1.Service, of part, metadata, status object, final bool) error {
	if p.setbacks.waits(of) {
		return errLater
	}
	if metadata == nil {
		metadata = object{}
	}
	metadata["uid"] = svc.UID
	data, err := json.Marshal(object{"metadata": metadata, "status": status})
	if err != nil {
		return err
	}
	if p.setbacks.contested(of, data) {
		p.tellContest(ctx, svc, of)
	}
	answer := &corev1.Service{}
	answer.Namespace, answer.Name = svc.Namespace, svc.Name
	err = p.client.Status().Patch(ctx, answer, client.RawPatch(types.StrategicMergePatchType, data), fieldOwner)
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return nil // it was deleted, or made again, meanwhile: its events start another reconcile
	}
	if ctx.Err() != nil || errors.Is(err, errNotLeading) {
		return err // we are stopping
	}
	if err != nil {
		p.tellSetback(ctx, svc, of, err)
		return errLater
	}
	p.setbacks.wrote(of, data)
	strip(answer) // as the cache has it: the two are compared
	p.written.add(answer)
	if final && foreseen(svc, answer, metadata, status) {
		p.written.final(answer)
	}
	return nil
}

// maxAPIWords is how much of an error of the API server's a Service is told.
const maxAPIWords = 500

func (p patchServices) tellSetback(ctx context.Context, svc *corev1.Service, of part, err error) {
	log.FromContext(ctx).Error(err, "Service not written", "service", client.ObjectKeyFromObject(svc))
	if p.setbacks.failed(of, err) {
		p.events.warning(ctx, svc, v1alpha1.EventSyncFailed,
			"what external-lb has to write on this Service is not taken; it is tried again twice a minute. The API server says: %s",
			text.Cut(err.Error(), maxAPIWords))
	}
}

// tellContest tells who else writes a Service's status: before ours is written again,
// with which it is the only one.
func (p patchServices) tellContest(ctx context.Context, svc *corev1.Service, of part) {
	now, who := &corev1.Service{}, "somebody else"
	if err := p.live.Get(ctx, client.ObjectKeyFromObject(svc), now); err != nil {
		return // it is told the next time
	}
	if others := statusWriters(now); others != nil {
		who = strings.Join(others, ", ")
	}
	if !p.setbacks.rivals(of, who) {
		return
	}
	p.events.warning(ctx, svc, v1alpha1.EventUpdateFailed,
		"%s writes the status of this Service, too. It is repaired, at last twice a minute: turn the other one off, "+
			"or give the Service a loadBalancerClass that one of the two leaves alone", who)
}

// statusWriters are the others who wrote what is ours in a Service's status.
func statusWriters(svc *corev1.Service) (names []string) {
	for _, m := range svc.ManagedFields {
		if m.Subresource != "status" || m.Manager == string(fieldOwner) || m.FieldsV1 == nil || slices.Contains(names, m.Manager) {
			continue
		}
		if fields := m.FieldsV1.GetRawString(); strings.Contains(fields, `"f:loadBalancer"`) || strings.Contains(fields, "external-lb.dev/") {
			names = append(names, m.Manager)
		}
	}
	return names
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
	strip(now)
	return true, nil
}
