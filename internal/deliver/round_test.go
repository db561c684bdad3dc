package deliver

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/host"
	"github.com/external-lb/external-lb/internal/lb"
)

// Where changes come faster than deliveries end, the others get what the first one has proved last.
func TestAStormReachesAllHosts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fx := newFixture(t, 3)
		fx.Set("edge", fx.targets)
		fx.Deliver("edge", set("a=0"), "service")
		fx.all(t, 5*time.Second, v1alpha1.HostInSync)
		for i, m := range fx.machines {
			m.do(func() {
				m.takes = 700 * time.Millisecond
				m.makeLive = func(next lb.Sums) {
					fx.mu.Lock()
					defer fx.mu.Unlock()
					if i != 2 && !fx.proved[next.Manifest().Digest()] {
						t.Errorf("host %d gets what lb3 has not proved", i)
					}
				}
				m.after = func() error {
					fx.mu.Lock()
					defer fx.mu.Unlock()
					if i == 2 {
						fx.proved[m.runs().Manifest().Digest()] = true
					}
					return nil
				}
			})
		}
		const changes = 200
		for n := range changes {
			fx.Deliver("edge", set(fmt.Sprintf("a=%d", n)), "service")
			time.Sleep(300 * time.Millisecond)
			if n < 30 {
				continue
			}
			synctest.Wait()
			for i, m := range fx.machines {
				if live := m.runs()["a"]; !among(live, n-15, n) {
					t.Fatalf("host %d carries none of the last 15 changes while %d is wanted", i, n)
				}
			}
		}
		fx.all(t, 5*time.Second, v1alpha1.HostInSync)
		for i, m := range fx.machines {
			if m.runs()["a"] != sum(fmt.Sprint(changes-1)) {
				t.Errorf("host %d does not carry the last change", i)
			}
		}
	})
}

func among(s lb.Sum, from, to int) bool {
	for n := from; n <= to; n++ {
		if s == sum(fmt.Sprint(n)) {
			return true
		}
	}
	return false
}

// What a host is about to get, though less is wanted by now, may be live soon: nobody else gets its address.
func TestS03_WhatIsStillToComeMayServe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fx := newFixture(t, 2)
		fx.targets[0].MinInterval = 5 * time.Second
		fx.Set("edge", fx.targets)
		fx.Deliver("edge", set("a=1"), "service")
		fx.all(t, 5*time.Second, v1alpha1.HostInSync)
		fx.Deliver("edge", set("a=1", "b=1"), "service")
		fx.wait(t, 4*time.Second, "the first one has it", func() bool { return len(fx.machines[1].runs()) == 2 })
		fx.machines[1].do(func() { fx.machines[1].takes = time.Minute })
		fx.Deliver("edge", set("a=1"), "service")
		if s := fx.state(); !s.MayServe("b") || s.State != v1alpha1.HostDelivering {
			t.Errorf("%+v", s)
		}
		fx.wait(t, 10*time.Second, "it has come", func() bool { return len(fx.machines[0].runs()) == 2 })
		fx.all(t, 2*time.Minute, v1alpha1.HostInSync)
		if s := fx.state(); s.MayServe("b") {
			t.Errorf("%+v", s)
		}
	})
}

// step is something that happens to a fixture.
type step struct {
	What  string
	Host  int
	Items []string
	Pause int // ms
}

var steps = rapid.Custom(func(t *rapid.T) step {
	return step{
		rapid.SampledFrom([]string{
			"deliver", "deliver", "deliver", "deliver", "deliver for one", "cut", "heal", "full", "bad", "well", "active", "passive",
			"tampered", "another live", "wants another", "down", "installed anew", "upgrade", "refuse", "restart",
		}).Draw(t, "what"),
		rapid.IntRange(0, 2).Draw(t, "host"),
		rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"a=1", "a=2", "b=1", "b=2", "c=1", "d=1"}), 0, 4, func(s string) string { return s[:1] }).Draw(t, "items"),
		rapid.IntRange(0, 2000).Draw(t, "pause"),
	}
})

