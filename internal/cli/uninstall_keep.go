package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/plan"
	"github.com/external-lb/external-lb/internal/record"
)

// keepHosts lets go of everything while no controller works: one that did would take
// it back, or withdraw it.
func (u *uninstall) keepHosts(ctx context.Context, left remains) (err error) {
	if err := u.stopDeployments(ctx); err != nil {
		return err
	}
	if !u.dryRun {
		var release func() error
		if release, err = u.lead(ctx); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, release()) }()
		if left, err = u.look(ctx); err != nil { // it may have written something until now
			return err
		}
	}
	for _, svc := range left.services {
		if err := u.letGo(ctx, left, svc); err != nil {
			return err
		}
	}
	for _, b := range left.balancers {
		if err := u.forget(ctx, b); err != nil {
			return err
		}
	}
	return nil
}

// deployments are those of the controller, by whatever name.
func (u *uninstall) deployments(ctx context.Context) (all appsv1.DeploymentList, err error) {
	if err = u.kube.List(ctx, &all, client.MatchingLabels{"app.kubernetes.io/name": deploymentName}); err != nil {
		err = fmt.Errorf("looking for the controller's Deployment: %w", err)
	}
	return all, err
}

// stopDeployments scales the controller to nothing, if it is a Deployment.
func (u *uninstall) stopDeployments(ctx context.Context) error {
	all, err := u.deployments(ctx)
	if err != nil {
		return err
	}
	for i := range all.Items {
		d := &all.Items[i]
		name := client.ObjectKeyFromObject(d)
		if ptr.Deref(d.Spec.Replicas, 1) == 0 {
			continue
		}
		if d.Namespace != u.namespace {
			return fmt.Errorf("the controller runs as Deployment %s: run this with --namespace %s", name, d.Namespace)
		}
		if !u.dryRun {
			was := d.DeepCopy()
			d.Spec.Replicas = ptr.To[int32](0)
			if err := u.kube.Patch(ctx, d, client.MergeFrom(was)); err != nil {
				return fmt.Errorf("stopping the controller, Deployment %s: %w", name, err)
			}
		}
		u.say("Deployment %s: scaled to 0", name)
	}
	return nil
}

// letGo takes our finalizers and our record off a Service. What its users were told
// stays.
func (u *uninstall) letGo(ctx context.Context, left remains, svc *corev1.Service) error {
	metadata := record.ReleasePatch(svc, left.ofAnotherClass(svc))
	if annotations, ok := metadata["annotations"].(record.Metadata); ok {
		delete(annotations, v1alpha1.AssignedAddressesAnnotation)
	}
	metadata["uid"] = svc.UID
	noRecord := []any{map[string]any{"type": v1alpha1.ConditionRecord, "$patch": "delete"}}
	patch, err := json.Marshal(map[string]any{"metadata": metadata, "status": map[string]any{"conditions": noRecord}})
	if err == nil && !u.dryRun {
		err = u.kube.Status().Patch(ctx, svc.DeepCopy(), client.RawPatch(types.StrategicMergePatchType, patch))
	}
	if client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("letting go of Service %s/%s: %w", svc.Namespace, svc.Name, err)
	}
	u.say("Service %s: let go", describeService(svc))
	return nil
}

// ofAnotherClass reports whether a live Service left its Balancer for another provider,
// whose the shared finalizer is by now.
func (r remains) ofAnotherClass(svc *corev1.Service) bool {
	if svc.DeletionTimestamp != nil || svc.Spec.Type != corev1.ServiceTypeLoadBalancer {
		return false
	}
	carrier := record.Carrier(record.Holders(svc), svc)
	for _, b := range r.balancers {
		if b.Name == carrier {
			return !plan.ClassMatches(b, svc)
		}
	}
	return false
}

// forget deletes a Balancer without its hosts being asked. If somebody gives it our
// finalizer again in between, a controller works after all, and it must not be deleted.
func (u *uninstall) forget(ctx context.Context, b *v1alpha1.Balancer) error {
	if !u.dryRun {
		was := b.DeepCopy()
		if controllerutil.RemoveFinalizer(b, v1alpha1.CleanupFinalizer) {
			err := u.kube.Patch(ctx, b, client.MergeFromWithOptions(was, client.MergeFromWithOptimisticLock{}))
			if client.IgnoreNotFound(err) != nil {
				return fmt.Errorf("letting go of Balancer %s: %w", b.Name, err)
			}
		}
		err := u.delete(ctx, b, client.Preconditions{ResourceVersion: &b.ResourceVersion})
		if apierrors.IsConflict(err) {
			return fmt.Errorf("%w. Somebody writes it still: stop every controller, and run this again", err)
		}
		if err != nil {
			return err
		}
	}
	u.say("Balancer %s: deleted; its hosts (%s) go on as they are", b.Name, hostNames(b))
	return nil
}
