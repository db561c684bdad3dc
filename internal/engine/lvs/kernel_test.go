package lvs

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestCrowdedTableOfConnections(t *testing.T) {
	for _, c := range []struct {
		count, limit string
		says         string // part of it; "": nothing
	}{
		{"3600\n", "4096\n", ""},
		{"3687\n", "4096\n", "the kernel tracks 3687 connections of at most 4096"},
		{"4096\n", "4096\n", "nf_conntrack_max"},
		{"4096\n", "0\n", ""}, // no limit
		{"many\n", "4096\n", ""},
		{"4096\n", "", ""}, // no such file
	} {
		count, limit := filepath.Join(t.TempDir(), "count"), filepath.Join(t.TempDir(), "max")
		for path, text := range map[string]string{count: c.count, limit: c.limit} {
			if text == "" {
				continue
			}
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if got := crowded(count, limit); (got == "") != (c.says == "") || !strings.Contains(got, c.says) {
			t.Errorf("%q of %q: %q, want %q", c.count, c.limit, got, c.says)
		}
	}
}
