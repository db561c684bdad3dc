package deliver

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/host"
)

func TestHowFarAClockIsAhead(t *testing.T) {
	sent := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	got := sent.Add(10 * time.Second) // the host took long, or the way did
	clock := func(asked, answered time.Duration) host.Clock {
		return host.Clock{Asked: sent.Add(asked), Answered: sent.Add(answered)}
	}
	for name, c := range map[string]struct {
		clock host.Clock
		want  time.Duration
	}{
		"the same":              {clock(time.Second, 9*time.Second), 0},
		"it does not say":       {host.Clock{}, 0},
		"ahead":                 {clock(8*time.Second, 16*time.Second), 6 * time.Second},
		"behind":                {clock(-5*time.Second, 3*time.Second), -5 * time.Second},
		"as far as the way":     {clock(9*time.Second, 10*time.Second), 0},
		"set while it answered": {clock(time.Hour, time.Second), 0},
		"nonsense":              {host.Clock{Asked: time.Unix(0, 1<<63-1), Answered: time.Unix(0, 1<<63-1)}, time.Unix(0, 1<<63-1).Sub(got)},
	} {
		if is := ahead(c.clock, sent, got); is != c.want {
			t.Errorf("%s: %s, want %s", name, is, c.want)
		}
	}
}

// Each word that changes is a write.
func TestWhatIsToldOfAClockStays(t *testing.T) {
	const ms = time.Millisecond
	seen := []time.Duration{1900 * ms, 2100 * ms, 1900 * ms, 2400 * ms, 1100 * ms, 900 * ms, 1900 * ms, 8600 * ms, 9900 * ms, 13 * time.Second, -3 * time.Second, 0}
	want := []time.Duration{0, 2000 * ms, 2000 * ms, 2000 * ms, 2000 * ms, 0, 0, 9 * time.Second, 9 * time.Second, 13 * time.Second, -3 * time.Second, 0}
	var told []time.Duration
	last := time.Duration(0)
	for _, now := range seen {
		last = clockTold(last, now)
		told = append(told, last)
	}
	if !slices.Equal(told, want) {
		t.Errorf("told %v, want %v", told, want)
	}
}

// A clock that is wrong is told, keeps nobody from anything, and is no matter once it is right.
func TestAClockThatIsWrongIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fx := newFixture(t, 1)
		m := fx.machines[0]
		m.ahead = -time.Minute
		fx.Set("edge", fx.targets)
		fx.Deliver("edge", set("a=1"), "service")
		fx.waitState(t, time.Second, v1alpha1.HostInSync)
		told := []v1alpha1.HostNote{{Reason: v1alpha1.NoteClock, Message: "its clock is 1m0s behind the manager's: let both keep time by NTP"}}
		if s := fx.state(); s.Message != "" || s.Warning != "" || !slices.Equal(s.Notes(), told) {
			t.Errorf("%+v: %q", s, s.Notes())
		}
		m.do(func() { m.ahead = 0 })
		fx.wait(t, 40*time.Second, "it is right", func() bool { return len(fx.States("edge")[0].Notes()) == 0 })
	})
}

// What was before this manager is not counted again, and an agent that is new begins at 0.
func TestRestartsAreCountedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fx := newFixture(t, 1)
		m := fx.machines[0]
		m.restarts = 7
		fx.Set("edge", fx.targets)
		fx.Deliver("edge", set("a=1"), "service")
		fx.waitState(t, time.Second, v1alpha1.HostInSync)
		for _, step := range []struct{ says, counted int }{{7, 0}, {9, 2}, {9, 2}, {1, 3}} {
			m.do(func() { m.restarts = step.says })
			time.Sleep(time.Minute)
			synctest.Wait()
			if s := fx.state(); s.Restarts != step.counted || fx.counts.restarted != step.counted {
				t.Errorf("the host says %d: %d, and %d in metrics, want %d", step.says, s.Restarts, fx.counts.restarted, step.counted)
			}
		}
	})
}
