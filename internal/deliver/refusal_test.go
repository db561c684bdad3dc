package deliver

import (
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/host"
	"github.com/external-lb/external-lb/internal/lb"
)

func TestWhatIsRefusedIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fx := newFixture(t, 1)
		m := fx.machines[0]
		m.refuses("b", "192.0.2.9 is not on this host")
		fx.Set("edge", fx.targets)
		fx.Deliver("edge", set("a=1", "b=1"), "service")
		fx.waitState(t, time.Second, v1alpha1.HostPartial)
		s := fx.state()
		if s.Reason != ReasonRefused || s.Message != "left out: b: 192.0.2.9 is not on this host" ||
			!s.Serves("a", sum("1")) || s.Serves("b", sum("1")) || s.MayServe("b") {
			t.Errorf("refused: %+v", s)
		}
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		if n := m.asked(); n < 8 || n > 14 || m.reloads != 1 {
			t.Errorf("%d deliveries and %d reloads in 5 minutes", n, m.reloads)
		}
		if again := m.applies[1]; !again.Change.Empty() {
			t.Errorf("%+v is sent again", again.Change)
		}
		m.do(func() { clear(m.refuse) })
		fx.waitState(t, 40*time.Second, v1alpha1.HostInSync)
		if s := fx.state(); !s.Serves("b", sum("1")) || s.Refused != nil || fx.counts.reloaded[CauseRetry] != 1 {
			t.Errorf("repaired: %+v", s)
		}
	})
}

// A host on which that fails is not asked all the time, and says so until it works.
func TestTryingAgainMayFail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fx := newFixture(t, 1)
		m := fx.machines[0]
		m.refuses("b", "192.0.2.9 is not on this host")
		fx.Set("edge", fx.targets)
		fx.Deliver("edge", set("a=1", "b=1"), "service")
		fx.waitState(t, time.Second, v1alpha1.HostPartial)
		m.do(func() { m.fail = &host.Error{Code: host.CodeMachine, Message: "the disk is full"} })
		fx.waitState(t, time.Minute, v1alpha1.HostFailed)
		before := m.asked()
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		if s, n := fx.state(), m.asked()-before; s.State != v1alpha1.HostFailed || n < 8 || n > 20 || !s.Serves("a", sum("1")) {
			t.Errorf("%d deliveries in 5 minutes, %+v", n, s)
		}
		m.do(func() { m.fail = nil })
		fx.waitState(t, time.Minute, v1alpha1.HostPartial)
	})
}

func TestWhatWasRefusedIsKnownAfterARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fx := newFixture(t, 1)
		fx.machines[0].refuses("b", "192.0.2.9 is not on this host")
		fx.Set("edge", fx.targets)
		fx.Deliver("edge", set("a=1", "b=1"), "service")
		fx.waitState(t, time.Second, v1alpha1.HostPartial)
		fx.Fleet.Close()
		fx.Fleet = fx.newFleet(t, 2)
		fx.Set("edge", fx.targets)
		if s := fx.state(); len(s.Refused) != 1 || s.Refused[0].Key != "b" {
			t.Errorf("before the first Deliver: %+v", s)
		}
	})
}

// An older version that stays is neither the new one nor gone.
func TestAnOlderVersionMayStay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fx := newFixture(t, 1)
		m := fx.machines[0]
		fx.Set("edge", fx.targets)
		fx.Deliver("edge", set("a=1", "b=1"), "service")
		fx.waitState(t, time.Second, v1alpha1.HostInSync)
		m.do(func() {
			m.refuses("b", "no")
			r := m.refuse["b"]
			r.OlderStays = true
			m.refuse["b"] = r
		})
		fx.Deliver("edge", set("a=2", "b=2"), "service")
		fx.waitState(t, 2*time.Second, v1alpha1.HostPartial)
		if s := fx.state(); !s.Serves("a", sum("2")) || s.Serves("b", sum("2")) || !s.Serves("b", sum("1")) || !s.MayServe("b") {
			t.Errorf("%+v", s)
		}
		// Taken away, nothing of it stays.
		m.do(func() { clear(m.refuse) })
		fx.Deliver("edge", set("a=2"), "service")
		fx.waitState(t, 2*time.Second, v1alpha1.HostInSync)
		if s := fx.state(); s.MayServe("b") {
			t.Errorf("%+v", s)
		}
	})
}

