package nginx

import (
	"slices"
	"strings"

	"github.com/external-lb/external-lb/internal/engine"
)

// factsOf reads directives, however they are laid out.
func factsOf(file []byte) engine.Facts {
	f := engine.Facts{}
	text := engine.WithoutRemarks(file)
	for directive := range strings.FieldsFuncSeq(text, func(r rune) bool { return strings.ContainsRune(";{}", r) }) {
		words := strings.Fields(directive)
		if len(words) < 2 {
			continue
		}
		switch words[0] {
		case "listen":
			at := words[:2]
			for _, kind := range []string{"ssl", "udp"} {
				if slices.Contains(words, kind) {
					at = append(slices.Clone(at), kind)
				}
			}
			f.Exactly(at...)
		case "allow", "set_real_ip_from":
			f.Exactly(words[:2]...)
		case "deny", "server", "ssl_certificate", "ssl_certificate_key":
			f.Must(words[:2]...)
		case "proxy_pass", "grpc_pass":
			f.Must(words[0])
		}
	}
	return f
}
