package providertest

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/netip"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/external-lb/external-lb/provider"
	"github.com/external-lb/external-lb/test/wait"
)

// Crashes is a provider that dies before or after any of its writes, in each step of a load balancer's life.
type Crashes struct {
	// New is a provider whose requests to its cloud go through what is made of a transport.
	New func(through func(http.RoundTripper) http.RoundTripper) provider.Cloud
	// Writes reports whether a request changes something.
	Writes func(*http.Request) bool
	// Sources: the networks of clients change in a life, too.
	Sources bool
	// Alone wants one load balancer of an ID in the cloud, or nothing.
	Alone func(t *testing.T, id provider.ID, there bool)
}

// mortal lets some writes through, and then nothing. Of the last one, the answer may be lost.
type mortal struct {
	http.RoundTripper
	changes func(*http.Request) bool
	writes  atomic.Int32
	left    int32 // writes that are done
	lost    bool  // the next one is done, too, but nobody hears of it
}

// over makes it the end of a transport.
func (m *mortal) over(r http.RoundTripper) http.RoundTripper {
	m.RoundTripper = r
	return m
}

var errDead = errors.New("the provider is dead")

func (m *mortal) RoundTrip(r *http.Request) (*http.Response, error) {
	if m.changes(r) {
		m.writes.Add(1)
	}
	switch n := m.writes.Load(); {
	case n > m.left+1 || n > m.left && !m.lost || n > m.left && !m.changes(r):
		return nil, errDead
	case n > m.left:
		answer, err := m.RoundTripper.RoundTrip(r)
		if err != nil {
			return nil, err
		}
		answer.Body.Close()
		return nil, errDead
	}
	return m.RoundTripper.RoundTrip(r)
}

// Same is a transport as it is.
func Same(r http.RoundTripper) http.RoundTripper { return r }

// step of a life.
type step struct {
	name string
	want func(provider.Cloud) *provider.Spec // nil: that it goes
}

// life of a load balancer, step by step.
func (c Crashes) life() []step {
	return slices.DeleteFunc(slices.Clone(life), func(s step) bool { return s.name == closed && !c.Sources })
}

const closed = "closed"

var life = []step{
	{"made", func(c provider.Cloud) *provider.Spec { return SpecOf(c, 80) }},
	{"changed", func(c provider.Cloud) *provider.Spec {
		s := SpecOf(c, 80, 443)
		s.Listeners[0].NodePort = 30081
		s.Families[0].Members = append(s.Families[0].Members, provider.Member{Address: netip.MustParseAddr("192.0.2.11"), Weight: 2})
		return s
	}},
	{closed, func(c provider.Cloud) *provider.Spec {
		s := SpecOf(c, 80, 443)
		s.Families[0].Sources = []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")}
		return s
	}},
	{"less", func(c provider.Cloud) *provider.Spec { return SpecOf(c, 443) }},
	{"gone", func(provider.Cloud) *provider.Spec { return nil }},
}

// SpecOf ports, as far as a cloud is able.
func SpecOf(c provider.Cloud, ports ...uint16) *provider.Spec {
	able, err := c.Capabilities(context.Background())
	if err != nil {
		panic(err) // those in the tests ask nobody
	}
	s := &provider.Spec{Namespace: "default", Name: "web", Families: []provider.Family{{
		Family: provider.IPv4, Sources: []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")},
		Members: []provider.Member{{Address: netip.MustParseAddr("192.0.2.10"), Weight: 1}},
	}}}
	for _, port := range ports {
		s.Listeners = append(s.Listeners, provider.Listener{Port: port, Protocol: provider.TCP, NodePort: 30000 + port, Settings: able.Prune(provider.TCP, provider.Settings{
			Algorithm: provider.RoundRobin, Mode: provider.ModeTCP, SendProxy: provider.ProxyNone, ConnectTimeoutMilliseconds: 1000, IdleTimeoutMilliseconds: 600_000,
			HealthCheck: provider.HealthCheck{Type: provider.CheckTCP, IntervalMilliseconds: 5000, TimeoutMilliseconds: 2000, Rise: 2, Fall: 3},
		})})
	}
	return s
}

