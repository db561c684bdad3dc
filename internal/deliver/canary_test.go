package deliver

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/host"
)

// all waits until every host is in a state.
func (fx *fixture) all(t *testing.T, limit time.Duration, want v1alpha1.HostState) {
	t.Helper()
	fx.wait(t, limit, "all "+string(want), func() bool {
		for _, s := range fx.States("edge") {
			if s.State != want {
				return false
			}
		}
		return true
	})
}

func TestAChangeGoesToTheLastHostFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fx := newFixture(t, 3)
		fx.Set("edge", fx.targets)
		fx.Deliver("edge", set("a=1"), "service")
		fx.all(t, 5*time.Second, v1alpha1.HostInSync)
		var order []string
		for i, m := range fx.machines {
			m.do(func() {
				m.takes = 100 * time.Millisecond
				m.before = func(context.Context) error {
					if i < 2 {
						if live := fx.machines[2].runs().Manifest().Digest(); live != set("a=2").Digest() {
							t.Errorf("host %d gets the change while the last one runs %s", i, live.Short())
						}
					}
					fx.mu.Lock()
					defer fx.mu.Unlock()
					order = append(order, fx.targets[i].Host.Name)
					return nil
				}
			})
		}
		fx.Deliver("edge", set("a=2"), "service")
		synctest.Wait()
		if s := fx.state(); s.State != v1alpha1.HostDelivering || s.Desired != set("a=2").Digest() || s.Live != set("a=1").Digest() {
			t.Errorf("the first host meanwhile: %+v", s)
		}
		fx.all(t, 5*time.Second, v1alpha1.HostInSync)
		if len(order) != 3 || order[0] != "lb3" {
			t.Errorf("order %v", order)
		}
	})
}

// A host that is taken out for maintenance gets changes first, but decides nothing.
func TestADrainedHostHoldsNobodyBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fx := newFixture(t, 2)
		fx.Set("edge", fx.targets)
		fx.Deliver("edge", set("a=1"), "service")
		fx.all(t, 5*time.Second, v1alpha1.HostInSync)
		fx.targets[1].Host.Drain = true
		fx.Set("edge", fx.targets)
		fx.machines[1].do(func() {
			fx.machines[1].fail = &host.Error{Code: host.CodeRolledBack, Message: "unknown directive in /etc/nginx/nginx.conf:3"}
		})
		fx.Deliver("edge", set("a=2"), "service")
		fx.wait(t, time.Minute, "the other has the change", func() bool {
			s := fx.States("edge")
			return s[0].State == v1alpha1.HostInSync && s[0].Live == set("a=2").Digest() && s[1].State == v1alpha1.HostFailed
		})
	})
}

func TestTheOthersAreLeftAloneWhenAChangeFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fx := newFixture(t, 3)
		fx.Set("edge", fx.targets)
		good := set("a=1")
		fx.Deliver("edge", good, "service")
		fx.all(t, 5*time.Second, v1alpha1.HostInSync)
		last := fx.machines[2]
		last.do(func() { last.fail = &host.Error{Code: host.CodeRolledBack, Message: "nginx refuses the configuration"} })
		fx.Deliver("edge", set("a=2"), "service")
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		states := fx.States("edge")
		for i, s := range states[:2] {
			if s.State != v1alpha1.HostFailed || s.Reason != ReasonHeldBack || !strings.Contains(s.Message, "failed on lb3") || s.Live != good.Digest() {
				t.Errorf("host %d: %+v", i, s)
			}
			if n := fx.machines[i].asked(); n != 1 {
				t.Errorf("host %d got %d deliveries", i, n)
			}
		}
		if states[2].Reason != ReasonRolledBack {
			t.Errorf("the last host: %+v", states[2])
		}
		// Back to what was good, and what is wanted next is tried there first again.
		fx.Deliver("edge", good, "service")
		last.do(func() { last.fail = nil })
		fx.all(t, time.Minute, v1alpha1.HostInSync)
		fx.Deliver("edge", set("a=3"), "service")
		fx.all(t, time.Minute, v1alpha1.HostInSync)
		for i, m := range fx.machines {
			if m.runs().Manifest().Digest() != set("a=3").Digest() {
				t.Errorf("host %d runs something else", i)
			}
		}
	})
}

