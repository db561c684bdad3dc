package host

import "testing"

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
