package plan

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/test/builder"
)

// While the API server does not tell of policies, a Service that comes waits, and what there was stays.
func TestWhatComesBeforeItsPoliciesWaits(t *testing.T) {
	b := builder.Balancer("edge").Obj()
	old, fresh := service("old"), service("new")
	o := Objects{Balancers: []*v1alpha1.Balancer{b}, Pools: ParsePools([]v1alpha1.AddressPool{*builder.AddressPool("public", "192.0.2.0/30").Balancer("edge").Obj()}),
		Nodes: []*corev1.Node{builder.Node("n1").IP("10.0.0.1").Obj()}}
	p := NewPlanner(b.Spec.Engine)
	look := func(unheard string, services ...*corev1.Service) (*Assignments, *Plan) {
		t.Helper()
		o.Unheard, o.Services = unheard, services
		s := NewSnapshot(b, o)
		a := p.Assign(s)
		plan, err := p.Plan(s, a)
		if err != nil {
			t.Fatal(err)
		}
		return a, plan
	}
	a, _ := look("", old)
	old = a.Record(old).Write(old)
	a, plan := look("UpstreamPolicies", old, fresh)
	if n := len(a.ByService[fresh.UID].Addresses); n > 0 || !p.Early() {
		t.Errorf("what is new has %d addresses, early: %t", n, p.Early())
	}
	for _, svc := range plan.Services {
		problem := svc.Fatal()
		if svc.Object == old && (problem != nil || svc.Shape == "") {
			t.Errorf("what there was: %+v", svc)
		}
		if svc.Object == fresh && (problem == nil || problem.Reason != v1alpha1.ReasonPending || !strings.Contains(problem.Message, "does not tell of UpstreamPolicies") || svc.Shape != "") {
			t.Errorf("what is new: %+v", svc)
		}
	}
	a, plan = look("", old, fresh)
	if n := len(a.ByService[fresh.UID].Addresses); n != 1 || p.Early() || len(plan.Services) != 2 || plan.Services[0].Fatal() != nil || plan.Services[1].Fatal() != nil {
		t.Errorf("now what is new has %d addresses, early: %t", n, p.Early())
	}
}
