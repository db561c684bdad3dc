package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/host"
	"github.com/external-lb/external-lb/internal/preflight"
)

// asker reads the facts of a check. What may not be read is said by kind.
type asker struct {
	kube      client.Client
	discovery discovery.DiscoveryInterface
	namespace string // of the manager
}

func newAsker(server *apiServer, namespace string) (*asker, error) {
	kube, err := server.client()
	if err != nil {
		return nil, err
	}
	config, err := server.config()
	if err != nil {
		return nil, err
	}
	config.QPS, config.Timeout = -1, askTimeout
	d, err := discovery.NewDiscoveryClientForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("connecting to the API server: %w", err)
	}
	return &asker{kube, d, namespace}, nil
}

// unread notes of a kind why it could not be read, and returns all other errors.
func unread(f *preflight.Facts, kind string, err error) error {
	switch {
	case apierrors.IsForbidden(err):
		f.Unread[kind] = "you may not list " + kind
	case err != nil:
		return fmt.Errorf("asking the API server: %w", err)
	}
	return nil
}

func (a *asker) facts(ctx context.Context) (preflight.Facts, error) {
	f := preflight.Facts{Program: host.Version(), Namespace: a.namespace, Unread: map[string]string{}}
	if err := a.server(&f); err != nil || !slices.Contains(f.Groups, v1alpha1.GroupVersion.Group) {
		return f, err
	}
	for _, read := range []func(context.Context, *preflight.Facts) error{a.kinds, a.objects, a.managers, a.rights, a.webhooks} {
		if err := read(ctx, &f); err != nil {
			return f, err
		}
	}
	return f, nil
}

func (a *asker) server(f *preflight.Facts) error {
	v, err := a.discovery.ServerVersion()
	if err != nil {
		return fmt.Errorf("asking the API server: %w", err)
	}
	groups, err := a.discovery.ServerGroups()
	if err != nil {
		return fmt.Errorf("asking the API server: %w", err)
	}
	f.Kubernetes = v.GitVersion
	for _, g := range groups.Groups {
		f.Groups = append(f.Groups, g.Name)
	}
	return nil
}

// kinds reads the schemas of ours.
func (a *asker) kinds(ctx context.Context, f *preflight.Facts) error {
	f.Kinds = map[string]map[string]any{}
	for plural := range preflight.Kinds {
		crd := &unstructured.Unstructured{}
		crd.SetGroupVersionKind(schema.GroupVersionKind{Group: "apiextensions.k8s.io", Version: "v1", Kind: "CustomResourceDefinition"})
		err := a.kube.Get(ctx, client.ObjectKey{Name: plural + "." + v1alpha1.GroupVersion.Group}, crd)
		if apierrors.IsNotFound(err) {
			continue
		}
		if apierrors.IsForbidden(err) {
			f.Unread[preflight.Definitions] = "you may not get " + preflight.Definitions
			return nil
		}
		if err != nil {
			return fmt.Errorf("asking the API server: %w", err)
		}
		versions, _, _ := unstructured.NestedSlice(crd.Object, "spec", "versions")
		for _, v := range versions {
			version, _ := v.(map[string]any)
			if properties, ok, _ := unstructured.NestedMap(version, "schema", "openAPIV3Schema"); ok && version["name"] == v1alpha1.GroupVersion.Version {
				f.Kinds[plural] = properties
			}
		}
	}
	return nil
}

func (a *asker) objects(ctx context.Context, f *preflight.Facts) error {
	o := newObjects()
	for _, part := range clusterParts() {
		err := o.list(ctx, a.kube, part.list)
		if errors.Is(err, errNotInstalled) {
			continue // it is among the kinds
		}
		if err := unread(f, part.kind, err); err != nil {
			return err
		}
	}
	if err := o.readPods(ctx, a.kube); err != nil {
		return fmt.Errorf("asking the API server: %w", err)
	}
	f.Objects, f.Pools = o.planning(), o.pools
	return nil
}

