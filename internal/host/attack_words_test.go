package host_test

import (
	"math"
	"math/rand/v2"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/external-lb/external-lb/internal/lb"
	"github.com/external-lb/external-lb/internal/lb/lbpb"
)

// Every field of every message is found in the protocol's own description, so that one
// which is added later is tried, too.

// messages are those of Items, by the kind in their Keys.
var messages = map[string]func() proto.Message{
	"node":        func() proto.Message { return &lbpb.Node{} },
	"service":     func() proto.Message { return &lbpb.Service{} },
	"certificate": func() proto.Message { return &lbpb.Certificate{} },
	"address":     func() proto.Message { return &lbpb.Address{} },
	"vrrp":        func() proto.Message { return &lbpb.VRRP{} },
}

func kindOf(key lb.Key) string {
	kind, _, _ := strings.Cut(string(key), "/")
	return kind
}

// texts do something where a daemon reads them as its configuration.
var texts = []string{
	"", " ", ".", "..", "/", "../../etc/passwd", "/etc/shadow", "a/../b", "~", "-t", "--version", "$(touch /tmp/pwned)", "`id`", "a;b", "a\nb", "a\r\nb", "a\x00b", "ä", "\u2028",
	"x }\nstream { }\nlog_format k 'ssh-ed25519 AAAA'; access_log /root/.ssh/authorized_keys k;\nserver {",
	"x; include /root/*; ", "x\ninclude /etc/shadow\n", "x\"; load_module /tmp/evil.so; #",
	"x\n.if defined(HAPROXY_MWORKER)\nprogram evil\n    command /bin/sh -c id\n.endif\n",
	"x\n    http-request return status 200 file /etc/shadow\n", "x lua-load /tmp/evil.lua", "${HOME}", "\"${PATH}\"",
	strings.Repeat("#", 1023) + "notify_master \"/bin/sh -c id\" root", "x\n    notify_master \"/bin/sh -c id\" root\n", "x\n@include /etc/shadow\n", "x\nquorum_up \"/bin/true\" root",
	strings.Repeat("a", 64), strings.Repeat("a", 254), strings.Repeat("a.", 127) + "a", strings.Repeat("9", 4096), "A", "_", "a_b", "-a", "a-", "a.",
	"/%0a", "/\n", "/ HTTP/1.1\r\nX: y", "/" + strings.Repeat("x", 255), "/" + strings.Repeat("x", 256), "/a?b", "/a#b", "/%{+Q}", "/[x]",
}

// addresses are some that nobody may have, that are too long, and text.
var addresses = [][]byte{
	nil, {0}, {127, 0, 0, 1}, {0, 0, 0, 0}, {255, 255, 255, 255}, {224, 0, 0, 1}, {169, 254, 169, 254}, {10, 0, 0, 1}, {192, 0, 2, 1}, make([]byte, 16),
	{15: 1}, {10: 0xff, 11: 0xff, 12: 127, 15: 1}, {0xfe, 0x80, 15: 1}, {0, 0x64, 0xff, 0x9b, 12: 127, 15: 1}, {0x20, 0x02, 127, 0, 0, 1, 15: 1}, make([]byte, 17), make([]byte, 5), []byte("unix:/run/docker.sock"),
	[]byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"), []byte("ssh-ed25519 AAAA root"),
}

// numbers are at and past bounds.
var numbers = []int64{0, 1, -1, 2, 22, 100, 101, 254, 255, 256, 257, 512, 776, 10256, 30000, 32767, 65535, 65536, 999999, 1e6, 10e6, 40e9, 24 * 3600e9, 24*3600e9 + 1, 1 << 30, 1<<30 + 1, math.MaxInt32, math.MaxUint32, math.MaxInt64, math.MinInt64}

// change is something hostile that can be done to a message of a kind.
type change struct {
	kind  string
	what  string
	apply func(m protoreflect.Message, random *rand.Rand)
}

// changes are all of them: each value for each field, wherever it is.
func changes() (all []change) {
	for kind, message := range messages {
		all = append(all, changesOf(kind, nil, message().ProtoReflect().Descriptor())...)
	}
	return all
}

