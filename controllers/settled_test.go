package controllers

import (
	"slices"
	"testing"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/types"
	"pgregory.net/rapid"

	"github.com/external-lb/external-lb/internal/conditions"
	"github.com/external-lb/external-lb/internal/lb"
	"github.com/external-lb/external-lb/internal/plan"
	"github.com/external-lb/external-lb/provider"
)

// Who is not looked at has nothing to be told, whatever changed and whatever the host says.
func TestWhoIsSettledHasNothingToBeTold(t *testing.T) {
	const services = 4
	waited := false
	rapid.Check(t, func(rt *rapid.T) {
		p := newOnePlace(t, services, 2)
		skipped := 0
		for range rapid.IntRange(1, 12).Draw(rt, "steps") {
			switch rapid.SampledFrom([]string{"change", "more", "prove", "prove", "refuse", "restart"}).Draw(rt, "step") {
			case "change":
				p.change(rapid.IntRange(0, services-1).Draw(rt, "which"))
			case "more":
				p.more++
				p.put(p.service(services + p.more))
			case "prove":
				p.host.refused = nil
				p.host.prove()
			case "refuse":
				items := slices.Collect(p.host.wanted.All())
				it := items[rapid.IntRange(0, len(items)-1).Draw(rt, "item")]
				p.host.refused = []lb.Refusal{{Key: it.Key, Reason: lb.RefusedByEngine, Message: "no"}}
				p.host.prove()
				p.host.proven = p.host.proven.Without(it.Key)
				p.host.live = p.host.proven.Digest()
			case "restart":
				p.host.live, p.host.proven = "", lb.Manifest{}
			}
			p.reconcile()
			n, waiting := p.checkSettled(rt)
			skipped, waited = skipped+n, waited || waiting
		}
		rt.Logf("%d were not looked at", skipped)
	})
	if !waited {
		t.Error("no Service ever waited for a host that says nothing")
	}
}

// What daemons see anew of the same nodes is nothing to be told; another address that a cloud
// gives is.
func TestWhatUnsettles(t *testing.T) {
	p := newOnePlace(t, 2, 1)
	said := p.r.memory["edge"].settled.say
	looked := func(what string, want bool) {
		t.Helper()
		p.reconcile()
		now := p.r.memory["edge"].settled.say
		if (now != said) != want {
			t.Errorf("%s: all Services are looked at: %t", what, !want)
		}
		said = now
	}
	looked("another look at the same nodes", false)
	p.host.given = map[lb.Key][]provider.Address{"service/default/web/uid": {{Family: provider.IPv4, Hostname: "web.example.net"}}}
	looked("an address of a cloud", true)
	looked("the same address", false)
}

// checkSettled counts those who would not be looked at now, and holds what they say against
// what they should.
func (p *onePlace) checkSettled(t *rapid.T) (n int, waiting bool) {
	s := p.look(t)
	prover := conditions.NewProver(s.balancer, s.plan, s.states)
	view := func(svc *plan.Service) conditions.Service {
		return conditions.Service{Service: svc, Proof: prover.Prove(svc), Hosts: conditions.WhyUnproved(s.balancer, s.states), By: "edge"}
	}
	news := s.memory.settled.news(s, s.memory.settled.open(s, prover.ProvedTo()), view)
	for _, svc := range s.plan.Services {
		if slices.ContainsFunc(news, func(v conditions.Service) bool { return v.Service == svc }) {
			continue
		}
		n++
		v := view(svc)
		waiting = waiting || v.Proof.None()
		if patch, _ := conditionsPatch(svc.Object.Status.Conditions, v.Conditions()); len(patch) > 0 {
			t.Fatalf("%s is not told %v", svc.Object.Name, patch)
		}
		if want := v.Ingress(); !equality.Semantic.DeepEqual(want, svc.Object.Status.LoadBalancer.Ingress) {
			t.Fatalf("%s shows %v, not %v", svc.Object.Name, svc.Object.Status.LoadBalancer.Ingress, want)
		}
	}
	return n, waiting
}

// look plans what is there, as the next reconcile would.
func (p *onePlace) look(t *rapid.T) *scope {
	seen, err := p.r.reader.claimants(p.tb.Context())
	if err != nil {
		t.Fatal(err)
	}
	s := &scope{
		why: &cause{services: map[types.UID]types.NamespacedName{}}, balancer: seen.Balancers[0],
		objects: seen, memory: p.r.memory["edge"], states: p.host.States("edge"),
	}
	if err := p.r.read(s); err != nil {
		t.Fatal(err)
	}
	s.snapshot = plan.NewSnapshot(s.balancer, s.objects.Objects)
	s.assigned = s.memory.planner.Assign(s.snapshot)
	if s.plan, err = s.memory.planner.Plan(s.snapshot, s.assigned); err != nil {
		t.Fatal(err)
	}
	return s
}
