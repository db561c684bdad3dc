package deliver

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/host"
	"github.com/external-lb/external-lb/internal/lb"
)

func TestDriftIsRepaired(t *testing.T) {
	drifts := map[string]func(m *machine){
		"tampered on disk": func(m *machine) { m.tampered = true },
		"another is live":  func(m *machine) { m.live = set("x=1").Manifest().Sums() },
		"made by another":  func(m *machine) { m.madeBy = "two" },
		"wants another":    func(m *machine) { m.wanted = set("x=1").Manifest().Sums() },
		"does not run":     func(m *machine) { m.live = nil },
		"installed anew":   func(m *machine) { m.wanted, m.live, m.epoch = lb.Sums{}, nil, host.Epoch{} },
	}
	for name, drift := range drifts {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				fx := newFixture(t, 1)
				fx.Set("edge", fx.targets)
				fx.Deliver("edge", set("a=1"), "service")
				fx.waitState(t, time.Second, v1alpha1.HostInSync)
				m := fx.machines[0]
				m.do(func() { drift(m) })
				want := set("a=1").Digest()
				fx.wait(t, 40*time.Second, "repaired", func() bool {
					m.mu.Lock()
					defer m.mu.Unlock()
					return m.wanted.Manifest().Digest() == want && m.live.Manifest().Digest() == want && m.report().Proved && !m.report().Outdated
				})
				fx.waitState(t, time.Second, v1alpha1.HostInSync)
				if n := m.asked(); n != 2 {
					t.Errorf("%d deliveries", n)
				}
			})
		})
	}
}

// A delivery answers nothing of what a host warned of.
func TestAWarningStaysThroughDeliveries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fx := newFixture(t, 1)
		m := fx.machines[0]
		m.says = "every node fails its health check"
		fx.Set("edge", fx.targets)
		for _, content := range []string{"a=1", "a=2"} {
			fx.Deliver("edge", set(content), "service")
			fx.waitState(t, 5*time.Second, v1alpha1.HostInSync)
			if s := fx.state(); s.Warning != m.says {
				t.Errorf("%s: %+v", content, s)
			}
		}
		m.do(func() { m.says = "" })
		fx.wait(t, 40*time.Second, "all is well", func() bool { return fx.States("edge")[0].Warning == "" })
	})
}

// A delivery that was cut is for nothing: an overloaded host has longer for the next one.
func TestAnOverloadedHostHasLongerForADelivery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fx := newFixture(t, 1)
		m := fx.machines[0]
		m.before = func(context.Context) error {
			if m.asked() == 1 {
				time.Sleep(applyTimeout + time.Second) // nobody waits for that
				return errors.New("cut")
			}
			time.Sleep(applyTimeout + applyTimeout/2)
			return nil
		}
		fx.Set("edge", fx.targets)
		fx.Deliver("edge", set("a=1"), "service")
		fx.wait(t, applyTimeout+time.Second, "told that it is slow", func() bool { s := fx.state(); return s.Slow && strings.Contains(s.Message, "overloaded") })
		fx.waitState(t, 2*applyTimeout, v1alpha1.HostInSync)
		if n := m.asked(); n != 2 {
			t.Errorf("%d deliveries", n)
		}
	})
}

// Of a host that is out of reach it is not known how full it is, nor with which templates.
func TestWhatIsKnownOfAHostEndsWithTheConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fx := newFixture(t, 1)
		m := fx.machines[0]
		m.templates, m.old = "unexpected {{end}}", host.Use{Used: 99, Limit: 100}
		fx.Set("edge", fx.targets)
		fx.Deliver("edge", set("a=1"), "service")
		fx.wait(t, 5*time.Second, "it is told", func() bool { s := fx.state(); return s.Templates != "" && s.Uses.Old.Used == 99 })
		fx.net.cut("lb1", errDown)
		fx.waitState(t, 5*time.Second, v1alpha1.HostUnreachable)
		if s := fx.state(); s.Templates != "" || s.Uses != (host.Uses{}) {
			t.Errorf("%+v", s)
		}
	})
}

