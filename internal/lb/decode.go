package lb

import (
	"fmt"
	"io/fs"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/external-lb/external-lb/internal/certificate"
	"github.com/external-lb/external-lb/internal/lb/lbpb"
)

// Bounds of what a host takes. Each is far beyond what people have, and keeps what
// one Item can cost within reason. A Set takes four times its bytes in memory, and
// a host has two for a moment.
const (
	MaxItems    = 1 << 17  // in a Set
	MaxSetBytes = 64 << 20 // of all Items together
	// MaxListeners of all Services of a Set, also of those that are refused.
	MaxListeners = 1 << 18
	// MaxRefusals of a host: of each listener that it was sent, and of each Item, its owner's
	// too. Both ends of the wire count on it.
	MaxRefusals = MaxListeners + 2*MaxItems
	// MaxRefusalText is all the room there is for their words, in bytes: some for each of as
	// many as there can be, and more for each of a few.
	MaxRefusalText = 64 * MaxRefusals
	MaxDuration    = 24 * time.Hour // of a timeout or an interval
	// MinInterval of health checks: all tenants pay for them, on hosts and nodes.
	MinInterval = 100 * time.Millisecond
	// MaxRanges of a Service: the source ranges of its ports. A daemon has them for each port.
	MaxRanges   = 1 << 17
	maxKeyBytes = 320     // of a Key: kind, namespace, name and UID of a Service
	maxLimit    = 1 << 30 // of connections
	maxTries    = 100     // retries, and checks in a row
)

// maxBytes of an Item.
func maxBytes(key Key) int {
	switch key.kind() {
	case kindService:
		return 1 << 20
	case kindCertificate:
		return 256 << 10
	}
	return 1 << 10
}

// UnknownError is an Item in which somebody newer said something that this program
// does not know.
type UnknownError struct {
	What string
	// Known is the part of a Config that the rest of the Item makes, to compare it with
	// an older version; nil if it makes none. It is not to be carried: words of it that
	// are not known are empty.
	Known any
}

func (e *UnknownError) Error() string {
	return e.What + " is not known to this version of external-lb: upgrade it on this host"
}

// CheckKey reports what is wrong with a Key that somebody sent, whatever its kind.
// One that is good is a path below wherever it is kept, too.
func CheckKey(key Key) error {
	if len(key) > maxKeyBytes || key == "." || !fs.ValidPath(string(key)) || strings.ContainsFunc(string(key), func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < '0' || r > '9') && !strings.ContainsRune("-./:", r)
	}) {
		return fmt.Errorf("%.80q is not the key of an item", string(key))
	}
	return nil
}

// Decode reads an Item into the part of a Config that it is: a Node, *Service,
// *Certificate, netip.Addr (which hosts bring) or *VRRP. What it returns is in the
// bounds and alphabets of the model, and has the Item's Key. The error is an
// *UnknownError where the sender is newer than this program.
func Decode(it Item) (any, error) { return decodeWith(it, toService) }

// DecodeGiven is Decode for who has a provider's cloud carry it: a Service may listen on Given
// addresses. No host reads it so.
func DecodeGiven(it Item) (any, error) { return decodeWith(it, toGivenService) }

func decodeWith(it Item, toService func(*lbpb.Service) (any, Key, error)) (any, error) {
	if err := CheckKey(it.Key); err != nil {
		return nil, err
	}
	if limit := maxBytes(it.Key); len(it.Data) > limit {
		return nil, fmt.Errorf("%s has more than %d bytes", it.Key.Describe(), limit)
	}
	var part any
	var err error
	switch it.Key.kind() {
	case kindNode:
		part, err = decode(it, &lbpb.Node{}, toNode)
	case kindService:
		part, err = decode(it, &lbpb.Service{}, toService)
	case kindCertificate:
		part, err = decode(it, &lbpb.Certificate{}, toCertificate)
	case kindAddress:
		part, err = decode(it, &lbpb.Address{}, toAddress)
	case kindVRRP:
		part, err = decode(it, &lbpb.VRRP{}, toVRRP)
	default:
		err = &UnknownError{What: fmt.Sprintf("an item of the kind %q", it.Key.kind())}
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", it.Key.Describe(), err)
	}
	return part, nil
}

// decode refuses what is no message, and fields and values that are not known.
func decode[M proto.Message](it Item, m M, to func(M) (any, Key, error)) (any, error) {
	var s scanner
	if err := s.message(it.Data, m.ProtoReflect().Descriptor()); err != nil {
		return nil, err
	}
	if err := (proto.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(it.Data, m); err != nil { // text that is not UTF-8
		return nil, errUnreadable
	}
	part, key, err := to(m)
	if err == nil && key != it.Key {
		err = fmt.Errorf("it is %s", key.Describe())
	}
	if err != nil {
		part = nil
	}
	if s.unknown != "" {
		return nil, &UnknownError{What: s.unknown, Known: part}
	}
	return part, err
}

// reader collects the first thing that is wrong with a message.
type reader struct {
	err   error
	given bool // listeners may have Given addresses
}

func (r *reader) fail(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf(format, args...)
	}
}

