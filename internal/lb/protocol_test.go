package lb_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/external-lb/external-lb/internal/lb"
	"github.com/external-lb/external-lb/internal/lb/lbpb"
	"github.com/external-lb/external-lb/internal/lb/lbtest"
)

// placesOf calls a function for each message within each sample.
func placesOf(t *testing.T, try func(t *testing.T, s sample, at place)) {
	for _, s := range samples(t) {
		md := s.message.ProtoReflect().Descriptor()
		for _, at := range places(md, nil) {
			t.Run(string(md.Name())+at.String(), func(t *testing.T) { try(t, s, at) })
		}
	}
}

func TestSamplesSayEverything(t *testing.T) {
	placesOf(t, func(t *testing.T, s sample, at place) {
		said := map[protoreflect.Name]bool{}
		for _, other := range samples(t) { // what would contradict itself is there
			if other.message.ProtoReflect().Descriptor() != s.message.ProtoReflect().Descriptor() {
				continue
			}
			for _, at := range []place{at, inOtherFamily(at)} { // or there
				at.in(proto.Clone(other.message).ProtoReflect()).Range(func(fd protoreflect.FieldDescriptor, _ protoreflect.Value) bool {
					said[fd.Name()] = true
					return true
				})
			}
		}
		md := at.in(proto.Clone(s.message).ProtoReflect()).Descriptor()
		for i := range md.Fields().Len() {
			if fd := md.Fields().Get(i); !said[fd.Name()] {
				t.Errorf("%s says nothing: give it a value in samples, in hostile_test.go", fd.FullName())
			}
		}
	})
}

// inOtherFamily is the same place in it, if there is one.
func inOtherFamily(at place) place {
	other := map[protoreflect.Name]protoreflect.Name{"ipv4": "ipv6", "ipv6": "ipv4"}
	if len(at) == 0 || other[at[0].Name()] == "" {
		return at
	}
	return append(place{at[0].ContainingMessage().Fields().ByName(other[at[0].Name()])}, at[1:]...)
}

// What the protocol may not have: a field that is not set must cost no byte, so that
// a new one changes no digest; and scanner must know how to read it.
func TestFieldsAreOfTheKindsThatAreRead(t *testing.T) {
	placesOf(t, func(t *testing.T, s sample, at place) {
		md := at.in(proto.Clone(s.message).ProtoReflect()).Descriptor()
		for i := range md.Fields().Len() {
			fd := md.Fields().Get(i)
			switch {
			case fd.Message() == nil && fd.HasPresence():
				t.Errorf("%s is optional or in a oneof: not set and zero would be two things", fd.FullName())
			case fd.IsMap() || fd.IsList() && fd.Message() == nil:
				t.Errorf("%s is a map, or a list of what is no message: teach scanner to read it", fd.FullName())
			case lb.WireType(fd.Kind()) < 0 || fd.Number() >= lb.MaxNumber:
				t.Errorf("%s = %d is a %s: teach scanner to read it", fd.FullName(), fd.Number(), fd.Kind())
			}
		}
	})
}

func TestFieldsAtTheirDefaultCostNoByte(t *testing.T) {
	set := encode(t, &lb.Config{Services: []*lb.Service{{ID: lb.ID{Namespace: "a", Name: "b", UID: "c"}}}})
	it, _ := set.Get("service/a/b/c")
	// The three names, and two families that are said to be empty.
	want := []byte("\x0a\x01a\x12\x01b\x1a\x01c\x2a\x04\x0a\x00\x12\x00\x32\x04\x0a\x00\x12\x00")
	if !bytes.Equal(it.Data, want) {
		t.Errorf("got %q, want %q", it.Data, want)
	}
}

