package render_test

import (
	"fmt"
	"net/netip"
	"reflect"
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
			"certificate":  func(f *engine.Frontend) { f.Settings.Certificate = bad + "/../x" },
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

// hostile is what nobody vouches for: a switch of each field says whether it has the text, number or time, or what does
// not hurt. Without any, every engine carries it.
type hostile struct {
	namespace, name, uid, listen, backend, source, text string
	port, nodePort                                      uint16
	span                                                int64
	number                                              int32
	switches                                            uint64
}

func (h hostile) service() *engine.Service {
	id, err := lb.NewID(h.namespace, h.name, h.uid)
	if err != nil {
		id = lb.ID{Namespace: h.namespace, Name: h.name, UID: h.uid} // the renderer refuses it, too
	}
	return &engine.Service{ID: id, MaxConnections: max(0, int(h.number)), Frontends: []engine.Frontend{h.frontend()}}
}

func (h hostile) frontend() engine.Frontend {
	at := 0
	on := func() bool { at++; return h.switches>>(at-1)&1 == 1 }
	text := func(plain string) string { return choose(on(), plain, h.text) }
	number := func(plain int32) int32 { return choose(on(), plain, h.number) }
	span := func(plain time.Duration) time.Duration { return choose(on(), plain, time.Duration(h.span)) }
	f := engine.Frontend{
		Listener: lb.Listener{Port: h.port, Protocol: choose(on(), lb.TCP, lb.UDP)}, Allow: lb.Clients{Everybody: on()},
		HealthCheckNodePort: choose(on(), 0, h.nodePort), Direct: on(), NodePort: h.nodePort, Pods: on(), Affinity: span(0),
		Settings: lb.Settings{
			Algorithm: lb.Algorithm(text("RoundRobin")), Mode: choose(on(), lb.ModeTCP, lb.ModeHTTP), SendProxy: choose(on(), lb.ProxyNone, lb.ProxyV1), AcceptProxy: on(),
			ConnectTimeout: span(time.Second), IdleTimeout: span(time.Minute), ClientTimeout: span(0), ServerTimeout: span(0), QueueTimeout: span(0),
			KeepAlive: span(0), SlowStart: span(0), Drain: span(0), NoAccessLog: on(),
			MaxConnections: number(0), MaxConnectionsPerNode: number(0), MaxConnectionsPerClient: number(0), MaxRatePerClient: number(0),
			Retries: number(0), MaxQueue: number(0), AbortOnClose: on(), Certificate: text(""), H2C: on(), RedirectToHTTPS: on(),
			MaxBodyBytes: choose(on(), 0, h.span), MaxHeaderBytes: number(0),
			HealthCheck: lb.HealthCheck{
				Type: lb.HealthCheckType(choose(on(), string(choose(on(), lb.CheckNone, choose(on(), lb.CheckTCP, lb.CheckHTTP))), text("Auto"))),
				Path: text("/"), Port: choose(on(), 0, h.nodePort), Host: text(""), Status: choose(on(), lb.Status{}, lb.Status{From: h.port, To: h.nodePort}),
				Send: text(""), Expect: text(""), Interval: span(time.Second), Timeout: span(time.Second), Rise: number(1), Fall: number(1), TLS: on(),
			},
		},
	}
	f.Listener.Address, _ = netip.ParseAddr(h.listen)
	if a, err := netip.ParseAddr(h.backend); err == nil {
		f.Backends = []engine.Backend{{Node: h.name, Address: netip.AddrPortFrom(a, h.nodePort), Weight: choose(on(), 0, h.port), Draining: on(), Backup: on()}}
	}
	if p, err := netip.ParsePrefix(h.source); err == nil {
		f.Allow.Sources = []netip.Prefix{p.Masked()}
		if on() {
			f.Settings.Source = lb.Source{IPv4: p, IPv6: p}
		}
	}
	f.Settings.CloudCertificate = text("") // last: the corpus was made without
	return f
}

func choose[T any](second bool, a, b T) T {
	if second {
		return b
	}
	return a
}

// Each field of what is rendered is one that the fuzzer changes. One more in the model makes this fail.
func TestHostile_HasEveryField(t *testing.T) {
	h := hostile{"a", "b", "c", "192.0.2.1", "10.0.0.1", "10.0.0.0/8", "x", 1, 2, 3, 4, 0}
	set := map[string]bool{}
	for bit := range 64 {
		h.switches = 1 << bit
		note(set, "", reflect.ValueOf(*h.service()))
	}
	for field, is := range set {
		if !is {
			t.Errorf("%s is always zero", field)
		}
	}
	if len(set) < 50 {
		t.Errorf("these are all fields: %v", set)
	}
}

// note which fields are not zero.
func note(set map[string]bool, name string, v reflect.Value) {
	set[name] = set[name] || !v.IsZero()
	switch {
	case v.Type().PkgPath() == "net/netip":
	case v.Kind() == reflect.Struct:
		for i := range v.NumField() {
			note(set, name+"."+v.Type().Field(i).Name, v.Field(i))
		}
	case v.Kind() == reflect.Slice:
		for i := range v.Len() {
			note(set, name, v.Index(i))
		}
	}
}

func FuzzRender(f *testing.F) {
	for bit := range 60 {
		f.Add("default", "web", uid, "192.0.2.1", "10.0.0.1", "10.0.0.0/8", "ab", uint16(200), uint16(399), int64(5e9), int32(7), uint64(1)<<bit)
	}
	f.Add("default", "web", uid, "192.0.2.1", "10.0.0.1", "10.0.0.0/8", strings.Repeat("0f", 16), uint16(200), uint16(399), int64(5e9), int32(7), uint64(1)<<26)
	f.Add("a", "b", "c", "2001:db8::1", "fd00::1", "::/0", "Random", uint16(1), uint16(65535), int64(1), int32(0), uint64(0))
	f.Add("a", "b", "c", "2001:db8::1", "fe80::1%eth0", "::/0", "Random", uint16(1), uint16(65535), int64(1), int32(0), uint64(0x5555))
	f.Add("a", hijacking[0], "c", "unix:/var/run/docker.sock", "localhost", "all", "hash; }", uint16(0), uint16(0), int64(-1), int32(-1), uint64(1<<64-1))
	renderers := map[*engine.Engine]*render.Renderer{}
	for _, e := range engines.Table.Engines {
		r, err := render.New(e)
		if err != nil {
			f.Fatal(err)
		}
		renderers[e] = r
	}
	f.Fuzz(func(t *testing.T, namespace, name, uid, listen, backend, source, text string, port, nodePort uint16, span int64, number int32, switches uint64) {
		h := hostile{namespace, name, uid, listen, backend, source, text, port, nodePort, span, number, switches}
		for e, r := range renderers {
			set, refused, problems := tryRender(t, r, config(h.service()))
			if (len(refused) == 0) != (set.Len() > 1) || len(problems) > 0 {
				t.Errorf("%s: %d files, %v, %v", e, set.Len(), refused, problems)
			}
			for file := range set.All() {
				checkText(t, e, file)
			}
		}
	})
}
