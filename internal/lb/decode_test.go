package lb_test

import (
	"bytes"
	"encoding/pem"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/external-lb/external-lb/internal/lb"
	"github.com/external-lb/external-lb/internal/lb/lbpb"
	"github.com/external-lb/external-lb/internal/lb/lbtest"
)

// sampleOf a kind.
func sampleOf(t testing.TB, kind string) sample {
	t.Helper()
	for _, s := range samples(t) {
		if strings.HasPrefix(string(s.item.Key), kind) {
			return s
		}
	}
	t.Fatalf("no sample of a %s", kind)
	return sample{}
}

func TestWhatIsWrongIsTold(t *testing.T) {
	service := func(change func(s *lbpb.Service)) (string, func(proto.Message)) {
		return "service", func(m proto.Message) { change(m.(*lbpb.Service)) }
	}
	node := func(change func(n *lbpb.Node)) (string, func(proto.Message)) {
		return "node", func(m proto.Message) { change(m.(*lbpb.Node)) }
	}
	pods := func(last ...byte) (all []*lbpb.Endpoint) {
		for _, b := range last {
			a := []byte{10, 244, 0, b}
			switch b {
			case 0:
				a = netip.MustParseAddr("2001:db8::1").AsSlice()
			case 255:
				a = []byte{255, 255, 255, 255}
			}
			all = append(all, &lbpb.Endpoint{Address: a, Port: 8080})
		}
		return all
	}
	ofPods := func(last ...byte) (string, func(proto.Message)) {
		return service(func(s *lbpb.Service) {
			s.Pods, s.Direct, s.Ipv4.Targets, s.Ipv6, s.Servers = true, false, nil, nil, nil
			s.Frontends[0].Endpoints = pods(last...)
		})
	}
	type wrong struct {
		kind   string
		change func(proto.Message)
	}
	of := func(kind string, change func(proto.Message)) wrong { return wrong{kind, change} }
	mapped := append(append(make([]byte, 10), 0xff, 0xff), 10, 0, 0, 1)
	for want, w := range map[string]wrong{
		"node n1: it has no address":                               of(node(func(n *lbpb.Node) { n.Ipv4, n.Ipv6 = nil, nil })),
		"node n1: an address of the wrong family":                  of(node(func(n *lbpb.Node) { n.Ipv4, n.Ipv6 = n.Ipv6, n.Ipv4 })),
		"IPv6 00000000000000000000ffff0a000001 is not the address": of(node(func(n *lbpb.Node) { n.Ipv6 = mapped })),
		"node n1: it is node n2":                                   of(node(func(n *lbpb.Node) { n.Name = "n2" })),
		"Service default/web: it is Service default/other":         of(service(func(s *lbpb.Service) { s.Name = "other" })),
		"Service default/web: it is Service default/web":           of(service(func(s *lbpb.Service) { s.Uid = "another-life" })),
		"no frontends":                                                    of(service(func(s *lbpb.Service) { s.Frontends = nil })),
		"two frontends for 192.0.2.1:80/TCP":                              of(service(func(s *lbpb.Service) { s.Frontends = append(s.Frontends, s.Frontends[0]) })),
		"a listener without an address or a port":                         of(service(func(s *lbpb.Service) { s.Frontends[0].Port = 0 })),
		"frontend 192.0.2.1:80/TCP has no nodePort":                       of(service(func(s *lbpb.Service) { s.Direct, s.Frontends[0].NodePort = false, 0 })),
		"nodePort 65616 is not a port":                                    of(service(func(s *lbpb.Service) { s.Frontends[0].NodePort = 65616 })),
		"no protocol":                                                     of(service(func(s *lbpb.Service) { s.Frontends[0].Protocol = 0 })),
		"no algorithm":                                                    of(service(func(s *lbpb.Service) { s.Frontends[0].Settings = nil })),
		"connect timeout of -1s: want between 1ms and 24h0m0s":            of(service(func(s *lbpb.Service) { s.Frontends[0].Settings.ConnectTimeout = -1e9 })),
		"idle timeout of 1ns":                                             of(service(func(s *lbpb.Service) { s.Frontends[0].Settings.IdleTimeout = 1 })),
		"maxRatePerClient of 1000001: want between 0 and 1000000":         of(service(func(s *lbpb.Service) { s.Frontends[0].Settings.MaxRatePerClient = 1_000_001 })),
		"queue timeout of 1ns":                                            of(service(func(s *lbpb.Service) { s.Frontends[0].Settings.QueueTimeout = 1 })),
		"slow start of 1ns":                                               of(service(func(s *lbpb.Service) { s.Frontends[0].Settings.SlowStart = 1 })),
		"maxQueue of 4294967295":                                          of(service(func(s *lbpb.Service) { s.Frontends[0].Settings.MaxQueue = 1<<32 - 1 })),
		"client timeout of 1ns":                                           of(service(func(s *lbpb.Service) { s.Frontends[0].Settings.ClientTimeout = 1 })),
		"server timeout of 1ns":                                           of(service(func(s *lbpb.Service) { s.Frontends[0].Settings.ServerTimeout = 1 })),
		"retries of 101: want between 0 and 100":                          of(service(func(s *lbpb.Service) { s.Frontends[0].Settings.Retries = 101 })),
		"health check interval of 99ms: want between 100ms and 24h0m0s":   of(service(func(s *lbpb.Service) { s.Frontends[0].Settings.HealthCheck.Interval = 99e6 })),
		"rise of 0: want between 1 and 100":                               of(service(func(s *lbpb.Service) { s.Frontends[0].Settings.HealthCheck.Rise = 0 })),
		`the path "/a b" of the health check`:                             of(service(func(s *lbpb.Service) { s.Frontends[0].Settings.HealthCheck.Path = "/a b" })),
		`the host "a b" of the health check`:                              of(service(func(s *lbpb.Service) { s.Frontends[0].Settings.HealthCheck.Host = "a b" })),
		"the status 200-199 of the health check":                          of(service(func(s *lbpb.Service) { s.Frontends[0].Settings.HealthCheck.StatusTo = 199 })),
		"status of the health check of 600":                               of(service(func(s *lbpb.Service) { s.Frontends[0].Settings.HealthCheck.StatusTo = 600 })),
		`what the health check sends, "0"`:                                of(service(func(s *lbpb.Service) { s.Frontends[0].Settings.HealthCheck.Send = "0" })),
		`or expects, "a;"`:                                                of(service(func(s *lbpb.Service) { s.Frontends[0].Settings.HealthCheck.Expect = "a;" })),
		"keep-alive after 999.999999ms":                                   of(service(func(s *lbpb.Service) { s.Frontends[0].Settings.KeepAlive = 1e9 - 1 })),
		"a drain of 1h0m1s: want between 1s and 1h0m0s, in whole seconds": of(service(func(s *lbpb.Service) { s.Frontends[0].Settings.Drain = 3601e9 })),
		"a drain of 1.5s":                                                 of(service(func(s *lbpb.Service) { s.Frontends[0].Settings.Drain = 15e8 })),
		"a body of 1099511627777 bytes: want at most 1099511627776":       of(service(func(s *lbpb.Service) { s.Frontends[0].Settings.MaxBodyBytes = 1<<40 + 1 })),
		"headers of 1023 bytes: want at least 1024":                       of(service(func(s *lbpb.Service) { s.Frontends[0].Settings.MaxHeaderBytes = 1023 })),
		"maxHeaderBytes of 65537: want between 0 and 65536":               of(service(func(s *lbpb.Service) { s.Frontends[0].Settings.MaxHeaderBytes = 65537 })),
		"source address c0000208/28: want one of the family, without":     of(service(func(s *lbpb.Service) { s.Frontends[0].Settings.SourceIpv4.Bits = 28 })),
		"source address c0000208/29: want one of the family":              of(service(func(s *lbpb.Service) { s.Frontends[0].Settings.SourceIpv6 = s.Frontends[0].Settings.SourceIpv4 })),
		`"../x" is not the name of a certificate`:                         of(service(func(s *lbpb.Service) { s.Frontends[0].Settings.Certificate = "../x" })),
		"all and a list at once":                                          of(service(func(s *lbpb.Service) { s.Ipv4.Targets.All = true })),
		"its servers are not sorted":                                      of(service(func(s *lbpb.Service) { s.Servers = append(s.Servers, s.Servers[0]) })),
		"it has no address":                                               of(service(func(s *lbpb.Service) { s.Servers[0].Ipv4, s.Servers[0].Ipv6 = nil, nil })),
		"pods and nodes at once":                                          of(service(func(s *lbpb.Service) { s.Pods = true })),
		"frontend 192.0.2.1:80/TCP has pods, and nodes answer":            of(service(func(s *lbpb.Service) { s.Frontends[0].Endpoints = pods(1) })),
		"the pods of frontend 192.0.2.1:80/TCP are not sorted":            of(ofPods(2, 1)),
		"or one is there twice":                                           of(ofPods(1, 1)),
		"has the pod [2001:db8::1]:8080, of the other family":             of(ofPods(0)),
		"pod ffffffff is not the address of one machine":                  of(ofPods(255)),
		"node n1 twice":                                                   of(service(func(s *lbpb.Service) { s.Ipv4.Targets.Nodes = append(s.Ipv4.Targets.Nodes, s.Ipv4.Targets.Nodes[0]) })),
		"its nodes are not sorted":                                        of(service(func(s *lbpb.Service) { s.Ipv4.Targets.Nodes = append(s.Ipv4.Targets.Nodes, &lbpb.Target{Node: "a"}) })),
		`node "n1" with a weight of 257`:                                  of(service(func(s *lbpb.Service) { s.Ipv4.Targets.Nodes[0].Weight = 257 })),
		"source range c6336401/24: want one of the family, without":       of(service(func(s *lbpb.Service) { s.Ipv4.Clients.Sources[0].Address[3] = 1 })),
		"source range c6336400/33":                                        of(service(func(s *lbpb.Service) { s.Ipv4.Clients.Sources[0].Bits = 33 })),
		"certificate 00000000000000000000000000000000: it is certificate": {"certificate", nil},
		"virtual router ID 256, priority 250: want at most 255 and 254":   {"vrrp", func(m proto.Message) { m.(*lbpb.VRRP).RouterId = 256 }},
		"priority 255: want between 1 and 254":                            {"vrrp", func(m proto.Message) { m.(*lbpb.VRRP).Priority = 255 }},
		"advertisements every 15ms":                                       {"vrrp", func(m proto.Message) { m.(*lbpb.VRRP).Interval = 15e6 }},
		"address 192.0.2.1: no address":                                   {"address", func(m proto.Message) { m.(*lbpb.Address).Address = nil }},
	} {
		s := sampleOf(t, w.kind)
		it := s.item
		if w.change == nil {
			it.Key = lb.CertificateKey(strings.Repeat("0", 32))
		} else {
			it = s.with(t, func(m protoreflect.Message) { w.change(m.Interface()) })
		}
		if _, err := wantSafe(t, it); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

func TestSourceRangesAreSortedOnArrival(t *testing.T) {
	s := sampleOf(t, "service")
	part, err := wantSafe(t, s.with(t, func(m protoreflect.Message) {
		c := m.Interface().(*lbpb.Service).Ipv4.Clients
		c.Sources = []*lbpb.Prefix{{Address: []byte{203, 0, 113, 0}, Bits: 24}, c.Sources[0], {Address: []byte{203, 0, 113, 0}, Bits: 24}}
	}))
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(part.(*lb.Service).IPv4.Clients.Sources); got != "[198.51.100.0/24 203.0.113.0/24]" {
		t.Error(got)
	}
}

// Nodes that nobody checks are sent without what nobody reads.
func TestNoHealthCheckSaysNothingElse(t *testing.T) {
	s := sampleOf(t, "service").part.(*lb.Service)
	none := *s
	none.Frontends = slices.Clone(s.Frontends)
	for i := range none.Frontends {
		none.Frontends[i].Settings.HealthCheck.Type = lb.CheckNone
	}
	got := decode(t, encode(t, &lb.Config{Services: []*lb.Service{&none}})).Services[0].Frontends[0].Settings.HealthCheck
	if got != (lb.HealthCheck{Type: lb.CheckNone}) {
		t.Errorf("%+v", got)
	}
}

func TestKeysAreChecked(t *testing.T) {
	for _, key := range []lb.Key{"", "A", "node/A", "node/a b", "node/a\n", "node/ä", "node/\xff", "node/a\x00", lb.Key("node/" + strings.Repeat("a", 316)), "node/a;", "node/$a", "node/a_b",
		"node/", "node/../n1", "../n1", "service///", "service/default/web/", "vrrp/", "address/192.0.2.1/", "certificate/..", "certificate/./a", "/", "//", ".", "..", "/etc/passwd"} {
		if err := lb.CheckKey(key); err == nil || len(err.Error()) > 400 || !utf8.ValidString(err.Error()) || strings.ContainsAny(err.Error(), "\n\x00") {
			t.Errorf("%.100q: %v", key, err)
		}
	}
	for _, key := range []lb.Key{"node", "node/n2", "node/n1/n1", "service", "service/default/web", "service/default/web/6f1c0a52/x", "vrrp/n1", "address", "address/::", "address/::ffff:192.0.2.1", "certificate", "certificate/...", "..."} {
		if err := lb.CheckKey(key); err != nil {
			t.Errorf("%q: %v", key, err)
		}
		for _, s := range samples(t) {
			if _, err := wantSafe(t, lb.Item{Key: key, Data: s.item.Data}); err == nil {
				t.Errorf("%q is taken as the key of %s", key, s.item.Key)
			}
		}
	}
}

// mutate changes one place of some bytes at random.
func mutate(random *rand.Rand, data []byte) []byte {
	out := slices.Clone(data)
	i := random.IntN(len(out))
	switch random.IntN(5) {
	case 0:
		out[i] ^= 1 << random.IntN(8)
	case 1:
		out[i] = byte(random.Uint32())
	case 2:
		return slices.Delete(out, i, min(len(out), i+1+random.IntN(8)))
	case 3:
		return slices.Insert(out, i, out[random.IntN(len(out)):]...)
	default:
		return slices.Insert(out, i, byte(random.Uint32()))
	}
	return out
}

func TestMutationsOfItemsAreSafe(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	taken := 0
	for _, s := range samples(t) {
		n := 10_000
		if strings.HasPrefix(string(s.item.Key), "certificate") {
			n = 500 // parsing one takes a while
		}
		for range n {
			data := s.item.Data
			for range 1 + random.IntN(4) {
				if len(data) > 0 {
					data = mutate(random, data)
				}
			}
			if _, err := wantSafe(t, lb.NewItem(s.item.Key, data)); err == nil {
				taken++
			}
		}
	}
	if taken == 0 {
		t.Error("every mutation is refused, so nothing was tried")
	}
}

func FuzzDecode(f *testing.F) {
	for _, s := range samples(f) {
		f.Add(string(s.item.Key), s.item.Data)
	}
	f.Fuzz(func(t *testing.T, key string, data []byte) { wantSafe(t, lb.NewItem(lb.Key(key), data)) })
}

// allocated measures the bytes that a function allocates.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// field wraps bytes as a field of a message.
func field(number protowire.Number, data []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(nil, number, protowire.BytesType), data)
}

func TestRefusingCostsLittle(t *testing.T) {
	service, certificate := sampleOf(t, "service").item, sampleOf(t, "certificate").item
	const large = 1<<20 - 200
	head := field(1, []byte("default"))
	for name, it := range map[string]lb.Item{
		"empty frontends": lb.NewItem(service.Key, append(head, bytes.Repeat(field(4, nil), large/2)...)),
		"empty targets":   lb.NewItem(service.Key, append(head, field(5, field(1, bytes.Repeat(field(3, nil), large/2)))...)),
		"empty ranges":    lb.NewItem(service.Key, append(head, field(5, field(2, bytes.Repeat(field(2, nil), large/2)))...)),
		"empty pods": lb.NewItem(service.Key, append(head, bytes.Repeat(
			field(4, bytes.Repeat(field(6, nil), lb.MaxPods)), large/2/(lb.MaxPods+2))...)),
		"families":           lb.NewItem(service.Key, append(head, bytes.Repeat(field(5, nil), large/2)...)),
		"one long name":      lb.NewItem(service.Key, field(2, bytes.Repeat([]byte("a"), large))),
		"unknown":            lb.NewItem(service.Key, append(head, bytes.Repeat([]byte{0x78, 0}, large/2)...)),
		"groups":             lb.NewItem(service.Key, append(head, bytes.Repeat([]byte{0x7b}, large)...)),
		"too long":           lb.NewItem(service.Key, make([]byte, 32<<20)),
		"begins of PEM":      lb.NewItem(certificate.Key, field(1, bytes.Repeat([]byte("-----BEGIN CERTIFICATE-----\n"), 4500))),
		"begins and ends":    lb.NewItem(certificate.Key, field(1, bytes.Repeat([]byte("-----BEGIN A-----\n-----END B-----\n"), 3800))),
		"headers of PEM":     lb.NewItem(certificate.Key, field(1, append([]byte("-----BEGIN CERTIFICATE-----\n"), bytes.Repeat([]byte("a:b\n"), 32000)...))),
		"a heap of blocks":   lb.NewItem(certificate.Key, field(1, bytes.Repeat(pem.EncodeToMemory(&pem.Block{Type: "A"}), 4000))),
		"certificates of 0s": lb.NewItem(certificate.Key, field(1, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: make([]byte, 90_000)}))),
	} {
		t.Run(name, func(t *testing.T) {
			var err error
			got := allocated(func() { _, err = lb.Decode(it) })
			if err == nil {
				t.Fatal("it is taken")
			}
			if most := 8*len(it.Data) + 64<<10; got > uint64(most) {
				t.Errorf("%d bytes of memory to refuse %d", got, len(it.Data))
			}
			if strings.HasPrefix(name, "empty") && got > 64<<10 {
				t.Errorf("%d bytes of memory for a list without measure", got)
			}
		})
	}
}

