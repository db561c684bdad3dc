package host

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/external-lb/external-lb/internal/certificate"
	"github.com/external-lb/external-lb/internal/lb"
)

// newer is an Item with a field that this version does not know.
func newer(it lb.Item) lb.Item {
	data := protowire.AppendVarint(protowire.AppendTag(append([]byte{}, it.Data...), 1000, protowire.VarintType), 1)
	return lb.NewItem(it.Key, data)
}

// itemOf a Service.
func itemOf(t testing.TB, s *lb.Service) lb.Item {
	t.Helper()
	it, ok := encoded(t, &lb.Config{Services: []*lb.Service{s}}).Get(lb.ServiceKey(s.ID))
	if !ok {
		t.Fatal(s.ID)
	}
	return it
}

// refusesSevenSeconds lets nginx refuse what is made of an idle timeout of 7 seconds.
func (b *box) refusesSevenSeconds() {
	b.Helper()
	const mistake = `{{range .Frontends}}{{if eq .IdleTimeout "7s" "7000ms"}}lissen;{{end}}{{end}}`
	b.template("service.conf.tmpl", builtIn(b.T, "service.conf.tmpl")+mistake)
}

// sendsProxyV2 changes a Service in a way that nginx cannot carry.
func sendsProxyV2(s *lb.Service) {
	for i := range s.Frontends {
		s.Frontends[i].Settings.SendProxy = lb.ProxyV2
	}
}

func TestItemsThatSayNothingAreRefused(t *testing.T) {
	b := newBox(t)
	at := public(t)
	set := encoded(t, wants(b.node(), b.web("web", "one", at)))
	for name, c := range map[string]struct {
		item   lb.Item
		reason lb.RefusalReason
		words  string
	}{
		"no message":       {lb.NewItem("node/n2", []byte{0xff}), lb.RefusedInvalid, "node n2: its bytes cannot be read"},
		"another's key":    {lb.NewItem("node/n2", itemAt(t, set, lb.NodeKey("n1")).Data), lb.RefusedInvalid, "node n2: it is node n1"},
		"too long":         {lb.NewItem("node/n2", make([]byte, 2000)), lb.RefusedInvalid, "more than 1024 bytes"},
		"an unknown kind":  {lb.NewItem("pool/a", []byte("x")), lb.RefusedUnknown, `an item of the kind "pool"`},
		"an unknown field": {newer(itemAt(t, encoded(t, wants(lb.Node{Name: "n5", IPv4: b.node().IPv4})), lb.NodeKey("n5"))), lb.RefusedUnknown, "upgrade it on this host"},
	} {
		out := b.sendItems(set.With(c.item))
		if r := b.one(out.Refused, c.reason, c.words); r.Key != c.item.Key || !r.OfItem() || r.OlderStays {
			t.Errorf("%s: %+v", name, r)
		}
		b.carriesNow(out, "web")
		if _, live := out.Live[c.item.Key]; live {
			t.Errorf("%s: it is live", name)
		}
		if st := b.look(); len(st.Refused) != 1 || st.Refused[0] != out.Refused[0] {
			t.Errorf("%s: the status says %+v", name, st.Refused)
		}
	}
	if out := b.sendItems(set); len(out.Refused) > 0 {
		t.Errorf("%+v", out.Refused)
	}
	b.says(at, "one")
}

