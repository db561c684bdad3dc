package cli

import (
	"bytes"
	"context"
	"errors"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// What is watched is shown when it changes, and is said to be old when it cannot be asked.
func TestWatch_ShowsWhatChanges(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	turns := []func() (string, error){
		func() (string, error) { return "one\n", nil },
		func() (string, error) { return "one\n", nil },
		func() (string, error) { return "", errors.New("asking the API server: \x1b[2Jrefused") },
		func() (string, error) { return "", errors.New("asking the API server: \x1b[2Jrefused") },
		func() (string, error) { return "one\n", nil },
		func() (string, error) { return "two\n", nil },
		func() (string, error) { cancel(); return "", ctx.Err() },
	}
	var out bytes.Buffer
	err := (&screen{out: &out}).show(ctx, time.Microsecond, func(context.Context) (string, error) {
		turn := turns[0]
		turns = turns[1:]
		return turn()
	})
	if err != nil {
		t.Fatal(err)
	}
	want := strings.TrimLeft(`
one

--- TIME
one

! what is shown may be old, since TIME: asking the API server: [2Jrefused

--- TIME
one

--- TIME
two
`, "\n")
	got := regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ`).ReplaceAllString(out.String(), "TIME")
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// Who asks in vain is told so, and has nothing to watch.
func TestWatch_TheFirstLookMayFail(t *testing.T) {
	var out bytes.Buffer
	refused := errors.New("refused")
	err := (&screen{out: &out}).show(t.Context(), time.Microsecond, func(context.Context) (string, error) { return "", refused })
	if !errors.Is(err, refused) || out.Len() > 0 {
		t.Errorf("%v, %q", err, out.String())
	}
}

// A look that takes long is not taken all the time.
func TestWatch_Pause(t *testing.T) {
	for took, want := range map[time.Duration]time.Duration{
		0: 2 * time.Second, 200 * time.Millisecond: 2 * time.Second, time.Second: 9 * time.Second, time.Hour: time.Minute,
	} {
		if got := pause(watchEvery, took); got != want {
			t.Errorf("after %s: %s, want %s", took, got, want)
		}
	}
}

func TestWatch_ATerminalIsCleared(t *testing.T) {
	var out bytes.Buffer
	s := &screen{out: &out, clear: true}
	for _, text := range []string{"one\n", "one\n", "two\n"} {
		if err := s.draw(text); err != nil {
			t.Fatal(err)
		}
	}
	if got, want := out.String(), clearScreen+"one\n"+clearScreen+"two\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestStatusIsWide(t *testing.T) {
	got := statusOf(t, inCluster(t, strings.ReplaceAll(twoHosts, "digest: 0123456789abcdef,", "digest: 0123456789abcdef, lastAppliedTime: 2026-11-26T14:00:00Z,")), "wide")
	for _, want := range []string{
		"lb1  InSync  nginx/1.22.1  0123456789abcdef  proved 2026-11-26T14:00:00Z\n", "default/web  203.0.113.4  80/TCP:30080 443/TCP:30443\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("want %q, got\n%s", want, got)
		}
	}
}
