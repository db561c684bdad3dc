package host_test

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/external-lb/external-lb/internal/engine"
	"github.com/external-lb/external-lb/internal/lb"
	"github.com/external-lb/external-lb/internal/lb/lbpb"
	"github.com/external-lb/external-lb/internal/lb/lbtest"
)

// A hostile value shows what it does only in an item that is carried but for it. So
// each is put into an item of its own, of a kind that the machine's engine can carry.

// keysOf say which Keys may stand for a message, by the kind of Items.
var keysOf = map[string]func(m proto.Message) []lb.Key{
	"node": func(m proto.Message) []lb.Key { return []lb.Key{lb.NodeKey(m.(*lbpb.Node).GetName())} },
	"service": func(m proto.Message) []lb.Key {
		s := m.(*lbpb.Service)
		return []lb.Key{lb.ServiceKey(lb.ID{Namespace: s.GetNamespace(), Name: s.GetName(), UID: s.GetUid()})}
	},
	"certificate": func(m proto.Message) []lb.Key {
		sum := sha256.Sum256(m.(*lbpb.Certificate).GetPem()) // the name of a text that is kept as it came
		return []lb.Key{lb.CertificateKey(hex.EncodeToString(sum[:16]))}
	},
	"address": func(m proto.Message) []lb.Key {
		a, _ := netip.AddrFromSlice(m.(*lbpb.Address).GetAddress())
		return []lb.Key{lb.AddressKey(a), lb.AddressKey(a.Unmap())}
	},
	"vrrp": func(proto.Message) []lb.Key { return []lb.Key{lb.VRRPKey} },
}

func kindOf(key lb.Key) string {
	kind, _, _ := strings.Cut(string(key), "/")
	return kind
}

// able makes a Service one that an engine can carry.
func able(e *engine.Engine, s *lb.Service) {
	s.Direct = s.Direct && e.Direct
	for _, nodes := range [][]lb.Target{s.IPv4.Targets.Nodes, s.IPv6.Targets.Nodes} {
		for i := range nodes {
			nodes[i].Draining = nodes[i].Draining && !e.KeepsConnections
		}
	}
	for i := range s.Frontends {
		f := &s.Frontends[i]
		if !e.Carries(f.Listener.Protocol) {
			f.Listener.Protocol = e.Protocols[0]
		}
		if f.NodePort == 0 && !s.Direct {
			f.NodePort = uint16(30000 + i)
		}
		can := func(field engine.Field) bool {
			return e.Unsupported(field, lb.TCP) == "" && e.Unsupported(field, f.Listener.Protocol) == "" &&
				e.NotInMode(field, f.Settings.Mode) == ""
		}
		settle(&f.Settings, can)
	}
	s.Frontends = distinct(s.Frontends)
}

// settle replaces what an engine cannot do.
func settle(set *lb.Settings, can func(engine.Field) bool) {
	set.CloudCertificate = ""
	if !can("algorithm=" + engine.Field(set.Algorithm)) {
		set.Algorithm = lb.RoundRobin
	}
	if !can("mode=" + engine.Field(set.Mode)) {
		set.Mode, set.H2C, set.RedirectToHTTPS, set.MaxBodyBytes, set.MaxHeaderBytes = lb.ModeTCP, false, false, 0, 0
	}
	if !can("proxyProtocol.send=" + engine.Field(set.SendProxy)) {
		set.SendProxy = lb.ProxyNone
	}
	if !can("healthCheck.type=" + engine.Field(set.HealthCheck.Type)) {
		set.HealthCheck.Type = lb.CheckAuto
	}
	set.HealthCheck.Interval = max(set.HealthCheck.Interval, time.Second) // the processor is for the tests
	if set.HealthCheck.Type == lb.CheckNone {
		set.HealthCheck = lb.HealthCheck{Type: lb.CheckNone}
	}
	set.AcceptProxy = set.AcceptProxy && can("proxyProtocol.accept")
	const most = 65_535 // of what nginx counts
	set.MaxConnections, set.MaxConnectionsPerClient = min(set.MaxConnections, most), min(set.MaxConnectionsPerClient, most)
	if !can("tls.secretRef") {
		set.Certificate = ""
	}
}

// distinct Frontends, sorted.
func distinct(all []lb.Frontend) []lb.Frontend {
	slices.SortFunc(all, func(a, b lb.Frontend) int { return a.Listener.Compare(b.Listener) })
	return slices.CompactFunc(all, func(a, b lb.Frontend) bool { return a.Listener == b.Listener })
}

