package transport

import (
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/external-lb/external-lb/internal/host"
	"github.com/external-lb/external-lb/internal/lb"
	"github.com/external-lb/external-lb/provider"
)

// What the cloud is still at work on is told, and is live as soon as the cloud shows it.
func TestApply_WhatIsPendingHoldsNobodyUp(t *testing.T) {
	w := newHastyWorld(t)
	w.PutFault = func(s provider.Spec) (*provider.Observed, error) {
		w.All[provider.ID{Cluster: Owner("c1", "edge"), Service: "uid-" + s.Name}] = s // it comes later
		o := &provider.Observed{Spec: s}
		o.State, o.Message = provider.Pending, "booting"
		o.Spec.Listeners = nil
		return o, nil
	}
	out, err := w.apply(config(service("web", 30080)))
	if err != nil || len(out.Refused) != 1 || !strings.Contains(out.Refused[0].Message, "still at work on it: booting") {
		t.Fatalf("%v %+v", err, out.Refused)
	}
	w.Lock()
	w.PutFault = nil
	w.Unlock()
	select {
	case <-w.conn.(*conn).News():
	case <-t.Context().Done():
	}
	w.settles()
}

// A request that the provider is long at work on holds no other change up, whether it is
// there already when that comes or goes with it. What becomes of it is news, and while it is
// not known, nothing is confirmed.
func TestApply_ALongRequestHoldsNobodyUp(t *testing.T) {
	w := newHastyWorld(t)
	done := make(chan struct{})
	t.Cleanup(sync.OnceFunc(func() { close(done) }))
	slow := w.slows("slow", done)
	live := func(out host.Outcome, err error, name string) {
		t.Helper()
		key := lb.ServiceKey(service(name, 1).ID)
		if err != nil || out.Live.Sums()[key] != out.Wanted.Sums()[key] || len(out.Refused) != 1 || out.Refused[0].Reason != lb.RefusedPending {
			t.Fatalf("%s: %v %+v", name, err, out)
		}
	}
	out, err := w.apply(config(service("slow", 30080), service("web", 30081)))
	live(out, err, "web")
	start := time.Now()
	out, err = w.apply(config(service("slow", 30080), service("web", 30081), service("more", 30082)))
	live(out, err, "more")
	if took := time.Since(start); took > time.Minute {
		t.Errorf("the other one took %v", took)
	}
	out, err = w.apply(config(service("web", 30081)))
	key := lb.ServiceKey(service("slow", 1).ID)
	if _, may := out.Live.Sums()[key]; err != nil || !may || len(slow) != 1 {
		t.Errorf("its withdrawal is confirmed, and it may still come: %v %+v", err, out)
	}
	done <- struct{}{}
	w.settles()
	w.Lock()
	defer w.Unlock()
	if len(w.All) != 1 {
		t.Errorf("%d load balancers are there", len(w.All))
	}
}

// slows lets nothing become of a Service before done; asked has the requests for it.
func (w *world) slows(name string, done <-chan struct{}) (asked chan provider.Spec) {
	asked = make(chan provider.Spec, 64)
	w.Wait = func(s provider.Spec) {
		if s.Name == name {
			asked <- s
			<-done
		}
	}
	return asked
}

// A cloud that says when to ask again is not asked before, and its neighbours are.
func TestApply_WaitsAsLongAsTheCloudSays(t *testing.T) {
	w := newWorld(t)
	asked := 0
	w.PutFault = func(s provider.Spec) (*provider.Observed, error) {
		if s.Name == "slow" {
			asked++
			return nil, &provider.Error{Code: provider.Throttled, Message: "slow down", RetryAfterSeconds: 600}
		}
		return nil, nil
	}
	for range 2 {
		out, err := w.apply(config(service("slow", 30080), service("web", 30081)))
		if err != nil || len(out.Refused) != 1 || out.Refused[0].Message != "Throttled: slow down" {
			t.Errorf("%v %+v", err, out.Refused)
		}
	}
	if asked != 1 {
		t.Errorf("asked %d times", asked)
	}
	if s := w.one(); s.Name != "web" {
		t.Errorf("%+v", s)
	}
}

// What is wanted no more does not wait as long as the cloud wanted: the old nodePort may be
// somebody else's by now.
func TestApply_AChangeWaitsForNoPause(t *testing.T) {
	w := newWorld(t)
	w.PutFault = func(s provider.Spec) (*provider.Observed, error) {
		if s.Listeners[0].NodePort == 30080 {
			return nil, &provider.Error{Code: provider.Throttled, Message: "slow down", RetryAfterSeconds: 3600}
		}
		return nil, nil
	}
	if out, err := w.apply(config(service("web", 30080))); err != nil || len(out.Refused) != 1 {
		t.Fatalf("%v %+v", err, out.Refused)
	}
	w.applied(config(service("web", 30081)))
}

// A cloud that takes one step of many with each request is asked for the next one soon: pauses
// get longer only while nothing moves.
func TestApply_StepsFollowOneAnother(t *testing.T) {
	w := newHastyWorld(t)
	const steps, soon = 12, 20 * time.Second // with ever longer pauses, it is more than a minute
	taken := 0
	w.PutFault = func(s provider.Spec) (*provider.Observed, error) {
		if taken++; taken >= steps {
			return nil, nil
		}
		o := &provider.Observed{Spec: s}
		o.State, o.Calls.Writes, o.Spec.Listeners = provider.Pending, 1, nil
		return o, nil
	}
	start := time.Now()
	if _, err := w.apply(config(service("web", 30080))); err != nil {
		t.Fatal(err)
	}
	select {
	case <-w.conn.(*conn).News():
	case <-t.Context().Done():
	}
	if took := time.Since(start); took > soon || taken != steps {
		t.Errorf("%d steps of %d took %v", taken, steps, took)
	}
}

// A cloud that always does something and is never done is given up, with its words, and not
// asked as often as it answers.
func TestApply_StepsWithoutEndAreGivenUp(t *testing.T) {
	w := newHastyWorld(t)
	w.conn.(*conn).workFor = 3 * time.Second
	asked := 0
	w.PutFault = func(s provider.Spec) (*provider.Observed, error) {
		asked++
		o := &provider.Observed{Spec: s}
		o.State, o.Message, o.Calls.Writes, o.Spec.Listeners = provider.Pending, "made anew", 1, nil
		return o, nil
	}
	job := func() (times int) {
		w.Lock()
		before := asked
		w.Unlock()
		if _, err := w.apply(config(service("web", 30080))); err != nil {
			t.Fatal(err)
		}
		select {
		case <-w.conn.(*conn).News():
		case <-t.Context().Done():
		}
		w.Lock()
		defer w.Unlock()
		return asked - before
	}
	first := job()
	out, err := w.conn.Status(t.Context())
	if err != nil || len(out.Refused) != 1 || out.Refused[0].Reason != lb.RefusedUnavailable || !strings.Contains(out.Refused[0].Message, "made anew") {
		t.Errorf("%v %+v", err, out.Refused)
	}
	if most := 12; first > most { // a second apart, but for the first ones
		t.Errorf("asked %d times", first)
	}
	if again := job(); again == 0 || again >= first { // it was in vain, and what is asked for is everybody's quota
		t.Errorf("asked %d times, and then %d times", first, again)
	}
}
