// Package lbtest generates models for tests: all that the bounds allow, and small
// enough that parts meet each other.
package lbtest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"pgregory.net/rapid"

	"github.com/external-lb/external-lb/internal/certificate"
	"github.com/external-lb/external-lb/internal/lb"
)

// Config generates a whole model in which everything that is named is there.
func Config() *rapid.Generator[*lb.Config] {
	return rapid.Custom(func(t *rapid.T) *lb.Config {
		cfg := &lb.Config{Nodes: Nodes().Draw(t, "nodes"), Certificates: Certificates()}
		free := map[lb.Listener]bool{}
		ids := rapid.SliceOfNDistinct(ID(), 0, 5, rapid.ID[lb.ID]).Draw(t, "services")
		slices.SortFunc(ids, lb.ID.Compare)
		for _, id := range ids {
			s := Service(cfg.Nodes).Draw(t, "service")
			s.ID = id
			s.Frontends = slices.DeleteFunc(s.Frontends, func(f lb.Frontend) bool {
				taken := free[f.Listener]
				free[f.Listener] = true
				return taken
			})
			if len(s.Frontends) > 0 {
				cfg.Services = append(cfg.Services, s)
			}
		}
		if rapid.IntRange(0, 3).Draw(t, "control plane") == 0 {
			s := Service(nil).Draw(t, "API servers")
			s.ID, s.Pods, s.Servers = lb.ControlPlane, false, Nodes().Draw(t, "servers")
			s.Frontends = slices.DeleteFunc(s.Frontends, func(f lb.Frontend) bool { return free[f.Listener] || f.NodePort == 0 || len(f.Endpoints) > 0 })
			if len(s.Frontends) > 0 {
				cfg.Services = append(cfg.Services, s)
				slices.SortFunc(cfg.Services, func(a, b *lb.Service) int { return a.ID.Compare(b.ID) })
			}
		}
		cfg.Addresses = rapid.SliceOfNDistinct(Address(true), 0, 3, rapid.ID[netip.Addr]).Draw(t, "addresses")
		slices.SortFunc(cfg.Addresses, netip.Addr.Compare)
		if rapid.Bool().Draw(t, "shared") {
			cfg.VRRP = VRRP().Draw(t, "vrrp")
		}
		return cfg
	})
}

// Label generates a DNS label of any length.
func Label() *rapid.Generator[string] {
	return rapid.OneOf(rapid.SampledFrom([]string{"web", "dns", "a", "0", strings.Repeat("z", 63)}), rapid.StringMatching(`[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?`))
}

// ID generates the ID of a Service.
func ID() *rapid.Generator[lb.ID] {
	return rapid.Custom(func(t *rapid.T) lb.ID {
		return lb.ID{Namespace: Label().Draw(t, "namespace"), Name: Label().Draw(t, "name"), UID: Label().Draw(t, "uid")}
	})
}

// Address generates one of few addresses: 192.0.2.0/28 and 2001:db8::/124.
func Address(mixed bool) *rapid.Generator[netip.Addr] {
	v4 := rapid.Map(rapid.ByteRange(1, 15), func(b byte) netip.Addr { return netip.AddrFrom4([4]byte{192, 0, 2, b}) })
	if !mixed {
		return v4
	}
	return rapid.OneOf(v4, rapid.Map(rapid.ByteRange(1, 15), func(b byte) netip.Addr { return netip.AddrFrom16([16]byte{0x20, 0x01, 0x0d, 0xb8, 15: b}) }))
}

// Nodes generates up to seven, with few addresses, so that some have the same.
func Nodes() *rapid.Generator[[]lb.Node] {
	name := rapid.OneOf(rapid.SampledFrom([]string{"n1", "n2", "n3", "n4"}), rapid.StringMatching(`[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?`))
	node := rapid.Custom(func(t *rapid.T) lb.Node {
		n := lb.Node{Name: name.Draw(t, "name"), Draining: rapid.Bool().Draw(t, "draining"), Backup: rapid.Bool().Draw(t, "backup"),
			Weight: rapid.SampledFrom([]uint16{0, 0, 1, 3, lb.MaxWeight}).Draw(t, "weight")}
		families := rapid.IntRange(1, 3).Draw(t, "families")
		if families&1 != 0 {
			n.IPv4 = netip.AddrFrom4([4]byte{10, 0, 0, rapid.ByteRange(1, 6).Draw(t, "IPv4")})
		}
		if families&2 != 0 {
			n.IPv6 = netip.AddrFrom16([16]byte{0xfd, 15: rapid.ByteRange(1, 6).Draw(t, "IPv6")})
		}
		return n
	})
	return rapid.Map(rapid.SliceOfNDistinct(node, 0, 7, func(n lb.Node) string { return n.Name }), func(all []lb.Node) []lb.Node {
		slices.SortFunc(all, func(a, b lb.Node) int { return strings.Compare(a.Name, b.Name) })
		return all
	})
}

