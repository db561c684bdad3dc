package render

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/external-lb/external-lb/internal/engine"
	"github.com/external-lb/external-lb/internal/lb"
)

// sample is a Service on which custom templates are tried before any real one.
type sample struct {
	what    string // is special about it
	service *engine.Service
}

// variants are what can be special about a port.
var variants = []struct {
	what   string
	change func(*engine.Frontend)
}{
	{"nothing special", func(*engine.Frontend) {}},
	{"no nodes", func(f *engine.Frontend) { f.Backends = nil }},
	{"no nodes and limits", func(f *engine.Frontend) { f.Backends = nil; limits(f) }},
	{"no nodes and the PROXY protocol", func(f *engine.Frontend) { f.Backends = nil; accepts(f) }},
	{"pods", func(f *engine.Frontend) { f.Pods = true }},
	{"no pods", func(f *engine.Frontend) { f.Pods, f.Backends = true, nil }},
	{"pods in mode HTTP", func(f *engine.Frontend) { inHTTP(f); f.Pods = true }},
	{"nodes of different weights", func(f *engine.Frontend) { f.Backends[0].Weight = 3 }},
	{"a node that gets nothing new", func(f *engine.Frontend) { f.Backends[0].Draining = true }},
	{"a node that waits for the other", func(f *engine.Frontend) { f.Backends[0].Backup = true }},
	{"source ranges", ranges},
	{"no source allowed", func(f *engine.Frontend) { f.Allow = lb.Clients{} }},
	{"source ranges and the PROXY protocol", func(f *engine.Frontend) { ranges(f); accepts(f) }},
	{"session affinity", func(f *engine.Frontend) { f.Affinity = 3 * time.Hour }},
	{"limits", limits},
	{"a limit for each node", func(f *engine.Frontend) { f.Settings.MaxConnectionsPerNode = 100 }},
	{"the PROXY protocol accepted", accepts},
	{"the PROXY protocol sent", func(f *engine.Frontend) { f.Settings.SendProxy = lb.ProxyV1 }},
	{"version 2 of the PROXY protocol sent", func(f *engine.Frontend) { f.Settings.SendProxy = lb.ProxyV2 }},
	{"TLS", func(f *engine.Frontend) { f.Settings.Certificate = sampleCertificate }},
	{"TLS and no nodes", func(f *engine.Frontend) { f.Settings.Certificate, f.Backends = sampleCertificate, nil }},
	{"TLS in mode HTTP", func(f *engine.Frontend) { inHTTP(f); f.Settings.Certificate = sampleCertificate }},
	{"mode HTTP", inHTTP},
	{"a redirect to HTTPS", func(f *engine.Frontend) { inHTTP(f); f.Settings.RedirectToHTTPS = true }},
	{"a limit for bodies and headers", func(f *engine.Frontend) { inHTTP(f); f.Settings.MaxBodyBytes, f.Settings.MaxHeaderBytes = 1<<20, 1<<10 }},
	{"a timeout for each side", apart},
	{"a timeout for each side in mode HTTP", func(f *engine.Frontend) { inHTTP(f); apart(f) }},
	{"HTTP/2 to the nodes", func(f *engine.Frontend) { inHTTP(f); f.Settings.H2C = true }},
	{"TLS and HTTP/2 to the nodes", func(f *engine.Frontend) { inHTTP(f); f.Settings.H2C, f.Settings.Certificate = true, sampleCertificate }},
	{"mode HTTP and no nodes", func(f *engine.Frontend) { inHTTP(f); f.Backends = nil }},
	{"mode HTTP with source ranges, limits and the PROXY protocol", func(f *engine.Frontend) { inHTTP(f); ranges(f); limits(f); accepts(f) }},
	{"no retries", func(f *engine.Frontend) { f.Settings.Retries = 0 }},
	{"no access log", func(f *engine.Frontend) { f.Settings.NoAccessLog = true }},
	{"no access log in mode HTTP", func(f *engine.Frontend) { inHTTP(f); f.Settings.NoAccessLog = true }},
	{"a slow start", func(f *engine.Frontend) { f.Settings.SlowStart = time.Minute }},
	{"a source address", func(f *engine.Frontend) { sourced(f) }},
	{"a source address in mode HTTP", func(f *engine.Frontend) { inHTTP(f); sourced(f) }},
	{"a source address and HTTP/2 to the nodes", func(f *engine.Frontend) { inHTTP(f); sourced(f); f.Settings.H2C = true }},
	{"clients that are given up", func(f *engine.Frontend) { f.Settings.AbortOnClose = true }},
	{"a health check of its own", func(f *engine.Frontend) { f.HealthCheckNodePort = 32000 }},
	{"a TCP health check", func(f *engine.Frontend) { f.Settings.HealthCheck.Type = lb.CheckTCP }},
	{"a TCP health check that speaks", func(f *engine.Frontend) {
		f.Settings.HealthCheck.Type, f.Settings.HealthCheck.Send, f.Settings.HealthCheck.Expect = lb.CheckTCP, "70", "71"
	}},
	{"an HTTP health check", httpCheck},
	{"an HTTP health check on a port", func(f *engine.Frontend) { httpCheck(f); f.Settings.HealthCheck.Port = 8080 }},
	{"an HTTP health check of a host", func(f *engine.Frontend) { httpCheck(f); f.Settings.HealthCheck.Host = "sample.example" }},
	{"no health check", func(f *engine.Frontend) { f.Settings.HealthCheck = lb.HealthCheck{Type: lb.CheckNone} }},
	{"algorithm LeastConnections", func(f *engine.Frontend) { f.Settings.Algorithm = lb.LeastConnections }},
	{"algorithm SourceHash", func(f *engine.Frontend) { f.Settings.Algorithm = lb.SourceHash }},
	{"algorithm Random", func(f *engine.Frontend) { f.Settings.Algorithm = lb.Random }},
	{"algorithm DestinationHash", func(f *engine.Frontend) { f.Settings.Algorithm = lb.DestinationHash }},
	{"algorithm ShortestExpectedDelay", func(f *engine.Frontend) { f.Settings.Algorithm = lb.ShortestExpectedDelay }},
	{"algorithm NeverQueue", func(f *engine.Frontend) { f.Settings.Algorithm = lb.NeverQueue }},
	{"an HTTP check over TLS", func(f *engine.Frontend) { httpCheck(f); f.Settings.HealthCheck.TLS = true }},
	{"direct return", directly},
	{"direct return without a nodePort", func(f *engine.Frontend) { directly(f); f.NodePort = 0 }},
}

