package deliver

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"golang.org/x/time/rate"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/host"
	"github.com/external-lb/external-lb/internal/lb"
)

// worker delivers to one host.
type worker struct {
	fleet    *Fleet
	of       *balancer
	balancer string
	host     string
	log      logr.Logger
	cancel   context.CancelFunc
	wake     chan struct{} // something below changed
	look     chan struct{} // somebody wants to know what the host sees
	listens  listeners     // of what is wanted, for who looks

	// Guarded by the Fleet's mu.
	target Target
	want   desire
	agent  string    // that answers, where no other worker has it
	since  time.Time // when something was desired that is not proved yet; zero: nothing
	state  State
	proof  *round // the last one that a delivery has proved here; nil: none
	// renewal: the host may make anew what it runs.
	renewal bool
	// passed: it has refused so much that other hosts get changes first, until it proves one.
	passed      bool
	refusals    int       // of different changes, since it proved one
	refusedLast lb.Digest // the last of these

	// Of the goroutine alone.
	have       *host.Report // of the host, as it said last; nil: ask
	base       lb.Digest    // of what it wants: what a change starts from
	done       lb.Digest    // the last desired set whose delivery has ended well
	generation string       // that it made live
	drifted    bool         // the host no longer runs that
	renewed    string       // the Renderer that a delivery has left outdated; "": none
	settled    bool         // no delivery of a former leader can follow
	sent       host.Epoch   // of the last delivery; once the host has taken it, none before it can follow
	unanswered bool         // the outcome of that one is not known
	lost       bool         // that of it or of one before is not known, and it may still follow
	withdraws  bool         // the last delivery takes a Service away
	seen       host.Epoch   // that the host has taken, as it said last
	taken      host.Epoch   // of the last delivery that has ended well
	behind     bool         // it was in an earlier term: see nextEpoch
	barred     *Error       // why nothing is delivered until somebody decides; nil: it is
	others     overtakings
	mute       bool      // the host could not say what it runs
	slow       int       // how often in a row it had too little time for something, until it has caught up
	failedWant lb.Digest // the desired set whose delivery failed last
	mismatches int       // bases in a row that were not the host's
	retries    backoff
	statusAt   time.Time     // when to ask what the host runs
	retryAt    time.Time     // when to deliver failedWant again
	holdAt     time.Time     // when to deliver anything again
	refuseAt   time.Time     // when to try again what was refused; zero: nothing was
	renewAt    time.Time     // when to make anew what the host runs, once all hosts have been asked
	reloadAt   time.Time     // the start of the last reload
	changes    *rate.Limiter // reloads that may follow each other at once
	tenants    tenants       // the same, for each namespace
	old        host.Use      // memory of processes that reloads have left, as the host said last
	restarts   int           // of its daemons, as the host said last; -1: it has not yet
}

// start makes a worker. The Fleet's mu is held.
func (f *Fleet) start(b *balancer, balancer string, t Target) *worker {
	ctx, cancel := context.WithCancel(f.ctx)
	w := &worker{
		fleet: f, of: b, balancer: balancer, host: t.Host.Name, cancel: cancel, target: t,
		wake: make(chan struct{}, 1), look: make(chan struct{}, 1), changes: rate.NewLimiter(rate.Every(changesEvery), changesAtOnce), tenants: tenants{},
		log:   f.opts.Log.WithValues("balancer", balancer, "host", t.Host.Name),
		state: State{Host: t.Host.Name, State: v1alpha1.HostConnecting}, restarts: -1,
	}
	f.wg.Go(func() {
		defer cancel()
		w.run(ctx)
	})
	return w
}

// retarget changes how the same machine is reached. The Fleet's mu is held.
func (w *worker) retarget(t Target) {
	w.target = t
	w.nudge()
}

// desire changes what is wanted. The Fleet's mu is held.
func (w *worker) desire(want desire) {
	if want.set == nil {
		return
	}
	was := w.want
	w.want, w.state.Desired = want, want.digest()
	if was.digest() == want.digest() {
		return
	}
	if w.since.IsZero() {
		w.since = time.Now()
	}
	if s := w.state.State; s == v1alpha1.HostInSync || s == v1alpha1.HostPartial {
		w.state.State, w.state.Reason, w.state.Message = v1alpha1.HostDelivering, "", ""
	}
	w.nudge()
}

func (w *worker) nudge() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// now returns what is wanted of whom.
func (w *worker) now() (Target, desire) {
	w.fleet.mu.Lock()
	defer w.fleet.mu.Unlock()
	return w.target, w.want
}

