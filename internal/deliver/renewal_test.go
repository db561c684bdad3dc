package deliver

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/host"
)

// upgrade gives hosts another version of what makes files of the model.
func (fx *fixture) upgrade(to string) {
	for _, m := range fx.machines {
		m.do(func() { m.renderer = to })
	}
}

func TestWhatAnotherVersionMadeIsMadeAnewOnOneHostAfterTheOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fx := newFixture(t, 3)
		fx.Set("edge", fx.targets)
		fx.Deliver("edge", set("a=1"), "service")
		fx.all(t, 5*time.Second, v1alpha1.HostInSync)
		var order []string
		busy := 0
		for i, m := range fx.machines {
			m.do(func() {
				m.takes = 20 * time.Second
				m.before = func(context.Context) error {
					fx.mu.Lock()
					defer fx.mu.Unlock()
					order = append(order, fx.targets[i].Host.Name)
					if busy++; busy > 1 {
						t.Error("two at a time")
					}
					return nil
				}
				m.after = func() error {
					fx.mu.Lock()
					defer fx.mu.Unlock()
					busy--
					return nil
				}
			})
		}
		// Those that come later have noticed long since.
		fx.machines[2].do(func() { fx.machines[2].active = true })
		time.Sleep(time.Minute)
		fx.upgrade("two")
		fx.wait(t, 5*time.Minute, "all are made anew", func() bool {
			for i, m := range fx.machines {
				if r := func() host.Report { m.mu.Lock(); defer m.mu.Unlock(); return m.report() }(); r.Outdated || m.asked() != 2 {
					return false
				}
				if s := fx.States("edge")[i]; !s.Serves("a", sum("1")) || s.State != v1alpha1.HostInSync {
					t.Fatalf("meanwhile: %+v", s)
				}
			}
			return true
		})
		synctest.Wait()
		if len(order) != 3 || order[2] != "lb3" {
			t.Errorf("order %v: the active one comes last", order)
		}
		for i, m := range fx.machines {
			if d := m.applies[1]; !d.Change.Empty() || d.Base != d.Want {
				t.Errorf("host %d was sent %+v", i, d.Change)
			}
		}
		if fx.counts.reloaded[CauseRenewal] != 3 {
			t.Errorf("causes %v", fx.counts.reloaded)
		}
		if s := fx.state(); s.Renderer != "two" || s.Version != "v0.3.0" || s.LastApplied.Before(time.Now().Add(-3*time.Minute)) {
			t.Errorf("%+v", s)
		}
	})
}

func TestWhatStaysOutdatedIsLeftAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fx := newFixture(t, 1)
		m := fx.machines[0]
		fx.Set("edge", fx.targets)
		fx.Deliver("edge", set("a=1"), "service")
		fx.all(t, 5*time.Second, v1alpha1.HostInSync)
		m.do(func() { m.outdated = true })
		time.Sleep(10 * time.Minute)
		if s := fx.state(); s.State != v1alpha1.HostInSync || m.asked() != 2 {
			t.Errorf("%d deliveries, %+v", m.asked(), s)
		}
		fx.Deliver("edge", set("a=2"), "service")
		fx.all(t, 5*time.Second, v1alpha1.HostInSync)
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if m.asked() != 3 {
			t.Errorf("%d deliveries after a change", m.asked())
		}
		// Another Renderer may help.
		fx.upgrade("two")
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if m.asked() != 4 {
			t.Errorf("%d deliveries after an upgrade", m.asked())
		}
	})
}

func TestARenewalThatFailsStaysOnOneHost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fx := newFixture(t, 3)
		fx.Set("edge", fx.targets)
		fx.Deliver("edge", set("a=1"), "service")
		fx.all(t, 5*time.Second, v1alpha1.HostInSync)
		for _, m := range fx.machines {
			m.do(func() { m.fail = &host.Error{Code: host.CodeRolledBack, Message: "unknown directive"} })
		}
		fx.upgrade("two")
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		failed := 0
		for i, s := range fx.States("edge") {
			if n := fx.machines[i].asked(); s.State == v1alpha1.HostFailed && s.Reason == ReasonRolledBack && n > 15 && n < 40 {
				failed++
			} else if s.State != v1alpha1.HostInSync || n != 1 {
				t.Errorf("%d deliveries to %+v", n, s)
			}
			if !s.Serves("a", sum("1")) {
				t.Errorf("%s runs on: %+v", s.Host, s)
			}
		}
		if failed != 1 {
			t.Errorf("it failed on %d hosts", failed)
		}
		// The templates that were changed are changed back.
		fx.upgrade("one")
		fx.all(t, time.Minute, v1alpha1.HostInSync)
		for _, m := range fx.machines {
			m.do(func() { m.fail = nil })
		}
		fx.upgrade("three")
		fx.wait(t, 2*time.Minute, "all are made anew", func() bool {
			return !slices.ContainsFunc(fx.machines, func(m *machine) bool { m.mu.Lock(); defer m.mu.Unlock(); return m.madeBy != "three" })
		})
		fx.all(t, time.Second, v1alpha1.HostInSync)
	})
}

// A machine that can do nothing keeps no other from being upgraded.
func TestAFullDiskHoldsNoRenewalBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fx := newFixture(t, 2)
		fx.Set("edge", fx.targets)
		fx.Deliver("edge", set("a=1"), "service")
		fx.all(t, 5*time.Second, v1alpha1.HostInSync)
		last := fx.machines[1]
		last.do(func() { last.fail = &host.Error{Code: host.CodeMachine, Message: "the disk is full"} })
		fx.upgrade("two")
		fx.wait(t, 2*time.Minute, "the other is made anew", func() bool {
			m := fx.machines[0]
			m.mu.Lock()
			defer m.mu.Unlock()
			return m.madeBy == "two"
		})
		last.do(func() { last.fail = nil })
		fx.all(t, time.Minute, v1alpha1.HostInSync)
		if last.madeBy != "two" {
			t.Error("the one that was full is not")
		}
	})
}
