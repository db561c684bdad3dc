package deliver

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/host"
	"github.com/external-lb/external-lb/internal/lb"
)

func TestS15_ProofComesBeforeInSync(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fx := newFixture(t, 1)
		fx.machines[0].takes = 400 * time.Millisecond
		want := set("a=1", "b=1")
		fx.Deliver("edge", want, "service") // before Set: what is wanted waits for hosts
		fx.Set("edge", fx.targets)
		if s := fx.States("edge")[0]; s.State != v1alpha1.HostConnecting || !s.MayServe("a") || s.Serves("a", sum("1")) {
			t.Errorf("at first: %+v", s)
		}
		if s := fx.state(); s.State != v1alpha1.HostDelivering || s.Serves("a", sum("1")) || !s.MayServe("a") {
			t.Errorf("under way: %+v", s)
		}
		fx.waitState(t, time.Second, v1alpha1.HostInSync)
		s := fx.state()
		if !s.Serves("a", sum("1")) || s.Serves("a", sum("2")) || s.Serves("c", sum("1")) || s.MayServe("c") || !s.MayServe("b") {
			t.Errorf("proved: %+v", s)
		}
		if s.Live != want.Digest() || s.Desired != want.Digest() || s.Reloads != 1 || s.EngineVersion != "nginx/1.22.1" || s.LastApplied.IsZero() {
			t.Errorf("proved: %+v", s)
		}
		if diff := cmp.Diff([]time.Duration{400 * time.Millisecond}, fx.counts.proved); diff != "" {
			t.Errorf("proved after (-want +got):\n%s", diff)
		}
		if fx.counts.reloaded["service"] != 1 || fx.counts.delivered[ResultApplied] != 1 || fx.changes < 2 {
			t.Errorf("metrics %+v, %d changes", fx.counts, fx.changes)
		}
	})
}

func TestOnlyChangesTravel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fx := newFixture(t, 1)
		fx.Set("edge", fx.targets)
		fx.Deliver("edge", set("a=1", "b=1", "c=1"), "start")
		fx.waitState(t, time.Second, v1alpha1.HostInSync)
		fx.Deliver("edge", set("a=1", "b=2"), "change")
		fx.waitState(t, 2*time.Second, v1alpha1.HostInSync)
		last := fx.machines[0].applies[1]
		if len(last.Change.Put) != 1 || last.Change.Put[0].Key != "b" || len(last.Change.Delete) != 1 || last.Change.Delete[0] != "c" {
			t.Errorf("change %+v", last.Change)
		}
		if last.Epoch.Compare(fx.machines[0].applies[0].Epoch) <= 0 {
			t.Errorf("epoch %v after %v", last.Epoch, fx.machines[0].applies[0].Epoch)
		}
	})
}

func TestS35_ARestartLearnsWhatRunsAndReloadsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fx := newFixture(t, 1)
		fx.Set("edge", fx.targets)
		fx.Deliver("edge", set("a=1"), "service")
		fx.waitState(t, time.Second, v1alpha1.HostInSync)
		fx.Fleet.Close()

		fx.Fleet = fx.newFleet(t, 2)
		fx.Set("edge", fx.targets)
		if s := fx.state(); !s.Serves("a", sum("1")) || s.State != v1alpha1.HostConnecting {
			t.Errorf("before the first Deliver: %+v", s)
		}
		fx.Deliver("edge", set("a=1"), "start")
		if s := fx.state(); s.State != v1alpha1.HostInSync || s.Reloads != 0 || fx.machines[0].reloads != 1 {
			t.Errorf("after it: %+v, %d reloads", s, fx.machines[0].reloads)
		}
	})
}

func TestS03_AFormerLeadersDeliveryMayStillCome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fx := newFixture(t, 1)
		m := fx.machines[0]
		m.do(func() { m.wanted = set("a=1").Manifest().Sums(); m.live = m.wanted })
		// The former leader's delivery of b has reached the host and waits there.
		former := set("a=1", "b=1")
		late := make(chan struct{})
		m.before = func(context.Context) error { <-late; return nil }
		go m.Apply(context.Background(), host.Delivery{
			Epoch: host.Epoch{Term: 0, Seq: 9}, Base: m.wanted.Manifest().Digest(),
			Want: former.Digest(), Change: lb.Diff(m.wanted.Manifest(), former),
		})
		synctest.Wait()
		fx.Set("edge", fx.targets)
		fx.Deliver("edge", set("a=1"), "start")
		if s := fx.state(); !s.MayServe("b") || !s.Serves("a", sum("1")) {
			t.Errorf("while it may come: %+v", s)
		}
		close(late)
		fx.waitState(t, 5*time.Second, v1alpha1.HostInSync)
		if s := fx.state(); s.MayServe("b") {
			t.Errorf("afterwards: %+v", s)
		}
		if _, live := m.live["b"]; live {
			t.Error("b is live")
		}
	})
}

