package render_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/external-lb/external-lb/internal/engine"
	"github.com/external-lb/external-lb/internal/engine/engines"
	"github.com/external-lb/external-lb/internal/fileset"
	"github.com/external-lb/external-lb/internal/lb"
	"github.com/external-lb/external-lb/internal/render"
	"github.com/external-lb/external-lb/internal/render/rendertest"
)

// Names that make nginx refuse the whole configuration, if they were printed.
var breaking = []string{
	"", " ", "a;", "a b", "a{", "a{b", "}", "a\nb", "\"a", "'a", "# a", "a}\nupstream b",
	"a {} upstream b {", "a { server nohost.invalid:80; } upstream b",
}

// Names that nginx takes, and then does what they say.
var hijacking = []string{
	"a { server 127.0.0.1:1; } server { listen 127.0.0.1:65001; return pwned; } upstream b",
	"a { server unix:/var/run/docker.sock; } upstream b",
	"a { server 127.0.0.1:1; }\nserver { listen 127.0.0.1:65001; return $remote_addr; }\nupstream b",
	"a { server 127.0.0.1:1; } log_format b $remote_addr; upstream c",
	"$remote_addr", "${hostname}", "\"a b\"", "'a b'", "a\\;b", "a\"", "a'", "a\\", "$", "A", "a/../b", "../a", "/etc/passwd", "a*", "ä",
}

// The lists are what they say they are: each value is printed as a name and
// given to nginx. Not every harmless name is in our alphabet, and not every bad one breaks.
func TestHostileValuesDoWhatTheyAreListedFor(t *testing.T) {
	takes := func(name string) bool {
		upstream, err := fileset.NewFragment("services/hostile.conf", fmt.Appendf(nil, "upstream %s { server 127.0.0.1:1; }\n", name), nil)
		if err != nil {
			t.Fatal(err)
		}
		set, err := fileset.New(upstream)
		if err != nil {
			t.Fatal(err)
		}
		_, conf := install(t, set)
		return check(t, conf) == nil
	}
	for _, name := range breaking {
		if takes(name) {
			t.Errorf("nginx takes %q: it belongs to the other list", name)
		}
	}
	for _, name := range hijacking {
		if !takes(name) {
			t.Errorf("nginx refuses %q: it belongs to the other list", name)
		}
	}
}

func TestHostileNamesReachNoFile(t *testing.T) {
	for _, bad := range append(append([]string{strings.Repeat("a", 64), "-a", "a-", "a.b", "a_b", "a\x00", "a\r"}, breaking...), hijacking...) {
		for _, parts := range [][3]string{{bad, "web", uid}, {"default", bad, uid}, {"default", "web", bad}} {
			if id, err := lb.NewID(parts[0], parts[1], parts[2]); err == nil {
				t.Errorf("NewID makes %v of %q", id, parts)
			}
			// Also one that is made without its constructor.
			s := &engine.Service{ID: lb.ID{Namespace: parts[0], Name: parts[1], UID: parts[2]}, Frontends: []engine.Frontend{tcp("192.0.2.1:80")}}
			wantRefused(t, s)
		}
	}
}

// Addresses and ranges are made by netip, which takes none of these, or none
// that the renderer prints.
func TestHostileAddressesReachNoFile(t *testing.T) {
	for _, bad := range append(append([]string{
		"unix:/var/run/docker.sock", "localhost", "010.0.0.1", "10.0.0.1 ", "10.0.0.1;", "10.1", "0x7f.0.0.1",
		"fe80::1%eth0", "fe80::1%;}", "fe80::1% } server { listen 1", "::ffff:10.0.0.1", "0.0.0.0", "::",
	}, breaking...), hijacking...) {
		address, err := netip.ParseAddr(bad)
		if err != nil {
			continue
		}
		f := tcp("192.0.2.1:80")
		f.Listener.Address = address
		wantRefused(t, service(t, "web", f))
		f = tcp("192.0.2.1:80")
		f.Backends = []engine.Backend{{Address: netip.AddrPortFrom(address, 80)}}
		wantRefused(t, service(t, "web", f))
	}
	for _, bad := range []string{"10.0.0.0/8;", " 10.0.0.0/8", "10.0.0.0/08", "all", "unix:", "fe80::%;}/64", "10.0.0.0/33"} {
		if p, err := netip.ParsePrefix(bad); err == nil {
			t.Errorf("netip makes %v of %q", p, bad)
		}
	}
}

