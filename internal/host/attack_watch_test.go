package host_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// access is what a process did with a file: read, write or run.
type access struct{ how, path string }

// watch sees every file of this test's mount namespace that is opened, by whom
// ever: daemons are in it, other programs of the machine are not.
type watch struct {
	file *os.File
	done chan struct{}

	mu   sync.Mutex
	seen map[access]bool // by others than this process; and what this process writes
}

func newWatch(t *testing.T) *watch {
	t.Helper()
	fd, err := unix.FanotifyInit(unix.FAN_CLASS_NOTIF|unix.FAN_CLOEXEC|unix.FAN_NONBLOCK|unix.FAN_UNLIMITED_QUEUE, unix.O_RDONLY|unix.O_LARGEFILE|unix.O_CLOEXEC)
	if err == nil {
		err = unix.FanotifyMark(fd, unix.FAN_MARK_ADD|unix.FAN_MARK_MOUNT, unix.FAN_OPEN|unix.FAN_OPEN_EXEC|unix.FAN_CLOSE_WRITE, unix.AT_FDCWD, "/")
	}
	if err != nil {
		t.Fatal(err)
	}
	w := &watch{file: os.NewFile(uintptr(fd), "fanotify"), done: make(chan struct{}), seen: map[access]bool{}}
	go w.read()
	t.Cleanup(func() { w.file.Close(); <-w.done })
	return w
}

func (w *watch) read() {
	defer close(w.done)
	buffer := make([]byte, 64<<10)
	for {
		n, err := w.file.Read(buffer)
		if err != nil {
			return
		}
		for rest := buffer[:n]; len(rest) > 0; {
			var event unix.FanotifyEventMetadata
			if err := binary.Read(bytes.NewReader(rest), binary.NativeEndian, &event); err != nil {
				return
			}
			rest = rest[event.Event_len:]
			w.note(event)
		}
	}
}

func (w *watch) note(event unix.FanotifyEventMetadata) {
	if event.Fd < 0 {
		return
	}
	defer unix.Close(int(event.Fd))
	path, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", event.Fd))
	if err != nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	mine := int(event.Pid) == os.Getpid()
	if event.Mask&unix.FAN_OPEN_EXEC != 0 {
		w.seen[access{"runs", path}] = true
	}
	if event.Mask&unix.FAN_CLOSE_WRITE != 0 {
		w.seen[access{"writes", path}] = true
	}
	if event.Mask&unix.FAN_OPEN != 0 && !mine {
		w.seen[access{"reads", path}] = true
	}
}

// take returns what was seen since it was called last, but for what is below some
// folders.
func (w *watch) take(but ...string) map[access]bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	all := w.seen
	w.seen = map[access]bool{}
	for a := range all {
		if a.how != "runs" && slices.ContainsFunc(but, func(dir string) bool { return strings.HasPrefix(a.path, dir+"/") }) {
			delete(all, a)
		}
	}
	return all
}

// tree is every file below some folders, as far as a change of it can be seen.
func tree(t *testing.T, dirs ...string) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, dir := range dirs {
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			info, err := d.Info()
			if err != nil {
				return err
			}
			to := ""
			if info.Mode()&fs.ModeSymlink != 0 {
				to, err = os.Readlink(path)
			}
			all[path] = fmt.Sprint(info.Mode(), info.Size(), info.ModTime(), to)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return all
}