func inHTTP(f *engine.Frontend) { f.Settings.Mode = lb.ModeHTTP }

func sourced(f *engine.Frontend) {
	f.Settings.Source = lb.Source{IPv4: netip.MustParsePrefix("192.0.2.10/32"), IPv6: netip.MustParsePrefix("2001:db8::10/128")}
}

func apart(f *engine.Frontend) {
	f.Settings.ClientTimeout, f.Settings.ServerTimeout, f.Settings.KeepAlive = time.Hour, time.Minute, time.Minute
}

func limits(f *engine.Frontend) {
	f.Settings.MaxConnections, f.Settings.MaxConnectionsPerNode, f.Settings.MaxConnectionsPerClient = 1000, 100, 10
	f.Settings.MaxRatePerClient, f.Settings.MaxQueue, f.Settings.QueueTimeout = 7, 70, time.Minute
}

func accepts(f *engine.Frontend) { f.Settings.AcceptProxy = true }

func ranges(f *engine.Frontend) {
	prefix := func(a string, bits int) netip.Prefix { return netip.PrefixFrom(netip.MustParseAddr(a), bits) }
	f.Allow = lb.Clients{Sources: []netip.Prefix{prefix("198.51.100.0", 24), prefix("203.0.113.7", 32)}}
	if f.Listener.Address.Is6() {
		f.Allow.Sources = []netip.Prefix{prefix("2001:db8:9::", 48), prefix("2001:db8:a::1", 128)}
	}
}

func httpCheck(f *engine.Frontend) {
	f.Settings.HealthCheck.Type, f.Settings.HealthCheck.Path = lb.CheckHTTP, "/ready"
}

