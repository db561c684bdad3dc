package engine

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestLeaving_AnotherProcessGoesOn(t *testing.T) {
	path := filepath.Join(t.TempDir(), "leaving.json")
	one := NewLeaving(path)
	one.Leave(map[string]time.Duration{"long": time.Hour, "over": time.Nanosecond, "as the host has it": 0})
	for what, l := range map[string]*Leaving{"this process": one, "another": NewLeaving(path)} {
		if got := l.Late(time.Hour); !slices.Equal(got, []string{"over"}) {
			t.Errorf("%s: %q is late", what, got)
		}
		if got := l.Late(1); !slices.Equal(got, []string{"as the host has it", "over"}) {
			t.Errorf("%s: %q is late", what, got)
		}
	}
	other := NewLeaving(path)
	other.Forget(func(name string, _ time.Duration) bool { return name == "over" })
	if got := one.Late(time.Hour); len(got) > 0 {
		t.Errorf("%q is late, though another process has seen to it", got)
	}
	one.Forget(func(_ string, drain time.Duration) bool { return drain == 0 })
	if got := other.Late(1); len(got) > 0 {
		t.Errorf("%q is late, though it was forgotten", got)
	}
}

// Who stays in the list keeps its time; who comes back to it has a new one.
func TestLeaving_OnlyWhoLeavesIsThere(t *testing.T) {
	l := NewLeaving(filepath.Join(t.TempDir(), "leaving.json"))
	l.Only(map[string]time.Duration{"a": time.Hour, "b": time.Hour})
	since := l.all["a"].Since
	l.Only(map[string]time.Duration{"a": time.Nanosecond, "c": time.Hour})
	if l.all["a"].Since != since || len(l.all) != 2 {
		t.Errorf("%+v", l.all)
	}
	if got := l.Late(0); !slices.Equal(got, []string{"a"}) {
		t.Errorf("%q is late", got)
	}
	l.Only(nil)
	l.Only(map[string]time.Duration{"a": time.Hour})
	if l.all["a"].Since <= since {
		t.Error("one that came back in between leaves since then")
	}
}

// A file that somebody has spoilt is none, and one that cannot be written costs nothing else.
func TestLeaving_WithoutItsFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "leaving.json")
	if err := os.WriteFile(path, []byte(`{"a":`), 0o600); err != nil {
		t.Fatal(err)
	}
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	null := filepath.Join(t.TempDir(), "null")
	if err := os.WriteFile(null, []byte("null"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, l := range []*Leaving{NewLeaving(path), NewLeaving(filepath.Join(path, "none")), NewLeaving(pipe), NewLeaving(null)} {
		if got := l.Late(0); len(got) > 0 {
			t.Errorf("%q is late", got)
		}
		l.Leave(map[string]time.Duration{"b": time.Nanosecond})
		if got := l.Late(0); !slices.Equal(got, []string{"b"}) {
			t.Errorf("%q is late", got)
		}
	}
}

// While its file cannot be written, what is known here counts, and not what was written before. As
// soon as it can, others know it, too.
func TestLeaving_MemoryWinsOverAnOlderFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "leaving.json")
	l := NewLeaving(path)
	l.Leave(map[string]time.Duration{"back": time.Nanosecond, "stays": time.Nanosecond})
	writable := readOnly(t, filepath.Dir(path))
	l.Only(map[string]time.Duration{"stays": time.Nanosecond})
	l.Only(map[string]time.Duration{"stays": time.Nanosecond, "back": time.Hour})
	l.Leave(map[string]time.Duration{"new": time.Nanosecond})
	if got := l.Late(0); !slices.Equal(got, []string{"new", "stays"}) {
		t.Errorf("%q is late", got)
	}
	if err := l.Kept(); err == nil || !strings.Contains(err.Error(), "read-only file system") {
		t.Errorf("it says %v", err)
	}
	writable()
	NewLeaving(path).Leave(map[string]time.Duration{"of another": time.Nanosecond})
	want := []string{"new", "of another", "stays"}
	if err := l.Kept(); err != nil {
		t.Error(err)
	}
	for what, l := range map[string]*Leaving{"this process": l, "another": NewLeaving(path)} {
		if got := l.Late(0); !slices.Equal(got, want) {
			t.Errorf("%s: %q is late", what, got)
		}
	}
}

