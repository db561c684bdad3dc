package host

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/external-lb/external-lb/internal/lb"
)

// What is wanted of a Service cannot be carried: its older version stays, but for ports
// whose listeners or nodePorts are not the same.
func TestAnOlderVersionStays(t *testing.T) {
	moved := func(s *lb.Service) { s.Frontends[0].NodePort++ }
	for name, c := range map[string]struct {
		bad    func(t testing.TB, web *lb.Service) lb.Item
		reason lb.RefusalReason
		words  string
		stays  bool
	}{
		"newer than this program": {func(t testing.TB, web *lb.Service) lb.Item {
			return newer(itemOf(t, changed(web, idle(time.Minute))))
		}, lb.RefusedUnknown, "upgrade it on this host", true},
		"newer but with another nodePort": {func(t testing.TB, web *lb.Service) lb.Item { return newer(itemOf(t, changed(web, moved))) },
			lb.RefusedUnknown, "upgrade it on this host", false},
		"newer but with another listener": {func(t testing.TB, web *lb.Service) lb.Item {
			return newer(itemOf(t, changed(web, func(s *lb.Service) { s.Frontends[0].Listener.Port++ })))
		}, lb.RefusedUnknown, "upgrade it on this host", false},
		"not what the engine can do": {func(t testing.TB, web *lb.Service) lb.Item { return itemOf(t, changed(web, sendsProxyV2)) },
			lb.RefusedByEngine, "PROXY", true},
		"not what the engine can do but with another nodePort": {func(t testing.TB, web *lb.Service) lb.Item {
			return itemOf(t, changed(changed(web, sendsProxyV2), moved))
		}, lb.RefusedByEngine, "PROXY", false},
		"from an address that is not admitted": {func(t testing.TB, web *lb.Service) lb.Item {
			return itemOf(t, changed(web, func(s *lb.Service) { s.Frontends[0].Settings.Source.IPv4 = netip.MustParsePrefix("10.20.0.0/24") }))
		}, lb.RefusedNotAdmitted, "asks for 10.20.0.0/24, and no address of this host may be used for that", true},
		"refused by the daemon": {func(t testing.TB, web *lb.Service) lb.Item { return itemOf(t, changed(web, idle(7*time.Second))) },
			lb.RefusedByEngine, `unknown directive "lissen"`, true},
		"refused by the daemon but with another nodePort": {func(t testing.TB, web *lb.Service) lb.Item {
			return itemOf(t, changed(changed(web, idle(7*time.Second)), moved))
		}, lb.RefusedByEngine, `unknown directive "lissen"`, false},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBox(t)
			b.refusesSevenSeconds()
			at, other := public(t), public(t)
			web, second := b.web("web", "one", at), b.web("second", "two", other)
			before := b.send(wants(b.node(), web))
			set := encoded(t, wants(b.node(), web, second)).With(c.bad(t, web))
			key := lb.ServiceKey(web.ID)
			out := b.sendItems(set)
			for range 2 { // also for an agent that did not see it come
				if r := b.one(out.Refused, c.reason, c.words); r.Key != key || !r.OfItem() || r.OlderStays != c.stays {
					t.Errorf("%+v", r)
				}
				if c.stays {
					b.carriesNow(out, "second", "web")
					b.says(at, "one")
				} else {
					b.carriesNow(out, "second")
					b.says(at, "")
				}
				if c.stays && out.Live.Sums()[key] != before.Live.Sums()[key] {
					t.Errorf("live is %x", out.Live.Sums()[key])
				}
				b.says(other, "two")
				b.take(b.newAgent(""))
				b.proved(out)
				if out = b.sendItems(set); out.Reloaded {
					t.Error("reloaded for what is live")
				}
			}
			if out = b.send(wants(b.node(), changed(web, idle(time.Minute)), second)); len(out.Refused) > 0 || out.Live.Digest() != out.Wanted.Digest() {
				t.Errorf("once it is right: %+v", out)
			}
			b.says(at, "one")
		})
	}
}