// Service generates one that any of the nodes may carry.
func Service(nodes []lb.Node) *rapid.Generator[*lb.Service] {
	return rapid.Custom(func(t *rapid.T) *lb.Service {
		s := &lb.Service{
			ID: ID().Draw(t, "id"), IPv4: family(nodes, true).Draw(t, "ipv4"), IPv6: family(nodes, false).Draw(t, "ipv6"),
			Affinity:            rapid.SampledFrom([]time.Duration{0, time.Second, 3 * time.Hour, 24 * time.Hour}).Draw(t, "affinity"),
			HealthCheckNodePort: rapid.SampledFrom([]uint16{0, 0, 30999}).Draw(t, "healthCheckNodePort"),
			Direct:              rapid.Bool().Draw(t, "direct"),
			Flavor:              rapid.OneOf(rapid.Just(""), Label()).Draw(t, "flavor"),
		}
		if s.Pods = !s.Direct && rapid.Bool().Draw(t, "pods"); s.Pods {
			s.IPv4.Targets, s.IPv6.Targets = lb.Targets{}, lb.Targets{}
		}
		s.Frontends = rapid.SliceOfNDistinct(frontend(s.Direct || s.Pods, s.Pods), 1, 6, func(f lb.Frontend) lb.Listener { return f.Listener }).Draw(t, "frontends")
		slices.SortFunc(s.Frontends, func(a, b lb.Frontend) int { return a.Listener.Compare(b.Listener) })
		return s
	})
}

func family(nodes []lb.Node, ipv4 bool) *rapid.Generator[lb.Family] {
	prefix := rapid.Custom(func(t *rapid.T) netip.Prefix {
		a := netip.AddrFrom4([4]byte(rapid.SliceOfN(rapid.Byte(), 4, 4).Draw(t, "address")))
		if !ipv4 {
			a = netip.AddrFrom16([16]byte(append([]byte{0x20}, rapid.SliceOfN(rapid.Byte(), 15, 15).Draw(t, "address")...)))
		}
		return netip.PrefixFrom(a, rapid.IntRange(0, a.BitLen()).Draw(t, "bits")).Masked()
	})
	return rapid.Custom(func(t *rapid.T) lb.Family {
		var f lb.Family
		if f.Targets.All = rapid.Bool().Draw(t, "all"); f.Targets.All {
			f.Targets.Limit = rapid.SampledFrom([]int{0, 1, 3, 1 << 30}).Draw(t, "limit")
		} else {
			f.Targets.Nodes = targets(t, nodes)
		}
		if f.Clients.Everybody = rapid.Bool().Draw(t, "everybody"); !f.Clients.Everybody {
			f.Clients.Sources = rapid.SliceOfNDistinct(prefix, 0, 4, rapid.ID[netip.Prefix]).Draw(t, "sources")
			slices.SortFunc(f.Clients.Sources, netip.Prefix.Compare)
		}
		return f
	})
}

func targets(t *rapid.T, nodes []lb.Node) []lb.Target {
	var out []lb.Target
	for _, n := range nodes { // sorted, as these are
		if rapid.Bool().Draw(t, "carries") {
			out = append(out, lb.Target{Node: n.Name, Weight: rapid.Uint16Range(0, lb.MaxWeight).Draw(t, "weight"), Draining: rapid.Bool().Draw(t, "draining")})
		}
	}
	return out
}

