package host

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/external-lb/external-lb/internal/engine"
)

// What lies in the store's directory beside what daemons see of it.
const (
	nextLink      = "next"            // becomes the live link
	stateFile     = "state.json"      // a state
	nextStateFile = "state.next.json" // becomes stateFile; while it is there, what the daemon runs is in question
	lockFile      = "lock"
	tmpSuffix     = ".tmp"
)

// store is the directory of the generations. Nothing in it leads out of it.
type store struct {
	dir  string
	root *os.Root
	own  func(name string) error // gives what root has made to the directory's owner
}

// state is what must outlive a process.
type state struct {
	Good     string `json:"good"`               // the generation that was proved last
	Previous string `json:"previous,omitempty"` // the one before
}

func openStore(dir string) (*store, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	s := &store{dir: dir, root: root, own: func(string) error { return nil }}
	if os.Geteuid() == 0 {
		var st unix.Stat_t
		if err := unix.Stat(dir, &st); err != nil {
			return nil, errors.Join(err, root.Close())
		}
		s.own = func(name string) error { return root.Lchown(name, int(st.Uid), int(st.Gid)) }
	}
	return s, nil
}

func (s *store) close() error { return s.root.Close() }

// openLock opens the lock's file. Who can read it can take the lock and keep it.
func (s *store) openLock() (*os.File, error) {
	if name := s.broken(); name != "" {
		return nil, s.damaged(name, "it is of another kind")
	}
	f, err := s.root.OpenFile(lockFile, os.O_RDONLY|os.O_CREATE, privateMode)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && info.Mode() != privateMode {
		err = f.Chmod(privateMode)
	}
	if err = errors.Join(err, s.own(lockFile)); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// lock waits for its turn among all processes of this machine. wait false: it
// does not wait, and a nil unlock says that somebody else is at work.
func (s *store) lock(ctx context.Context, wait bool) (unlock func(), err error) {
	f, err := s.openLock()
	if err != nil {
		return nil, err
	}
	late := time.NewTimer(deliveryTime)
	defer late.Stop()
	again := time.NewTicker(10 * time.Millisecond)
	defer again.Stop()
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { f.Close() }, nil // nothing was written to it
		}
		if !errors.Is(err, unix.EWOULDBLOCK) || !wait {
			f.Close()
			if !errors.Is(err, unix.EWOULDBLOCK) {
				return nil, fmt.Errorf("lock %s: %w", filepath.Join(s.dir, lockFile), err)
			}
			return nil, nil
		}
		select {
		case <-again.C:
		case <-late.C:
			f.Close()
			return nil, fmt.Errorf("another delivery to this machine has been under way for %s", deliveryTime)
		case <-ctx.Done():
			f.Close()
			return nil, ctx.Err()
		}
	}
}

func (s *store) readState() (state, error) {
	var st state
	data, err := s.readFile(stateFile, maxState)
	if err != nil {
		return st, err
	}
	if err := json.Unmarshal(data, &st); err != nil {
		return state{}, s.damaged(stateFile, err)
	}
	if !isGeneration(st.Good) || st.Previous != "" && !isGeneration(st.Previous) {
		return state{}, s.damaged(stateFile, fmt.Sprintf("%.80q or %.80q is no generation", st.Good, st.Previous))
	}
	return st, nil
}

// isGeneration reports whether a name is one that nextGeneration gives: links are made of it, which lead nowhere else.
func isGeneration(name string) bool {
	n, err := strconv.Atoi(name)
	return err == nil && n > 0 && strconv.Itoa(n) == name
}

// stateLost reports whether a state cannot be read because there is none, or something else in its place.
func stateLost(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, errDamaged)
}

// replace a file so that it holds after a power failure, one or the other.
func (s *store) replace(name string, data []byte, mode fs.FileMode) error {
	if err := s.write(name+tmpSuffix, data, mode, true); err != nil {
		return err
	}
	return s.rename(name+tmpSuffix, name)
}

func (s *store) replaceJSON(name string, v any, mode fs.FileMode) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return s.replace(name, data, mode)
}

func (s *store) writeJSON(name string, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return s.write(name, data, publicMode, true)
}

// Modes of files. Private ones are read by the account, and by root.
const (
	publicMode  fs.FileMode = 0o644
	privateMode fs.FileMode = 0o600
)

// write makes a file, or replaces what is in its place. One that is private never was anything
// else, not even for a moment.
func (s *store) write(name string, data []byte, mode fs.FileMode, sync bool) error {
	f, err := s.create(name, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil && sync {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return s.own(name)
}

func (s *store) syncDir(name string) error {
	d, err := s.root.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// syncEach is the number of files up to which each is synced by itself; above, all are
// together.
const syncEach = 16

// syncAll syncs the whole file system.
func (s *store) syncAll() error {
	d, err := s.root.Open(".")
	if err != nil {
		return err
	}
	return errors.Join(unix.Syncfs(int(d.Fd())), d.Close())
}

// link points a link at a generation's files.
func (s *store) link(name, gen string) error {
	if err := s.root.RemoveAll(name); err != nil {
		return err
	}
	if err := s.root.Symlink(filepath.Join(engine.GenerationsDir, gen, engine.FilesDir), name); err != nil {
		return err
	}
	return s.own(name)
}

// linked is the generation that a link points at; "" if none.
func (s *store) linked(name string) string {
	target, err := s.root.Readlink(name)
	if err != nil {
		return ""
	}
	return filepath.Base(filepath.Dir(target))
}

// exists reports whether there is something of that name.
func (s *store) exists(name string) bool {
	_, err := s.root.Lstat(name)
	return err == nil
}

// nextGeneration is a name that no generation has.
func (s *store) nextGeneration() (string, error) {
	names, err := s.generations()
	if err != nil {
		return "", err
	}
	last := 0
	for _, name := range names {
		if n, err := strconv.Atoi(name); err == nil {
			last = max(last, n)
		}
	}
	return strconv.Itoa(last + 1), nil
}

func (s *store) generations() ([]string, error) {
	entries, err := fs.ReadDir(s.root.FS(), engine.GenerationsDir)
	if err != nil {
		return nil, err
	}
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.Name()
	}
	return names, nil
}

// clean removes all that a finished or interrupted delivery leaves behind.
func (s *store) clean(st state) error {
	names, err := s.generations()
	if err != nil {
		return err
	}
	var errs []error
	for _, name := range []string{engine.CandidateLink, nextLink, engine.BackLink, stateFile + tmpSuffix, nextStateFile} {
		errs = append(errs, s.root.RemoveAll(name))
	}
	keep := []string{st.Good, st.Previous}
	for _, name := range names {
		if !slices.Contains(keep, name) {
			errs = append(errs, s.root.RemoveAll(filepath.Join(engine.GenerationsDir, name)))
		}
	}
	return errors.Join(errs...)
}
