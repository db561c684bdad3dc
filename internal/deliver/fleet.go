package deliver

import (
	"context"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"

	"github.com/external-lb/external-lb/internal/host"
	"github.com/external-lb/external-lb/internal/lb"
	"github.com/external-lb/external-lb/provider"
)

// Causes of deliveries that this package starts by itself.
const (
	CauseDrift   = "drift"   // the host no longer runs what it had proved
	CauseRenewal = "renewal" // what the host runs was made by other templates, settings or another version
	CauseRetry   = "retry"   // something was refused
)

// Conn is a connection to a host.
type Conn interface {
	host.Host
	io.Closer
	// Done is closed when the connection has ended; nil if it never does.
	Done() <-chan struct{}
	// Version of external-lb at the other end.
	Version() string
	// Identity of the agent at the other end; "": it is not known, or there is none.
	Identity() string
}

// Cloud is a connection to a provider, which has more to tell than a host.
type Cloud interface {
	Conn
	// Offers are what the provider's cloud can do. They are replaced, not changed.
	Offers() *provider.Capabilities
	// Given are the addresses that the cloud gave to what the last answer called live.
	Given() map[lb.Key][]provider.Address
	// Contested is why nothing may be delivered: somebody else changes what is there. "": nobody
	// does. A host tells that by its epoch.
	Contested() string
	// News comes where there is more to say than there was, such as that the cloud has done what it was
	// long at work on.
	News() <-chan struct{}
}

// noCloud is a host, where a Cloud is asked for what it has to tell.
type noCloud struct{ Conn }

func (noCloud) Offers() *provider.Capabilities       { return nil }
func (noCloud) Given() map[lb.Key][]provider.Address { return nil }
func (noCloud) Contested() string                    { return "" }
func (noCloud) News() <-chan struct{}                { return nil }

// Dialer connects to hosts. Its errors are of type *Error where the cause is known.
type Dialer interface {
	Dial(ctx context.Context, t Target) (Conn, error)
}

// Metrics hears of what happens. Its methods do not block.
type Metrics interface {
	// Delivered: a delivery has ended. result is Applied, Unchanged, or a Reason.
	Delivered(balancer, host, result string, took time.Duration)
	// Reloaded: the daemon on a host took a new configuration.
	Reloaded(balancer, host, cause string)
	// Proved: a host runs what is desired, this long after it was desired.
	Proved(balancer, host string, after time.Duration)
	// Restarted: somebody else restarted daemons of a host so often since it was asked last.
	Restarted(balancer, host string, times int)
}

// Results of deliveries that have not failed; else a Reason is the result.
const (
	ResultApplied   = "Applied"   // with a reload
	ResultUnchanged = "Unchanged" // without one
)

// Options of a Fleet.
type Options struct {
	Leader Leader // see host.Epoch
	Local  Dialer // connects to the agent of this machine, for local targets; nil: it cannot be reached
	Dialer Dialer // for all others; nil: SSH{}
	// Providers connects to those; nil: there are no such targets.
	Providers Dialer
	Log       logr.Logger
	Metrics   Metrics // may be nil
	// Changed says that States of a Balancer may differ from before. It does not
	// block; it may call States.
	Changed func(balancer string)
}

// Fleet delivers to the hosts of all Balancers, each by a goroutine of its own.
type Fleet struct {
	opts Options
	ctx  context.Context
	stop context.CancelFunc
	wg   sync.WaitGroup
	seq  atomic.Uint64

	mu        sync.Mutex
	balancers map[string]*balancer
	terms     map[int64]bool // in which something was delivered
	began     int64          // see firstTerm
}

// balancer is what a Balancer's hosts have in common.
type balancer struct {
	newest  *round    // what is wanted
	proved  *round    // the last one that a canary has proved
	trying  *worker   // the canary as it was last; nil: there was none
	doubted *round    // what was proved when a host was passed over for what no other host has tried; nil: none was
	workers []*worker // in the order of Set
}

// desire is what a host should carry, and why.
type desire struct {
	set   *lb.Set // nil before the first Deliver
	cause string
	of    *round // nil of one that is none
}

func (d desire) digest() lb.Digest {
	if d.set == nil {
		return ""
	}
	return d.set.Digest()
}

// NewFleet makes a Fleet without hosts.
func NewFleet(opts Options) *Fleet {
	if opts.Dialer == nil {
		opts.Dialer = SSH{}
	}
	if opts.Metrics == nil {
		opts.Metrics = noMetrics{}
	}
	if opts.Changed == nil {
		opts.Changed = func(string) {}
	}
	if opts.Log.GetSink() == nil {
		opts.Log = logr.Discard()
	}
	f := &Fleet{opts: opts, balancers: map[string]*balancer{}, terms: map[int64]bool{}}
	f.ctx, f.stop = context.WithCancel(context.Background())
	return f
}

// Set says which hosts a Balancer has. Those that it no longer has are left as
// they are; none at all forgets the Balancer. It does not block.
func (f *Fleet) Set(name string, targets []Target) {
	f.mu.Lock()
	defer f.mu.Unlock()
	b := f.balancer(name)
	former := map[string]*worker{}
	for _, w := range b.workers {
		former[w.target.Host.Name] = w
	}
	b.workers = nil
	for _, t := range targets {
		w := former[t.Host.Name]
		if w != nil && w.target.sameMachine(t) {
			delete(former, t.Host.Name)
			w.retarget(t)
		} else {
			w = f.start(b, name, t)
		}
		b.workers = append(b.workers, w)
	}
	for _, w := range former {
		w.cancel()
	}
	b.advance()
	if len(targets) == 0 {
		delete(f.balancers, name)
	}
}

func (f *Fleet) balancer(name string) *balancer {
	b := f.balancers[name]
	if b == nil {
		b = &balancer{newest: &round{}, proved: &round{}}
		f.balancers[name] = b
	}
	return b
}

// Deliver says what each host of a Balancer should carry, by its name, and why.
// One host gets it first, the others what that one has proved last. The newest wins;
// one under way is not interrupted. It does not block.
func (f *Fleet) Deliver(name string, want map[string]*lb.Set, cause string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	b := f.balancer(name)
	b.newest = b.newest.next(want, cause)
	b.advance()
}

// States of a Balancer's hosts, in the order of Set.
func (f *Fleet) States(name string) []State {
	f.mu.Lock()
	defer f.mu.Unlock()
	b := f.balancers[name]
	if b == nil {
		return nil
	}
	out := make([]State, len(b.workers))
	for i, w := range b.workers {
		out[i] = b.seen(w)
	}
	return out
}

// Close ends all deliveries and connections and waits for that. The hosts go on
// with what they run.
func (f *Fleet) Close() {
	f.stop()
	f.wg.Wait()
}

type noMetrics struct{}

func (noMetrics) Delivered(string, string, string, time.Duration) {}
func (noMetrics) Reloaded(string, string, string)                 {}
func (noMetrics) Proved(string, string, time.Duration)            {}
func (noMetrics) Restarted(string, string, int)                   {}