func itemAt(t testing.TB, set *lb.Set, key lb.Key) lb.Item {
	t.Helper()
	it, ok := set.Get(key)
	if !ok {
		t.Fatal(key)
	}
	return it
}

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
				if c.stays && out.Live[key] != before.Live[key] {
					t.Errorf("live is %x", out.Live[key])
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
				if len(out.Refused) != 3 || out.Live[key] != before.Live[key] {
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
		if _, live := out.Live[lb.CertificateKey(old.Name())]; !live {
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

// Something else holds one port of a Service: its others are carried.
func TestAListenerThatCannotBeOpened(t *testing.T) {
	b := newBox(t)
	good, busy, absent := public(t), public(t), netip.MustParseAddrPort("192.0.2.9:8080")
	release := taken(t, busy.String())
	cfg := wants(b.node(), b.web("web", "one", good, busy, absent))
	out := b.send(cfg)
	want := map[netip.AddrPort]string{
		busy:   "tcp " + busy.String() + " is taken by host.test, which listens on " + busy.String(),
		absent: "address 192.0.2.9 is not on this host: add it to an interface",
	}
	if len(out.Refused) != len(want) {
		t.Fatalf("%+v", out.Refused)
	}
	for _, r := range out.Refused {
		at := netip.AddrPortFrom(r.Listener.Address, r.Listener.Port)
		if r.OfItem() || r.Reason != lb.RefusedUnavailable || want[at] == "" || !strings.HasPrefix(r.Message, want[at]) {
			t.Errorf("%+v", r)
		}
	}
	b.carriesNow(out, "web")
	b.says(good, "one")
	release()
	if out = b.send(cfg); len(out.Refused) != 1 || !out.Reloaded {
		t.Errorf("%+v", out)
	}
	b.says(busy, "one")
	b.says(good, "one")
}

// Somebody takes a port after the probe: the daemon finds it.
func TestAListenerThatIsTakenAtTheLastMoment(t *testing.T) {
	b := newBox(t)
	good, busy := public(t), public(t)
	b.unit.at = func(step string) {
		if step == "swap" {
			b.unit.at = func(string) {}
			taken(t, busy.String())
		}
	}
	out := b.send(wants(b.node(), b.web("web", "one", good, busy)))
	if r := b.one(out.Refused, lb.RefusedUnavailable, "is taken by host.test"); r.Listener.Port != busy.Port() {
		t.Errorf("%+v", r)
	}
	b.says(good, "one")
}

func TestWhatTheOwnerDoesNotAdmit(t *testing.T) {
	b := newBox(t)
	fine := public(t)
	b.more = `admit:
  addresses: [198.51.100.0/28]
  backends: [{networks: [198.51.100.128/25]}]
  held: [{address: 0.0.0.0, port: 2222, protocol: TCP, by: sshd}]
`
	b.take(b.newAgent(""))
	at := func(text string) netip.AddrPort { return netip.MustParseAddrPort(text) }
	kubelet := changed(b.web("kubelet", "x", public(t)), func(s *lb.Service) { s.Frontends[0].NodePort = 10250 })
	cfg := wants(b.node(), b.web("fine", "one", fine), b.web("outside", "x", at("198.51.100.99:80")), b.web("ssh", "x", at("198.51.100.1:2222")),
		kubelet, b.web("part", "two", at("198.51.100.2:8080"), at("198.51.100.77:8080")))
	cfg.Nodes = append(cfg.Nodes, lb.Node{Name: "n2", IPv4: netip.MustParseAddr("203.0.113.1")}, lb.Node{Name: "n3", IPv4: netip.MustParseAddr("198.51.100.1")})
	out := b.send(cfg)
	words := map[lb.Key]string{
		lb.NodeKey("n2"): "admit.backends", lb.NodeKey("n3"): "an address of this host itself",
		"service/default/outside/uid-outside": "admit.addresses", "service/default/ssh/uid-ssh": "sshd",
		"service/default/kubelet/uid-kubelet": "nodePort 10250", "service/default/part/uid-part": "198.51.100.77 is not in admit.addresses",
	}
	if len(out.Refused) != len(words) {
		t.Errorf("%+v", out.Refused)
	}
	for _, r := range out.Refused {
		if r.Reason != lb.RefusedNotAdmitted || words[r.Key] == "" || !strings.Contains(r.Message, words[r.Key]) {
			t.Errorf("%+v", r)
		}
	}
	b.carriesNow(out, "fine", "part")
	b.says(fine, "one")
	b.says(at("198.51.100.2:8080"), "two")
	if text := b.text(cfg.Services[0]); strings.Contains(text, "203.0.113.1") || strings.Contains(text, "server 198.51.100.1:") {
		t.Errorf("it sends to what is not admitted:\n%s", text)
	}
}

func certificateOf(t testing.TB, name string) *lb.Certificate {
	t.Helper()
	f := certificateFile(t, name)
	c, err := certificate.ParsePrinted(f.Data)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// Whatever a delivery does, others cannot read a key: neither where the model is, nor
// where the files are.
func TestKeysOfTheModelAreReadByNobodyElse(t *testing.T) {
	onBoxes(t, func(b *box) {
		at := public(b)
		old, renewed := certificateOf(b, "old.example"), certificateOf(b, "new.example")
		web := b.web("web", "one", at)
		seen := 0
		b.unit.at = func(string) { seen = max(seen, b.onlyOwnersRead()) }
		for _, c := range []*lb.Certificate{old, renewed} {
			cfg := wants(b.node(), changed(web, func(s *lb.Service) { s.Frontends[0].Settings.Certificate = c.Name() }))
			cfg.Certificates = []*lb.Certificate{c}
			b.send(cfg)
			if name, text := b.served(at); "served "+name != map[*lb.Certificate]string{old: "served old.example", renewed: "served new.example"}[c] || text != "one" {
				b.Errorf("served %q with the certificate of %q", text, name)
			}
		}
		if now := b.onlyOwnersRead(); seen < 4 || now != 3 { // the item, and the file of two generations
			b.Errorf("saw %d files with a key, and %d are there now", seen, now)
		}
		b.send(wants(b.node()))
		b.send(wants(b.node(), web))
		if now := b.onlyOwnersRead(); now != 0 {
			b.Errorf("%d files with a key are left in %s", now, filepath.Base(b.agent.settings.Root))
		}
	})
}
