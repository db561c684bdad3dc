package deliver

import (
	"context"
	"errors"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/engine"
	"github.com/external-lb/external-lb/internal/host"
	"github.com/external-lb/external-lb/internal/lb"
	"github.com/external-lb/external-lb/internal/wire"
)

// seers connect to machines that tell what they see.
type seers struct {
	*network
	mu    sync.Mutex
	seen  host.Observation
	err   error
	asked int
}

func (s *seers) Dial(ctx context.Context, t Target) (Conn, error) {
	c, err := s.network.Dial(ctx, t)
	if err != nil {
		return nil, err
	}
	return &seeing{c.(*link), s}, nil
}

func (s *seers) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked
}

func (s *seers) set(seen host.Observation, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen, s.err = seen, err
}

type seeing struct {
	*link
	of *seers
}

func (s *seeing) Observe(context.Context) (host.Observation, error) {
	s.of.mu.Lock()
	defer s.of.mu.Unlock()
	s.of.asked++
	return s.of.seen, s.of.err
}

var (
	web   = lb.ID{Namespace: "default", Name: "web", UID: "uid-1"}
	other = lb.ID{Namespace: "default", Name: "other", UID: "uid-2"}
)

// After a reload a daemon counts anew, and the node is down as long as it was.
func TestANodeThatIsDownWentDownOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fx, s := newSeers(t)
		at := traffic(web, 0, 0).Listener
		fx.Look()
		time.Sleep(observePause + time.Second)
		before := fx.state().Seen.Since(at, "n1")
		s.set(host.Observation{Traffic: []host.Traffic{traffic(web, 0, 0)}}, nil)
		fx.Look()
		time.Sleep(observePause + time.Second)
		if seen := fx.state().Seen; before.IsZero() || !seen.Since(at, "n1").Equal(before) || !seen.Lasts(at, "n1") {
			t.Errorf("down since %v, and then since %v", before, seen.Since(at, "n1"))
		}
	})
}

// What a host tells of ports that it does not have is nothing.
func TestOnlyWhatIsCarriedIsSeen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fx, s := newSeers(t)
		invented := traffic(web, 0, 0)
		invented.Listener.Port = 81
		s.set(host.Observation{Traffic: []host.Traffic{invented, traffic(web, 1, 0), traffic(web, 2, 0)}}, nil)
		fx.Look()
		time.Sleep(observePause + time.Second)
		if seen := fx.state().Seen.Traffic; len(seen) != 1 || seen[0].Open != 1 {
			t.Errorf("seen: %+v", seen)
		}
	})
}

// A node that has just gone may be back in a moment. That it is not, is news.
func TestNodesThatStayDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fx, s := newSeers(t)
		s.set(host.Observation{}, nil)
		fx.Look()
		time.Sleep(observePause + time.Second)
		s.set(host.Observation{Traffic: []host.Traffic{traffic(web, 0, time.Second)}}, nil)
		fx.Look()
		time.Sleep(observePause + time.Second)
		seen := fx.state().Seen
		if at := seen.Traffic[0].Listener; seen.Lasts(at, "n1") {
			t.Error("down for a second")
		}
		told := fx.told()
		s.set(host.Observation{Traffic: []host.Traffic{traffic(web, 0, observeEvery)}}, nil)
		time.Sleep(2 * observeEvery)
		seen = fx.state().Seen
		if at := seen.Traffic[0].Listener; !seen.Lasts(at, "n1") || fx.told() == told {
			t.Errorf("not told that it is still down: %d times", fx.told()-told)
		}
	})
}

// traffic of one listener, behind which n1 has been down for a while.
func traffic(of lb.ID, open int64, since time.Duration) host.Traffic {
	return host.Traffic{
		Carried: engine.Carried{Service: of, Listener: lb.Listener{Address: netip.MustParseAddr("192.0.2.1"), Port: 80, Protocol: lb.TCP}},
		Counts:  engine.Counts{Open: open}, Judged: engine.Judged{Up: 1, Down: 1, Named: []host.DownNode{{Node: "n1", For: since}}},
	}
}

