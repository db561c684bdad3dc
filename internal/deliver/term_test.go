package deliver

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/host"
	"github.com/external-lb/external-lb/internal/lb"
)

// A cluster that was restored from a backup, or whose Lease was deleted, finds its hosts
// ahead of it.
func TestALeaderMovesPastWhatAHostHasSeen(t *testing.T) {
	for name, seen := range map[string]host.Epoch{
		"ahead": {Term: 57, Seq: 3}, "in the same term": {Term: 1, Seq: math.MaxUint64}, "as far as may be": {Term: 1 + host.MaxTermJump},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				fx := newFixture(t, 1)
				m := fx.machines[0]
				m.epoch = seen
				fx.Set("edge", fx.targets)
				fx.Deliver("edge", set("a=1"), "start")
				fx.waitState(t, 2*time.Second, v1alpha1.HostInSync)
				if m.epoch.Term != seen.Term+1 || fx.leads.raised != 1 {
					t.Errorf("epoch %s, raised %d times", m.epoch, fx.leads.raised)
				}
				fx.Deliver("edge", set("a=2"), "service")
				fx.waitState(t, 2*time.Second, v1alpha1.HostInSync)
				time.Sleep(time.Hour)
				if s := fx.state(); s.State != v1alpha1.HostInSync || fx.leads.raised != 1 {
					t.Errorf("%+v, raised %d times", s, fx.leads.raised)
				}
			})
		})
	}
}

// A host that has another name now is asked by another worker.
func TestWhatThisProcessHasDeliveredIsItsOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fx := newFixture(t, 1)
		fx.Set("edge", fx.targets)
		fx.Deliver("edge", set("a=1"), "start")
		fx.waitState(t, time.Second, v1alpha1.HostInSync)
		fx.net.mu.Lock()
		fx.net.machines["front"] = fx.machines[0]
		fx.net.mu.Unlock()
		fx.targets[0].Host.Name = "front"
		fx.Set("edge", fx.targets)
		fx.Deliver("edge", set("a=2"), "start")
		fx.waitState(t, 2*time.Second, v1alpha1.HostInSync)
		if fx.leads.raised != 0 {
			t.Errorf("raised %d times", fx.leads.raised)
		}
	})
}

// A host that knows nothing of its last delivery was prepared anew, or its owner has said
// reset-term.
func TestAHostThatForgetsIsToldAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fx := newFixture(t, 1)
		m := fx.machines[0]
		fx.Set("edge", fx.targets)
		fx.Deliver("edge", set("a=1"), "start")
		fx.waitState(t, time.Second, v1alpha1.HostInSync)
		m.do(func() { m.cluster, m.epoch = "", host.Epoch{} })
		fx.wait(t, 2*statusEvery, "delivered again", func() bool { return m.asked() == 2 })
		if s := fx.state(); s.State != v1alpha1.HostInSync || m.epoch.Term != 1 || fx.leads.raised != 0 {
			t.Errorf("%+v, epoch %s, raised %d times", s, m.epoch, fx.leads.raised)
		}
	})
}

// One machine that says anything does not take this cluster's other hosts with it.
func TestATermThatIsTooFarAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fx := newFixture(t, 2)
		m := fx.machines[0]
		m.epoch = host.Epoch{Term: math.MaxInt64, Seq: math.MaxUint64}
		fx.Set("edge", fx.targets)
		fx.Deliver("edge", set("a=1"), "start")
		fx.wait(t, time.Minute, "the other one is in sync", func() bool { return fx.States("edge")[1].State == v1alpha1.HostInSync })
		s := fx.state()
		if s.State != v1alpha1.HostFailed || s.Reason != ReasonTermJump || !strings.Contains(s.Message, "reset-term") || m.asked() != 0 {
			t.Errorf("%+v, %d deliveries", s, m.asked())
		}
		if fx.leads.raised != 0 {
			t.Errorf("raised %d times", fx.leads.raised)
		}
		m.do(func() { m.epoch = host.Epoch{} })
		fx.waitState(t, 2*statusEvery, v1alpha1.HostInSync)
	})
}