// rawly changes the bytes of the message at a place.
func rawly(t *testing.T, s sample, at place, change func([]byte) []byte) lb.Item {
	t.Helper()
	m := proto.Clone(s.message).ProtoReflect()
	data := change(must(proto.MarshalOptions{Deterministic: true}.Marshal(at.in(m).Interface())))
	for i := len(at) - 1; i >= 0; i-- {
		fd, parent := at[i], at[:i].in(m)
		parent.Clear(fd) // of a list, all but the one that is changed
		outer := must(proto.MarshalOptions{Deterministic: true}.Marshal(parent.Interface()))
		data = protowire.AppendBytes(protowire.AppendTag(outer, fd.Number(), protowire.BytesType), data)
	}
	return lb.NewItem(s.item.Key, data)
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func TestUnknownFieldsAreNamedEverywhere(t *testing.T) {
	for kind, value := range map[string][]byte{
		"a number":     protowire.AppendVarint(protowire.AppendTag(nil, 60, protowire.VarintType), 1),
		"bytes":        protowire.AppendBytes(protowire.AppendTag(nil, 60, protowire.BytesType), []byte("x")),
		"fixed":        protowire.AppendFixed64(protowire.AppendTag(nil, 60, protowire.Fixed64Type), 1),
		"far numbered": protowire.AppendVarint(protowire.AppendTag(nil, protowire.MaxValidNumber, protowire.VarintType), 0),
		"at its zero":  protowire.AppendVarint(protowire.AppendTag(nil, 60, protowire.VarintType), 0),
	} {
		placesOf(t, func(t *testing.T, s sample, at place) {
			it := rawly(t, s, at, func(data []byte) []byte { return append(data, value...) })
			if len(it.Data) > lb.MaxBytes(it.Key) {
				return
			}
			md := at.in(proto.Clone(s.message).ProtoReflect()).Descriptor()
			_, err := wantSafe(t, it)
			if unknown, ok := errors.AsType[*lb.UnknownError](err); !ok || !strings.HasSuffix(unknown.What, " of "+string(md.Name())) || !strings.Contains(err.Error(), "upgrade") {
				t.Errorf("%s: %v, want an unknown field of %s", kind, err, md.Name())
			} else if diff := cmp.Diff(s.part, unknown.Known, compare); diff != "" && len(at) == 0 {
				t.Errorf("%s: what is known (-want +got):\n%s", kind, diff)
			}
		})
	}
	_, err := lb.Decode(lb.NewItem("pool/a", nil))
	if unknown, ok := errors.AsType[*lb.UnknownError](err); !ok || !strings.Contains(unknown.What, `"pool"`) {
		t.Errorf("an item of another kind: %v", err)
	}
}

// What is not of this protocol at all is not taken for something newer.
func TestGroupsAreRefused(t *testing.T) {
	deep := bytes.Repeat(protowire.AppendTag(nil, 60, protowire.StartGroupType), 500)
	placesOf(t, func(t *testing.T, s sample, at place) {
		it := rawly(t, s, at, func(data []byte) []byte { return append(data, deep...) })
		if _, err := wantSafe(t, it); err == nil || len(it.Data) <= lb.MaxBytes(it.Key) && !strings.Contains(err.Error(), "cannot be read") {
			t.Errorf("%v", err)
		}
	})
}

// A newer sender's Service can be compared with what is live, whatever it says of new.
func TestUnknownValuesLeaveTheRestKnown(t *testing.T) {
	s := sampleOf(t, "service")
	_, err := wantSafe(t, s.with(t, func(m protoreflect.Message) { m.Interface().(*lbpb.Service).Frontends[0].Settings.Algorithm = 99 }))
	unknown, ok := errors.AsType[*lb.UnknownError](err)
	if !ok {
		t.Fatal(err)
	}
	known, ok := unknown.Known.(*lb.Service)
	if !ok || known.Frontends[0].NodePort != 30080 || known.Frontends[0].Settings.Algorithm != "" {
		t.Errorf("%+v", unknown.Known)
	}
	_, err = wantSafe(t, s.with(t, func(m protoreflect.Message) { m.Interface().(*lbpb.Service).Frontends[0].Protocol = 99 }))
	if unknown, ok = errors.AsType[*lb.UnknownError](err); !ok || unknown.Known.(*lb.Service).Frontends[0].Listener.Protocol != "" {
		t.Errorf("a listener that is not understood is %+v, %v", unknown, err)
	}
	_, err = wantSafe(t, s.with(t, func(m protoreflect.Message) {
		m.Interface().(*lbpb.Service).Frontends[0].Settings.Algorithm, m.Interface().(*lbpb.Service).Frontends[0].NodePort = 99, 1<<20
	}))
	if unknown, ok := errors.AsType[*lb.UnknownError](err); !ok || unknown.Known != nil {
		t.Errorf("of what is out of bounds, there is %+v, %v", unknown, err)
	}
}

func TestWhatIsSaidTwiceIsRefused(t *testing.T) {
	placesOf(t, func(t *testing.T, s sample, at place) {
		m := at.in(proto.Clone(s.message).ProtoReflect())
		m.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
			if fd.IsList() {
				return true
			}
			only := m.New()
			only.Set(fd, v)
			again := must(proto.Marshal(only.Interface()))
			_, err := wantSafe(t, rawly(t, s, at, func(data []byte) []byte { return append(data, again...) }))
			if err == nil || !strings.Contains(err.Error(), "twice") {
				t.Errorf("%s: %v, want that it is said twice", fd.Name(), err)
			}
			return true
		})
	})
}

