package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"
)

// Leaving is what gets no new connections any more, and may have some still: since when, and for
// how long they may go on. It is kept in a file, too, since another process may be there when the
// time is over.
type Leaving struct {
	path string

	mu     sync.Mutex
	file   fs.FileInfo // that was read or written last, or was in the way of what could not be written; nil: none
	all    map[string]leaver
	unkept error // why what is known here is not in the file; nil: it is
}

type leaver struct {
	Since time.Time
	Drain time.Duration `json:",omitempty"` // 0: as long as the host's owner lets them
}

// maxLeaving is how many bytes of a file are read: a node that leaves is in it once for each listener.
const maxLeaving = 64 << 20

// NewLeaving is the one that is kept in a file.
func NewLeaving(path string) *Leaving { return &Leaving{path: path} }

// Leave from now on, each for its time. One that has left before leaves anew.
func (l *Leaving) Leave(names map[string]time.Duration) {
	if len(names) == 0 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.look()
	now := time.Now()
	for name, drain := range names {
		l.all[name] = leaver{now, drain}
	}
	l.keep()
}

// Only these leave: those that have left already go on doing so.
func (l *Leaving) Only(names map[string]time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.look()
	now, next := time.Now(), make(map[string]leaver, len(names))
	same := len(names) == len(l.all)
	for name, drain := range names {
		was, there := l.all[name]
		if !there {
			was.Since = now
		}
		same = same && there && was.Drain == drain
		next[name] = leaver{was.Since, drain}
	}
	if !same || l.unkept != nil {
		l.all = next
		l.keep()
	}
}

// Forget some of them.
func (l *Leaving) Forget(gone func(name string, drain time.Duration) bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.look()
	before := len(l.all)
	for name, one := range l.all {
		if gone(name, one.Drain) {
			delete(l.all, name)
		}
	}
	if len(l.all) != before || l.unkept != nil {
		l.keep()
	}
}

// Kept writes what could not be written before, and says why it still cannot be: others know nothing of it.
func (l *Leaving) Kept() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.unkept == nil {
		return nil
	}
	l.look()
	if l.keep(); l.unkept != nil {
		return Failed("who left is not noted, and not known to others: %v", l.unkept)
	}
	return nil
}

// Late are those whose time is over, sorted; one that has none of its own has another one.
func (l *Leaving) Late(otherwise time.Duration) (names []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.look()
	for name, one := range l.all {
		drain := one.Drain
		if drain == 0 {
			drain = otherwise
		}
		if time.Since(one.Since) >= drain {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// look reads what another process has written. What cannot be read changes nothing. What this one
// could not write, the other did not know.
func (l *Leaving) look() {
	if l.all == nil {
		l.all = map[string]leaver{}
	}
	info, err := os.Stat(l.path)
	if err != nil || l.file != nil && os.SameFile(info, l.file) && info.ModTime().Equal(l.file.ModTime()) && info.Size() == l.file.Size() {
		return
	}
	all, err := readLeaving(l.path)
	if err != nil {
		return
	}
	for name, one := range l.all {
		if other, there := all[name]; l.unkept != nil && (!there || one.Since.After(other.Since)) {
			all[name] = one
		}
	}
	l.all, l.file = all, info
}

// readLeaving reads a file that may be another account's than this process's: it is neither led
// elsewhere by it, nor kept waiting.
func readLeaving(path string) (map[string]leaver, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, errors.Join(err, fmt.Errorf("%s is no file", path))
	}
	data, err := io.ReadAll(io.LimitReader(f, maxLeaving+1))
	if err == nil && len(data) > maxLeaving {
		err = fmt.Errorf("%s has more than %d MiB", path, maxLeaving>>20)
	}
	if err != nil {
		return nil, err
	}
	all := map[string]leaver{}
	if err := json.Unmarshal(data, &all); err != nil || all == nil {
		return nil, errors.Join(err, fmt.Errorf("%s is not what was written", path))
	}
	return all, nil
}

// keep them in the file. Where it cannot be written, this process knows them still, and that is no
// reason to refuse a change of what is carried. The file that there is, is older then.
func (l *Leaving) keep() {
	data, err := json.Marshal(l.all)
	if err == nil {
		err = ReplaceFile(l.path, data, 0o644)
	}
	if l.unkept = err; err == nil || l.file == nil {
		l.file, _ = os.Stat(l.path)
	}
}

// Pause is how long something that has failed is not tried again.
type Pause struct {
	mu    sync.Mutex
	until time.Time
	why   error
}

const pauseTime = 30 * time.Second

// After something was tried. Whoever hung up meanwhile has learned nothing.
func (p *Pause) After(ctx context.Context, err error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case err == nil:
		p.until, p.why = time.Time{}, nil
	case ctx.Err() == nil:
		p.until, p.why = time.Now().Add(pauseTime), err
	}
	return err
}

// Over is nil as soon as it may be tried, and else why it failed.
func (p *Pause) Over() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if time.Now().Before(p.until) {
		return p.why
	}
	return nil
}
