package haproxy

import (
	"testing"

	"github.com/external-lb/external-lb/internal/importer"
	"github.com/external-lb/external-lb/internal/importer/importertest"
)

// FuzzParse: whatever a file has, it is read or refused, with places that are in it.
func FuzzParse(f *testing.F) {
	importertest.Seed(f, "haproxy",
		"listen", "listen a :80\n server", "frontend a from b\n acl\n block\n tcp-request\n redirect", "defaults from x\nlisten a b "+
			"c\nbind", "listen a\nbind \"", "global\n\\",
		"listen a\nhttp-request deny if ! ! a\noption\nno\ntimeout\nstick\nstick-table expire\nhttp-check send "+
			"uri\nuse_backend\nbalance\nmaxconn\nretries",
		"listen a\nbind :1\noption tcp-check\ntcp-check\ntcp-check send\ntcp-check send-binary 0\ntcp-check expect\nhttp-check\n"+
			"http-check send hdr\nhttp-check send uri\nhttp-check expect status\noption httpchk GET / HTTP/1.1\\r\\n\nserver a b:1 check",
		"listen a\nbind :1\nsource\nclitcpka-idle\nno\nno log\ntcp-request connection reject if { sc0_conn_cur gt }\nredirect scheme https if\n"+
			"server a b:1 maxqueue source\nserver a b:1 slowstart\ndefault-server maxqueue 10000000", "global\n\\x\n\\x4\n\\x41",
		"listen a\nserver a b:1 inter\ndefault-server port\nbind :1 crt\nserver x :80",
	)
	f.Fuzz(func(t *testing.T, text string) {
		files, _ := importertest.File(text)
		if c, err := Parse(files, nil); err == nil {
			importertest.Check(t, text, c, func(importer.Frontend) bool { return true })
		}
	})
}
