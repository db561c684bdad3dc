package deliver

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/host"
	"github.com/external-lb/external-lb/internal/lb"
)

// with replaces items of a set.
func with(s *lb.Set, items ...lb.Item) *lb.Set { return s.Apply(lb.Change{Put: items}) }

// Who changes a Service all the time costs a reload now and then, where each ends somebody's connections. Others
// do not wait for that, and what nobody owns does not.
func TestS18_WhoChangesSomethingAllTheTimeWaitsNearTheBound(t *testing.T) {
	const lasts = 2 * time.Minute
	for what, c := range map[string]struct {
		used        int
		least, most int // deliveries of one who changes something each second
	}{
		"near it":     {nearBound, 8, tenantAtOnce + int(lasts/tenantEvery) + 2},
		"far from it": {nearBound - 1, 115, 130},
	} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				fx := newFixture(t, 1)
				m := fx.machines[0]
				m.old = host.Use{Used: c.used, Limit: 100}
				fx.Set("edge", fx.targets)
				all := lb.NewSet(service("noisy", "web", "0"), service("quiet", "web", "0"), lb.NewItem(lb.NodeKey("n1"), []byte("0")))
				fx.Deliver("edge", all, "start")
				fx.waitState(t, time.Second, v1alpha1.HostInSync)
				before := m.asked()
				for n := range int(lasts / time.Second) {
					cert := lb.NewItem(lb.CertificateKey("rotated"), fmt.Append(nil, n)) // which belongs to the same
					all = with(all, service("noisy", "web", fmt.Sprint(n+1)), cert)
					fx.Deliver("edge", all, "noise")
					time.Sleep(time.Second) // of the bubble's clock
				}
				synctest.Wait()
				if n := m.asked() - before; n < c.least || n > c.most {
					t.Errorf("%d deliveries", n)
				}
				for what, it := range map[string]lb.Item{"another namespace": service("quiet", "web", "1"), "a node": lb.NewItem(lb.NodeKey("n1"), []byte("1"))} {
					fx.Deliver("edge", with(all, service("noisy", "web", "last of "+what)), "noise")
					synctest.Wait()
					all = with(all, it)
					fx.Deliver("edge", all, "change")
					if d := fx.waitState(t, time.Minute, v1alpha1.HostInSync); d > changesEvery {
						t.Errorf("a change of %s came after %v", what, d)
					}
				}
				all = with(all, service("noisy", "web", "last"))
				fx.Deliver("edge", all, "noise")
				if d := fx.waitState(t, time.Minute, v1alpha1.HostInSync); d > tenantEvery {
					t.Errorf("the last change came after %v", d)
				}
			})
		})
	}
}

// Whoever changes what, and when, near the bound: nothing waits for longer than tenantEvery, and nobody with few
// changes waits for others.
func TestNearTheBoundNothingWaitsForLong(t *testing.T) {
	const takes = 200 * time.Millisecond
	type step struct {
		tenant int
		pause  int // ms
	}
	steps := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) step {
		return step{rapid.IntRange(0, 3).Draw(t, "tenant"), rapid.IntRange(0, 3000).Draw(t, "pause")}
	}), 1, 80)
	rapid.Check(t, func(rt *rapid.T) {
		todo := steps.Draw(rt, "steps")
		wrong := ""
		synctest.Test(t, func(t *testing.T) {
			fx := newFixture(t, 1)
			m := fx.machines[0]
			m.takes, m.old = takes, host.Use{Used: 90, Limit: 100}
			fx.Set("edge", fx.targets)
			all := lb.NewSet()
			for i := range 4 {
				all = with(all, service(fmt.Sprint("t", i), "web", "0"))
			}
			fx.Deliver("edge", all, "start")
			fx.waitState(t, time.Second, v1alpha1.HostInSync)
			made, wanted := map[int]int{}, map[lb.Digest]time.Time{} // changes by tenant; until when something was what is wanted
			for n, s := range todo {
				made[s.tenant]++
				wanted[all.Digest()] = time.Now()
				all = with(all, service(fmt.Sprint("t", s.tenant), "web", fmt.Sprint(n+1)))
				fx.Deliver("edge", all, "change")
				begun, few := time.Now(), made[s.tenant] < tenantAtOnce // the start was one, too
				for time.Since(begun) < time.Duration(s.pause)*time.Millisecond {
					time.Sleep(10 * time.Millisecond) // of the bubble's clock
					synctest.Wait()
					live := m.runs().Manifest().Digest()
					switch {
					case live == all.Digest():
					case few && time.Since(begun) > changesEvery+takes:
						wrong = fmt.Sprintf("change %d, of %d of tenant %d, is not live after %v", n, made[s.tenant], s.tenant, time.Since(begun))
						return
					case time.Since(wanted[live]) > tenantEvery+2*takes:
						wrong = fmt.Sprintf("what is live when change %d has come was wanted %v ago", n, time.Since(wanted[live]))
						return
					}
				}
			}
			if d := fx.waitState(t, time.Minute, v1alpha1.HostInSync); d > tenantEvery+2*takes {
				wrong = fmt.Sprintf("the last change came after %v", d)
			}
		})
		if wrong != "" {
			rt.Fatal(wrong)
		}
	})
}

// Of many namespaces no more is kept than of some.
func TestTenantsAreBounded(t *testing.T) {
	now, all := time.Now(), tenants{}
	for n := range 3 * mostTenants {
		all.spend(now, lb.Change{Delete: []lb.Key{service(fmt.Sprint("n", n), "web", "").Key}})
	}
	if len(all) != mostTenants {
		t.Errorf("%d are kept", len(all))
	}
	all.spend(now.Add(time.Hour), lb.Change{Delete: []lb.Key{service("late", "web", "").Key}})
	if len(all) != 1 {
		t.Errorf("%d are kept of those who changed nothing for long", len(all))
	}
}