// Kubernetes gives what a Service gives up to another one at once: of the older version,
// only those ports stay that are as they are wanted. The others say so.
func TestS18_AnOlderVersionStaysPortByPort(t *testing.T) {
	for name, bad := range map[string]func(t testing.TB, web *lb.Service) lb.Item{
		"newer than this program":    func(t testing.TB, web *lb.Service) lb.Item { return newer(itemOf(t, web)) },
		"not what the engine can do": func(t testing.TB, web *lb.Service) lb.Item { return itemOf(t, changed(web, sendsProxyV2)) },
		"refused by the daemon":      func(t testing.TB, web *lb.Service) lb.Item { return itemOf(t, changed(web, idle(7*time.Second))) },
	} {
		t.Run(name, func(t *testing.T) {
			b := newBox(t)
			b.refusesSevenSeconds()
			same, moved, gone, fresh := public(t), public(t), public(t), public(t)
			web := b.web("web", "one", same, moved, gone)
			key := lb.ServiceKey(web.ID)
			before := b.send(wants(b.node(), web))
			given, other := b.web("given", "two", gone), b.web("other", "three", moved).Frontends[0].NodePort
			given.Frontends[0].NodePort = frontendAt(t, web, moved).NodePort // says "one", as web's did
			next := changed(web, func(s *lb.Service) {
				frontendAt(t, s, moved).NodePort = other
				frontendAt(t, s, gone).Listener.Port = fresh.Port()
				slices.SortFunc(s.Frontends, func(a, b lb.Frontend) int { return a.Listener.Compare(b.Listener) })
			})
			set := encoded(t, wants(b.node(), next, given)).With(bad(t, next))
			out := b.sendItems(set)
			for range 2 { // also for an agent that did not see it come
				lacks := map[uint16]bool{moved.Port(): true, fresh.Port(): true}
				for i, r := range out.Refused {
					if r.Key != key || !r.OlderStays || r.OfItem() != (i == 0) || i > 0 && !lacks[r.Listener.Port] {
						t.Errorf("%+v", r)
					}
				}
				if len(out.Refused) != 3 || out.Live.Sums()[key] != before.Live.Sums()[key] {
					t.Errorf("%+v", out)
				}
				b.carriesNow(out, "given", "web")
				b.says(same, "one")
				b.says(gone, "one") // of the other Service
				b.says(moved, "")
				b.says(fresh, "")
				if text := b.text(web); strings.Contains(text, fmt.Sprint(":", gone.Port())) {
					t.Errorf("it has what is another's:\n%s", text)
				}
				b.take(b.newAgent(""))
				b.proved(out)
				if out = b.sendItems(set); out.Reloaded {
					t.Error("reloaded for what is live")
				}
			}
			// A port that is wanted as it was comes back, though the rest is as bad as before.
			back := changed(next, func(s *lb.Service) { frontendAt(t, s, moved).NodePort = frontendAt(t, web, moved).NodePort })
			given.Frontends[0].NodePort = other
			out = b.sendItems(encoded(t, wants(b.node(), back, given)).With(bad(t, back)))
			if len(out.Refused) != 2 || out.Refused[1].Listener.Port != fresh.Port() {
				t.Errorf("%+v", out)
			}
			b.says(moved, "one")
			b.says(gone, "three")
			if out = b.send(wants(b.node(), changed(back, idle(time.Minute)), given)); len(out.Refused) > 0 || !out.Proved {
				t.Errorf("once it is right: %+v", out)
			}
			for _, at := range []netip.AddrPort{same, moved, fresh} {
				b.says(at, "one")
			}
		})
	}
}

func frontendAt(t testing.TB, s *lb.Service, at netip.AddrPort) *lb.Frontend {
	t.Helper()
	i := slices.IndexFunc(s.Frontends, func(f lb.Frontend) bool { return f.Listener.Port == at.Port() })
	if i < 0 {
		t.Fatal(at)
	}
	return &s.Frontends[i]
}

// A version that stays goes on with the certificate that it shows, and with the nodes
// that it names and that are still there.
func TestAnOlderVersionKeepsWhatItRefersTo(t *testing.T) {
	b := newBox(t)
	at := public(t)
	old, renewed := certificateOf(t, "old.example"), certificateOf(t, "new.example")
	web := changed(b.web("web", "one", at), func(s *lb.Service) {
		s.Frontends[0].Settings.Certificate = old.Name()
		s.IPv4.Targets = lb.Targets{Nodes: []lb.Target{{Node: "n1"}, {Node: "n2"}}}
	})
	n2 := lb.Node{Name: "n2", IPv4: netip.MustParseAddr("198.51.100.131")}
	b.send(&lb.Config{Nodes: []lb.Node{b.node(), n2}, Services: []*lb.Service{web}, Certificates: []*lb.Certificate{old}})
	bad := wants(b.node(), changed(web, func(s *lb.Service) {
		s.Frontends[0].Settings.Certificate, s.IPv4.Targets = renewed.Name(), lb.Targets{All: true}
		sendsProxyV2(s)
	}))
	bad.Certificates = []*lb.Certificate{renewed}
	for range 2 {
		out := b.send(bad)
		if r := b.one(out.Refused, lb.RefusedByEngine, "PROXY"); !r.OlderStays {
			t.Errorf("%+v", r)
		}
		b.carriesNow(out, "web")
		if name, text := b.served(at); name != "old.example" || text != "one" {
			t.Errorf("served %q with the certificate of %q", text, name)
		}
		if _, live := out.Live.Sums()[lb.CertificateKey(old.Name())]; !live {
			t.Errorf("live: %v", out.Live)
		}
		b.take(b.newAgent(""))
	}
}

// A newer manager says more of what every Service depends on: what was known of it
// stays as long as it is the same, so that an older host goes on.
func TestWhatServicesDependOnStays(t *testing.T) {
	b := newBox(t)
	at := public(t)
	cert := certificateOf(t, "web.example")
	cfg := wants(b.node(), changed(b.web("web", "one", at), func(s *lb.Service) { s.Frontends[0].Settings.Certificate = cert.Name() }))
	cfg.Certificates = []*lb.Certificate{cert}
	set := encoded(t, cfg)
	before := b.sendItems(set)
	node, shown := lb.NodeKey("n1"), lb.CertificateKey(cert.Name())
	more := set.With(newer(itemAt(t, set, node)), newer(itemAt(t, set, shown)))
	for range 2 { // also for an agent that did not see it come
		out := b.sendItems(more)
		if len(out.Refused) != 2 || out.Reloaded || out.Live.Digest() != before.Live.Digest() {
			t.Errorf("%+v", out)
		}
		for _, r := range out.Refused {
			if r.Reason != lb.RefusedUnknown || !r.OlderStays {
				t.Errorf("%+v", r)
			}
		}
		if _, text := b.served(at); text != "one" {
			t.Errorf("served %q", text)
		}
		b.take(b.newAgent(""))
	}
	moved := encoded(t, wants(lb.Node{Name: "n1", IPv4: netip.MustParseAddr("198.51.100.131")}))
	out := b.sendItems(set.With(newer(itemAt(t, moved, node))))
	if r := b.one(out.Refused, lb.RefusedUnknown, "upgrade it on this host"); r.Key != node || r.OlderStays {
		t.Errorf("a node that is elsewhere by now: %+v", r)
	}
}
