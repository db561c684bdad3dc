package lb

import (
	"fmt"
	"net/netip"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/external-lb/external-lb/internal/lb/lbpb"
)

// Encoder turns Configs into Sets, one after the other. What it made of Services
// that are the same pointer as last time, it keeps. Not for concurrent use.
type Encoder struct {
	services []*Service // of the last Config, which nobody changes
	items    []Item     // of these
}

// Encode makes the Set of a Config.
func (e *Encoder) Encode(cfg *Config) (*Set, error) {
	items := make([]Item, 0, len(cfg.Nodes)+len(cfg.Services)+len(cfg.Certificates)+len(cfg.Addresses)+1)
	add := func(key Key, m proto.Message) error {
		it, err := encode(key, m)
		if err == nil {
			items = append(items, it)
		}
		return err
	}
	at := 0 // in both, Services are sorted
	for _, s := range cfg.Services {
		for at < len(e.services) && e.services[at] != s && e.services[at].ID.Compare(s.ID) < 0 {
			at++
		}
		if at < len(e.services) && e.services[at] == s {
			items = append(items, e.items[at])
			continue
		}
		if err := add(ServiceKey(s.ID), fromService(s)); err != nil {
			return nil, err
		}
	}
	e.services, e.items = cfg.Services, items[:len(items):len(items)]
	for _, n := range cfg.Nodes {
		if err := add(NodeKey(n.Name), fromNode(n)); err != nil {
			return nil, err
		}
	}
	for _, c := range cfg.Certificates {
		if err := add(CertificateKey(c.Name()), &lbpb.Certificate{Pem: c.PEM()}); err != nil {
			return nil, err
		}
	}
	for _, a := range cfg.Addresses {
		if err := add(AddressKey(a), &lbpb.Address{Address: fromAddr(a)}); err != nil {
			return nil, err
		}
	}
	if cfg.VRRP != nil {
		it, err := EncodeVRRP(cfg.VRRP)
		if err != nil {
			return nil, err
		}
		items = append(items, it)
	}
	return NewSet(items...), nil
}

// EncodeVRRP makes the Item of a VRRP, which differs from host to host.
func EncodeVRRP(v *VRRP) (Item, error) {
	return encode(VRRPKey, &lbpb.VRRP{Interface: v.Interface, RouterId: uint32(v.RouterID), Interval: int64(v.Interval), Priority: uint32(v.Priority)})
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
		Affinity: int64(s.Affinity), HealthCheckNodePort: uint32(s.HealthCheckNodePort), Direct: s.Direct,
	}
	for _, n := range s.Servers {
		out.Servers = append(out.Servers, fromNode(n))
	}
	for _, f := range s.Frontends {
		out.Frontends = append(out.Frontends, &lbpb.Frontend{
			Address: fromAddr(f.Listener.Address), Port: uint32(f.Listener.Port), Protocol: protocols.number(f.Listener.Protocol),
			NodePort: uint32(f.NodePort), Settings: fromSettings(&f.Settings),
		})
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
		QueueTimeout: int64(s.QueueTimeout), MaxQueue: uint32(s.MaxQueue), AbortOnClose: s.AbortOnClose, KeepAlive: int64(s.KeepAlive), NoAccessLog: s.NoAccessLog, SlowStart: int64(s.SlowStart),
		HealthCheck:    fromHealthCheck(s.HealthCheck),
		MaxConnections: uint32(s.MaxConnections), MaxConnectionsPerNode: uint32(s.MaxConnectionsPerNode),
		MaxConnectionsPerClient: uint32(s.MaxConnectionsPerClient), Retries: uint32(s.Retries),
		MaxRatePerClient: uint32(s.MaxRatePerClient),
		Certificate:      s.Certificate, H2C: s.H2C,
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
