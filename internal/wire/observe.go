package wire

import (
	"context"
	"errors"
	"io"
	"slices"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/external-lb/external-lb/internal/host"
	"github.com/external-lb/external-lb/internal/lb"
	"github.com/external-lb/external-lb/internal/wire/wirepb"
)

// ErrUnobserved is the answer of a host that does not tell what its daemons see: an older one.
var ErrUnobserved = errors.New("this version of external-lb on the host does not tell what its daemons see: upgrade it")

// Observe tells what the daemons see.
func (s *server) Observe(req *wirepb.ObserveRequest, stream grpc.ServerStreamingServer[wirepb.ObserveResponse]) error {
	o, ok := s.host.(host.Observer)
	if !ok {
		return status.Error(codes.Unimplemented, "it does not observe")
	}
	seen, err := o.Observe(stream.Context())
	if err == nil {
		err = seen.Tells(req.GetCluster())
	}
	if err != nil {
		return failure(err)
	}
	return s.within(takeWait, func() error { return sendObservation(seen, stream.Send) })
}

// Observe asks the host what its daemons see.
func (c *Client) Observe(ctx context.Context) (host.Observation, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // ends the stream if an answer cannot be read
	stream, err := c.rpc.Observe(ctx, &wirepb.ObserveRequest{Cluster: c.Cluster})
	if err != nil {
		return host.Observation{}, trouble(err)
	}
	seen, err := receiveObservation(stream.Recv)
	if status.Code(err) == codes.Unimplemented {
		return host.Observation{}, ErrUnobserved
	}
	return seen, trouble(err)
}

func sendObservation(seen host.Observation, send func(*wirepb.ObserveResponse) error) error {
	summary := &wirepb.ObserveSummary{Message: bounded(seen.Message, textMax)}
	if err := send(&wirepb.ObserveResponse{Part: &wirepb.ObserveResponse_Summary{Summary: summary}}); err != nil {
		return err
	}
	for batch := range slices.Chunk(seen.Traffic, trafficBatch) {
		part := &wirepb.Traffics{}
		for _, t := range batch {
			part.Traffics = append(part.Traffics, fromTraffic(t))
		}
		if err := send(&wirepb.ObserveResponse{Part: &wirepb.ObserveResponse_Traffics{Traffics: part}}); err != nil {
			return err
		}
	}
	return nil
}

// trafficBatch is how many listeners are in a message: a name may have 253 bytes, and a
// listener has some of them.
const trafficBatch = 256

func receiveObservation(recv func() (*wirepb.ObserveResponse, error)) (host.Observation, error) {
	first, err := recv()
	if err != nil {
		return host.Observation{}, unanswered(err)
	}
	if first.GetSummary() == nil {
		return host.Observation{}, errAnswer
	}
	seen, names := host.Observation{Message: bounded(first.GetSummary().GetMessage(), textMax)}, 0
	for {
		part, err := recv()
		if errors.Is(err, io.EOF) {
			return seen, nil
		}
		if err != nil {
			return host.Observation{}, err
		}
		if part.GetTraffics() == nil {
			return host.Observation{}, errAnswer
		}
		for _, m := range part.GetTraffics().GetTraffics() {
			t, err := toTraffic(m)
			if err != nil {
				return host.Observation{}, err
			}
			if len(seen.Traffic) == host.MaxTraffic {
				return host.Observation{}, invalid("traffic of more than %d listeners", host.MaxTraffic)
			}
			if names += len(t.Named); names > host.MaxTraffic {
				t.Named = nil // their number is told
			}
			seen.Traffic = append(seen.Traffic, t)
		}
	}
}

func fromTraffic(t host.Traffic) *wirepb.Traffic {
	m := &wirepb.Traffic{
		Key: string(lb.ServiceKey(t.Service)), Listener: fromListener(t.Listener),
		Open: fromCount(t.Open), Made: fromCount(t.Made), Refused: fromCount(t.Refused), Failed: fromCount(t.Failed),
		BytesIn: fromCount(t.BytesIn), BytesOut: fromCount(t.BytesOut),
		Up: int32(t.Up), Down: int32(t.Down),
	}
	for _, d := range t.Named {
		down := &wirepb.DownNode{Node: d.Node}
		if d.For != host.Unknown {
			down.Seconds = proto.Int64(int64(d.For / time.Second))
		}
		m.Named = append(m.Named, down)
	}
	return m
}

func toTraffic(m *wirepb.Traffic) (t host.Traffic, err error) {
	var ok bool
	if t.Service, ok = lb.Key(m.GetKey()).ServiceID(); !ok {
		return t, invalid("not a Service: %.80q", m.GetKey())
	}
	if t.Listener, err = toListener(m.GetListener()); err != nil {
		return t, err
	}
	t.Open, t.Made, t.Refused, t.Failed = toCount(m.Open), toCount(m.Made), toCount(m.Refused), toCount(m.Failed)
	t.BytesIn, t.BytesOut = toCount(m.BytesIn), toCount(m.BytesOut)
	t.Up, t.Down = int(max(0, m.GetUp())), int(max(0, m.GetDown()))
	if len(m.GetNamed()) > min(host.MaxNamed, t.Down) {
		return t, invalid("%d nodes that are down are named", len(m.GetNamed()))
	}
	for _, n := range m.GetNamed() {
		if !lb.SafeNode(n.GetNode()) {
			return t, invalid("not a node: %.80q", n.GetNode())
		}
		d := host.DownNode{Node: n.GetNode(), For: host.Unknown}
		if n.Seconds != nil {
			d.For = time.Duration(min(max(0, n.GetSeconds()), int64(maxDown/time.Second))) * time.Second
		}
		t.Named = append(t.Named, d)
	}
	return t, nil
}

// maxDown is as long as a node is said to be down: what is later in time than any date
// would be before all of them.
const maxDown = 10 * 365 * 24 * time.Hour

// fromCount leaves out what is not known.
func fromCount(n int64) *int64 {
	if n < 0 {
		return nil
	}
	return &n
}

func toCount(n *int64) int64 {
	if n == nil || *n < 0 {
		return host.Unknown
	}
	return *n
}
