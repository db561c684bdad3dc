package host

import (
	"crypto/sha256"
	"fmt"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"sync"

	"github.com/external-lb/external-lb/internal/engine"
	"github.com/external-lb/external-lb/internal/lb"
)

// sets reads those of a store for its daemon. It remembers the last ones.
type sets struct {
	dir, ownFile string

	mu    sync.Mutex
	known map[string]knownSet // by generation
}

type knownSet struct {
	identity // of the index
	engine.Set
}

// at is the set that a link leads to; the zero Set: none.
func (t *sets) at(link string) (engine.Set, error) {
	s, err := openStore(t.dir)
	if err != nil {
		return engine.Set{}, err
	}
	defer s.close() // nothing is written to a directory
	gen := s.linked(link)
	if gen == "" {
		return engine.Set{}, nil
	}
	info, err := s.root.Stat(path.Join(engine.GenerationsDir, gen, indexFile))
	if err != nil {
		return engine.Set{}, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	// Not by its name alone: a generation that was rolled back leaves that to the next.
	if was, ok := t.known[gen]; ok && was.identity == identify(info) {
		return was.Set, nil
	}
	c, err := s.readContents(gen)
	if err != nil {
		return engine.Set{}, err
	}
	delete(c.Files, t.ownFile)
	if t.known == nil || len(t.known) > 2 { // two are enough to compare what is live with what was
		t.known = map[string]knownSet{}
	}
	t.known[gen] = knownSet{identify(info), setOf(filepath.Join(t.dir, engine.GenerationsDir, gen), c.Files)}
	return t.known[gen].Set, nil
}

// setOf is a generation as its daemon sees it.
func setOf(dir string, files index) engine.Set {
	views := map[string]lb.Sum{}
	for p, e := range files {
		if e.View != (lb.Sum{}) {
			views[p] = e.View
		}
	}
	return engine.Set{
		Digest: files.manifest().Digest(), Paths: slices.Sorted(maps.Keys(views)),
		Read: func(p string) ([]byte, error) {
			name := filepath.Join(dir, viewPath(p))
			data, err := os.ReadFile(name)
			if err == nil && sha256.Sum256(data) != views[p] {
				err = fmt.Errorf("somebody else has changed %s: the next delivery makes it anew", name)
			}
			return data, err
		},
		Sum: func(p string) lb.Sum { return views[p] },
	}
}
