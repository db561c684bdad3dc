package host_test

import (
	"bytes"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/external-lb/external-lb/internal/lb"
	"github.com/external-lb/external-lb/internal/lb/lbtest"
)

// Every field of every message is found in the protocol's own description, so that one
// which is added later is tried, too.

// texts do something where a daemon reads them as its configuration.
var texts = []string{
	"", " ", ".", "..", "/", "../../etc/passwd", "/etc/shadow", "a/../b", "~", "-t", "--version", "$(touch /tmp/pwned)", "`id`", "a;b", "a\nb", "a\r\nb", "a\x00b", "ä", "\u2028",
	"x }\nstream { }\nlog_format k 'ssh-ed25519 AAAA'; access_log /root/.ssh/authorized_keys k;\nserver {",
	"x; include /root/*; ", "x; include /etc/shadow; #", "x\"; include /etc/shadow; #", "x\ninclude /etc/shadow\n", "x\"; load_module /tmp/evil.so; #",
	"x\n.if defined(HAPROXY_MWORKER)\nprogram evil\n    command /bin/sh -c id\n.endif\n",
	"x\n    http-request return status 200 file /etc/shadow\n", "x lua-load /tmp/evil.lua", "${HOME}", "\"${PATH}\"",
	strings.Repeat("#", 1023) + "notify_master \"/bin/sh -c id\" root", "x\n    notify_master \"/bin/sh -c id\" root\n", "x\n@include /etc/shadow\n", "x\nquorum_up \"/bin/true\" root",
	strings.Repeat("a", 64), strings.Repeat("a", 254), strings.Repeat("a.", 127) + "a", strings.Repeat("9", 4096), "A", "_", "a_b", "-a", "a-", "a.", "a.b", ".b", "/b", "a:b",
	"/%0a", "/\n", "/ HTTP/1.1\r\nX: y", "/" + strings.Repeat("x", 255), "/" + strings.Repeat("x", 256), "/a?b", "/a#b", "/%{+Q}", "/[x]",
	"-----BEGIN X-----\nAAAA\n-----END X-----\n",
}

// addresses are some that nobody may have, that the machine has itself, that its owner
// does not admit and that he does, that are too long, and text.
var addresses = [][]byte{
	nil, {0}, {127, 0, 0, 1}, {0, 0, 0, 0}, {255, 255, 255, 255}, {224, 0, 0, 1}, {169, 254, 169, 254}, {10, 0, 0, 1}, {192, 0, 2, 1}, make([]byte, 16),
	{15: 1}, {10: 0xff, 11: 0xff, 12: 127, 15: 1}, {0xfe, 0x80, 15: 1}, {0, 0x64, 0xff, 0x9b, 12: 127, 15: 1}, {0x20, 0x02, 127, 0, 0, 1, 15: 1}, {198, 51, 100, 1}, {192, 0, 2, 200}, {8, 8, 8, 8}, {0x20, 0x01, 0x0d, 0xb8, 15: 9}, {0xfd, 15: 99}, make([]byte, 17), make([]byte, 5), []byte("unix:/run/docker.sock"),
	[]byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"), []byte("ssh-ed25519 AAAA root"),
}

// numbers are at and past bounds.
var numbers = []int64{0, 1, -1, 2, 22, 100, 101, 254, 255, 256, 257, 512, 776, 10256, 30000, 32767, 65535, 65536, 999999, 1e6, 10e6, 40e9, 24 * 3600e9, 24*3600e9 + 1, 1 << 30, 1<<30 + 1, math.MaxInt32, math.MaxUint32, math.MaxInt64, math.MinInt64}

// change is something hostile that can be done to a field of a message of a kind.
type change struct {
	kind, what   string
	at           []protoreflect.FieldDescriptor // of the message within
	field        protoreflect.FieldDescriptor
	do           func(m protoreflect.Message)
	harmless     bool // the control: it is refused only if something else is wrong
	mayBeMissing bool // what the change is about
}

// String names the field and what is done to it.
func (c change) String() string {
	if c.field == nil {
		return c.what
	}
	return fmt.Sprintf("%s: %.60s", c.field.FullName(), c.what)
}

// ofServers reports whether it is about the API servers, which one item of a model has.
func (c change) ofServers() bool {
	return slices.ContainsFunc(append(c.at[:len(c.at):len(c.at)], c.field), func(fd protoreflect.FieldDescriptor) bool {
		return fd != nil && fd.FullName() == "externallb.lb.v1.Service.servers"
	})
}