func changesOf(kind string, at []protoreflect.FieldDescriptor, md protoreflect.MessageDescriptor) (all []change) {
	for i := range md.Fields().Len() {
		fd := md.Fields().Get(i)
		do := func(what string, apply func(m protoreflect.Message, random *rand.Rand)) {
			all = append(all, change{kind, string(fd.FullName()) + " " + what, func(m protoreflect.Message, random *rand.Rand) { apply(within(m, at, random), random) }})
		}
		do("missing", func(m protoreflect.Message, _ *rand.Rand) { m.Clear(fd) })
		switch {
		case fd.IsList():
			do("doubled", func(m protoreflect.Message, _ *rand.Rand) {
				list := m.Mutable(fd).List()
				for j := range list.Len() {
					list.Append(list.Get(j))
				}
			})
			do("many", func(m protoreflect.Message, _ *rand.Rand) {
				list := m.Mutable(fd).List()
				for list.Len() < 9000 {
					if list.Len() == 0 {
						list.AppendMutable()
					}
					list.Append(list.Get(0))
				}
			})
		case fd.Message() == nil:
			for _, v := range values(fd) {
				do(v.String(), func(m protoreflect.Message, _ *rand.Rand) { m.Set(fd, v) })
			}
		}
		if fd.Message() != nil {
			do("empty", func(m protoreflect.Message, _ *rand.Rand) { m.Set(fd, m.NewField(fd)) })
			all = append(all, changesOf(kind, append(at[:len(at):len(at)], fd), fd.Message())...)
		}
	}
	return all
}

// within finds a message within one; of a list it is any.
func within(m protoreflect.Message, at []protoreflect.FieldDescriptor, random *rand.Rand) protoreflect.Message {
	for _, fd := range at {
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

func values(fd protoreflect.FieldDescriptor) (all []protoreflect.Value) {
	switch fd.Kind() {
	case protoreflect.StringKind:
		for _, text := range texts {
			all = append(all, protoreflect.ValueOfString(text))
		}
	case protoreflect.BytesKind:
		for _, b := range addresses {
			all = append(all, protoreflect.ValueOfBytes(b))
		}
	case protoreflect.BoolKind:
		all = append(all, protoreflect.ValueOfBool(true), protoreflect.ValueOfBool(false))
	case protoreflect.EnumKind:
		for n := range fd.Enum().Values().Len() + 2 {
			all = append(all, protoreflect.ValueOfEnum(protoreflect.EnumNumber(n)))
		}
		all = append(all, protoreflect.ValueOfEnum(-1))
	case protoreflect.Int64Kind:
		for _, n := range numbers {
			all = append(all, protoreflect.ValueOfInt64(n))
		}
	case protoreflect.Uint32Kind:
		for _, n := range numbers {
			all = append(all, protoreflect.ValueOfUint32(uint32(n)))
		}
	default:
		panic("nobody says what is hostile in a field of the kind " + fd.Kind().String())
	}
	return all
}

// do changes an Item.
func (c change) do(it lb.Item, random *rand.Rand) lb.Item {
	m := messages[c.kind]()
	if err := proto.Unmarshal(it.Data, m); err != nil {
		return it
	}
	c.apply(m.ProtoReflect(), random)
	data, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		return it
	}
	return lb.NewItem(it.Key, data)
}

// scramble changes the bytes of an Item without a view of what they say.
func scramble(it lb.Item, random *rand.Rand) lb.Item {
	data := append([]byte{}, it.Data...)
	for range 1 + random.IntN(3) {
		at := random.IntN(len(data) + 1)
		switch random.IntN(5) {
		case 0:
			if at < len(data) {
				data[at] ^= 1 << random.IntN(8)
			}
		case 1:
			data = data[:at]
		case 2: // said twice
			data = append(data, data[at:]...)
		case 3: // text of somebody, anywhere
			text := texts[random.IntN(len(texts))]
			data = append(data[:at:at], append([]byte(text), data[at:]...)...)
		case 4: // a field that nobody knows
			data = protowire.AppendBytes(protowire.AppendTag(data, protowire.Number(1+random.IntN(70)), protowire.BytesType), []byte(texts[random.IntN(len(texts))]))
		}
	}
	return lb.NewItem(it.Key, data)
}
