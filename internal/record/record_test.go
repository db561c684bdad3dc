package record

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/strategicpatch"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/lb"
	"github.com/external-lb/external-lb/test/builder"
)

func service(annotations map[string]string, finalizers ...string) *corev1.Service {
	return builder.Service("default", "web").With(func(svc *corev1.Service) {
		svc.UID, svc.ResourceVersion, svc.Annotations, svc.Finalizers = "uid-web", "7", annotations, finalizers
	}).Obj()
}

func addressList(texts ...string) (out []netip.Addr) {
	for _, text := range texts {
		out = append(out, netip.MustParseAddr(text))
	}
	return out
}

func listenerList(texts ...string) (out []lb.Listener) {
	for _, text := range texts {
		at, protocol, _ := strings.Cut(text, "/")
		l := netip.MustParseAddrPort(at)
		out = append(out, lb.Listener{Address: l.Addr(), Port: l.Port(), Protocol: lb.Protocol(protocol)})
	}
	return out
}

// patched is a Service as an API server leaves it.
func patched(t *testing.T, svc *corev1.Service, metadata Metadata, conditions ...any) *corev1.Service {
	t.Helper()
	before, err := json.Marshal(svc)
	if err != nil {
		t.Fatal(err)
	}
	patch, err := json.Marshal(Metadata{"metadata": metadata, "status": Metadata{"conditions": conditions}})
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

var others = metav1.Condition{Type: "example.com/theirs", Status: metav1.ConditionFalse}

func TestWhatIsWrittenIsRead(t *testing.T) {
	for name, r := range map[string]Record{
		"one holder":    {[]string{"edge"}, "edge", addressList("192.0.2.1", "2001:db8::1"), nil, nil},
		"on its way":    {[]string{"edge", "next"}, "edge", addressList("192.0.2.1"), nil, nil},
		"taken over":    {[]string{"edge", "next"}, "next", addressList("192.0.2.1", "192.0.2.2"), nil, nil},
		"three of them": {[]string{"a", "b", "c"}, "b", addressList("2001:db8::1"), nil, nil},
		"exposed":       {[]string{"edge"}, "edge", addressList("192.0.2.2", "192.0.2.1"), addressList("192.0.2.1"), nil},
		"sharing": {
			[]string{"edge"}, "edge", addressList("192.0.2.1", "2001:db8::1"), nil,
			listenerList("192.0.2.1:53/UDP", "192.0.2.1:80/TCP", "[2001:db8::1]:80/TCP"),
		},
	} {
		before := service(map[string]string{"example.com/theirs": "stays", former[0]: "edge"}, "example.com/hold")
		before.Status.Conditions = []metav1.Condition{others}
		p := r.Patch(before)
		after := patched(t, before, p.Metadata, p.Condition)
		if got := Of(after); fmt.Sprint(got) != fmt.Sprint(r) || !Held(after) || !Marked(after) {
			t.Errorf("%s: read %v, wrote %v", name, got, r)
		}
		if len(after.Annotations) != 1 || !slices.Contains(after.Finalizers, "example.com/hold") || len(after.Status.Conditions) != 2 {
			t.Errorf("%s: it has %v %v %v", name, after.Annotations, after.Finalizers, after.Status.Conditions)
		}
		if r.Patch(after) != nil {
			t.Errorf("%s: it is written again", name)
		}
		if written := r.Write(before); r.Patch(written) != nil || Held(before) {
			t.Errorf("%s: Write leaves %v, and its argument %v", name, written.ObjectMeta, before.ObjectMeta)
		}
		released := patched(t, after, ReleasePatch(after, false), Metadata{"$patch": "delete", "type": v1alpha1.ConditionRecord})
		left := len(released.Annotations) + len(released.Finalizers) + len(released.Status.Conditions)
		if Held(released) || Marked(released) || left != 3 {
			t.Errorf("%s: released, it has %v %v", name, released.ObjectMeta, released.Status)
		}
	}
}

// Finalizers that somebody took away come back, with nothing else.
func TestLostFinalizersAreWritten(t *testing.T) {
	r := Record{Holders: []string{"edge"}, Carrier: "edge", Addresses: addressList("192.0.2.1")}
	svc := r.Write(service(nil))
	svc.Finalizers = nil
	if p := r.Patch(svc); p == nil || p.Metadata["finalizers"] == nil {
		t.Errorf("%+v", p)
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
		"new address": {one.Write(service(nil)), Record{one.Holders, "edge", addressList("192.0.2.1"), nil, nil}, false},
	} {
		if version, locked := c.r.Patch(c.svc).Metadata["resourceVersion"]; locked != c.locked || locked && version != "7" {
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

// Who never had an address has nothing of ours but conditions.
func TestWhoWasOnlyTold(t *testing.T) {
	for _, kind := range []string{v1alpha1.ConditionServiceProgrammed, v1alpha1.ConditionMoving} {
		svc := service(nil, v1alpha1.SharedFinalizer)
		svc.Status.Conditions = []metav1.Condition{others, {Type: kind, Status: metav1.ConditionFalse}}
		if !Told(svc) || Marked(svc) {
			t.Errorf("%s: told %t, marked %t", kind, Told(svc), Marked(svc))
		}
		if left := patched(t, svc, ReleasePatch(svc, false)).Finalizers; len(left) != 1 {
			t.Errorf("%s: another provider's finalizer is gone", kind)
		}
	}
	if Told(service(nil)) {
		t.Error("nobody told it anything")
	}
}

// What a Service's author can write is no record, and neither is that of another Service.
func TestOnlyItsOwnStatusIsARecord(t *testing.T) {
	r := Record{Holders: []string{"edge"}, Carrier: "edge", Addresses: addressList("192.0.2.1"), Published: addressList("192.0.2.1"), Listeners: listenerList("192.0.2.1:80/TCP")}
	for name, change := range map[string]func(*corev1.Service){
		"made anew":    func(svc *corev1.Service) { svc.UID = "uid-again" },
		"cut":          func(svc *corev1.Service) { svc.UID = "uid" },
		"False":        func(svc *corev1.Service) { svc.Status.Conditions[0].Status = metav1.ConditionFalse },
		"other words":  func(svc *corev1.Service) { svc.Status.Conditions[0].Message = "holders=edge uid=uid-web" },
		"no condition": func(svc *corev1.Service) { svc.Status.Conditions[0].Type = "external-lb.dev/Programmed" },
		"annotations": func(svc *corev1.Service) {
			svc.Status.Conditions = nil
			svc.Annotations = map[string]string{
				former[0]: "edge", former[1]: "192.0.2.1", v1alpha1.AssignedAddressesAnnotation: "192.0.2.1",
			}
		},
	} {
		svc := r.Write(service(nil))
		svc.Spec.Type = corev1.ServiceTypeNodePort
		change(svc)
		if Held(svc) || Holders(svc) != nil || Addresses(svc) != nil || Occupied(svc) != nil || Published(svc) != nil || Listeners(svc) != nil {
			t.Errorf("%s: it says %+v", name, Of(svc))
		}
		if !Marked(svc) {
			t.Errorf("%s: nobody lets it go", name)
		}
	}
}

// What is shown without a record is ours where the status says that it answers; never
// where its author may have written it.
func TestShown(t *testing.T) {
	for name, c := range map[string]struct {
		programmed    metav1.ConditionStatus
		exposed, held bool
		want          string
	}{
		"ours":              {programmed: metav1.ConditionTrue, want: "[192.0.2.1] true"},
		"never ours":        {programmed: metav1.ConditionFalse, want: "[192.0.2.1] false"},
		"another's":         {want: "[192.0.2.1] false"},
		"on record":         {programmed: metav1.ConditionTrue, held: true, want: "[] false"},
		"exposed":           {programmed: metav1.ConditionTrue, exposed: true, want: "[192.0.2.9] false"},
		"exposed by itself": {exposed: true, want: "[] false"},
	} {
		svc := service(map[string]string{v1alpha1.AssignedAddressesAnnotation: "x,fe80::1%eth0,192.0.2.9,192.0.2.10"})
		svc.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "192.0.2.1"}, {Hostname: "lb.example"}}
		if c.exposed {
			svc.Spec.Type, svc.Status.LoadBalancer.Ingress = corev1.ServiceTypeNodePort, nil
		}
		if c.programmed != "" {
			svc.Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionServiceProgrammed, Status: c.programmed}}
		}
		if c.held {
			svc = Record{Holders: []string{"edge"}}.Write(svc)
		}
		shown, ours := Shown(svc)
		if got := fmt.Sprint(shown, ours); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}

// Listeners go with their addresses, and a condition has room for so many of them.
func TestListenersOnRecord(t *testing.T) {
	r := Record{Holders: []string{"edge"}, Addresses: addressList("192.0.2.1"), Listeners: listenerList("192.0.2.1:80/TCP", "192.0.2.2:80/TCP")}
	svc := r.Write(service(nil))
	if got, want := Listeners(svc), listenerList("192.0.2.1:80/TCP"); !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	if r.Patch(svc) != nil {
		t.Error("it is written again for a listener of an address that it has not")
	}
	r = Record{Holders: []string{strings.Repeat("a", 253), strings.Repeat("b", 253)}, Carrier: strings.Repeat("b", 253)}
	for i := range 16 { // as many as a Service holds, and the longest
		a := netip.MustParseAddr(fmt.Sprintf("2001:db8:1111:2222:3333:4444:5555:%x", 0x1000+i))
		r.Addresses, r.Published = append(r.Addresses, a), append(r.Published, a)
		for port := range uint16(100) {
			r.Listeners = append(r.Listeners, lb.Listener{Address: a, Port: 65000 + port, Protocol: lb.SCTP})
		}
	}
	svc = r.Write(service(nil))
	if got := Listeners(svc); len(got) != maxListeners || !slices.Equal(got, r.Listeners[:maxListeners]) {
		t.Errorf("%d listeners", len(got))
	}
	if n := len(svc.Status.Conditions[0].Message); n > 8<<10 {
		t.Errorf("the condition has %d bytes, and is cut", n)
	}
	if r.Patch(svc) != nil {
		t.Error("it is written again for what has no room")
	}
}