// A file that somebody has removed or damaged is written anew, with all that is known.
func TestLeaving_ItsFileIsWrittenAnew(t *testing.T) {
	path := filepath.Join(t.TempDir(), "leaving.json")
	l := NewLeaving(path)
	l.Leave(map[string]time.Duration{"a": time.Nanosecond})
	for name, spoil := range map[string]func() error{
		"removed": func() error { return os.Remove(path) },
		"damaged": func() error { return os.WriteFile(path, []byte("{"), 0o600) },
	} {
		if err := errors.Join(spoil(), l.Kept()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if got := NewLeaving(path).Late(0); !slices.Equal(got, []string{"a"}) {
			t.Errorf("%s: another process knows that %q are late", name, got)
		}
	}
}

// A sound file that a process cannot read once, as it begins, is not replaced by nothing.
func TestLeaving_AFileThatIsNotReadOnceIsThereStill(t *testing.T) {
	path := filepath.Join(t.TempDir(), "leaving.json")
	NewLeaving(path).Leave(map[string]time.Duration{"a": time.Nanosecond})
	elsewhere := path + ".moved"
	if err := errors.Join(os.Rename(path, elsewhere), os.Symlink(elsewhere, path)); err != nil { // which is not opened
		t.Fatal(err)
	}
	l := NewLeaving(path)
	if got := l.Late(0); len(got) > 0 {
		t.Errorf("%q is late", got)
	}
	if err := errors.Join(os.Rename(elsewhere, path), l.Kept()); err != nil {
		t.Error(err)
	}
	for what, l := range map[string]*Leaving{"this process": l, "another": NewLeaving(path)} {
		if got := l.Late(0); !slices.Equal(got, []string{"a"}) {
			t.Errorf("%s: %q is late", what, got)
		}
	}
}

// A damaged file of which nobody knows what it said is kept.
func TestLeaving_ADamagedFileIsKept(t *testing.T) {
	path := filepath.Join(t.TempDir(), "leaving.json")
	if err := os.WriteFile(path, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	l := NewLeaving(path)
	l.Leave(map[string]time.Duration{"a": time.Nanosecond})
	if data, err := os.ReadFile(path + ".damaged"); string(data) != "{" || err != nil {
		t.Errorf("%q is kept, %v", data, err)
	}
	if got := NewLeaving(path).Late(0); !slices.Equal(got, []string{"a"}) {
		t.Errorf("another process: %q is late", got)
	}
}

// Whatever is in the place of the file, it is kept once, and the next one who leaves is noted.
func TestLeaving_WhateverIsInTheWay(t *testing.T) {
	for what, do := range map[string]func(path string) error{
		"empty": func(path string) error { return os.WriteFile(path, nil, 0o600) },
		"too large": func(path string) error {
			return errors.Join(os.WriteFile(path, nil, 0o600), os.Truncate(path, leavingBytes+1))
		},
		"a directory": func(path string) error {
			return errors.Join(os.Mkdir(path, 0o700), os.WriteFile(filepath.Join(path, "file"), nil, 0o600))
		},
		"a link":            func(path string) error { return os.Symlink("/etc/passwd", path) },
		"a link to nothing": func(path string) error { return os.Symlink("nothing", path) },
		"a pipe":            func(path string) error { return syscall.Mkfifo(path, 0o600) },
	} {
		path := filepath.Join(t.TempDir(), "leaving.json")
		for range 2 {
			if err := errors.Join(os.RemoveAll(path), do(path)); err != nil {
				t.Fatal(err)
			}
			l := NewLeaving(path)
			l.Leave(map[string]time.Duration{"a": time.Nanosecond})
			if err := l.Kept(); err != nil {
				t.Errorf("%s: %v", what, err)
			}
			if got := NewLeaving(path).Late(0); !slices.Equal(got, []string{"a"}) {
				t.Errorf("%s: another process knows that %q are late", what, got)
			}
			if _, err := os.Lstat(path + ".damaged"); err != nil && what != "a link to nothing" {
				t.Errorf("%s: it is not kept: %v", what, err)
			}
		}
	}
}

// What a crash has left is removed when the next process begins, but not what another one may be writing.
func TestLeaving_WhatACrashLeftIsRemoved(t *testing.T) {
	dir := t.TempDir()
	for name, age := range map[string]time.Duration{
		".leaving.json.1": time.Hour, ".leaving.json.2": 0, ".leaving.json.swp": time.Hour, ".other.json.1": time.Hour,
	} {
		path, then := filepath.Join(dir, name), time.Now().Add(-age)
		if err := errors.Join(os.WriteFile(path, nil, 0o600), os.Chtimes(path, then, then)); err != nil {
			t.Fatal(err)
		}
	}
	NewLeaving(filepath.Join(dir, "leaving.json")).Late(0)
	var have []string
	all, err := os.ReadDir(dir)
	for _, e := range all {
		have = append(have, e.Name())
	}
	if want := []string{".leaving.json.2", ".leaving.json.swp", ".other.json.1"}; err != nil || !slices.Equal(have, want) {
		t.Errorf("%q are there, want %q; %v", have, want, err)
	}
}

// readOnly makes a directory one in which nothing can be written, until undone.
func readOnly(t *testing.T, dir string) (undo func()) {
	t.Helper()
	if err := errors.Join(unix.Mount(dir, dir, "", unix.MS_BIND, ""), unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, "")); err != nil {
		t.Fatal(err)
	}
	undo = sync.OnceFunc(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(undo)
	return undo
}