// alone reports whether a model has one of what it is about.
func (c change) alone() bool { return c.kind == "vrrp" || c.ofServers() }

func (c change) apply(m protoreflect.Message, random *rand.Rand) { c.do(c.pick(m, random)) }

// changes are all of them: each value for each field, wherever it is.
func changes() (all []change) {
	for _, kind := range slices.Sorted(maps.Keys(lbtest.Messages)) {
		all = append(all, changesOf(kind, nil, lbtest.Messages[kind]().ProtoReflect().Descriptor())...)
	}
	return all
}

func changesOf(kind string, at []protoreflect.FieldDescriptor, md protoreflect.MessageDescriptor) (all []change) {
	for i := range md.Fields().Len() {
		fd := md.Fields().Get(i)
		add := func(what string, do func(m protoreflect.Message)) {
			all = append(all, change{kind: kind, what: what, at: at, field: fd, do: do})
		}
		add("as it is", func(protoreflect.Message) {})
		all[len(all)-1].harmless = true
		add("missing", func(m protoreflect.Message) { m.Clear(fd) })
		add("of a type that it is not", func(m protoreflect.Message) {
			m.SetUnknown(protowire.AppendFixed64(protowire.AppendTag(nil, fd.Number(), protowire.Fixed64Type), 1))
		})
		switch {
		case fd.IsList():
			add("doubled", func(m protoreflect.Message) {
				list := m.Mutable(fd).List()
				for i := range list.Len() {
					list.Append(list.Get(i))
				}
			})
			add("many", func(m protoreflect.Message) {
				list := m.Mutable(fd).List()
				list.Truncate(0)
				for i := range 9000 {
					list.Append(protoreflect.ValueOfMessage(lbtest.Elements[fd.FullName()](i).ProtoReflect()))
				}
			})
		case fd.Message() == nil:
			for _, change := range replaced(fd) {
				add(change.what, change.do)
			}
		}
		if fd.Message() != nil {
			add("empty", func(m protoreflect.Message) { m.Set(fd, m.NewField(fd)) })
			all = append(all, changesOf(kind, append(at[:len(at):len(at)], fd), fd.Message())...)
		}
	}
	unknown := protowire.AppendVarint(protowire.AppendTag(nil, maxKnown(md)+1, protowire.VarintType), 1)
	return append(all, change{kind: kind, what: "a field of " + string(md.Name()) + " that nobody knows", at: at, do: func(m protoreflect.Message) { m.SetUnknown(unknown) }})
}

func maxKnown(md protoreflect.MessageDescriptor) (number protowire.Number) {
	for i := range md.Fields().Len() {
		number = max(number, md.Fields().Get(i).Number())
	}
	return number
}

// replaced are the changes of a field that is neither a list nor a message.
func replaced(fd protoreflect.FieldDescriptor) (all []change) {
	for _, v := range values(fd) {
		all = append(all, change{what: v.String(), do: func(m protoreflect.Message) { m.Set(fd, v) }})
	}
	for _, text := range texts {
		switch {
		case fd.Kind() == protoreflect.StringKind:
			all = append(all, change{what: "behind " + text, do: func(m protoreflect.Message) {
				m.Set(fd, protoreflect.ValueOfString(m.Get(fd).String()+text))
			}})
		case fd.Kind() == protoreflect.BytesKind && strings.Contains(text, "\n"):
			for where, put := range around {
				all = append(all, change{what: where + " " + text, do: func(m protoreflect.Message) {
					m.Set(fd, protoreflect.ValueOfBytes(put(m.Get(fd).Bytes(), text)))
				}})
			}
		}
	}
	return all
}

// around says where a text can be, in bytes that are a text themselves, such as PEM.
var around = map[string]func(old []byte, text string) []byte{
	"before": func(old []byte, text string) []byte { return append([]byte(line(text)), old...) },
	"behind": func(old []byte, text string) []byte { return append(slices.Clip(old), text...) },
	"within": func(old []byte, text string) []byte {
		at := len(old)/2 + bytes.IndexByte(old[len(old)/2:], '\n') + 1
		return slices.Insert(slices.Clone(old), at, []byte(line(text))...)
	},
	"between": func(old []byte, text string) []byte {
		return bytes.Replace(old, []byte("-----\n-----BEGIN"), []byte("-----\n"+line(text)+"-----BEGIN"), 1)
	},
}

func line(text string) string { return strings.TrimSuffix(text, "\n") + "\n" }

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
