package controllers

import (
	"maps"
	"slices"
	"unique"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/lb"
	"github.com/external-lb/external-lb/internal/translate"
)

// stripped keeps of an object in the cache what somebody reads: who wrote which field is not.
func stripped(obj any) (any, error) {
	if o, ok := obj.(client.Object); ok { // else it is a tombstone
		strip(o)
	}
	return obj, nil
}

// strip an object that nobody has seen yet: one of the cache, or what the API server answered to
// a write, which is kept in its place for a while.
func strip(obj client.Object) {
	obj.SetManagedFields(nil)
	switch o := obj.(type) {
	case *corev1.Service:
		keepAnnotations(o, translate.ReadsAnnotation)
		o.OwnerReferences = nil
	case *corev1.Node:
		stripNode(o)
	case *discoveryv1.EndpointSlice:
		stripSlice(o)
	case *corev1.Namespace:
		keepAnnotations(o, nothing)
	case *v1alpha1.Balancer, *v1alpha1.AddressPool, *v1alpha1.UpstreamPolicy:
		keepAnnotations(o, nothing)
	}
}

func nothing(string) bool { return false }

// stripNode takes out what kubelets say for others, such as the images that a node has.
func stripNode(n *corev1.Node) {
	keepAnnotations(n, func(name string) bool { return name == v1alpha1.WeightAnnotation })
	n.OwnerReferences, n.Finalizers = nil, nil
	n.Spec = corev1.NodeSpec{Taints: n.Spec.Taints, Unschedulable: n.Spec.Unschedulable}
	ready := slices.DeleteFunc(n.Status.Conditions, func(c corev1.NodeCondition) bool { return c.Type != corev1.NodeReady })
	n.Status = corev1.NodeStatus{Addresses: n.Status.Addresses, Conditions: slices.Clone(ready)}
}

// stripSlice takes out what is not read: that is where pods are and which, at which ports
// they answer, and whether they do. Thousands of slices name the same nodes, in the same few
// conditions.
func stripSlice(s *discoveryv1.EndpointSlice) {
	keepAnnotations(s, nothing)
	s.OwnerReferences = nil
	if len(s.Ports) > lb.MaxFrontends {
		s.Ports = slices.Clone(s.Ports[:lb.MaxFrontends]) // a Service with more is not carried, and a slice may have 20,000
	}
	for i := range s.Ports {
		s.Ports[i].AppProtocol = nil
	}
	if name, named := s.Labels[discoveryv1.LabelServiceName]; named {
		s.Labels = map[string]string{discoveryv1.LabelServiceName: name}
	}
	for i := range s.Endpoints {
		e := &s.Endpoints[i]
		if e.TargetRef != nil {
			e.TargetRef = &corev1.ObjectReference{Kind: e.TargetRef.Kind, Namespace: e.TargetRef.Namespace, Name: e.TargetRef.Name}
		}
		s.Endpoints[i] = discoveryv1.Endpoint{
			Addresses: e.Addresses, Conditions: sharedConditions(e.Conditions), NodeName: sharedName(e.NodeName), TargetRef: e.TargetRef,
		}
	}
	s.Endpoints = slices.Clone(s.Endpoints) // without room for more
}

// keepAnnotations that are read.
func keepAnnotations(obj client.Object, read func(name string) bool) {
	all := obj.GetAnnotations()
	maps.DeleteFunc(all, func(name, _ string) bool { return !read(name) })
	obj.SetAnnotations(maps.Clone(all)) // without room for those that are gone
	if len(all) == 0 {
		obj.SetAnnotations(nil)
	}
}

func sharedConditions(c discoveryv1.EndpointConditions) discoveryv1.EndpointConditions {
	return discoveryv1.EndpointConditions{Ready: sharedBool(c.Ready), Serving: sharedBool(c.Serving), Terminating: sharedBool(c.Terminating)}
}

var yes, no = true, false

func sharedBool(b *bool) *bool {
	switch {
	case b == nil:
		return nil
	case *b:
		return &yes
	}
	return &no
}

// sharedName is a copy that shares its text with all that name the same node.
func sharedName(name *string) *string {
	if name == nil {
		return nil
	}
	return new(unique.Make(*name).Value())
}