// What is text in the model and not of the renderer's business is not printed.
func TestHostileTextReachesNoFile(t *testing.T) {
	want := contents(mustRender(t, config(service(t, "web", tcp("192.0.2.1:80", "10.0.0.1:30080")))))
	for _, bad := range append(append([]string{}, breaking...), hijacking...) {
		f := with(tcp("192.0.2.1:80", "10.0.0.1:30080"), func(s *lb.Settings) { s.HealthCheck.Path = bad })
		f.Backends[0].Node = bad
		for path, data := range contents(mustRender(t, config(service(t, "web", f)))) {
			if data != want[path] {
				t.Errorf("%q is in %s:\n%s", bad, path, data)
			}
		}
		for what, change := range map[string]func(*engine.Frontend){
			"protocol":     func(f *engine.Frontend) { f.Listener.Protocol = lb.Protocol(bad) },
			"algorithm":    func(f *engine.Frontend) { f.Settings.Algorithm = lb.Algorithm(bad) },
			"mode":         func(f *engine.Frontend) { f.Settings.Mode = lb.Mode(bad) },
			"send proxy":   func(f *engine.Frontend) { f.Settings.SendProxy = lb.ProxyProtocol(bad) },
			"health check": func(f *engine.Frontend) { f.Settings.HealthCheck.Type = lb.HealthCheckType(bad) },
		} {
			f := tcp("192.0.2.1:80", "10.0.0.1:30080")
			change(&f)
			t.Run(what, func(t *testing.T) { wantRefused(t, service(t, "web", f)) })
		}
	}
}

// checkText holds a file against the lines that it may have.
func checkText(t testing.TB, e *engine.Engine, file fileset.File) {
	t.Helper()
	if err := rendertest.Check(e.Name, file.Private, file.Data); err != nil {
		t.Errorf("%s: %v", file.Path, err)
	}
}

func TestGoldenFilesHaveOnlyKnownLines(t *testing.T) {
	onAllEngines(t, func(t onEngine) {
		for _, cfg := range goldenConfigs(t) {
			if carried(t.engine, cfg) {
				for f := range mustRender(t, cfg).All() {
					checkText(t, t.engine, f)
				}
			}
		}
	})
}

func FuzzRender(f *testing.F) {
	f.Add("default", "web", uid, "192.0.2.1", "10.0.0.1", "10.0.0.0/8", "RoundRobin", uint16(80), uint16(30080), int64(1e9), int32(2), byte(0))
	f.Add("a", "b", "c", "2001:db8::1", "fe80::1%eth0", "::/0", "Random", uint16(1), uint16(65535), int64(1), int32(0), byte(255))
	f.Add("a", hijacking[0], "c", "unix:/var/run/docker.sock", "localhost", "all", "hash; }", uint16(0), uint16(0), int64(-1), int32(-1), byte(0x55))
	renderers := map[*engine.Engine]*render.Renderer{}
	for _, e := range engines.Table.Engines {
		r, err := render.New(e)
		if err != nil {
			f.Fatal(err)
		}
		renderers[e] = r
	}
	f.Fuzz(func(t *testing.T, namespace, name, uid, listen, backend, source, algorithm string, port, nodePort uint16, span int64, number int32, bits byte) {
		id, err := lb.NewID(namespace, name, uid)
		if err != nil {
			id = lb.ID{Namespace: namespace, Name: name, UID: uid} // the renderer refuses it, too
		}
		on := func(bit int) bool { return bits>>bit&1 == 1 }
		fe := engine.Frontend{Listener: lb.Listener{Port: port, Protocol: lb.TCP}, Allow: lb.Clients{Everybody: on(0)}}
		if fe.Listener.Address, _ = netip.ParseAddr(listen); on(1) {
			fe.Listener.Protocol = lb.UDP
		}
		if a, err := netip.ParseAddr(backend); err == nil && on(2) {
			fe.Backends = []engine.Backend{{Node: name, Address: netip.AddrPortFrom(a, nodePort)}}
		}
		if p, err := netip.ParsePrefix(source); err == nil {
			fe.Allow.Sources = []netip.Prefix{p.Masked()}
		}
		if on(3) {
			fe.Affinity = time.Hour
		}
		fe.Settings = lb.Settings{
			Algorithm: lb.Algorithm(algorithm), Mode: lb.ModeTCP, SendProxy: lb.ProxyNone, AcceptProxy: on(4),
			ConnectTimeout: time.Duration(span), IdleTimeout: time.Duration(span), Retries: number,
			MaxConnections: number, MaxConnectionsPerNode: number, MaxConnectionsPerClient: number,
			HealthCheck: lb.HealthCheck{Type: lb.CheckNone},
		}
		if on(5) {
			fe.Settings.SendProxy = lb.ProxyV1
		}
		if on(6) {
			fe.Settings.HealthCheck = lb.HealthCheck{Type: lb.CheckAuto, Path: source, Interval: time.Duration(span), Timeout: time.Duration(span), Rise: number, Fall: number}
		}
		if on(7) {
			fe.Settings.HealthCheck.Type = lb.CheckHTTP
		}
		if port%2 == 1 {
			fe.Settings.Mode = lb.ModeHTTP
		}
		for e, r := range renderers {
			set, refused, problems := tryRender(t, r, config(&engine.Service{ID: id, Frontends: []engine.Frontend{fe}}))
			if (len(refused) == 0) != (set.Len() > 1) || len(problems) > 0 {
				t.Errorf("%s: %d files, %v, %v", e, set.Len(), refused, problems)
			}
			for file := range set.All() {
				checkText(t, e, file)
			}
		}
	})
}
