package host

import (
	"testing"

	"github.com/external-lb/external-lb/internal/engine/engines"
)

func TestRoomForBackends(t *testing.T) {
	for _, tc := range []struct {
		memory int
		each   int
		want   int
	}{
		{4 << 30, 16 << 10, 262_144},
		{1 << 30, 4 << 10, 262_144},
		{0, 16 << 10, 1 << 24}, // not known
		{4 << 50, 16 << 10, 1 << 24},
	} {
		if got := roomFor(tc.memory, tc.each); got != tc.want {
			t.Errorf("%d bytes, %d for each: %d, want %d", tc.memory, tc.each, got, tc.want)
		}
	}
}

// A backend takes as much as the one of a host's engines that needs the most for it.
func TestRoomIsForWhatTakesTheMost(t *testing.T) {
	backends := func(settings string) int {
		t.Helper()
		s, err := ParseSettings([]byte(settings), &engines.Table)
		if err != nil {
			t.Fatal(err)
		}
		return s.room().Backends
	}
	if nginx, both := backends("engine: nginx"), backends("engine: nginx\ndatagrams: lvs"); both != backends("engine: lvs") || both >= nginx {
		t.Errorf("%d with nginx, %d with datagrams in the kernel", nginx, both)
	}
}