// Run a life for each write, and for each of them two deaths: before it, and before its answer. Nothing comes of a
// death before the first one.
func (c Crashes) Run(t *testing.T) {
	for step, writes := range c.lifeOf(t) {
		for after := range writes {
			for _, lost := range []bool{false, true} {
				if after == 0 && !lost {
					continue
				}
				t.Run(fmt.Sprintf("%s/%d writes/%t", c.life()[step].name, after, lost), func(t *testing.T) {
					t.Parallel()
					c.dies(t, step, after, lost)
				})
			}
		}
	}
}

// lifeOf a load balancer whose provider does not die: how many writes each step takes.
func (c Crashes) lifeOf(t *testing.T) (writes []int32) {
	t.Helper()
	m := &mortal{changes: c.Writes, left: math.MaxInt32 - 1}
	cloud, id := c.New(m.over), provider.ID{Cluster: "crash", Service: "healthy"}
	for _, step := range c.life() {
		before := m.writes.Load()
		Reach(t, cloud, id, step.want(cloud))
		n := m.writes.Load() - before
		if writes = append(writes, n); n == 0 {
			t.Fatalf("%q took no write", step.name)
		}
	}
	return writes
}

// dies in a step of a life, and ends it when that is done: all that follows is as in a life without a death.
func (c Crashes) dies(t *testing.T, in int, after int32, lost bool) {
	id := provider.ID{Cluster: "crash", Service: fmt.Sprintf("%d-%d-%t", in, after, lost)}
	healthy := c.New(Same)
	for i, step := range c.life()[:in+1] {
		if i == in {
			m := &mortal{changes: c.Writes, left: after, lost: lost}
			dying := c.New(m.over)
			wait.For(t, func(ctx context.Context) error {
				switch done, _, err := towards(ctx, dying, id, step.want(dying)); {
				case errors.Is(err, errDead) || m.writes.Load() > after:
					return nil
				case done: // what the cloud was at work on took less tries than in the first life
					return nil
				default:
					return errors.Join(err, errors.New("not yet"))
				}
			})
		}
		Reach(t, healthy, id, step.want(healthy))
		c.Alone(t, id, step.want(healthy) != nil)
	}
	Reach(t, healthy, id, nil)
	c.Alone(t, id, false)
}

// Reach asks until it is as wanted, or gone where nothing is. It waits for each change anew: how long all of them
// take on a busy machine, nobody knows.
func Reach(t testing.TB, c provider.Cloud, id provider.ID, want *provider.Spec) {
	t.Helper()
	const rounds = 20 // some changes in each: more than anything takes
	for range rounds {
		var done, moved bool
		began := time.Now()
		wait.For(t, func(ctx context.Context) (err error) {
			done, moved, err = towards(ctx, c, id, want)
			if again := moved && time.Since(began) > wait.Patience/rounds; err == nil && !done && !again {
				err = errors.New("not yet")
			}
			return err
		})
		if done {
			return
		}
	}
	t.Fatal("it is changed again and again, and is not as wanted")
}

// Until asks for what is wanted until what comes of it is enough.
func Until(t *testing.T, c provider.Cloud, id provider.ID, want *provider.Spec, enough func(provider.Observed, error) error) {
	t.Helper()
	wait.For(t, func(ctx context.Context) error {
		began := time.Now()
		o, err := c.Put(ctx, id, *want)
		if err = enough(o, err); err != nil {
			pause(ctx, o, time.Since(began))
		}
		return err
	})
}

// towards asks once for what is wanted, and then waits for as long as it is told to. It has moved where it was changed.
func towards(ctx context.Context, c provider.Cloud, id provider.ID, want *provider.Spec) (done, moved bool, err error) {
	var o provider.Observed
	began := time.Now()
	if want == nil {
		if o, err = c.Delete(ctx, id); provider.Is(err, provider.NotFound) {
			return true, false, nil
		}
	} else if o, err = c.Put(ctx, id, *want); err == nil && o.State == provider.Live && o.Spec.Digest() == want.Digest() {
		return true, false, nil
	}
	pause(ctx, o, time.Since(began))
	return false, o.Calls.Writes > 0, err
}

// pause for as long as a cloud says. One that took long to say so is busy, and is asked the less.
func pause(ctx context.Context, o provider.Observed, took time.Duration) {
	again := time.NewTimer(max(time.Duration(o.RetryAfterSeconds)*time.Second, 2*took))
	defer again.Stop()
	select {
	case <-ctx.Done():
	case <-again.C:
	}
}