// plain is a model that its owner could send, in which the engine can carry everything.
func (a *attacker) plain(seed int) []lb.Item {
	a.Helper()
	cfg := lbtest.Config().Example(seed)
	for _, s := range cfg.Services {
		able(a.victim.Engine(), s)
	}
	cfg.VRRP = router()
	return a.encode(cfg)
}

// router is the one that the machine's owner admits; hosts take four intervals to agree.
func router() *lb.VRRP {
	return &lb.VRRP{Interface: "eth0", RouterID: 51, Priority: 100, Interval: 20 * time.Millisecond}
}

func (a *attacker) encode(cfg *lb.Config) []lb.Item {
	a.Helper()
	set, err := (&lb.Encoder{}).Encode(cfg)
	if err != nil {
		a.Fatal(err)
	}
	return slices.Collect(set.All())
}

// nodesOfAll are what every Service names its nodes of.
func nodesOfAll() (all []lb.Node) {
	for i := range byte(4) {
		n := lb.Node{Name: fmt.Sprintf("n%d", i+1)}
		if i != 2 {
			n.IPv4 = netip.AddrFrom4([4]byte{10, 0, 0, i + 1})
		}
		if i != 1 {
			n.IPv6 = netip.AddrFrom16([16]byte{0xfd, 15: i + 1})
		}
		all = append(all, n)
	}
	return all
}

// base is what is in every hostile model. A Service of it would send to itself, and one
// shows a certificate.
func (a *attacker) base() []lb.Item {
	loop := a.service(0, toNodes(a.pool()[0]))
	loop.ID.Name, loop.Direct, loop.IPv4.Targets = "loop", false, lb.Targets{All: true}
	loop.Frontends = loop.Frontends[:1]
	loop.Frontends[0].Listener.Address, loop.Frontends[0].Listener.Port = netip.AddrFrom4([4]byte{192, 0, 2, 99}), 31000
	loop.Frontends[0].NodePort = 31000
	nodes := append(nodesOfAll(), lb.Node{Name: "n9", IPv4: loop.Frontends[0].Listener.Address})
	cfg := &lb.Config{Nodes: nodes, Services: []*lb.Service{loop}, Certificates: lbtest.Certificates()[:1], VRRP: router()}
	return append(a.encode(cfg), a.shows(cfg.Certificates[0].Name(), 0))
}

// toNodes is a Service that sends to nodes.
func toNodes(s *lb.Service) *lb.Service {
	out := *s
	out.Pods, out.Frontends = false, slices.Clone(s.Frontends)
	for i := range out.Frontends {
		out.Frontends[i].Endpoints = nil
	}
	return &out
}

// pool of Services of which the hostile ones are made.
func (a *attacker) pool() []*lb.Service {
	if a.services == nil {
		for seed := range 80 {
			s := lbtest.Service(nodesOfAll()).Example(seed)
			for _, t := range []*lb.Targets{&s.IPv4.Targets, &s.IPv6.Targets} {
				t.All = (t.All || len(t.Nodes) == 0) && !s.Pods
			}
			for i := range s.Frontends { // most ask for something by HTTP, if the engine can
				if h := &s.Frontends[i].Settings.HealthCheck; h.Type != lb.CheckNone && seed%4 > 0 {
					h.Type = lb.CheckHTTP
				}
			}
			able(a.victim.Engine(), s)
			a.services = append(a.services, s)
		}
	}
	return a.services
}

// service is the n-th, where nobody else listens.
func (a *attacker) service(n int, of *lb.Service) *lb.Service {
	s := *of
	s.ID = lb.ID{Namespace: "default", Name: fmt.Sprintf("h%d", n), UID: "uid"}
	s.Frontends = slices.Clone(s.Frontends)
	for i := range s.Frontends {
		f := &s.Frontends[i]
		f.Listener.Port = uint16(1000 + (n*8+i)%1000)
		if f.Settings.Certificate != "" {
			f.Settings.Certificate = lbtest.Certificates()[0].Name()
		}
	}
	s.Frontends = distinct(s.Frontends)
	return &s
}

