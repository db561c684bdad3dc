package transport

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/external-lb/external-lb/internal/lb"
	"github.com/external-lb/external-lb/provider"
)

// atOnce is how many load balancers a provider is asked for at a time.
const atOnce = 8

// Pauses before what the cloud has not done yet is asked for again, where it does not say:
// stepPause at most where it has taken a step.
const (
	firstPause = 250 * time.Millisecond
	stepPause  = time.Second
	longPause  = 10 * time.Second
)

// refusedPause is how long what was refused of a load balancer is left alone, at least.
const refusedPause = 30 * time.Second

const atWork = "the cloud is still at work on it"

// job asks for one load balancer until the cloud shows it as it is wanted, or refuses it, or
// has been asked for long enough.
type job struct {
	key   lb.Key
	ended chan struct{} // closed
	err   error         // the provider itself fails; read once it has ended
	moved bool          // the last request made a change, so the next one may follow soon

	inVain bool // an earlier job was: this one takes its time

	forMore bool // all is as it is wanted, but for what was refused; conn.mu guards it

	changed bool          // something else is wanted since its last request began; conn.mu guards it
	wake    chan struct{} // the same
}

// start a job. The mu is held.
func (c *conn) start(uid string) *job {
	j := &job{key: c.key(uid), ended: make(chan struct{}), wake: make(chan struct{}, 1), inVain: c.waits[uid].Reason == lb.RefusedUnavailable}
	b, there := c.seen[uid]
	j.forMore = there && c.shows(uid, b)
	c.jobs[uid] = j
	c.running.Go(func() {
		defer close(j.ended)
		j.err = c.work(uid, j)
	})
	return j
}

// change what is wanted. The mu is held.
func (j *job) change() {
	j.changed, j.forMore = true, false
	select {
	case j.wake <- struct{}{}:
	default:
	}
}

// work until there is nothing more to ask for.
func (c *conn) work(uid string, j *job) error {
	begun, moved := time.Now(), time.Now() // with this wish; and when the cloud last did something for it
	for pause := firstPause; ; pause = min(2*pause, longPause) {
		again, err := c.turn(uid, j)
		if j.moved {
			moved = time.Now()
			if !j.inVain {
				pause = min(pause, stepPause)
			}
		}
		c.mu.Lock()
		if j.changed && err == nil {
			again, j.inVain, pause, begun, moved = true, false, firstPause, time.Now(), time.Now()
			delete(c.waits, uid) // it is about what was wanted before
		}
		wait := max(pause, time.Until(c.later[uid]))
		next := time.Now().Add(wait)
		late := next.Sub(moved) > c.workFor || next.Sub(begun) > c.most(uid)
		if again && late {
			c.giveUp(uid, j.key)
		}
		if !again || late || err != nil {
			if err != nil {
				c.fault = err
			}
			c.end(uid)
			c.mu.Unlock()
			return err
		}
		c.mu.Unlock()
		if err := c.rest(j, wait); err != nil {
			return err
		}
	}
}

// most is how long a wish may take whose cloud always does something: it may do the same for
// ever, and each time costs calls. The mu is held.
func (c *conn) most(uid string) time.Duration {
	steps := 1
	if w := c.wishes[uid]; w != nil {
		steps += len(w.spec.Listeners)
	}
	return c.workFor * time.Duration(steps)
}

// rest before the next request. What changes may be asked for sooner.
func (c *conn) rest(j *job, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-c.ctx.Done():
		return c.ctx.Err()
	case <-j.wake:
	case <-timer.C:
	}
	return nil
}

// end a job. The mu is held.
func (c *conn) end(uid string) {
	delete(c.jobs, uid)
	c.fresh = true
	select {
	case c.news <- struct{}{}:
	default:
	}
}

// told takes the news back. The mu is held.
func (c *conn) told() {
	c.fresh = false
	select {
	case <-c.news:
	default:
	}
}

// giveUp calls what a job has waited for a fault. Later ones may try again.
func (c *conn) giveUp(uid string, key lb.Key) {
	why := c.atWork(uid, key)
	why.Reason = lb.RefusedUnavailable
	c.waits[uid] = why
}

