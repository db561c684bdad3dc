package conditions

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/deliver"
	"github.com/external-lb/external-lb/internal/lb"
	"github.com/external-lb/external-lb/internal/record"
	"github.com/external-lb/external-lb/internal/translate"
	"github.com/external-lb/external-lb/provider"
	"github.com/external-lb/external-lb/test/builder"
)

// An address at which nobody opens a port is not told, until somebody does; from then on it stays.
func TestAnAddressThatIsRefusedIsNotTold(t *testing.T) {
	second := netip.MustParseAddr("2001:db8::1")
	var refused []lb.Refusal
	for _, port := range []uint16{80, 443} {
		refused = append(refused, lb.Refusal{Key: web, Listener: lb.Listener{Address: second, Port: port, Protocol: lb.TCP}, Message: "one family"})
	}
	both, first := "[192.0.2.1 2001:db8::1]", "[192.0.2.1]"
	_, p := view()
	away := deliver.State{Host: "lb1", State: v1alpha1.HostUnreachable}
	active := func(s deliver.State) deliver.State { s.Active = true; return s }
	plain, vrrp := builder.Balancer("edge").Obj(), builder.Balancer("edge").With(hasVRRP).Obj()
	for name, c := range map[string]struct {
		balancer *v1alpha1.Balancer
		states   []deliver.State
		errors   map[translate.PortKey]string
		was      []netip.Addr
		want     string
	}{
		"nobody refuses":          {plain, []deliver.State{inSync("lb1", p)}, nil, nil, both},
		"all refuse":              {plain, []deliver.State{inSync("lb1", p, refused...), inSync("lb2", p, refused...)}, nil, nil, first},
		"one refuses":             {plain, []deliver.State{inSync("lb1", p, refused...), inSync("lb2", p)}, nil, nil, both},
		"but for a port":          {plain, []deliver.State{inSync("lb1", p, refused[0])}, nil, nil, both},
		"but for a bad one":       {plain, []deliver.State{inSync("lb1", p, refused[0])}, map[translate.PortKey]string{{Port: 443, Protocol: "TCP"}: "bad"}, nil, first},
		"it answered once":        {plain, []deliver.State{inSync("lb1", p, refused...)}, nil, []netip.Addr{address, second}, both},
		"who has it is away":      {plain, []deliver.State{away, inSync("lb2", p, refused...)}, nil, []netip.Addr{address, second}, both},
		"the active host refuses": {vrrp, []deliver.State{active(inSync("lb1", p, refused...)), inSync("lb2", p)}, nil, nil, first},
		"the other host refuses":  {vrrp, []deliver.State{active(inSync("lb1", p)), inSync("lb2", p, refused...)}, nil, nil, both},
	} {
		for _, kind := range []corev1.ServiceType{corev1.ServiceTypeLoadBalancer, corev1.ServiceTypeNodePort} {
			svc, _ := view()
			svc.PortErrors, svc.Addresses, svc.Listeners = c.errors, append(svc.Addresses, second), 4
			svc.Object.Spec.Type = kind
			svc.Object = record.Record{Holders: []string{"edge"}, Addresses: svc.Addresses, Published: c.was}.Write(svc.Object)
			for _, a := range c.was {
				svc.Object.Status.LoadBalancer.Ingress = append(svc.Object.Status.LoadBalancer.Ingress, corev1.LoadBalancerIngress{IP: a.String()})
			}
			s := Service{Service: svc, Proof: NewProver(c.balancer, p, c.states).Prove(svc), By: "edge"}
			got := s.Told()
			if kind == corev1.ServiceTypeLoadBalancer {
				got = nil
				for _, in := range s.Ingress() {
					got = append(got, netip.MustParseAddr(in.IP))
				}
			}
			if fmt.Sprint(got) != c.want {
				t.Errorf("%s, %s: %v is told, want %s", name, kind, got, c.want)
			}
		}
	}
}

// An address that was told stays, whatever becomes of the proof; nobody else's does.
func TestIngress(t *testing.T) {
	svc, _ := view()
	s := Service{Service: svc}
	if got := s.Ingress(); got != nil {
		t.Errorf("published without a proof: %v", got)
	}
	svc.Object.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "192.0.2.1"}}
	if got := s.Ingress(); len(got) != 1 {
		t.Errorf("what is there is taken away though nothing could be put on record yet: %v", got)
	}
	addresses := svc.Addresses
	svc.Addresses = nil
	if got := s.Ingress(); got != nil {
		t.Errorf("another provider's status is taken for ours: %v", got)
	}
	svc.Addresses, svc.Object = addresses, record.Record{Holders: []string{"edge"}}.Write(svc.Object)
	if got := s.Ingress(); len(got) != 1 || *got[0].IPMode != corev1.LoadBalancerIPModeProxy {
		t.Errorf("what was told is gone: %v", got)
	}
	svc.Direct, s.Proof.Enough = true, true
	if got := s.Ingress(); *got[0].IPMode != corev1.LoadBalancerIPModeVIP {
		t.Errorf("IP mode %s", *got[0].IPMode)
	}
}

// What a cloud gives is told once it is proved, and stays until something else is.
func TestIngress_WhatACloudGives(t *testing.T) {
	svc, p := view()
	svc.Addresses = []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()}
	svc.Object = record.Record{Holders: []string{"cloud"}, Addresses: svc.Addresses}.Write(svc.Object)
	svc.Object.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "198.51.100.9"}} // somebody else's
	shows := func(s Service) (out []string) {
		for _, in := range s.Ingress() {
			if out = append(out, in.IP+in.Hostname); in.Hostname != "" && in.IPMode != nil {
				t.Errorf("a hostname has no IP mode: %+v", in)
			}
		}
		return out
	}
	proves := func(given ...provider.Address) Service {
		state := inSync("lb1", p)
		state.Given = map[lb.Key][]provider.Address{svc.Key: given}
		return Service{Service: svc, Proof: NewProver(builder.Balancer("cloud").Obj(), p, []deliver.State{state}).Prove(svc)}
	}
	if got := shows(Service{Service: svc}); got != nil {
		t.Errorf("published without a proof: %v", got)
	}
	v4, v6 := netip.MustParseAddr("203.0.113.7"), netip.MustParseAddr("2001:db8::7")
	both := proves(provider.Address{Family: provider.IPv4, IP: v4}, provider.Address{Family: provider.IPv6, IP: v6})
	if got := shows(both); fmt.Sprint(got) != "[203.0.113.7 2001:db8::7]" || fmt.Sprint(both.Told()) != "[203.0.113.7 2001:db8::7]" {
		t.Errorf("%v, told %v", got, both.Told())
	}
	const name = "web.example.net"
	named := proves(provider.Address{Family: provider.IPv4, Hostname: name}, provider.Address{Family: provider.IPv6, Hostname: name})
	if got := shows(named); fmt.Sprint(got) != "[web.example.net]" || named.Told() != nil {
		t.Errorf("%v, told %v", got, named.Told())
	}
	svc.Object.Status.Conditions = append(svc.Object.Status.Conditions, metav1.Condition{Type: v1alpha1.ConditionServiceProgrammed, Status: metav1.ConditionTrue})
	for _, told := range [][]corev1.LoadBalancerIngress{both.Ingress(), named.Ingress()} {
		svc.Object.Status.LoadBalancer.Ingress = told
		if diff := cmp.Diff(told, (Service{Service: svc}).Ingress()); diff != "" {
			t.Errorf("what was told is gone: %s", diff)
		}
	}
}
