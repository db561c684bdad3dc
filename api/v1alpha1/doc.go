// Package v1alpha1 holds the kinds that an operator writes: Balancer (the
// external machines), AddressPool (the addresses) and UpstreamPolicy (the
// tuning of one Service's upstreams), with the condition types, reasons,
// annotations and finalizers that external-lb puts on objects. It has no logic.
//
// +kubebuilder:object:generate=true
// +groupName=external-lb.dev
package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// GroupVersion is the group and version of every kind in this package.
var GroupVersion = schema.GroupVersion{Group: "external-lb.dev", Version: "v1alpha1"}

// SchemeBuilder collects the functions that add this package to a scheme.
var SchemeBuilder = runtime.NewSchemeBuilder(addKnownTypes)

// AddToScheme adds the kinds of this package to a scheme.
var AddToScheme = SchemeBuilder.AddToScheme

func addKnownTypes(scheme *runtime.Scheme) error {
	scheme.AddKnownTypes(GroupVersion,
		&Balancer{}, &BalancerList{},
		&AddressPool{}, &AddressPoolList{},
		&UpstreamPolicy{}, &UpstreamPolicyList{},
	)
	metav1.AddToGroupVersion(scheme, GroupVersion)
	return nil
}
