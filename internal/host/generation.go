package host

import (
	"crypto/sha256"
	"errors"
	"io/fs"
	"maps"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/external-lb/external-lb/internal/engine"
	"github.com/external-lb/external-lb/internal/fileset"
	"github.com/external-lb/external-lb/internal/lb"
)

// What lies in a generation's directory.
const (
	asideDir  = "aside" // files that are left out
	viewsDir  = "views" // what files print, as JSON, for the daemon
	indexFile = "index.json"
)

// filePath is where a file of a set lies in its generation, and viewPath what it prints.
func filePath(p string) string { return engine.FilesDir + "/" + p }
func viewPath(p string) string { return viewsDir + "/" + p + ".json" }

// exposed reports whether others may read or change a file of a generation.
func (s *store) exposed(gen, p string) bool {
	info, err := s.root.Lstat(path.Join(engine.GenerationsDir, gen, engine.FilesDir, p))
	return err == nil && info.Mode() != privateMode
}

// planned is a file that a generation is to have. Its Sum, View and Problem are known
// once it is made.
type planned struct {
	entry
	make func() (made, error)
}

// made is a file, and what it prints, as JSON.
type made struct {
	data, view []byte
	problem    string
}

// base is the generation that is live, held against what is on the disk: what a new
// one can take files of.
type base struct {
	*known
	name    string
	changed map[string]bool // paths whose files are not as they were made, or are nobody's
}

// noBase is that of a machine on which nothing is live.
func noBase() *base { return &base{known: newKnown(contents{})} }

// intact reports whether every file is as it was made.
func (b *base) intact() bool { return len(b.changed) == 0 }

// has reports whether a planned file is there already.
func (b *base) has(p string, f planned, renderer string) bool {
	was, ok := b.Files[p]
	return ok && !b.changed[p] && b.Renderer == renderer && was.From == f.From && was.Private == f.Private
}

// staged is a generation in the making.
type staged struct {
	contents // of what is not set aside for good
	store    *store
	name     string
	fresh    map[string]bool // files that are new
	views    map[string]bool // files of which it is new what they print
	out      map[string]bool // files that are aside
	dirs     map[string]bool // directories that were made
	digest   fileset.Digest  // of Files; "": to be made
	beyond   bool            // there are more Sources than are put together
}

func (g *staged) path(parts ...string) string {
	return path.Join(append([]string{engine.GenerationsDir, g.name}, parts...)...)
}

// Root is where the files of the set are, for the daemon: it is the same for the
// candidate and for what is live.
func (g *staged) Root() string { return filepath.Join(g.store.dir, g.path(engine.FilesDir)) }

// Digest of the files that are not set aside for good.
func (g *staged) Digest() fileset.Digest {
	if g.digest == "" {
		g.digest = g.Files.manifest().Digest()
	}
	return g.digest
}

// stage makes a generation: files that are not there yet are made, one at a time;
// those of the base are linked. On an error it leaves what it has made to clean.
func (s *store) stage(b *base, files map[string]planned, renderer string, known *sums) (*staged, error) {
	name, err := s.nextGeneration()
	if err != nil {
		return nil, err
	}
	g := &staged{store: s, name: name, contents: contents{Files: index{}, Renderer: renderer},
		fresh: map[string]bool{}, views: map[string]bool{}, out: map[string]bool{}, dirs: map[string]bool{}}
	if err := g.mkdir(g.path(engine.FilesDir)); err != nil {
		return nil, err
	}
	open := newLinks(s, known)
	defer open.close()
	for _, p := range slices.Sorted(maps.Keys(files)) {
		if err := g.mkdir(path.Dir(g.path(engine.FilesDir, p))); err != nil {
			return nil, err
		}
		if err := g.add(b, p, files[p], open); err != nil {
			return nil, err
		}
	}
	return g, nil
}

// add a file, made or taken from the base.
func (g *staged) add(b *base, p string, f planned, open *links) error {
	was, there := b.Files[p]
	there = there && !b.changed[p]
	if b.has(p, f, g.Renderer) {
		f.Sum, f.View, f.Problem = was.Sum, was.View, was.Problem
		g.Files[p] = f.entry
		return errors.Join(g.addView(p, was.View, nil, b, open), g.take(b, filePath(p), f.mode(), open))
	}
	m, err := f.make()
	if err != nil {
		return err
	}
	f.Sum, f.Problem = sha256.Sum256(m.data), m.problem
	if m.view != nil {
		f.View = sha256.Sum256(m.view)
	}
	g.Files[p] = f.entry
	if err := g.addView(p, was.View, m.view, b, open); err != nil {
		return err
	}
	if there && was.Sum == f.Sum && was.Private == f.Private {
		return g.take(b, filePath(p), f.mode(), open) // made anew, and the same
	}
	g.fresh[p] = true
	if f.Private { // one that others could read, in the generation that was, too
		_ = g.store.root.Chmod(path.Join(engine.GenerationsDir, b.name, engine.FilesDir, p), privateMode) // mostly there is none
	}
	return g.store.write(g.path(engine.FilesDir, p), m.data, f.mode(), false)
}