// What adds goes together, in the least interval of a second. Changes wait for no more than the delivery that is
// under way.
func TestAStormCostsAFewReloads(t *testing.T) {
	const takes, storm = 200 * time.Millisecond, 2 * time.Second
	for what, tc := range map[string]struct {
		most  int
		items func(i int) []string
	}{
		"what adds": {4, func(i int) []string {
			var all []string
			for k := range i + 1 {
				all = append(all, fmt.Sprintf("a%d=1", k))
			}
			return all
		}},
		"changes": {changesAtOnce + int(storm/changesEvery) + 2, func(i int) []string { return []string{fmt.Sprintf("a=%d", i)} }},
	} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				fx := newFixture(t, 3)
				for _, m := range fx.machines {
					m.takes = takes
				}
				fx.Set("edge", fx.targets)
				const changes = 200
				for i := range changes {
					fx.Deliver("edge", set(tc.items(i)...), "storm")
					time.Sleep(storm / changes)
				}
				fx.wait(t, 3*time.Second, "all in sync", func() bool {
					for _, s := range fx.States("edge") {
						if s.State != v1alpha1.HostInSync {
							return false
						}
					}
					return true
				})
				newest := set(tc.items(changes - 1)...)
				for i, m := range fx.machines {
					if n := m.asked(); n > tc.most {
						t.Errorf("host %d: %d deliveries, want at most %d", i, n, tc.most)
					}
					if got := m.runs().Manifest().Digest(); got != newest.Digest() {
						t.Errorf("host %d does not run the newest", i)
					}
				}
			})
		})
	}
}

func TestMinIntervalHoldsFromTheStartOfAReload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fx := newFixture(t, 1)
		fx.machines[0].takes = 300 * time.Millisecond
		fx.targets[0].MinInterval = 5 * time.Second
		fx.Set("edge", fx.targets)
		fx.Deliver("edge", set("a=1"), "first")
		start := time.Now()
		fx.waitState(t, time.Second, v1alpha1.HostInSync)
		fx.Deliver("edge", set("a=1", "b=1"), "second")
		fx.waitState(t, 10*time.Second, v1alpha1.HostInSync)
		if d := time.Since(start); d < 5300*time.Millisecond || d > 5350*time.Millisecond {
			t.Errorf("the second was live after %v", d)
		}
		// A shorter interval counts at once, without a new connection.
		fx.Deliver("edge", set("a=1", "b=1", "c=1"), "third")
		fx.targets[0].MinInterval = 0
		fx.Set("edge", fx.targets)
		if d := fx.waitState(t, 10*time.Second, v1alpha1.HostInSync); d > 350*time.Millisecond {
			t.Errorf("the third was live after %v", d)
		}
		if fx.net.dials["lb1"] != 1 {
			t.Errorf("%d connections", fx.net.dials["lb1"])
		}
	})
}

// However long a Balancer lets pass between reloads, only what adds something waits for that: a nodePort that
// has changed, or whose Service has gone, may be somebody else's by now.
func TestS18_MinIntervalHoldsNoWithdrawal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fx := newFixture(t, 1)
		fx.targets[0].MinInterval = 10 * time.Minute
		fx.Set("edge", fx.targets)
		deliver := func(items ...string) time.Duration {
			time.Sleep(changesAtOnce * changesEvery) // of the bubble's clock: this is no series of changes
			fx.Deliver("edge", set(items...), "change")
			return fx.waitState(t, 20*time.Minute, v1alpha1.HostInSync)
		}
		deliver("a=1", "b=1")
		for what, items := range map[string][]string{"a change": {"a=2", "b=1"}, "a withdrawal": {"b=1"}, "a withdrawal with what adds": {"c=1"}} {
			deliver("a=1", "b=1")
			if d := deliver(items...); d > 100*time.Millisecond {
				t.Errorf("%s came after %v", what, d)
			}
		}
		deliver("a=1")
		fx.Deliver("edge", set("a=1", "b=1"), "waits")
		fx.Deliver("edge", set("b=1"), "withdraws") // while something waits
		if d := fx.waitState(t, 20*time.Minute, v1alpha1.HostInSync); d > 100*time.Millisecond {
			t.Errorf("a withdrawal waited for what adds: %v", d)
		}
		if d := deliver("b=1", "d=1"); d < 9*time.Minute || d > 10*time.Minute {
			t.Errorf("what adds came after %v", d)
		}
	})
}

