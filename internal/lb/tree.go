package lb

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"slices"
)

// A tree holds Items by the first bits of the SHA-256 of their Keys, four at each depth. It is
// never changed: what a change makes shares with what was all that is the same. Its shape depends
// on the Keys alone, so its sum is the same however it was made, and two trees of one sum are one.
// A nil tree is empty.
type tree struct {
	sum      Sum // of all that is below
	len      int
	leaf     []*placed   // sorted; of a branch: nil
	children *[fan]*tree // of a leaf: nil
}

const (
	fan      = 16
	leafSize = 8  // Items below that many are one leaf
	maxDepth = 16 // where the bits end: there a leaf has as many as there are
)

// placed is an Item in its place.
type placed struct {
	at uint64
	Item
}

func place(key Key) uint64 {
	var buf [256]byte // longer than most
	sum := sha256.Sum256(append(buf[:0], key...))
	return binary.BigEndian.Uint64(sum[:])
}

func (p *placed) compare(o *placed) int {
	return cmp.Or(cmp.Compare(p.at, o.at), cmp.Compare(p.Key, o.Key))
}

// slot of a place in a branch.
func slot(at uint64, depth int) int { return int(at >> (60 - 4*depth) & (fan - 1)) }

// edit is an Item that comes, or one that goes.
type edit struct {
	*placed
	gone bool
}

// put an Item.
func put(it Item) edit { return edit{&placed{place(it.Key), it}, false} }

// remove the Item of a Key.
func remove(key Key) edit { return edit{&placed{place(key), Item{Key: key}}, true} }

// edited makes the tree that edits turn this one into. Of two edits of one Key the last counts.
func (t *tree) edited(edits []edit) *tree {
	slices.SortStableFunc(edits, func(a, b edit) int { return a.compare(b.placed) })
	last := edits[:0]
	for i, e := range edits {
		if i+1 == len(edits) || edits[i+1].Key != e.Key {
			last = append(last, e)
		}
	}
	return t.with(last, 0)
}

// with sorted edits, each of another Key.
func (t *tree) with(edits []edit, depth int) *tree {
	switch {
	case len(edits) == 0:
		return t
	case t == nil || t.children == nil:
		if all, changed := t.merged(edits); changed {
			return newTree(all, depth)
		}
		return t
	}
	children, changed := *t.children, false
	for each := range bySlot(edits, depth, func(e edit) uint64 { return e.at }) {
		i := slot(each[0].at, depth)
		now := children[i].with(each, depth+1)
		changed = changed || now != children[i]
		children[i] = now
	}
	if !changed {
		return t
	}
	return newBranch(&children)
}

// merged are the Items of a leaf after some edits.
func (t *tree) merged(edits []edit) (all []*placed, changed bool) {
	var was []*placed
	if t != nil {
		was = t.leaf
	}
	all = make([]*placed, 0, len(was)+len(edits))
	for _, e := range edits {
		for len(was) > 0 && was[0].compare(e.placed) < 0 {
			all, was = append(all, was[0]), was[1:]
		}
		there := len(was) > 0 && was[0].Key == e.Key
		switch {
		case there && !e.gone && was[0].Sum == e.Sum:
			all = append(all, was[0])
		case e.gone:
			changed = changed || there
		default:
			all, changed = append(all, e.placed), true
		}
		if there {
			was = was[1:]
		}
	}
	return append(all, was...), changed
}

// newTree makes one of sorted Items.
func newTree(all []*placed, depth int) *tree {
	if len(all) <= leafSize || depth == maxDepth {
		return newLeaf(all)
	}
	var children [fan]*tree
	for each := range bySlot(all, depth, func(p *placed) uint64 { return p.at }) {
		children[slot(each[0].at, depth)] = newTree(each, depth+1)
	}
	return newBranch(&children)
}

// bySlot cuts what is sorted into those of each slot.
func bySlot[T any](sorted []T, depth int, at func(T) uint64) func(yield func([]T) bool) {
	return func(yield func([]T) bool) {
		for len(sorted) > 0 {
			n, in := 1, slot(at(sorted[0]), depth)
			for n < len(sorted) && slot(at(sorted[n]), depth) == in {
				n++
			}
			if !yield(sorted[:n]) {
				return
			}
			sorted = sorted[n:]
		}
	}
}

