package deliver

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/fileset"
	"github.com/external-lb/external-lb/internal/host"
)

// Try one set on all hosts.
func (fx *fixture) Try(want *fileset.Set, trial string) {
	sets := map[string]*fileset.Set{}
	for _, t := range fx.targets {
		sets[t.Host.Name] = want
	}
	fx.Fleet.Try("edge", sets, "service", trial)
}

func TestATrialIsRefusedAsAWhole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fx := newFixture(t, 2)
		canary := fx.machines[1]
		canary.do(func() { canary.refuse["bad"] = "always refused" })
		fx.Set("edge", fx.targets)
		fx.Deliver("edge", set(t, "a=1", "bad=1"), "service")
		fx.wait(t, 5*time.Second, "the first round", func() bool { return fx.States("edge")[1].State == v1alpha1.HostPartial })

		// What was refused before is no reason to refuse a trial.
		fx.Try(set(t, "a=2", "bad=2"), "two")
		fx.wait(t, 5*time.Second, "two has passed", func() bool {
			s := fx.States("edge")
			return s[0].Trial == (Trial{Name: "two", Passed: true}) && s[1].Trial == s[0].Trial
		})
		fx.Deliver("edge", set(t, "a=2", "bad=2"), "service")

		canary.do(func() { canary.refuse["a"] = "unknown directive" })
		fx.Try(set(t, "a=3", "bad=3"), "three")
		fx.wait(t, 5*time.Second, "three is refused", func() bool { return fx.States("edge")[1].Trial.Refused != "" })
		states := fx.States("edge")
		if got := states[1]; got.Trial.Refused != "a: unknown directive" || got.Reason != ReasonWhole {
			t.Errorf("the host that tried: %+v", got)
		}
		if got := states[0]; got.Reason != ReasonHeldBack || got.Trial != (Trial{Name: "three"}) {
			t.Errorf("the other: %+v", got)
		}
		canary.do(func() { delete(canary.refuse, "a") })

		// Back to what was good: no host is seen to have failed meanwhile.
		asked := canary.asked()
		fx.Deliver("edge", set(t, "a=2", "bad=2"), "service")
		for _, s := range fx.States("edge") {
			if s.State == v1alpha1.HostFailed || s.Trial != (Trial{}) {
				t.Errorf("after the trial: %+v", s)
			}
		}
		fx.wait(t, 5*time.Second, "all is as before", func() bool {
			s := fx.States("edge")
			return s[0].State == v1alpha1.HostInSync && s[1].State == v1alpha1.HostPartial
		})
		if n := canary.asked(); n != asked {
			t.Errorf("%d deliveries to go back to what runs", n-asked)
		}
	})
}

// What a host cannot prove does not pass, and other sets follow.
func TestATrialThatIsRolledBackIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fx := newFixture(t, 1)
		fx.Set("edge", fx.targets)
		fx.Deliver("edge", set(t, "a=1"), "service")
		fx.all(t, 5*time.Second, v1alpha1.HostInSync)
		m := fx.machines[0]
		m.do(func() { m.fail = &host.Error{Code: host.CodeRolledBack, Message: "does not start"} })
		fx.Try(set(t, "a=2"), "two")
		fx.wait(t, 5*time.Second, "two is refused", func() bool { return strings.Contains(fx.state().Trial.Refused, "does not start") })
		m.do(func() { m.fail = nil })
		fx.Deliver("edge", set(t, "a=1", "b=1"), "service")
		fx.all(t, 5*time.Second, v1alpha1.HostInSync)
		// The same trial again begins anew.
		fx.Try(set(t, "a=2", "b=2"), "two")
		if s := fx.States("edge")[0]; s.Trial != (Trial{Name: "two"}) {
			t.Errorf("an old verdict: %+v", s.Trial)
		}
		fx.wait(t, 5*time.Second, "two has passed", func() bool { return fx.state().Trial.Passed })
	})
}

// A trial goes on until there is something to judge by, also where nothing is
// delivered for it.
func TestATrialNeedsAFragment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fx := newFixture(t, 1)
		fx.Set("edge", fx.targets)
		fx.Deliver("edge", set(t), "service")
		fx.all(t, 5*time.Second, v1alpha1.HostInSync)
		fx.Try(set(t), "same")
		if s := fx.state(); s.Trial != (Trial{Name: "same"}) || s.State != v1alpha1.HostInSync {
			t.Errorf("without a fragment: %+v", s)
		}
		m := fx.machines[0]
		m.do(func() { m.refuse["a"] = "unknown directive" })
		fx.Try(set(t, "a=1"), "same")
		fx.wait(t, 5*time.Second, "it is refused", func() bool { return fx.state().Trial.Refused != "" })
		m.do(func() { clear(m.refuse) })
		fx.Deliver("edge", set(t, "a=1"), "service")
		fx.all(t, 5*time.Second, v1alpha1.HostInSync)
		asked := m.asked()
		fx.Try(set(t, "a=1"), "again")
		if s := fx.state(); !s.Trial.Passed || m.asked() != asked {
			t.Errorf("what it runs already: %+v, %d deliveries", s.Trial, m.asked()-asked)
		}
	})
}

// What was refused before this process started is no reason to refuse a trial; where
// nothing runs yet, there is nothing that it could have been.
func TestATrialAfterARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fx := newFixture(t, 1)
		m := fx.machines[0]
		m.do(func() { m.refuse["bad"] = "always refused" })
		fx.Set("edge", fx.targets)
		fx.Try(set(t, "bad=1"), "one")
		fx.wait(t, 5*time.Second, "it is refused as a whole", func() bool { return fx.state().Trial.Refused != "" })
		fx.Deliver("edge", set(t, "a=1", "bad=1"), "service")
		fx.waitState(t, 5*time.Second, v1alpha1.HostPartial)

		fx.Fleet.Close()
		fx.Fleet = fx.newFleet(t, 2)
		fx.Set("edge", fx.targets)
		fx.Try(set(t, "a=2", "bad=2"), "two")
		fx.wait(t, 5*time.Second, "two has passed", func() bool { return fx.state().Trial.Passed })
	})
}

// What a machine cannot do counts against what is on trial, unless it could do
// nothing before either.
func TestATrialOnAMachineInTrouble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fx := newFixture(t, 2)
		fx.Set("edge", fx.targets)
		fx.Deliver("edge", set(t, "a=1"), "service")
		fx.all(t, 5*time.Second, v1alpha1.HostInSync)
		last := fx.machines[1]
		last.do(func() { last.fail = &host.Error{Code: host.CodeMachine, Message: "no memory"} })
		fx.Try(set(t, "a=2"), "two")
		fx.wait(t, 5*time.Second, "two is refused", func() bool { return fx.States("edge")[1].Trial.Refused != "" })

		fx.Deliver("edge", set(t, "a=1", "b=1"), "service")
		fx.wait(t, 10*time.Second, "it is the machine", func() bool {
			s := fx.States("edge")
			return s[0].State == v1alpha1.HostInSync && s[1].Reason == ReasonMachine && s[1].judged == set(t, "a=1", "b=1").Digest()
		})
		fx.Try(set(t, "a=2", "b=2"), "two")
		fx.wait(t, 10*time.Second, "the other has proved it", func() bool { return fx.States("edge")[0].Trial.Passed })
		time.Sleep(time.Minute)
		synctest.Wait()
		if s := fx.States("edge"); !s[0].Trial.Passed || s[1].Trial != (Trial{Name: "two"}) {
			t.Errorf("trials: %+v, %+v", s[0].Trial, s[1].Trial)
		}
	})
}