// carriesWeb is a set in which web listens where traffic is told of.
func carriesWeb(t *testing.T) *lb.Set {
	t.Helper()
	set, err := (&lb.Encoder{}).Encode(&lb.Config{Services: []*lb.Service{{
		ID: web, IPv4: lb.Family{Targets: lb.Targets{All: true}, Clients: lb.Clients{Everybody: true}},
		Frontends: []lb.Frontend{{
			Listener: traffic(web, 0, 0).Listener, NodePort: 30080,
			Settings: lb.Settings{
				Algorithm: lb.RoundRobin, Mode: lb.ModeTCP, SendProxy: lb.ProxyNone, ConnectTimeout: time.Second, IdleTimeout: time.Minute,
				HealthCheck: lb.HealthCheck{Type: lb.CheckNone},
			},
		}},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	return set
}

func newSeers(t *testing.T) (*fixture, *seers) {
	fx := newFixture(t, 1)
	fx.Fleet.Close()
	s := &seers{network: fx.net}
	s.seen = host.Observation{Traffic: []host.Traffic{traffic(web, 3, 90*time.Second), traffic(other, 4, time.Second)}}
	fx.Fleet = NewFleet(Options{Leader: fx.leads, Dialer: s, Metrics: fx.counts, Log: quiet(t), Changed: func(string) {
		fx.mu.Lock()
		defer fx.mu.Unlock()
		fx.changes++
	}})
	t.Cleanup(fx.Fleet.Close)
	fx.Set("edge", fx.targets)
	fx.Deliver("edge", carriesWeb(t), "service")
	fx.waitState(t, time.Second, v1alpha1.HostInSync)
	return fx, s
}

func (fx *fixture) told() int {
	fx.mu.Lock()
	defer fx.mu.Unlock()
	return fx.changes
}

func TestHostsTellWhatTheySee(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fx, s := newSeers(t)
		time.Sleep(observePause + time.Second) // after the delivery
		seen := fx.state().Seen
		if seen == nil || len(seen.Traffic) != 1 || seen.Traffic[0].Service != web || seen.Traffic[0].Open != 3 {
			t.Fatalf("a host that carries web alone: %+v", seen)
		}
		since := seen.Since(seen.Traffic[0].Listener, "n1")
		if ago := time.Since(since).Round(2 * time.Second); ago < 90*time.Second || ago > 96*time.Second {
			t.Errorf("n1 has been down for %s", ago)
		}

		// Traffic alone is no news, and neither is that time goes on.
		before, told := s.count(), fx.told()
		s.set(host.Observation{Traffic: []host.Traffic{traffic(web, 7, 90*time.Second+2*observeEvery)}}, nil)
		time.Sleep(2 * observeEvery)
		if n := s.count() - before; n < 1 || n > 3 {
			t.Errorf("asked %d times in %s", n, 2*observeEvery)
		}
		now := fx.state().Seen
		if now.Traffic[0].Open != 7 || !now.Since(now.Traffic[0].Listener, "n1").Equal(since) {
			t.Errorf("%+v, since %s", now, now.Since(now.Traffic[0].Listener, "n1"))
		}
		if n := fx.told() - told; n != 0 {
			t.Errorf("told %d times of nothing new", n)
		}

		// What becomes of nodes is.
		up := traffic(web, 7, 0)
		up.Judged = engine.Judged{Up: 2}
		s.set(host.Observation{Traffic: []host.Traffic{up}}, nil)
		fx.Look()
		time.Sleep(observePause)
		if fx.told() == told || fx.state().Seen.Traffic[0].Up != 2 {
			t.Errorf("told %d times, %+v", fx.told()-told, fx.state().Seen)
		}
	})
}

func TestWhoLooksOftenDoesNotAskOften(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fx, s := newSeers(t)
		before := s.count()
		for range 100 {
			fx.Look()
			time.Sleep(100 * time.Millisecond)
		}
		if n := s.count() - before; n < 3 || n > 6 {
			t.Errorf("asked %d times in 10 s", n)
		}
	})
}

func TestHostsThatDoNotTellWhatTheySee(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fx, s := newSeers(t)
		time.Sleep(observeEvery)
		s.set(host.Observation{}, errors.New("the daemon is stuck"))
		time.Sleep(2 * observeEvery)
		if st := fx.state(); st.State != v1alpha1.HostInSync || st.Seen == nil || len(st.Seen.Traffic) != 0 || st.Seen.Message == "" {
			t.Errorf("%+v, sees %+v", st, st.Seen)
		}
		s.set(host.Observation{}, wire.ErrUnobserved)
		time.Sleep(2 * observeEvery)
		before := s.count()
		time.Sleep(10 * observeEvery)
		if n := s.count() - before; n != 0 {
			t.Errorf("an older host was asked %d times again", n)
		}
		fx.net.cut("lb1", errDown)
		time.Sleep(time.Second)
		if st := fx.state(); st.Seen != nil {
			t.Errorf("what a host saw that is gone: %+v", st.Seen)
		}
	})
}

// What a host says of many listeners is read while others ask how hosts are.
func TestNobodyWaitsWhileWhatIsSeenIsRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fx := newFixture(t, 1)
		fx.Set("edge", fx.targets)
		synctest.Wait()
		reads := 0
		fx.balancers["edge"].workers[0].sees(host.Observation{Traffic: make([]host.Traffic, 1)}, func(lb.Key, lb.Listener) bool {
			if reads++; fx.Fleet.mu.TryLock() {
				fx.Fleet.mu.Unlock()
			} else {
				t.Error("they wait")
			}
			return true
		})
		if s := fx.state(); reads != 1 || s.Seen == nil || len(s.Seen.Traffic) != 1 {
			t.Errorf("read %d times: %+v", reads, s.Seen)
		}
	})
}
