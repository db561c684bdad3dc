package transport

import (
	"errors"
	"time"

	"github.com/external-lb/external-lb/provider"
)

// quiet is for how long the cloud does not want to be read, and its words for that.
type quiet struct {
	until time.Time
	err   error
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
		c.quiet = quiet{time.Now().Add(time.Duration(e.RetryAfterSeconds) * time.Second), err}
	}
	return err
}
