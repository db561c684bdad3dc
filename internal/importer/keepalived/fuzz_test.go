package keepalived

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
	cases, err := filepath.Glob("../testdata/keepalived/*.txtar")
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
		"{", "}", "a {", "a\n{\n}", "virtual_server\n{}", "virtual_server 1.2.3.4 { real_server x { TCP_CHECK } }", "vrrp_instance { " +
			"interface\nadvert_int x }",
		"virtual_server_group g { 1.2.3.4\n}\nvirtual_server group g { persistence_timeout\nprotocol\nlb_algo\ndelay_loop NaN " +
			"}", "include f", strings.Repeat("a {", 30), "\"",
		"virtual_server 1.2.3.4 1 { real_server a 1 { HTTP_GET { url { path }\nnb_get_retry\nconnect_port } } }",
	} {
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
			if len(fe.Listeners) == 0 && fe.Problem == "" && len(fe.Servers) > 0 || fe.Place.Line < 1 {
				t.Fatalf("frontend %+v", fe)
			}
		}
	})
}
