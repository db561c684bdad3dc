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
	"github.com/external-lb/external-lb/internal/plan"
	"github.com/external-lb/external-lb/internal/record"
	"github.com/external-lb/external-lb/provider"
	"github.com/external-lb/external-lb/test/builder"
)

// An address at which nobody opens a port is not told, until somebody does; from then on it stays.
func TestAnAddressThatIsRefusedIsNotTold(t *testing.T) {
	second := netip.MustParseAddr("2001:db8::1")
	http2, https2 := lb.Listener{Address: second, Port: 80, Protocol: lb.TCP}, lb.Listener{Address: second, Port: 443, Protocol: lb.TCP}
	refused := []lb.Refusal{{Key: web, Listener: http2, Message: "one family"}, {Key: web, Listener: https2, Message: "one family"}}
	all := []lb.Listener{http, https, http2, https2}
	both, first := "[192.0.2.1 2001:db8::1]", "[192.0.2.1]"
	_, p := view()
	away := deliver.State{Host: "lb1", State: v1alpha1.HostUnreachable}
	active := func(s deliver.State) deliver.State { s.Active = true; return s }
	plain, vrrp := builder.Balancer("edge").Obj(), builder.Balancer("edge").With(hasVRRP).Obj()
	for name, c := range map[string]struct {
		balancer *v1alpha1.Balancer
		states   []deliver.State
		made     []lb.Listener // by the translation
		was      []netip.Addr
		want     string
	}{
		"nobody refuses":          {plain, []deliver.State{inSync("lb1", p)}, all, nil, both},
		"all refuse":              {plain, []deliver.State{inSync("lb1", p, refused...), inSync("lb2", p, refused...)}, all, nil, first},
		"one refuses":             {plain, []deliver.State{inSync("lb1", p, refused...), inSync("lb2", p)}, all, nil, both},
		"but for a port":          {plain, []deliver.State{inSync("lb1", p, refused[0])}, all, nil, both},
		"but for a bad one":       {plain, []deliver.State{inSync("lb1", p, refused[0])}, []lb.Listener{http, http2}, nil, first},
		"but for another's":       {plain, []deliver.State{inSync("lb1", p, refused[0])}, []lb.Listener{http, https, http2}, nil, first},
		"others have its ports":   {plain, []deliver.State{inSync("lb1", p)}, []lb.Listener{http, https}, nil, first},
		"it answered once":        {plain, []deliver.State{inSync("lb1", p, refused...)}, all, []netip.Addr{address, second}, both},
		"who has it is away":      {plain, []deliver.State{away, inSync("lb2", p, refused...)}, all, []netip.Addr{address, second}, both},
		"the active host refuses": {vrrp, []deliver.State{active(inSync("lb1", p, refused...)), inSync("lb2", p)}, all, nil, first},
		"the other host refuses":  {vrrp, []deliver.State{active(inSync("lb1", p)), inSync("lb2", p, refused...)}, all, nil, both},
	} {
		for _, kind := range []corev1.ServiceType{corev1.ServiceTypeLoadBalancer, corev1.ServiceTypeNodePort} {
			svc, _ := view()
			svc.Addresses, svc.Frontends = append(svc.Addresses, second), frontends(c.made...)
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

// What keeps users from one family is said, first.
func TestWhichAddressIsMissingIsSaid(t *testing.T) {
	second := netip.MustParseAddr("2001:db8::1")
	http2 := lb.Listener{Address: second, Port: 80, Protocol: lb.TCP}
	full := []plan.Problem{{Reason: v1alpha1.ReasonPoolExhausted, Message: "edge is full"}}
	conflict := []plan.Problem{{Reason: v1alpha1.ReasonPortConflict, Message: "default/older has it"}}
	_, p := view()
	given := []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()}
	gives := func(a provider.Address) deliver.State {
		s := inSync("lb1", p)
		s.Given = map[lb.Key][]provider.Address{web: {a}}
		return s
	}
	refuses := inSync("lb1", p, lb.Refusal{Key: web, Listener: http2, Message: "no IPv6"})
	for name, c := range map[string]struct {
		state     deliver.State
		addresses []netip.Addr
		made      []lb.Listener
		problems  []plan.Problem
		reason    string
		want      string
	}{
		"none": {inSync("lb1", p), []netip.Addr{address, second}, []lb.Listener{http, http2}, nil, v1alpha1.ReasonProgrammed, ProgrammedMessage},
		"not given": {inSync("lb1", p), []netip.Addr{address}, []lb.Listener{http}, full, v1alpha1.ReasonPoolExhausted,
			"it has no IPv6 address; edge is full"},
		"refused": {refuses, []netip.Addr{address, second}, []lb.Listener{http, http2}, nil, v1alpha1.ReasonRefused,
			"2001:db8::1 is not published, since no port answers there; ports are refused: lb1: [2001:db8::1]:80/TCP: no IPv6"},
		"another's": {inSync("lb1", p), []netip.Addr{address, second}, []lb.Listener{http}, conflict, v1alpha1.ReasonPortConflict,
			"2001:db8::1 is not published, since no port answers there; default/older has it"},
		"the cloud gives one": {gives(provider.Address{Family: provider.IPv4, IP: address}), given, []lb.Listener{http}, nil,
			v1alpha1.ReasonProgrammed, "it has no IPv6 address"},
		"the cloud gives a name": {gives(provider.Address{Family: provider.IPv4, Hostname: "web.example.net"}), given, []lb.Listener{http}, nil,
			v1alpha1.ReasonProgrammed, ProgrammedMessage},
	} {
		svc, _ := view()
		svc.Object.Spec.IPFamilies = []corev1.IPFamily{corev1.IPv4Protocol, corev1.IPv6Protocol}
		svc.Addresses, svc.Frontends, svc.Problems = c.addresses, frontends(c.made...), c.problems
		s := Service{Service: svc, Proof: NewProver(builder.Balancer("edge").Obj(), p, []deliver.State{c.state}).Prove(svc), By: "edge"}
		if got, _ := s.programmed(); got.Status != metav1.ConditionTrue || got.Reason != c.reason || got.Message != c.want {
			t.Errorf("%s: %s, %s: %q", name, got.Status, got.Reason, got.Message)
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
