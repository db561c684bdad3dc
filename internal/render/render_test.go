package render_test

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/external-lb/external-lb/internal/engine"
	"github.com/external-lb/external-lb/internal/engine/haproxy"
	"github.com/external-lb/external-lb/internal/fileset"
	"github.com/external-lb/external-lb/internal/lb"
)

func TestPathsAreUniqueAndParsed(t *testing.T) {
	long := strings.Repeat("a", 63)
	ids := []lb.ID{
		serviceID(t, "default", "web", uid),
		serviceID(t, "default", "web", otherUID),
		serviceID(t, "default-web", "a", uid),
		serviceID(t, "default", "web-a", uid),
		serviceID(t, long, long, long),
	}
	seen := map[string]lb.ID{}
	for _, id := range ids {
		for _, path := range []string{engine.Path(id), engine.HTTPPath(id)} {
			if other, twice := seen[path]; twice {
				t.Errorf("%v and %v share %s", id, other, path)
			}
			seen[path] = id
			if _, err := fileset.NewFile(path, nil); err != nil {
				t.Error(err)
			}
			if got, ok := engine.ParsePath(path); !ok || got != id {
				t.Errorf("ParsePath(%s) = %v, %v", path, got, ok)
			}
		}
	}
}

func TestParsePathRefusesWhatPathDoesNotMake(t *testing.T) {
	for _, path := range []string{
		"", "main.conf", "services/", "services/.conf", "services/a.b.conf", "services/a.b.c.d.conf", "services/a.b.c",
		"a.b.c.conf", "services/a.b.C.conf", "services/a..c.conf", "services/../a.b.c.conf", "services/a.b.-.conf",
	} {
		if id, ok := engine.ParsePath(path); ok {
			t.Errorf("ParsePath(%q) = %v", path, id)
		}
	}
}

func TestS16_FragmentSaysWhatItListensOn(t *testing.T) {
	set := mustRender(t, config(service(t, "dns",
		udp("192.0.2.1:53", "10.0.0.1:30053"), tcp("[2001:db8::1]:53"), tcp("192.0.2.1:53", "10.0.0.1:30053"))))
	file, ok := set.Get(engine.Path(serviceID(t, "default", "dns", uid)))
	if !ok || !file.Fragment {
		t.Fatalf("fragment is there: %v, and one: %v", ok, file.Fragment)
	}
	want := []fileset.Socket{
		{Network: "tcp", Address: netip.MustParseAddrPort("192.0.2.1:53")},
		{Network: "udp", Address: netip.MustParseAddrPort("192.0.2.1:53")},
		{Network: "tcp", Address: netip.MustParseAddrPort("[2001:db8::1]:53")},
	}
	got := slices.Clone(file.Listens)
	if d := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })); d != "" {
		t.Error(d)
	}
	if main, ok := set.Get(engine.MainPath); !ok || main.Fragment || main.Listens != nil {
		t.Errorf("%s is there: %v, and stands for the set: %v", engine.MainPath, ok, !main.Fragment)
	}
}

// A name that lives twice must not meet its former life in a zone or upstream.
func TestS33_NewUIDGetsNewNames(t *testing.T) {
	f := with(tcp("192.0.2.1:80", "10.0.0.1:30080"), func(s *lb.Settings) { s.MaxConnectionsPerClient = 1 })
	old := mustRender(t, config(service(t, "web", f)))
	again := &engine.Service{ID: serviceID(t, "default", "web", otherUID), Frontends: []engine.Frontend{f}}
	set := mustRender(t, config(again))
	file, ok := set.Get(engine.Path(again.ID))
	if !ok || strings.Contains(string(file.Data), uid) {
		t.Errorf("want only the new UID in\n%s", file.Data)
	}
	if _, ok := old.Get(engine.Path(again.ID)); ok {
		t.Error("both lives share a path")
	}
}

func TestRenderLeavesOutOnlyWhatCannotBeRendered(t *testing.T) {
	good, bad := service(t, "good", tcp("192.0.2.1:80")), service(t, "bad", frontend(lb.SCTP, "192.0.2.1:81"))
	set, refused, _ := tryRender(t, newRenderer(t), config(bad, good))
	if len(refused) != 1 || refused[0].Key != lb.ServiceKey(bad.ID) || refused[0].Reason != lb.RefusedByEngine || refused[0].Message == "" {
		t.Errorf("refused: %+v", refused)
	}
	if _, ok := set.Get(engine.Path(good.ID)); !ok || set.Len() != 2 {
		t.Errorf("want main.conf and the good Service, got %d files", set.Len())
	}
}

// What the model's types cannot rule out is refused at the last gate.
func TestRenderRefusesWhatNoEngineCanDo(t *testing.T) {
	onEngines(t, testRenderRefuses)
}

func TestRenderRefusesWhatNginxCannotDo(t *testing.T) {
	for name, change := range map[string]func(*lb.Settings){
		"PROXY V2":   func(s *lb.Settings) { s.SendProxy = lb.ProxyV2 },
		"TCP check":  func(s *lb.Settings) { s.HealthCheck.Type = lb.CheckTCP },
		"HTTP check": func(s *lb.Settings) { s.HealthCheck.Type, s.HealthCheck.Path = lb.CheckHTTP, "/" },
	} {
		t.Run(name, func(t *testing.T) {
			wantRefused(t, service(t, "web", with(tcp("192.0.2.1:80", "10.0.0.1:30080"), change)))
		})
	}
}