func frontend(portless, pods bool) *rapid.Generator[lb.Frontend] {
	return rapid.Custom(func(t *rapid.T) lb.Frontend {
		f := lb.Frontend{
			Listener: lb.Listener{
				Address: Address(true).Draw(t, "address"), Port: rapid.SampledFrom([]uint16{1, 53, 80, 443, 30080, 65535}).Draw(t, "port"),
				Protocol: rapid.SampledFrom([]lb.Protocol{lb.TCP, lb.UDP, lb.SCTP}).Draw(t, "protocol"),
			},
			NodePort: rapid.Uint16Range(30000, 32767).Draw(t, "nodePort"), Settings: settings().Draw(t, "settings"),
		}
		if portless && rapid.Bool().Draw(t, "no nodePort") {
			f.NodePort = 0
		}
		if pods {
			f.Endpoints = endpoints(t, f.Listener.Address.Is4())
		}
		return f
	})
}

// endpoints are a few of few, so that Services share some.
func endpoints(t *rapid.T, ipv4 bool) []lb.Endpoint {
	var out []lb.Endpoint
	for _, last := range rapid.SliceOfNDistinct(rapid.ByteRange(1, 9), 0, 4, rapid.ID[byte]).Draw(t, "pods") {
		a := netip.AddrFrom4([4]byte{10, 244, 0, last})
		if !ipv4 {
			a = netip.AddrFrom16([16]byte{0xfd, 0x44, 15: last})
		}
		out = append(out, lb.Endpoint{
			Address:  netip.AddrPortFrom(a, rapid.SampledFrom([]uint16{1, 8080, 65535}).Draw(t, "pod's port")),
			Draining: rapid.Bool().Draw(t, "draining"),
		})
	}
	slices.SortFunc(out, func(a, b lb.Endpoint) int { return a.Address.Compare(b.Address) })
	return out
}

