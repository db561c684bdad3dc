package host

import (
	"context"
	"strings"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/external-lb/external-lb/internal/engine"
	"github.com/external-lb/external-lb/internal/lb"
)

// Traffic is what a daemon sees of one listener.
type Traffic = engine.Traffic

// DownNode is a node that gets no connections.
type DownNode = engine.DownNode

// What engine says of them.
const (
	Unknown  = engine.Unknown
	MaxNamed = engine.MaxNamed
)

// MaxTraffic is of how many listeners traffic is told.
const MaxTraffic = 1 << 16

// Observation is what the daemons of a machine see.
type Observation struct {
	Cluster string // that delivers to the machine; "": none has yet, or the machine does not tell
	Traffic []Traffic
	Message string // why a daemon does not tell what it sees; "" if all do
}

// Tells checks that the controller of a cluster may hear what a machine sees.
func (o Observation) Tells(cluster string) error { return ofCluster(o.Cluster, cluster) }

// Observer is a Host that tells what its daemons see.
type Observer interface {
	// Observe looks now, or a moment ago. What it returns is not changed.
	Observe(ctx context.Context) (Observation, error)
}

// Whoever asks often costs the daemons no more: what was seen is kept for a moment, and
// longer where a look takes long.
const (
	lookEvery = 500 * time.Millisecond
	lookShare = 20 // one part in so many of the time is spent on looks
)

// look is the last one at all daemons.
type look struct {
	turn singleflight.Group // who asks meanwhile gets the same, and what follows is one's alone
	seen Observation
	next time.Time
}

// Observe says what the daemons see.
func (a *Agent) Observe(ctx context.Context) (Observation, error) {
	m, err := a.latest()
	if err == nil {
		err = a.lost(m) // then who may hear what is seen is not known either
	}
	if err != nil {
		return Observation{}, a.units[0].explain(err)
	}
	a.mu.Lock()
	cluster := m.record.Cluster
	a.mu.Unlock()
	looking := a.look.turn.DoChan("", func() (any, error) {
		return a.look.again(func() Observation {
			return a.observe(context.WithoutCancel(ctx)) // for all who ask
		}), nil
	})
	select {
	case <-ctx.Done():
		return Observation{}, ctx.Err()
	case looked := <-looking:
		seen := looked.Val.(Observation)
		seen.Cluster = cluster
		return seen, nil
	}
}

// again looks, unless that was done a moment ago.
func (l *look) again(observe func() Observation) Observation {
	if start := time.Now(); start.After(l.next) {
		l.seen = observe()
		took := time.Since(start)
		l.next = start.Add(max(lookEvery, lookShare*took))
	}
	return l.seen
}

// lookTime is how long a daemon may take.
const lookTime = 10 * time.Second

// carried are the listeners of what is live.
func (u *unit) carried() ([]engine.Carried, error) {
	s, err := openStore(u.dir)
	if err != nil {
		return nil, err
	}
	defer s.close() // nothing is written to a directory
	live, err := s.readContents(s.linked(engine.LiveLink))
	if err != nil {
		return nil, err
	}
	var all []engine.Carried
	for _, e := range live.Files {
		if id, ok := e.Key.ServiceID(); ok {
			for _, l := range e.Listens {
				at := lb.Listener{Address: l.Address.Addr(), Port: l.Address.Port(), Protocol: lb.Protocol(strings.ToUpper(l.Network))}
				all = append(all, engine.Carried{Service: id, Listener: at})
			}
		}
	}
	return all, nil
}

func (a *Agent) observe(ctx context.Context) (out Observation) {
	ctx, cancel := context.WithTimeout(ctx, lookTime)
	defer cancel()
	for _, u := range a.units {
		d, ok := u.daemon.(engine.Observer)
		if !ok {
			continue
		}
		live, err := u.carried()
		var seen []Traffic
		if err == nil {
			seen, err = d.Observe(ctx, live)
		}
		if err != nil {
			out.Message = u.daemon.Name() + " does not tell what it sees: " + err.Error()
			continue
		}
		out.Traffic = append(out.Traffic, seen...)
	}
	if len(out.Traffic) > MaxTraffic {
		out.Traffic = out.Traffic[:MaxTraffic]
		out.Message = "too many listeners to tell of all"
	}
	return out
}