// subject is the Item of a change before it is made, with all that the change is about.
func (a *attacker) subject(c change, n int) lb.Item {
	a.Helper()
	switch c.kind {
	case "node":
		ip4, ip6 := netip.AddrFrom4([4]byte{10, 1, byte(n >> 8), byte(n)}), netip.AddrFrom16([16]byte{0xfd, 13: 1, 14: byte(n >> 8), 15: byte(n)})
		return a.encode(&lb.Config{Nodes: []lb.Node{{Name: fmt.Sprintf("h%d", n), IPv4: ip4, IPv6: ip6}}})[0]
	case "certificate":
		return a.encode(&lb.Config{Certificates: lbtest.Certificates()[1:]})[0]
	case "address":
		return a.encode(&lb.Config{Addresses: []netip.Addr{netip.AddrFrom4([4]byte{192, 0, 2, byte(100 + n%100)})}})[0]
	case "vrrp":
		return a.encode(&lb.Config{VRRP: router()})[0]
	}
	if c.ofServers() {
		cp := a.service(n, toNodes(a.pool()[0]))
		cp.IPv4.Targets, cp.IPv6.Targets, cp.Direct = lb.Targets{}, lb.Targets{}, false
		cp.Frontends = cp.Frontends[:min(len(cp.Frontends), 4)] // more are refused for their number
		for i := range cp.Frontends {                           // without Direct each needs one
			cp.Frontends[i].NodePort = max(cp.Frontends[i].NodePort, 30000)
		}
		cp.ID, cp.Servers = lb.ControlPlane, []lb.Node{{Name: "n1", IPv4: netip.AddrFrom4([4]byte{10, 0, 0, 1}), IPv6: netip.AddrFrom16([16]byte{0xfd, 15: 1})}}
		return a.encode(&lb.Config{Services: []*lb.Service{cp}})[0]
	}
	all := a.pool()
	var it lb.Item
	for i := range all {
		it = a.encode(&lb.Config{Services: []*lb.Service{a.service(n, all[(n+i)%len(all)])}})[0]
		m := lbtest.Messages[c.kind]()
		if err := proto.Unmarshal(it.Data, m); err == nil && c.says(m.ProtoReflect()) {
			return it
		}
	}
	if !c.mayBeMissing {
		a.Fatalf("no Service for %s: give the pool more, or able one", c)
	}
	return it
}

// hostile are the Items of a change: under the Key that was, and under those of what it
// says now. A certificate comes with a Service that shows it.
func (a *attacker) hostile(c change, n int) (items []lb.Item) {
	a.Helper()
	it := a.subject(c, n)
	m := lbtest.Messages[c.kind]()
	if err := proto.Unmarshal(it.Data, m); err != nil {
		a.Fatal(err)
	}
	c.apply(m.ProtoReflect(), a.random)
	data, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil { // text that is not UTF-8 cannot be said in this way
		a.Fatal(err)
	}
	for _, key := range append(keysOf[c.kind](m), it.Key) {
		if lb.CheckKey(key) != nil {
			continue // the whole delivery would be refused
		}
		items = append(items, lb.NewItem(key, data))
		a.tried[key] = c.String()
		if name, ok := strings.CutPrefix(string(key), string(lb.CertificateKey(""))); ok {
			items = append(items, a.shows(name, len(items)))
		}
	}
	return items
}

// shows is a Service that shows a certificate, if the engine can.
func (a *attacker) shows(certificate string, n int) lb.Item {
	a.Helper()
	for _, of := range a.pool() {
		s := a.service(n, of)
		s.ID.Name = "shows-" + certificate
		for i := range s.Frontends {
			if s.Frontends[i].Settings.Certificate != "" {
				s.Frontends[i].Settings.Certificate = certificate
				s.Frontends[i].Listener.Port = uint16(1900 + a.random.IntN(100))
				s.Frontends = s.Frontends[i : i+1]
				return a.encode(&lb.Config{Services: []*lb.Service{s}})[0]
			}
		}
	}
	return a.encode(&lb.Config{Services: []*lb.Service{a.service(n, a.pool()[0])}})[0] // of an engine without TLS
}

// scrambled is an Item whose bytes are changed without a view of what they say.
func (a *attacker) scrambled(n int) lb.Item {
	it := scramble(a.subject(change{kind: "service", mayBeMissing: true}, n), a.random)
	a.tried[it.Key] = "scrambled bytes"
	return it
}

// says reports whether a message has all lists and messages within which a change is.
func (c change) says(m protoreflect.Message) bool {
	if len(c.at) == 0 {
		return true
	}
	for _, fd := range c.at {
		if !m.Has(fd) {
			return false
		}
		if !fd.IsList() {
			m = m.Get(fd).Message()
			continue
		}
		m = m.Get(fd).List().Get(0).Message()
	}
	return true
}

// pick finds the message of a change; of a list it is any.
func (c change) pick(m protoreflect.Message, random *rand.Rand) protoreflect.Message {
	for _, fd := range c.at {
		if !fd.IsList() {
			m = m.Mutable(fd).Message()
			continue
		}
		list := m.Mutable(fd).List()
		if list.Len() == 0 {
			list.AppendMutable()
		}
		m = list.Get(random.IntN(list.Len())).Message()
	}
	return m
}
