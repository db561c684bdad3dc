package chaos

import (
	"context"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/test/builder"
	"github.com/external-lb/external-lb/test/wait"
)

// stranger is a namespace whose users are up to no good, and the label of their pod.
const stranger = "hostile"

// never is a finalizer that nobody takes away.
const never = "example.com/never"

// attacks make objects that the API server takes and that must cost nobody else anything.
// The address is one that an app has, or may have.
var attacks = []func(name, address string) client.Object{
	func(name, address string) client.Object { // asks for what somebody else has
		return theirs(name, 80).Annotate(v1alpha1.AddressesAnnotation, address).Manifest()
	},
	func(name, address string) client.Object { // forges the record
		return theirs(name, 80).Annotate(v1alpha1.AssignedAddressesAnnotation, address).With(func(svc *corev1.Service) {
			svc.Finalizers = []string{v1alpha1.CleanupFinalizer, v1alpha1.SharedFinalizer}
		}).Manifest()
	},
	func(name, _ string) client.Object { // as many ports as there may be
		svc := theirs(name, 80)
		for port := range int32(99) {
			svc.PortOf(corev1.ProtocolTCP, 10000+port, 0)
		}
		return svc.Manifest()
	},
	func(name, _ string) client.Object { // many ranges, some of them twice or of the other family
		ranges := []string{"0.0.0.0/0", "::/0", " 10.0.0.0/24", "10.0.0.0/8 "}
		for i := range 500 {
			ranges = append(ranges, fmt.Sprintf("10.%d.%d.0/24", i/250, i%250))
		}
		return theirs(name, 80).Annotate(v1alpha1.SourceRangesAnnotation, strings.Join(ranges, ",")).Manifest()
	},
	func(name, _ string) client.Object { // annotations with the words of configurations
		return theirs(name, 80).Annotate(v1alpha1.AddressPoolAnnotation, "public;\n} stream {").
			Annotate(v1alpha1.BalancerAnnotation, "edge\n\tbind *:22").Manifest()
	},
	func(name, address string) client.Object { // wants it as its own
		return theirs(name, 80).With(func(svc *corev1.Service) { svc.Spec.ExternalIPs = []string{address} }).Manifest()
	},
	func(name, _ string) client.Object { // large
		return theirs(strings.Repeat("x", 62-len(name))+"-"+name, 80).Annotate("example.com/note", strings.Repeat("x", 200<<10)).Manifest()
	},
	func(name, _ string) client.Object { // never goes by itself
		return theirs(name, 80).With(func(svc *corev1.Service) { svc.Finalizers = []string{never} }).Manifest()
	},
	func(name, address string) client.Object { // exposed by its annotation
		return theirs(name, 80).Annotate(v1alpha1.BalancerAnnotation, "edge").Annotate(v1alpha1.AssignedAddressesAnnotation, address).
			With(func(svc *corev1.Service) {
				svc.Spec.Type, svc.Spec.LoadBalancerClass = corev1.ServiceTypeNodePort, nil
			}).Manifest()
	},
	func(name, _ string) client.Object { // a node with an address that none has
		return builder.Node(name).Manifest()
	},
	func(name, _ string) client.Object { // settings at their bounds
		return builder.UpstreamPolicy(stranger, name).For(name).Algorithm(v1alpha1.LeastConnections).Retries(10).Idle("1s").Manifest()
	},
	func(name, _ string) client.Object { // as many checks as there may be, that nobody can pass
		return builder.UpstreamPolicy(stranger, name).For(name).Set(func(s *v1alpha1.UpstreamSettings) {
			s.HealthCheck = &v1alpha1.HealthCheck{Interval: "100ms", Timeout: "1ms", Fall: new(int32(1)), Rise: new(int32(100))}
		}).Manifest()
	},
}

