package cli

import (
	"bytes"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/external-lb/external-lb/controllers"
	"github.com/external-lb/external-lb/internal/preflight"
)

// The exit code says how bad it is.
func TestCheck_ItsExitCode(t *testing.T) {
	for want, states := range map[int][]preflight.State{
		0: {preflight.OK, preflight.Skip}, 1: {preflight.OK, preflight.Warn}, 2: {preflight.Warn, preflight.Fail, preflight.OK},
	} {
		var checks preflight.Checks
		for _, s := range states {
			checks = append(checks, preflight.Check{Topic: "t", State: s, Message: "m\x1b[2J"})
		}
		for _, output := range []string{"text", "json", "yaml"} {
			var out bytes.Buffer
			code := 0
			if e, ok := errors.AsType[exit](printChecks(&out, checks, output)); ok {
				code = e.code
			}
			if code != want {
				t.Errorf("%v as %s: exit code %d, want %d", states, output, code, want)
			}
			if slices.Contains(out.Bytes(), '\x1b') {
				t.Errorf("%s obeys what it prints: %q", output, out.String())
			}
		}
	}
}

// While a rollout is stuck, old Pods are ready, and their images are those that run.
func TestCheck_ARolloutThatIsStuck(t *testing.T) {
	labels := map[string]string{"app.kubernetes.io/name": deploymentName}
	image := func(tag string) corev1.PodSpec {
		return corev1.PodSpec{Containers: []corev1.Container{{Name: "provider", Image: "p:v9"}, {Name: "manager", Image: "m:" + tag}}}
	}
	pod := func(name, tag string, ready corev1.ConditionStatus) client.Object {
		p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: defaultNamespace, Name: name, Labels: labels}, Spec: image(tag)}
		p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: ready}}
		return p
	}
	d := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: defaultNamespace, Name: deploymentName, Labels: labels, Generation: 3}}
	d.Spec = appsv1.DeploymentSpec{Replicas: new(int32(2)), Selector: &metav1.LabelSelector{MatchLabels: labels}, Template: corev1.PodTemplateSpec{Spec: image("v2")}}
	d.Status = appsv1.DeploymentStatus{ObservedGeneration: 3, ReadyReplicas: 2, UpdatedReplicas: 1}
	kube := fake.NewClientBuilder().WithScheme(controllers.Scheme()).WithObjects(leaseOf("manager-1", time.Now()), d,
		pod("a", "v1", corev1.ConditionTrue), pod("b", "v1", corev1.ConditionTrue), pod("c", "v2", corev1.ConditionFalse)).Build()
	f := preflight.Facts{Unread: map[string]string{}}
	if err := (&asker{kube: kube, namespace: defaultNamespace}).managers(t.Context(), &f); err != nil {
		t.Fatal(err)
	}
	want := []preflight.Deployment{{Name: deploymentName, Replicas: 2, Ready: 2, Updated: 1, Observed: true, Image: "m:v2", Running: []string{"m:v1"}, ServiceAccount: "default"}}
	if diff := cmp.Diff(want, f.Managers); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// The API server's own policies are looked at where they deny what is changed.
func TestCheck_PoliciesThatDeny(t *testing.T) {
	var objects []client.Object
	add := func(name string, of admissionv1.OperationType, action admissionv1.ValidationAction) {
		p := &admissionv1.ValidatingAdmissionPolicy{ObjectMeta: metav1.ObjectMeta{Name: name}}
		rule := admissionv1.RuleWithOperations{
			Operations: []admissionv1.OperationType{of},
			Rule:       admissionv1.Rule{APIGroups: []string{""}, Resources: []string{"services/status"}},
		}
		p.Spec.MatchConstraints = &admissionv1.MatchResources{ResourceRules: []admissionv1.NamedRuleWithOperations{{RuleWithOperations: rule}}}
		b := &admissionv1.ValidatingAdmissionPolicyBinding{ObjectMeta: metav1.ObjectMeta{Name: name}}
		b.Spec = admissionv1.ValidatingAdmissionPolicyBindingSpec{PolicyName: name, ValidationActions: []admissionv1.ValidationAction{action}}
		objects = append(objects, p, b)
	}
	add("denies", admissionv1.Update, admissionv1.Deny)
	add("denies-all", admissionv1.OperationAll, admissionv1.Deny)
	add("denies-to-create", admissionv1.Create, admissionv1.Deny)
	add("warns", admissionv1.Update, admissionv1.Warn)
	kube := fake.NewClientBuilder().WithScheme(controllers.Scheme()).WithObjects(objects...).Build()
	f := preflight.Facts{Unread: map[string]string{}}
	if err := (&asker{kube: kube}).webhooks(t.Context(), &f); err != nil {
		t.Fatal(err)
	}
	rules := []preflight.WebhookRule{{Groups: []string{""}, Resources: []string{"services/status"}}}
	want := []preflight.Webhook{{Name: "ValidatingAdmissionPolicy denies", Rules: rules}, {Name: "ValidatingAdmissionPolicy denies-all", Rules: rules},
		{Name: "ValidatingAdmissionPolicy denies-to-create"}}
	if diff := cmp.Diff(want, f.Webhooks); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
