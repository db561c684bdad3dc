package host

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/external-lb/external-lb/internal/engine"
)

func TestMemoryInUse(t *testing.T) {
	const info = "MemTotal:        4000 kB\nMemFree:          100 kB\nMemAvailable:    1000 kB\nBuffers:          1 kB\n"
	if got, want := memoryUseOf(info), (Use{Used: 3000 << 10, Limit: 4000 << 10}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	if got := memoryUseOf("nothing"); got != (Use{}) {
		t.Errorf("of nothing: %+v", got)
	}
}

// What is in use changes all the time: only a twentieth more or less is news.
func TestUsesThatAreAlike(t *testing.T) {
	uses := func(used, limit int) (u Uses) { u.Connections = Use{Used: used, Limit: limit}; return u }
	for _, tc := range []struct {
		a, b  Uses
		alike bool
	}{
		{uses(1, 100), uses(4, 100), true},
		{uses(4, 100), uses(5, 100), false},
		{uses(0, 0), uses(0, 100), false},
		{uses(0, 0), uses(7, 0), true},
	} {
		if tc.a.Alike(tc.b) != tc.alike {
			t.Errorf("%+v and %+v", tc.a, tc.b)
		}
	}
}

// Whatever carries the traffic: a packet filter that tracks connections fills the kernel's table.
func TestTheKernelsTableIsTold(t *testing.T) {
	nft := func(commands string) {
		t.Helper()
		cmd := exec.Command("nft", "-f", "-")
		cmd.Stdin = strings.NewReader(commands)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	nft("add table inet tracks\nadd chain inet tracks in { type filter hook input priority 0; }\nadd rule inet tracks in ct state new accept\n")
	t.Cleanup(func() { nft("delete table inet tracks\n") })
	b := newBox(t)
	at := public(t)
	b.proved(b.send(wants(b.node(), b.web("web", "one", at))))
	b.says(at, "one")
	if st := b.look(); st.Uses.Tracked.Used == 0 || st.Uses.Tracked.Limit == 0 {
		t.Errorf("%+v", st.Uses)
	}
}

func TestATableThatIsNearlyFull(t *testing.T) {
	for use, full := range map[engine.Use]bool{
		{Used: 3600, Limit: 4096}: false, {Used: 3687, Limit: 4096}: true, {Used: 4096, Limit: 4096}: true, {Used: 4096}: false, {}: false,
	} {
		if got := crowdedTable(use); (got != "") != full || full && !strings.Contains(got, "4096, and drops new ones") {
			t.Errorf("%+v: %q", use, got)
		}
	}
}
