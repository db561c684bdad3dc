// Package importertest has what the fuzz targets of all sources share.
package importertest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/external-lb/external-lb/internal/importer"
)

// Seed adds the files of a source's cases, and more.
func Seed(f *testing.F, source string, more ...string) {
	f.Helper()
	cases, err := filepath.Glob(filepath.Join("..", "testdata", source, "*.txtar"))
	if err != nil || len(cases) == 0 {
		f.Fatalf("no cases: %v", err)
	}
	for _, path := range cases {
		text, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		for _, file := range txtar.Parse(text).Files {
			f.Add(string(file.Data))
		}
	}
	for _, s := range more {
		f.Add(s)
	}
	for b := range 256 { // one byte alone
		f.Add(string([]byte{byte(b)}))
	}
}

// File is a text as the one file that there is, also for who includes another one.
func File(text string) ([]importer.File, importer.Include) {
	files := []importer.File{{Name: "f", Text: text}}
	return files, func(string) ([]importer.File, error) { return files, nil }
}

// Check that what was read of a text has places that are in it, and that a frontend has
// what listens or says why not, where it needs that.
func Check(t *testing.T, text string, c *importer.Configuration, needs func(importer.Frontend) bool) {
	t.Helper()
	lines := strings.Count(text, "\n") + 1
	for _, n := range c.Notes {
		if n.Place.Line < 1 || n.Place.Line > lines || strings.Contains(n.Text, "\n") {
			t.Fatalf("%d lines, note %q", lines, n)
		}
	}
	for _, fe := range c.Frontends {
		if len(fe.Listeners) == 0 && fe.Problem == "" && needs(fe) || fe.Place.Line < 1 {
			t.Fatalf("frontend %+v", fe)
		}
	}
}