// turn asks for one load balancer, or for its absence. An error is one of the provider.
func (c *conn) turn(uid string, j *job) (again bool, err error) {
	select {
	case c.slots <- struct{}{}:
		defer func() { <-c.slots }()
	case <-c.ctx.Done():
		return false, c.ctx.Err()
	}
	c.mu.Lock()
	j.changed, j.moved = false, false
	w := c.wishes[uid]
	was, there := c.seen[uid]
	c.mu.Unlock()
	id := provider.ID{Cluster: c.owner, Service: uid}
	if w == nil || len(w.spec.Listeners) == 0 {
		return c.withdraw(id, j.key)
	}
	b, err := c.put(id, w.spec)
	switch e, told := errors.AsType[*provider.Error](err); {
	case err != nil && (!told || e.Code == provider.Unauthorized):
		return false, err
	case err != nil && e.Code.Passes():
		c.waitsFor(id, w.key, lb.RefusedPending, said(e.Code, e.Message), e.RetryAfterSeconds)
		return true, nil
	case err != nil:
		c.waitsFor(id, w.key, reasonOf(e.Code), explain(e), 0)
		return false, c.older(id, w, was, there)
	}
	c.shown(uid, b, w.spec)
	j.moved = b.Calls.Writes > 0 || b.Digest != was.Digest
	switch {
	case w.fulfilled(b):
		if len(b.Refused) > 0 {
			c.mu.Lock()
			c.later[uid] = time.Now().Add(max(time.Duration(b.RetryAfterSeconds)*time.Second, refusedPause))
			c.mu.Unlock()
		}
		return false, nil
	case slices.ContainsFunc(b.Addresses, ofNoClient):
		c.waitsFor(id, w.key, lb.RefusedUnavailable, "the cloud gives it an address of this machine's own, to which no client can be sent", 0)
		return false, nil
	case b.State == provider.Failed:
		c.waitsFor(id, w.key, lb.RefusedUnavailable, said(b.Reason, b.Message), 0)
		return false, nil
	case b.State == provider.Live && b.Reason == provider.Unsupported: // more cannot be had
		c.waitsFor(id, w.key, lb.RefusedByEngine, said(b.Reason, b.Message), 0)
		return false, nil
	}
	c.waitsFor(id, w.key, lb.RefusedPending, atWork+": "+said(b.Reason, b.Message), b.RetryAfterSeconds)
	return true, nil
}

func (c *conn) put(id provider.ID, spec provider.Spec) (provider.LoadBalancer, error) {
	b, err := c.client.Put(c.ctx, id, spec)
	c.asked(RequestPut, err, callsOf(b))
	return b, err
}

// explain says what is to be done where the words of a cloud do not.
func explain(e *provider.Error) string {
	what := said(e.Code, e.Message)
	if e.Field != "" {
		what = fmt.Sprintf("%s: %s: %s", e.Code, e.Field, e.Message)
	}
	return what
}

// withdraw asks for a load balancer's absence. Only NotFound says that.
func (c *conn) withdraw(id provider.ID, key lb.Key) (again bool, err error) {
	b, err := c.client.Delete(c.ctx, id)
	c.asked(RequestDelete, err, callsOf(b))
	switch e, told := errors.AsType[*provider.Error](err); {
	case told && e.Code == provider.NotFound:
		c.gone(id.Service)
		return false, nil
	case err != nil && (!told || e.Code == provider.Unauthorized):
		return false, err
	case err != nil:
		c.waitsFor(id, key, lb.RefusedPending, said(e.Code, e.Message), e.RetryAfterSeconds)
		return true, nil
	}
	c.mu.Lock()
	c.seen[id.Service], c.changed[id.Service] = b, true
	c.mu.Unlock()
	c.waitsFor(id, key, lb.RefusedPending, atWork+": "+said(b.Reason, b.Message), b.RetryAfterSeconds)
	return true, nil
}

// gone notes that nothing of a load balancer is left.
func (c *conn) gone(uid string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.seen, uid)
	delete(c.taken, uid)
	if w := c.wishes[uid]; w == nil || len(w.spec.Listeners) == 0 {
		delete(c.waits, uid)
	}
	c.changed[uid] = true
}

// older leaves of what is in the cloud only what is still right, where something newer is
// refused. What that was is not known after a restart: then it stays.
func (c *conn) older(id provider.ID, w *wish, was provider.LoadBalancer, there bool) error {
	c.mu.Lock()
	last, known := c.taken[id.Service]
	why := c.waits[id.Service]
	c.mu.Unlock()
	left := kept(last, w.spec)
	switch {
	case !there || !known || len(left.Listeners) == len(last.Listeners) && was.Proves(last):
		return nil
	case len(left.Listeners) == 0:
		_, err := c.withdraw(id, w.key)
		c.waitsFor(id, w.key, why.Reason, why.Message, 0) // it is what is to be told
		return err
	}
	b, err := c.put(id, left)
	switch {
	case errorIsProviders(err): // it is asked for again with what is refused
		return nil
	case err != nil:
		return err
	}
	c.shown(id.Service, b, left)
	return nil
}

// shown is what the cloud showed after it took a Spec.
func (c *conn) shown(uid string, b provider.LoadBalancer, took provider.Spec) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seen[uid], c.taken[uid], c.changed[uid] = b, took, true
}

// waitsFor notes why something is not as it is wanted, and when it may be asked for again.
// What was in vain for a while is told as that until it comes.
func (c *conn) waitsFor(id provider.ID, key lb.Key, reason lb.RefusalReason, message string, seconds int32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if was, waits := c.waits[id.Service]; waits && reason == lb.RefusedPending {
		reason = was.Reason
	}
	c.waits[id.Service] = lb.Refusal{Key: key, Reason: reason, Message: strings.TrimSuffix(message, ": ")}
	if seconds > 0 {
		c.later[id.Service] = time.Now().Add(time.Duration(seconds) * time.Second)
	}
}
