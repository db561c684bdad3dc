package record

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/external-lb/external-lb/api/v1alpha1"
)

// Metadata is a JSON object of a strategic merge patch.
type Metadata = map[string]any

// Patch is what a strategic merge patch of a Service's status writes, which takes
// metadata, too.
type Patch struct {
	Metadata  Metadata
	Condition metav1.Condition // not dated
}

// former annotations were the record of versions that nobody released.
var former = []string{"external-lb.dev/held-by", "external-lb.dev/held-addresses", "external-lb.dev/carried-by"}

// Patch writes a record down on a Service; nil where it is there already. It is sent
// before anything is programmed.
func (r Record) Patch(svc *corev1.Service) *Patch {
	p := &Patch{Metadata: Metadata{}, Condition: r.condition(svc)}
	was := meta.FindStatusCondition(svc.Status.Conditions, v1alpha1.ConditionRecord)
	same := was != nil && was.Status == p.Condition.Status && was.Message == p.Condition.Message
	if all := finalizers(svc); slices.ContainsFunc(all, func(f string) bool { return !slices.Contains(svc.Finalizers, f) }) {
		p.Metadata["finalizers"] = all
	} else if same {
		return nil
	}
	if gone := without(svc, former...); gone != nil {
		p.Metadata["annotations"] = gone
	}
	if len(r.Holders) > 1 || len(Holders(svc)) > 1 {
		// Several Balancers write it: the patch fails if the Service was changed since it was read.
		p.Metadata["resourceVersion"] = svc.ResourceVersion
	}
	return p
}

// ReleasePatch is the metadata that ends our part in a Service, beside the record. The
// shared finalizer of a live Service of another class is its provider's by now, and that
// of one that was never held is not ours.
func ReleasePatch(svc *corev1.Service, othersClass bool) Metadata {
	ours := []string{v1alpha1.CleanupFinalizer}
	if !othersClass && Marked(svc) {
		ours = append(ours, v1alpha1.SharedFinalizer)
	}
	present := slices.DeleteFunc(ours, func(f string) bool { return !slices.Contains(svc.Finalizers, f) })
	patch := Metadata{}
	if len(present) > 0 {
		patch["$deleteFromPrimitiveList/finalizers"] = present
	}
	if gone := without(svc, slices.Concat(former, []string{v1alpha1.AssignedAddressesAnnotation})...); gone != nil {
		patch["annotations"] = gone
	}
	return patch
}

// without are annotations as a patch removes them, nil if the Service has none of them.
func without(svc *corev1.Service, annotations ...string) (gone Metadata) {
	for _, key := range annotations {
		if _, there := svc.Annotations[key]; there {
			if gone == nil {
				gone = Metadata{}
			}
			gone[key] = nil
		}
	}
	return gone
}

// finalizers that a held Service has.
func finalizers(svc *corev1.Service) []string {
	if svc.Spec.Type == corev1.ServiceTypeLoadBalancer {
		return []string{v1alpha1.CleanupFinalizer, v1alpha1.SharedFinalizer}
	}
	return []string{v1alpha1.CleanupFinalizer}
}

// Write returns a Service as it is once a record is written on it.
func (r Record) Write(svc *corev1.Service) *corev1.Service {
	svc = svc.DeepCopy()
	for _, f := range finalizers(svc) {
		if !slices.Contains(svc.Finalizers, f) {
			svc.Finalizers = append(svc.Finalizers, f)
		}
	}
	for _, key := range former {
		delete(svc.Annotations, key)
	}
	others := slices.DeleteFunc(svc.Status.Conditions, func(c metav1.Condition) bool { return c.Type == v1alpha1.ConditionRecord })
	svc.Status.Conditions = append(others, r.condition(svc))
	return svc
}
