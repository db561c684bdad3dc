package lb

import (
	"errors"
	"fmt"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/external-lb/external-lb/internal/lb/lbpb"
)

var errUnreadable = errors.New("its bytes cannot be read")

// maxRepeated bounds every list of the protocol, in each message that has one.
var maxRepeated = map[protoreflect.FullName]int{
	fullName(&lbpb.Service{}, "frontends"): MaxFrontends,
	fullName(&lbpb.Clients{}, "sources"):   4096, // a daemon looks at each for every connection
	fullName(&lbpb.Targets{}, "nodes"):     8192,
	fullName(&lbpb.Service{}, "servers"):   64,
	endpoints:                              MaxPods,
}

// endpoints are the list that an Item has many of.
var endpoints = fullName(&lbpb.Frontend{}, "endpoints")

func fullName(m protoreflect.ProtoMessage, field protoreflect.Name) protoreflect.FullName {
	return m.ProtoReflect().Descriptor().FullName().Append(field)
}

// maxNumber is above that of every field.
const maxNumber = 64

// scanner walks over a message before anything is made of it, so that an Item which
// is refused costs no memory. It refuses lists without measure and fields that are
// said twice.
type scanner struct {
	unknown   string // the first field or value that this program does not know
	endpoints int    // of all frontends so far
}

func (s *scanner) message(data []byte, md protoreflect.MessageDescriptor) error {
	var said [maxNumber]int
	for len(data) > 0 {
		number, wire, n := protowire.ConsumeTag(data)
		if n < 0 || wire == protowire.StartGroupType || wire == protowire.EndGroupType {
			return errUnreadable
		}
		data = data[n:]
		length := protowire.ConsumeFieldValue(number, wire, data)
		if length < 0 {
			return errUnreadable
		}
		value := data[:length]
		data = data[length:]
		fd := md.Fields().ByNumber(number)
		if fd == nil || number >= maxNumber {
			s.found("field %d of %s", number, md.Name())
			continue
		}
		if said[number]++; wire != wireType(fd.Kind()) {
			return errUnreadable
		}
		if err := s.often(fd, said[number]); err != nil {
			return err
		}
		if err := s.value(value, fd); err != nil {
			return err
		}
	}
	return nil
}

func (s *scanner) value(value []byte, fd protoreflect.FieldDescriptor) error {
	if fd.Message() != nil {
		inside, _ := protowire.ConsumeBytes(value)
		return s.message(inside, fd.Message())
	}
	if fd.Enum() != nil {
		n, _ := protowire.ConsumeVarint(value)
		if number := protoreflect.EnumNumber(n); fd.Enum().Values().ByNumber(number) == nil {
			s.found("the %s %d of %s", spaced(fd), number, fd.Parent().Name())
		}
	}
	return nil
}

func (s *scanner) found(format string, args ...any) {
	if s.unknown == "" {
		s.unknown = fmt.Sprintf(format, args...)
	}
}

// often refuses a field that is said once more than it may be.
func (s *scanner) often(fd protoreflect.FieldDescriptor, times int) error {
	if fd.FullName() == endpoints {
		s.endpoints++
	}
	switch most := maxRepeated[fd.FullName()]; {
	case !fd.IsList() && times > 1:
		return fmt.Errorf("%s of %s is said twice", spaced(fd), fd.Parent().Name())
	case fd.IsList() && times > most:
		return fmt.Errorf("more than %d %s of %s", most, spaced(fd), fd.Parent().Name())
	case s.endpoints > MaxEndpoints:
		return fmt.Errorf("its ports have more than %d pods together", MaxEndpoints)
	}
	return nil
}

// wireType of a field that is no list of numbers; -1: the protocol has none of this kind.
func wireType(kind protoreflect.Kind) protowire.Type {
	switch kind {
	case protoreflect.BoolKind, protoreflect.EnumKind, protoreflect.Int64Kind, protoreflect.Uint32Kind:
		return protowire.VarintType
	case protoreflect.StringKind, protoreflect.BytesKind, protoreflect.MessageKind:
		return protowire.BytesType
	}
	return -1
}

func spaced(d protoreflect.Descriptor) string { return strings.ReplaceAll(string(d.Name()), "_", " ") }