// addr reads one address that one machine can have; empty: none.
func (r *reader) addr(what string, b []byte) netip.Addr {
	a, ok := netip.AddrFromSlice(b)
	switch {
	case len(b) == 0:
		return netip.Addr{}
	case !ok || a.Is4In6() || !a.IsGlobalUnicast():
		r.fail("%s %x is not the address of one machine", what, b[:min(len(b), 17)])
	}
	return a
}

// listener reads the address of one.
func (r *reader) listener(b []byte) netip.Addr {
	if a, ok := netip.AddrFromSlice(b); ok && r.given && Given(a) {
		return a
	}
	return r.addr("listener", b)
}

func (r *reader) port(what string, n uint32) uint16 {
	if n > 65535 {
		r.fail("%s %d is not a port", what, n)
	}
	return uint16(n)
}

// duration of a millisecond at least, which is what daemons count in, or of none.
func (r *reader) duration(what string, n int64, orNone bool) time.Duration {
	d := time.Duration(n)
	if (d < time.Millisecond || d > MaxDuration) && !(d == 0 && orNone) {
		r.fail("%s of %s: want between 1ms and %s", what, d, MaxDuration)
	}
	return d
}

func (r *reader) count(what string, n, least, most uint32) int32 {
	if n < least || n > most {
		r.fail("%s of %d: want between %d and %d", what, n, least, most)
		return 0
	}
	return int32(n)
}

// word of a number of an enum; "" if the protocol here does not have it, see UnknownError.
func word[W ~string, N number](r *reader, e enum[W, N], what string, n N) W {
	w, ok := e[n]
	if !ok && n.Descriptor().Values().ByNumber(n.Number()) != nil {
		r.fail("no %s", what)
	}
	return w
}

func toNode(m *lbpb.Node) (any, Key, error) {
	var r reader
	n := r.node(m)
	return n, NodeKey(n.Name), r.err
}

func (r *reader) node(m *lbpb.Node) Node {
	n := Node{Name: m.GetName(), IPv4: r.addr("IPv4", m.GetIpv4()), IPv6: r.addr("IPv6", m.GetIpv6()),
		Draining: m.GetDraining(), Backup: m.GetBackup(), Weight: uint16(r.count("weight", m.GetWeight(), 0, MaxWeight))}
	switch {
	case !SafeNode(n.Name):
		r.fail("%.80q is not the name of a node", n.Name)
	case n.IPv4.IsValid() && !n.IPv4.Is4() || n.IPv6.IsValid() && !n.IPv6.Is6():
		r.fail("an address of the wrong family")
	case !n.IPv4.IsValid() && !n.IPv6.IsValid():
		r.fail("it has no address")
	}
	return n
}

func toAddress(m *lbpb.Address) (any, Key, error) {
	var r reader
	a := r.addr("address", m.GetAddress())
	if !a.IsValid() {
		r.fail("no address")
	}
	return a, AddressKey(a), r.err
}

var safeInterface = regexp.MustCompile(`^[A-Za-z0-9][-A-Za-z0-9_.]{0,14}$`)

func toVRRP(m *lbpb.VRRP) (any, Key, error) {
	v := &VRRP{Interface: m.GetInterface(), RouterID: uint8(m.GetRouterId()), Interval: time.Duration(m.GetInterval()), Priority: uint8(m.GetPriority())}
	var r reader
	switch {
	case m.GetRouterId() > 255 || m.GetPriority() > 255:
		r.fail("virtual router ID %d, priority %d: want at most 255 and 254", m.GetRouterId(), m.GetPriority())
	default:
		r.err = v.Check()
	}
	return v, VRRPKey, r.err
}

// Check says what is wrong with a VRRP.
func (v *VRRP) Check() error {
	var r reader
	switch {
	case !safeInterface.MatchString(v.Interface):
		r.fail("%.40q is not the name of an interface", v.Interface)
	case v.RouterID == 0:
		r.fail("virtual router ID 0: want between 1 and 255")
	case v.Priority == 0 || v.Priority > 254:
		r.fail("priority %d: want between 1 and 254", v.Priority)
	case v.Interval < 10*time.Millisecond || v.Interval > 40*time.Second || v.Interval%(10*time.Millisecond) != 0:
		r.fail("advertisements every %s: want between 10ms and 40s in hundredths of a second", v.Interval)
	}
	return r.err
}

func toCertificate(m *lbpb.Certificate) (any, Key, error) {
	c, err := certificate.ParsePrinted(m.GetPem())
	if err != nil {
		return nil, "", err
	}
	return c, CertificateKey(c.Name()), nil
}

func toService(m *lbpb.Service) (any, Key, error) { return readService(m, reader{}) }

func toGivenService(m *lbpb.Service) (any, Key, error) { return readService(m, reader{given: true}) }