func (a *asker) managers(ctx context.Context, f *preflight.Facts) (err error) {
	if f.Works, err = manager(ctx, a.kube, a.namespace, renewalPatience); err != nil {
		return err
	}
	var list appsv1.DeploymentList
	err = a.kube.List(ctx, &list, client.InNamespace(a.namespace), client.MatchingLabels{"app.kubernetes.io/name": deploymentName})
	for _, d := range list.Items {
		pod := d.Spec.Template.Spec
		of := preflight.Deployment{
			Name: d.Name, Replicas: ptr.Deref(d.Spec.Replicas, 1), Ready: d.Status.ReadyReplicas,
			Updated: d.Status.UpdatedReplicas, Observed: d.Status.ObservedGeneration >= d.Generation,
			ServiceAccount: cmp.Or(pod.ServiceAccountName, "default"),
		}
		of.Image = managerImage(pod)
		if err := a.running(ctx, f, d, &of); err != nil {
			return err
		}
		f.Managers = append(f.Managers, of)
	}
	return unread(f, preflight.Deployments, err)
}

// running notes which images the Pods of a Deployment have: while a rollout goes on, others than it says.
func (a *asker) running(ctx context.Context, f *preflight.Facts, d appsv1.Deployment, of *preflight.Deployment) error {
	selector, err := metav1.LabelSelectorAsSelector(d.Spec.Selector)
	if err != nil {
		return fmt.Errorf("Deployment %s: %w", d.Name, err)
	}
	var pods corev1.PodList
	err = a.kube.List(ctx, &pods, client.InNamespace(a.namespace), client.MatchingLabelsSelector{Selector: selector})
	for _, p := range pods.Items {
		ready := slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool {
			return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
		})
		if image := managerImage(p.Spec); ready && !slices.Contains(of.Running, image) {
			of.Running = append(of.Running, image)
		}
	}
	return unread(f, preflight.ManagerPods, err)
}

// managerImage is that of the manager among the containers of a Pod, which has one at least.
func managerImage(pod corev1.PodSpec) string {
	at := slices.IndexFunc(pod.Containers, func(c corev1.Container) bool { return c.Name == "manager" })
	return pod.Containers[max(0, at)].Image
}

// webhooks of both kinds, and the API server's own policies.
func (a *asker) webhooks(ctx context.Context, f *preflight.Facts) error {
	var validating admissionv1.ValidatingWebhookConfigurationList
	var mutating admissionv1.MutatingWebhookConfigurationList
	for _, list := range []client.ObjectList{&validating, &mutating} {
		if err := unread(f, preflight.Webhooks, a.kube.List(ctx, list)); err != nil {
			return err
		}
	}
	add := func(name string, policy *admissionv1.FailurePolicyType, rules []admissionv1.RuleWithOperations) {
		f.Webhooks = append(f.Webhooks, preflight.Webhook{
			Name: name, Closed: ptr.Deref(policy, admissionv1.Fail) == admissionv1.Fail, Rules: ofUpdates(rules),
		})
	}
	for _, c := range validating.Items {
		for _, w := range c.Webhooks {
			add(w.Name, w.FailurePolicy, w.Rules)
		}
	}
	for _, c := range mutating.Items {
		for _, w := range c.Webhooks {
			add(w.Name, w.FailurePolicy, w.Rules)
		}
	}
	return a.admission(ctx, f)
}

// admission notes the policies that may deny what the manager writes.
func (a *asker) admission(ctx context.Context, f *preflight.Facts) error {
	var policies admissionv1.ValidatingAdmissionPolicyList
	var bindings admissionv1.ValidatingAdmissionPolicyBindingList
	for _, list := range []client.ObjectList{&policies, &bindings} {
		err := a.kube.List(ctx, list)
		if meta.IsNoMatchError(err) {
			return nil // this API server has none
		}
		if err := unread(f, preflight.Admission, err); err != nil {
			return err
		}
	}
	for _, p := range policies.Items {
		denies := slices.ContainsFunc(bindings.Items, func(b admissionv1.ValidatingAdmissionPolicyBinding) bool {
			return b.Spec.PolicyName == p.Name && slices.Contains(b.Spec.ValidationActions, admissionv1.Deny)
		})
		if !denies || p.Spec.MatchConstraints == nil {
			continue
		}
		var rules []admissionv1.RuleWithOperations
		for _, r := range p.Spec.MatchConstraints.ResourceRules {
			rules = append(rules, r.RuleWithOperations)
		}
		f.Webhooks = append(f.Webhooks, preflight.Webhook{Name: "ValidatingAdmissionPolicy " + p.Name, Rules: ofUpdates(rules)})
	}
	return nil
}

