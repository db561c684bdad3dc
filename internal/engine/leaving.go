package engine

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Leaving is what gets no new connections any more, and may have some still: since when, and for
// how long they may go on. It is kept in a file, too, since another process may be there when the
// time is over, and since who ends what they have may have to be root. A name begins with the namespace
// of its Service and a dot.
type Leaving struct {
	path string

	mu     sync.Mutex
	file   fs.FileInfo // that was read or written last, or was in the way of what could not be written; nil: none
	unseen bool        // a file is there, and this process knows nothing of what it says
	all    map[string]leaver
	unkept error // why what is known here is not in the file; nil: it is
	missed error // why some that left are not known
	since  time.Duration
}

// leaver is one of them. Times are since the machine started: nobody sets that clock.
type leaver struct {
	Since time.Duration
	Drain time.Duration `json:",omitempty"` // 0: as long as the host's owner lets them
	Over  bool          `json:",omitempty"` // see Leaving.Mark
	told  time.Duration // see Leaving.Told: when that was; 0: never
	rests bool          // see Leaving.Rest
}

// leavingRecord is what the file has.
type leavingRecord struct {
	Boot    string // since which times count: nothing has connections from before
	Leaving leavers
}

type leavers map[string]leaver

var errTooMany = fmt.Errorf("more than %d leave", MaxLeaving)

// UnmarshalJSON stops at too many: very short names would take a lot of memory, of root's, too.
func (l *leavers) UnmarshalJSON(data []byte) error {
	*l = leavers{}
	in := json.NewDecoder(bytes.NewReader(data))
	if begin, err := in.Token(); err != nil || begin != json.Delim('{') {
		return cmp.Or(err, errors.New("who leaves is no object"))
	}
	for in.More() {
		name, err := in.Token()
		if err != nil {
			return err
		}
		var one leaver
		if err := in.Decode(&one); err != nil {
			return err
		}
		if (*l)[name.(string)] = one; len(*l) > MaxLeaving { // a key is a string
			return errTooMany
		}
	}
	return nil
}

// MaxLeaving is how many leave at once, at most: a node that leaves is there once for each listener.
// Others are told of, and no drain ends their connections: what went from HAProxy without a reload then stays
// until the next one, and hardStopAfter. They are of the namespaces with the most: see Share.
const MaxLeaving = 100_000

// leavingBytes are how many of a file are read: so many have less.
const leavingBytes = 64 << 20

// missedTime is for how long it is told that some are not known: most connections end before.
const missedTime = 30 * time.Minute

// uptime is how long the machine has run, also while it slept.
func uptime() time.Duration {
	var t unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_BOOTTIME, &t) // every kernel has it
	return time.Duration(t.Nano())
}

// boot names the time since the machine started. Where nobody knows it, that is no reboot.
func boot() (string, error) {
	const path = "/proc/sys/kernel/random/boot_id"
	data, err := os.ReadFile(path)
	id := strings.TrimSpace(string(data))
	if err == nil && id == "" {
		err = fmt.Errorf("%s is empty", path)
	}
	return id, err
}

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
	now := uptime()
	for name, drain := range names {
		l.all[name] = leaver{Since: now, Drain: drain}
	}
	l.bound(l.all, now)
	l.keep()
}

// bound drops those that are too many: first those that were ended as far as that goes, and then those that
// begin to leave now. That is told.
func (l *Leaving) bound(all map[string]leaver, now time.Duration) {
	told := func(one leaver) bool { return one.told > 0 }
	begins := func(one leaver) bool { return one.Since == now }
	if greediest := Share(all, MaxLeaving, told, begins); greediest != "" {
		l.miss(fmt.Errorf("more than %d leave at once, most of them of the namespace %s", MaxLeaving, greediest))
	}
}

// miss notes why some that left are not known.
func (l *Leaving) miss(why error) { l.missed, l.since = why, uptime() }

