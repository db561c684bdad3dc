package lb_test

import (
	gocmp "cmp"
	"errors"
	"math"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/external-lb/external-lb/internal/lb"
	"github.com/external-lb/external-lb/internal/lb/lbtest"
)

// Whatever somebody with a host's key sends: what these tests walk over is the
// protocol's own description, so that a field which is added to it is tried, too.

// sample is an Item in which every field says something.
type sample struct {
	message proto.Message
	item    lb.Item
	part    any
}

func samples(t testing.TB) []sample {
	t.Helper()
	a4, a6 := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")
	node := lb.Node{Name: "n1", IPv4: netip.MustParseAddr("10.0.0.1"), IPv6: netip.MustParseAddr("fd00::1"), Draining: true, Weight: 3, Backup: true}
	set := lb.Settings{
		Algorithm: lb.Random, Mode: lb.ModeHTTP, SendProxy: lb.ProxyV2, AcceptProxy: true, ConnectTimeout: time.Second, IdleTimeout: time.Minute,
		ClientTimeout: time.Hour, ServerTimeout: time.Second, MaxRatePerClient: 7,
		QueueTimeout: time.Minute, MaxQueue: 70, AbortOnClose: true, KeepAlive: time.Hour, NoAccessLog: true, SlowStart: time.Minute, Drain: time.Minute,
		HealthCheck:    lb.HealthCheck{Type: lb.CheckHTTP, Path: "/healthz", Port: 30081, Interval: time.Second, Timeout: time.Second, Rise: 2, Fall: 3, TLS: true, Host: "web.example", Status: lb.Status{From: 200, To: 204}, Send: "50494e47", Expect: "2b"},
		MaxConnections: 1000, MaxConnectionsPerNode: 100, MaxConnectionsPerClient: 10, Retries: 2, Certificate: lbtest.Certificates()[0].Name(), CloudCertificate: "shop", H2C: true, RedirectToHTTPS: true, MaxBodyBytes: 1 << 20, MaxHeaderBytes: 1 << 12,
		Source: lb.Source{IPv4: netip.MustParsePrefix("192.0.2.8/29"), IPv6: netip.MustParsePrefix("2001:db8::10/128")},
	}
	service := &lb.Service{
		ID: lb.ID{Namespace: "default", Name: "web", UID: "6f1c0a52"},
		Frontends: []lb.Frontend{
			{Listener: lb.Listener{Address: a4, Port: 80, Protocol: lb.TCP}, NodePort: 30080, Settings: set},
			{Listener: lb.Listener{Address: a6, Port: 80, Protocol: lb.TCP}, NodePort: 30080, Settings: set},
		},
		IPv4:     lb.Family{Targets: lb.Targets{Nodes: []lb.Target{{Node: "n1", Weight: 3, Draining: true}}}, Clients: lb.Clients{Sources: []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")}}},
		IPv6:     lb.Family{Targets: lb.Targets{All: true, Limit: 3}, Clients: lb.Clients{Everybody: true}},
		Affinity: time.Hour, HealthCheckNodePort: 30090, Direct: true, Flavor: "big",
		Servers: []lb.Node{node},
	}
	toPods := *service // what would contradict itself in one
	toPods.ID.Name, toPods.Direct, toPods.Servers, toPods.Pods = "x", false, nil, true
	toPods.IPv4.Targets, toPods.IPv6.Targets = lb.Targets{}, lb.Targets{}
	toPods.Frontends = slices.Clone(service.Frontends)
	toPods.Frontends[0].Endpoints = []lb.Endpoint{{Address: netip.MustParseAddrPort("10.244.0.1:8080"), Draining: true}}
	cfg := &lb.Config{
		Nodes: []lb.Node{node}, Services: []*lb.Service{service, &toPods}, Certificates: lbtest.Certificates()[:1], Addresses: []netip.Addr{a4},
		VRRP: &lb.VRRP{Interface: "eth0", RouterID: 51, Interval: time.Second, Priority: 250},
	}
	var out []sample
	for it := range encode(t, cfg).All() {
		kind, _, _ := strings.Cut(string(it.Key), "/")
		s := sample{lbtest.Messages[kind](), it, nil}
		if err := proto.Unmarshal(it.Data, s.message); err != nil {
			t.Fatal(err)
		}
		part, err := lb.Decode(it)
		if err != nil {
			t.Fatal(err)
		}
		s.part = part
		out = append(out, s)
	}
	if len(out) != len(lbtest.Messages)+1 {
		t.Fatalf("%d samples of %d kinds", len(out), len(lbtest.Messages))
	}
	return out
}

// place is a message within a sample.
type place []protoreflect.FieldDescriptor

func (p place) String() string {
	words := []string{"."}
	for _, fd := range p {
		words = append(words, string(fd.Name()))
	}
	return strings.Join(words, ".")
}

// in finds the place in a message; of a list it is the first.
func (p place) in(m protoreflect.Message) protoreflect.Message {
	for _, fd := range p {
		if v := m.Mutable(fd); !fd.IsList() {
			m = v.Message()
		} else {
			if v.List().Len() == 0 {
				v.List().AppendMutable()
			}
			m = v.List().Get(0).Message()
		}
	}
	return m
}

// places are all messages that can be within one.
func places(md protoreflect.MessageDescriptor, at place) []place {
	if len(at) > 10 {
		panic("a message within itself: scanner would not end; bound its depth")
	}
	out := []place{at}
	for i := range md.Fields().Len() {
		if fd := md.Fields().Get(i); fd.Message() != nil {
			out = append(out, places(fd.Message(), append(at[:len(at):len(at)], fd))...)
		}
	}
	return out
}

// fieldsOf calls a function for each field that is no message, everywhere.
func fieldsOf(t *testing.T, try func(t *testing.T, s sample, at place, fd protoreflect.FieldDescriptor)) {
	for _, s := range samples(t) {
		md := s.message.ProtoReflect().Descriptor()
		for _, at := range places(md, nil) {
			in := at.in(proto.Clone(s.message).ProtoReflect()).Descriptor()
			for i := range in.Fields().Len() {
				if fd := in.Fields().Get(i); fd.Message() == nil {
					t.Run(string(md.Name())+at.String()+"."+string(fd.Name()), func(t *testing.T) { try(t, s, at, fd) })
				}
			}
		}
	}
}

// with is the sample's Item, changed.
func (s sample) with(t testing.TB, change func(protoreflect.Message)) lb.Item {
	t.Helper()
	m := proto.Clone(s.message)
	change(m.ProtoReflect())
	data, err := proto.MarshalOptions{Deterministic: true, AllowPartial: true}.Marshal(m)
	if err != nil { // text that is not UTF-8 cannot even be said in this way
		return lb.NewItem(s.item.Key, append(s.item.Data, 0x0a, 1, 0xff))
	}
	return lb.NewItem(s.item.Key, data)
}

// wantSafe decodes an Item: it is refused in few plain words, or in the bounds.
func wantSafe(t testing.TB, it lb.Item) (part any, err error) {
	t.Helper()
	part, err = lb.Decode(it)
	if err == nil {
		if wrong := lbtest.InBounds(part); wrong != nil {
			t.Errorf("%s was taken, and %v", it.Key, wrong)
		}
		if wrong := lbtest.Says(it, part); wrong != nil {
			t.Error(wrong)
		}
		return part, nil
	}
	if part != nil {
		t.Errorf("%s is refused, and there is %v", it.Key, part)
	}
	if unknown, ok := errors.AsType[*lb.UnknownError](err); ok && unknown.Known != nil {
		if wrong := lbtest.InBounds(filled(unknown.Known)); wrong != nil {
			t.Errorf("%s: of what is known, %v", it.Key, wrong)
		}
	}
	if text := err.Error(); len(text) > 900 || strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) {
		t.Errorf("not fit for a person: %.1000q", text)
	}
	return nil, err
}

// filled has words for those that are not known.
func filled(part any) any {
	s, ok := part.(*lb.Service)
	if !ok {
		return part
	}
	out := *s
	out.Frontends = slices.Clone(s.Frontends)
	for i := range out.Frontends {
		f := &out.Frontends[i]
		f.Listener.Protocol = gocmp.Or(f.Listener.Protocol, lb.TCP)
		set := &f.Settings
		set.Algorithm, set.Mode, set.SendProxy = gocmp.Or(set.Algorithm, lb.Random), gocmp.Or(set.Mode, lb.ModeTCP), gocmp.Or(set.SendProxy, lb.ProxyV1)
		set.HealthCheck.Type = gocmp.Or(set.HealthCheck.Type, lb.CheckTCP)
	}
	return &out
}

var hostileTexts = []string{
	"", " ", "a b", "a\n", "\na", "a\r\n", "a\tb", `a"b`, "a'b", "a`b", "a;b", "a{", "}a", "$a", "${HOME}", "#a", `a\`, "a\x00b", "\x00", "\xff", "a\xffb", "..", "../x", "a/../b", "/etc/passwd", ".", "-", "-a", "a-",
	"unix:/run/docker.sock", "unix:", "localhost", "fd@3", "0.0.0.0", "127.0.0.1:22", "[::1]", "A", "ä", "а", "ｎ1", "n１", "n1\u200b", "n1\u2028", "\u202en1", "e\u0301", "％", "%00", "%n", "%s%s%s", "{{.}}", "<script>", "|id", "&id", "a,b", "a*b", "a=b", "a+b",
	"/\n", "/ x", "/$x", "/\"", "/?a", "/#", "/;", "/{", "/\\", "/é", strings.Repeat("a", 64), strings.Repeat("a", 254), "/" + strings.Repeat("a", 256), strings.Repeat("a", 500_000), "eth0 ", "eth0\n", "eth0;", "eth/0", "eth0:1", ".eth", "0123456789abcdef",
}

func hostileBytes() [][]byte {
	out := [][]byte{[]byte("-----BEGIN CERTIFICATE-----\n}\n-----END CERTIFICATE-----\n"), make([]byte, 100_000)}
	for n := range 18 {
		zeros, ones := make([]byte, n), []byte(strings.Repeat("\xff", n))
		out = append(out, zeros, ones, []byte(strings.Repeat("\n", n)))
	}
	for _, a := range []string{
		"0.0.0.0", "127.0.0.1", "127.255.255.255", "169.254.169.254", "224.0.0.1", "239.1.1.1", "255.255.255.255", "::", "::1", "fe80::1", "ff02::1", "ff01::1",
		"::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:0.0.0.0", "10.9.9.9", "2001:db8::9", "64:ff9b::a00:1",
	} {
		out = append(out, netip.MustParseAddr(a).AsSlice())
	}
	return append(out, append(netip.MustParseAddr("fe80::1").AsSlice(), "%eth0"...))
}

// hostileValues of a field, by its kind.
func hostileValues(t *testing.T, fd protoreflect.FieldDescriptor) (out []protoreflect.Value) {
	switch fd.Kind() {
	case protoreflect.StringKind:
		for _, s := range hostileTexts {
			out = append(out, protoreflect.ValueOfString(s))
		}
		out = append(out, protoreflect.ValueOfString("other"), protoreflect.ValueOfString("/other"), protoreflect.ValueOfString(strings.Repeat("0", 32)))
	case protoreflect.BytesKind:
		for _, b := range hostileBytes() {
			out = append(out, protoreflect.ValueOfBytes(b))
		}
	case protoreflect.Uint32Kind:
		for _, n := range []uint32{0, 1, 2, 24, 25, 33, 100, 101, 128, 129, 254, 255, 256, 257, 30123, 65535, 65536, 1 << 30, 1<<30 + 1, math.MaxInt32, 1 << 31, math.MaxUint32} {
			out = append(out, protoreflect.ValueOfUint32(n))
		}
	case protoreflect.Int64Kind:
		for _, n := range []int64{math.MinInt64, -1, 0, 1, 999_999, 1_000_000, 9_999_999, 10_000_000, 10_000_001, 2_000_000_000, 40_000_000_001, int64(24 * time.Hour), int64(24*time.Hour) + 1, math.MaxInt64} {
			out = append(out, protoreflect.ValueOfInt64(n))
		}
	case protoreflect.BoolKind:
		out = append(out, protoreflect.ValueOfBool(false), protoreflect.ValueOfBool(true))
	case protoreflect.EnumKind:
		for _, n := range []protoreflect.EnumNumber{math.MinInt32, -1, 0, 1, 2, 3, 4, 5, 6, 7, 8, 100, math.MaxInt32} {
			out = append(out, protoreflect.ValueOfEnum(n))
		}
	default:
		t.Fatalf("nobody tries fields of the kind %s: add it to hostileValues", fd.Kind())
	}
	return out
}

func TestHostileValuesOfEveryField(t *testing.T) {
	fieldsOf(t, func(t *testing.T, s sample, at place, fd protoreflect.FieldDescriptor) {
		old := at.in(proto.Clone(s.message).ProtoReflect()).Get(fd)
		matters := false
		for _, v := range hostileValues(t, fd) {
			it := s.with(t, func(m protoreflect.Message) { at.in(m).Set(fd, v) })
			part, err := wantSafe(t, it)
			if fd.Kind() == protoreflect.StringKind { // also under a key that says the same
				wantSafe(t, lb.Item{Key: lb.Key(strings.Replace(string(it.Key), old.String(), v.String(), 1)), Data: it.Data})
			}
			if !v.Equal(old) && (err != nil || cmp.Diff(s.part, part, compare) != "") {
				matters = true
			}
		}
		if !matters {
			t.Error("whatever it says, the model is the same: read it in decode.go")
		}
	})
}

func TestUnknownValuesAreNamed(t *testing.T) {
	fieldsOf(t, func(t *testing.T, s sample, at place, fd protoreflect.FieldDescriptor) {
		if fd.Enum() == nil {
			return
		}
		seen := map[any]bool{}
		for n := range fd.Enum().Values().Len() + 1 { // and the next one
			it := s.with(t, func(m protoreflect.Message) { at.in(m).Set(fd, protoreflect.ValueOfEnum(protoreflect.EnumNumber(n))) })
			part, err := lb.Decode(it)
			unknown, isUnknown := errors.AsType[*lb.UnknownError](err)
			switch {
			case n == fd.Enum().Values().Len():
				if !isUnknown || !strings.Contains(unknown.What, strings.ReplaceAll(string(fd.Name()), "_", " ")) {
					t.Errorf("%d: %v, want its name, and that it is unknown", n, err)
				}
			case n > 0 && err != nil:
				t.Errorf("%d is in the protocol: %v: add it to the enums in encode.go", n, err)
			case err == nil:
				seen[cmp.Diff(s.part, part, compare)] = true
			}
		}
		if least := fd.Enum().Values().Len() - 1; len(seen) < least {
			t.Errorf("%d values make %d models", least, len(seen))
		}
	})
}
