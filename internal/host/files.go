package host

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/external-lb/external-lb/internal/engine"
)

// A power failure, a disk or somebody leaves something else in the place of a file: half of it, nothing,
// a directory, a link. Whoever reads one is led nowhere, waits for nobody and reads no more than such a file
// can have. Whoever writes one takes its place.

// How many bytes are read of files.
const (
	maxState  = 64 << 10  // of a few names and numbers
	maxRecord = 128 << 20 // of what is noted of each file, item or listener
	ownHead   = 64 << 10  // of a daemon's own file, which may be the whole configuration: the digest is in its first lines
)

// damagedSuffix is of what was in the place of a file. There is one of each.
const damagedSuffix = ".damaged"

// errDamaged is a file that is not what was written.
var errDamaged = errors.New("it is damaged: run `external-lb host install` on this machine as root")

// damaged says which file it is, and why it cannot be read.
func (s *store) damaged(name string, why any) error {
	return fmt.Errorf("%s (%v): %w", filepath.Join(s.dir, name), why, errDamaged)
}

// readFile reads a file that has at most so many bytes.
func (s *store) readFile(name string, most int64) ([]byte, error) {
	data, err := s.readHead(name, most+1)
	if err == nil && int64(len(data)) > most {
		err = s.damaged(name, fmt.Sprintf("it has more than %d bytes", most))
	}
	if err != nil {
		return nil, err
	}
	return data, nil
}

// readHead reads so many bytes of a file; fewer if it has no more.
func (s *store) readHead(name string, most int64) ([]byte, error) {
	info, err := s.root.Lstat(name)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, s.damaged(name, "it is no file")
	}
	f, err := s.root.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, most))
}

// create makes a file where there is none. What a crash or somebody has left in its place goes.
func (s *store) create(name string, mode fs.FileMode) (*os.File, error) {
	const flags = os.O_WRONLY | os.O_CREATE | os.O_EXCL
	f, err := s.root.OpenFile(name, flags, mode)
	if !errors.Is(err, fs.ErrExist) {
		return f, err
	}
	if err := s.root.RemoveAll(name); err != nil {
		return nil, err
	}
	return s.root.OpenFile(name, flags, mode)
}

// setAside keeps what is not what was written, for who wants to know what it was.
func (s *store) setAside(name string) error {
	if err := s.root.RemoveAll(name + damagedSuffix); err != nil {
		return err
	}
	return s.rename(name, name+damagedSuffix)
}

// rename replaces to by from, so that it holds after a power failure. A directory that is there is
// set aside: no file and no link takes its place by itself.
func (s *store) rename(from, to string) error {
	err := s.root.Rename(from, to)
	if err != nil && s.isDir(to) {
		if err = s.setAside(to); err == nil {
			err = s.root.Rename(from, to)
		}
	}
	if err != nil {
		return err
	}
	return s.syncDir(filepath.Dir(to))
}

func (s *store) isDir(name string) bool {
	info, err := s.root.Lstat(name)
	return err == nil && info.IsDir()
}

// broken is what is there and of another kind than it must be: nothing can be written in it, or nobody
// knows whose turn it is. "": nothing. Only root mends that: two who did would not wait for each other.
func (s *store) broken() (name string) {
	for _, one := range []struct {
		name string
		kind fs.FileMode
	}{{lockFile, 0}, {engine.GenerationsDir, fs.ModeDir}, {itemsDir, fs.ModeDir}} {
		if info, err := s.root.Lstat(one.name); err == nil && info.Mode().Type() != one.kind {
			return one.name
		}
	}
	return ""
}

// mend sets aside what is broken.
func (s *store) mend() error {
	for name := s.broken(); name != ""; name = s.broken() {
		if err := s.setAside(name); err != nil {
			return err
		}
	}
	return nil
}
