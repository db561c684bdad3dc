package host

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/external-lb/external-lb/internal/engine"
	"github.com/external-lb/external-lb/internal/fileset"
)

// What the daemon would not start with never is live, not even for the moment before its
// reload: the power may fail then. Here nginx takes the candidate by itself, and not under
// its owner's settings, which stand where nobody reads them.
func TestS35_WhatTheDaemonWouldNotStartWithIsNeverLive(t *testing.T) {
	b := newBox(t)
	b.stop()
	owners, err := os.ReadFile(b.in("nginx.conf"))
	if err != nil {
		t.Fatal(err)
	}
	b.write("events.conf", []byte("worker_connections 40;\n"))
	b.write("nginx.conf", []byte(strings.Replace(string(owners), "worker_connections 512;", "include "+b.in("events.conf")+";", 1)))
	b.start()
	at := local(t)
	before := b.apply(set(t, service(t, "web", "one", at)))
	var steps []string
	b.unit.at = func(step string) { steps = append(steps, step) }
	many := []fileset.File{service(t, "web", "one", at)}
	for i := range 60 {
		many = append(many, service(t, fmt.Sprintf("s%02d", i), "more", local(t)))
	}
	if e := b.fails(CodeMachine, b.order(set(t, many...))); !strings.Contains(e.Message, "worker_connections are not enough") {
		t.Error(e)
	}
	if !slices.Contains(steps, "check by itself") || slices.Contains(steps, "seal") {
		t.Errorf("steps: %v", steps)
	}
	b.consistent(before.Live)
	b.says(at, "one")
}

// storeOf has two generations with a file each, of which the first is live.
func storeOf(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	for link, gen := range map[string]string{engine.LiveLink: "1", engine.CandidateLink: "2"} {
		files := filepath.Join(engine.GenerationsDir, gen, engine.FilesDir)
		if err := os.MkdirAll(filepath.Join(dir, files), 0o755); err != nil {
			t.Fatal(err)
		}
		put(t, filepath.Join(dir, files, "file"), link)
		if err := os.Symlink(files, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestPreview(t *testing.T) {
	dir := storeOf(t)
	live := filepath.Join(dir, engine.LiveLink, "file")
	out, err := exec.Command(os.Args[0], "host", "preview", dir, "cat", live).CombinedOutput()
	if err != nil || string(out) != engine.CandidateLink {
		t.Errorf("the command reads %q, %v", out, err)
	}
	if text, err := os.ReadFile(live); err != nil || string(text) != engine.LiveLink {
		t.Errorf("others read %q, %v", text, err)
	}
	out, err = exec.Command(os.Args[0], "host", "preview", dir+"/gen", "cat", live).CombinedOutput()
	if words, verdict := engine.VerdictOn(t.Context(), string(out), err, []string{"cat"}, "", engine.OneLine); words != "" || verdict == nil {
		t.Errorf("no store: %q, %v", words, verdict)
	}
}

// The account owns the store, and a preview is root's: what it is led to is a generation.
func TestPreview_IsLedNowhereElse(t *testing.T) {
	elsewhere := t.TempDir()
	for name, lead := range map[string]func(dir string) error{
		"by the link": func(dir string) error { return os.Symlink(elsewhere, filepath.Join(dir, engine.LiveLink)) },
		"upwards":     func(dir string) error { return os.Symlink("gen/../../x/files", filepath.Join(dir, engine.LiveLink)) },
		"by a part of the way": func(dir string) error {
			if err := os.Symlink(elsewhere, filepath.Join(dir, engine.GenerationsDir, "3")); err != nil {
				return err
			}
			return os.Symlink("gen/3/files", filepath.Join(dir, engine.LiveLink))
		},
		"by the last of it": func(dir string) error {
			if err := os.Mkdir(filepath.Join(dir, engine.GenerationsDir, "3"), 0o755); err != nil {
				return err
			}
			if err := os.Symlink(elsewhere, filepath.Join(dir, engine.GenerationsDir, "3", engine.FilesDir)); err != nil {
				return err
			}
			return os.Symlink("gen/3/files", filepath.Join(dir, engine.LiveLink))
		},
	} {
		dir := storeOf(t)
		if err := os.Mkdir(filepath.Join(elsewhere, engine.FilesDir), 0o755); err != nil && !os.IsExist(err) {
			t.Fatal(err)
		}
		if err := os.Remove(filepath.Join(dir, engine.LiveLink)); err != nil {
			t.Fatal(err)
		}
		if err := lead(dir); err != nil {
			t.Fatal(err)
		}
		store, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY, 0)
		if err != nil {
			t.Fatal(err)
		}
		if fd, err := filesBehind(store, engine.LiveLink); err == nil {
			t.Errorf("%s: it is opened", name)
			unix.Close(fd)
		}
		unix.Close(store)
	}
}

// What passes with all else that the daemon reads is not tested a second time.
func TestADeliveryIsCheckedOnce(t *testing.T) {
	b := newBox(t)
	var checks [][]string
	b.nginx().Runner = scripted{engine.Machine{}, func(argv []string) (string, error, bool) {
		if slices.Contains(argv, "-t") {
			checks = append(checks, argv)
		}
		return "", nil, false
	}}
	at := local(t)
	b.apply(set(t, service(t, "web", "one", at)))
	if len(checks) != 1 || !slices.Contains(checks[0], "preview") {
		t.Errorf("checks: %v", checks)
	}
	b.says(at, "one")
}
