package nginx

import (
	"strings"
	"testing"

	"github.com/external-lb/external-lb/internal/importer"
	"github.com/external-lb/external-lb/internal/importer/importertest"
)

// FuzzParse: whatever a file has, it is read or refused, with places that are in it.
func FuzzParse(f *testing.F) {
	importertest.Seed(f, "nginx",
		"a {", "}", "a \"b\n;", "a${b;}", "server { listen [::]; proxy_pass x; }", "include "+
			"a;", strings.Repeat("a{", 100), "stream { server { listen ; } }", "server { proxy_pass 10.0.0.11:30080; }", ";", "\\",
	)
	f.Fuzz(func(t *testing.T, text string) {
		files, self := importertest.File(text)
		if c, err := Parse(files, self); err == nil {
			importertest.Check(t, text, c, func(importer.Frontend) bool { return true })
		}
	})
}
