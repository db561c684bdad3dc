package deliver

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/host"
	"github.com/external-lb/external-lb/internal/lb"
)

// status asks the host what it runs. An error ends the connection.
func (w *worker) status(ctx context.Context, conn Cloud) error {
	limit := statusTimeout
	target, _ := w.now()
	if target.Provider != nil {
		limit = applyTimeout // it reads all that its cloud has
	}
	call, cancel := context.WithTimeout(ctx, limit<<w.slow)
	defer cancel()
	sent := time.Now()
	st, err := conn.Status(call)
	if err == nil {
		w.heedClock(ahead(st.Clock, sent, time.Now()))
		w.heedRestarts(st)
		if target, _ := w.now(); target.Engine != "" && st.Engine != target.Engine {
			w.have, w.mute = nil, true
			w.statusAt = time.Now().Add(w.retries.next(retryMax))
			w.fail(wrongEngine(st.Engine, target.Engine))
			return nil
		}
		w.observe(conn, st)
		return nil
	}
	if broken(err) {
		return err
	}
	w.have, w.mute = nil, true
	w.statusAt = time.Now().Add(w.retries.next(retryMax))
	if e, waits := errors.AsType[*Error](err); waits {
		w.update(func(s *State) { s.State, s.Reason, s.Message = e.hostState(), e.Reason, e.Message })
		return nil
	}
	e := &Error{Reason: reasonOf(err), Message: "the host cannot say what it runs: " + err.Error(), Err: err}
	if target.Provider != nil {
		e.Message = "the provider cannot say what its cloud has: " + err.Error()
	}
	if e.Reason == ReasonOtherCluster {
		e.Message, w.settled = err.Error(), false // the other one may change the host
		w.update(func(s *State) { s.settled = false })
	}
	w.fail(e)
	return nil
}

// observe takes a host's word for what it runs.
func (w *worker) observe(conn Cloud, st host.Status) {
	w.take(st.Report)
	w.statusAt, w.old = time.Now().Add(jitter(statusEvery)), st.Uses.Old
	overtaken := w.heed(st.Epoch)
	taken := w.sent != (host.Epoch{}) && st.Epoch.Compare(w.sent) >= 0
	if why := conn.Contested(); why != "" {
		w.barred = &Error{Reason: ReasonContested, Message: why}
	}
	switch {
	case overtaken:
		w.settled = false
	case taken: // all that was sent before has ended
		w.settled = !w.behind && (w.settled || w.sent.Term >= w.fleet.opts.Leader.Term())
		w.lost = w.unanswered
	}
	_, want := w.now()
	forgot := st.Epoch.Compare(w.taken) < 0
	w.drifted = w.done != "" && !w.lost && (overtaken || forgot || !proves(st.Report) || st.Generation != w.generation || w.base != w.done ||
		w.done == want.digest() && shortfall(want.set, st.Report, w.base) != "")
	back := w.mute
	w.mute = false
	w.update(func(s *State) {
		s.take(st.Report)
		s.Given = conn.Given()
		s.EngineVersion, s.OldWorkers, s.Active, s.Templates = st.EngineVersion, st.OldWorkers, st.Active, st.Templates
		s.Uses, s.Warning, s.Offers = st.Uses, st.Message, conn.Offers()
		s.settled, s.renews = w.settled, w.renews()
		switch {
		case !w.lost:
			s.pending = pending{}
		case taken:
			s.pending = s.pending.newest()
		}
		if w.barred != nil {
			s.State, s.Reason, s.Message = v1alpha1.HostFailed, w.barred.Reason, w.barred.Message
			return
		}
		if w.drifted && s.State != v1alpha1.HostFailed {
			s.State, s.Reason = v1alpha1.HostDelivering, ""
			s.Message = "the host no longer runs what it had proved: delivering it again"
			return
		}
		switch s.State {
		case v1alpha1.HostInSync, v1alpha1.HostPartial, v1alpha1.HostUnreachable, v1alpha1.HostConnecting:
			w.restore(s, want)
		default:
			if back {
				w.restore(s, want)
			}
		}
	})
}

