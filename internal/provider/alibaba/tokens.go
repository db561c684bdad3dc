package alibaba

import (
	"fmt"
	"time"

	"github.com/external-lb/external-lb/provider"
)

// recent is how long two calls that make the same thing are one.
const recent = 10 * time.Second

func recently() time.Time { return time.Now().Truncate(recent) }

// once adds the token of a call that makes something. Of two with the same time the cloud takes one,
// also where the answer to the first one was lost and what it made is not listed yet. What was taken
// away meanwhile comes again when the time is over.
func once(id provider.ID, c call, since time.Time) call {
	what := fmt.Sprint(c.params)
	if c.action == "CreateLoadBalancer" { // there is to be one, whatever else is wanted meanwhile
		what = ""
	}
	c.params["ClientToken"] = sum(id.Cluster, id.Service, c.action, what, fmt.Sprint(since.Unix()))
	return c
}

// unlisted is how long a load balancer that was asked for is taken to be there, and not listed yet.
const unlisted = time.Minute

// since is the time of the call that makes a load balancer: each is paid for.
func (c *Cloud) since(id provider.ID) time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.begun == nil {
		c.begun = map[provider.ID]begun{}
	}
	c.forget()
	b, again := c.begun[id]
	if !again {
		b.first = recently() // after a restart it is the same for a while
	}
	b.last = time.Now()
	c.begun[id] = b
	return b.first
}

// asked reports whether a load balancer was asked for that is not listed yet.
func (c *Cloud) asked(id provider.ID) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.forget()
	_, asked := c.begun[id]
	return asked
}

// forget those that are never listed.
func (c *Cloud) forget() {
	for id, b := range c.begun {
		if time.Since(b.last) > unlisted {
			delete(c.begun, id)
		}
	}
}

// listed ends that: the next one is another one.
func (c *Cloud) listed(id provider.ID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.begun, id)
}

// begun is a load balancer that was asked for, and is not listed yet.
type begun struct{ first, last time.Time }