// It goes on with its certificate, which is wanted no more.
func TestAnOlderVersionMayKeepItsCertificate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fx := newFixture(t, 1)
		m := fx.machines[0]
		m.refuse["b"] = lb.Refusal{Key: "b", Reason: lb.RefusedByEngine, Message: "no", OlderStays: true}
		m.makeLive = func(live lb.Sums) { live["b"], live["certificate/old"] = sum("1"), sum("old") }
		fx.Set("edge", fx.targets)
		fx.Deliver("edge", set("a=1", "b=2", "certificate/new=new"), "service")
		fx.waitState(t, time.Second, v1alpha1.HostPartial)
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		if s := fx.state(); s.State != v1alpha1.HostPartial || !s.MayServe("b") || !s.MayServe("certificate/old") {
			t.Errorf("%+v", s)
		}
	})
}

// A Service of which one port is refused is live all the same.
func TestOnePortIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fx := newFixture(t, 1)
		at := lb.Listener{Address: netip.MustParseAddr("192.0.2.9"), Port: 80, Protocol: lb.TCP}
		fx.machines[0].refuse["b"] = lb.Refusal{Key: "b", Listener: at, Reason: lb.RefusedUnavailable, Message: "another process listens there"}
		fx.Set("edge", fx.targets)
		fx.Deliver("edge", set("a=1", "b=1"), "service")
		fx.waitState(t, time.Second, v1alpha1.HostPartial)
		if s := fx.state(); s.Message != "left out: b, 192.0.2.9:80/TCP: another process listens there" || !s.Serves("b", sum("1")) || s.Live != s.Desired {
			t.Errorf("%+v", s)
		}
	})
}

func TestAHostThatIsTooOldIsNamed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fx := newFixture(t, 1)
		key := lb.ServiceKey(lb.ID{Namespace: "default", Name: "web", UID: "u1"})
		m := fx.machines[0]
		m.refuses("a", "no such address")
		m.refuse[key] = lb.Refusal{Key: key, Reason: lb.RefusedUnknown, Message: "a field of Settings is not known"}
		fx.Set("edge", fx.targets)
		fx.Deliver("edge", set("a=1", string(key)+"=1"), "service")
		fx.waitState(t, time.Second, v1alpha1.HostPartial)
		if s := fx.state(); s.Message != "lb1 runs external-lb v0.3.0, which cannot carry Service default/web: upgrade it" {
			t.Errorf("%+v", s)
		}
	})
}

// What ends well is what was sent, all of it or with words, and nothing else.
func TestAnOutcomeThatIsNotWhatWasSent(t *testing.T) {
	outcomes := map[string]struct {
		spoil func(live lb.Sums)
		says  string
	}{
		"one is missing":    {func(live lb.Sums) { delete(live, "b") }, "neither carries nor refuses b"},
		"one is another":    {func(live lb.Sums) { live["a"] = sum("7") }, "neither carries nor refuses a"},
		"one that was gone": {func(live lb.Sums) { live["z"] = sum("1") }, "still carries 1 items that are not in it"},
	}
	for name, tc := range outcomes {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				fx := newFixture(t, 1)
				m := fx.machines[0]
				m.makeLive = tc.spoil
				fx.Set("edge", fx.targets)
				fx.Deliver("edge", set("a=1", "b=1"), "service")
				fx.waitState(t, time.Second, v1alpha1.HostFailed)
				if s := fx.state(); s.Reason != ReasonUnproven || !strings.Contains(s.Message, tc.says) {
					t.Errorf("%+v", s)
				}
				m.do(func() { m.makeLive = nil })
				fx.waitState(t, time.Minute, v1alpha1.HostInSync)
			})
		})
	}
}