func settings() *rapid.Generator[lb.Settings] {
	limit := rapid.SampledFrom([]int32{0, 1, 1000, 1 << 30})
	durations := []time.Duration{time.Millisecond, time.Second, 1500 * time.Microsecond, 24 * time.Hour}
	duration, orNone := rapid.SampledFrom(durations), rapid.SampledFrom(append(durations, 0))
	return rapid.Custom(func(t *rapid.T) lb.Settings {
		s := lb.Settings{
			Algorithm:   rapid.SampledFrom([]lb.Algorithm{lb.RoundRobin, lb.LeastConnections, lb.SourceHash, lb.Random, lb.DestinationHash, lb.ShortestExpectedDelay, lb.NeverQueue}).Draw(t, "algorithm"),
			Mode:        rapid.SampledFrom([]lb.Mode{lb.ModeTCP, lb.ModeHTTP}).Draw(t, "mode"),
			SendProxy:   rapid.SampledFrom([]lb.ProxyProtocol{lb.ProxyNone, lb.ProxyV1, lb.ProxyV2}).Draw(t, "send"),
			AcceptProxy: rapid.Bool().Draw(t, "accept"), ConnectTimeout: duration.Draw(t, "connect"), IdleTimeout: duration.Draw(t, "idle"),
			MaxRatePerClient: rapid.SampledFrom([]int32{0, 1, 10, lb.MostRate}).Draw(t, "rate"),
			ClientTimeout:    orNone.Draw(t, "client"), ServerTimeout: orNone.Draw(t, "server"),
			QueueTimeout: orNone.Draw(t, "queue"), SlowStart: orNone.Draw(t, "slow"), MaxQueue: limit.Draw(t, "queued"), AbortOnClose: rapid.Bool().Draw(t, "abort"),
			KeepAlive:      rapid.SampledFrom([]time.Duration{0, time.Second, 1500 * time.Millisecond, 9 * time.Hour}).Draw(t, "keep-alive"),
			NoAccessLog:    rapid.Bool().Draw(t, "not logged"),
			Drain:          rapid.SampledFrom([]time.Duration{0, time.Second, time.Hour}).Draw(t, "drain"),
			HealthCheck:    lb.HealthCheck{Type: rapid.SampledFrom([]lb.HealthCheckType{lb.CheckNone, lb.CheckAuto, lb.CheckTCP, lb.CheckHTTP}).Draw(t, "check")},
			MaxConnections: limit.Draw(t, "max"), MaxConnectionsPerNode: limit.Draw(t, "per node"), MaxConnectionsPerClient: limit.Draw(t, "per client"),
			Retries: rapid.Int32Range(0, 100).Draw(t, "retries"),
		}
		if s.Mode == lb.ModeHTTP {
			s.H2C, s.RedirectToHTTPS = rapid.Bool().Draw(t, "h2c"), rapid.Bool().Draw(t, "redirect")
			s.MaxBodyBytes = rapid.SampledFrom([]int64{0, 1, 1 << 20, lb.MostBodyBytes}).Draw(t, "body")
			s.MaxHeaderBytes = rapid.SampledFrom([]int32{0, lb.LeastHeaderBytes, lb.MostHeaderBytes}).Draw(t, "headers")
		}
		s.Source.IPv4 = rapid.SampledFrom(append(prefixes("192.0.2.10/32", "192.0.2.8/29", "0.0.0.0/0"), netip.Prefix{}, netip.Prefix{})).Draw(t, "source")
		s.Source.IPv6 = rapid.SampledFrom(append(prefixes("2001:db8::10/128", "::/0"), netip.Prefix{}, netip.Prefix{})).Draw(t, "source6")
		if rapid.Bool().Draw(t, "TLS") {
			s.Certificate = rapid.SampledFrom(Certificates()).Draw(t, "certificate").Name()
		}
		s.CloudCertificate = rapid.OneOf(rapid.Just(""), Label()).Draw(t, "certificate of a cloud")
		if h := &s.HealthCheck; h.Type != lb.CheckNone {
			h.TLS = rapid.Bool().Draw(t, "check over TLS")
			h.Path = rapid.SampledFrom([]string{"/", "/healthz", "/a~b/%20.-_", "/" + strings.Repeat("x", 255)}).Draw(t, "path")
			h.Port = rapid.SampledFrom([]uint16{0, 10256, 30080}).Draw(t, "check port")
			h.Host = rapid.SampledFrom([]string{"", "a", "web.example-1", strings.Repeat("h", 253)}).Draw(t, "check host")
			h.Send = rapid.SampledFrom([]string{"", "00", "50494e470d0a", strings.Repeat("ff", 256)}).Draw(t, "send")
			h.Expect = rapid.SampledFrom([]string{"", "0a", strings.Repeat("00", 256)}).Draw(t, "expect")
			h.Status = rapid.SampledFrom([]lb.Status{{}, {From: 204, To: 204}, {From: 100, To: 599}}).Draw(t, "status")
			h.Interval = rapid.SampledFrom([]time.Duration{100 * time.Millisecond, time.Second, 1500 * time.Millisecond, 24 * time.Hour}).Draw(t, "interval")
			h.Timeout = duration.Draw(t, "timeout")
			h.Rise, h.Fall = rapid.Int32Range(1, 100).Draw(t, "rise"), rapid.Int32Range(1, 100).Draw(t, "fall")
		}
		return s
	})
}

func prefixes(all ...string) (out []netip.Prefix) {
	for _, text := range all {
		out = append(out, netip.MustParsePrefix(text))
	}
	return out
}

// VRRP generates a VRRP.
func VRRP() *rapid.Generator[*lb.VRRP] {
	return rapid.Custom(func(t *rapid.T) *lb.VRRP {
		return &lb.VRRP{
			Interface: rapid.StringMatching(`[A-Za-z0-9][-A-Za-z0-9_.]{0,14}`).Draw(t, "interface"),
			RouterID:  rapid.Uint8Range(1, 255).Draw(t, "router"), Priority: rapid.Uint8Range(1, 254).Draw(t, "priority"),
			Interval: time.Duration(rapid.IntRange(1, 4000).Draw(t, "interval")) * 10 * time.Millisecond,
		}
	})
}

// Certificates are two, sorted by name, made once in a process.
var Certificates = sync.OnceValue(func() []*lb.Certificate {
	all := []*lb.Certificate{newCertificate(), newCertificate()}
	slices.SortFunc(all, func(a, b *lb.Certificate) int { return strings.Compare(a.Name(), b.Name()) })
	return all
})

func newCertificate() *lb.Certificate {
	key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"web.example"}, NotBefore: time.Unix(1e9, 0), NotAfter: time.Unix(2e9, 0)}
	chain := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: must(x509.CreateCertificate(rand.Reader, template, template, key.Public(), key))})
	return must(certificate.Parse(chain, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: must(x509.MarshalPKCS8PrivateKey(key))})))
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
