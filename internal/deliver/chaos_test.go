package deliver

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/host"
	"github.com/external-lb/external-lb/internal/lb"
	"github.com/external-lb/external-lb/internal/wire"
)

// dice is a random source for several goroutines.
type dice struct {
	mu sync.Mutex
	r  *rand.Rand
}

func (d *dice) n(n int) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.r.IntN(n)
}

func (d *dice) oneIn(n int) bool { return d.n(n) == 0 }

// Every tenth call fails, before or after it did its work, and connections are
// cut under deliveries that go on; hosts refuse items and are upgraded. Whatever is claimed is true at every moment,
// and in the end every host runs what is desired, faults and all.
func TestS08_ClaimsAreTrueUnderFaults(t *testing.T) {
	for seed := range uint64(20) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := &dice{r: rand.New(rand.NewPCG(seed, 1))}
				fx := newFixture(t, 3)
				spread(fx, d)
				fx.Set("edge", fx.targets)
				for range 400 {
					switch {
					case d.oneIn(20):
						fx.net.cut(fmt.Sprintf("lb%d", d.n(3)+1), errDown)
					case d.oneIn(4):
						for i := range 3 {
							fx.net.cut(fmt.Sprintf("lb%d", i+1), nil)
						}
					case d.oneIn(20):
						m := fx.machines[d.n(3)]
						m.do(func() { m.renderer = fmt.Sprint(d.n(3)) })
					default:
						fx.Deliver("edge", anySet(d), "service")
					}
					time.Sleep(time.Duration(d.n(1500)) * time.Millisecond)
					checkClaims(t, fx)
				}
				for i := range 3 {
					fx.net.cut(fmt.Sprintf("lb%d", i+1), nil)
				}
				last := set("last=1")
				fx.Deliver("edge", last, "service")
				fx.wait(t, 10*time.Minute, "all run the last set", func() bool {
					for i, s := range fx.States("edge") {
						if s.State != v1alpha1.HostInSync || fx.machines[i].runs().Manifest().Digest() != last.Digest() {
							return false
						}
					}
					return true
				})
				checkClaims(t, fx)
			})
		})
	}
}

// spread plants faults into every tenth operation.
func spread(fx *fixture, d *dice) {
	fx.net.fault = func(op string) error {
		switch {
		case !d.oneIn(10):
			return nil
		case op == "dial":
			return errDown
		default:
			return wire.ErrLost
		}
	}
	for _, m := range fx.machines {
		m.takes = 300 * time.Millisecond
		m.only = map[lb.Key]lb.Sum{"b": sum("2"), "c": sum("2")}
		m.refuses("b", "no such address")
		m.refuse["c"] = lb.Refusal{Key: "c", Reason: lb.RefusedByEngine, Message: "no", OlderStays: true}
		m.before = func(context.Context) error {
			time.Sleep(time.Duration(d.n(800)) * time.Millisecond) // of the bubble's clock
			if d.oneIn(10) {
				return &host.Error{Code: host.CodeMachine, Message: "disk full"}
			}
			return nil
		}
	}
}

func anySet(d *dice) *lb.Set {
	var items []string
	for _, key := range []string{"a", "b", "c", "d", "e"} {
		if !d.oneIn(3) {
			items = append(items, fmt.Sprintf("%s=%d", key, d.n(3)))
		}
	}
	return set(items...)
}

// checkClaims compares what States say with what the machines run, while nothing moves.
func checkClaims(t *testing.T, fx *fixture) {
	t.Helper()
	synctest.Wait()
	for i, s := range fx.States("edge") {
		live := fx.machines[i].runs()
		for _, key := range []lb.Key{"a", "b", "c", "d", "e", "last"} {
			got, ok := live[key]
			if ok && !s.MayServe(key) {
				t.Fatalf("%s serves %s and is said not to: %+v", s.Host, key, s)
			}
			for content := range 3 {
				want := sum(fmt.Sprint(content))
				if s.Serves(key, want) && (!ok || got != want) {
					t.Fatalf("%s is said to serve %s=%d and does not: %+v", s.Host, key, content, s)
				}
			}
		}
		if s.State == v1alpha1.HostInSync && live.Manifest().Digest() != s.Desired {
			t.Fatalf("%s is said to be in sync: %+v", s.Host, s)
		}
	}
}
