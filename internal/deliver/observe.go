package deliver

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/external-lb/external-lb/internal/host"
	"github.com/external-lb/external-lb/internal/lb"
	"github.com/external-lb/external-lb/internal/wire"
)

// Hosts are asked what their daemons see on an interval, and sooner where somebody looks
// or something was delivered; but no host without a pause.
const (
	observeEvery   = 15 * time.Second
	observePause   = 2 * time.Second
	observeTimeout = 20 * time.Second
)

// Seen is what a host's daemons saw, as it said last. It is not changed once made.
type Seen struct {
	At      time.Time
	Traffic []host.Traffic // of Services that the host is to carry
	Message string         // why a daemon does not tell; "" if all do
	since   map[down]time.Time
}

// down is a node behind a listener.
type down struct {
	listener lb.Listener
	node     string
}

// Since is when a node that is down went down; zero: that is not known. It stays the same
// as long as the node does.
func (s *Seen) Since(l lb.Listener, node string) time.Time { return s.since[down{l, node}] }

// lasts is how long a node is down before that is more than a moment. Who looks every
// observeEvery has seen it twice then.
const lasts = 10 * time.Second

// Lasts reports whether a node that is down has been so for more than a moment.
func (s *Seen) Lasts(l lb.Listener, node string) bool { return s.lasts(down{l, node}) }

func (s *Seen) lasts(key down) bool { return s.At.Sub(s.since[key]) >= lasts }

// newSeen keeps what a host tells of what it is to carry, once: labels of metrics come from it.
func newSeen(o host.Observation, now time.Time, was *Seen, carries func(lb.Key, lb.Listener) bool) *Seen {
	s, told := &Seen{At: now, Message: o.Message, since: map[down]time.Time{}}, map[lb.Listener]bool{}
	for _, t := range o.Traffic {
		if told[t.Listener] || !carries(lb.ServiceKey(t.Service), t.Listener) {
			continue
		}
		told[t.Listener] = true
		s.Traffic = append(s.Traffic, t)
		for _, n := range t.Named {
			key := down{t.Listener, n.Node}
			if at := since(n, key, now, was); !at.IsZero() {
				s.since[key] = at
			}
		}
	}
	return s
}

// since is when a node went down: when it was seen down first, where a host cannot tell.
func since(n host.DownNode, key down, now time.Time, was *Seen) time.Time {
	at := now.Add(-max(0, n.For)).Truncate(time.Second)
	if was == nil {
		if n.For == host.Unknown {
			return time.Time{}
		}
		return at
	}
	before, known := was.since[key]
	// Who was down when it was looked at last went down then: after a reload daemons count
	// anew. Hosts tell whole seconds, and take some time to answer.
	if known && (n.For == host.Unknown || at.After(before.Add(-observeTimeout))) {
		return before
	}
	return at
}

// JudgesAs reports whether two say the same of the nodes. Traffic changes all the time.
func (s *Seen) JudgesAs(o *Seen) bool {
	if s == nil || o == nil {
		return s == o
	}
	for key := range s.since {
		if s.lasts(key) != o.lasts(key) {
			return false
		}
	}
	return s.Message == o.Message && maps.EqualFunc(s.since, o.since, time.Time.Equal) &&
		slices.EqualFunc(s.Traffic, o.Traffic, func(a, b host.Traffic) bool {
			return a.Listener == b.Listener && a.Up == b.Up && a.Down == b.Down &&
				slices.EqualFunc(a.Named, b.Named, func(x, y host.DownNode) bool { return x.Node == y.Node })
		})
}

// Look has all hosts asked soon what their daemons see. It does not block.
func (f *Fleet) Look() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, b := range f.balancers {
		for _, w := range b.workers {
			w.lookSoon()
		}
	}
}

// All are the States of the hosts of all Balancers.
func (f *Fleet) All() map[string][]State {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := make(map[string][]State, len(f.balancers))
	for name, b := range f.balancers {
		for _, w := range b.workers {
			out[name] = append(out[name], b.seen(w))
		}
	}
	return out
}

func (w *worker) lookSoon() {
	select {
	case w.look <- struct{}{}:
	default:
	}
}

// watch asks a host what its daemons see, beside deliveries, until ctx is done. What
// fails is tried again: whether the connection is any good is for others to say.
func (w *worker) watch(ctx context.Context, o host.Observer) {
	for {
		call, cancel := context.WithTimeout(ctx, observeTimeout)
		said, err := o.Observe(call)
		cancel()
		never := errors.Is(err, wire.ErrUnobserved)
		switch {
		case ctx.Err() != nil:
			return
		case never:
			said = host.Observation{Message: err.Error()}
		case err != nil:
			said = host.Observation{Message: "it does not tell what its daemons see: " + err.Error()}
		}
		w.sees(said, w.carries())
		if never || !until(ctx, observePause, nil) || !until(ctx, jitter(observeEvery)-observePause, w.look) {
			return
		}
	}
}

// until waits for a while, or for something to happen. It is false when ctx is done.
func until(ctx context.Context, d time.Duration, happens <-chan struct{}) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
	case <-happens:
	}
	return true
}

// carries tells what the host is to carry by now.
func (w *worker) carries() func(lb.Key, lb.Listener) bool {
	_, want := w.now()
	listens := w.listens.of(want.set)
	return func(key lb.Key, at lb.Listener) bool { return listens[at] == key }
}

// sees notes what a host says of what it is to carry.
func (w *worker) sees(said host.Observation, carries func(lb.Key, lb.Listener) bool) {
	was := w.state.Seen // nobody else changes it while this host is watched
	seen := newSeen(said, time.Now(), was, carries)
	w.update(func(s *State) { s.Seen = seen })
	if said.Message != "" && (was == nil || said.Message != was.Message) {
		w.log.Info("host does not tell all that its daemons see", "message", said.Message)
	}
}