// large is a Service with so many elements of each list, by its name; else as many as there may be.
func large(t *testing.T, less map[protoreflect.Name]int) lb.Item {
	s := sampleOf(t, "service")
	return s.with(t, func(m protoreflect.Message) {
		service := m.Interface().(*lbpb.Service)
		for name, most := range lb.MaxRepeated {
			if n, ok := less[name.Name()]; ok {
				most = n
			}
			if name.Name() == "endpoints" { // which are in the place of nodes
				continue
			}
			list := map[protoreflect.Name]protoreflect.Message{
				"frontends": service.ProtoReflect(), "servers": service.ProtoReflect(), "nodes": service.Ipv4.Targets.ProtoReflect(), "sources": service.Ipv4.Clients.ProtoReflect(),
			}[name.Name()]
			into := list.Mutable(list.Descriptor().Fields().ByName(name.Name())).List()
			into.Truncate(0)
			for i := range most {
				into.Append(protoreflect.ValueOfMessage(lbtest.Elements[name](i).ProtoReflect()))
			}
		}
	})
}

// A daemon has the source ranges once for each port.
func TestSourceRangesAreCountedForEachPort(t *testing.T) {
	_, err := lb.Decode(large(t, map[protoreflect.Name]int{"frontends": 33}))
	if err == nil || !strings.Contains(err.Error(), "its ports have 135168 source ranges together, each port all of them, more than 131072") {
		t.Error(err)
	}
	if _, err := lb.Decode(large(t, map[protoreflect.Name]int{"frontends": 32})); err != nil {
		t.Error(err)
	}
}

