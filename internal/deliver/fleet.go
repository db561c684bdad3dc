package deliver

import (
	"context"
	"io"
	"time"

	"github.com/go-logr/logr"

	"github.com/external-lb/external-lb/internal/fileset"
	"github.com/external-lb/external-lb/internal/host"
)

// Causes of deliveries that this package starts by itself.
const (
	CauseStart = "start" // the first since the process started
	CauseDrift = "drift" // the host no longer runs what it had proved
	CauseRetry = "retry" // the last one failed, or fragments were refused
)

// Conn is a connection to a host.
type Conn interface {
	host.Host
	io.Closer
}

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
}

// Results of deliveries that have not failed; else a Reason is the result.
const (
	ResultApplied   = "Applied"   // with a reload
	ResultUnchanged = "Unchanged" // without one
)

// Options of a Fleet.
type Options struct {
	Epoch   func() (lease, term int64) // of the leader: see host.Epoch
	Local   func() (host.Host, error)  // the host's end in this process, for local targets
	Dialer  Dialer                     // for all others; nil: SSH{}
	Log     logr.Logger
	Metrics Metrics // may be nil
	// Changed says that States of a Balancer may differ from before. It does not
	// block; it may call States.
	Changed func(balancer string)
}

// Fleet delivers to the hosts of all Balancers, each by a goroutine of its own.
type Fleet struct{}

// NewFleet makes a Fleet without hosts.
func NewFleet(opts Options) *Fleet { return &Fleet{} }

// Set says which hosts a Balancer has. Those that it no longer has are left as
// they are; none at all forgets the Balancer. It does not block.
func (f *Fleet) Set(balancer string, targets []Target) {}

// Deliver says what the hosts of a Balancer should run, and why. The newest
// wins; one under way is not interrupted. It does not block.
func (f *Fleet) Deliver(balancer string, want *fileset.Set, cause string) {}

// States of a Balancer's hosts, in the order of Set.
func (f *Fleet) States(balancer string) []State { return nil }

// Close ends all deliveries and connections and waits for that. The hosts go on
// with what they run.
func (f *Fleet) Close() {}
