package controllers

import (
	"context"
	"errors"

	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/external-lb/external-lb/internal/text"
)

// ownStatuses writes the statuses of our own kinds. One that the API server refuses is told on
// its object, waits for itself, and holds up nothing else.
type ownStatuses struct {
	client   client.Client
	events   *events
	setbacks *setbacks
}

// write a status, unless the object was changed since it was read, or is gone. The error is
// errLater where that takes care of itself.
func (o ownStatuses) write(ctx context.Context, was, now client.Object) (written bool, err error) {
	of := part{was.GetUID(), true}
	if o.setbacks.waits(of) {
		return false, errLater
	}
	written, err = patchStatus(ctx, o.client, was, now)
	switch {
	case err == nil && written:
		o.setbacks.forget(was.GetUID())
	case err == nil:
	case ctx.Err() != nil || errors.Is(err, errNotLeading):
		return false, err // we are stopping
	default:
		o.refused(ctx, was, of, err)
		return false, errLater
	}
	return written, nil
}

// statusNotWritten is the reason of the event on one of our own kinds.
const statusNotWritten = "StatusNotWritten"

// refused tells of a part of an object that was not written, once as long as it fails: what its
// status says may be long past.
func (o ownStatuses) refused(ctx context.Context, obj client.Object, of part, err error) {
	log.FromContext(ctx).Error(err, "Not written", "name", client.ObjectKeyFromObject(obj))
	if o.setbacks.failed(of, err) {
		o.events.warning(ctx, obj, statusNotWritten,
			"what external-lb has to write here is not taken, so the status may be an old one; it is tried again twice a minute. The API server says: %s",
			text.Cut(err.Error(), maxAPIWords))
	}
}
