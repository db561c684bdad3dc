package host

import (
	"net/netip"
	"path/filepath"
	"strings"
	"testing"

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
		if _, live := out.Live.Sums()[c.item.Key]; live {
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
