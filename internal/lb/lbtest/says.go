package lbtest

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/external-lb/external-lb/internal/lb"
	"github.com/external-lb/external-lb/internal/lb/lbpb"
)

// Messages make those of Items, by the kind in their Keys.
var Messages = map[string]func() proto.Message{
	"node":        func() proto.Message { return &lbpb.Node{} },
	"service":     func() proto.Message { return &lbpb.Service{} },
	"certificate": func() proto.Message { return &lbpb.Certificate{} },
	"address":     func() proto.Message { return &lbpb.Address{} },
	"vrrp":        func() proto.Message { return &lbpb.VRRP{} },
}

// Elements of each list, no two alike, sorted.
var Elements = map[protoreflect.FullName]func(i int) proto.Message{
	"externallb.lb.v1.Service.frontends": func(i int) proto.Message {
		settings := &lbpb.Settings{Algorithm: 1, Mode: 1, ConnectTimeout: 1e9, IdleTimeout: 1e9, HealthCheck: &lbpb.HealthCheck{}}
		return &lbpb.Frontend{Address: []byte{192, 0, 2, 1}, Port: uint32(1 + i), Protocol: 1, NodePort: 30000, Settings: settings}
	},
	"externallb.lb.v1.Service.servers": func(i int) proto.Message {
		return &lbpb.Node{Name: fmt.Sprintf("n%05d", i), Ipv4: []byte{10, 1, 0, byte(i)}}
	},
	"externallb.lb.v1.Frontend.endpoints": func(i int) proto.Message {
		return &lbpb.Endpoint{Address: []byte{10, 244, byte(i >> 8), byte(i)}, Port: 8080}
	},
	"externallb.lb.v1.Targets.nodes": func(i int) proto.Message { return &lbpb.Target{Node: fmt.Sprintf("n%05d", i)} },
	"externallb.lb.v1.Clients.sources": func(i int) proto.Message {
		return &lbpb.Prefix{Address: []byte{198, 51, byte(i >> 8), byte(i)}, Bits: 32}
	},
}

// Says reports how a part is not what the Item says that it was decoded from, in all that
// matters: a number that was cut to fit, say, is another one.
func Says(it lb.Item, part any) error {
	kind, _, _ := strings.Cut(string(it.Key), "/")
	cfg := &lb.Config{}
	Add(cfg, part)
	again, err := new(lb.Encoder).Encode(cfg)
	if err != nil || kind == "certificate" { // which is printed anew
		return err
	}
	said, taken := Messages[kind](), Messages[kind]()
	err = proto.Unmarshal(it.Data, said)
	for other := range again.All() {
		err = errors.Join(err, proto.Unmarshal(other.Data, taken))
	}
	matters(said.ProtoReflect())
	matters(taken.ProtoReflect())
	if diff := cmp.Diff(said, taken, protocmp.Transform()); diff != "" {
		err = errors.Join(err, fmt.Errorf("%s (-said +taken):\n%.2000s", it.Key, diff))
	}
	return err
}

// matters leaves what matters of a message, in one order.
func matters(m protoreflect.Message) {
	if h, ok := m.Interface().(*lbpb.HealthCheck); ok && h.GetType() == lbpb.HealthCheckType_HEALTH_CHECK_TYPE_UNSPECIFIED {
		proto.Reset(h)
	}
	m.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case fd.Message() == nil:
		case fd.IsList():
			inOneOrder(v.List())
		default:
			if matters(v.Message()); proto.Size(v.Message().Interface()) == 0 {
				m.Clear(fd)
			}
		}
		return true
	})
}

// inOneOrder sorts a list, each element once.
func inOneOrder(list protoreflect.List) {
	all := map[string]protoreflect.Value{}
	for i := range list.Len() {
		matters(list.Get(i).Message())
		text, err := proto.MarshalOptions{Deterministic: true}.Marshal(list.Get(i).Message().Interface())
		all[string(must(text, err))] = list.Get(i)
	}
	list.Truncate(0)
	for _, text := range slices.Sorted(maps.Keys(all)) {
		list.Append(all[text])
	}
}
