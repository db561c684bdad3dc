package lvs

import (
	"strings"

	"github.com/external-lb/external-lb/internal/engine"
)

// factsOf reads lines.
func factsOf(file []byte) engine.Facts {
	f := engine.Facts{}
	for line := range strings.Lines(engine.WithoutRemarks(file)) {
		words := strings.Fields(line)
		switch {
		case len(words) == 0:
		case words[0] == "virtual_server":
			f.Exactly(words...)
		case words[0] == "protocol" || words[0] == "lvs_method":
			f.Exactly(words...)
		case words[0] == "real_server":
			f.Must(words...)
		case words[0] == "inhibit_on_failure": // what fails stays in the kernel's table, which is the proof
			f.Must(words[0])
		}
	}
	return f
}
