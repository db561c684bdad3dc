package lb

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/external-lb/external-lb/internal/lb/lbpb"
)

// Encoder turns Configs into Sets, one after the other. It makes Items of what is another than
// last time alone: the rest it looks at, and no more. Not for concurrent use.
type Encoder struct {
	last *Config // which nobody changes
	set  *Set    // of it
}

// Encode makes the Set of a Config, in which each part is there once: the same Set if it says
// what the last one said.
func (e *Encoder) Encode(cfg *Config) (*Set, error) {
	was := e.last
	if was == nil {
		was, e.set = &Config{}, NewSet()
	}
	var c Change
	if err := errors.Join(
		encodeList(&c, was.Services, cfg.Services, (*Service).compare, serviceKey, fromService),
		encodeList(&c, was.Nodes, cfg.Nodes, Node.compare, nodeKey, fromNode),
		encodeList(&c, was.Certificates, cfg.Certificates, compareCertificates, certificateKey, fromCertificate),
		encodeList(&c, was.Addresses, cfg.Addresses, netip.Addr.Compare, AddressKey, fromAddress),
		encodeList(&c, was.VRRP.list(), cfg.VRRP.list(), VRRP.compare, vrrpKey, fromVRRP),
	); err != nil {
		return nil, err
	}
	e.last, e.set = cfg, e.set.Apply(c)
	return e.set, nil
}

// encodeList adds to a Change what differs between two lists, both sorted. What is the same
// value, or pointer, says the same.
func encodeList[T comparable, M proto.Message](c *Change, was, now []T, compare func(a, b T) int, key func(T) Key, from func(T) M) error {
	for _, part := range now {
		if len(was) > 0 && was[0] == part { // as mostly
			was = was[1:]
			continue
		}
		order := 1
		for len(was) > 0 && order > 0 {
			if order = compare(part, was[0]); order > 0 {
				c.Delete, was = append(c.Delete, key(was[0])), was[1:]
			}
		}
		if len(was) > 0 && order == 0 {
			same := was[0] == part
			if was = was[1:]; same {
				continue
			}
		}
		it, err := encode(key(part), from(part))
		if err != nil {
			return err
		}
		c.Put = append(c.Put, it)
	}
	for _, part := range was {
		c.Delete = append(c.Delete, key(part))
	}
	return nil
}

func (s *Service) compare(o *Service) int {
	if s == o {
		return 0
	}
	return s.ID.Compare(o.ID)
}

func (n Node) compare(o Node) int                      { return cmp.Compare(n.Name, o.Name) }
func compareCertificates(a, b *Certificate) int        { return cmp.Compare(a.Name(), b.Name()) }
func (v VRRP) compare(VRRP) int                        { return 0 }
func serviceKey(s *Service) Key                        { return ServiceKey(s.ID) }
func nodeKey(n Node) Key                               { return NodeKey(n.Name) }
func certificateKey(c *Certificate) Key                { return CertificateKey(c.Name()) }
func vrrpKey(VRRP) Key                                 { return VRRPKey }
func fromCertificate(c *Certificate) *lbpb.Certificate { return &lbpb.Certificate{Pem: c.PEM()} }
func fromAddress(a netip.Addr) *lbpb.Address           { return &lbpb.Address{Address: fromAddr(a)} }

// list of one, or of none.
func (v *VRRP) list() []VRRP {
	if v == nil {
		return nil
	}
	return []VRRP{*v}
}

// EncodeVRRP makes the Item of a VRRP, which differs from host to host.
func EncodeVRRP(v *VRRP) (Item, error) {
	return encode(VRRPKey, fromVRRP(*v))
}

func fromVRRP(v VRRP) *lbpb.VRRP {
	return &lbpb.VRRP{Interface: v.Interface, RouterId: uint32(v.RouterID), Interval: int64(v.Interval), Priority: uint32(v.Priority)}
}

