// Package release holds what comes with the code to what is said of it: what is released,
// what is deployed, and the workflows.
package release

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"
)

const root = "../.."

var (
	uses   = regexp.MustCompile(`(?m)^\s*(?:- )?uses: (.*)$`)
	pinned = regexp.MustCompile(`^[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$`)
)

// A tag can be moved by whoever takes over its repository; a digest cannot. The
// version beside it is for people and for dependabot.
func TestWorkflowsPinTheirActions(t *testing.T) {
	files, err := filepath.Glob(root + "/.github/workflows/*.yml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no workflows: %v", err)
	}
	count := 0
	for _, file := range files {
		for _, m := range uses.FindAllStringSubmatch(string(read(t, file)), -1) {
			count++
			if !pinned.MatchString(m[1]) {
				t.Errorf("%s uses %s: want a digest, and its version in a comment", filepath.Base(file), m[1])
			}
		}
	}
	if count == 0 {
		t.Error("no action is used")
	}
}

func read(t *testing.T, path ...string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(path...))
	if err != nil {
		t.Fatal(err)
	}
	return data
}
