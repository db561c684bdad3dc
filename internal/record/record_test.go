package record

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/strategicpatch"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/test/builder"
)

func service(annotations map[string]string, finalizers ...string) *corev1.Service {
	return builder.Service("default", "web").With(func(svc *corev1.Service) {
		svc.ResourceVersion, svc.Annotations, svc.Finalizers = "7", annotations, finalizers
	}).Obj()
}

func addresses(texts ...string) (out []netip.Addr) {
	for _, text := range texts {
		out = append(out, netip.MustParseAddr(text))
	}
	return out
}

// patched is a Service as an API server leaves it.
func patched(t *testing.T, svc *corev1.Service, metadata Metadata) *corev1.Service {
	t.Helper()
	before, err := json.Marshal(svc)
	if err != nil {
		t.Fatal(err)
	}
	patch, err := json.Marshal(Metadata{"metadata": metadata})
	if err != nil {
		t.Fatal(err)
	}
	after, err := strategicpatch.StrategicMergePatch(before, patch, corev1.Service{})
	if err != nil {
		t.Fatal(err)
	}
	out := &corev1.Service{}
	if err := json.Unmarshal(after, out); err != nil {
		t.Fatal(err)
	}
	return out
}

func TestWhatIsWrittenIsRead(t *testing.T) {
	others := map[string]string{"example.com/theirs": "stays"}
	for name, r := range map[string]Record{
		"one holder":    {[]string{"edge"}, "edge", addresses("192.0.2.1", "2001:db8::1")},
		"on its way":    {[]string{"edge", "next"}, "edge", addresses("192.0.2.1")},
		"taken over":    {[]string{"edge", "next"}, "next", addresses("192.0.2.1", "192.0.2.2")},
		"three of them": {[]string{"a", "b", "c"}, "b", addresses("2001:db8::1")},
	} {
		before := service(others, "example.com/hold")
		after := patched(t, before, r.Patch(before))
		got := Record{Holders(after), Carrier(Holders(after), after), Addresses(after)}
		if fmt.Sprint(got) != fmt.Sprint(r) {
			t.Errorf("%s: read %v, wrote %v", name, got, r)
		}
		if after.Annotations["example.com/theirs"] != "stays" || !slices.Contains(after.Finalizers, "example.com/hold") {
			t.Errorf("%s: what is others' is gone: %v %v", name, after.Annotations, after.Finalizers)
		}
		if r.Patch(after) != nil {
			t.Errorf("%s: it is written again", name)
		}
		if written := r.Write(before); r.Patch(written) != nil || Held(before) {
			t.Errorf("%s: Write leaves %v, and its argument %v", name, written.ObjectMeta, before.ObjectMeta)
		}
		released := patched(t, after, ReleasePatch(after, false))
		if Held(released) || len(released.Annotations) != 1 || len(released.Finalizers) != 1 {
			t.Errorf("%s: released, it has %v %v", name, released.Annotations, released.Finalizers)
		}
	}
}

// Several Balancers write the record of a Service that moves: none over another's.
func TestSeveralHoldersWriteUnderALock(t *testing.T) {
	one := Record{Holders: []string{"edge"}, Carrier: "edge"}
	both := Record{Holders: []string{"edge", "next"}, Carrier: "edge"}
	for name, c := range map[string]struct {
		svc    *corev1.Service
		r      Record
		locked bool
	}{
		"first":       {service(nil), one, false},
		"joined":      {one.Write(service(nil)), both, true},
		"left":        {both.Write(service(nil)), one, true},
		"new address": {one.Write(service(nil)), Record{one.Holders, "edge", addresses("192.0.2.1")}, false},
	} {
		if version, locked := c.r.Patch(c.svc)["resourceVersion"]; locked != c.locked || locked && version != "7" {
			t.Errorf("%s: under a lock: %t, want %t", name, locked, c.locked)
		}
	}
}

// A provider of another class has the shared finalizer by now.
func TestTheSharedFinalizerOfAnotherClassStays(t *testing.T) {
	svc := service(nil, v1alpha1.CleanupFinalizer, v1alpha1.SharedFinalizer)
	if left := patched(t, svc, ReleasePatch(svc, true)).Finalizers; !slices.Equal(left, []string{v1alpha1.SharedFinalizer}) {
		t.Errorf("left %v", left)
	}
}

// Users can write a record, too.
func TestForgedRecordsAreBounded(t *testing.T) {
	names, list := make([]string, 10_000), make([]string, 10_000)
	for i := range names {
		names[i], list[i] = fmt.Sprintf("b%d", i), fmt.Sprintf("10.0.%d.%d", i/250, i%250)
	}
	svc := service(map[string]string{
		v1alpha1.HeldByAnnotation: strings.Join(names, " , "), v1alpha1.CarriedByAnnotation: "b9999",
		v1alpha1.HeldAddressesAnnotation: "x,fe80::1%eth0," + strings.Join(list, ","),
	}, v1alpha1.CleanupFinalizer)
	if got := Holders(svc); len(got) != maxHolders || Carrier(got, svc) != "b0" {
		t.Errorf("holders %v", got)
	}
	if got := Addresses(svc); len(got) != maxAddresses || got[0].String() != "10.0.0.0" {
		t.Errorf("%d addresses", len(got))
	}
	svc.Finalizers = nil
	if Held(svc) || Holders(svc) != nil || Addresses(svc) != nil || Occupied(svc) != nil {
		t.Error("without our finalizer, it says something")
	}
}