func encode(key Key, m proto.Message) (Item, error) {
	data, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		return Item{}, fmt.Errorf("%s cannot be sent: %w", key.Describe(), err)
	}
	if limit := maxBytes(key); len(data) > limit {
		return Item{}, fmt.Errorf("%s has %d bytes, more than %d", key.Describe(), len(data), limit)
	}
	return NewItem(key, data), nil
}

func fromAddr(a netip.Addr) []byte {
	if !a.IsValid() {
		return nil
	}
	return a.AsSlice()
}

func fromNode(n Node) *lbpb.Node {
	return &lbpb.Node{Name: n.Name, Ipv4: fromAddr(n.IPv4), Ipv6: fromAddr(n.IPv6), Draining: n.Draining, Weight: uint32(n.Weight), Backup: n.Backup}
}

func fromService(s *Service) *lbpb.Service {
	out := &lbpb.Service{
		Namespace: s.ID.Namespace, Name: s.ID.Name, Uid: s.ID.UID,
		Ipv4: fromFamily(s.IPv4), Ipv6: fromFamily(s.IPv6),
		Affinity: int64(s.Affinity), HealthCheckNodePort: uint32(s.HealthCheckNodePort), Direct: s.Direct, Pods: s.Pods, Flavor: s.Flavor,
	}
	for _, n := range s.Servers {
		out.Servers = append(out.Servers, fromNode(n))
	}
	for _, f := range s.Frontends {
		out.Frontends = append(out.Frontends, &lbpb.Frontend{
			Address: fromAddr(f.Listener.Address), Port: uint32(f.Listener.Port), Protocol: protocols.number(f.Listener.Protocol),
			NodePort: uint32(f.NodePort), Settings: fromSettings(&f.Settings), Endpoints: fromEndpoints(f.Endpoints),
		})
	}
	return out
}

// Bytes of a Service as it is sent, without its Endpoints: how many these are is bounded by itself.
func (s *Service) Bytes() int {
	bare := *s
	bare.Frontends = slices.Clone(s.Frontends)
	for i := range bare.Frontends {
		bare.Frontends[i].Endpoints = nil
	}
	return proto.Size(fromService(&bare))
}

func fromEndpoints(all []Endpoint) []*lbpb.Endpoint {
	out := make([]*lbpb.Endpoint, len(all))
	for i, e := range all {
		out[i] = &lbpb.Endpoint{Address: fromAddr(e.Address.Addr()), Port: uint32(e.Address.Port()), Draining: e.Draining}
	}
	return out
}

func fromFamily(f Family) *lbpb.Family {
	t := &lbpb.Targets{All: f.Targets.All, Limit: uint32(f.Targets.Limit)}
	for _, n := range f.Targets.Nodes {
		t.Nodes = append(t.Nodes, &lbpb.Target{Node: n.Node, Weight: uint32(n.Weight), Draining: n.Draining})
	}
	c := &lbpb.Clients{Everybody: f.Clients.Everybody}
	for _, p := range f.Clients.Sources {
		c.Sources = append(c.Sources, fromPrefix(p))
	}
	return &lbpb.Family{Targets: t, Clients: c}
}

// fromPrefix is nil of the zero Prefix.
func fromPrefix(p netip.Prefix) *lbpb.Prefix {
	if !p.IsValid() {
		return nil
	}
	return &lbpb.Prefix{Address: fromAddr(p.Addr()), Bits: uint32(p.Bits())}
}

