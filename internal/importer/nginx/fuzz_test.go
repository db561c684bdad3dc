package nginx

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/external-lb/external-lb/internal/importer"
)

// FuzzParse: whatever a file has, it is read or refused, with places that are in it.
func FuzzParse(f *testing.F) {
	cases, err := filepath.Glob("../testdata/nginx/*.txtar")
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
	for _, s := range []string{"a {", "}", "a \"b\n;", "a${b;}", "server { listen [::]; proxy_pass x; }", "include " +
		"a;", strings.Repeat("a{", 100), "stream { server { listen ; } }", "server { proxy_pass 10.0.0.11:30080; }", ";", "\\"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		self := func(string) ([]importer.File, error) { return []importer.File{{Name: "f", Text: text}}, nil }
		c, err := Parse([]importer.File{{Name: "f", Text: text}}, self)
		if err != nil {
			return
		}
		lines := strings.Count(text, "\n") + 1
		for _, n := range c.Notes {
			if n.Place.Line < 1 || n.Place.Line > lines || strings.Contains(n.Text, "\n") {
				t.Fatalf("%d lines, note %q", lines, n)
			}
		}
		for _, fe := range c.Frontends {
			if len(fe.Listeners) == 0 && fe.Problem == "" || fe.Place.Line < 1 {
				t.Fatalf("frontend %+v", fe)
			}
		}
	})
}
