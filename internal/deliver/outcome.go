package deliver

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/fileset"
	"github.com/external-lb/external-lb/internal/host"
)

// status asks the host what it runs. An error ends the connection.
func (w *worker) status(ctx context.Context, conn Conn) error {
	call, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	st, err := conn.Status(call)
	if err == nil {
		if target, _ := w.now(); target.Engine != "" && st.Engine != target.Engine {
			w.have, w.mute = nil, true
			w.statusAt = time.Now().Add(w.retries.next(retryMax))
			w.fail(wrongEngine(st.Engine, target.Engine))
			return nil
		}
		w.observe(st)
		return nil
	}
	if broken(err) {
		return err
	}
	w.have, w.mute = nil, true
	w.statusAt = time.Now().Add(w.retries.next(retryMax))
	w.fail(&Error{Reason: reasonOf(err), Message: "the host cannot say what it runs: " + err.Error(), Err: err})
	return nil
}

// observe takes a host's word for what it runs.
func (w *worker) observe(st host.Status) {
	w.have = known(st.Files)
	w.statusAt = time.Now().Add(jitter(statusEvery))
	if w.fence != (host.Epoch{}) && st.Epoch.Compare(w.fence) >= 0 {
		w.settled, w.lost = true, false
	}
	w.drifted = w.done != "" && !w.lost && (st.Live != w.doneLive || w.have.Digest() != w.doneLive)
	back := w.mute
	w.mute = false
	_, want := w.now()
	w.update(func(s *State) {
		s.Proven, s.Live = s.proof(st.Live, w.have, want.manifest()), st.Live
		s.EngineVersion, s.OldWorkers, s.Active = st.EngineVersion, st.OldWorkers, st.Active
		s.settled = w.settled
		if !w.lost {
			s.pending = nil
		}
		switch {
		case w.drifted && s.State != v1alpha1.HostFailed:
			s.State, s.Reason = v1alpha1.HostDelivering, ""
			s.Message = "the host no longer runs what it had proved: delivering it again"
		case s.State == v1alpha1.HostInSync:
			s.Message = st.Message
		case back || s.State == v1alpha1.HostUnreachable || s.State == v1alpha1.HostConnecting:
			w.restore(s, want, st.Message)
		}
	})
}

// rest notes that the host runs what is desired, where that is so without a
// delivery: what was desired in between is desired no more.
func (w *worker) rest(want desire) {
	if w.have == nil || want.set == nil || w.done != want.digest() || w.lost || w.drifted {
		return
	}
	w.failedWant = ""
	w.update(func(s *State) {
		if w.want.digest() != want.digest() {
			return
		}
		w.since = time.Time{}
		w.pass(s, want)
		if s.State == v1alpha1.HostDelivering || s.State == v1alpha1.HostFailed {
			w.restore(s, want, "")
		}
	})
}

func known(m fileset.Manifest) fileset.Manifest {
	if m == nil {
		return fileset.Manifest{}
	}
	return m
}