func fromSettings(s *Settings) *lbpb.Settings {
	return &lbpb.Settings{
		Algorithm: algorithms.number(s.Algorithm), Mode: modes.number(s.Mode),
		SendProxy: proxyProtocols.number(s.SendProxy), AcceptProxy: s.AcceptProxy,
		ConnectTimeout: int64(s.ConnectTimeout), IdleTimeout: int64(s.IdleTimeout),
		ClientTimeout: int64(s.ClientTimeout), ServerTimeout: int64(s.ServerTimeout),
		QueueTimeout: int64(s.QueueTimeout), MaxQueue: uint32(s.MaxQueue),
		AbortOnClose: s.AbortOnClose, KeepAlive: int64(s.KeepAlive), NoAccessLog: s.NoAccessLog, SlowStart: int64(s.SlowStart),
		Drain:          int64(s.Drain),
		HealthCheck:    fromHealthCheck(s.HealthCheck),
		MaxConnections: uint32(s.MaxConnections), MaxConnectionsPerNode: uint32(s.MaxConnectionsPerNode),
		MaxConnectionsPerClient: uint32(s.MaxConnectionsPerClient), Retries: uint32(s.Retries),
		MaxRatePerClient: uint32(s.MaxRatePerClient),
		Certificate:      s.Certificate, CloudCertificate: s.CloudCertificate, H2C: s.H2C,
		RedirectToHttps: s.RedirectToHTTPS, MaxBodyBytes: s.MaxBodyBytes, MaxHeaderBytes: uint32(s.MaxHeaderBytes),
		SourceIpv4: fromPrefix(s.Source.IPv4), SourceIpv6: fromPrefix(s.Source.IPv6),
	}
}

func fromHealthCheck(h HealthCheck) *lbpb.HealthCheck {
	if h.Type == CheckNone {
		return &lbpb.HealthCheck{}
	}
	return &lbpb.HealthCheck{
		Type: checkTypes.number(h.Type), Path: h.Path, Port: uint32(h.Port),
		Interval: int64(h.Interval), Timeout: int64(h.Timeout), Rise: uint32(h.Rise), Fall: uint32(h.Fall), Tls: h.TLS,
		Host: h.Host, StatusFrom: uint32(h.Status.From), StatusTo: uint32(h.Status.To), Send: h.Send, Expect: h.Expect,
	}
}

// enum pairs the words of the model with the numbers on the wire.
type enum[W ~string, N number] map[N]W

type number interface {
	~int32
	protoreflect.Enum
}

// number of a word; one that the wire has no number for is one that no host takes.
func (e enum[W, N]) number(word W) N {
	for n, w := range e {
		if w == word {
			return n
		}
	}
	return -1
}

var (
	protocols = enum[Protocol, lbpb.Protocol]{
		lbpb.Protocol_PROTOCOL_TCP: TCP, lbpb.Protocol_PROTOCOL_UDP: UDP, lbpb.Protocol_PROTOCOL_SCTP: SCTP,
	}
	algorithms = enum[Algorithm, lbpb.Algorithm]{
		lbpb.Algorithm_ALGORITHM_ROUND_ROBIN: RoundRobin, lbpb.Algorithm_ALGORITHM_LEAST_CONNECTIONS: LeastConnections,
		lbpb.Algorithm_ALGORITHM_SOURCE_HASH: SourceHash, lbpb.Algorithm_ALGORITHM_RANDOM: Random,
		lbpb.Algorithm_ALGORITHM_DESTINATION_HASH: DestinationHash, lbpb.Algorithm_ALGORITHM_NEVER_QUEUE: NeverQueue,
		lbpb.Algorithm_ALGORITHM_SHORTEST_EXPECTED_DELAY: ShortestExpectedDelay,
	}
	modes          = enum[Mode, lbpb.Mode]{lbpb.Mode_MODE_TCP: ModeTCP, lbpb.Mode_MODE_HTTP: ModeHTTP}
	proxyProtocols = enum[ProxyProtocol, lbpb.ProxyProtocol]{
		lbpb.ProxyProtocol_PROXY_PROTOCOL_UNSPECIFIED: ProxyNone,
		lbpb.ProxyProtocol_PROXY_PROTOCOL_V1:          ProxyV1, lbpb.ProxyProtocol_PROXY_PROTOCOL_V2: ProxyV2,
	}
	checkTypes = enum[HealthCheckType, lbpb.HealthCheckType]{
		lbpb.HealthCheckType_HEALTH_CHECK_TYPE_UNSPECIFIED: CheckNone, lbpb.HealthCheckType_HEALTH_CHECK_TYPE_AUTO: CheckAuto,
		lbpb.HealthCheckType_HEALTH_CHECK_TYPE_TCP: CheckTCP, lbpb.HealthCheckType_HEALTH_CHECK_TYPE_HTTP: CheckHTTP,
	}
)
