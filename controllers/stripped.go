package controllers

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/external-lb/external-lb/api/v1alpha1"
)

// stripped keeps of an object in the cache what somebody reads: who wrote which field is not.
func stripped(obj any) (any, error) {
	if accessor, err := meta.Accessor(obj); err == nil {
		accessor.SetManagedFields(nil)
	}
	switch o := obj.(type) {
	case *corev1.Node:
		stripNode(o)
	case *discoveryv1.EndpointSlice:
		stripSlice(o)
	}
	return obj, nil
}

// stripNode takes out what kubelets say for others, such as the images that a node has.
func stripNode(n *corev1.Node) {
	keepAnnotations(n, v1alpha1.WeightAnnotation)
	n.OwnerReferences = nil
	n.Spec = corev1.NodeSpec{Taints: n.Spec.Taints, Unschedulable: n.Spec.Unschedulable}
	ready := slices.DeleteFunc(n.Status.Conditions, func(c corev1.NodeCondition) bool { return c.Type != corev1.NodeReady })
	n.Status = corev1.NodeStatus{Addresses: n.Status.Addresses, Conditions: slices.Clone(ready)}
}

// stripSlice takes out which pods there are: only where they are, and whether they answer,
// is read.
func stripSlice(s *discoveryv1.EndpointSlice) {
	keepAnnotations(s)
	s.OwnerReferences, s.Ports = nil, nil
	if name, named := s.Labels[discoveryv1.LabelServiceName]; named {
		s.Labels = map[string]string{discoveryv1.LabelServiceName: name}
	}
	for i := range s.Endpoints {
		e := &s.Endpoints[i]
		s.Endpoints[i] = discoveryv1.Endpoint{Addresses: e.Addresses, Conditions: e.Conditions, NodeName: e.NodeName}
	}
}

func keepAnnotations(obj client.Object, names ...string) {
	kept := metav1.ObjectMeta{}
	for _, name := range names {
		if value, there := obj.GetAnnotations()[name]; there {
			metav1.SetMetaDataAnnotation(&kept, name, value)
		}
	}
	obj.SetAnnotations(kept.Annotations)
}