// refused are objects that the API server does not take: the kinds say what they may be.
var refused = []func(name string) client.Object{
	func(name string) client.Object { // a thousand checks a second
		return builder.UpstreamPolicy(stranger, name).For(name).Set(func(s *v1alpha1.UpstreamSettings) {
			s.HealthCheck = &v1alpha1.HealthCheck{Interval: "1ms"}
		}).Manifest()
	},
	func(name string) client.Object { // a node that never fails
		return builder.UpstreamPolicy(stranger, name).For(name).Set(func(s *v1alpha1.UpstreamSettings) {
			s.HealthCheck = &v1alpha1.HealthCheck{Fall: new(int32(0))}
		}).Manifest()
	},
	func(name string) client.Object { // a selector that cannot be read
		return builder.Balancer(name).With(func(b *v1alpha1.Balancer) {
			b.Spec.Nodes.Selector.MatchExpressions = []v1alpha1.LabelSelectorRequirement{{Key: "edge", Operator: "in", Values: []v1alpha1.LabelValue{"yes"}}}
		}).Manifest()
	},
}

// notOfNodes are addresses that no node has.
var notOfNodes = []string{"127.0.0.1", "169.254.169.254", "224.0.0.1", "203.0.113.1", "::1"}

// theirs begins a Service of a stranger.
func theirs(name string, port int32) *builder.ServiceBuilder {
	return builder.Service(stranger, name).Class("external-lb.dev/edge").App(stranger).PortOf(corev1.ProtocolTCP, port, 0).
		With(func(svc *corev1.Service) { svc.Spec.Ports[0].TargetPort = intstr.FromInt(8080) })
}

// attack with one of them. Some are deleted at once, while they are on their way to the hosts.
func (w *world) attack(ctx context.Context, n int) error {
	name := fmt.Sprintf("evil-%d", n)
	which := n % (len(attacks) + len(refused))
	if which >= len(attacks) {
		if err := w.Kube.Create(ctx, refused[which-len(attacks)](name)); !apierrors.IsInvalid(err) {
			return fmt.Errorf("the API server is to refuse %s: %w", name, err)
		}
		return nil
	}
	obj := attacks[which](name, fmt.Sprintf("203.0.113.%d", n%8))
	if err := w.Kube.Create(ctx, obj); err != nil && !apierrors.IsAlreadyExists(err) {
		return err
	}
	if node, is := obj.(*corev1.Node); is {
		node.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: notOfNodes[n%len(notOfNodes)]}}
		if err := w.Kube.Status().Update(ctx, node); err != nil && !apierrors.IsConflict(err) {
			return err
		}
	}
	if n%3 == 0 {
		return client.IgnoreNotFound(w.Kube.Delete(ctx, obj))
	}
	return nil
}

// sweep away what strangers have made.
func (w *world) sweep(ctx context.Context) error {
	return wait.Until(ctx, func(ctx context.Context) error {
		var services corev1.ServiceList
		var nodes corev1.NodeList
		var policies v1alpha1.UpstreamPolicyList
		var secrets corev1.SecretList
		for _, list := range []client.ObjectList{&services, &nodes, &policies, &secrets} {
			if err := w.Kube.List(ctx, list); err != nil {
				return err
			}
		}
		var evil []client.Object
		for i := range services.Items {
			evil = append(evil, &services.Items[i])
		}
		for i := range nodes.Items {
			evil = append(evil, &nodes.Items[i])
		}
		for i := range policies.Items {
			evil = append(evil, &policies.Items[i])
		}
		for i := range secrets.Items {
			evil = append(evil, &secrets.Items[i])
		}
		var left []string
		for _, obj := range evil {
			if !strings.Contains(obj.GetName(), "evil-") {
				continue
			}
			left = append(left, obj.GetName())
			if err := w.banish(ctx, obj); err != nil {
				return err
			}
		}
		if len(left) > 0 {
			return fmt.Errorf("strangers' objects are still there: %q", left)
		}
		return nil
	})
}

// banish deletes an object, and takes the finalizer that never goes away.
func (w *world) banish(ctx context.Context, obj client.Object) error {
	if obj.GetDeletionTimestamp().IsZero() {
		return client.IgnoreNotFound(w.Kube.Delete(ctx, obj))
	}
	finalizers := slices.DeleteFunc(slices.Clone(obj.GetFinalizers()), func(f string) bool { return f == never })
	if len(finalizers) == len(obj.GetFinalizers()) {
		return nil
	}
	obj.SetFinalizers(finalizers)
	return client.IgnoreNotFound(w.Kube.Update(ctx, obj))
}
