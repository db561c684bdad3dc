package controllers

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/reference"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"
)

// events writes events at the moment at which something changed. client-go's
// recorder drops what does not fit into its queue; here the caller waits
// instead, and since only changes are told, nothing needs to be aggregated.
type events struct {
	client client.Client
	scheme *runtime.Scheme
}

const eventSource = "external-lb"

func (e events) normal(ctx context.Context, obj client.Object, reason, format string, args ...any) {
	e.write(ctx, obj, corev1.EventTypeNormal, reason, fmt.Sprintf(format, args...))
}

func (e events) warning(ctx context.Context, obj client.Object, reason, format string, args ...any) {
	e.write(ctx, obj, corev1.EventTypeWarning, reason, fmt.Sprintf(format, args...))
}

// maxEventMessage is what the API server accepts.
const maxEventMessage = 1024

func (e events) write(ctx context.Context, obj client.Object, kind, reason, message string) {
	ref, err := reference.GetReference(e.scheme, obj)
	if err != nil {
		log.FromContext(ctx).Error(err, "Event not written", "reason", reason, "message", message)
		return
	}
	ref.ResourceVersion = ""
	if len(message) > maxEventMessage {
		message = message[:maxEventMessage-3] + "..."
	}
	namespace := obj.GetNamespace()
	if namespace == "" {
		namespace = metav1.NamespaceDefault
	}
	now := metav1.NewTime(time.Now())
	event := &corev1.Event{
		ObjectMeta:          metav1.ObjectMeta{Namespace: namespace, GenerateName: obj.GetName() + "."},
		InvolvedObject:      *ref,
		Type:                kind,
		Reason:              reason,
		Message:             message,
		Source:              corev1.EventSource{Component: eventSource},
		FirstTimestamp:      now,
		LastTimestamp:       now,
		Count:               1,
		ReportingController: eventSource,
	}
	err = e.client.Create(ctx, event)
	if err != nil && !apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
		log.FromContext(ctx).Error(err, "Event not written", "reason", reason, "message", message)
	}
}
