package admit

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/external-lb/external-lb/internal/lb"
)

// Room is how much of a model a host carries, whoever sends it.
type Room struct {
	Listeners int
	Backends  int // of all Services: their ports, each times the nodes that carry it; eight source ranges count as one
	Addresses int // that the hosts bring
}

// The bounds of every host.
const (
	MaxListeners = lb.MaxListeners / 2
	MaxAddresses = 1 << 12 // keepalived says all of them to the network when they come
)

// Carried is what a host carries already. It stays, whatever is new: nobody pushes others
// out by a name that sorts before theirs.
type Carried struct {
	Has func(lb.Key) bool
	// Older is the version of a Service that is carried: the same one where it has not
	// changed, nil where there is none.
	Older func(*lb.Service) *lb.Service
}

// Beyond are the parts of what is admitted for which there is no room: of nodes,
// addresses, Services and ports of Services what is new. Where a Service has grown by its
// nodes alone, it is refused as a whole: its older version may stay. A namespace that has
// more than its share gets nothing more once half of the room is taken: see shares.
func (r Room) Beyond(cfg *lb.Config, carried Carried) []lb.Refusal {
	c := newCrowd(cfg)
	out := r.addresses(cfg, carried)
	if r.half().has(c.all()) {
		return out // as ever: it need not be known what is carried
	}
	c.rank(carried)
	out = append(out, r.nodes(c, carried)...)
	shares := c.share(r)
	for i := range c.waiting { // what is carried comes before what is new, whosever it is
		w := &c.waiting[i]
		w.has = c.has(w)
		c.used = c.used.plus(w.has)
		shares.add(w.service, w.has)
	}
	for i := range c.waiting {
		w := &c.waiting[i]
		if w.stays {
			continue
		}
		more := c.need(w.service).minus(w.has)
		used := c.used.plus(more)
		why := ""
		if !r.has(used) {
			why = r.advice(used, more)
		} else {
			why = shares.beyond(w.service, more, used)
		}
		if why == "" {
			c.used = used
			shares.add(w.service, more)
			continue
		}
		late, _ := w.late()
		for _, l := range late {
			out = append(out, lb.Refusal{Key: lb.ServiceKey(w.service.ID), Listener: l, Reason: lb.RefusedNotAdmitted, Message: why})
		}
	}
	return out
}

func (r Room) has(s size) bool { return s.listeners <= r.Listeners && s.backends <= r.Backends }

// size of Services.
type size struct{ listeners, backends int }

func (s size) plus(o size) size  { return size{s.listeners + o.listeners, s.backends + o.backends} }
func (s size) minus(o size) size { return size{s.listeners - o.listeners, s.backends - o.backends} }

// rangesPerBackend is how many source ranges of a port take as much memory as a backend.
const rangesPerBackend = 8

// crowd is the Services of a model and what they need.
type crowd struct {
	nodes   map[string]lb.Node
	v4, v6  heads
	waiting []waiting
	used    size
}

// waiting is a Service: those that have not changed are first, then those that have not
// grown, those that have, and new ones.
type waiting struct {
	service *lb.Service
	was     *lb.Service // nil: it is new
	stays   bool
	rank    int
	has     size // of what it needs: what is carried
}

// late is what came last of a Service, and the rest: the ports that were not there before,
// or all of it, as the zero Listener.
func (w *waiting) late() (late []lb.Listener, rest *lb.Service) {
	part := *w.service
	part.Frontends = nil
	if w.was != nil {
		before := make(map[lb.Listener]bool, len(w.was.Frontends))
		for i := range w.was.Frontends {
			before[w.was.Frontends[i].Listener] = true
		}
		for _, f := range w.service.Frontends {
			if before[f.Listener] {
				part.Frontends = append(part.Frontends, f)
			} else {
				late = append(late, f.Listener)
			}
		}
	}
	if len(late) == 0 || len(part.Frontends) == 0 {
		part.Frontends = nil
		return []lb.Listener{{}}, &part
	}
	return late, &part
}

func newCrowd(cfg *lb.Config) *crowd {
	c := &crowd{nodes: make(map[string]lb.Node, len(cfg.Nodes)), waiting: make([]waiting, len(cfg.Services))}
	for _, n := range cfg.Nodes {
		c.add(n)
	}
	for i, s := range cfg.Services {
		c.waiting[i].service = s
	}
	return c
}

