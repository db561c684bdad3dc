package plan

import (
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/lb"
	"github.com/external-lb/external-lb/internal/record"
	"github.com/external-lb/external-lb/test/builder"
)

// cloud is the snapshot of a Balancer with a provider whose cloud gives the addresses.
func cloud(said *v1alpha1.ProviderStatus, services ...*corev1.Service) *Snapshot {
	b := builder.Balancer("edge").With(func(b *v1alpha1.Balancer) {
		b.Spec.Engine, b.Spec.Provider, b.Status.Provider = v1alpha1.EngineProvider, &v1alpha1.Provider{}, said
	}).Obj()
	hosts := builder.Balancer("hosts").Obj()
	pools := ParsePools([]v1alpha1.AddressPool{
		*builder.AddressPool("cloud", v1alpha1.AddressesOfProvider).Obj(),
		*builder.AddressPool("misplaced", v1alpha1.AddressesOfProvider).Balancer("hosts").Obj(),
	})
	return NewSnapshot(b, Objects{Balancers: []*v1alpha1.Balancer{b, hosts}, Pools: pools, Services: services,
		Nodes: []*corev1.Node{builder.Node("n1").IP("10.0.0.1").Obj()}})
}

func gives(settings ...v1alpha1.ProviderSetting) *v1alpha1.ProviderStatus {
	return &v1alpha1.ProviderStatus{Name: "test", Protocols: []string{"TCP"}, Families: []string{"IPv4"}, Settings: settings}
}

// A Service of a cloud that gives addresses is on record without a number, and goes out so.
func TestGiven_IsOnRecordBeforeItIsProgrammed(t *testing.T) {
	s := cloud(gives(v1alpha1.ProviderSetting{Name: "givenAddress"}), service("one"), service("two"))
	a := Assign(s)
	for i, svc := range a.Carried {
		a.Carried[i] = a.Record(svc).Write(svc)
		if got := record.Addresses(a.Carried[i]); len(got) != 1 || !lb.Given(got[0]) {
			t.Errorf("%s has %v on record", svc.Name, got)
		}
	}
	p, err := NewPlanner(v1alpha1.EngineProvider).Plan(s, a)
	if err != nil {
		t.Fatal(err)
	}
	for _, svc := range p.Services {
		if got := listeners(t, p, svc.Object); fmt.Sprint(got) != "[IPv4:80/TCP]" || svc.Fatal() != nil {
			t.Errorf("%s listens on %v, %v", svc.Object.Name, got, svc.Problems)
		}
	}
}

// Who was told of an address has it whatever becomes of the pool, and does not move.
func TestGiven_StaysWhenThePoolGoes(t *testing.T) {
	svc := service("web", held("edge", "0.0.0.0"))
	svc.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{Hostname: "web.example.net"}}
	s := cloud(gives(v1alpha1.ProviderSetting{Name: "givenAddress", Missing: "not any more"}), svc)
	a := Assign(s)
	if got := a.ByService[svc.UID]; len(a.Carried) != 1 || len(got.Addresses) != 1 || got.Notice == "" {
		t.Errorf("%+v", got)
	}
	if p := s.Claims().Misplaced("cloud"); p == nil || !strings.Contains(p.Message, "gives no addresses by itself (not any more)") {
		t.Errorf("%+v", p)
	}
}

func TestGiven_IsForAProvider(t *testing.T) {
	for name, c := range map[string]struct {
		said *v1alpha1.ProviderStatus
		has  string
	}{
		"never reached": {nil, "[0.0.0.0]"},
		"it gives":      {gives(v1alpha1.ProviderSetting{Name: "givenAddress"}), "[0.0.0.0]"},
		"it does not":   {gives(v1alpha1.ProviderSetting{Name: "givenAddress", Missing: "no"}), "[]"},
		"an older one":  {gives(), "[]"},
	} {
		svc := service("web")
		s := cloud(c.said, svc)
		if got := fmt.Sprint(Assign(s).ByService[svc.UID].Addresses); got != c.has {
			t.Errorf("%s: %s, want %s", name, got, c.has)
		}
		if p := s.Claims().Misplaced("misplaced"); p == nil || p.Reason != v1alpha1.ReasonInvalid || !strings.Contains(p.Message, "Balancer hosts has hosts") {
			t.Errorf("%s: %+v", name, p)
		}
		if p := s.Claims().Misplaced("cloud"); (p == nil) != (c.has != "[]") {
			t.Errorf("%s: %+v", name, p)
		}
	}
}