// Where old workers are near their bound, what only adds waits, and nothing else does.
func TestS18_AdditionsWaitForOldWorkersAndNothingElseDoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fx := newFixture(t, 1)
		m := fx.machines[0]
		m.old, fx.targets[0].MinInterval = host.Use{Used: 90, Limit: 100}, 0
		fx.Set("edge", fx.targets)
		deliver := func(items ...string) time.Duration {
			fx.Deliver("edge", set(items...), "change")
			return fx.waitState(t, time.Minute, v1alpha1.HostInSync)
		}
		deliver("a=1", "b=1")
		if d := deliver("a=1", "b=1", "c=1"); d < additionsWait-time.Second || d > additionsWait+time.Second {
			t.Errorf("one more came after %v", d)
		}
		if d := deliver("a=2", "b=1", "c=1"); d > time.Second {
			t.Errorf("a change came after %v", d)
		}
		if d := deliver("a=2", "b=1"); d > time.Second {
			t.Errorf("a withdrawal came after %v", d)
		}
		if d := deliver("b=1", "d=1"); d > time.Second {
			t.Errorf("a withdrawal with an addition came after %v", d)
		}
		fx.Deliver("edge", set("b=1", "d=1", "e=1"), "waits")
		time.Sleep(time.Second) // of the bubble's clock
		if d := deliver("d=1", "e=1"); d > 100*time.Millisecond {
			t.Errorf("a withdrawal waited for an addition: %v", d)
		}
		fx.Deliver("edge", set("d=1", "e=1", "f=1"), "waits")
		m.do(func() { m.old.Used = 10 })
		if d := fx.waitState(t, time.Minute, v1alpha1.HostInSync); d > lookAgain+time.Second {
			t.Errorf("when old workers had ended, one more came after %v", d)
		}
		if d := deliver("d=1", "e=1", "f=1", "g=1"); d > time.Second {
			t.Errorf("with few old workers one more came after %v", d)
		}
		// One change a second for a minute.
		m.do(func() { m.old.Used = 90 })
		deliver("a=1")
		before, items := m.asked(), []string{"a=1"}
		for i := range 60 {
			items = append(items, fmt.Sprintf("n%d=1", i))
			fx.Deliver("edge", set(items...), "storm")
			time.Sleep(time.Second) // of the bubble's clock
		}
		if n := m.asked() - before; n > 60/int(additionsWait/time.Second)+1 {
			t.Errorf("%d deliveries in a minute", n)
		}
	})
}

func TestS08_AnUnreachableHostMayServeWhatItHad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fx := newFixture(t, 2)
		fx.Set("edge", fx.targets)
		fx.Deliver("edge", set("a=1", "b=1"), "service")
		fx.waitState(t, time.Second, v1alpha1.HostInSync)
		fx.net.cut("lb1", errDown)
		if s := fx.state(); s.State != v1alpha1.HostUnreachable || s.Reason != ReasonLost {
			t.Errorf("cut: %+v", s)
		}
		fx.wait(t, 5*time.Second, "says why", func() bool { return fx.States("edge")[0].Reason == ReasonUnreachable })
		fx.Deliver("edge", set("a=1"), "withdrawal")
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		states := fx.States("edge")
		if !states[0].MayServe("b") || !states[0].Serves("a", sum("1")) || states[1].MayServe("b") {
			t.Errorf("%+v", states)
		}
		fx.net.cut("lb1", nil)
		if d := fx.waitState(t, time.Minute, v1alpha1.HostInSync); d > 7*time.Second {
			t.Errorf("healed, and in sync only after %v", d)
		}
		if s := fx.state(); s.MayServe("b") || s.Message != "" {
			t.Errorf("healed: %+v", s)
		}
	})
}

// An answer that is lost leaves open what became of the delivery.
func TestS03_ConnectionLostWhileDelivering(t *testing.T) {
	for _, done := range []bool{false, true} {
		t.Run(fmt.Sprintf("done=%v", done), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				fx := newFixture(t, 1)
				fx.Set("edge", fx.targets)
				fx.Deliver("edge", set("keep=1", "change=1", "gone=1"), "service")
				fx.waitState(t, time.Second, v1alpha1.HostInSync)

				m := fx.machines[0]
				goOn := make(chan struct{})
				m.do(func() {
					m.before = func(context.Context) error {
						<-goOn
						if !done {
							return errors.New("killed before it did anything")
						}
						return nil
					}
				})
				fx.Deliver("edge", set("keep=1", "change=2", "new=1"), "service")
				fx.wait(t, 2*time.Second, "under way", func() bool { return len(m.turn) == 1 })
				fx.net.cut("lb1", errDown)
				s := fx.state()
				if s.Serves("change", sum("1")) || s.Serves("change", sum("2")) || s.Serves("gone", sum("1")) || !s.Serves("keep", sum("1")) {
					t.Errorf("claims what may have changed: %+v", s)
				}
				if !s.MayServe("gone") || !s.MayServe("new") || s.MayServe("other") {
					t.Errorf("does not allow for both: %+v", s)
				}
				// Meanwhile, the new one is wanted no more. The host comes back before the
				// delivery that was cut off has ended: its Status is no proof against it.
				fx.Deliver("edge", set("keep=1", "change=1", "gone=1"), "service")
				fx.net.cut("lb1", nil)
				time.Sleep(time.Minute)
				if s := fx.state(); !s.MayServe("new") || s.Serves("change", sum("1")) {
					t.Errorf("back, and the lost delivery may still come: %+v", s)
				}
				m.do(func() { m.before = nil })
				close(goOn)
				fx.waitState(t, time.Minute, v1alpha1.HostInSync)
				if s := fx.state(); s.MayServe("new") || !s.Serves("gone", sum("1")) || !s.Serves("change", sum("1")) {
					t.Errorf("after the fence: %+v", s)
				}
			})
		})
	}
}

func TestARepairedSecretCountsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fx := newFixture(t, 1)
		fx.targets[0].Problem = errors.New("the Secret edge-ssh does not exist: create it")
		fx.Set("edge", fx.targets)
		fx.Deliver("edge", set("a=1"), "service")
		if s := fx.state(); s.State != v1alpha1.HostUnreachable || s.Reason != ReasonSecret || s.Message != fx.targets[0].Problem.Error() {
			t.Errorf("%+v", s)
		}
		time.Sleep(10 * time.Minute)
		fx.targets[0].Problem = nil
		fx.Set("edge", fx.targets)
		if s := fx.state(); s.State != v1alpha1.HostInSync {
			t.Errorf("%+v", s)
		}
		// A key that sshd refuses: slowly, and at once when it is another.
		fx.net.cut("lb1", &Error{Reason: ReasonKeyRefused, Message: "refused"})
		before := fx.net.dialled("lb1")
		time.Sleep(10 * time.Minute)
		if n := fx.net.dialled("lb1") - before; n < 18 || n > 35 {
			t.Errorf("%d attempts in 10 minutes", n)
		}
		fx.net.cut("lb1", nil)
		fx.targets[0].PrivateKey = []byte("another")
		fx.Set("edge", fx.targets)
		if s := fx.state(); s.State != v1alpha1.HostInSync {
			t.Errorf("%+v", s)
		}
	})
}

func TestAnotherMachineUnderTheSameNameProvesAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fx := newFixture(t, 1)
		fx.Set("edge", fx.targets)
		fx.Deliver("edge", set("a=1"), "service")
		fx.waitState(t, time.Second, v1alpha1.HostInSync)
		fx.net.machines["lb1"] = newMachine()
		fx.net.down["lb1"] = errDown
		moved := append([]Target(nil), fx.targets...)
		moved[0].Host.Address = "192.0.2.99"
		fx.Set("edge", moved)
		if s := fx.state(); s.Live != "" || !s.MayServe("z") {
			t.Errorf("%+v", s)
		}
		fx.net.cut("lb1", nil)
		fx.waitState(t, 10*time.Second, v1alpha1.HostInSync)
		if fx.net.machines["lb1"].reloads != 1 {
			t.Error("the new machine has not reloaded")
		}
	})
}

func TestSetIsIdempotentAndForgets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fx := newFixture(t, 3)
		fx.Set("edge", fx.targets)
		fx.Deliver("edge", set("a=1"), "service")
		fx.waitState(t, time.Second, v1alpha1.HostInSync)
		for range 10 {
			fx.Set("edge", fx.targets)
		}
		synctest.Wait()
		fx.Set("edge", []Target{fx.targets[2], fx.targets[0]})
		var names []string
		for _, s := range fx.States("edge") {
			names = append(names, s.Host)
		}
		if diff := cmp.Diff([]string{"lb3", "lb1"}, names); diff != "" {
			t.Errorf("order (-want +got):\n%s", diff)
		}
		for name, n := range fx.net.dials {
			if n != 1 {
				t.Errorf("%d connections to %s", n, name)
			}
		}
		if fx.machines[1].live == nil {
			t.Error("a host that was removed was changed")
		}
		fx.Set("edge", nil)
		if fx.States("edge") != nil || fx.States("other") != nil {
			t.Error("States of a forgotten Balancer")
		}
		fx.Set("edge", fx.targets[:1])
		if s := fx.state(); s.Desired != "" {
			t.Errorf("a forgotten Balancer has desires: %+v", s)
		}
	})
}

func TestMain(m *testing.M) {
	if servedHost() {
		return
	}
	goleak.VerifyTestMain(m)
}