// The largest Service that is taken costs a few times its bytes.
func TestTakingCostsInProportion(t *testing.T) {
	it := large(t, map[protoreflect.Name]int{"sources": 256})
	var err error
	got := allocated(func() { _, err = lb.Decode(it) })
	if err != nil {
		t.Fatal(err)
	}
	if got > uint64(32*len(it.Data)) {
		t.Errorf("%d bytes of memory for %d", got, len(it.Data))
	}
}

func BenchmarkDecodeService(b *testing.B) {
	s := sampleOf(b, "service")
	for b.Loop() {
		if _, err := lb.Decode(s.item); err != nil {
			b.Fatal(err)
		}
	}
}

func TestPodsAnswerForNoAPIServer(t *testing.T) {
	s := &lb.Service{ID: lb.ControlPlane, Pods: true, Servers: []lb.Node{{Name: "cp1", IPv4: netip.MustParseAddr("10.0.0.1")}}}
	s.Frontends = []lb.Frontend{{Listener: lb.Listener{Address: netip.MustParseAddr("192.0.2.1"), Port: 6443, Protocol: lb.TCP}, Settings: lb.Settings{
		Algorithm: lb.RoundRobin, Mode: lb.ModeTCP, SendProxy: lb.ProxyNone, ConnectTimeout: time.Second, IdleTimeout: time.Second, HealthCheck: lb.HealthCheck{Type: lb.CheckNone},
	}}}
	set, err := new(lb.Encoder).Encode(&lb.Config{Services: []*lb.Service{s}})
	if err != nil {
		t.Fatal(err)
	}
	it, _ := set.Get(lb.ServiceKey(s.ID))
	if _, err := lb.Decode(it); err == nil || !strings.Contains(err.Error(), "pods and nodes at once") {
		t.Error(err)
	}
}

