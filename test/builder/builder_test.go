package builder

import (
	"testing"

	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestEveryKindHasItsMetadata(t *testing.T) {
	hasMetadata(t, Service("default", "web").object)
	hasMetadata(t, EndpointSlice("default", "web", discoveryv1.AddressTypeIPv4).object)
	hasMetadata(t, Node("web").object)
	hasMetadata(t, Balancer("web").object)
	hasMetadata(t, AddressPool("web").object)
	hasMetadata(t, UpstreamPolicy("default", "web").object)
}

func hasMetadata[T, B any](t *testing.T, o object[T, B]) {
	t.Helper()
	o.Label("a", "b")
	is := any(o.Obj()).(metav1.Object)
	if is.GetName() != "web" || is.GetUID() != "web-uid" || is.GetResourceVersion() != "1" || is.GetLabels()["a"] != "b" {
		t.Errorf("stored: %+v", is)
	}
	is = any(o.Manifest()).(metav1.Object)
	if created := is.GetCreationTimestamp(); is.GetName() != "web" || is.GetUID() != "" || is.GetResourceVersion() != "" || !created.IsZero() {
		t.Errorf("manifest: %+v", is)
	}
}

func TestWhatHasAnAgeIsOlder(t *testing.T) {
	older, younger := Node("a").Age(2).Obj(), Node("b").Age(1).Obj()
	if now := Node("c").Obj(); !older.CreationTimestamp.Before(&younger.CreationTimestamp) ||
		!younger.CreationTimestamp.Before(&now.CreationTimestamp) {
		t.Errorf("created at %s, %s and %s", older.CreationTimestamp, younger.CreationTimestamp, now.CreationTimestamp)
	}
}