// A host that was away takes no more than some terms at once, and has them all in the end.
func TestAHostThatIsFarBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fx := newFixture(t, 1)
		m := fx.machines[0]
		fx.leads.term = 3*host.MaxTermJump + 5
		fx.Set("edge", fx.targets)
		fx.Deliver("edge", set("a=1"), "start")
		fx.wait(t, time.Minute, "the host is there", func() bool { return m.epoch.Term == fx.leads.term })
		if s := fx.state(); s.State != v1alpha1.HostInSync || s.MayServe("b") || m.asked() != 4 {
			t.Errorf("%+v, %d deliveries", s, m.asked())
		}
		for _, d := range m.applies[:3] {
			if d.Epoch.Term == fx.leads.term {
				t.Errorf("epoch %s was tried at once", d.Epoch)
			}
		}
	})
}

// somebodyElse leads for this cluster, too, and delivers.
func (fx *fixture) somebodyElse(t *testing.T, term int64, want *lb.Set) (*Fleet, *leads) {
	l := &leads{cluster: fx.leads.cluster, term: term}
	f := fx.fleetOf(t, l)
	f.Set("edge", fx.targets)
	f.Deliver("edge", onLB1(want), "start")
	return f, l
}

// Two that lead for one cluster do not take a host from each other for ever: who came later
// gives in, and says so.
func TestTwoTrueLeaders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fx := newFixture(t, 1)
		m := fx.machines[0]
		fx.Set("edge", fx.targets)
		fx.Deliver("edge", set("a=1"), "start")
		fx.waitState(t, time.Second, v1alpha1.HostInSync)
		other, leads := fx.somebodyElse(t, 1, set("b=1"))
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		s := other.States("edge")[0]
		if s.State != v1alpha1.HostFailed || s.Reason != ReasonContested || !strings.Contains(s.Message, "reset-term") || !s.MayServe("a") {
			t.Errorf("the other: %+v", s)
		}
		if s := fx.state(); s.State != v1alpha1.HostInSync || !s.Serves("a", sum("1")) || leads.raised+fx.leads.raised != 2 {
			t.Errorf("%+v, raised %d and %d times", s, fx.leads.raised, leads.raised)
		}
		before := m.asked()
		for i := range 100 { // nothing that is wanted changes that, nor does a lost connection
			other.Deliver("edge", onLB1(set(fmt.Sprintf("b=%d", i))), "service")
			time.Sleep(10 * time.Second)
			if i%30 == 0 {
				fx.net.cut("lb1", errDown)
				time.Sleep(time.Second)
				fx.net.cut("lb1", nil)
			}
		}
		synctest.Wait()
		if s := other.States("edge")[0]; s.Reason != ReasonContested || m.asked() != before {
			t.Errorf("%+v, %d deliveries after %d", s, m.asked(), before)
		}

		// It starts anew, and this one gives in.
		other.Close()
		other, _ = fx.somebodyElse(t, leads.term, set("b=1"))
		fx.wait(t, 10*time.Minute, "contested", func() bool { return fx.States("edge")[0].Reason == ReasonContested })
		if s := fx.state(); !s.MayServe("a") || !s.MayServe("c") {
			t.Errorf("it is sure of what somebody else decides: %+v", s)
		}
		other.Close()
		time.Sleep(time.Hour)
		if s := fx.state(); s.Reason != ReasonContested {
			t.Errorf("nobody has decided: %+v", s)
		}
		m.do(func() { m.cluster, m.epoch = "", host.Epoch{} })
		fx.waitState(t, 2*statusEvery, v1alpha1.HostInSync)
		if s := fx.state(); !s.Serves("a", sum("1")) || s.MayServe("b") {
			t.Errorf("%+v", s)
		}
	})
}

