package record

import (
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

// Of what a cloud gives, the record has the family, and the status what users were told.
func TestGiven_IsWhatUsersWereToldOf(t *testing.T) {
	for name, c := range map[string]struct {
		kind         corev1.ServiceType
		recorded     []string
		ingress      []corev1.LoadBalancerIngress
		published    []string
		given, shows string
	}{
		"nothing yet":     {corev1.ServiceTypeLoadBalancer, []string{"0.0.0.0", "::"}, nil, nil, "[]", "[]"},
		"an address":      {corev1.ServiceTypeLoadBalancer, []string{"0.0.0.0", "::"}, []corev1.LoadBalancerIngress{{IP: "203.0.113.7"}}, nil, "[0.0.0.0]", "[203.0.113.7]"},
		"a hostname":      {corev1.ServiceTypeLoadBalancer, []string{"0.0.0.0"}, []corev1.LoadBalancerIngress{{Hostname: "a.example.net"}}, nil, "[0.0.0.0]", "[a.example.net]"},
		"one of our own":  {corev1.ServiceTypeLoadBalancer, []string{"192.0.2.1"}, []corev1.LoadBalancerIngress{{IP: "192.0.2.1"}}, nil, "[]", "[192.0.2.1]"},
		"beside our own":  {corev1.ServiceTypeLoadBalancer, []string{"192.0.2.1", "0.0.0.0"}, []corev1.LoadBalancerIngress{{IP: "192.0.2.1"}}, nil, "[]", "[192.0.2.1]"},
		"exposed":         {corev1.ServiceTypeNodePort, []string{"0.0.0.0"}, nil, []string{"203.0.113.7"}, "[0.0.0.0]", "[203.0.113.7]"},
		"exposed, not it": {corev1.ServiceTypeNodePort, []string{"192.0.2.1"}, nil, []string{"203.0.113.7"}, "[]", "[]"},
	} {
		svc := service(nil)
		svc.Spec.Type = c.kind
		svc = Record{Holders: []string{"cloud"}, Addresses: addressList(c.recorded...), Published: addressList(c.published...)}.Write(svc)
		svc.Status.LoadBalancer.Ingress = c.ingress
		if given, shows := fmt.Sprint(Given(svc)), fmt.Sprint(Shows(svc)); given != c.given || shows != c.shows {
			t.Errorf("%s: given %s, shows %s; want %s and %s", name, given, shows, c.given, c.shows)
		}
	}
	if got := Describe(addressList("192.0.2.1", "0.0.0.0", "::")); got != "192.0.2.1,an IPv4 address of the cloud,an IPv6 address of the cloud" {
		t.Error(got)
	}
}