// update changes the state and tells readers if it makes a difference.
func (w *worker) update(change func(*State)) {
	w.fleet.mu.Lock()
	before := w.state
	change(&w.state)
	after := w.state
	w.of.advance()
	w.fleet.mu.Unlock()
	if before.same(after) {
		return
	}
	if before.State != after.State || before.Message != after.Message {
		w.log.Info("host", "state", after.State, "reason", after.Reason, "message", after.Message, "live", after.Live.Short())
	}
	w.fleet.opts.Changed(w.balancer)
}

// run connects, serves the connection until it breaks or the target changes, and
// starts over.
func (w *worker) run(ctx context.Context) {
	var reconnect backoff
	for ctx.Err() == nil {
		target, _ := w.now()
		target.Slow = w.slow
		err := w.attempt(ctx, target, &reconnect)
		if err == nil || ctx.Err() != nil {
			continue // another target, or the end
		}
		e := explain(err, target)
		if e.Slow {
			w.slow = min(w.slow+1, maxSlow)
		}
		w.update(func(s *State) {
			s.State, s.Reason, s.Message, s.Slow, s.Seen = e.hostState(), e.Reason, e.Message, e.Slow, nil
			s.Warning, s.Clock, s.Restarted, s.Templates, s.Uses = "", 0, "", "", host.Uses{}
		})
		limit := retryMax
		if e.passing() {
			limit = reconnectMax
		}
		if !w.pause(ctx, target, reconnect.next(limit)) {
			reconnect.reset()
		}
	}
}

// attempt is one connection, from dialling to its end.
func (w *worker) attempt(ctx context.Context, target Target, reconnect *backoff) error {
	dialled, err := w.dial(ctx, target)
	if err != nil {
		return err
	}
	defer dialled.Close()
	conn, is := dialled.(Cloud)
	if !is {
		conn = noCloud{dialled}
	}
	agent := conn.Identity()
	if err := w.claim(agent); err != nil {
		return err
	}
	defer w.release()
	w.update(func(s *State) { s.Version, s.Offers = conn.Version(), conn.Offers() })
	w.have, w.statusAt, w.retryAt, w.holdAt = nil, time.Time{}, time.Time{}, time.Time{}
	w.retries.reset()
	if o, tells := dialled.(host.Observer); tells {
		while, stop := context.WithCancel(ctx)
		var watching sync.WaitGroup
		watching.Go(func() { w.watch(while, o) })
		defer watching.Wait()
		defer stop()
	}
	return w.session(ctx, target, conn, agent, reconnect.reset)
}

func (w *worker) dial(ctx context.Context, target Target) (Conn, error) {
	if target.Problem != nil {
		return nil, problem(target.Problem)
	}
	target.Cluster = w.fleet.opts.Leader.Cluster()
	if target.Provider != nil {
		return w.fleet.opts.Providers.Dial(ctx, target)
	}
	if target.Host.Local == nil {
		return w.fleet.opts.Dialer.Dial(ctx, target)
	}
	if w.fleet.opts.Local == nil {
		return nil, &Error{Reason: ReasonLocal, Message: "this controller cannot reach an agent on its own machine (local: {}): give the host an address"}
	}
	conn, err := w.fleet.opts.Local.Dial(ctx, target)
	if err != nil {
		return nil, &Error{Reason: ReasonLocal, Message: "the agent on this machine cannot be reached: " + err.Error(), Err: err}
	}
	return conn, nil
}

// pause waits. It returns false as soon as the target is reached in another way.
func (w *worker) pause(ctx context.Context, target Target, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	for {
		if now, _ := w.now(); !now.sameAccess(target) {
			return false
		}
		select {
		case <-ctx.Done():
			return true
		case <-timer.C:
			return true
		case <-w.wake:
		}
	}
}

// errLost ends a session whose connection ended while nobody asked anything.
var errLost = errors.New("the host closed it, or it was cut")

// session keeps a host as desired until its connection breaks or its target
// changes (nil).
func (w *worker) session(ctx context.Context, target Target, conn Cloud, agent string, healthy func()) error {
	for ctx.Err() == nil {
		now, want := w.now()
		if !now.sameAccess(target) {
			return nil
		}
		if now.Engine != target.Engine { // it is not known yet whether the host is prepared for that
			target.Engine, w.have, w.statusAt = now.Engine, nil, time.Time{}
		}
		if err := w.claims(agent); err != nil {
			return err
		}
		act, cause, at := w.plan(time.Now(), want, now.MinInterval)
		var err error
		switch act {
		case actStatus:
			err = w.status(ctx, conn)
			if err == nil {
				healthy()
			}
		case actApply:
			err = w.apply(ctx, conn, want, cause)
		case actWait:
			w.rest(want)
			err = w.idle(ctx, conn, time.Until(at))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// idle waits for the next thing to do.
func (w *worker) idle(ctx context.Context, conn Cloud, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	case <-w.wake:
	case <-conn.News():
		w.statusAt = time.Time{}
	case <-conn.Done():
		return errLost
	}
	return nil
}
