package chaos

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/test/builder"
	"github.com/external-lb/external-lb/test/wait"
)

// Who may write, and writes what is not ours to like: what they begin stays for some steps.
const (
	// deniedNamespace is the one of which nothing can be written.
	deniedNamespace = "denied"
	// strangersPool has addresses for them alone, so that they are published whoever has come before.
	strangersPool = "strangers"
	rivals        = "192.0.2.99"
	// attempts to write one Service within a minute, by one process: each of its two parts is
	// tried 7 times in the first minute, and written once more when it is let go.
	attempts = 16
)

// meddlers harm nobody but the one that they are about: the others are told and served all the same.
var meddlers = []kind{contend, deny, garble}

// well reports whether nothing else is open.
func (w *world) well() bool {
	for _, kinds := range w.open {
		if slices.ContainsFunc(kinds, func(k kind) bool { return !slices.Contains(meddlers, k) }) {
			return false
		}
	}
	return true
}

// rival is another provider of load balancers, which wants the same Service.
type rival struct {
	victim string
	starts int // of managers, when it began
	stop   context.CancelFunc
	done   chan struct{}
}

// contend overwrites the status of one Service, whenever that is another one's.
func (w *world) contend(ctx context.Context, n int) error {
	svc := theirs(fmt.Sprintf("evil-contended-%d", n), 80).Annotate(v1alpha1.AddressPoolAnnotation, strangersPool).Manifest()
	if err := w.Create(ctx, svc); err != nil {
		return err
	}
	fighting, stop := context.WithCancel(context.WithoutCancel(ctx))
	w.rival = &rival{victim: svc.Name, starts: w.starts, stop: stop, done: make(chan struct{})}
	go func(r *rival) {
		defer close(r.done)
		for fighting.Err() == nil { // it fails while there is no API server, and goes on
			_ = wait.Until(fighting, func(ctx context.Context) error { return w.overwrite(ctx, r.victim) })
		}
	}(w.rival)
	return nil
}

func (w *world) overwrite(ctx context.Context, victim string) error {
	svc := &corev1.Service{}
	if err := w.Kube.Get(ctx, client.ObjectKey{Namespace: stranger, Name: victim}, svc); err != nil {
		return err
	}
	if in := svc.Status.LoadBalancer.Ingress; len(in) == 0 || in[0].IP == rivals {
		return errors.New("nobody else has written it")
	}
	before := svc.DeepCopy()
	svc.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: rivals}}
	return w.Kube.Status().Patch(ctx, svc, client.MergeFrom(before), client.FieldOwner("rival"))
}

