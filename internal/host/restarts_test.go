package host

import (
	"strings"
	"testing"
	"time"
)

// Deliveries, and reloads of the owner's, are no restarts. What somebody else restarts is told for a
// while, and counted for good.
func TestRestartsBySomebodyElse(t *testing.T) {
	for name, box := range map[string]func(*testing.T) *box{"nginx": newBox, "HAProxy": newHAProxyBox} {
		t.Run(name, func(t *testing.T) {
			b := box(t)
			web := b.web("web", "one", public(t))
			b.proved(b.send(wants(b.node(), web)))
			b.proved(b.send(wants(b.node(), changed(web, idle(time.Minute)))))
			if st := b.look(); st.Restarts != 0 || st.Restarted != "" {
				t.Fatalf("deliveries count as restarts: %d, %q", st.Restarts, st.Restarted)
			}
			b.stop()
			if st := b.look(); st.Restarts != 0 {
				t.Errorf("it is down, and has %d restarts", st.Restarts)
			}
			b.start()
			st := b.look()
			if st.Restarts != 1 || !strings.HasPrefix(st.Restarted, name+" was started anew at 20") || st.Message != "" {
				t.Errorf("%d, %q, message %q", st.Restarts, st.Restarted, st.Message)
			}
			if off := time.Since(b.unit.restarts.at); off < -2*time.Second || off > time.Minute {
				t.Errorf("it was started %s ago", off)
			}
			if n, _, words := b.unit.restarted(time.Now().Add(toldFor)); n != 1 || words != "" {
				t.Errorf("later: %d, %q", n, words)
			}
			if st = b.look(); st.Restarts != 1 {
				t.Errorf("looked at again: %d", st.Restarts)
			}
		})
	}
}
