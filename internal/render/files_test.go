package render_test

import (
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/external-lb/external-lb/internal/engine"
	"github.com/external-lb/external-lb/internal/engine/lvs"
	"github.com/external-lb/external-lb/internal/lb"
	"github.com/external-lb/external-lb/internal/render"
)

// onAllNodes is a Service of the model with one port that every node answers.
func onAllNodes(t testing.TB, name, address string) *lb.Service {
	t.Helper()
	f := tcp(address)
	everybody := lb.Family{Targets: lb.Targets{All: true}, Clients: lb.Clients{Everybody: true}}
	return &lb.Service{
		ID: serviceID(t, "default", name, uid), IPv4: everybody, IPv6: everybody,
		Frontends: []lb.Frontend{{Listener: f.Listener, NodePort: 30080, Settings: f.Settings}},
	}
}

// onNodes is one that some nodes answer, by name.
func onNodes(t testing.TB, name, address string, nodes ...lb.Target) *lb.Service {
	t.Helper()
	s := onAllNodes(t, name, address)
	s.IPv4.Targets = lb.Targets{Nodes: nodes}
	return s
}

func nodesOf(addresses map[string]string) []lb.Node {
	var all []lb.Node
	for _, name := range slices.Sorted(maps.Keys(addresses)) {
		all = append(all, lb.Node{Name: name, IPv4: netip.MustParseAddr(addresses[name])})
	}
	return all
}

// made are what the files of a Config are made of, by path.
func madeOf(t testing.TB, cfg *lb.Config, sums map[lb.Key]lb.Sum) map[string]lb.Sum {
	t.Helper()
	files, refused := newRenderer(t).Files(cfg, func(key lb.Key) lb.Sum { return sums[key] })
	if len(refused) > 0 {
		t.Fatal(refused)
	}
	all := map[string]lb.Sum{}
	for _, f := range files {
		all[f.Path] = f.From
	}
	return all
}

// different are the paths that are in one only, or made of something else.
func different(a, b map[string]lb.Sum) []string {
	var out []string
	for p := range a {
		if a[p] != b[p] {
			out = append(out, p)
		}
	}
	for p := range b {
		if _, both := a[p]; !both {
			out = append(out, p)
		}
	}
	slices.Sort(out)
	return out
}

func TestAServiceOfTheModelFindsItsNodes(t *testing.T) {
	cfg := &lb.Config{
		Nodes: nodesOf(map[string]string{"n1": "10.0.0.1", "n2": "10.0.0.2"}),
		Services: []*lb.Service{
			onAllNodes(t, "all", "192.0.2.1:80"),
			onNodes(t, "local", "192.0.2.1:81", lb.Target{Node: "gone"}, lb.Target{Node: "n2", Weight: 3}),
		},
	}
	set, refused, problems, err := newRenderer(t).Set(cfg)
	if err != nil || len(refused) > 0 || len(problems) > 0 {
		t.Fatal(refused, problems, err)
	}
	want := mustRender(t, config(
		service(t, "all", tcp("192.0.2.1:80", "10.0.0.1:30080", "10.0.0.2:30080")),
		service(t, "local", weight(tcp("192.0.2.1:81", "10.0.0.2:30080"), 3))))
	if d := cmp.Diff(contents(want), contents(set)); d != "" {
		t.Error(d)
	}
}

func weight(f engine.Frontend, w uint16) engine.Frontend {
	f.Backends[0].Weight = w
	return f
}

