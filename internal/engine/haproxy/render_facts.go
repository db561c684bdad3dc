package haproxy

import (
	"slices"
	"strings"

	"github.com/external-lb/external-lb/internal/engine"
)

// factsOf reads lines.
func factsOf(file []byte) engine.Facts {
	f := engine.Facts{}
	for line := range strings.Lines(engine.WithoutRemarks(file)) {
		words := strings.Fields(line)
		if len(words) < 2 {
			continue
		}
		switch words[0] {
		case "bind":
			at := words[:2]
			if i := slices.Index(words, "crt"); slices.Contains(words, "ssl") && i > 0 {
				at = slices.Concat(at, []string{"ssl"}, words[i:min(i+2, len(words))])
			}
			f.Exactly(at...)
		case "listen", "backend", "defaults":
			f.Must(words[:2]...)
		case "server":
			f.Must(words[:min(3, len(words))]...)
		case "acl":
			if words[1] == "sources" {
				f.Exactly(words...)
			}
		case "tcp-request":
			noteAccess(f, words)
		}
	}
	return f
}

// noteAccess notes who is let in: by address, which is the Service's, not by
// number, which is the template's.
func noteAccess(f engine.Facts, words []string) {
	rest := strings.Join(words[1:], " ")
	switch {
	case words[1] != "connection" && words[1] != "session": // which come first
	case slices.Contains(words, "accept"):
		f.Exactly(words...)
	case strings.HasSuffix(rest, " reject"), strings.HasSuffix(rest, " reject unless sources"):
		f.Must(words...)
	}
}