// It is the same one that gives in on all hosts, also on one that both could not reach until then.
func TestTwoTrueLeadersOfSeveralHosts(t *testing.T) {
	for late := range 2 {
		synctest.Test(t, func(t *testing.T) {
			fx := newFixture(t, 2)
			fx.leads.term = 14
			fx.Set("edge", fx.targets)
			fx.Deliver("edge", set("a=1"), "start")
			fx.all(t, 10*time.Second, v1alpha1.HostInSync)
			name := fx.targets[late].Host.Name
			fx.net.cut(name, errDown)
			other := fx.fleetOf(t, &leads{cluster: fx.leads.cluster, term: 1})
			other.Set("edge", fx.targets)
			other.Deliver("edge", map[string]*lb.Set{"lb1": set("b=1"), "lb2": set("b=1")}, "start")
			contested := func(i int) bool { return other.States("edge")[i].Reason == ReasonContested }
			fx.wait(t, 10*time.Minute, "contested on one", func() bool { return contested(1 - late) })
			fx.net.cut(name, nil)
			fx.wait(t, 10*time.Minute, "contested on both", func() bool { return contested(late) })
			fx.all(t, 10*time.Minute, v1alpha1.HostInSync)
		})
	}
}

// What was long ago is no contest.
func TestOvertakenNowAndThen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fx := newFixture(t, 1)
		m := fx.machines[0]
		fx.Set("edge", fx.targets)
		fx.Deliver("edge", set("a=1"), "start")
		fx.waitState(t, time.Second, v1alpha1.HostInSync)
		for range 5 {
			m.do(func() { m.epoch.Term += 2 })
			before := m.asked()
			fx.wait(t, 2*statusEvery, "delivered again", func() bool { return m.asked() > before })
			time.Sleep(overtakenFor + time.Minute)
			if s := fx.state(); s.State != v1alpha1.HostInSync {
				t.Fatalf("%+v", s)
			}
		}
	})
}

// A host that another cluster delivers to tells neither what it carries nor whose it is.
func TestAHostOfAnotherCluster(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fx := newFixture(t, 2)
		m := fx.machines[0]
		m.cluster, m.epoch, m.wanted, m.live = "their-uid", host.Epoch{Term: 3, Seq: 1}, set("secret=1").Manifest().Sums(), set("secret=1").Manifest().Sums()
		fx.leads.cluster = "our-uid"
		fx.Set("edge", fx.targets)
		fx.Deliver("edge", set("a=1"), "start")
		fx.wait(t, time.Minute, "the other one is in sync", func() bool { return fx.States("edge")[1].State == v1alpha1.HostInSync })
		time.Sleep(time.Hour)
		s := fx.state()
		if s.State != v1alpha1.HostFailed || s.Reason != ReasonOtherCluster || m.asked() != 0 || !s.MayServe("a") || s.Live != "" {
			t.Errorf("%+v, %d deliveries", s, m.asked())
		}
		if strings.Contains(fmt.Sprintf("%+v", s), "their-uid") || !strings.HasPrefix(s.Message, "this machine is another cluster's") {
			t.Errorf("%+v", s)
		}
		m.do(func() { m.cluster, m.epoch = "", host.Epoch{} })
		fx.waitState(t, time.Minute, v1alpha1.HostInSync)
		if m.cluster != "our-uid" {
			t.Errorf("the host is pinned to %q", m.cluster)
		}
	})
}

// The API server is away while a host is found to be ahead.
func TestATermThatCannotBeRaisedNow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fx := newFixture(t, 1)
		fx.machines[0].epoch = host.Epoch{Term: 5}
		fx.leads.err = errors.New("the API server does not answer")
		fx.Set("edge", fx.targets)
		fx.Deliver("edge", set("a=1"), "start")
		fx.waitState(t, time.Second, v1alpha1.HostFailed)
		time.Sleep(10 * time.Minute)
		fx.leads.mu.Lock()
		fx.leads.err = nil
		fx.leads.mu.Unlock()
		fx.waitState(t, time.Minute, v1alpha1.HostInSync)
	})
}

// Through the real protocol, the host's end says no.
func TestThroughTheWire_AnotherCluster(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMachine()
		m.cluster = "their-uid"
		conn, err := pipes{m}.Dial(context.Background(), Target{Cluster: "our-uid"})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		st, err := conn.Status(t.Context())
		if he, ok := errors.AsType[*host.Error](err); !ok || he.Code != host.CodeOtherCluster || strings.Contains(he.Message, "uid") || st.Cluster != "" {
			t.Errorf("%+v, %v", st, err)
		}
		m.do(func() { m.cluster = "our-uid" })
		if st, err = conn.Status(t.Context()); err != nil || st.Cluster != "" {
			t.Errorf("%+v, %v", st, err)
		}
	})
}