func TestRenderRefusesWhatHAProxyCannotPrint(t *testing.T) {
	onEngines(t, func(t onEngine) {
		if t.engine != haproxy.Engine {
			return
		}
		for name, node := range map[string]string{
			"a line": "a\nglobal", "a blank": "a b", "nothing": "", "a comment": "a#", "a variable": "${HOME}", "a slash": "a/b", "too long": strings.Repeat("a", 254),
		} {
			t.Run("node named by "+name, func(t onEngine) {
				f := tcp("192.0.2.1:80", "10.0.0.1:30080")
				f.Backends[0].Node = node
				wantRefused(t, service(t, "web", f))
			})
		}
		t.Run("one node twice", func(t onEngine) {
			f := tcp("192.0.2.1:80", "10.0.0.1:30080", "10.0.0.2:30080")
			f.Backends[1].Node = f.Backends[0].Node
			wantRefused(t, service(t, "web", f))
		})
		for name, path := range map[string]string{"a line": "/\nglobal", "no slash": "x", "a blank": "/a b", "a quote": `/"`} {
			t.Run("path with "+name, func(t onEngine) {
				wantRefused(t, service(t, "web", with(tcp("192.0.2.1:80", "10.0.0.1:30080"), func(s *lb.Settings) {
					s.HealthCheck.Type, s.HealthCheck.Path = lb.CheckHTTP, path
				})))
			})
		}
		wantRefused(t, service(t, "udp", udp("192.0.2.1:80")))
	})
}

func testRenderRefuses(t onEngine) {
	base := func() engine.Frontend { return tcp("192.0.2.1:80", "10.0.0.1:30080") }
	set := func(change func(*lb.Settings)) engine.Frontend { return with(base(), change) }
	zone := netip.MustParseAddr("fe80::1%eth0; } server { listen 1")
	for name, f := range map[string]engine.Frontend{
		"S13 SCTP":                  frontend(lb.SCTP, "192.0.2.1:80"),
		"unknown protocol":          frontend("tcp; }", "192.0.2.1:80"),
		"port 0":                    tcp("192.0.2.1:0"),
		"S17 backend with port 0":   tcp("192.0.2.1:80", "10.0.0.1:0"),
		"every address":             tcp("0.0.0.0:80"),
		"every address, IPv6":       tcp("[::]:80"),
		"multicast":                 tcp("224.0.0.1:80"),
		"IPv4 in IPv6":              tcp("[::ffff:192.0.2.1]:80"),
		"no address":                {Listener: lb.Listener{Port: 80, Protocol: lb.TCP}, Settings: base().Settings},
		"zone":                      {Listener: lb.Listener{Address: zone, Port: 80, Protocol: lb.TCP}, Settings: base().Settings},
		"backend with a zone":       {Listener: base().Listener, Settings: base().Settings, Backends: []engine.Backend{{Address: netip.AddrPortFrom(zone, 80)}}},
		"range of the other family": from(base(), "2001:db8::/32"),
		"range that is not masked":  from(base(), "192.0.2.1/24"),
		"no range":                  {Listener: base().Listener, Settings: base().Settings, Allow: lb.Clients{Sources: make([]netip.Prefix, 1)}},
		"unknown algorithm":         set(func(s *lb.Settings) { s.Algorithm = "round_robin; }" }),
		"unknown mode":              set(func(s *lb.Settings) { s.Mode = "HTTP3; }" }),
		"HTTP/2 without mode HTTP":  set(func(s *lb.Settings) { s.H2C = true }),
		"redirect without HTTP":     set(func(s *lb.Settings) { s.RedirectToHTTPS = true }),
		"negative body":             set(func(s *lb.Settings) { s.Mode, s.MaxBodyBytes = lb.ModeHTTP, -1 }),
		"PROXY V3":                  set(func(s *lb.Settings) { s.SendProxy = "V3" }),
		"PROXY for UDP":             with(udp("192.0.2.1:80"), func(s *lb.Settings) { s.SendProxy = lb.ProxyV1 }),
		"PROXY from UDP":            with(udp("192.0.2.1:80"), func(s *lb.Settings) { s.AcceptProxy = true }),
		"unknown check":             set(func(s *lb.Settings) { s.HealthCheck.Type = "Ping" }),
		"HTTP check without a path": set(func(s *lb.Settings) { s.HealthCheck.Type = lb.CheckHTTP }),
		"fall 0":                    set(func(s *lb.Settings) { s.HealthCheck.Fall = 0 }),
		"hostile host of a check":   set(func(s *lb.Settings) { s.HealthCheck.Host = "a; }" }),
		"status that is none":       set(func(s *lb.Settings) { s.HealthCheck.Status.To = 1 }),
		"text that a check sends":   set(func(s *lb.Settings) { s.HealthCheck.Send = "PING" }),
		"text that a check expects": set(func(s *lb.Settings) { s.HealthCheck.Expect = "00\n" }),
		"no interval":               set(func(s *lb.Settings) { s.HealthCheck.Interval = 0 }),
		"no connect timeout":        set(func(s *lb.Settings) { s.ConnectTimeout = 0 }),
		"negative idle timeout":     set(func(s *lb.Settings) { s.IdleTimeout = -1 }),
		"negative client timeout":   set(func(s *lb.Settings) { s.ClientTimeout = -1 }),
		"server timeout too long":   set(func(s *lb.Settings) { s.ServerTimeout = 1 << 62 }),
		"idle timeout too long":     set(func(s *lb.Settings) { s.IdleTimeout = 1 << 62 }),
		"negative retries":          set(func(s *lb.Settings) { s.Retries = -1 }),
		"negative limit":            set(func(s *lb.Settings) { s.MaxConnections = -1 }),
		"negative limit per node":   set(func(s *lb.Settings) { s.MaxConnectionsPerNode = -1 }),
		"negative limit per client": set(func(s *lb.Settings) { s.MaxConnectionsPerClient = -1 }),
		"negative rate":             set(func(s *lb.Settings) { s.MaxRatePerClient = -1 }),
		"negative queue":            set(func(s *lb.Settings) { s.MaxQueue = -1 }),
		"negative queue timeout":    set(func(s *lb.Settings) { s.QueueTimeout = -1 }),
		"negative slow start":       set(func(s *lb.Settings) { s.SlowStart = -1 }),
		"drain too long":            set(func(s *lb.Settings) { s.Drain = 2 * time.Hour }),
		"drain of half a second":    set(func(s *lb.Settings) { s.Drain = time.Second / 2 }),
		"short headers":             set(func(s *lb.Settings) { s.Mode, s.MaxHeaderBytes = lb.ModeHTTP, 1 }),
		"headers without HTTP":      set(func(s *lb.Settings) { s.MaxHeaderBytes = 1 << 10 }),
		"source that is a range":    set(func(s *lb.Settings) { s.Source.IPv4 = netip.MustParsePrefix("10.0.0.0/24") }),
		"source that is nobody's":   set(func(s *lb.Settings) { s.Source.IPv4 = netip.MustParsePrefix("0.0.0.0/32") }),
		"keep-alive too often":      set(func(s *lb.Settings) { s.KeepAlive = 1 }),
		"rate too high":             set(func(s *lb.Settings) { s.MaxRatePerClient = lb.MostRate + 1 }),
	} {
		t.Run(name, func(t onEngine) {
			wantRefused(t, service(t, "web", f))
		})
	}
	t.Run("no frontends", func(t onEngine) { wantRefused(t, service(t, "web")) })
	t.Run("S34 one listener twice", func(t onEngine) { wantRefused(t, service(t, "web", base(), base())) })
}