func readService(m *lbpb.Service, r reader) (any, Key, error) {
	id, err := NewID(m.GetNamespace(), m.GetName(), m.GetUid())
	if err != nil {
		return nil, "", err
	}
	s := &Service{ID: id, Affinity: r.duration("session affinity", m.GetAffinity(), true),
		HealthCheckNodePort: r.port("healthCheckNodePort", m.GetHealthCheckNodePort()), Direct: m.GetDirect(), Pods: m.GetPods(), Flavor: m.GetFlavor()}
	s.IPv4, s.IPv6 = r.family(m.GetIpv4(), true), r.family(m.GetIpv6(), false)
	if len(m.GetFrontends()) == 0 {
		r.fail("no frontends")
	}
	if !SafeOffer(s.Flavor) {
		r.fail("the flavor %.80q is not a DNS label", s.Flavor)
	}
	for i, n := range m.GetServers() {
		s.Servers = append(s.Servers, r.node(n))
		if i > 0 && s.Servers[i-1].Name >= s.Servers[i].Name {
			r.fail("its servers are not sorted, or one is there twice")
		}
	}
	for _, f := range m.GetFrontends() {
		s.Frontends = append(s.Frontends, r.frontend(f, s.Direct || s.Pods))
	}
	r.pods(s)
	slices.SortFunc(s.Frontends, func(a, b Frontend) int { return a.Listener.Compare(b.Listener) })
	if ranges := s.Ranges(); ranges > MaxRanges {
		r.fail("its ports have %d source ranges together, each port all of them, more than %d: have fewer ranges, or several Services", ranges, MaxRanges)
	}
	for i := 1; i < len(s.Frontends); i++ {
		if s.Frontends[i].Listener == s.Frontends[i-1].Listener {
			r.fail("two frontends for %s", s.Frontends[i].Listener)
		}
	}
	return s, ServiceKey(id), r.err
}

func (r *reader) frontend(m *lbpb.Frontend, portless bool) Frontend {
	f := Frontend{
		Listener: Listener{r.listener(m.GetAddress()), r.port("listener", m.GetPort()), word(r, protocols, "protocol", m.GetProtocol())},
		NodePort: r.port("nodePort", m.GetNodePort()), Settings: r.settings(m.GetSettings()), Endpoints: r.endpoints(m.GetEndpoints()),
	}
	switch {
	case !f.Listener.Address.IsValid() || f.Listener.Port == 0:
		r.fail("a listener without an address or a port")
	case f.NodePort == 0 && !portless:
		r.fail("frontend %s has no nodePort", f.Listener)
	}
	return f
}

func (r *reader) family(m *lbpb.Family, ipv4 bool) Family {
	f := Family{Targets: Targets{All: m.GetTargets().GetAll(), Limit: int(r.count("limit of nodes", m.GetTargets().GetLimit(), 0, maxLimit))}}
	f.Clients.Everybody = m.GetClients().GetEverybody()
	targets, sources := m.GetTargets().GetNodes(), m.GetClients().GetSources()
	if f.Targets.All && len(targets) > 0 || f.Clients.Everybody && len(sources) > 0 {
		r.fail("all and a list at once")
	}
	for _, t := range targets {
		if !SafeNode(t.GetNode()) || t.GetWeight() > MaxWeight {
			r.fail("node %.80q with a weight of %d: want a name, and at most %d", t.GetNode(), t.GetWeight(), MaxWeight)
		}
		f.Targets.Nodes = append(f.Targets.Nodes, Target{t.GetNode(), uint16(t.GetWeight()), t.GetDraining()})
	}
	if !slices.IsSortedFunc(f.Targets.Nodes, func(a, b Target) int { return strings.Compare(a.Node, b.Node) }) {
		r.fail("its nodes are not sorted")
	}
	for i := 1; i < len(f.Targets.Nodes); i++ {
		if f.Targets.Nodes[i].Node == f.Targets.Nodes[i-1].Node {
			r.fail("node %s twice", f.Targets.Nodes[i].Node)
		}
	}
	for _, p := range sources {
		f.Clients.Sources = append(f.Clients.Sources, r.prefix("source range", p, ipv4))
	}
	slices.SortFunc(f.Clients.Sources, netip.Prefix.Compare)
	f.Clients.Sources = slices.Compact(f.Clients.Sources)
	return f
}

func (r *reader) prefix(what string, m *lbpb.Prefix, ipv4 bool) netip.Prefix {
	a, ok := netip.AddrFromSlice(m.GetAddress())
	p := netip.PrefixFrom(a, int(min(m.GetBits(), 255)))
	if !ok || !p.IsValid() || a.Is4In6() || a.Is4() != ipv4 || p != p.Masked() {
		r.fail("%s %x/%d: want one of the family, without host bits", what, m.GetAddress()[:min(len(m.GetAddress()), 17)], m.GetBits())
	}
	return p
}
