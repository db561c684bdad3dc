package deliver

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/host"
	"github.com/external-lb/external-lb/internal/lb"
	"github.com/external-lb/external-lb/provider"
)

// telling is a way to hosts that tell when they have more to say.
type telling struct {
	Dialer
	news chan struct{}
	why  *atomic.Pointer[string] // it is contested
}

func (d telling) Dial(ctx context.Context, t Target) (Conn, error) {
	c, err := d.Dialer.Dial(ctx, t)
	return told{c, d.news, d.why}, err
}

// told is a Cloud.
type told struct {
	Conn
	news chan struct{}
	why  *atomic.Pointer[string]
}

func (told) Offers() *provider.Capabilities       { return nil }
func (told) Given() map[lb.Key][]provider.Address { return nil }

func (c told) Contested() string {
	if why := c.why.Load(); why != nil {
		return *why
	}
	return ""
}

func (c told) News() <-chan struct{} { return c.news }

// A provider's generation is of what is wanted of it, whatever the cloud has done of that.
func (c told) Status(ctx context.Context) (host.Status, error) {
	st, err := c.Conn.Status(ctx)
	st.Generation = string(st.Wanted.Digest())
	return st, err
}

func (c told) Apply(ctx context.Context, d host.Delivery) (host.Outcome, error) {
	out, err := c.Conn.Apply(ctx, d)
	out.Generation = string(out.Wanted.Digest())
	return out, err
}

// What is pending is under way, not refused, and is looked for as soon as there is news. What
// is about to go is no reason to deliver again.
func TestWhatIsPendingIsUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fx := newFixture(t, 1)
		m, news := fx.machines[0], make(chan struct{}, 1)
		m.refuse["b"] = lb.Refusal{Key: "b", Reason: lb.RefusedPending, Message: "at work"}
		fx.Fleet = NewFleet(Options{Leader: fx.leads, Dialer: telling{fx.net, news, &atomic.Pointer[string]{}}, Log: quiet(t)})
		t.Cleanup(fx.Fleet.Close)
		fx.Set("edge", fx.targets)
		fx.Deliver("edge", set("a=1", "b=1"), "service")
		time.Sleep(time.Second)
		if s := fx.state(); s.State != v1alpha1.HostDelivering || s.Message != "" || !s.Serves("a", sum("1")) || s.Serves("b", sum("1")) {
			t.Errorf("pending: %+v", s)
		}
		asked := m.asked()
		m.do(func() { m.live, m.refused = m.wanted, nil })
		news <- struct{}{}
		if s := fx.state(); s.State != v1alpha1.HostInSync || !s.Serves("b", sum("1")) || m.asked() != asked {
			t.Errorf("after the news: %+v, and %d more deliveries", s, m.asked()-asked)
		}
		m.do(func() {
			clear(m.refuse)
			m.going = []lb.Refusal{{Key: "b", Reason: lb.RefusedPending, Message: "it goes"}}
			m.makeLive = func(next lb.Sums) { next["b"] = lb.Sum{} }
		})
		fx.Deliver("edge", set("a=1"), "service")
		time.Sleep(2 * time.Second)
		if s := fx.state(); s.State != v1alpha1.HostDelivering || !s.MayServe("b") || m.asked() != asked+1 {
			t.Errorf("going: %+v, and %d more deliveries", s, m.asked()-asked)
		}
		m.do(func() { m.live, m.refused = m.wanted, nil })
		news <- struct{}{}
		if s := fx.state(); s.State != v1alpha1.HostInSync || s.MayServe("b") {
			t.Errorf("gone: %+v", s)
		}
	})
}

// Where somebody else has a provider's load balancers, too, nothing more is delivered.
func TestAProviderThatIsContested(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fx := newFixture(t, 1)
		m, why := fx.machines[0], &atomic.Pointer[string]{}
		fx.Fleet = NewFleet(Options{Leader: fx.leads, Dialer: telling{fx.net, nil, why}, Log: quiet(t)})
		t.Cleanup(fx.Fleet.Close)
		fx.Set("edge", fx.targets)
		fx.Deliver("edge", set("a=1"), "service")
		fx.waitState(t, time.Second, v1alpha1.HostInSync)
		words := "somebody else changes its load balancers"
		why.Store(&words)
		m.do(func() { m.live = lb.Sums{} })
		fx.waitState(t, time.Minute, v1alpha1.HostFailed)
		asked := m.asked()
		fx.Deliver("edge", set("a=2"), "service")
		time.Sleep(5 * time.Minute)
		if s := fx.state(); !s.Contested() || s.Message != words || m.asked() != asked {
			t.Errorf("%+v, and %d more deliveries", s, m.asked()-asked)
		}
	})
}
