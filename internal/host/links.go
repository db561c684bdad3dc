package host

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/external-lb/external-lb/internal/engine"
)

// links makes and removes many links to files of generations. Each directory is opened once, and
// none leads out of the store. A link more or less changes the time of a file's inode: that of
// files whose sums are known is noted, so that they need not be read again.
type links struct {
	store *store
	sums  *sums
	dirs  map[string]*os.File
}

func newLinks(s *store, known *sums) *links {
	return &links{store: s, sums: known, dirs: map[string]*os.File{}}
}

// link a file of one generation into another.
func (l *links) link(from, to, name string) error {
	source, err := l.dir(from, name)
	if err != nil {
		return err
	}
	target, err := l.dir(to, name)
	if err != nil {
		return err
	}
	file := path.Base(name)
	return l.sums.relinked(source, name, func() error { return unix.Linkat(source, file, target, file, 0) })
}

// unlink all files of a generation. Those of another one, which stays, are known as before.
func (l *links) unlink(gen, stays string) error {
	files, err := l.store.root.OpenRoot(path.Join(engine.GenerationsDir, gen))
	if err != nil {
		return err
	}
	defer files.Close() // nothing was written to it
	return fs.WalkDir(files.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		from, err := l.dir(gen, name)
		if err != nil {
			return err
		}
		remove := func() error { return unix.Unlinkat(from, path.Base(name), 0) }
		other, err := l.dir(stays, name)
		if err != nil {
			return remove() // there is no such directory
		}
		return l.sums.relinked(other, name, remove)
	})
}

// dir opens the directory of a file of a generation.
func (l *links) dir(gen, name string) (fd int, err error) {
	at := path.Join(engine.GenerationsDir, gen, path.Dir(name))
	d := l.dirs[at]
	if d == nil {
		if d, err = l.store.root.Open(at); err != nil {
			return -1, err
		}
		l.dirs[at] = d
	}
	return int(d.Fd()), nil
}

func (l *links) close() {
	for _, d := range l.dirs {
		_ = d.Close() // nothing was written to it
	}
}

// relinked does something that gives a file another link, or takes one away. If its sum is known,
// it is afterwards, too: nothing but the time of its inode may differ.
func (c *sums) relinked(dir int, name string, do func() error) error {
	before, there := identityAt(dir, path.Base(name))
	if err := do(); err != nil || !there {
		return err
	}
	after, there := identityAt(dir, path.Base(name))
	c.mu.Lock()
	defer c.mu.Unlock()
	if was, known := c.known[name]; known && there && was.identity == before {
		before.ctime = after.ctime
		if after == before {
			was.identity = after
			c.known[name] = was
		}
	}
	return nil
}

// identityAt is that of a file in a directory.
func identityAt(dir int, name string) (id identity, there bool) {
	var st unix.Stat_t
	if err := unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return identity{}, false
	}
	return identity{st.Ino, st.Size, syscall.Timespec(st.Mtim), syscall.Timespec(st.Ctim)}, true
}

// dropOld removes the generations that a delivery has left behind.
func (u *unit) dropOld(s *store, st state) error {
	names, err := s.generations()
	if err != nil {
		return err
	}
	l := newLinks(s, &u.sums)
	defer l.close()
	var errs []error
	for _, name := range names {
		if !slices.Contains([]string{st.Good, st.Previous}, name) {
			errs = append(errs, l.unlink(name, st.Good))
		}
	}
	return errors.Join(append(errs, s.clean(st))...)
}