// A Service has so many pods at most, for each port and for all of them.
func TestPodsAreBounded(t *testing.T) {
	service := func(ports, pods int) lb.Item {
		s := &lb.Service{ID: lb.ID{Namespace: "default", Name: "web", UID: "uid"}, Pods: true}
		for i := range ports {
			f := lb.Frontend{Listener: lb.Listener{Address: netip.MustParseAddr("192.0.2.1"), Port: uint16(i + 1), Protocol: lb.TCP}, Settings: lb.Settings{
				Algorithm: lb.RoundRobin, Mode: lb.ModeTCP, SendProxy: lb.ProxyNone, ConnectTimeout: time.Second, IdleTimeout: time.Second, HealthCheck: lb.HealthCheck{Type: lb.CheckNone},
			}}
			for k := range pods {
				f.Endpoints = append(f.Endpoints, lb.Endpoint{Address: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 244, byte(k >> 8), byte(k)}), 65535)})
			}
			s.Frontends = append(s.Frontends, f)
		}
		set, err := new(lb.Encoder).Encode(&lb.Config{Services: []*lb.Service{s}})
		if err != nil {
			t.Fatal(err)
		}
		it, _ := set.Get(lb.ServiceKey(s.ID))
		return it
	}
	for _, c := range []struct {
		ports, pods int
		want        string
	}{
		{1, lb.MaxPods, ""}, {lb.MaxEndpoints / lb.MaxPods, lb.MaxPods, ""},
		{1, lb.MaxPods + 1, "more than 2048 endpoints of Frontend"},
		{lb.MaxEndpoints/1024 + 1, 1024, "its ports have more than 32768 pods together"},
	} {
		if _, err := lb.Decode(service(c.ports, c.pods)); (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%d ports with %d pods: %v", c.ports, c.pods, err)
		}
	}
}
