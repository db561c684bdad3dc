package admit

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/external-lb/external-lb/internal/engine"
	"github.com/external-lb/external-lb/internal/lb"
	"github.com/external-lb/external-lb/internal/lb/lbtest"
)

var compare = cmp.Options{cmpopts.EquateComparable(netip.Addr{}, netip.AddrPort{}, netip.Prefix{}), cmpopts.EquateEmpty(), cmp.Comparer((*lb.Certificate).Equal)}

var (
	someRanges = rapid.SampledFrom([]PortRange{{1, 65535}, {80, 80}, {22, 443}, {30000, 31000}, {31001, 32767}, {30080, 30080}})
	somePorts  = rapid.OneOf(rapid.Just[[]PortRange](nil), rapid.SliceOfN(someRanges, 1, 3))
	networksOf = func(all ...string) *rapid.Generator[[]netip.Prefix] {
		return rapid.OneOf(rapid.Just[[]netip.Prefix](nil), rapid.SliceOfN(rapid.SampledFrom(prefixes(all...)), 1, 3))
	}
)

func drawRules(t *rapid.T) *Rules {
	r := &Rules{
		Addresses: networksOf("192.0.2.0/29", "192.0.2.0/24", "2001:db8::/125", "0.0.0.0/0", "::/0").Draw(t, "addresses"),
		Pods:      networksOf("10.244.0.0/29", "10.244.0.0/16", "10.0.0.0/8", "fd44::/125", "fd44::/16").Draw(t, "pods"),
		Ports:     somePorts.Draw(t, "ports"), OwnPorts: somePorts.Draw(t, "own ports"),
		RouterIDs:  rapid.SampledFrom([][]int{nil, {1, 2, 3}}).Draw(t, "routers"),
		Interfaces: rapid.SampledFrom([][]string{nil, {"eth0"}}).Draw(t, "interfaces"),
		Sources:    rapid.SampledFrom([][]netip.Addr{nil, addresses("192.0.2.10", "192.0.2.9"), addresses("2001:db8::10", "10.0.0.1")}).Draw(t, "sources"),
	}
	r.Backends = rapid.SliceOfN(rapid.Custom(func(t *rapid.T) Backends {
		return Backends{Networks: networksOf("10.0.0.0/30", "10.0.0.4/31", "fd00::/126", "fd00::4/126", "0.0.0.0/0", "::/0").Draw(t, "networks"), Ports: somePorts.Draw(t, "ports")}
	}), 0, 3).Draw(t, "backends")
	if len(r.Backends) == 0 {
		r.Backends = nil
	}
	r.Held = rapid.SliceOfN(rapid.Custom(func(t *rapid.T) Held {
		return Held{
			Address:  rapid.SampledFrom([]netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified(), netip.MustParseAddr("192.0.2.1")}).Draw(t, "at"),
			Port:     rapid.SampledFrom([]uint16{22, 53, 80}).Draw(t, "port"),
			Protocol: rapid.SampledFrom([]lb.Protocol{lb.TCP, lb.UDP}).Draw(t, "protocol"),
		}
	}), 0, 2).Draw(t, "held")
	if err := r.Validate(); err != nil {
		t.Fatal(err)
	}
	return r
}

// drawMachine has some of the addresses that nodes or listeners have, too.
func drawMachine(t *rapid.T) Machine {
	m := Machine{Addresses: map[netip.Addr]bool{}}
	for _, a := range []string{"10.0.0.1", "10.0.0.2", "10.244.0.1", "fd00::1", "192.0.2.1", "2001:db8::1"} {
		if rapid.IntRange(0, 3).Draw(t, "own") == 0 {
			m.Addresses[netip.MustParseAddr(a)] = true
		}
	}
	return m
}

