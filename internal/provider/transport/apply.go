package transport

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/external-lb/external-lb/internal/host"
	"github.com/external-lb/external-lb/internal/lb"
	"github.com/external-lb/external-lb/provider"
)

// atOnce is how many load balancers a provider is asked for at a time.
const atOnce = 8

// Pauses before what the cloud has not done yet is asked for again, where it does not say.
const (
	firstPause = 250 * time.Millisecond
	longPause  = 10 * time.Second
)

// Apply asks for what is wanted and not there, and takes away what is there and not wanted,
// until the cloud shows it or Patience is over. What it has not done by then is refused, and
// so asked for again later: one load balancer that does not come holds no other one up.
func (c *conn) Apply(ctx context.Context, d host.Delivery) (host.Outcome, error) {
	if err := c.take(d); err != nil {
		return host.Outcome{}, err
	}
	if err := c.ask(ctx); err != nil {
		return host.Outcome{}, failed(err)
	}
	seen, err := c.list(ctx)
	if err != nil {
		return host.Outcome{}, failed(err)
	}
	r := &round{conn: c, seen: seen}
	todo := r.differs()
	wrote := len(todo) > 0
	until := time.Now().Add(c.patience)
	for pause := firstPause; len(todo) > 0; pause = min(2*pause, longPause) {
		if todo, err = r.ask(ctx, todo); err != nil {
			return host.Outcome{}, failed(err)
		}
		wait := max(pause, r.untilDue(todo))
		if len(todo) == 0 || time.Now().Add(wait).After(until) {
			break
		}
		if err := sleep(ctx, wait); err != nil {
			return host.Outcome{}, err
		}
	}
	if err := r.lingering(todo); err != nil {
		return host.Outcome{}, err
	}
	return host.Outcome{Report: c.report(r.seen), Reloaded: wrote}, nil
}

// take a delivery for what is wanted, as a host does.
func (c *conn) take(d host.Delivery) error {
	if d.Epoch.Compare(c.epoch) <= 0 {
		return &host.Error{Code: host.CodeStaleEpoch, Message: fmt.Sprintf("epoch %s is not newer than %s", d.Epoch, c.epoch)}
	}
	if d.Base != c.wanted.Digest() {
		return &host.Error{Code: host.CodeBaseMismatch, Message: "another base"}
	}
	c.epoch, c.wanted = d.Epoch, c.wanted.Apply(d.Change)
	c.wishes, c.strange = wishes(c.wanted, *c.can)
	keep := func(uid string) bool { return c.wishes[uid] != nil }
	maps.DeleteFunc(c.waits, func(uid string, _ lb.Refusal) bool { return !keep(uid) })
	maps.DeleteFunc(c.later, func(_ string, at time.Time) bool { return at.Before(time.Now()) })
	maps.DeleteFunc(c.taken, func(uid string, _ provider.Spec) bool { return !keep(uid) })
	return nil
}

// failed is why a delivery as a whole was not possible.
func failed(err error) error {
	if err = trouble(err); errorIsProviders(err) {
		return &host.Error{Code: host.CodeMachine, Message: "the provider: " + err.Error()}
	}
	return err
}

func errorIsProviders(err error) bool {
	_, is := err.(*provider.Error)
	return is
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// round is one delivery under way.
type round struct {
	*conn
	mu   sync.Mutex
	seen map[string]provider.LoadBalancer // as the cloud showed it last
	gone map[string]string                // of what is to go, why it has not
}

// differs lists, by UID, what the cloud does not show as it is wanted.
func (r *round) differs() (todo []string) {
	for uid, w := range r.wishes {
		if b, there := r.seen[uid]; there && w.fulfilled(b) {
			r.taken[uid] = w.spec
		} else if there || len(w.spec.Listeners) > 0 {
			todo = append(todo, uid)
		}
	}
	for uid := range r.seen {
		if r.wishes[uid] == nil {
			todo = append(todo, uid)
		}
	}
	slices.Sort(todo)
	return todo
}

// untilDue is how long the cloud wants none of some load balancers to be asked for.
func (r *round) untilDue(todo []string) (wait time.Duration) {
	for i, uid := range todo {
		if d := time.Until(r.later[uid]); i == 0 || d < wait {
			wait = d
		}
	}
	return max(wait, 0)
}

// ask for some load balancers once, if they are due. What the cloud is still at work on is left.
func (r *round) ask(ctx context.Context, todo []string) (left []string, err error) {
	r.gone = map[string]string{}
	slots := make(chan struct{}, atOnce)
	var wg sync.WaitGroup
	var errs []error
	for _, uid := range todo {
		r.mu.Lock()
		notYet := time.Until(r.later[uid])
		if notYet > 0 {
			left = append(left, uid)
			r.gone[uid] = "it is asked for again in " + notYet.Round(time.Second).String()
		}
		r.mu.Unlock()
		if notYet > 0 {
			continue
		}
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			again, err := r.one(ctx, uid)
			r.mu.Lock()
			defer r.mu.Unlock()
			if again {
				left = append(left, uid)
			}
			if err != nil {
				errs = append(errs, err)
			}
		})
	}
	wg.Wait()
	slices.Sort(left)
	return left, errors.Join(errs[:min(1, len(errs))]...)
}

