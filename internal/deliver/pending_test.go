package deliver

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/host"
	"github.com/external-lb/external-lb/internal/lb"
	"github.com/external-lb/external-lb/internal/wire"
)

// A host that says what it runs and fails every delivery without a word of its own costs no more with
// each of them: what all of them have alike is served, and no key that any of them had is taken for free.
func TestDeliveriesThatAreNeverAnsweredCostNoMoreEachTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fx := newFixture(t, 1)
		m := fx.machines[0]
		fx.Set("edge", fx.targets)
		fx.Deliver("edge", set("stays=1", "churns=0"), "service")
		fx.waitState(t, time.Second, v1alpha1.HostInSync)
		m.do(func() {
			m.before = func(context.Context) error { return errors.New("InvalidArgument: no such message") }
		})
		for n := range 200 {
			fx.Deliver("edge", set("stays=1", fmt.Sprintf("churns=%d", n), fmt.Sprintf("new%d=1", n/100)), "service")
			time.Sleep(2 * time.Second) // of the bubble's clock
		}
		if n := m.asked(); n < 100 {
			t.Fatalf("only %d deliveries", n)
		}
		s := fx.state()
		if n := len(s.Carries()); n > 1+mostDigests {
			t.Errorf("it may carry %d sets", n)
		}
		if !s.Serves("stays", sum("1")) || s.Serves("churns", sum("0")) || s.Serves("churns", sum("199")) {
			t.Errorf("what is proved is not what no delivery changes: %+v", s)
		}
		if !s.MayServe("new0") || !s.MayServe("new1") || s.MayServe("other") {
			t.Errorf("what may be live is not what some delivery brings: %+v", s)
		}
		m.do(func() { m.before = nil })
		fx.waitState(t, time.Minute, v1alpha1.HostInSync)
		if s := fx.state(); s.MayServe("new0") || !s.Serves("churns", sum("199")) || len(s.Carries()) != 1 {
			t.Errorf("mended: %+v", s)
		}
	})
}

// An agent that dies in each delivery has taken it: those before have ended, and what the host runs is all that
// they left.
func TestAHostThatDiesInEachDeliveryMayServeTheLastAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fx := newFixture(t, 1)
		m := fx.machines[0]
		fx.Set("edge", fx.targets)
		fx.Deliver("edge", set("stays=1"), "service")
		fx.waitState(t, time.Second, v1alpha1.HostInSync)
		m.do(func() {
			m.before = func(context.Context) error {
				m.do(func() { m.epoch = m.applies[len(m.applies)-1].Epoch })
				return wire.ErrLost
			}
		})
		for n := range 20 {
			fx.Deliver("edge", set("stays=1", fmt.Sprintf("new%d=1", n)), "service")
			time.Sleep(10 * time.Second) // of the bubble's clock
		}
		fx.wait(t, 10*time.Second, "it answers", func() bool { return fx.States("edge")[0].State != v1alpha1.HostUnreachable })
		s := fx.state()
		if len(s.Carries()) != 2 || s.MayServe("new0") || s.MayServe("new18") || !s.MayServe("new19") || !s.Serves("stays", sum("1")) {
			t.Errorf("it carries one of %d: %+v", len(s.Carries()), s)
		}
		m.do(func() { m.before = nil })
		fx.waitState(t, time.Minute, v1alpha1.HostInSync)
	})
}

// A former leader's delivery may come as long as the host is in an earlier term than this one's.
func TestS03_AFailureInAnEarlierTermSettlesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fx := newFixture(t, 1)
		m := fx.machines[0]
		fx.leads.term = 3*host.MaxTermJump + 5
		m.live, m.fail = set("a=1").Manifest().Sums(), &host.Error{Code: host.CodeMachine, Message: "the disk is full"}
		fx.Set("edge", fx.targets)
		fx.Deliver("edge", set("a=1"), "start")
		fx.wait(t, time.Minute, "it has failed", func() bool { return fx.States("edge")[0].Reason == ReasonMachine && m.asked() == 1 })
		time.Sleep(100 * time.Millisecond) // of the bubble's clock
		if s := fx.state(); !s.MayServe("b") {
			t.Errorf("it is sure in term %d of %d: %+v", m.epoch.Term, fx.leads.term, s)
		}
		fx.wait(t, 10*time.Minute, "it is there", func() bool { return m.epoch.Term == fx.leads.term })
		fx.wait(t, time.Minute, "it is settled", func() bool { return !fx.States("edge")[0].MayServe("b") })
	})
}

// What is kept of some sets says the same as the sets.
func TestFewPendingSetsAreKnownExactly(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var all []*lb.Set
		var p pending
		for _, s := range rapid.SliceOfN(steps, 1, mostDigests).Draw(t, "sets") {
			all = append(all, set(s.Items...))
			p = p.with(all[len(all)-1])
		}
		for _, key := range []lb.Key{"a", "b", "c", "d", "e"} {
			has := func(s *lb.Set) bool { _, ok := s.Get(key); return ok }
			if want := slices.ContainsFunc(all, has); p.mayBring(key) != want {
				t.Errorf("%s may come: %v", key, !want)
			}
			for _, content := range []string{"1", "2"} {
				other := func(s *lb.Set) bool { return !is(s.Manifest(), key, sum(content)) }
				if want := !slices.ContainsFunc(all, other); p.keep(key, sum(content)) != want {
					t.Errorf("%s=%s stays: %v", key, content, !want)
				}
			}
		}
		known := map[lb.Digest]bool{}
		for _, s := range all {
			known[s.Digest()] = true
			if !slices.Contains(p.digests, s.Digest()) {
				t.Errorf("%v lack %s", p.digests, s.Digest().Short())
			}
		}
		if len(p.digests) != len(known) {
			t.Errorf("%v are not %d", p.digests, len(known))
		}
		last := all[len(all)-1]
		if n := p.newest(); n.last != last || !n.some.Equal(last.Manifest()) || !n.alike.Equal(last.Manifest()) || len(n.digests) != 1 {
			t.Errorf("the newest is %+v", n)
		}
	})
}

// Of more keys than are kept, none is taken for free.
func TestManyPendingSetsBringAnything(t *testing.T) {
	p := pending{}.with(set("stays=1"))
	for n := range 4 {
		items := []string{"stays=1"}
		for i := range mostLacking/2 + 1 {
			items = append(items, fmt.Sprintf("n%d-%d=1", n, i))
		}
		p = p.with(set(items...))
		if few := n < 2; p.mayBring("other") == few {
			t.Errorf("after %d sets anything may come: %v", n+2, few)
		}
		if most := len(items) + mostLacking; p.some.Len() > most || !p.mayBring("n0-0") || !p.keep("stays", sum("1")) {
			t.Errorf("after %d sets: %d keys, at most %d", n+2, p.some.Len(), most)
		}
	}
	if p.newest().mayBring("other") {
		t.Error("the newest alone brings anything")
	}
}
