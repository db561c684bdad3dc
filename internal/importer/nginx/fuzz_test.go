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
		"http { limit_req_zone; limit_req_zone a zone=b; server { limit_req; limit_req zone=b; client_max_body_size; client_max_body_size k;"+
			"large_client_header_buffers; large_client_header_buffers 1; proxy_bind; listen 80 so_keepalive=; listen 80 so_keepalive=:; } }",
		"stream { upstream a { queue; queue 1 timeout=; server b:1 slow_start; server b:1 slow_start=; } server { listen 1; proxy_pass a; } }",
	)
	f.Fuzz(func(t *testing.T, text string) {
		files, self := importertest.File(text)
		if c, err := Parse(files, self); err == nil {
			importertest.Check(t, text, c, func(importer.Frontend) bool { return true })
		}
	})
}
