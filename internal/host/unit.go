package host

import (
	"context"
	"strings"
	"sync/atomic"

	"github.com/external-lb/external-lb/internal/engine"
	"github.com/external-lb/external-lb/internal/fileset"
	"github.com/external-lb/external-lb/internal/lb"
	"github.com/external-lb/external-lb/internal/render"
)

// unit is one daemon of this machine, with the store of the files that it reads. What
// an earlier process left unfinished is finished or undone first.
type unit struct {
	use
	settings Settings
	run      engine.Runner
	daemon   engine.Daemon
	sums     sums
	indexes  indexes
	rendered render.Memory     // of the last order
	at       func(step string) // hears of each step before it is done
	allowed  atomic.Bool       // sudo lets this user run every command
	starts   starts
	relief   relief
	restarts restarts
	patience patience
	repaired repaired
	recovers engine.Pause // where that failed when connections were to end
}

// newUnits makes one for each daemon, in the order in which traffic comes to them.
func newUnits(s Settings, r engine.Runner) []*unit {
	var all []*unit
	carrier := ""
	for _, u := range s.uses {
		sets := &sets{dir: u.dir}
		one := &unit{settings: s, use: u, run: r, at: func(string) {}}
		one.daemon = u.Open(engine.Place{Dir: u.dir, Settings: u.own, Runner: r, Carrier: carrier, Set: sets.at, AsRoot: one.endLeft})
		sets.ownFile = one.daemon.OwnFile()
		if carrier == "" {
			carrier = one.daemon.PIDFile()
		}
		all = append(all, one)
	}
	return all
}

// active reports whether this machine has the addresses that move.
func (u *unit) active() bool {
	m, ok := u.daemon.(engine.Mover)
	return ok && m.Active()
}

// look holds a generation against its files as they are on disk now: those that
// differ from what was made, that are missing or are nobody's, and private ones that
// others may read, are changed.
func (u *unit) look(s *store, gen string) (*base, error) {
	m, err := u.sums.manifest(s, gen)
	if err != nil {
		return nil, err
	}
	b := &base{name: gen, changed: map[string]bool{}}
	if b.known, err = u.indexes.of(s, gen, u.daemon.OwnFile()); err != nil {
		b.known = newKnown(contents{Items: u.brought(m)}) // tampered with: all is made anew
	}
	expected := map[string]bool{}
	for p, e := range b.Files {
		expected[filePath(p)] = true
		if e.View != (lb.Sum{}) {
			expected[viewPath(p)] = true
		}
		file, there := m[filePath(p)]
		if !there || file != e.Sum || lb.Sum(m[viewPath(p)]) != e.View || e.Private && s.exposed(gen, p) {
			b.changed[p] = true
		}
	}
	if own := u.daemon.OwnFile(); b.own != nil {
		expected[filePath(own)] = true
		if file, there := m[filePath(own)]; !there || file != b.own.Sum {
			b.changed[own] = true
		}
	}
	for name := range m {
		if !expected[name] {
			b.changed[strings.TrimPrefix(name, filePath(""))] = true
		}
	}
	return b, nil
}

// brought are the addresses that files of a generation bring of which nothing else is
// known. They must not be taken for the machine's own.
func (u *unit) brought(files fileset.Manifest) lb.Sums {
	items := lb.Sums{}
	for name := range files {
		if a, ok := u.settings.table.VRRP.Brings(strings.TrimPrefix(name, filePath(""))); ok && u.moves {
			items[lb.AddressKey(a)] = lb.Sum{}
		}
	}
	return items
}

// liveFiles are those that the daemon includes, also while they are being swapped.
func (u *unit) liveFiles(s *store) (*base, error) {
	const swaps = 5
	for i := 0; ; i++ {
		gen := s.linked(engine.LiveLink)
		if gen == "" {
			return noBase(), nil
		}
		b, err := u.look(s, gen)
		if s.linked(engine.LiveLink) == gen || i == swaps {
			return b, err
		}
	}
}

// liveItems are those that the daemon carries by the index of its generation: files are looked at
// only where that cannot be read.
func (u *unit) liveItems(s *store) (lb.Sums, error) {
	const swaps = 5
	for range swaps {
		gen := s.linked(engine.LiveLink)
		if gen == "" {
			return lb.Sums{}, nil
		}
		k, err := u.indexes.of(s, gen, u.daemon.OwnFile())
		if err != nil {
			break
		}
		if s.linked(engine.LiveLink) == gen {
			return k.carries(), nil
		}
	}
	b, err := u.liveFiles(s)
	if err != nil {
		return nil, err
	}
	return b.carries(), nil
}

// proves reports whether the daemon runs what was proved last, as it was made.
func (u *unit) proves(ctx context.Context, s *store, b *base) bool {
	if !b.intact() || s.linked(engine.LiveLink) != b.name {
		return false
	}
	digest := b.digest()
	own, ok := u.digest(s, b.name)
	return ok && own == digest && engine.Proves(ctx, u.daemon, digest) && len(u.unopened(b.Files)) == 0
}

// nobodys is right when the daemon does not run: it holds no port.
func nobodys(fileset.Socket) bool { return false }
