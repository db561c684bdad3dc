package host

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/external-lb/external-lb/internal/lb"
	"github.com/external-lb/external-lb/test/wait"
)

// podAt is the i-th pod, which says who it is.
func podAt(t testing.TB, i int) lb.Endpoint {
	t.Helper()
	at := netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 51, 100, byte(200 + i)}), 8080)
	says(t, at, fmt.Sprint("pod", i))
	return lb.Endpoint{Address: at}
}

func severalPods(t testing.TB, count int) (all []lb.Endpoint) {
	t.Helper()
	for i := range count {
		all = append(all, podAt(t, i))
	}
	return all
}

// toPods is a Service for whose ports pods answer.
func toPods(s *lb.Service, pods ...lb.Endpoint) *lb.Service {
	return changed(s, func(s *lb.Service) {
		s.Pods, s.IPv4.Targets, s.IPv6.Targets = true, lb.Targets{}, lb.Targets{}
		for i := range s.Frontends {
			s.Frontends[i].Endpoints = pods
		}
	})
}

// admitsPods has the owner admit the pods of tests.
func (b *box) admitsPods(networks ...string) {
	b.Helper()
	b.agent.settings.Admit.Pods = nil
	for _, n := range networks {
		b.agent.settings.Admit.Pods = append(b.agent.settings.Admit.Pods, netip.MustParsePrefix(n))
	}
}

const podsOfTests = "198.51.100.192/26"

// hears waits until these say who they are, and no others; "": nobody does.
func (b *box) hears(at netip.AddrPort, want string) {
	b.Helper()
	wait.For(b, func(ctx context.Context) error {
		if got := heardAt(at); got != want {
			return fmt.Errorf("%q answers, want %q", got, want)
		}
		return nil
	})
}

// A Balancer that changes to pods before a host admits any goes on sending to nodes there.
func TestPods_AHostThatAdmitsNoneKeepsNodes(t *testing.T) {
	b := newBox(t)
	at := public(t)
	web := b.web("web", "nodes", at)
	b.send(wants(b.node(), web))
	pods := severalPods(t, 2)
	cfg := wants(b.node(), toPods(web, pods...))
	out := b.send(cfg)
	if r := b.one(out.Refused, lb.RefusedNotAdmitted, "admit.pods"); !r.OlderStays || !r.OfItem() {
		t.Errorf("%+v", r)
	}
	b.says(at, "nodes")
	// It stays with each delivery, until the owner admits them.
	other := b.web("other", "other", public(t))
	out = b.send(wants(b.node(), toPods(web, pods...), other))
	b.one(out.Refused, lb.RefusedNotAdmitted, "admit.pods")
	b.says(at, "nodes")
	b.admitsPods(podsOfTests)
	if out = b.send(cfg); len(out.Refused) > 0 {
		t.Errorf("%+v", out.Refused)
	}
	b.hears(at, "pod0 pod1")
	// And is not pods of others, however they came to be admitted: nothing older may stay then.
	b.admitsPods("203.0.113.0/24")
	out = b.send(wants(b.node(), toPods(web, pods[0])))
	if r := b.one(out.Refused, lb.RefusedNotAdmitted, "nothing may be sent to any of its pods"); r.OlderStays {
		t.Errorf("%+v", r)
	}
	b.carriesNow(out)
}

// One pod of several is not admitted: the others carry.
func TestPods_SomeAreNotAdmitted(t *testing.T) {
	b := newBox(t)
	at := public(t)
	b.admitsPods("198.51.100.200/31")
	out := b.send(wants(b.node(), toPods(b.web("web", "nodes", at), severalPods(t, 3)...)))
	if r := b.one(out.Refused, lb.RefusedNotAdmitted, "some of them are sent nothing"); r.Key.Describe() != "pods of Service default/web" {
		t.Errorf("%+v", r)
	}
	b.carriesNow(out, "web")
	b.hears(at, "pod0 pod1")
}

// What stays of an older version sends to the pods of now.
func TestPods_AnOlderVersionHasThePodsOfNow(t *testing.T) {
	b := newBox(t)
	b.refusesSevenSeconds()
	b.admitsPods(podsOfTests)
	at := public(t)
	web, pods := b.web("web", "nodes", at), severalPods(t, 4)
	b.send(wants(b.node(), toPods(web, pods[:2]...)))
	b.hears(at, "pod0 pod1")
	refused := toPods(changed(web, idle(7*time.Second)), pods[1:]...)
	out := b.send(wants(b.node(), refused))
	if r := b.one(out.Refused, lb.RefusedByEngine, ""); !r.OlderStays {
		t.Errorf("%+v", r)
	}
	b.hears(at, "pod1 pod2 pod3")
	out = b.send(wants(b.node(), toPods(changed(web, idle(7*time.Second)), pods[3])))
	b.one(out.Refused, lb.RefusedByEngine, "")
	b.hears(at, "pod3")
	// To nodes again, and refused: which pods there are is not known.
	out = b.send(wants(b.node(), changed(web, idle(7*time.Second))))
	if r := b.one(out.Refused, lb.RefusedByEngine, ""); r.OlderStays {
		t.Errorf("%+v", r)
	}
	b.carriesNow(out)
}

