package record

import (
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/lb"
	"github.com/external-lb/external-lb/test/builder"
)

// FuzzParseAddresses: anybody who may write a Service may write its annotations.
func FuzzParseAddresses(f *testing.F) {
	for _, seed := range []string{"192.0.2.1", "192.0.2.1,2001:db8::1", "::ffff:192.0.2.1, fe80::1%a,,x"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, list string) {
		got := parseAddresses(list)
		if len(got) > maxAddresses {
			t.Errorf("%d addresses", len(got))
		}
		for _, a := range got {
			if a.Is4In6() || a.Zone() != "" {
				t.Errorf("%s out of %q", a, list)
			}
		}
		if again := parseAddresses(FormatAddresses(got)); !slices.Equal(again, got) {
			t.Errorf("%v is printed and read as %v", got, again)
		}
	})
}

// FuzzRecord: a record is read as it was written, whatever a status says; and one of another Service is none.
func FuzzRecord(f *testing.F) {
	f.Add("uid=1 holders=edge,other addresses=192.0.2.1,2001:db8::1 carrier=other published=192.0.2.1", "198.51.100.1", "a.example", true)
	f.Add("uid=1 holders=edge addresses=192.0.2.1,2001:db8::1 listeners=53/UDP,80/TCP@192.0.2.1;80/TCP@2001:db8::1", "192.0.2.1", "", false)
	f.Add("uid=1 holders=edge addresses=192.0.2.1 listeners=080/x/y,70000/TCP,@192.0.2.1;81@192.0.2.1;80/TCP@192.0.2.2;;", "", "", false)
	f.Add("uid=1 holders= addresses=", "", "", false)
	f.Add("uid=1 holders=a,a,,b addresses=::ffff:192.0.2.1,fe80::1%eth0 carrier=c published=0.0.0.1", "fe80::1%eth0", "", true)
	f.Add("uid=2 holders=a", "x", "", true)
	f.Fuzz(func(t *testing.T, message, ip, hostname string, exposed bool) {
		svc := builder.Service("default", "web").Obj()
		if svc.UID = "1"; !exposed {
			svc.Spec.Type = corev1.ServiceTypeNodePort
		} else {
			svc.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: ip, Hostname: hostname}}
		}
		svc.Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionRecord, Status: metav1.ConditionTrue, Message: message}}
		got := Of(svc)
		for _, a := range slices.Concat(got.Addresses, got.Published, Published(svc), Occupied(svc)) {
			if !a.IsValid() || a.Is4In6() || a.Zone() != "" {
				t.Errorf("the address %s", a)
			}
		}
		if !Held(svc) && (len(got.Holders) > 0 || len(Occupied(svc)) > 0 || len(got.Listeners) > 0) {
			t.Errorf("%+v is not held", got)
		}
		for _, a := range Given(svc) {
			if !lb.Given(a) || !slices.Contains(got.Addresses, a) {
				t.Errorf("%s is given, out of %+v", a, got)
			}
		}
		for _, l := range got.Listeners {
			if !slices.Contains(got.Addresses, l.Address) {
				t.Errorf("the listener %s, out of %+v", l, got)
			}
		}
		again := svc.DeepCopy()
		again.Status.Conditions = []metav1.Condition{got.condition(svc)}
		if is := Of(again); !slices.Equal(is.Holders, got.Holders) || is.Carrier != got.Carrier ||
			!slices.Equal(is.Addresses, got.Addresses) || !slices.Equal(is.Published, got.Published) || !slices.Equal(is.Listeners, got.Listeners) {
			t.Errorf("%+v is written and read as %+v", got, is)
		}
		if again.UID = "2"; Held(again) {
			t.Error("a copy is held")
		}
	})
}
