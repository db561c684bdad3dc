package controllers

import (
	"encoding/json"
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/lb"
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
	slice.Endpoints[0].TargetRef = &corev1.ObjectReference{Kind: "Pod", Namespace: "default", Name: "pod"}
	labels, want := slice.Labels, slice.Endpoints[0].DeepCopy()
	slice.Endpoints[0].TargetRef.UID, slice.Endpoints[0].Zone = "uid", new("zone")
	if _, err := stripped(slice); err != nil {
		t.Fatal(err)
	}
	if slice.Labels[discoveryv1.LabelServiceName] != labels[discoveryv1.LabelServiceName] || !equality.Semantic.DeepEqual(slice.Endpoints[0], *want) {
		t.Errorf("of the EndpointSlice, there is %+v", slice)
	}
	for range 20_000 {
		slice.Ports = append(slice.Ports, discoveryv1.EndpointPort{})
	}
	if _, err := stripped(slice); err != nil || len(slice.Ports) != lb.MaxFrontends || cap(slice.Ports) > 2*lb.MaxFrontends {
		t.Errorf("of its ports, there are %d (%d), %v", len(slice.Ports), cap(slice.Ports), err)
	}
	if _, err := stripped(toolscache.DeletedFinalStateUnknown{Obj: slice}); err != nil {
		t.Fatal(err)
	}
}

// Of a Service, also as the API server answers it to a write, there are the annotations of which
// something is made, and not what others keep in theirs.
func TestCacheKeepsAnnotationsThatAreRead(t *testing.T) {
	read := []string{v1alpha1.AddressesAnnotation, v1alpha1.AddressPoolAnnotation, v1alpha1.BalancerAnnotation, v1alpha1.FlavorAnnotation, v1alpha1.CertificateAnnotation, v1alpha1.AssignedAddressesAnnotation,
		v1alpha1.SourceRangesAnnotation, "metallb.io/loadBalancerIPs", "metallb.universe.tf/address-pool", "metallb.io/allow-shared-ip", "external-lb.dev/held-by"}
	full := builder.Service("default", "web").Annotate(corev1.LastAppliedConfigAnnotation, "large").Annotate("example.com/owner", "x")
	want := builder.Service("default", "web")
	for _, name := range read {
		full, want = full.Annotate(name, "y"), want.Annotate(name, "y")
	}
	svc := full.Obj()
	strip(svc)
	if diff := cmp.Diff(want.Obj().Annotations, svc.Annotations); diff != "" {
		t.Errorf("(-read +kept):\n%s", diff)
	}
	pool := builder.AddressPool("public", "192.0.2.0/28").Obj()
	pool.Annotations = map[string]string{corev1.LastAppliedConfigAnnotation: "large"}
	if strip(pool); pool.Annotations != nil {
		t.Errorf("of the pool, there is still %v", pool.Annotations)
	}
}

// asRead is an object as it comes from the API server: nothing of it is shared with another.
func asRead[T client.Object](tb testing.TB, obj, into T) T {
	data, err := json.Marshal(obj)
	if err == nil {
		err = json.Unmarshal(data, into)
	}
	if err != nil {
		tb.Fatal(err)
	}
	return into
}

// BenchmarkCache is the memory that the cache takes of a large cluster, as it comes and as it is kept.
func BenchmarkCache(b *testing.B) {
	const services, nodes, endpoints = 5000, 1000, 10
	fields := strings.Repeat(`{"f:metadata":{"f:labels":{"f:app":{}}}}`, 50)
	managed := []metav1.ManagedFieldsEntry{{Manager: "kubelet", Operation: metav1.ManagedFieldsOperationUpdate, FieldsType: fields}}
	node := func(i int) client.Object {
		n := builder.Node(fmt.Sprintf("node-%d.cluster.example", i)).IP(fmt.Sprintf("172.16.%d.%d", i/250, i%250+1)).Obj()
		for image := range 50 {
			name := fmt.Sprintf("registry.example/some/where/image-%d@sha256:%064x", image, image)
			n.Status.Images = append(n.Status.Images, corev1.ContainerImage{Names: []string{name, name + ":tag"}, SizeBytes: 1})
		}
		n.ManagedFields = managed
		return asRead(b, n, &corev1.Node{})
	}
	service := func(i int) client.Object {
		svc := builder.Service("default", fmt.Sprintf("service-%d", i)).PortOf(corev1.ProtocolTCP, 80, int32(30000+i%2000)).
			Annotate(corev1.LastAppliedConfigAnnotation, fields[:1000]).Obj()
		svc.ManagedFields = managed
		return asRead(b, svc, &corev1.Service{})
	}
	slice := func(i int) client.Object {
		s := builder.EndpointSlice("default", fmt.Sprintf("service-%d", i), discoveryv1.AddressTypeIPv4).Obj()
		for e := range endpoints {
			pod := &corev1.ObjectReference{Kind: "Pod", Namespace: "default", Name: fmt.Sprintf("pod-%d-%d", i, e), UID: types.UID(fmt.Sprintf("%036d", i))}
			s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{
				Addresses: []string{fmt.Sprintf("10.%d.%d.%d", i/256, i%256, e)}, NodeName: new(fmt.Sprintf("node-%d.cluster.example", (i+e)%nodes)), TargetRef: pod,
				Conditions: discoveryv1.EndpointConditions{Ready: new(true), Serving: new(true), Terminating: new(false)},
			})
		}
		s.ManagedFields = managed
		return asRead(b, s, &discoveryv1.EndpointSlice{})
	}
	for _, kept := range []bool{false, true} {
		for _, kind := range []struct {
			name string
			of   func(int) client.Object
			n    int
		}{{"Nodes", node, nodes}, {"Services", service, services}, {"EndpointSlices", slice, services}} {
			b.Run(fmt.Sprintf("%s/stripped=%t", kind.name, kept), func(b *testing.B) {
				for b.Loop() {
					before := heap()
					all := make([]client.Object, kind.n)
					for i := range all {
						if all[i] = kind.of(i); kept {
							strip(all[i])
						}
					}
					b.ReportMetric(float64(heap()-before)/(1<<20), "MB")
					runtime.KeepAlive(all)
				}
			})
		}
	}
}

// heap in use, in bytes.
func heap() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
