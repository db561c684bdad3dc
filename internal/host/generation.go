package host

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/netip"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/external-lb/external-lb/internal/fileset"
)

// What lies in a generation's directory.
const (
	filesDir  = "files"
	asideDir  = "aside" // files that are left out
	indexFile = "index.json"
)

// syncEach is the number of files up to which each is synced by itself; above,
// the whole file system is, once.
const syncEach = 16

// entry is what is known of a file beside its content.
type entry struct {
	Sum      fileset.Sum
	Fragment bool
	Private  bool
	Listens  []fileset.Socket
}

// mode of a file on disk.
func (e entry) mode() fs.FileMode {
	if e.Private {
		return privateMode
	}
	return publicMode
}

// index is what a generation holds, by path.
type index map[string]entry

func (x index) manifest() fileset.Manifest {
	m := make(fileset.Manifest, len(x))
	for p, e := range x {
		m[p] = e.Sum
	}
	return m
}

// listeners is how many sockets all files open.
func (x index) listeners() int {
	n := 0
	for _, e := range x {
		n += len(e.Listens)
	}
	return n
}

// jsonEntry is an entry on disk.
type jsonEntry struct {
	Sum      string   `json:"sum"`
	Fragment bool     `json:"fragment,omitempty"`
	Private  bool     `json:"private,omitempty"`
	Listens  []string `json:"listens,omitempty"` // tcp 192.0.2.1:80
}

func (e entry) MarshalJSON() ([]byte, error) {
	j := jsonEntry{Sum: hex.EncodeToString(e.Sum[:]), Fragment: e.Fragment, Private: e.Private}
	for _, s := range e.Listens {
		j.Listens = append(j.Listens, s.String())
	}
	return json.Marshal(j)
}

func (e *entry) UnmarshalJSON(data []byte) error {
	var j jsonEntry
	if err := json.Unmarshal(data, &j); err != nil {
		return err
	}
	e.Fragment, e.Private, e.Listens = j.Fragment, j.Private, nil
	sum, err := hex.DecodeString(j.Sum)
	if err != nil || copy(e.Sum[:], sum) != len(e.Sum) {
		return fmt.Errorf("%q is not a SHA-256", j.Sum)
	}
	for _, text := range j.Listens {
		network, address, _ := strings.Cut(text, " ")
		parsed, err := netip.ParseAddrPort(address)
		if err != nil {
			return err
		}
		e.Listens = append(e.Listens, fileset.Socket{Network: network, Address: parsed})
	}
	return nil
}

// exposed reports whether others may read or change a file of a generation.
func (s *store) exposed(gen, p string) bool {
	info, err := s.root.Lstat(path.Join(genDir, gen, filesDir, p))
	return err == nil && info.Mode() != privateMode
}

func (s *store) readIndex(gen string) (index, error) {
	data, err := s.root.ReadFile(path.Join(genDir, gen, indexFile))
	if err != nil {
		return nil, err
	}
	x := index{}
	return x, json.Unmarshal(data, &x)
}

// planned is a file that a generation is to have.
type planned struct {
	entry
	data []byte // nil: as in the base
}

// staged is a generation in the making.
type staged struct {
	store *store
	name  string
	index index           // of what is not set aside for good
	fresh map[string]bool // files that came with the delivery
	out   map[string]bool // files that are aside
	dirs  map[string]bool // directories that were made
}

func (g *staged) path(parts ...string) string {
	return path.Join(append([]string{genDir, g.name}, parts...)...)
}

// root is where the files of the set are, for the daemon: it is the same for the
// candidate and for what is live.
func (g *staged) root() string { return filepath.Join(g.store.dir, g.path(filesDir)) }

// digest of the files that are not set aside for good.
func (g *staged) digest() fileset.Digest { return g.index.manifest().Digest() }

// stage makes a generation: new files are written, those of the base are linked.
// On an error it leaves what it has made to clean.
func (s *store) stage(base string, files map[string]planned) (*staged, error) {
	name, err := s.nextGeneration()
	if err != nil {
		return nil, err
	}
	g := &staged{store: s, name: name, index: index{}, fresh: map[string]bool{}, out: map[string]bool{}, dirs: map[string]bool{}}
	if err := g.mkdir(g.path(filesDir)); err != nil {
		return nil, err
	}
	for _, p := range slices.Sorted(maps.Keys(files)) {
		f := files[p]
		if err := g.mkdir(path.Dir(g.path(filesDir, p))); err != nil {
			return nil, err
		}
		if f.data == nil {
			err = g.take(path.Join(genDir, base, filesDir, p), g.path(filesDir, p), f.mode())
		} else {
			g.fresh[p] = true
			if f.Private { // one that others could read, in the generation that was, too
				_ = s.root.Chmod(path.Join(genDir, base, filesDir, p), privateMode) // mostly there is none
			}
			err = s.write(g.path(filesDir, p), f.data, f.mode(), false)
		}
		if err != nil {
			return nil, err
		}
		g.index[p] = f.entry
	}
	return g, nil
}

// take links a file, or copies it where the kernel forbids links to files of
// another owner.
func (g *staged) take(from, to string, mode fs.FileMode) error {
	err := g.store.root.Link(from, to)
	if !errors.Is(err, fs.ErrPermission) && !errors.Is(err, unix.EMLINK) {
		return err
	}
	data, err := g.store.root.ReadFile(from)
	if err != nil {
		return err
	}
	return g.store.write(to, data, mode, false)
}

func (g *staged) mkdir(name string) error {
	if g.dirs[name] || name == genDir {
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
	return g.store.root.Rename(g.path(filesDir, p), g.path(asideDir, p))
}

// show takes a file back.
func (g *staged) show(p string) error {
	if !g.out[p] {
		return nil
	}
	delete(g.out, p)
	return g.store.root.Rename(g.path(asideDir, p), g.path(filesDir, p))
}

// drop sets a file aside for good.
func (g *staged) drop(p string) error {
	delete(g.index, p)
	return g.hide(p)
}

// sources are the files of which a configuration can be put together: those that
// are neither set aside nor private, in the order in which they are read.
func (g *staged) sources() ([]source, error) {
	var all []source
	for _, p := range slices.Sorted(maps.Keys(g.index)) {
		if g.out[p] || g.index[p].Private {
			continue
		}
		data, err := g.store.root.ReadFile(g.path(filesDir, p))
		if err != nil {
			return nil, err
		}
		all = append(all, source{p, data})
	}
	return all, nil
}

// fragments that are not dropped, in the order in which they are read.
func (g *staged) fragments() []string {
	var paths []string
	for p, e := range g.index {
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
	if err := g.store.write(g.path(filesDir, ownFile), own, publicMode, true); err != nil {
		return err
	}
	all := maps.Clone(g.index)
	all[ownFile] = entry{Sum: sha256.Sum256(own)}
	if err := g.store.writeJSON(g.path(indexFile), all); err != nil {
		return err
	}
	return g.sync()
}

func (g *staged) sync() error {
	root := g.store.root
	if len(g.fresh) > syncEach {
		d, err := root.Open(".")
		if err != nil {
			return err
		}
		return errors.Join(unix.Syncfs(int(d.Fd())), d.Close())
	}
	for p := range g.fresh {
		if g.out[p] {
			continue
		}
		f, err := root.Open(g.path(filesDir, p))
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
	return g.store.syncDir(genDir)
}