// drawParts is a model as somebody with the key of a host may send it.
func drawParts(t *rapid.T) map[lb.Key]any {
	cfg := lbtest.Config().Draw(t, "config")
	for i := range cfg.Nodes {
		switch rapid.IntRange(0, 9).Draw(t, "node is") {
		case 0: // at a listener's address, perhaps
			cfg.Nodes[i].IPv4 = lbtest.Address(false).Draw(t, "at")
		case 1:
			cfg.Nodes[i].IPv6 = netip.MustParseAddr(rapid.SampledFrom([]string{"64:ff9b::10.0.0.1", "64:ff9b::127.0.0.1", "2002:a00:1::1", "::10.0.0.9"}).Draw(t, "form"))
		}
	}
	for _, s := range cfg.Services {
		for i := range s.Frontends {
			if rapid.IntRange(0, 4).Draw(t, "hostile") == 0 {
				s.Frontends[i].NodePort = rapid.SampledFrom([]uint16{22, 80, 2379, 10250, HealthPort, 30080}).Draw(t, "nodePort")
			}
			if h := &s.Frontends[i].Settings.HealthCheck; h.Type != lb.CheckNone && rapid.IntRange(0, 9).Draw(t, "check") == 0 {
				h.Port = 10250
			}
		}
	}
	parts := lbtest.Parts(cfg)
	for _, key := range slices.Sorted(maps.Keys(parts)) {
		switch rapid.IntRange(0, 19).Draw(t, "part") {
		case 0:
			parts[key] = fmt.Errorf("%s: bad", key)
		case 1:
			delete(parts, key)
		}
	}
	return parts
}

func property(t *rapid.T) {
	r, m, parts := drawRules(t), drawMachine(t), drawParts(t)
	before := fmt.Sprintf("%+v", parts)
	got := r.Admit(parts, m)
	if fmt.Sprintf("%+v", parts) != before {
		t.Fatal("the parts are changed")
	}
	wantListeners(t, r, got.Config)
	wantBackends(t, r, m, got.Config)
	wantOthers(t, r, m, got.Config)
	wantEverything(t, parts, got)
	if diff := cmp.Diff(got, r.Admit(maps.Clone(parts), m), compare); diff != "" {
		t.Fatalf("again (-once +again):\n%s", diff)
	}
	wantIndependence(t, r, m, parts, got)
}

func TestWhatIsAdmitted(t *testing.T) { rapid.Check(t, property) }

func FuzzAdmit(f *testing.F) { lbtest.Fuzz(f, property) }

// wantListeners checks where is listened, by the words of the rules.
func wantListeners(t *rapid.T, r *Rules, cfg *lb.Config) {
	seen := map[lb.Listener]bool{}
	for _, s := range cfg.Services {
		if err := lbtest.InBounds(s); err != nil {
			t.Fatal(err)
		}
		for _, f := range s.Frontends {
			l := f.Listener
			if from := *f.Settings.Source.Of(l.Address.Is4()); from.IsValid() && (!from.IsSingleIP() || !slices.Contains(r.Sources, from.Addr())) {
				t.Fatalf("%s: nodes are connected to from %s", l, from)
			}
			switch {
			case seen[l]:
				t.Fatalf("%s twice", l)
			case len(r.Addresses) > 0 && !inside(r.Addresses, l.Address), len(r.Ports) > 0 && !within(r.Ports, l.Port):
				t.Fatalf("%s is not in the rules", l)
			}
			for _, h := range r.Held {
				everywhere := h.Address == netip.IPv6Unspecified() || h.Address == netip.IPv4Unspecified() && l.Address.Is4()
				if h.Port == l.Port && h.Protocol == l.Protocol && (everywhere || h.Address == l.Address) {
					t.Fatalf("%s is held", l)
				}
			}
			seen[l] = true
		}
	}
}

// wantBackends checks what is sent, as an engine would send it.
func wantBackends(t *rapid.T, r *Rules, m Machine, cfg *lb.Config) {
	listened := map[netip.AddrPort]bool{}
	for _, s := range cfg.Services {
		for _, f := range s.Frontends {
			listened[netip.AddrPortFrom(f.Listener.Address, f.Listener.Port)] = true
		}
	}
	nodes := engine.NewNodes(cfg.Nodes)
	for _, s := range cfg.Services {
		for _, f := range engine.Resolve(s, nodes).Frontends {
			for _, b := range f.Backends {
				at := b.Address.Addr()
				if f.Pods {
					if never(at) != "" || !inside(r.Pods, at) || m.Addresses[at] || listened[b.Address] || slices.Contains(cfg.Addresses, at) || f.Settings.HealthCheck.Port != 0 {
						t.Fatalf("%s sends to the pod %s", f.Listener, b.Address)
					}
					continue
				}
				wantSendable(t, r, m, at, b.Address.Port(), f.Direct)
				for _, check := range []uint16{f.NodePort, f.HealthCheckNodePort, f.Settings.HealthCheck.Port} {
					if check != 0 && check != HealthPort {
						wantSendable(t, r, m, at, check, false)
					}
					if listened[netip.AddrPortFrom(at, check)] {
						t.Fatalf("%s is checked at %s:%d, where is listened", f.Listener, at, check)
					}
				}
				if !f.Direct && listened[b.Address] || slices.Contains(cfg.Addresses, at) {
					t.Fatalf("%s sends to %s, which is here", f.Listener, b.Address)
				}
			}
		}
	}
}

