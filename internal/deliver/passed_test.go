package deliver

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/host"
	"github.com/external-lb/external-lb/internal/lb"
)

var errRolledBack = &host.Error{Code: host.CodeRolledBack, Message: "nginx refuses the configuration"}

// A host on which nothing works any more has the others wait for a few changes, and no longer.
func TestAHostThatRefusesEachChangeIsPassedOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fx := newFixture(t, 3)
		fx.Set("edge", fx.targets)
		fx.Deliver("edge", set("a=0"), "service")
		fx.all(t, 5*time.Second, v1alpha1.HostInSync)
		bad := fx.machines[2]
		bad.do(func() { bad.fail = errRolledBack })
		for n := 1; n < refusedOften; n++ {
			fx.Deliver("edge", set(fmt.Sprintf("a=%d", n)), "service")
			time.Sleep(5 * time.Minute) // one change that is tried again says no more than the first time
			if s := fx.state(); s.Reason != ReasonHeldBack {
				t.Fatalf("after %d changes: %+v", n, s)
			}
		}
		for n := refusedOften; n < refusedOften+5; n++ {
			next := set(fmt.Sprintf("a=%d", n))
			fx.Deliver("edge", next, "service")
			fx.wait(t, 5*time.Second, "the others have it", func() bool {
				s := fx.States("edge")
				return s[0].State == v1alpha1.HostInSync && s[1].State == v1alpha1.HostInSync && s[0].Live == next.Digest()
			})
			if s := fx.States("edge")[2]; s.State != v1alpha1.HostFailed || s.Reason != ReasonRolledBack ||
				!strings.Contains(s.Message, errRolledBack.Message) || !strings.Contains(s.Message, "other hosts get changes before it") {
				t.Errorf("the one at fault: %+v", s)
			}
		}
		// Among the others, one still is the first.
		fx.machines[1].do(func() { fx.machines[1].fail = errRolledBack })
		fx.Deliver("edge", set("a=bad"), "service")
		time.Sleep(time.Minute)
		if s := fx.state(); s.Reason != ReasonHeldBack || !strings.Contains(s.Message, "lb2") {
			t.Errorf("while the next one refuses a change: %+v", s)
		}
		fx.machines[1].do(func() { fx.machines[1].fail = nil })
		// Once it has proved a change it is the first again.
		bad.do(func() { bad.fail = nil })
		fx.all(t, 2*time.Minute, v1alpha1.HostInSync)
		bad.do(func() { bad.fail = errRolledBack })
		fx.Deliver("edge", set("a=last"), "service")
		time.Sleep(time.Minute)
		if s := fx.state(); s.Reason != ReasonHeldBack || !strings.Contains(s.Message, "lb3") {
			t.Errorf("when it is well again: %+v", s)
		}
	})
}

// service is an item of a Service.
func service(namespace, name, content string) lb.Item {
	return lb.NewItem(lb.ServiceKey(lb.ID{Namespace: namespace, Name: name, UID: "6f1c0a52-1111-4222-8333-944455566677"}), []byte(content))
}

// What a Service gives up may be somebody else's by now: no single host keeps it on the others.
func TestS18_NoSingleHostHoldsAWithdrawalBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fx := newFixture(t, 3)
		fx.Set("edge", fx.targets)
		web, api := service("default", "web", "1"), service("default", "api", "1")
		fx.Deliver("edge", lb.NewSet(web, api), "service")
		fx.all(t, 5*time.Second, v1alpha1.HostInSync)
		fx.machines[2].do(func() { fx.machines[2].fail = errRolledBack })
		fx.Deliver("edge", lb.NewSet(service("default", "web", "2"), api), "service")
		time.Sleep(time.Minute)
		if s := fx.state(); s.Reason != ReasonHeldBack {
			t.Fatalf("a change: %+v", s)
		}
		fx.Deliver("edge", lb.NewSet(web), "service")
		fx.wait(t, 5*time.Second, "it is gone elsewhere", func() bool {
			return !slices.ContainsFunc(fx.States("edge")[:2], func(s State) bool { return s.State != v1alpha1.HostInSync || s.MayServe(api.Key) })
		})
	})
}

// What is bad on every host stops at the second one, whatever else changes meanwhile.
func TestABadChangeStopsAtTheSecondHost(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		hosts := rapid.IntRange(2, 5).Draw(rt, "hosts")
		pauses := rapid.SliceOfN(rapid.IntRange(0, 40_000), 1, 25).Draw(rt, "pauses") // ms between changes
		active := rapid.IntRange(0, hosts).Draw(rt, "active")                         // hosts: none
		var wrong string
		synctest.Test(t, func(t *testing.T) {
			fx := newFixture(t, hosts)
			refused := map[int]bool{}
			for i, m := range fx.machines {
				m.takes, m.active = 300*time.Millisecond, i == active
				m.rejects = func(wanted lb.Sums) error {
					if _, has := wanted["bad"]; !has {
						return nil
					}
					fx.mu.Lock()
					defer fx.mu.Unlock()
					refused[i] = true
					return errRolledBack
				}
			}
			fx.Set("edge", fx.targets)
			fx.Deliver("edge", set("a=0"), "service")
			fx.all(t, 5*time.Second, v1alpha1.HostInSync)
			for n, pause := range pauses {
				fx.Deliver("edge", set(fmt.Sprintf("a=%d", n), "bad=1"), "service")
				time.Sleep(time.Duration(pause) * time.Millisecond)
			}
			time.Sleep(time.Minute)
			synctest.Wait()
			fx.mu.Lock()
			if len(refused) > 2 {
				wrong = fmt.Sprintf("%d hosts were given it", len(refused))
			}
			fx.mu.Unlock()
			last := set("last=1")
			fx.Deliver("edge", last, "service")
			fx.all(t, 2*time.Minute, v1alpha1.HostInSync)
		})
		if wrong != "" {
			rt.Fatal(wrong)
		}
	})
}

// Whichever host goes bad, and when: what is changed then is soon on all others.
func TestOneBadHostHoldsNoOtherBackForLong(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		hosts := rapid.IntRange(2, 4).Draw(rt, "hosts")
		type turn struct {
			bad   int // hosts: none
			pause int // ms
		}
		turns := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) turn {
			return turn{rapid.IntRange(0, hosts).Draw(t, "bad"), rapid.IntRange(2_000, 20_000).Draw(t, "pause")}
		}), 1, 6).Draw(rt, "turns")
		var stuck []State
		synctest.Test(t, func(t *testing.T) {
			fx := newFixture(t, hosts)
			fx.Set("edge", fx.targets)
			fx.Deliver("edge", set("a=0"), "service")
			fx.all(t, 5*time.Second, v1alpha1.HostInSync)
			n := 0
			for _, turn := range turns {
				for i, m := range fx.machines {
					m.do(func() {
						m.fail = nil
						if i == turn.bad {
							m.fail = errRolledBack
						}
					})
				}
				var newest *lb.Set
				for range refusedOften {
					n++
					newest = set(fmt.Sprintf("a=%d", n))
					fx.Deliver("edge", newest, "service")
					time.Sleep(time.Duration(turn.pause) * time.Millisecond)
				}
				time.Sleep(3 * retryMax) // who was bad before is asked again
				synctest.Wait()
				for i, s := range fx.States("edge") {
					if i != turn.bad && (s.State != v1alpha1.HostInSync || s.Live != newest.Digest()) {
						stuck = append(stuck, s)
					}
				}
				if len(stuck) > 0 {
					return
				}
			}
		})
		if len(stuck) > 0 {
			rt.Fatalf("held back: %+v", stuck)
		}
	})
}
