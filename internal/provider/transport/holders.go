package transport

import (
	"fmt"
	"maps"
	"slices"

	"github.com/external-lb/external-lb/provider"
)

// holders are the UIDs of those to whom addresses belong. What a cloud gives is believed of one
// Service alone: another one that is said to have it would be told where the first one's clients go.
type holders map[provider.Address]string

// bare is an IP or a hostname without its family: a name may be of both.
func bare(a provider.Address) provider.Address {
	a.Family = ""
	return a
}

// hold settles to whom addresses belong: to who asks for them by name, then to who had them
// before, then to the first by UID. The mu is held.
func (c *conn) hold() {
	maps.DeleteFunc(c.holds, func(a provider.Address, uid string) bool {
		has := func(o provider.Address) bool { return bare(o) == a }
		return c.wishes[uid] == nil || !slices.ContainsFunc(c.seen[uid].Addresses, has)
	})
	for _, uid := range slices.Sorted(maps.Keys(c.seen)) {
		w := c.wishes[uid]
		if w == nil {
			continue
		}
		for _, a := range c.seen[uid].Addresses {
			a = bare(a)
			if holder, held := c.holds[a]; !held || w.asksFor(a) && !c.wishes[holder].asksFor(a) {
				c.holds[a] = uid
			}
		}
	}
}

// asksFor an address by name.
func (w *wish) asksFor(a provider.Address) bool {
	return a.IP.IsValid() && slices.ContainsFunc(w.spec.Families, func(f provider.Family) bool { return f.Address == a.IP })
}

// rival says who else has an address that the cloud gave a Service; "": nobody has. The mu is held.
func (c *conn) rival(uid string) string {
	for _, a := range c.seen[uid].Addresses {
		holder := c.holds[bare(a)]
		if other := c.wishes[holder]; holder != uid && other != nil && !c.wishes[uid].asksFor(a) {
			name := a.Hostname
			if name == "" {
				name = a.IP.String()
			}
			return fmt.Sprintf("the cloud gives it %s, and %s/%s has it, too", name, other.service.ID.Namespace, other.service.ID.Name)
		}
	}
	return ""
}
