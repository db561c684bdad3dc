package release

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
)

const (
	number  = "0.9.0" // not that of the tree
	version = "v" + number
	epoch   = "1790000000" // when the commit was made, say
)

var architectures = []string{"amd64", "arm64"}

var directory string // that TestMain removes

func TestMain(m *testing.M) {
	os.Exit(func() int {
		var err error
		if directory, err = os.MkdirTemp("", "release-"); err != nil {
			panic(err)
		}
		defer os.RemoveAll(directory)
		return m.Run()
	}())
}

var once = sync.OnceValues(func() (string, error) { return release(root, "dist") })

// built is the directory of the release, which is made for the first who asks.
func built(t *testing.T) string {
	t.Helper()
	dist, err := once()
	if err != nil {
		t.Fatal(err)
	}
	return dist
}

// release runs make release on a tree.
func release(tree, name string, environment ...string) (string, error) {
	dist := filepath.Join(directory, name)
	cmd := exec.Command("make", "-s", "-C", tree, "release", "VERSION="+version, "DIST="+dist)
	cmd.Env = append(append(os.Environ(), "SOURCE_DATE_EPOCH="+epoch), environment...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w\n%s", err, out)
	}
	return dist, nil
}

// Whoever builds the same commit elsewhere, with other settings, gets the same bytes.
func TestReleaseIsReproducible(t *testing.T) {
	here := sums(t, built(t))
	other, err := release(copied(t), "other", "TZ=Asia/Tokyo", "LC_ALL=C.UTF-8", "GOAMD64=v3", "HOSTNAME=elsewhere", "USER=somebody")
	if err != nil {
		t.Fatal(err)
	}
	if elsewhere := sums(t, other); here != elsewhere {
		t.Errorf("here:\n%s\nelsewhere:\n%s", here, elsewhere)
	}
}

// sums are those of all files, which are held against them.
func sums(t *testing.T, dist string) string {
	t.Helper()
	run(t, dist, "sha256sum", "--check", "--strict", "--quiet", "checksums.txt")
	data, err := os.ReadFile(filepath.Join(dist, "checksums.txt"))
	if err != nil {
		t.Fatal(err)
	}
	all := run(t, dist, "find", ".", "-type", "f", "!", "-name", "checksums.txt")
	if files, lines := strings.Count(all, "\n"), strings.Count(string(data), "\n"); files != lines {
		t.Errorf("%d files and %d checksums:\n%s\n%s", files, lines, all, data)
	}
	return string(data)
}

// A version that no tag can be is refused, and so is a directory with other files, even one
// with checksums of something else.
func TestMistakesRemoveNothing(t *testing.T) {
	for _, bad := range []string{"", "0.1.0", "v1", "v1.2", "v1.2.3 x", "latest", version} {
		dist := t.TempDir()
		write(t, filepath.Join(dist, "checksums.txt"), "")
		write(t, filepath.Join(dist, "kept"), "")
		if out, err := exec.CommandContext(t.Context(), root+"/tools/release/release.sh", bad, dist).CombinedOutput(); err == nil {
			t.Errorf("%q was taken:\n%s", bad, out)
		}
		if _, err := os.Stat(filepath.Join(dist, "kept")); err != nil {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// Each file that the page for users names is there.
func TestThePageNamesTheFiles(t *testing.T) {
	dist := built(t)
	page := string(read(t, root, "docs/howto/release.md"))
	run(t, dist, "sh", "-ec", "sha256sum --check --ignore-missing checksums.txt") // as it has it
	for _, file := range regexp.MustCompile(`external-lb[\w.-]*\.(?:deb|tgz|tar\.gz|tar)|external-lb-krew\.yaml|install\.yaml|checksums\.txt`).FindAllString(page, -1) {
		if _, err := os.Stat(filepath.Join(dist, strings.ReplaceAll(file, "0.1.0", number))); err != nil {
			t.Errorf("the page names %s: %v", file, err)
		}
	}
}
