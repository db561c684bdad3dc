package host

import "testing"

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