func TestWhatAHostDoesNotProveIsNotClaimed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fx := newFixture(t, 1)
		m := fx.machines[0]
		m.wanted, m.live, m.tampered = set("a=1").Manifest().Sums(), set("a=1").Manifest().Sums(), true
		fx.Set("edge", fx.targets)
		if s := fx.state(); s.Live != "" || !s.MayServe("c") || s.Serves("a", sum("1")) {
			t.Errorf("%+v", s)
		}
	})
}

func TestAFullDiskIsReportedAndRetried(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fx := newFixture(t, 1)
		m := fx.machines[0]
		m.fail = &host.Error{Code: host.CodeMachine, Message: "no space left on /var/lib/external-lb: free some"}
		fx.Set("edge", fx.targets)
		fx.Deliver("edge", set("a=1"), "service")
		fx.waitState(t, time.Second, v1alpha1.HostFailed)
		if s := fx.state(); s.Reason != ReasonMachine || s.Message != m.fail.Error() || s.Serves("a", sum("1")) {
			t.Errorf("%+v", s)
		}
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if n := m.asked(); n < 18 || n > 35 {
			t.Errorf("%d attempts in 10 minutes", n)
		}
		// Something else is tried at once, and the repair is noticed.
		n := m.asked()
		fx.Deliver("edge", set("a=2"), "service")
		fx.wait(t, time.Second, "another set is tried at once", func() bool { return m.asked() == n+1 })
		m.do(func() { m.fail = nil })
		fx.waitState(t, 5*time.Second, v1alpha1.HostInSync)
		if fx.net.dials["lb1"] != 1 {
			t.Errorf("%d connections", fx.net.dials["lb1"])
		}
	})
}

func TestARolledBackWithdrawalIsNone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fx := newFixture(t, 1)
		m := fx.machines[0]
		fx.Set("edge", fx.targets)
		fx.Deliver("edge", set("a=1", "b=1"), "service")
		fx.waitState(t, time.Second, v1alpha1.HostInSync)
		m.do(func() { m.fail = &host.Error{Code: host.CodeRolledBack, Message: "nginx did not take it"} })
		fx.Deliver("edge", set("a=1", "c=1"), "service")
		fx.waitState(t, 2*time.Second, v1alpha1.HostFailed)
		if s := fx.state(); !s.MayServe("b") || s.MayServe("c") || !s.Serves("b", sum("1")) || s.Reason != ReasonRolledBack {
			t.Errorf("%+v", s)
		}
	})
}

func TestWhatIsDesiredAgainNeedsNoDelivery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fx := newFixture(t, 1)
		m := fx.machines[0]
		fx.targets[0].MinInterval = time.Minute
		fx.Set("edge", fx.targets)
		fx.Deliver("edge", set("a=1"), "service")
		fx.waitState(t, time.Second, v1alpha1.HostInSync)
		fx.Deliver("edge", set("a=1", "b=1"), "service") // waits for the interval
		if s := fx.state(); s.State != v1alpha1.HostDelivering {
			t.Errorf("%+v", s)
		}
		fx.Deliver("edge", set("a=1"), "service")
		if s := fx.state(); s.State != v1alpha1.HostInSync || m.asked() != 1 {
			t.Errorf("%d deliveries, %+v", m.asked(), s)
		}
		// The same after a set that failed.
		m.do(func() { m.fail = &host.Error{Code: host.CodeRolledBack, Message: "nginx did not take it"} })
		fx.Deliver("edge", set("a=3"), "service")
		fx.waitState(t, 2*time.Minute, v1alpha1.HostFailed)
		fx.Deliver("edge", set("a=1"), "service")
		if s := fx.state(); s.State != v1alpha1.HostInSync || s.Message != "" || m.asked() != 2 {
			t.Errorf("%d deliveries, %+v", m.asked(), s)
		}
	})
}

func TestAStaleLeaderSaysSoAndTriesSlowly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fx := newFixture(t, 1)
		m := fx.machines[0]
		m.epoch = host.Epoch{Term: 2}
		fx.leads.err = errors.New("another process leads")
		fx.Set("edge", fx.targets)
		for i := range 600 {
			fx.Deliver("edge", set(fmt.Sprintf("a=%d", i)), "service")
			time.Sleep(time.Second)
		}
		s := fx.state()
		if s.State != v1alpha1.HostFailed || s.Reason != ReasonStaleEpoch || !strings.HasSuffix(s.Message, "another process leads") || !s.MayServe("a") {
			t.Errorf("%+v", s)
		}
		if n := fx.leads.raised; n < 15 || n > 26 || m.asked() != 0 {
			t.Errorf("%d attempts in 10 minutes, and %d deliveries", n, m.asked())
		}
	})
}

func TestAnotherBaseIsAskedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fx := newFixture(t, 1)
		fx.Set("edge", fx.targets)
		fx.Deliver("edge", set("a=1"), "service")
		fx.waitState(t, time.Second, v1alpha1.HostInSync)
		m := fx.machines[0]
		time.Sleep(time.Second)
		m.do(func() { m.wanted["x"] = lb.Sum{} }) // between two looks
		fx.Deliver("edge", set("a=2"), "service")
		if s := fx.state(); s.State != v1alpha1.HostInSync {
			t.Errorf("%+v", s)
		}
		if fx.counts.delivered["BaseMismatch"] != 1 || m.asked() != 3 {
			t.Errorf("%+v", fx.counts)
		}
	})
}

func TestABaseThatKeepsChangingIsReported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fx := newFixture(t, 1)
		m := fx.machines[0]
		m.before = func(context.Context) error {
			return &host.Error{Code: host.CodeBaseMismatch, Message: "not the base"}
		}
		fx.Set("edge", fx.targets)
		fx.Deliver("edge", set("a=1"), "service")
		fx.waitState(t, time.Second, v1alpha1.HostFailed)
		time.Sleep(time.Minute)
		if s := fx.state(); s.Reason != ReasonBaseMismatch || m.asked() > 12 {
			t.Errorf("%d attempts, %+v", m.asked(), s)
		}
	})
}

// Where a cloud asks for some time before anything of it is known, nothing is wrong, and nothing delivered.
func TestACloudThatIsNotReadYetIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fx := newFixture(t, 1)
		m := fx.machines[0]
		fx.targets[0].Provider = &Provider{URL: "https://provider.example.com"}
		fx.Fleet = NewFleet(Options{Leader: fx.leads, Providers: fx.net, Log: quiet(t)})
		t.Cleanup(fx.Fleet.Close)
		throttled := &Error{Reason: ReasonThrottled, Message: "what is in the cloud is not known yet"}
		fx.net.cut("lb1", throttled) // while it is asked what it can do
		fx.Set("edge", fx.targets)
		fx.Deliver("edge", set("a=1"), "service")
		if s := fx.state(); s.State != v1alpha1.HostConnecting || s.Message != throttled.Message {
			t.Errorf("before it was reached: %+v", s)
		}
		m.do(func() { m.status = throttled })
		fx.net.cut("lb1", nil)
		time.Sleep(2 * time.Minute)
		if s := fx.state(); s.State != v1alpha1.HostConnecting || s.Reason != ReasonThrottled || s.Message != throttled.Message || m.asked() != 0 {
			t.Errorf("before it was read: %+v, and %d deliveries", s, m.asked())
		}
		m.do(func() { m.status = &host.Error{Code: host.CodeMachine, Message: "Internal: it does not know"} })
		fx.waitState(t, time.Minute, v1alpha1.HostFailed)
		if s := fx.state(); s.Message != "the provider cannot say what its cloud has: Internal: it does not know" {
			t.Errorf("when it fails: %+v", s)
		}
		m.do(func() { m.status = throttled })
		fx.waitState(t, time.Minute, v1alpha1.HostConnecting)
		m.do(func() { m.status = nil })
		fx.waitState(t, time.Minute, v1alpha1.HostInSync)
	})
}

func TestAHostThatCannotSayWhatItRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fx := newFixture(t, 1)
		m := fx.machines[0]
		m.status = &host.Error{Code: host.CodeMachine, Message: "cannot read /var/lib/external-lb"}
		fx.Set("edge", fx.targets)
		fx.Deliver("edge", set("a=1"), "service")
		fx.waitState(t, time.Second, v1alpha1.HostFailed)
		time.Sleep(time.Minute)
		if s := fx.state(); s.Message != "the host cannot say what it runs: cannot read /var/lib/external-lb" || m.asked() != 0 {
			t.Errorf("%+v", s)
		}
		m.do(func() { m.status = nil })
		fx.waitState(t, 40*time.Second, v1alpha1.HostInSync)
	})
}
