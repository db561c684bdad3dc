package transport

import (
	"context"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/external-lb/external-lb/internal/host"
	"github.com/external-lb/external-lb/internal/lb"
	"github.com/external-lb/external-lb/provider"
)

// Apply asks for what is wanted and not there, and takes away what is there and not wanted.
// It waits a moment for that. What the cloud has not done by then is refused as pending, and
// jobs go on with it: one load balancer that does not come holds no other one up.
func (c *conn) Apply(ctx context.Context, d host.Delivery) (host.Outcome, error) {
	if err := c.take(d); err != nil {
		return host.Outcome{}, err
	}
	if err := c.read(ctx); err != nil {
		return host.Outcome{}, failed(err)
	}
	begun := c.begin()
	if err := c.await(ctx, begun); err != nil {
		return host.Outcome{}, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.lingering(); err != nil {
		return host.Outcome{}, err
	}
	return host.Outcome{Report: c.report(), Reloaded: len(begun) > 0}, nil
}

// take a delivery for what is wanted, as a host does.
func (c *conn) take(d host.Delivery) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if d.Epoch.Compare(c.epoch) <= 0 {
		return &host.Error{Code: host.CodeStaleEpoch, Message: fmt.Sprintf("epoch %s is not newer than %s", d.Epoch, c.epoch)}
	}
	if d.Base != c.wanted.Digest() {
		return &host.Error{Code: host.CodeBaseMismatch, Message: "another base"}
	}
	c.epoch = d.Epoch
	c.want(c.wanted.Apply(d.Change))
	maps.DeleteFunc(c.later, func(_ string, at time.Time) bool { return at.Before(time.Now()) })
	maps.DeleteFunc(c.taken, func(uid string, _ provider.Spec) bool { return c.wishes[uid] == nil })
	return nil
}

// want says what is wanted from now on. Jobs on what changes with that begin anew. The mu
// is held.
func (c *conn) want(set *lb.Set) {
	was := c.wishes
	c.wanted = set
	c.wishes, c.strange = wishes(set, *c.can)
	changes := func(uid string) bool { return !was[uid].same(c.wishes[uid]) }
	maps.DeleteFunc(c.waits, func(uid string, _ lb.Refusal) bool { return changes(uid) })
	maps.DeleteFunc(c.later, func(uid string, _ time.Time) bool { return changes(uid) }) // what goes away is not to wait (S18)
	for uid, j := range c.jobs {
		if changes(uid) {
			j.change()
		}
	}
}

// same reports whether two wishes ask for the same.
func (w *wish) same(o *wish) bool {
	if w == nil || o == nil {
		return w == o
	}
	return w.sum == o.sum && reflect.DeepEqual(w.spec, o.spec)
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

// begin jobs on what the cloud does not show as it is wanted, where none is at work and the
// cloud may be asked.
func (c *conn) begin() (begun []*job) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, uid := range c.differing() {
		if c.jobs[uid] == nil && !time.Now().Before(c.later[uid]) {
			begun = append(begun, c.start(uid))
		}
	}
	return begun
}

// differing lists, by UID, what the cloud does not show as it is wanted, or not all of it.
func (c *conn) differing() (todo []string) {
	for uid, w := range c.wishes {
		b, there := c.seen[uid]
		full := there && w.fulfilled(b)
		if full {
			c.taken[uid] = w.spec
		}
		if full && len(b.Refused) > 0 || !full && (there || len(w.spec.Listeners) > 0) {
			todo = append(todo, uid)
		}
	}
	for uid := range c.seen {
		if c.wishes[uid] == nil {
			todo = append(todo, uid)
		}
	}
	slices.Sort(todo)
	return todo
}

// await the ends of jobs, as long as others may wait for that.
func (c *conn) await(ctx context.Context, jobs []*job) error {
	timer := time.NewTimer(c.patience)
	defer timer.Stop()
	for _, j := range jobs {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-timer.C:
			return nil
		case <-j.ended:
			if j.err != nil {
				return failed(j.err)
			}
		}
	}
	return nil
}

// lingering is an error where something is to go, and no job is at work on that any more, or
// was in vain before.
func (c *conn) lingering() error {
	for _, uid := range slices.Sorted(maps.Keys(c.seen)) {
		why, waits := c.waits[uid]
		if c.wishes[uid] == nil && (waits && why.Reason != lb.RefusedPending || c.jobs[uid] == nil) {
			b := c.seen[uid]
			return &host.Error{Code: host.CodeMachine, Message: strings.TrimSuffix(
				fmt.Sprintf("the load balancer of %s/%s is not gone yet: %s", b.Namespace, b.Name, why.Message), ": ")}
		}
	}
	return nil
}
