package transport

import (
	"context"
	"errors"
	"time"

	"github.com/external-lb/external-lb/internal/deliver"
	"github.com/external-lb/external-lb/provider"
)

// quietLong is how long a cloud is not read before somebody should know: clouds ask for a moment now and then.
const quietLong = 5 * time.Minute

// quiet is for how long the cloud does not want to be read, and its words for that.
type quiet struct {
	since time.Time // it was read last before that
	until time.Time
	err   error
}

// words for people; "": it may be read, or soon.
func (q quiet) words(now time.Time) string {
	if !now.Before(q.until) || q.until.Sub(q.since) <= quietLong {
		return ""
	}
	return "the cloud is not read until " + q.until.UTC().Format(time.TimeOnly) + " UTC, as it asks for that: " + q.err.Error()
}

// read what the cloud can do, and what it has. While it does not want to be read, what was seen last does: what goes
// away is not to wait (S18).
func (c *conn) read(ctx context.Context) error {
	err := c.ask(ctx)
	if err == nil {
		err = c.list(ctx)
	}
	if err == nil || c.resting() == nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.listed.IsZero() {
		return err
	}
	return nil
}

// resting is why the cloud is not read now, or nil.
func (c *conn) resting() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Now().Before(c.quiet.until) {
		return c.quiet.err
	}
	return nil
}

// rests notes when the cloud may be read again, where an error says that.
func (c *conn) rests(err error) error {
	if e, told := errors.AsType[*provider.Error](err); told && e.Code.Passes() && e.RetryAfterSeconds > 0 {
		c.mu.Lock()
		defer c.mu.Unlock()
		now := time.Now()
		if c.quiet.since.IsZero() {
			c.quiet.since = now
		}
		c.quiet.until, c.quiet.err = now.Add(time.Duration(e.RetryAfterSeconds)*time.Second), err
	}
	return err
}

// unread says what is wrong where the cloud was never read: nothing is, where it only asks for some time.
func unread(err error) error {
	if e, told := errors.AsType[*provider.Error](err); told && e.Code == provider.Throttled {
		return &deliver.Error{Reason: deliver.ReasonThrottled, Err: err,
			Message: "what is in the cloud is not known yet, since the cloud asks to be left alone for a while: " + err.Error()}
	}
	return trouble(err)
}