func directly(f *engine.Frontend) {
	f.Direct, f.NodePort = true, 30080
	for i, b := range f.Backends {
		f.Backends[i].Address = netip.AddrPortFrom(b.Address.Addr(), f.Listener.Port)
	}
}

// samples have between them everything that an engine can do.
func samples(e *engine.Engine) []sample {
	var all []sample
	var ports []engine.Frontend
	for _, protocol := range []lb.Protocol{lb.TCP, lb.UDP, lb.SCTP} {
		for _, address := range []string{"192.0.2.1", "2001:db8::1"} {
			for i, v := range variants {
				f := plainFrontend(netip.AddrPortFrom(netip.MustParseAddr(address), uint16(8000+i)), protocol)
				v.change(&f)
				s := &engine.Service{ID: sampleID, Frontends: []engine.Frontend{f}}
				if _, err := e.View(s); err != nil {
					continue // it cannot do that
				}
				all = append(all, sample{fmt.Sprintf("a port of %s on %s with %s", protocol, address, v.what), s})
				ports = append(ports, f)
			}
		}
	}
	return append(all, sample{"many ports", &engine.Service{ID: sampleID, MaxConnections: 1000, Frontends: ports}})
}

var sampleID = lb.ID{Namespace: "sample", Name: "sample", UID: "00000000-0000-4000-8000-000000000000"}

// sampleCertificate is the name of one that nobody serves.
const sampleCertificate = "00000000000000000000000000000000"

func plainFrontend(at netip.AddrPort, protocol lb.Protocol) engine.Frontend {
	f := engine.Frontend{
		Listener: lb.Listener{Address: at.Addr(), Port: at.Port(), Protocol: protocol},
		Allow:    lb.Clients{Everybody: true},
		NodePort: 30080,
		Settings: lb.Settings{
			Algorithm: lb.RoundRobin, Mode: lb.ModeTCP, SendProxy: lb.ProxyNone,
			ConnectTimeout: time.Second, IdleTimeout: 10 * time.Minute, Retries: 2,
			HealthCheck: lb.HealthCheck{Type: lb.CheckAuto, Interval: 2 * time.Second, Timeout: time.Second, Rise: 2, Fall: 3},
		},
	}
	for i, node := range []string{"node-1", "node-2"} {
		address := netip.AddrFrom4([4]byte{10, 0, 0, byte(i + 1)})
		if at.Addr().Is6() {
			address = netip.AddrFrom16([16]byte{0x20, 0x01, 0x0d, 0xb8, 15: byte(i + 1)})
		}
		f.Backends = append(f.Backends, engine.Backend{Node: node, Address: netip.AddrPortFrom(address, 30080)})
	}
	return f
}

// problemsTold bounds how many custom templates are told to be wrong, and on how
// many samples they may fail before the others are left out.
const problemsTold = 5

// try custom templates on every sample. The error joins a *TemplateError for each
// thing that is wrong.
func (r *Renderer) try() error {
	var failed []error
	told, failures := map[TemplateError]bool{}, 0
	tell := func(what string, e *TemplateError) {
		if e == nil {
			return
		}
		if failures++; told[*e] {
			return
		}
		told[*e] = true
		if e.Line == 0 {
			e = &TemplateError{Name: e.Name, Reason: "for " + what + ": " + e.Reason}
		}
		failed = append(failed, e)
	}
	shared := map[engine.Shared]bool{}
	for _, one := range samples(r.engine) {
		if failures == problemsTold {
			break
		}
		files, needs, err := r.service(func() *engine.Service { return one.service })
		if err != nil {
			return fmt.Errorf("the sample of %s: %w", one.what, err)
		}
		for _, f := range files {
			m, err := f.Make()
			if err != nil {
				return fmt.Errorf("the sample of %s: %w", one.what, err)
			}
			tell(one.what, m.Problem)
		}
		for _, one := range needs {
			shared[one] = true
		}
	}
	for _, main := range []struct {
		what   string
		shared []engine.Shared
	}{{"no Services", nil}, {"many Services", slices.Collect(maps.Keys(shared))}} {
		m, err := r.main(main.shared).Make()
		if err != nil {
			return err
		}
		tell(main.what, m.Problem)
	}
	return errors.Join(failed...)
}