// Whatever has happened: once no more changes come, and no host is at fault, all hosts carry what is wanted.
func TestAllHostsGetThereInTheEnd(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		todo := rapid.SliceOfN(steps, 1, 40).Draw(rt, "steps")
		hosts := rapid.IntRange(1, 3).Draw(rt, "hosts")
		var stuck []State
		synctest.Test(t, func(t *testing.T) {
			fx := newFixture(t, hosts)
			for _, m := range fx.machines {
				m.takes = 300 * time.Millisecond
			}
			fx.Set("edge", fx.targets)
			for _, s := range todo {
				fx.happens(t, s)
				time.Sleep(time.Duration(s.Pause) * time.Millisecond)
			}
			for i, m := range fx.machines {
				fx.net.cut(fx.targets[i].Host.Name, nil)
				m.do(func() { m.fail, m.refuse = nil, map[lb.Key]lb.Refusal{} })
			}
			stuck = fx.starved()
			last := set("last=1")
			if len(stuck) > 0 {
				return
			}
			fx.Deliver("edge", last, "service")
			// Two looks and a delivery of each host, one after the other.
			for range 180 {
				time.Sleep(time.Second)
				synctest.Wait()
				stuck = slices.DeleteFunc(fx.States("edge"), func(s State) bool { return s.State == v1alpha1.HostInSync && s.Live == last.Digest() })
				if len(stuck) == 0 {
					checkClaims(t, fx)
					return
				}
			}
		})
		if len(stuck) > 0 {
			rt.Fatalf("changes do not reach %+v", stuck)
		}
	})
}

// starved are the hosts that get nothing new for long, once all are well, while changes come faster than
// deliveries end.
func (fx *fixture) starved() (hosts []State) {
	const often, last = 500 * time.Millisecond, 180
	for n := range last + 1 {
		fx.Deliver("edge", set(fmt.Sprintf("n=%d", n)), "service")
		time.Sleep(often)
	}
	synctest.Wait()
	for i, s := range fx.States("edge") {
		if !among(fx.machines[i].runs()["n"], last-20, last) {
			hosts = append(hosts, s)
		}
	}
	return hosts
}

func (fx *fixture) happens(t *testing.T, s step) {
	i := s.Host % len(fx.machines)
	m, name := fx.machines[i], fx.targets[i].Host.Name
	want := set(s.Items...)
	switch s.What {
	case "deliver":
		fx.Deliver("edge", want, "service")
	case "deliver for one":
		other := map[string]*lb.Set{}
		for _, t := range fx.targets {
			other[t.Host.Name] = want
		}
		other[name] = set(append(s.Items, "e=1")...)
		fx.Fleet.Deliver("edge", other, "service")
	case "cut":
		fx.net.cut(name, errDown)
	case "heal":
		fx.net.cut(name, nil)
	case "upgrade":
		fx.upgrade(fmt.Sprint(s.Pause))
	case "restart":
		fx.Fleet.Close()
		fx.Fleet = fx.newFleet(t, fx.leads.Term()+1)
		fx.Set("edge", fx.targets)
		fx.Deliver("edge", want, "start")
	}
	m.do(func() {
		switch s.What {
		case "full":
			m.fail = &host.Error{Code: host.CodeMachine, Message: "the disk is full"}
		case "bad":
			m.fail = &host.Error{Code: host.CodeRolledBack, Message: "the daemon refuses it"}
		case "well":
			m.fail = nil
		case "active", "passive":
			m.active = s.What == "active"
		case "tampered":
			m.tampered = true
		case "another live":
			m.live = want.Manifest().Sums()
		case "wants another":
			m.wanted = want.Manifest().Sums()
		case "down":
			m.live = nil
		case "installed anew":
			m.wanted, m.live, m.epoch = lb.Sums{}, nil, host.Epoch{}
		case "refuse":
			m.refuses("b", "no such address")
		}
	})
}