// addView adds what a file prints, or takes it from the base if that is the same.
func (g *staged) addView(p string, was lb.Sum, view []byte, b *base, open *links) error {
	e := g.Files[p]
	if e.View == (lb.Sum{}) {
		return nil
	}
	if err := g.mkdir(path.Dir(g.path(viewPath(p)))); err != nil {
		return err
	}
	if was == e.View && !b.changed[p] {
		return g.take(b, viewPath(p), e.mode(), open)
	}
	g.views[p] = true
	return g.store.write(g.path(viewPath(p)), view, e.mode(), false)
}

// take links what lies in the base, or copies it where the kernel forbids links to
// files of another owner.
func (g *staged) take(b *base, name string, mode fs.FileMode, open *links) error {
	err := open.link(b.name, g.name, name)
	if !errors.Is(err, fs.ErrPermission) && !errors.Is(err, unix.EMLINK) {
		return err
	}
	data, err := g.store.root.ReadFile(path.Join(engine.GenerationsDir, b.name, name))
	if err != nil {
		return err
	}
	return g.store.write(g.path(name), data, mode, false)
}

func (g *staged) mkdir(name string) error {
	if g.dirs[name] || name == engine.GenerationsDir {
		return nil
	}
	if err := g.mkdir(path.Dir(name)); err != nil {
		return err
	}
	if err := g.store.root.Mkdir(name, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	g.dirs[name] = true
	return g.store.own(name)
}

// hide sets a file aside.
func (g *staged) hide(p string) error {
	if g.out[p] {
		return nil
	}
	if err := g.mkdir(path.Dir(g.path(asideDir, p))); err != nil {
		return err
	}
	g.out[p] = true
	return g.store.root.Rename(g.path(engine.FilesDir, p), g.path(asideDir, p))
}

// show takes a file back.
func (g *staged) show(p string) error {
	if _, kept := g.Files[p]; !kept || !g.out[p] {
		return nil
	}
	delete(g.out, p)
	return g.store.root.Rename(g.path(asideDir, p), g.path(engine.FilesDir, p))
}

// drop sets a file aside for good, with all others of the same item.
func (g *staged) drop(p string) error {
	key := g.Files[p].Key
	for other, e := range g.Files {
		if key != "" && other != p && e.Key == key {
			if err := g.dropOne(other); err != nil {
				return err
			}
		}
	}
	return g.dropOne(p)
}

func (g *staged) dropOne(p string) error {
	kept := g.Files[p].View != lb.Sum{}
	delete(g.Files, p)
	g.digest = ""
	if err := g.hide(p); err != nil || !kept {
		return err
	}
	return g.store.root.Remove(g.path(viewPath(p)))
}

// Write makes a file that is no part of the set, such as the host's own for a check.
func (g *staged) Write(path string, data []byte) error {
	return g.store.write(g.path(engine.FilesDir, path), data, publicMode, false)
}

// Paths are those of the files that are not set aside.
func (g *staged) Paths() []string {
	return slices.DeleteFunc(slices.Sorted(maps.Keys(g.Files)), func(p string) bool { return g.out[p] })
}

// changes are what files print that is not what they printed before. It reports false
// where something else is not as before.
func (g *staged) changes(b *base) (all []engine.Change, ok bool) {
	for _, p := range g.Paths() {
		was, now := b.Files[p], g.Files[p]
		if now.sum() == was.sum() {
			continue
		}
		if now.View == was.View || was.View == (lb.Sum{}) || now.View == (lb.Sum{}) {
			return nil, false
		}
		before, err := g.store.root.ReadFile(path.Join(engine.GenerationsDir, b.name, viewPath(p)))
		after, afterErr := g.store.root.ReadFile(g.path(viewPath(p)))
		if err != nil || afterErr != nil {
			return nil, false
		}
		all = append(all, engine.Change{Path: p, Before: before, After: after})
	}
	return all, true
}

// fragments that are not dropped, in the order in which they are read.
func (g *staged) fragments() []string {
	var paths []string
	for p, e := range g.Files {
		if e.Fragment {
			paths = append(paths, p)
		}
	}
	slices.Sort(paths)
	return paths
}

// seal completes a generation with the host's own file and its index, and makes it last.
func (g *staged) seal(ownFile string, own []byte) error {
	if err := g.store.root.RemoveAll(g.path(asideDir)); err != nil {
		return err
	}
	delete(g.dirs, g.path(asideDir))
	if err := g.store.write(g.path(engine.FilesDir, ownFile), own, publicMode, true); err != nil {
		return err
	}
	all := g.contents
	all.Files = maps.Clone(g.Files)
	all.Files[ownFile] = entry{Sum: sha256.Sum256(own)}
	if err := g.store.writeJSON(g.path(indexFile), all); err != nil {
		return err
	}
	return g.sync()
}

func (g *staged) sync() error {
	if len(g.fresh)+len(g.views) > syncEach {
		return g.store.syncAll()
	}
	var names []string
	for _, p := range g.Paths() {
		if g.fresh[p] {
			names = append(names, filePath(p))
		}
		if g.views[p] {
			names = append(names, viewPath(p))
		}
	}
	for _, name := range names {
		f, err := g.store.root.Open(g.path(name))
		if err != nil {
			return err
		}
		if err := errors.Join(f.Sync(), f.Close()); err != nil {
			return err
		}
	}
	for d := range g.dirs {
		if !strings.HasPrefix(d, g.path(asideDir)) {
			if err := g.store.syncDir(d); err != nil {
				return err
			}
		}
	}
	return g.store.syncDir(engine.GenerationsDir)
}