// take keeps what the host reports.
func (w *worker) take(r host.Report) {
	w.have, w.base = &r, r.Wanted.Digest()
	if !r.Outdated {
		w.renewed = ""
	}
	switch {
	case !w.renews():
		w.renewAt = time.Time{}
	case w.renewAt.IsZero():
		w.renewAt = time.Now().Add(statusLast)
	}
}

// rest notes that the host runs what is desired, where that is so without a
// delivery: what was desired in between is desired no more.
func (w *worker) rest(want desire) {
	if w.have == nil || want.set == nil || w.done != want.digest() || w.lost || w.drifted {
		return
	}
	if w.failedWant == want.digest() && (w.renews() || !w.refuseAt.IsZero()) {
		return // it was to be made anew, or what was refused to be tried again, and that failed
	}
	w.failedWant, w.slow = "", 0
	w.update(func(s *State) {
		if w.want.digest() != want.digest() {
			return
		}
		w.since = time.Time{}
		if s.State == v1alpha1.HostDelivering || s.State == v1alpha1.HostFailed {
			w.restore(s, want)
		}
	})
}

// restore is the state of a host that answers again.
func (w *worker) restore(s *State, want desire) {
	s.Reason, s.Message = "", ""
	switch {
	case want.set == nil:
		s.State = v1alpha1.HostConnecting
	case w.done != want.digest() || w.lost || w.drifted:
		s.State = v1alpha1.HostDelivering
	case len(s.Refused) > 0:
		s.partial()
	default:
		s.State = v1alpha1.HostInSync
	}
}

// apply delivers. An error ends the connection.
func (w *worker) apply(ctx context.Context, conn Cloud, want desire, cause string) error {
	if e := w.lead(ctx); e != nil {
		w.retryLater(want, time.Time{}, e)
		return nil
	}
	since, ok := w.begin(want)
	if !ok {
		return nil // something newer is wanted by now
	}
	d := host.Delivery{
		Cluster: w.fleet.opts.Leader.Cluster(), Epoch: w.fleet.nextEpoch(w.seen.Term), Base: w.base,
		Change: lb.Diff(w.have.Wanted, want.set), Want: want.digest(),
	}
	w.sent, w.unanswered, w.withdraws = d.Epoch, true, slices.ContainsFunc(d.Change.Delete, ofService)
	call, cancel := context.WithTimeout(ctx, applyTimeout<<w.slow)
	defer cancel()
	start := time.Now()
	out, err := conn.Apply(call, d)
	if out.Reloaded || mayHaveReloaded(err) {
		w.reloaded(start, d.Change)
	}
	if err != nil {
		w.fleet.opts.Metrics.Delivered(w.balancer, w.host, string(reasonOf(err)), time.Since(start))
		return w.failed(want, since, err)
	}
	result := ResultUnchanged
	if out.Reloaded {
		result = ResultApplied
		w.fleet.opts.Metrics.Reloaded(w.balancer, w.host, cause)
	}
	w.fleet.opts.Metrics.Delivered(w.balancer, w.host, result, time.Since(start))
	w.tookEpoch(d.Epoch)
	w.lookSoon()
	if unproven := w.applied(conn, want, since, out); unproven != nil {
		w.retryLater(want, since, unproven)
	}
	return nil
}

func ofService(key lb.Key) bool {
	_, is := key.ServiceID()
	return is
}

// begin notes that a set is under way, unless something newer is wanted: from
// here on it may be live. It returns since when it is due.
func (w *worker) begin(want desire) (since time.Time, ok bool) {
	pending := w.state.pending.with(want.set) // nobody else changes it
	w.update(func(s *State) {
		if ok = w.want.digest() == want.digest(); !ok {
			return
		}
		since, w.since = w.since, time.Time{}
		s.Deliveries++
		s.pending = pending
		// Trouble with the machine lasts until a delivery ends well: meanwhile it judges no change.
		again := s.State == v1alpha1.HostFailed && (w.failedWant == want.digest() || w.passed || !w.judges())
		if !again && w.done != want.digest() {
			s.State, s.Reason, s.Message = v1alpha1.HostDelivering, "", ""
		}
	})
	return since, ok
}