// restore is the state of a host that answers again.
func (w *worker) restore(s *State, want desire, message string) {
	s.Reason, s.Message = "", message
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

// partial is the state of a host that runs all but some fragments.
func (s *State) partial() {
	s.State, s.Reason = v1alpha1.HostPartial, ReasonRefused
	s.Message = fmt.Sprintf("%d of its files are left out; the first is %s: %s",
		len(s.Refused), s.Refused[0].Path, s.Refused[0].Reason)
}

// apply delivers. An error ends the connection.
func (w *worker) apply(ctx context.Context, conn Conn, want desire, cause string) error {
	since, ok := w.begin(want)
	if !ok {
		return nil // something newer is wanted by now
	}
	d := host.Delivery{
		Epoch: w.fleet.nextEpoch(), Base: w.have.Digest(),
		Change: fileset.Diff(w.have, want.set), Want: want.digest(),
	}
	d.Whole, d.Spared = w.whole(want)
	if w.fence == (host.Epoch{}) {
		w.fence = d.Epoch
	}
	call, cancel := context.WithTimeout(ctx, applyTimeout)
	defer cancel()
	start := time.Now()
	out, err := conn.Apply(call, d)
	if err != nil {
		w.fleet.opts.Metrics.Delivered(w.balancer, w.host, string(reasonOf(err)), time.Since(start))
		return w.failed(want, start, since, d.Whole, err)
	}
	result := ResultUnchanged
	if out.Reloaded {
		result = ResultApplied
		w.reloadAt = start
		w.fleet.opts.Metrics.Reloaded(w.balancer, w.host, cause)
	}
	w.fleet.opts.Metrics.Delivered(w.balancer, w.host, result, time.Since(start))
	if unproven := w.applied(want, since, out); unproven != nil {
		w.retryLater(want, since, d.Whole, unproven)
	}
	return nil
}

// begin notes that a set is under way, unless something newer is wanted: from
// here on it may be live. It returns since when it is due.
func (w *worker) begin(want desire) (since time.Time, ok bool) {
	w.fleet.mu.Lock()
	ok = w.want.digest() == want.digest()
	if ok {
		since, w.since = w.since, time.Time{}
	}
	w.fleet.mu.Unlock()
	if !ok {
		return since, false
	}
	w.update(func(s *State) {
		s.Deliveries++
		m := want.manifest()
		if !slices.ContainsFunc(s.pending, func(p fileset.Manifest) bool { return maps.Equal(p, m) }) {
			s.pending = append(slices.Clip(s.pending), m)
		}
		again := w.failedWant == want.digest() && s.State == v1alpha1.HostFailed
		if !again && w.done != want.digest() {
			s.State, s.Reason, s.Message = v1alpha1.HostDelivering, "", ""
		}
	})
	return since, true
}

// applied takes an outcome, or says why it is no good one.
func (w *worker) applied(want desire, since time.Time, out host.Outcome) *Error {
	w.have, w.lost, w.drifted, w.settled, w.mismatches = known(out.Files), false, false, true, 0
	var unproven *Error
	w.update(func(s *State) {
		proven := s.proof(out.Live, w.have, want.manifest())
		if out.Reloaded {
			s.Reloads++
		}
		if out.Live != s.Live && out.Live != "" {
			s.LastApplied = time.Now()
		}
		s.Proven, s.Live, s.Refused, s.settled, s.pending, s.Active = proven, out.Live, out.Refused, true, nil, out.Active
		if proven == nil || out.Live != want.digest() && len(out.Refused) == 0 {
			unproven = &Error{Reason: ReasonUnproven, Message: fmt.Sprintf(
				"the host took %s and proves %q: look at the daemon's log there", want.digest().Short(), out.Live.Short())}
			return
		}
		w.complete(s, want, out)
	})
	if unproven != nil {
		return unproven
	}
	if out.Live == want.digest() && !since.IsZero() {
		w.fleet.opts.Metrics.Proved(w.balancer, w.host, time.Since(since))
	}
	return nil
}

// complete notes that a delivery has ended well. The Fleet's mu is held.
func (w *worker) complete(s *State, want desire, out host.Outcome) {
	w.done, w.doneLive, w.failedWant = want.digest(), out.Live, ""
	w.retryAt, w.refuseAt = time.Time{}, time.Time{}
	w.retries.reset()
	w.ailing = false
	w.pass(s, want)
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
func (w *worker) failed(want desire, start, since time.Time, whole bool, err error) error {
	he, told := errors.AsType[*host.Error](err)
	if !told {
		w.lost, w.fence = true, host.Epoch{} // it may still come: only what is newer than all so far is a fence
	}
	if !told || he.Code == host.CodeRolledBack || he.Code == host.CodeMachine {
		w.reloadAt = start // the daemon may have reloaded
	}
	if broken(err) {
		w.overdue(since)
		return err
	}
	w.statusAt = time.Time{} // ask what runs now
	if told && he.Code == host.CodeBaseMismatch {
		if w.mismatches++; w.mismatches < 3 {
			w.overdue(since)
			return nil
		}
	}
	w.retryLater(want, since, whole, &Error{Reason: reasonOf(err), Message: err.Error(), Err: err})
	return nil
}

// retryLater says what is wrong and when to try again.
func (w *worker) retryLater(want desire, since time.Time, whole bool, e *Error) {
	w.overdue(since)
	w.statusAt = time.Time{}
	if w.failedWant != want.digest() {
		w.retries.reset()
	}
	w.failedWant = want.digest()
	w.retryAt = time.Now().Add(w.retries.next(retryMax))
	if e.Reason == ReasonStaleEpoch {
		w.holdAt = time.Now().Add(jitter(retryMax)) // another set would be as stale
	}
	verdict := whole && w.tells(e) && !w.target.Host.Drain
	w.ailing = e.Reason == ReasonMachine
	w.update(func(s *State) {
		w.failure(s, e)
		if verdict {
			s.Trial = Trial{Name: want.trial, Refused: e.Message}
		}
	})
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
	w.update(func(s *State) { w.failure(s, e) })
}

func (w *worker) failure(s *State, e *Error) {
	s.State, s.Reason, s.Message, s.judged = v1alpha1.HostFailed, e.Reason, e.Message, w.failedWant
}