// makePeace ends that. Where nothing else is wrong, it was told by then, and the address is
// ours again. The manager was never drawn into a race.
func (w *world) makePeace(ctx context.Context) error {
	r := w.rival
	w.rival = nil
	defer r.stop()
	calm := w.well()
	if calm {
		const words = "rival writes the status of this Service, too"
		if err := w.told(ctx, stranger, r.victim, v1alpha1.EventUpdateFailed, words, r.starts); err != nil {
			return err
		}
	}
	r.stop()
	<-r.done
	if calm {
		err := wait.Until(ctx, func(ctx context.Context) error {
			svc := &corev1.Service{}
			if err := w.Kube.Get(ctx, client.ObjectKey{Namespace: stranger, Name: r.victim}, svc); err != nil {
				return err
			}
			if in := svc.Status.LoadBalancer.Ingress; len(in) != 1 || in[0].IP == rivals {
				return fmt.Errorf("its status is %+v", svc.Status)
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("Service %s, which nobody else writes any more: %w", r.victim, err)
		}
	}
	return w.patient(stranger, r.victim, r.starts)
}

// patient holds that the manager tried to write one Service no more often than it may.
func (w *world) patient(namespace, name string, startsBefore int) error {
	if err := w.writes.update(); err != nil {
		return err
	}
	tries := most(w.writes.all, func(one *written) bool {
		return one.ObjectRef.Resource == "services" && one.ObjectRef.Namespace == namespace && one.ObjectRef.Name == name
	})
	w.table.attempts = max(w.table.attempts, tries)
	if allowed := attempts * (1 + w.starts - startsBefore); tries > allowed {
		return fmt.Errorf("the manager wrote the Service %s %d times within a minute, %d are allowed", name, tries, allowed)
	}
	return nil
}

// told waits for an event on a Service. Each manager tells it once.
func (w *world) told(ctx context.Context, namespace, name, reason, words string, startsBefore int) error {
	err := wait.Until(ctx, func(ctx context.Context) error {
		var events corev1.EventList
		if err := w.Kube.List(ctx, &events, client.InNamespace(namespace)); err != nil {
			return err
		}
		times := 0
		var all []string
		for _, e := range events.Items {
			if e.InvolvedObject.Name != name {
				continue
			}
			if e.Reason == reason && strings.Contains(e.Message, words) {
				times += max(1, int(e.Count))
			}
			all = append(all, fmt.Sprintf("%d times %s: %s", e.Count, e.Reason, e.Message))
		}
		switch {
		case times == 0:
			return fmt.Errorf("it was told %q", all)
		case times > 1+w.starts-startsBefore:
			return wait.GiveUp(fmt.Errorf("it was told too often: %q", all))
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("Service %s is to be told %s, %q: %w", name, reason, words, err)
	}
	return nil
}

// denial makes the API server refuse what changes Services of a namespace.
func denial() []client.Object {
	name := metav1.ObjectMeta{Name: "evil-denial"}
	return []client.Object{
		&admissionv1.ValidatingAdmissionPolicy{ObjectMeta: name, Spec: admissionv1.ValidatingAdmissionPolicySpec{
			FailurePolicy: ptr.To(admissionv1.Fail),
			MatchConstraints: &admissionv1.MatchResources{
				NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{corev1.LabelMetadataName: deniedNamespace}},
				ResourceRules: []admissionv1.NamedRuleWithOperations{{RuleWithOperations: admissionv1.RuleWithOperations{
					Operations: []admissionv1.OperationType{admissionv1.Update},
					Rule:       admissionv1.Rule{APIGroups: []string{""}, APIVersions: []string{"v1"}, Resources: []string{"services", "services/status"}},
				}}},
			},
			Validations: []admissionv1.Validation{{Expression: "false", Message: "nobody changes this Service"}},
		}},
		&admissionv1.ValidatingAdmissionPolicyBinding{ObjectMeta: name, Spec: admissionv1.ValidatingAdmissionPolicyBindingSpec{
			PolicyName: name.Name, ValidationActions: []admissionv1.ValidationAction{admissionv1.Deny},
		}},
	}
}

// touch changes a Service, and does not.
var touch = client.RawPatch(types.MergePatchType, []byte(`{"metadata": {"annotations": {"example.com/touched": "yes"}}}`))

// deny the manager every write of a Service, which is made once that is in force.
func (w *world) deny(ctx context.Context, n int) error {
	probe := builder.Service(deniedNamespace, "evil-probe").Class("example.com/other").PortOf(corev1.ProtocolTCP, 80, 0).Manifest()
	if err := w.Create(ctx, append(denial(), probe)...); err != nil {
		return err
	}
	err := wait.Until(ctx, func(ctx context.Context) error {
		if err := w.Kube.Patch(ctx, probe, touch, client.DryRunAll); err == nil {
			return errors.New("it is not denied yet")
		}
		return nil
	})
	if err != nil {
		return err
	}
	w.denied, w.deniedAt = fmt.Sprintf("evil-denied-%d", n), w.starts
	svc := theirs(w.denied, 80).Annotate(v1alpha1.AddressPoolAnnotation, strangersPool).Manifest()
	svc.Namespace = deniedNamespace
	return w.Create(ctx, svc)
}

// allow ends that. Where nothing else is wrong, the Service was told why, and is served soon.
func (w *world) allow(ctx context.Context) error {
	if w.well() {
		if err := w.told(ctx, deniedNamespace, w.denied, v1alpha1.EventSyncFailed, "nobody changes this Service", w.deniedAt); err != nil {
			return err
		}
	}
	for _, obj := range denial() {
		if err := w.Kube.Delete(ctx, obj); err != nil {
			return err
		}
	}
	if err := w.patient(deniedNamespace, w.denied, w.deniedAt); err != nil || !w.well() {
		return err
	}
	err := wait.Until(ctx, func(ctx context.Context) error {
		svc := &corev1.Service{}
		if err := w.Kube.Get(ctx, client.ObjectKey{Namespace: deniedNamespace, Name: w.denied}, svc); err != nil {
			return err
		}
		if len(svc.Status.LoadBalancer.Ingress) != 1 {
			return fmt.Errorf("its status is %+v", svc.Status)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("Service %s, which may be written again: %w", w.denied, err)
	}
	return nil
}

// selectorSchema is where the kind of Balancers says what a selector of nodes may be.
var selectorSchema = []string{"schema", "openAPIV3Schema", "properties", "spec", "properties", "nodes", "properties", "selector"}

// garble gives the Balancer a selector that cannot be read. The schema refuses it, so it
// is from a time when there was another one. The selector before it stays in force.
func (w *world) garble(ctx context.Context) error {
	const bad = `{"spec": {"nodes": {"selector": {"matchExpressions": [{"key": "edge", "operator": "in", "values": ["yes"]}]}}}}`
	if err := w.setSelector(ctx, bad); !apierrors.IsInvalid(err) {
		return fmt.Errorf("the schema lets a selector in that cannot be read: %w", err)
	}
	crd := &unstructured.Unstructured{}
	crd.SetAPIVersion("apiextensions.k8s.io/v1")
	crd.SetKind("CustomResourceDefinition")
	if err := w.Kube.Get(ctx, client.ObjectKey{Name: "balancers.external-lb.dev"}, crd); err != nil {
		return err
	}
	version := crd.Object["spec"].(map[string]any)["versions"].([]any)[0].(map[string]any)
	strict, _, err := unstructured.NestedMap(version, selectorSchema...)
	if err != nil {
		return err
	}
	schema := func(is map[string]any) error {
		at := "/spec/versions/0/" + strings.Join(selectorSchema, "/")
		patch, err := json.Marshal([]any{map[string]any{"op": "replace", "path": at, "value": is}})
		if err != nil {
			return err
		}
		return w.Kube.Patch(ctx, crd, client.RawPatch(types.JSONPatchType, patch))
	}
	if err := schema(map[string]any{"type": "object", "x-kubernetes-preserve-unknown-fields": true}); err != nil {
		return err
	}
	if err := wait.Until(ctx, func(ctx context.Context) error { return w.setSelector(ctx, bad) }); err != nil {
		return err
	}
	return schema(strict)
}

// ungarble gives it one that can be read. Where nothing else is wrong, it was told by then.
func (w *world) ungarble(ctx context.Context) error {
	if w.well() {
		err := wait.Until(ctx, func(ctx context.Context) error {
			b := &v1alpha1.Balancer{}
			if err := w.Kube.Get(ctx, client.ObjectKey{Name: "edge"}, b); err != nil {
				return err
			}
			c := meta.FindStatusCondition(b.Status.Conditions, v1alpha1.ConditionAccepted)
			if c == nil || c.Status != metav1.ConditionFalse || !strings.Contains(c.Message, "the one before it is in force") {
				return fmt.Errorf("the Balancer says %+v", b.Status.Conditions)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return w.mendSelector(ctx)
}

func (w *world) mendSelector(ctx context.Context) error {
	return wait.Until(ctx, func(ctx context.Context) error { return w.setSelector(ctx, `{"spec": {"nodes": {"selector": null}}}`) })
}

func (w *world) setSelector(ctx context.Context, patch string) error {
	return w.Kube.Patch(ctx, builder.Balancer("edge").Manifest(), client.RawPatch(types.MergePatchType, []byte(patch)))
}