func wantRefused(t testing.TB, s *engine.Service) {
	t.Helper()
	set, refused, _ := tryRender(t, newRenderer(t), config(s))
	if len(refused) != 1 || set.Len() != 1 {
		t.Errorf("want it refused and only main.conf, got %v and %d files", refused, set.Len())
	}
}

func TestShuffledInputMakesIdenticalBytes(t *testing.T) {
	services := func() []*engine.Service {
		var all []*engine.Service
		for _, name := range []string{"a", "b", "c", "d"} {
			all = append(all, service(t, name,
				from(tcp("192.0.2.1:80", "10.0.0.1:30080", "10.0.0.2:30080", "10.0.0.10:30080"), "10.0.0.0/8", "10.0.0.0/16", "9.0.0.0/8"),
				udp("192.0.2.1:80", "10.0.0.1:30080", "10.0.0.2:30080", "10.0.0.10:30080"),
				tcp("[2001:db8::1]:80", "[2001:db8::2]:30080", "[2001:db8::10]:30080")))
		}
		return all
	}
	want := mustRender(t, config(services()...))
	random := rand.New(rand.NewPCG(1, 2))
	for range 1000 {
		all := services()
		shuffle(random, all)
		for _, s := range all {
			shuffle(random, s.Frontends)
			for i := range s.Frontends {
				shuffle(random, s.Frontends[i].Backends)
				shuffle(random, s.Frontends[i].Allow.Sources)
			}
		}
		if got := mustRender(t, config(all...)); got.Digest() != want.Digest() {
			t.Fatal(fileset.Diff(want.Manifest(), got))
		}
	}
}

func shuffle[T any](random *rand.Rand, s []T) {
	random.Shuffle(len(s), func(i, j int) { s[i], s[j] = s[j], s[i] })
}

func TestRenderDoesNotChangeItsInput(t *testing.T) {
	s := service(t, "web", tcp("192.0.2.9:80"), tcp("192.0.2.1:80", "10.0.0.2:30080", "10.0.0.1:30080"))
	mustRender(t, config(s))
	if s.Frontends[0].Listener.String() != "192.0.2.9:80/TCP" || s.Frontends[1].Backends[0].Address.String() != "10.0.0.2:30080" {
		t.Errorf("sorted in place: %v", s.Frontends)
	}
}