// ofUpdates are the rules about what is changed.
func ofUpdates(rules []admissionv1.RuleWithOperations) (out []preflight.WebhookRule) {
	for _, r := range rules {
		if slices.Contains(r.Operations, admissionv1.Update) || slices.Contains(r.Operations, admissionv1.OperationAll) {
			out = append(out, preflight.WebhookRule{Groups: r.APIGroups, Resources: r.Resources})
		}
	}
	return out
}

// rights asks for those of whoever asks, and for the manager's.
func (a *asker) rights(ctx context.Context, f *preflight.Facts) (err error) {
	f.OwnLack, err = lacking(preflight.OwnRights(a.namespace), func(r preflight.Right) (authorizationv1.SubjectAccessReviewStatus, error) {
		review := &authorizationv1.SelfSubjectAccessReview{Spec: authorizationv1.SelfSubjectAccessReviewSpec{ResourceAttributes: attributes(r)}}
		err := a.kube.Create(ctx, review)
		return review.Status, err
	})
	if err != nil {
		return fmt.Errorf("asking the API server for your rights: %w", err)
	}
	account := deploymentName
	if len(f.Managers) > 0 {
		account = f.Managers[0].ServiceAccount
	}
	needed := preflight.ManagerRights(a.namespace)
	if slices.ContainsFunc(f.Objects.Balancers, func(b *v1alpha1.Balancer) bool { return b.Spec.ToPods() }) {
		needed = append(needed, preflight.PodRights()...)
	}
	f.ManagerLack, err = lacking(needed, func(r preflight.Right) (authorizationv1.SubjectAccessReviewStatus, error) {
		review := &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{
			ResourceAttributes: attributes(r), User: "system:serviceaccount:" + a.namespace + ":" + account,
			Groups: []string{"system:serviceaccounts", "system:serviceaccounts:" + a.namespace, "system:authenticated"},
		}}
		err := a.kube.Create(ctx, review)
		return review.Status, err
	})
	if apierrors.IsForbidden(err) {
		f.Unread[preflight.Reviews], err = "you may not create "+preflight.Reviews, nil
	}
	if err != nil {
		return fmt.Errorf("asking the API server for the manager's rights: %w", err)
	}
	return nil
}

func attributes(r preflight.Right) *authorizationv1.ResourceAttributes {
	return &authorizationv1.ResourceAttributes{Group: r.Group, Resource: r.Resource, Subresource: r.Subresource, Verb: r.Verb, Namespace: r.Namespace}
}

// atOnce is how many rights are asked for at a time.
const atOnce = 8

// lacking are those of some rights that somebody does not have.
func lacking(rights []preflight.Right, ask func(preflight.Right) (authorizationv1.SubjectAccessReviewStatus, error)) ([]preflight.Right, error) {
	allowed, errs := make([]bool, len(rights)), make([]error, len(rights))
	var asking sync.WaitGroup
	places := make(chan struct{}, atOnce)
	for i, r := range rights {
		places <- struct{}{}
		asking.Go(func() {
			defer func() { <-places }()
			var answer authorizationv1.SubjectAccessReviewStatus
			answer, errs[i] = ask(r)
			allowed[i] = answer.Allowed
		})
	}
	asking.Wait()
	var lack []preflight.Right
	for i, r := range rights {
		if errs[i] != nil {
			return nil, errs[i]
		}
		if !allowed[i] {
			lack = append(lack, r)
		}
	}
	return lack, nil
}
