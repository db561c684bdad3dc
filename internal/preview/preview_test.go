package preview

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// storeOf has two generations with a file each, of which the first is live.
func storeOf(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	for link, gen := range map[string]string{LiveLink: "1", CandidateLink: "2"} {
		files := filepath.Join(GenerationsDir, gen, FilesDir)
		if err := os.MkdirAll(filepath.Join(dir, files), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, files, "file"), []byte(link), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(files, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestPreview(t *testing.T) {
	dir := storeOf(t)
	live := filepath.Join(dir, LiveLink, "file")
	out, err := exec.Command(os.Args[0], "host", "preview", dir, "cat", live).CombinedOutput()
	if err != nil || string(out) != CandidateLink {
		t.Errorf("the command reads %q, %v", out, err)
	}
	if text, err := os.ReadFile(live); err != nil || string(text) != LiveLink {
		t.Errorf("others read %q, %v", text, err)
	}
	out, err = exec.Command(os.Args[0], "host", "preview", dir+"/gen", "cat", live).CombinedOutput()
	if err == nil || !strings.HasPrefix(string(out), Cannot) {
		t.Errorf("no store: %q, %v", out, err)
	}
}

// The account owns the store, and a preview is root's: what it is led to is a generation.
func TestPreview_IsLedNowhereElse(t *testing.T) {
	elsewhere := t.TempDir()
	for name, lead := range map[string]func(dir string) error{
		"by the link": func(dir string) error { return os.Symlink(elsewhere, filepath.Join(dir, LiveLink)) },
		"upwards":     func(dir string) error { return os.Symlink("gen/../../x/files", filepath.Join(dir, LiveLink)) },
		"by a part of the way": func(dir string) error {
			if err := os.Symlink(elsewhere, filepath.Join(dir, GenerationsDir, "3")); err != nil {
				return err
			}
			return os.Symlink("gen/3/files", filepath.Join(dir, LiveLink))
		},
		"by the last of it": func(dir string) error {
			if err := os.Mkdir(filepath.Join(dir, GenerationsDir, "3"), 0o755); err != nil {
				return err
			}
			if err := os.Symlink(elsewhere, filepath.Join(dir, GenerationsDir, "3", FilesDir)); err != nil {
				return err
			}
			return os.Symlink("gen/3/files", filepath.Join(dir, LiveLink))
		},
	} {
		dir := storeOf(t)
		if err := os.Mkdir(filepath.Join(elsewhere, FilesDir), 0o755); err != nil && !os.IsExist(err) {
			t.Fatal(err)
		}
		if err := os.Remove(filepath.Join(dir, LiveLink)); err != nil {
			t.Fatal(err)
		}
		if err := lead(dir); err != nil {
			t.Fatal(err)
		}
		store, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY, 0)
		if err != nil {
			t.Fatal(err)
		}
		if fd, err := filesBehind(store, LiveLink); err == nil {
			t.Errorf("%s: it is opened", name)
			unix.Close(fd)
		}
		unix.Close(store)
	}
}
