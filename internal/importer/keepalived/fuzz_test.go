package keepalived

import (
	"strings"
	"testing"

	"github.com/external-lb/external-lb/internal/importer"
	"github.com/external-lb/external-lb/internal/importer/importertest"
)

// FuzzParse: whatever a file has, it is read or refused, with places that are in it.
func FuzzParse(f *testing.F) {
	importertest.Seed(f, "keepalived",
		"{", "}", "a {", "a\n{\n}", "virtual_server\n{}", "virtual_server 1.2.3.4 { real_server x { TCP_CHECK } }", "vrrp_instance { "+
			"interface\nadvert_int x }",
		"virtual_server_group g { 1.2.3.4\n}\nvirtual_server group g { persistence_timeout\nprotocol\nlb_algo\ndelay_loop NaN "+
			"}", "include f", strings.Repeat("a {", 30), "\"",
		"virtual_server 1.2.3.4 1 {\nvirtualhost\nreal_server a 1 {\nHTTP_GET {\nvirtualhost a\nurl {\nvirtualhost\nstatus_code\n}\n}\n}\n}",
		"virtual_server 1.2.3.4 1 { real_server a 1 { HTTP_GET { url { path }\nnb_get_retry\nconnect_port } } }",
	)
	f.Fuzz(func(t *testing.T, text string) {
		files, self := importertest.File(text)
		if c, err := Parse(files, self); err == nil {
			importertest.Check(t, text, c, func(fe importer.Frontend) bool { return len(fe.Servers) > 0 })
		}
	})
}