// Miss is the same, for who finds out who leaves.
func (l *Leaving) Miss(why error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.miss(why)
}

// Missed says for a while why some that left are not known.
func (l *Leaving) Missed() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.look()
	if l.missed == nil || uptime()-l.since > missedTime {
		return nil
	}
	return Failed("not all that left are known, so no drain ends the connections of the others: %v", l.missed)
}

// Only these leave: those that have left already go on doing so.
func (l *Leaving) Only(names map[string]time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.look()
	next, now := make(map[string]leaver, len(names)), uptime()
	for name, drain := range names {
		since := now
		if was, stays := l.all[name]; stays {
			since = was.Since
		}
		next[name] = leaver{Since: since, Drain: drain}
	}
	l.bound(next, now)
	if !maps.Equal(next, l.all) || l.unkept != nil {
		l.all = next
		l.keep()
	}
}

// Forget some of them.
func (l *Leaving) Forget(gone func(name string, drain time.Duration) bool) {
	l.forget(func(name string, one leaver) bool { return gone(name, one.Drain) })
}

// ForgetTold forgets those that were told so long ago: nobody has what they had.
func (l *Leaving) ForgetTold(ago time.Duration) {
	now := uptime()
	l.forget(func(_ string, one leaver) bool { return one.told > 0 && now-one.told >= ago })
}

