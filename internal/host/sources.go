package host

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/external-lb/external-lb/internal/engine"
	"github.com/external-lb/external-lb/internal/lb"
)

// MaxSources is how many bytes of files are put together at once: they are Services times
// nodes, and are in memory twice.
const MaxSources = 160 << 20

var maxSources = MaxSources

// Sources are the files of which a configuration can be put together: those that
// are neither set aside nor private, in the order in which they are read.
func (g *staged) Sources() ([]engine.Source, error) {
	sizes, err := g.sizes()
	if err != nil {
		return nil, err
	}
	size := 0
	for _, n := range sizes {
		size += n
	}
	if g.beyond = size > maxSources; g.beyond { // before any is read
		return nil, failed("the files have more than %d bytes together: %s", maxSources, fewerNodes)
	}
	var all []engine.Source
	for _, p := range g.Paths() {
		if _, is := sizes[p]; !is {
			continue
		}
		data, err := g.store.root.ReadFile(g.path(engine.FilesDir, p))
		if err != nil {
			return nil, err
		}
		all = append(all, engine.Source{Path: p, Data: data})
	}
	return all, nil
}

const fewerNodes = "have fewer nodes carry each Service, see nodes.maxPerService of the Balancer"

// sizes of the Sources.
func (g *staged) sizes() (map[string]int, error) {
	all := map[string]int{}
	for _, p := range g.Paths() {
		if g.Files[p].Private {
			continue
		}
		info, err := g.store.root.Stat(g.path(engine.FilesDir, p))
		if err != nil {
			return nil, err
		}
		all[p] = int(info.Size())
	}
	return all, nil
}

// makeRoom where the files are more than can be put together. What is live stays: of the other
// fragments the largest are dropped, first those that are new, then those that have changed. Where that
// does not do, what is live has grown by nodes, so new nodes are too many.
func (c *checker) makeRoom() error {
	sizes, err := c.sizes()
	if err != nil {
		return err
	}
	over, stays := -maxSources, -maxSources
	type late struct {
		path    string
		changed bool
		saves   int
	}
	var all []late
	for p, n := range sizes {
		f := c.Files[p]
		was, there := c.base.Files[p]
		over += n
		switch {
		case !f.Fragment || there && was.Item == f.Item:
			stays += n
		case !there:
			all = append(all, late{p, false, n})
		default:
			before, err := c.store.root.Stat(path.Join(engine.GenerationsDir, c.base.name, filePath(p)))
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			if err == nil { // which stays in its place
				n -= int(before.Size())
				stays += int(before.Size())
			}
			all = append(all, late{p, true, n})
		}
	}
	if stays > 0 {
		c.nodes = c.newNodes()
		return nil
	}
	slices.SortFunc(all, func(a, b late) int {
		if a.changed != b.changed {
			return map[bool]int{false: -1, true: 1}[a.changed]
		}
		return cmp.Or(cmp.Compare(b.saves, a.saves), strings.Compare(a.path, b.path))
	})
	culprits := map[string]engine.Culprit{}
	for _, l := range all {
		if over <= 0 || l.saves <= 0 {
			break
		}
		culprits[l.path] = engine.Culprit{Reason: fmt.Sprintf("there is no room for its %d bytes of files, the host has %d at most for all Services: %s", sizes[l.path], maxSources, fewerNodes)}
		over -= l.saves
	}
	return c.refuse(culprits)
}

// newNodes are those that were not there before.
func (c *checker) newNodes() (keys []lb.Key) {
	for key := range c.Items {
		if _, there := c.base.Items[key]; !there && key.IsNode() {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return keys
}
