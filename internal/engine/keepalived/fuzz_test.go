package keepalived

import (
	"testing"

	"github.com/external-lb/external-lb/internal/engine"
	"github.com/external-lb/external-lb/internal/fileset"
)

// FuzzWords: of what keepalived says, only a file of the set is to blame.
func FuzzWords(f *testing.F) {
	const file = "services/a.b.c.conf"
	f.Add("(/s/live/" + file + ": Line 3) Unknown keyword 'x'\n(/etc/keepalived/keepalived.conf: Line 1) nonsense")
	f.Add("(x: Line 1) WARNING - interface eth9 for vrrp_instance external-lb doesn't exist")
	suspects := engine.Suspects{Dir: "/s", Fragments: map[string][]fileset.Socket{file: nil}}
	k := &Daemon{}
	f.Fuzz(func(t *testing.T, log string) {
		words := complaints(log, func(string) bool { return true })
		for path := range k.Blame(suspects, words) {
			if path != file {
				t.Errorf("%q is to blame", path)
			}
		}
		if err := k.Advise(words, 1); k.Lacks(words) && err == nil {
			t.Errorf("nothing is advised about %q", words)
		}
	})
}