// rank the Services by what is carried.
func (c *crowd) rank(carried Carried) {
	for i := range c.waiting {
		w := &c.waiting[i]
		s := w.service
		was := carried.Older(s)
		w.was, w.rank = was, 3
		switch {
		case s.ID == lb.ControlPlane: // without it nobody could make room
			w.rank, w.stays = 0, true
		case was == nil:
		case was == s:
			w.rank, w.stays = 0, true
		case len(s.Frontends) <= len(was.Frontends) && c.need(s).backends <= c.need(was).backends:
			w.rank, w.stays = 1, true
		default:
			w.rank = 2
		}
	}
	slices.SortStableFunc(c.waiting, func(a, b waiting) int { return cmp.Compare(a.rank, b.rank) })
}

func (c *crowd) add(n lb.Node)    { c.nodes[n.Name] = n; c.count(n, 1) }
func (c *crowd) remove(n lb.Node) { delete(c.nodes, n.Name); c.count(n, -1) }

func (c *crowd) count(n lb.Node, by int) {
	if n.IPv4.IsValid() {
		c.v4.count(n, by)
	}
	if n.IPv6.IsValid() {
		c.v6.count(n, by)
	}
}

// heads are nodes of a family, and how many of them wait for the others.
type heads struct{ all, waiting int }

func (h *heads) count(n lb.Node, by int) {
	if h.all += by; n.Backup {
		h.waiting += by
	}
}

// limited is how many of them carry a Service of which so many of either may.
func (h heads) limited(limit int) int {
	if limit == 0 {
		return h.all
	}
	return min(h.all-h.waiting, limit) + min(h.waiting, limit)
}

// need of a Service.
func (c *crowd) need(s *lb.Service) size {
	n := size{listeners: len(s.Frontends), backends: s.Endpoints() + s.Ranges()/rangesPerBackend}
	if s.Pods {
		return n
	}
	var v4, v6 int
	for i := range s.Frontends {
		if s.Frontends[i].Listener.Address.Is4() {
			v4++
		} else {
			v6++
		}
	}
	n.backends += v4*c.carrying(&s.IPv4.Targets, true) + v6*c.carrying(&s.IPv6.Targets, false) + n.listeners*len(s.Servers)
	return n
}

// carrying is how many nodes carry a Service for one family.
func (c *crowd) carrying(t *lb.Targets, ipv4 bool) (n int) {
	if t.All {
		all := c.v6
		if ipv4 {
			all = c.v4
		}
		return all.limited(t.Limit)
	}
	for _, one := range t.Nodes {
		if c.nodes[one.Node].Address(ipv4).IsValid() {
			n++
		}
	}
	return n
}

// has is what a Service keeps whatever else comes: all that it needs, or what it was.
func (c *crowd) has(w *waiting) size {
	if w.stays {
		return c.need(w.service)
	}
	if w.was == nil {
		return size{}
	}
	if _, rest := w.late(); len(rest.Frontends) > 0 {
		return c.need(rest)
	}
	return c.need(w.was)
}

// all is what all Services need.
func (c *crowd) all() (s size) {
	for i := range c.waiting {
		s = s.plus(c.need(c.waiting[i].service))
	}
	return s
}

// stay is what those need that stay.
func (c *crowd) stay() (s size) {
	for i := range c.waiting {
		if c.waiting[i].stays {
			s = s.plus(c.need(c.waiting[i].service))
		}
	}
	return s
}

// nodes that are new, and with which what stays would have no room.
func (r Room) nodes(c *crowd, carried Carried) (out []lb.Refusal) {
	all := c.stay()
	if all.backends <= r.Backends {
		return nil
	}
	var fresh []lb.Node
	for _, n := range c.nodes {
		if !carried.Has(lb.NodeKey(n.Name)) {
			fresh = append(fresh, n)
		}
	}
	slices.SortFunc(fresh, func(a, b lb.Node) int { return cmp.Compare(b.Name, a.Name) })
	for _, n := range fresh {
		if all.backends <= r.Backends {
			break
		}
		before := all
		c.remove(n)
		if all = c.stay(); all == before { // it carries nothing of what stays
			c.add(n)
			continue
		}
		out = append(out, lb.Refusal{Key: lb.NodeKey(n.Name), Reason: lb.RefusedNotAdmitted, Message: r.advice(before, size{backends: before.backends - all.backends})})
	}
	return out
}

// advice where something needs more than there is.
func (r Room) advice(used, need size) string {
	if used.listeners > r.Listeners {
		return fmt.Sprintf("there is no room for %d listeners more, a host has %d at most: spread the Services over more Balancers", need.listeners, r.Listeners)
	}
	return fmt.Sprintf("there is no room for %d backends more, this host has %d at most (ports of Services, each times its nodes or pods): %s", need.backends, r.Backends, fewer)
}

// fewer backends, or more room for them.
const fewer = "have fewer carry each Service (nodes.maxPerService of the Balancer), spread the Services over more Balancers, " +
	"or give the host more memory or another admit.maxBackends " + inSettings
