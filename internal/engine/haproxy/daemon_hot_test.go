package haproxy

import (
	"slices"
	"strings"
	"testing"

	"github.com/external-lb/external-lb/internal/engine"
	"github.com/external-lb/external-lb/internal/fileset"
)

// While its servers change, HAProxy says that it runs what nobody has made: who finds it so knows that
// the change is not whole.
func TestAHotReloadThatIsNotWholeProvesNothing(t *testing.T) {
	after := balanced()
	after.Frontends[0].Backends = after.Frontends[0].Backends[:1]
	change := engine.Change{Path: engine.Path(after.ID)}
	change.Before, _ = views(t, balanced())
	change.After, _ = views(t, after)
	h := daemon(t)
	digest := fileset.Digest(strings.Repeat("a", 64))
	told := heard(t, h.Socket, digest, "")
	if err := h.HotReload(t.Context(), []engine.Change{change}, digest); err != nil {
		t.Fatal(err)
	}
	var order []string
	for len(told) > 0 {
		switch command, _, _ := strings.Cut(<-told, " server "); {
		case strings.HasPrefix(command, "set var"):
			order = append(order, strings.TrimPrefix(command, "set var proc.external_lb "))
		case command == "del":
			order = append(order, command)
		}
	}
	if want := []string{"str(" + strings.Repeat("0", 64) + ")", "del", "str(" + string(digest) + ")"}; !slices.Equal(order, want) {
		t.Errorf("it is told %q, want %q", order, want)
	}
}