func TestFieldsOfAnotherTypeAreRefused(t *testing.T) {
	placesOf(t, func(t *testing.T, s sample, at place) {
		md := at.in(proto.Clone(s.message).ProtoReflect()).Descriptor()
		for i := range md.Fields().Len() {
			fd := md.Fields().Get(i)
			it := rawly(t, s, at, func([]byte) []byte {
				return protowire.AppendFixed32(protowire.AppendTag(nil, fd.Number(), protowire.Fixed32Type), 7)
			})
			if _, err := wantSafe(t, it); err == nil || !strings.Contains(err.Error(), "cannot be read") {
				t.Errorf("%s: %v", fd.Name(), err)
			}
		}
	})
}

func TestEveryListIsBounded(t *testing.T) {
	placesOf(t, func(t *testing.T, s sample, at place) {
		md := at.in(proto.Clone(s.message).ProtoReflect()).Descriptor()
		for i := range md.Fields().Len() {
			fd := md.Fields().Get(i)
			if !fd.IsList() {
				continue
			}
			most, element := lb.MaxRepeated[fd.FullName()], lbtest.Elements[fd.FullName()]
			if most == 0 || element == nil {
				t.Fatalf("%s has no bound: add it to maxRepeated in scan.go, and to Elements in lbtest", fd.FullName())
			}
			if len(at) > 0 && at[0].Name() == "ipv6" {
				continue // the elements are of IPv4, and so is the sample that has lists
			}
			if at.in(proto.Clone(s.message).ProtoReflect()).Get(fd).List().Len() == 0 {
				continue // another sample has it
			}
			for _, n := range []int{most, most + 1} {
				_, err := wantSafe(t, s.with(t, func(m protoreflect.Message) {
					list := at.in(m).Mutable(fd).List()
					list.Truncate(0)
					for i := range n {
						list.Append(protoreflect.ValueOfMessage(element(i).ProtoReflect()))
					}
				}))
				if (err == nil) != (n == most) || err != nil && !strings.Contains(err.Error(), fmt.Sprint(most)) {
					t.Errorf("%d of %s: %v", n, fd.Name(), err)
				}
			}
		}
	})
}

func TestItemsAreBounded(t *testing.T) {
	for _, s := range samples(t) {
		most := lb.MaxBytes(s.item.Key)
		if len(s.item.Data) > most {
			t.Errorf("%s has %d bytes", s.item.Key, len(s.item.Data))
		}
		it := lb.NewItem(s.item.Key, append(s.item.Data[:len(s.item.Data):len(s.item.Data)], make([]byte, most)...))
		if _, err := wantSafe(t, it); err == nil || !strings.Contains(err.Error(), fmt.Sprint(most)) {
			t.Errorf("%s with %d bytes: %v", s.item.Key, len(it.Data), err)
		}
	}
}