// A host that cannot be worked with says nothing of the change.
func TestTroubleWithAMachineHoldsNobodyBack(t *testing.T) {
	for name, trouble := range map[string]func(fx *fixture){
		"unreachable": func(fx *fixture) { fx.net.cut("lb2", errDown) },
		"full disk": func(fx *fixture) {
			m := fx.machines[1]
			m.do(func() { m.fail = &host.Error{Code: host.CodeMachine, Message: "the disk is full"} })
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				fx := newFixture(t, 2)
				fx.Set("edge", fx.targets)
				fx.Deliver("edge", set("a=1"), "service")
				fx.all(t, 5*time.Second, v1alpha1.HostInSync)
				trouble(fx)
				fx.Deliver("edge", set("a=2"), "service")
				fx.wait(t, 10*time.Second, "the first host has it", func() bool {
					return fx.machines[0].runs().Manifest().Digest() == set("a=2").Digest()
				})
			})
		})
	}
}

// With VRRP the host that has the addresses comes last.
func TestTheActiveHostIsNotTheFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fx := newFixture(t, 2)
		last := fx.machines[1]
		last.do(func() { last.active = true })
		fx.Set("edge", fx.targets)
		fx.Deliver("edge", set("a=1"), "service")
		fx.all(t, 5*time.Second, v1alpha1.HostInSync)
		first := fx.machines[0]
		first.do(func() { first.takes = time.Second })
		fx.Deliver("edge", set("a=2"), "service")
		time.Sleep(500 * time.Millisecond)
		synctest.Wait()
		if first.asked() != 2 || last.asked() != 1 {
			t.Errorf("the first host got %d deliveries, the active one %d", first.asked(), last.asked())
		}
		fx.all(t, 5*time.Second, v1alpha1.HostInSync)
	})
}

// While the machine of one is of no use, it keeps no change from the others by trying.
func TestAHostThatFailsSlowlyHoldsNobodyBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fx := newFixture(t, 2)
		fx.Set("edge", fx.targets)
		fx.Deliver("edge", set("a=0"), "service")
		fx.all(t, 5*time.Second, v1alpha1.HostInSync)
		last := fx.machines[1]
		last.do(func() {
			last.before = func(context.Context) error {
				time.Sleep(time.Minute)
				return &host.Error{Code: host.CodeMachine, Message: "the disk is full"}
			}
		})
		fx.Deliver("edge", set("a=1"), "service")
		fx.wait(t, 2*time.Minute, "the other one has it", func() bool { return fx.machines[0].runs().Manifest().Digest() == set("a=1").Digest() })
		for n := range 10 {
			next := set(fmt.Sprintf("a=%d", n+2))
			fx.Deliver("edge", next, "service")
			fx.wait(t, 3*time.Second, "the other one has it", func() bool { return fx.machines[0].runs().Manifest().Digest() == next.Digest() })
			if s := fx.States("edge")[1]; s.State != v1alpha1.HostFailed || s.Reason != ReasonMachine {
				t.Errorf("meanwhile: %+v", s)
			}
			time.Sleep(7 * time.Second)
		}
		last.do(func() { last.before = nil })
		fx.all(t, 3*time.Minute, v1alpha1.HostInSync)
	})
}