// A host that is full has as many pods as before, of those that there are now.
func TestPods_NoMoreThanThereIsRoomFor(t *testing.T) {
	b := newBox(t)
	b.admitsPods(podsOfTests)
	b.agent.settings.Admit.MaxBackends = 2
	at := public(t)
	web, pods := b.web("web", "nodes", at), severalPods(t, 5)
	b.send(wants(b.node(), toPods(web, pods[:2]...)))
	out := b.send(wants(b.node(), toPods(web, pods[1:4]...)))
	if r := b.one(out.Refused, lb.RefusedNotAdmitted, "no room"); !r.OlderStays {
		t.Errorf("%+v", r)
	}
	b.hears(at, "pod1 pod2")
	b.send(wants(b.node(), toPods(web, pods[2:]...)))
	b.hears(at, "pod2 pod3")
	if out = b.send(wants(b.node(), toPods(web, pods[3:]...))); len(out.Refused) > 0 {
		t.Errorf("%+v", out.Refused)
	}
	b.hears(at, "pod3 pod4")
}

func TestHAProxy_PodsComeAndGoWithoutAReload(t *testing.T) {
	c := newChecked(t)
	c.admitsPods(podsOfTests)
	pods := severalPods(t, 4)
	carry := func(some ...lb.Endpoint) Outcome {
		return c.send(&lb.Config{Services: []*lb.Service{toPods(c.api, some...), toPods(c.web, some...)}})
	}
	carry(pods[:2]...)
	said, err := c.haproxy().Ask(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, which := range [][]int{{0, 1, 2}, {1, 2}, {2}, {}, {3}, {0, 1, 2, 3}, {0, 3}} {
		var some []lb.Endpoint
		var want []string
		for _, i := range which {
			some, want = append(some, pods[i]), append(want, fmt.Sprint("pod", i))
		}
		if out := carry(some...); out.Reloaded || len(out.Refused) > 0 {
			t.Errorf("%v: reloaded: %t, refused %+v", which, out.Reloaded, out.Refused)
		}
		c.hears(c.at(), strings.Join(want, " "))
		if now, err := c.haproxy().Ask(t.Context()); err != nil || now.PID != said.PID {
			t.Errorf("%v: the worker is another: %v", which, err)
		}
	}
	// What is on disk says the same: a restart serves it.
	c.stop()
	c.start()
	c.hears(c.at(), "pod0 pod3")
}

// A pod that came while HAProxy ran has a check of its own: it gets nothing when it fails.
func TestHAProxy_PodsAreAskedThemselves(t *testing.T) {
	c := newChecked(t)
	c.admitsPods(podsOfTests)
	silent := lb.Endpoint{Address: netip.MustParseAddrPort("198.51.100.250:8080")}
	pod := podAt(t, 0)
	c.send(&lb.Config{Services: []*lb.Service{toPods(c.api, pod)}})
	if out := c.send(&lb.Config{Services: []*lb.Service{toPods(c.api, pod, silent)}}); out.Reloaded {
		t.Error("it took a reload")
	}
	wait.For(t, func(ctx context.Context) error {
		all, err := c.haproxy().Observe(ctx, nil)
		if err != nil {
			return err
		}
		if len(all) != 1 || all[0].Up != 1 || all[0].Down != 1 || len(all[0].Named) != 1 || all[0].Named[0].Node != "198.51.100.250" {
			return fmt.Errorf("%+v", all)
		}
		return nil
	})
	c.hears(c.at(), "pod0")
}

func TestReplaced_KeepsThoseThatWereThere(t *testing.T) {
	some := func(last ...byte) (all []lb.Endpoint) {
		for _, b := range last {
			all = append(all, lb.Endpoint{Address: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 244, 0, b}), 80)})
		}
		return all
	}
	for _, c := range []struct {
		were, are []lb.Endpoint
		noMore    bool
		want      []lb.Endpoint
	}{
		{some(1, 2), some(2, 3, 4), false, some(2, 3, 4)},
		{some(1, 2), some(2, 3, 4), true, some(2, 3)},
		{some(4, 5), some(2, 3, 4), true, some(2, 4)},
		{some(1, 2), some(7), true, some(7)},
		{some(1, 2), nil, true, nil},
		{nil, some(1), true, nil},
	} {
		if got := replaced(c.were, c.are, c.noMore); !slices.Equal(got, c.want) {
			t.Errorf("of %v and %v: %v, want %v", c.were, c.are, got, c.want)
		}
	}
}
