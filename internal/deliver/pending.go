package deliver

import (
	"slices"

	"github.com/external-lb/external-lb/internal/lb"
)

// pending are the sets of deliveries of which nobody knows yet how they end: their items may be
// live, and what they lack may be gone. A host that never answers gets ever more of them, so no more
// than this is kept. It is not changed once made.
type pending struct {
	last  *lb.Set     // the newest; nil: there is none
	alike lb.Manifest // what all of them say alike
	some  lb.Manifest // all of the newest, and what it lacks of older ones
	// more: older ones had more than that.
	more    bool
	digests []lb.Digest // the newest last; "" in the front stands for some that are forgotten
}

// How much is kept of sets that are older than the newest.
const (
	mostDigests = 8
	mostLacking = 1 << 12 // Keys that the newest lacks
)

// with one more. It costs what differs.
func (p pending) with(set *lb.Set) pending {
	if p.last == nil {
		return pending{last: set, alike: set.Manifest(), some: set.Manifest(), digests: []lb.Digest{set.Digest()}}
	}
	var differ []lb.Key
	for d := range p.alike.Differences(set.Manifest()) {
		if d.Was != nil {
			differ = append(differ, d.Key)
		}
	}
	lacking := lb.Sums{}
	for d := range p.some.Differences(set.Manifest()) {
		if d.Is == nil {
			lacking[d.Key] = *d.Was
		}
		if len(lacking) > mostLacking {
			clear(lacking)
			p.more = true
			break
		}
	}
	p.last, p.alike, p.some = set, p.alike.Without(differ...), set.Manifest().With(lacking)
	p.digests = append(slices.DeleteFunc(slices.Clone(p.digests), func(d lb.Digest) bool { return d == set.Digest() }), set.Digest())
	if len(p.digests) > mostDigests {
		p.digests = p.digests[1:]
		p.digests[0] = ""
	}
	return p
}

// newest alone: those before it have ended.
func (p pending) newest() pending {
	if p.last == nil {
		return p
	}
	return pending{}.with(p.last)
}

// mayBring reports whether an item with this key may come by one of them.
func (p pending) mayBring(key lb.Key) bool { return p.more || p.some.Has(key) }

// keep reports whether all of them have the item with these bytes.
func (p pending) keep(key lb.Key, sum lb.Sum) bool { return p.last == nil || is(p.alike, key, sum) }

// is reports whether a Manifest has the item with these bytes.
func is(m lb.Manifest, key lb.Key, sum lb.Sum) bool {
	got, ok := m.Sum(key)
	return ok && got == sum
}