// applied takes an outcome, or says why it is no good one.
func (w *worker) applied(conn Cloud, want desire, since time.Time, out host.Outcome) *Error {
	before := w.have.Generation
	w.take(out.Report)
	w.lost, w.unanswered, w.drifted, w.settled, w.mismatches = false, false, false, !w.behind, 0
	if w.old = out.Old; w.old.Crowded(nearBound) {
		w.statusAt = time.Now().Add(lookAgain)
	}
	if out.Outdated {
		w.renewed = out.Renderer // a delivery does not help
	}
	wrong := shortfall(want.set, out.Report, w.base)
	w.update(func(s *State) {
		s.take(out.Report)
		s.Given = conn.Given()
		s.settled, s.lost, s.pending, s.Active, s.renews = w.settled, false, pending{}, out.Active, false
		s.Uses.Old = out.Old
		if out.Reloaded {
			s.Reloads++
		}
		if proves(out.Report) && out.Generation != before {
			s.LastApplied = time.Now()
		}
		if wrong == "" {
			w.complete(s, want, out)
		}
	})
	if wrong != "" {
		return &Error{Reason: ReasonUnproven, Message: wrong}
	}
	if len(out.Refused) == 0 && !since.IsZero() {
		w.fleet.opts.Metrics.Proved(w.balancer, w.host, time.Since(since))
	}
	return nil
}

// complete notes that a delivery has ended well. The Fleet's mu is held.
func (w *worker) complete(s *State, want desire, out host.Outcome) {
	w.done, w.generation, w.failedWant = want.digest(), out.Generation, ""
	w.proof, w.passed, w.refusals, w.refusedLast = want.of, false, 0, ""
	w.retryAt, w.refuseAt = time.Time{}, time.Time{}
	w.retries.reset()
	if len(out.Refused) > 0 {
		w.refuseAt = time.Now().Add(jitter(statusEvery))
	}
	switch {
	case w.want.digest() != want.digest():
		s.State, s.Reason, s.Message = v1alpha1.HostDelivering, "", ""
	case len(out.Refused) > 0:
		s.partial()
	default:
		s.State, s.Reason, s.Message = v1alpha1.HostInSync, "", ""
	}
}

// failed takes the failure of a delivery. An error ends the connection.
func (w *worker) failed(want desire, since time.Time, err error) error {
	he, told := errors.AsType[*host.Error](err)
	w.lost, w.unanswered = w.lost || !told, !told
	if !told || he.Code == host.CodeRolledBack {
		w.update(func(s *State) { s.lost = !told })
	}
	if broken(err) {
		w.overdue(since)
		return err
	}
	w.statusAt = time.Time{} // ask what runs now
	if told && (he.Code == host.CodeBaseMismatch || he.Code == host.CodeStaleEpoch) {
		if w.mismatches++; w.mismatches < 3 {
			w.overdue(since)
			return nil
		}
	}
	w.retryLater(want, since, &Error{Reason: reasonOf(err), Message: err.Error(), Err: err})
	return nil
}

// retryLater says what is wrong and when to try again.
func (w *worker) retryLater(want desire, since time.Time, e *Error) {
	w.overdue(since)
	w.statusAt = time.Time{}
	if w.failedWant != want.digest() {
		w.retries.reset()
	}
	w.failedWant = want.digest()
	w.retryAt = time.Now().Add(w.retries.next(retryMax))
	if e.Reason.refuses() {
		w.fleet.mu.Lock()
		w.of.refused(w, want, w.withdraws)
		w.fleet.mu.Unlock()
	}
	if e.Reason == ReasonStaleEpoch {
		w.holdAt = time.Now().Add(jitter(retryMax)) // another set would be as stale
	}
	w.fail(e)
}

// overdue notes that something is desired since then, still.
func (w *worker) overdue(since time.Time) {
	w.fleet.mu.Lock()
	defer w.fleet.mu.Unlock()
	if !since.IsZero() {
		w.since = since
	}
}

func (w *worker) fail(e *Error) {
	w.update(func(s *State) {
		s.State, s.Reason, s.Message, s.judged = v1alpha1.HostFailed, e.Reason, e.Message, w.failedWant
	})
}
