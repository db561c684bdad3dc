package transport

import (
	"fmt"
	"slices"
	"time"

	"github.com/external-lb/external-lb/provider"
)

// A load balancer that is overwritten this often, this soon after it was made good, is somebody
// else's, too. Who mends something by hand does that once or twice.
const (
	contestedOften = 3
	contestedFor   = 10 * time.Minute
)

// contest is what somebody else does to load balancers that bear our tags. Clouds have no
// terms, as hosts do, so it is told by what is overwritten.
type contest struct {
	at  map[string][]time.Time // by UID
	why string
}

// overwritten notes that what was proved is something else now, and not by us.
func (c *contest) overwritten(now time.Time, b provider.LoadBalancer) {
	if c.at == nil {
		c.at = map[string][]time.Time{}
	}
	all := append(c.at[b.Service], now)
	all = slices.DeleteFunc(all, func(at time.Time) bool { return now.Sub(at) > contestedFor })
	if c.at[b.Service] = all; len(all) < contestedOften {
		return
	}
	c.why = fmt.Sprintf("somebody else changes its load balancers in the name of this cluster, again and again, such as that of Service %s/%s: mostly a "+
		"copy of the cluster that was made from a backup. Nothing more is delivered from here. Stop the other controller, or give the "+
		"provider another token; then put that into the Secret of this Balancer, or start this controller anew", b.Namespace, b.Name)
}
