package lb

import (
	"cmp"
	"encoding/hex"
	"encoding/json"
	"iter"
	"slices"
)

// Set is an immutable set of Items with distinct Keys. What a change of it costs goes by the
// change: what stays is shared, and so is its digest.
type Set struct {
	tree   *tree
	digest Digest
}

// NewSet makes a Set. Of two Items with one Key the last counts.
func NewSet(items ...Item) *Set { return (&Set{}).With(items...) }

func newSet(t *tree) *Set { return &Set{t, t.name()} }

func (t *tree) name() Digest { return Digest(hex.EncodeToString(t.digest())) }

// Digest of the Set.
func (s *Set) Digest() Digest { return s.digest }

// Len is the number of Items.
func (s *Set) Len() int { return s.tree.size() }

// All Items, sorted by Key.
func (s *Set) All() iter.Seq[Item] {
	return func(yield func(Item) bool) {
		all := slices.Clone(s.tree.items())
		slices.SortFunc(all, func(a, b *placed) int { return cmp.Compare(a.Key, b.Key) })
		for _, p := range all {
			if !yield(p.Item) {
				return
			}
		}
	}
}

// Get finds an Item by its Key.
func (s *Set) Get(key Key) (Item, bool) {
	if p := s.tree.find(key); p != nil {
		return p.Item, true
	}
	return Item{}, false
}

// Sum of an Item; ok: the Set has it.
func (s *Set) Sum(key Key) (sum Sum, ok bool) { return s.Manifest().Sum(key) }

// Manifest of the Set.
func (s *Set) Manifest() Manifest { return Manifest{s.tree} }

// With returns a Set that has some Items more, or in the place of others.
func (s *Set) With(items ...Item) *Set { return s.Apply(Change{Put: items}) }

// Change is what turns one Set into another.
type Change struct {
	Put    []Item // new or different, sorted by Key
	Delete []Key  // sorted
}

// Empty reports whether there is nothing to do.
func (c Change) Empty() bool { return len(c.Put) == 0 && len(c.Delete) == 0 }

// Diff is the Change that turns what a host has into a Set. It costs what differs.
func Diff(have Manifest, want *Set) Change {
	var c Change
	differ(have.tree, want.tree, func(was, is *placed) bool {
		if is != nil {
			c.Put = append(c.Put, is.Item)
		} else {
			c.Delete = append(c.Delete, was.Key)
		}
		return true
	})
	slices.SortFunc(c.Put, func(a, b Item) int { return cmp.Compare(a.Key, b.Key) })
	slices.Sort(c.Delete)
	return c
}

// Apply makes the Set that a Change turns this one into: the same one if it changes nothing.
func (s *Set) Apply(c Change) *Set {
	edits := make([]edit, 0, len(c.Delete)+len(c.Put))
	for _, key := range c.Delete {
		edits = append(edits, remove(key))
	}
	for _, it := range c.Put {
		edits = append(edits, put(it))
	}
	now := s.tree.edited(edits)
	if now == s.tree && s.digest != "" {
		return s
	}
	return newSet(now)
}

// Manifest is what a Set contains, without the bytes. It is never changed: what is made of it
// shares what is the same. The zero Manifest is empty.
type Manifest struct{ tree *tree }

// Sums are what a Manifest is made of.
type Sums map[Key]Sum

// Manifest of sums.
func (s Sums) Manifest() Manifest { return Manifest{}.With(s) }

// Digest of the Set that a Manifest describes.
func (m Manifest) Digest() Digest { return m.tree.name() }

// Equal reports whether two Manifests say the same.
func (m Manifest) Equal(o Manifest) bool {
	return m.tree == o.tree || m.tree != nil && o.tree != nil && m.tree.sum == o.tree.sum
}

// Len is the number of Items.
func (m Manifest) Len() int { return m.tree.size() }

// Sum of an Item; ok: the Manifest has it.
func (m Manifest) Sum(key Key) (sum Sum, ok bool) {
	if p := m.tree.find(key); p != nil {
		return p.Sum, true
	}
	return Sum{}, false
}

// Has reports whether an Item is in the Manifest.
func (m Manifest) Has(key Key) bool { return m.tree.find(key) != nil }

// All Keys with their Sums, always in the same order, which means nothing.
func (m Manifest) All() iter.Seq2[Key, Sum] {
	return func(yield func(Key, Sum) bool) {
		m.tree.each(func(p *placed) bool { return yield(p.Key, p.Sum) })
	}
}

// Sums are all of them, made anew.
func (m Manifest) Sums() Sums {
	out := make(Sums, m.Len())
	for key, sum := range m.All() {
		out[key] = sum
	}
	return out
}

// With returns a Manifest that has some sums more, or in the place of others.
func (m Manifest) With(sums Sums) Manifest {
	edits := make([]edit, 0, len(sums))
	for key, sum := range sums {
		edits = append(edits, put(Item{Key: key, Sum: sum}))
	}
	return Manifest{m.tree.edited(edits)}
}

// To is the Manifest of some sums. It shares what is the same.
func (m Manifest) To(sums Sums) Manifest {
	put, gone, same := Sums{}, []Key(nil), 0
	for key, was := range m.All() {
		switch is, there := sums[key]; {
		case !there:
			gone = append(gone, key)
		case is != was:
			put[key] = is
		default:
			same++
		}
	}
	if same+len(put) < len(sums) { // some are new
		for key, sum := range sums {
			if _, there := put[key]; !there && !m.Has(key) {
				put[key] = sum
			}
		}
	}
	return m.Without(gone...).With(put)
}

// Without returns a Manifest that lacks some Items.
func (m Manifest) Without(keys ...Key) Manifest {
	edits := make([]edit, 0, len(keys))
	for _, key := range keys {
		edits = append(edits, remove(key))
	}
	return Manifest{m.tree.edited(edits)}
}

// Apply returns the Manifest of the Set that a Change makes.
func (m Manifest) Apply(c Change) Manifest {
	sums := make(Sums, len(c.Put))
	for i := range c.Put {
		sums[c.Put[i].Key] = c.Put[i].Sum
	}
	return m.Without(c.Delete...).With(sums)
}

// Difference is a Key of which two Manifests say different things.
type Difference struct {
	Key     Key
	Was, Is *Sum // nil: it is not there
}

// Differences are what another Manifest says differently. They cost what differs, and come always
// in the same order, which means nothing.
func (m Manifest) Differences(is Manifest) iter.Seq[Difference] {
	return func(yield func(Difference) bool) {
		differ(m.tree, is.tree, func(a, b *placed) bool {
			switch {
			case a == nil:
				return yield(Difference{Key: b.Key, Is: &b.Sum})
			case b == nil:
				return yield(Difference{Key: a.Key, Was: &a.Sum})
			}
			return yield(Difference{a.Key, &a.Sum, &b.Sum})
		})
	}
}

// MarshalJSON writes the sums.
func (m Manifest) MarshalJSON() ([]byte, error) { return json.Marshal(m.Sums()) }