func wantSendable(t *rapid.T, r *Rules, m Machine, a netip.Addr, port uint16, direct bool) {
	own := m.Addresses[a] || slices.ContainsFunc(plain(a), func(p netip.Addr) bool { return m.Addresses[p] })
	switch {
	case never(a) != "":
		t.Fatalf("%s is %s", a, never(a))
	case own && !within(r.OwnPorts, port):
		t.Fatalf("%s:%d is the host's own", a, port)
	case own:
	case len(r.Backends) == 0 && !direct && (port < 30000 || port > 32767):
		t.Fatalf("%s:%d is sent to by default", a, port)
	case direct && !within(Reserved, port): // if the network is among them
	case len(r.Backends) > 0 && !slices.ContainsFunc(r.Backends, func(b Backends) bool {
		return (len(b.Networks) == 0 || inside(b.Networks, a)) && (len(b.Ports) == 0 && port >= 30000 && port <= 32767 || within(b.Ports, port))
	}):
		t.Fatalf("%s:%d is in no rule", a, port)
	}
}

func wantOthers(t *rapid.T, r *Rules, m Machine, cfg *lb.Config) {
	for _, a := range cfg.Addresses {
		if m.Addresses[a] || never(a) != "" || len(r.Addresses) > 0 && !inside(r.Addresses, a) {
			t.Fatalf("%s is brought", a)
		}
	}
	if v := cfg.VRRP; v != nil && (len(r.RouterIDs) > 0 && !slices.Contains(r.RouterIDs, int(v.RouterID)) || len(r.Interfaces) > 0 && !slices.Contains(r.Interfaces, v.Interface)) {
		t.Fatalf("%+v", v)
	}
	sorted := *cfg
	sorted.Nodes, sorted.Services, sorted.Addresses = slices.Clone(cfg.Nodes), slices.Clone(cfg.Services), slices.Clone(cfg.Addresses)
	lbtest.Sort(&sorted)
	if diff := cmp.Diff(&sorted, cfg, compare); diff != "" {
		t.Fatalf("not sorted:\n%s", diff)
	}
}

// wantEverything checks that each part, and each listener, is carried or refused, and
// never both.
func wantEverything(t *rapid.T, parts map[lb.Key]any, got Admitted) {
	carried := lbtest.Parts(got.Config)
	refused := map[lb.Key]map[lb.Listener]bool{}
	for _, f := range got.Refused {
		if refused[f.Key][f.Listener] || f.Message == "" || f.Reason == "" || strings.ContainsAny(f.Message, "\n\r") {
			t.Fatalf("%+v is refused twice, or without words", f)
		}
		if refused[f.Key] == nil {
			refused[f.Key] = map[lb.Listener]bool{}
		}
		refused[f.Key][f.Listener] = true
	}
	for key := range carried {
		if parts[key] == nil {
			t.Fatalf("%s is carried and was not sent", key)
		}
	}
	for key, part := range parts {
		whole := refused[key][lb.Listener{}]
		s, isService := part.(*lb.Service)
		if !isService || whole {
			if (carried[key] != nil) == whole || whole && len(refused[key]) > 1 {
				t.Fatalf("%s: carried %v, refused %v", key, carried[key], refused[key])
			}
			continue
		}
		left := map[lb.Listener]bool{}
		if c, ok := carried[key].(*lb.Service); ok {
			for _, f := range c.Frontends {
				left[f.Listener] = true
			}
		}
		for _, f := range s.Frontends {
			if left[f.Listener] == refused[key][f.Listener] {
				t.Fatalf("%s %s: carried %v, refused %v", key, f.Listener, left[f.Listener], refused[key][f.Listener])
			}
		}
		if len(left)+len(refused[key]) != len(s.Frontends) {
			t.Fatalf("%s: more is carried or refused than was sent", key)
		}
	}
}