// Only what has changed has to be made again.
func TestFromChangesWithWhatAFileIsMadeOf(t *testing.T) {
	nodes := map[string]string{"n1": "10.0.0.1", "n2": "10.0.0.2"}
	all, some := onAllNodes(t, "all", "192.0.2.1:80"), onNodes(t, "some", "192.0.2.1:81", lb.Target{Node: "n1"})
	base := func() (*lb.Config, map[lb.Key]lb.Sum) {
		return &lb.Config{Nodes: nodesOf(nodes), Services: []*lb.Service{all, some}}, map[lb.Key]lb.Sum{lb.ServiceKey(all.ID): {1}, lb.ServiceKey(some.ID): {2}}
	}
	pathAll, pathSome := engine.Path(all.ID), engine.Path(some.ID)
	for name, c := range map[string]struct {
		change func(*lb.Config, map[lb.Key]lb.Sum)
		want   []string
	}{
		"nothing": {func(*lb.Config, map[lb.Key]lb.Sum) {}, nil},
		"an item": {func(_ *lb.Config, sums map[lb.Key]lb.Sum) { sums[lb.ServiceKey(some.ID)] = lb.Sum{3} }, []string{pathSome}},
		"a node more": {func(cfg *lb.Config, _ map[lb.Key]lb.Sum) {
			cfg.Nodes = append(cfg.Nodes, nodesOf(map[string]string{"n3": "10.0.0.3"})...)
		}, []string{pathAll}},
		"a node's address":    {func(cfg *lb.Config, _ map[lb.Key]lb.Sum) { cfg.Nodes[0].IPv4 = netip.MustParseAddr("10.0.0.9") }, []string{pathAll, pathSome}},
		"a node fewer":        {func(cfg *lb.Config, _ map[lb.Key]lb.Sum) { cfg.Nodes = cfg.Nodes[:1] }, []string{pathAll}},
		"a Service fewer":     {func(cfg *lb.Config, _ map[lb.Key]lb.Sum) { cfg.Services = cfg.Services[:1] }, []string{pathSome}},
		"a listener left out": {func(cfg *lb.Config, _ map[lb.Key]lb.Sum) { cfg.Services = []*lb.Service{twice(all), some} }, []string{pathAll}},
		"an address it brings": {func(cfg *lb.Config, _ map[lb.Key]lb.Sum) {
			cfg.Addresses = append(cfg.Addresses, netip.MustParseAddr("192.0.2.1"))
		}, nil},
	} {
		cfg, sums := base()
		before := madeOf(t, cfg, sums)
		c.change(cfg, sums)
		if d := cmp.Diff(c.want, different(before, madeOf(t, cfg, sums))); d != "" {
			t.Errorf("%s: %s", name, d)
		}
	}
}

// twice is a Service with a second listener and the same item.
func twice(s *lb.Service) *lb.Service {
	both := *s
	both.Frontends = append(slices.Clone(s.Frontends), s.Frontends[0])
	both.Frontends[1].Listener.Port++
	return &both
}

// Certificates that nobody shows are no files, and what a refused Service would show neither.
func TestFilesOfCertificates(t *testing.T) {
	web, other := certificate(t, "web.example"), certificate(t, "other.example")
	secure := onAllNodes(t, "web", "192.0.2.1:443")
	secure.Frontends[0].Settings.Certificate = web.Name()
	broken := onAllNodes(t, "broken", "192.0.2.1:444")
	broken.Frontends[0].Settings.Certificate, broken.Frontends[0].Settings.Algorithm = other.Name(), lb.NeverQueue
	files, refused := newRenderer(t).Files(&lb.Config{
		Services: []*lb.Service{broken, secure}, Certificates: []*lb.Certificate{web, other},
	}, func(lb.Key) lb.Sum { return lb.Sum{1} })
	if len(refused) != 1 || refused[0].Key != lb.ServiceKey(broken.ID) {
		t.Errorf("refused: %+v", refused)
	}
	var private []render.File
	for _, f := range files {
		if f.Private {
			private = append(private, f)
		}
	}
	if len(private) != 1 || private[0].Key != lb.CertificateKey(web.Name()) || private[0].From != (lb.Sum{1}) || !strings.HasPrefix(private[0].Path, "certs/") {
		t.Errorf("private: %+v", private)
	}
}

// Who may connect is not printed for keepalived, but known to the host's end: it makes
// another file all the same.
func TestWhoMayConnectIsKnownWithLVS(t *testing.T) {
	r, err := render.New(lvs.Engine)
	if err != nil {
		t.Fatal(err)
	}
	made := func(clients lb.Clients, item byte) (lb.Sum, render.Made) {
		t.Helper()
		s := onAllNodes(t, "web", "192.0.2.1:80")
		s.IPv4.Clients = clients
		files, refused := r.Files(&lb.Config{Nodes: nodesOf(map[string]string{"n1": "10.0.0.1"}), Services: []*lb.Service{s}}, func(lb.Key) lb.Sum { return lb.Sum{item} })
		if len(refused) > 0 || len(files) != 2 {
			t.Fatal(files, refused)
		}
		m, err := files[0].Make()
		if err != nil {
			t.Fatal(err)
		}
		return files[0].From, m
	}
	everybody, before := made(lb.Clients{Everybody: true}, 1)
	some, after := made(lb.Clients{Sources: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}, 2)
	if everybody == some || string(before.Data) != string(after.Data) || string(before.View) == string(after.View) {
		t.Errorf("%s\n%s\n%s\n%s", before.Data, before.View, after.Data, after.View)
	}
}