func (l *Leaving) forget(gone func(name string, one leaver) bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.look()
	before := len(l.all)
	for name, one := range l.all {
		if gone(name, one) {
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
	if l.look(); l.unkept == nil {
		return nil
	}
	if l.keep(); l.unkept != nil {
		return Failed("who left is not noted, and not known to others: %v", l.unkept)
	}
	return nil
}

// Names are those of all that leave.
func (l *Leaving) Names() map[string]bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.look()
	names := make(map[string]bool, len(l.all))
	for name := range l.all {
		names[name] = true
	}
	return names
}

// Late are those whose time is over, sorted; one that has none of its own has another one, and is never
// late where that is 0.
func (l *Leaving) Late(otherwise time.Duration) (names []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.look()
	now := uptime()
	for name, one := range l.all {
		if drain := cmp.Or(one.Drain, otherwise); drain > 0 && now-one.Since >= drain {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// Told notes whom this process has ended as far as it can, though they leave still. Who leaves anew is not.
func (l *Leaving) Told(names map[string]bool) {
	now := uptime()
	l.note(names, func(one *leaver) { one.told = cmp.Or(one.told, now) })
}

// Rest notes whom this process leaves alone for a while, as if they were told.
func (l *Leaving) Rest(names map[string]bool) {
	l.note(names, func(one *leaver) { one.rests = true })
}

// note something of some who leave, for this process alone.
func (l *Leaving) note(names map[string]bool, how func(*leaver)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.look()
	for name, one := range l.all {
		if names[name] {
			how(&one)
			l.all[name] = one
		}
	}
}

// Untold are those of some who leave that are noted neither so nor so, and told the others.
func (l *Leaving) Untold(names []string) (untold, told []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, name := range names {
		if one := l.all[name]; one.told > 0 || one.rests {
			told = append(told, name)
		} else {
			untold = append(untold, name)
		}
	}
	return untold, told
}

// Mark those of some that have a time of their own, and no others: what they have is to end now, by
// a process that has the file alone. It says how many they are.
func (l *Leaving) Mark(names map[string]bool) (count int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.look()
	same := true
	for name, one := range l.all {
		over := names[name] && one.Drain > 0
		if over {
			count++
		}
		same = same && one.Over == over
		one.Over = over
		l.all[name] = one
	}
	if !same || l.unkept != nil {
		l.keep()
	}
	return count
}

// Marked are those that the file says are over. Only who has read it knows that nobody is.
func (l *Leaving) Marked() (names map[string]bool, err error) {
	all, err := readLeaving(l.path)
	if err != nil {
		return nil, Failed("who left is not known: %v", err)
	}
	names = map[string]bool{}
	for name, one := range all {
		if one.Over {
			names[name] = true
		}
	}
	return names, nil
}

// look reads what another process has written. What cannot be read changes nothing, and is told where this
// process has just begun. Who knows of any that leave is to write it anew, as a file that somebody has removed.
// What this one could not write, the other did not know.
func (l *Leaving) look() {
	begins := l.all == nil
	if begins {
		Sweep(l.path)
		l.all = map[string]leaver{}
	}
	info, err := os.Stat(l.path)
	if begins && err != nil && !errors.Is(err, fs.ErrNotExist) {
		l.miss(err)
	}
	if err != nil && len(l.all) > 0 {
		l.unkept = cmp.Or(l.unkept, err)
	}
	if err != nil || l.file != nil && os.SameFile(info, l.file) && info.ModTime().Equal(l.file.ModTime()) && info.Size() == l.file.Size() {
		return
	}
	all, err := readLeaving(l.path)
	if begins && err != nil && !errors.Is(err, fs.ErrNotExist) {
		l.miss(err)
	}
	if err != nil {
		if len(l.all) > 0 {
			l.unkept = cmp.Or(l.unkept, err)
		} else {
			l.unseen = true
		}
		if errors.Is(err, errDamaged) { // it is not read again until it changes; others may be read the next time
			l.file = info
		}
		return
	}
	l.unseen = false
	for name, one := range l.all {
		if other, there := all[name]; l.unkept != nil && (!there || one.Since > other.Since) {
			all[name] = one
		}
	}
	l.bound(all, uptime()) // both together may be too many
	l.all, l.file = all, info
}

// errDamaged is a file that was read, and is not what was written.
var errDamaged = errors.New("it is damaged")

// readLeaving reads a file that may be another account's than this process's: it is neither led
// elsewhere by it, nor kept waiting.
func readLeaving(path string) (map[string]leaver, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, cmp.Or(err, fmt.Errorf("%s is no file", path))
	}
	data, err := io.ReadAll(io.LimitReader(f, leavingBytes+1))
	if err != nil {
		return nil, err
	}
	if len(data) > leavingBytes {
		return nil, fmt.Errorf("%s: %w: it has more than %d MiB", path, errDamaged, leavingBytes>>20)
	}
	var record leavingRecord
	if err := json.Unmarshal(data, &record); err != nil || record.Leaving == nil {
		return nil, fmt.Errorf("%s: %w: %v", path, errDamaged, cmp.Or(err, errors.New("it does not say who leaves")))
	}
	now, err := boot()
	if err != nil {
		return nil, err
	}
	if record.Boot != now {
		return map[string]leaver{}, nil
	}
	ran := uptime()
	for name, one := range record.Leaving { // nobody left before the machine ran, nor leaves later than now
		one.Since, one.Drain = min(max(one.Since, 0), ran), max(one.Drain, 0)
		record.Leaving[name] = one
	}
	return record.Leaving, nil
}

// keep them in the file. Where it cannot be written, this process knows them still, and that is no
// reason to refuse a change of what is carried. The file that there is, is older then. One that nobody
// could read is kept beside it: it may say more.
func (l *Leaving) keep() {
	id, err := boot()
	var data []byte
	if err == nil {
		data, err = json.Marshal(leavingRecord{id, l.all})
	}
	if err == nil && l.unseen {
		const suffix = ".damaged"
		_ = os.RemoveAll(l.path + suffix)    // there is one at most, and it may be a directory
		_ = os.Rename(l.path, l.path+suffix) // without it a file is replaced all the same
	}
	if err == nil {
		err = ReplaceFile(l.path, data, 0o644)
	}
	l.unseen = l.unseen && err != nil
	if l.unkept = err; err == nil || l.file == nil {
		l.file, _ = os.Stat(l.path)
	}
}