// wantIndependence takes out what is refused and nobody names: nothing else changes.
func wantIndependence(t *rapid.T, r *Rules, m Machine, parts map[lb.Key]any, got Admitted) {
	named := map[lb.Key]bool{}
	claimed := map[netip.Addr]bool{} // by nodes, from Services that are listened for there
	for _, part := range parts {
		if n, ok := part.(lb.Node); ok {
			for _, a := range []netip.Addr{n.IPv4, n.IPv6} {
				claimed[a] = true
				for _, p := range plain(a) {
					claimed[p] = true
				}
			}
		}
	}
	for key, part := range parts {
		if s, ok := part.(*lb.Service); ok {
			named[key] = slices.ContainsFunc(s.Frontends, func(f lb.Frontend) bool { return claimed[f.Listener.Address] })
			for _, n := range slices.Concat(s.IPv4.Targets.Nodes, s.IPv6.Targets.Nodes) {
				named[lb.NodeKey(n.Node)] = true
			}
		}
	}
	carried := lbtest.Parts(got.Config)
	left := maps.Clone(parts)
	maps.DeleteFunc(left, func(key lb.Key, _ any) bool { return carried[key] == nil && !named[key] })
	again := r.Admit(left, m)
	if diff := cmp.Diff(got.Config, again.Config, compare); diff != "" {
		t.Fatalf("without what is refused (-with +without):\n%s", diff)
	}
	ofThose := func(all []lb.Refusal) []lb.Refusal {
		return slices.DeleteFunc(slices.Clone(all), func(f lb.Refusal) bool { _, there := left[f.Key]; return !there })
	}
	if diff := cmp.Diff(ofThose(got.Refused), ofThose(again.Refused), compare); diff != "" {
		t.Fatalf("without what is refused (-with +without):\n%s", diff)
	}
}

// gate draws a model, changes bytes of it on the way, and decodes what arrives.
func gate(t *rapid.T) {
	cfg := lbtest.Config().Draw(t, "config")
	set, err := new(lb.Encoder).Encode(cfg)
	if err != nil {
		t.Fatal(err)
	}
	parts := map[lb.Key]any{}
	for it := range set.All() {
		data := slices.Clone(it.Data)
		for range rapid.SampledFrom([]int{0, 0, 0, 1, 2, 5}).Draw(t, "changes") {
			if i := rapid.IntRange(0, len(data)).Draw(t, "at"); i == len(data) {
				data = append(data, rapid.Byte().Draw(t, "more"))
			} else {
				data[i] = rapid.Byte().Draw(t, "byte")
			}
		}
		part, err := lb.Decode(lb.NewItem(it.Key, data))
		if parts[it.Key] = part; err != nil {
			parts[it.Key] = err
		}
	}
	r, m := drawRules(t), drawMachine(t)
	got := r.Admit(parts, m)
	for _, part := range lbtest.Parts(got.Config) {
		if err := lbtest.InBounds(part); err != nil {
			t.Fatal(err)
		}
	}
	wantListeners(t, r, got.Config)
	wantBackends(t, r, m, got.Config)
	wantOthers(t, r, m, got.Config)
	wantEverything(t, parts, got)
	for key, part := range parts {
		if err, isError := part.(error); isError && !slices.ContainsFunc(got.Refused, func(f lb.Refusal) bool { return f.Key == key && f.OfItem() && f.Message == err.Error() }) {
			t.Fatalf("%s is not refused with %v", key, err)
		}
	}
}

// Whatever arrives, what is carried is in the model's bounds and in the owner's rules,
// and what is wrong is refused by its item.
func TestWhatArrivesIsDecodedAndAdmitted(t *testing.T) { rapid.Check(t, gate) }

func FuzzGate(f *testing.F) { lbtest.Fuzz(f, gate) }
