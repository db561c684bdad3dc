package record

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/external-lb/external-lb/api/v1alpha1"
)

// Metadata is a JSON object of a strategic merge patch.
type Metadata = map[string]any

// Patch is the metadata that writes a record down on a Service, nil where it is
// there already. It is sent before anything is programmed.
func (r Record) Patch(svc *corev1.Service) Metadata {
	all := finalizers(svc)
	same := !slices.ContainsFunc(all, func(f string) bool { return !slices.Contains(svc.Finalizers, f) })
	annotations := r.annotations()
	for key, value := range annotations {
		was, there := svc.Annotations[key]
		same = same && there == (value != nil) && (!there || was == *value)
	}
	if same {
		return nil
	}
	patch := Metadata{"finalizers": all, "annotations": annotations}
	if len(r.Holders) > 1 || len(Holders(svc)) > 1 {
		// Several Balancers write it: the patch fails if the Service was changed since it was read.
		patch["resourceVersion"] = svc.ResourceVersion
	}
	return patch
}

// ReleasePatch is the metadata that ends our part in a Service. The shared
// finalizer of a live Service of another class is its provider's by now.
func ReleasePatch(svc *corev1.Service, othersClass bool) Metadata {
	ours := []string{v1alpha1.CleanupFinalizer}
	if !othersClass {
		ours = append(ours, v1alpha1.SharedFinalizer)
	}
	present := slices.DeleteFunc(ours, func(f string) bool { return !slices.Contains(svc.Finalizers, f) })
	return Metadata{
		"$deleteFromPrimitiveList/finalizers": present,
		"annotations": Metadata{
			v1alpha1.HeldByAnnotation:            nil,
			v1alpha1.HeldAddressesAnnotation:     nil,
			v1alpha1.CarriedByAnnotation:         nil,
			v1alpha1.AssignedAddressesAnnotation: nil,
		},
	}
}

// finalizers that a held Service has.
func finalizers(svc *corev1.Service) []string {
	if svc.Spec.Type == corev1.ServiceTypeLoadBalancer {
		return []string{v1alpha1.CleanupFinalizer, v1alpha1.SharedFinalizer}
	}
	return []string{v1alpha1.CleanupFinalizer}
}

// annotations are a record as it is written; nil: not there.
func (r Record) annotations() map[string]*string {
	annotations := map[string]*string{
		v1alpha1.HeldByAnnotation:        new(strings.Join(r.Holders, ",")),
		v1alpha1.HeldAddressesAnnotation: new(FormatAddresses(r.Addresses)),
		v1alpha1.CarriedByAnnotation:     nil,
	}
	if len(r.Holders) > 0 && r.Carrier != r.Holders[0] {
		annotations[v1alpha1.CarriedByAnnotation] = new(r.Carrier)
	}
	return annotations
}