// One that takes deliveries and answers none has the others wait for the first alone, though it says all the while
// that it is there.
func TestAHostThatDoesNotAnswerDeliveriesHoldsNobodyBack(t *testing.T) {
	for name, takes := range map[string]bool{"it may still come": false, "it does not come any more": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				fx := newFixture(t, 2)
				fx.Set("edge", fx.targets)
				fx.Deliver("edge", set("a=0"), "service")
				fx.all(t, 5*time.Second, v1alpha1.HostInSync)
				mend := fx.machines[1].hangs(t, takes)
				fx.Deliver("edge", set("a=1"), "service")
				fx.wait(t, applyTimeout+time.Second, "the other one has it", func() bool { return fx.machines[0].runs().Manifest().Digest() == set("a=1").Digest() })
				for n := range 10 {
					time.Sleep(97 * time.Second)
					next := set(fmt.Sprintf("a=%d", n+2))
					fx.Deliver("edge", next, "service")
					fx.wait(t, 3*time.Second, "the other one has it", func() bool { return fx.machines[0].runs().Manifest().Digest() == next.Digest() })
				}
				mend()
				fx.all(t, 15*time.Minute, v1alpha1.HostInSync)
				// It is the first again.
				fx.machines[1].do(func() { fx.machines[1].fail = &host.Error{Code: host.CodeRolledBack, Message: "no"} })
				fx.Deliver("edge", set("a=bad"), "service")
				time.Sleep(time.Minute)
				synctest.Wait()
				if s := fx.state(); s.Reason != ReasonHeldBack {
					t.Errorf("the other one: %+v", s)
				}
			})
		})
	}
}

// Where none has answered its last delivery, a change still goes to one after the other.
func TestWhereNoHostHasAnsweredOneIsFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fx := newFixture(t, 2)
		fx.Set("edge", fx.targets)
		fx.Deliver("edge", set("a=1"), "service")
		fx.all(t, 5*time.Second, v1alpha1.HostInSync)
		mends := []func(){fx.machines[0].hangs(t, true), fx.machines[1].hangs(t, true)}
		fx.Deliver("edge", set("a=2"), "service")
		time.Sleep(applyTimeout + applyTimeout/2) // the first has not answered, and the other is asked
		for i := range fx.machines {
			fx.net.cut(fx.targets[i].Host.Name, errDown)
		}
		for i, m := range fx.machines {
			mends[i]()
			m.do(func() { m.fail = &host.Error{Code: host.CodeRolledBack, Message: "the daemon refuses it"} })
		}
		fx.all(t, 10*time.Second, v1alpha1.HostUnreachable)
		last := set("a=3")
		fx.Deliver("edge", last, "service")
		fx.net.cut("lb1", nil)
		fx.wait(t, 2*time.Minute, "it goes to the one that is back", func() bool { return fx.machines[0].given(last) > 0 })
		fx.net.cut("lb2", nil)
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if n := fx.machines[1].given(last); n > 0 {
			t.Errorf("the other one got it %d times", n)
		}
		for _, m := range fx.machines {
			m.do(func() { m.fail = nil })
		}
		fx.all(t, time.Minute, v1alpha1.HostInSync)
	})
}

// What nobody has proved goes to one of the hosts that come back together.
func TestHostsThatComeBackTogetherGetAChangeOneAfterTheOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fx := newFixture(t, 2)
		fx.Set("edge", fx.targets)
		fx.Deliver("edge", set("a=1"), "service")
		fx.all(t, 5*time.Second, v1alpha1.HostInSync)
		for i, m := range fx.machines {
			fx.net.cut(fx.targets[i].Host.Name, errDown)
			m.do(func() { m.fail = &host.Error{Code: host.CodeRolledBack, Message: "the daemon refuses it"} })
		}
		fx.all(t, 10*time.Second, v1alpha1.HostUnreachable)
		fx.Deliver("edge", set("a=2"), "service")
		time.Sleep(10 * time.Second)
		for _, target := range fx.targets {
			fx.net.cut(target.Host.Name, nil)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if a, b := fx.machines[0].asked(), fx.machines[1].asked(); a > 1 && b > 1 {
			t.Errorf("they were asked %d and %d times", a, b)
		}
	})
}