// one load balancer is asked for, or for its absence. An error is one of the provider.
func (r *round) one(ctx context.Context, uid string) (again bool, err error) {
	id := provider.ID{Cluster: r.owner, Service: uid}
	w := r.wishes[uid]
	if w == nil || len(w.spec.Listeners) == 0 {
		return r.withdraw(ctx, id)
	}
	b, err := r.client.Put(ctx, id, w.spec)
	r.mu.Lock()
	was, there := r.seen[uid]
	r.mu.Unlock()
	switch e, told := errors.AsType[*provider.Error](err); {
	case err != nil && (!told || e.Code == provider.Unauthorized):
		return false, err
	case err != nil && e.Code.Passes():
		r.waitsFor(w, lb.RefusedUnavailable, said(e.Code, e.Message), e.RetryAfterSeconds)
		return true, nil
	case err != nil:
		r.waitsFor(w, reasonOf(e.Code), explain(e), 0)
		return false, r.older(ctx, id, w, was, there)
	}
	r.shown(uid, b, w.spec)
	switch {
	case w.fulfilled(b):
		return false, nil
	case b.State == provider.Failed:
		r.waitsFor(w, lb.RefusedUnavailable, said(b.Reason, b.Message), 0)
		return false, nil
	}
	r.waitsFor(w, lb.RefusedUnavailable, "the cloud is still at work on it: "+said(b.Reason, b.Message), b.RetryAfterSeconds)
	return true, nil
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
func (r *round) withdraw(ctx context.Context, id provider.ID) (again bool, err error) {
	b, err := r.client.Delete(ctx, id)
	e, told := errors.AsType[*provider.Error](err)
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case told && e.Code == provider.NotFound:
		delete(r.seen, id.Service)
		delete(r.taken, id.Service)
		return false, nil
	case err != nil && (!told || e.Code == provider.Unauthorized):
		return false, err
	case err != nil:
		r.gone[id.Service] = said(e.Code, e.Message)
		r.after(id.Service, e.RetryAfterSeconds)
		return true, nil
	}
	r.seen[id.Service] = b
	r.gone[id.Service] = said(b.Reason, b.Message)
	r.after(id.Service, b.RetryAfterSeconds)
	return true, nil
}

// older leaves of what is in the cloud only what is still right, where something newer is
// refused. What that was is not known after a restart: then it stays.
func (r *round) older(ctx context.Context, id provider.ID, w *wish, was provider.LoadBalancer, there bool) error {
	r.mu.Lock()
	last, known := r.taken[id.Service]
	r.mu.Unlock()
	left := kept(last, w.spec)
	switch {
	case !there || !known || len(left.Listeners) == len(last.Listeners) && was.Proves(last):
		return nil
	case len(left.Listeners) == 0:
		_, err := r.withdraw(ctx, id)
		return err
	}
	b, err := r.client.Put(ctx, id, left)
	switch {
	case errorIsProviders(err): // it is asked for again with what is refused
		return nil
	case err != nil:
		return err
	}
	r.shown(id.Service, b, left)
	return nil
}

// shown is what the cloud showed after it took a Spec.
func (r *round) shown(uid string, b provider.LoadBalancer, took provider.Spec) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seen[uid], r.taken[uid] = b, took
}

func (r *round) waitsFor(w *wish, reason lb.RefusalReason, message string, seconds int32) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.waits[w.service.ID.UID] = lb.Refusal{Key: w.key, Reason: reason, Message: strings.TrimSuffix(message, ": ")}
	r.after(w.service.ID.UID, seconds)
}

// after some seconds a load balancer may be asked for again. The round's mu is held.
func (r *round) after(uid string, seconds int32) {
	if seconds > 0 {
		r.later[uid] = time.Now().Add(time.Duration(seconds) * time.Second)
	}
}

// lingering is an error where something is not gone that is to go.
func (r *round) lingering(todo []string) error {
	for _, uid := range todo {
		if why, lingers := r.gone[uid]; lingers && r.wishes[uid] == nil {
			b := r.seen[uid]
			return &host.Error{Code: host.CodeMachine, Message: strings.TrimSuffix(
				fmt.Sprintf("the load balancer of %s/%s is not gone yet: %s", b.Namespace, b.Name, why), ": ")}
		}
	}
	return nil
}
