package controllers

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/translate"
	"github.com/external-lb/external-lb/test/builder"
)

// The cache has what plans are made of, and not what is large and nobody reads.
func TestCacheKeepsWhatIsRead(t *testing.T) {
	full := builder.Node("n").IP("10.0.0.1").Cordoned().NotReady().Taint("a").Label("role", "edge").
		Annotate(v1alpha1.WeightAnnotation, "7").Annotate("large", "x").Obj()
	full.Status.Conditions = append(full.Status.Conditions, corev1.NodeCondition{Type: corev1.NodeDiskPressure})
	full.Status.Images = []corev1.ContainerImage{{SizeBytes: 1}}
	full.ManagedFields = []metav1.ManagedFieldsEntry{{Manager: "kubelet"}}
	node := full.DeepCopy()
	if _, err := stripped(node); err != nil {
		t.Fatal(err)
	}
	if !translate.SameNode(full, node) || len(node.Status.Conditions) != 1 || len(node.Spec.Taints) != 1 {
		t.Errorf("of the node, there is %+v", node)
	}
	if node.Status.Images != nil || node.ManagedFields != nil || len(node.Annotations) != 1 {
		t.Errorf("of the node, there is still %+v", node)
	}

	slice := builder.EndpointSlice("default", "web", discoveryv1.AddressTypeIPv4).Ready("n").Obj()
	labels, want := slice.Labels, slice.Endpoints[0].DeepCopy()
	slice.Endpoints[0].TargetRef = &corev1.ObjectReference{Name: "pod"}
	if _, err := stripped(slice); err != nil {
		t.Fatal(err)
	}
	if slice.Labels[discoveryv1.LabelServiceName] != labels[discoveryv1.LabelServiceName] || !equality.Semantic.DeepEqual(slice.Endpoints[0], *want) {
		t.Errorf("of the EndpointSlice, there is %+v", slice)
	}
}