// What the sum of a leaf begins with, and that of a branch: neither is ever one of the other.
const (
	sumOfLeaf   = 0
	sumOfBranch = 1
)

func newLeaf(all []*placed) *tree {
	if len(all) == 0 {
		return nil
	}
	t := &tree{len: len(all), leaf: slices.Clip(all)}
	var buf [1024]byte
	data := append(buf[:0], sumOfLeaf)
	for _, p := range t.leaf {
		data = append(binary.AppendUvarint(data, uint64(len(p.Key))), p.Key...)
		data = append(data, p.Sum[:]...)
	}
	t.sum = sha256.Sum256(data)
	return t
}

// newBranch takes over some trees: below a branch there is more than a leaf may have.
func newBranch(children *[fan]*tree) *tree {
	t := &tree{children: children}
	for _, c := range children {
		t.len += c.size()
	}
	if t.len <= leafSize {
		return newLeaf(t.appendAll(nil))
	}
	var buf [1 + fan*sha256.Size]byte
	data := append(buf[:0], sumOfBranch)
	for _, c := range children {
		data = append(data, c.digest()...)
	}
	t.sum = sha256.Sum256(data)
	return t
}

func (t *tree) size() int {
	if t == nil {
		return 0
	}
	return t.len
}

// nothing is the sum of an empty tree: of no bytes that are one.
var nothing Sum

func (t *tree) digest() []byte {
	if t == nil {
		return nothing[:]
	}
	return t.sum[:]
}

// find an Item; nil: there is none.
func (t *tree) find(key Key) *placed {
	at := place(key)
	for depth := 0; t != nil; depth++ {
		if t.children == nil {
			for _, p := range t.leaf {
				if p.Key == key {
					return p
				}
			}
			return nil
		}
		t = t.children[slot(at, depth)]
	}
	return nil
}

// appendAll appends all Items, in the order of their places.
func (t *tree) appendAll(to []*placed) []*placed {
	switch {
	case t == nil:
		return to
	case t.children == nil:
		return append(to, t.leaf...)
	}
	for _, c := range t.children {
		to = c.appendAll(to)
	}
	return to
}

// each Item, in the order of their places.
func (t *tree) each(yield func(*placed) bool) bool {
	switch {
	case t == nil:
		return true
	case t.children == nil:
		for _, p := range t.leaf {
			if !yield(p) {
				return false
			}
		}
		return true
	}
	for _, c := range t.children {
		if !c.each(yield) {
			return false
		}
	}
	return true
}

// differ yields each Key of which two trees say different things, in the order of places; nil
// where one has none. What has one sum is not looked at.
func differ(a, b *tree, yield func(a, b *placed) bool) bool {
	switch {
	case a == b || a != nil && b != nil && a.sum == b.sum:
		return true
	case a != nil && b != nil && a.children != nil && b.children != nil:
		for i := range fan {
			if !differ(a.children[i], b.children[i], yield) {
				return false
			}
		}
		return true
	}
	left, right := a.items(), b.items() // one is a leaf, or nothing: little of the other is the same
	for len(left)+len(right) > 0 {
		var x, y *placed
		switch {
		case len(right) == 0 || len(left) > 0 && left[0].compare(right[0]) < 0:
			x, left = left[0], left[1:]
		case len(left) == 0 || left[0].compare(right[0]) > 0:
			y, right = right[0], right[1:]
		default:
			x, left, y, right = left[0], left[1:], right[0], right[1:]
		}
		if x != nil && y != nil && x.Sum == y.Sum {
			continue
		}
		if !yield(x, y) {
			return false
		}
	}
	return true
}

// items are all, in the order of their places.
func (t *tree) items() []*placed {
	if t != nil && t.children == nil {
		return t.leaf
	}
	return t.appendAll(make([]*placed, 0, t.size()))
}
