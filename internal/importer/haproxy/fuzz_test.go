package haproxy

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
	cases, err := filepath.Glob("../testdata/haproxy/*.txtar")
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
	for _, s := range []string{
		"listen", "listen a :80\n server", "frontend a from b\n acl\n block\n tcp-request\n redirect", "defaults from x\nlisten a b " +
			"c\nbind", "listen a\nbind \"", "global\n\\",
		"listen a\nhttp-request deny if ! ! a\noption\nno\ntimeout\nstick\nstick-table expire\nhttp-check send " +
			"uri\nuse_backend\nbalance\nmaxconn\nretries",
		"listen a\nserver a b:1 inter\ndefault-server port\nbind :1 crt\nserver x :80",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		c, err := Parse([]importer.File{{Name: "f", Text: text}}, nil)
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
