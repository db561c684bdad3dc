package wire

import (
	"bytes"
	"crypto/sha256"
	"net/netip"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"google.golang.org/protobuf/encoding/protodelim"
	"google.golang.org/protobuf/proto"

	"github.com/external-lb/external-lb/internal/engine"
	"github.com/external-lb/external-lb/internal/host"
	"github.com/external-lb/external-lb/internal/lb"
	"github.com/external-lb/external-lb/internal/wire/wirepb"
)

func FuzzHello(f *testing.F) {
	f.Add([]byte(ours().line()))
	f.Add([]byte("external-lb-host 2 v0.2\nPRI * HTTP/2.0"))
	f.Add([]byte("Welcome"))
	f.Fuzz(func(t *testing.T, said []byte) {
		r := bytes.NewReader(said)
		h, err := readHello(r)
		if err != nil {
			return
		}
		if read := len(said) - r.Len(); said[read-1] != '\n' || bytes.Count(said[:read], []byte("\n")) != 1 {
			t.Errorf("read %q of %q", said[:read], said)
		}
		if again, err := readHello(bytes.NewReader([]byte(h.line()))); err != nil || again != h {
			t.Errorf("%+v is printed and read as %+v, %v", h, again, err)
		}
	})
}

// replay receives what is in a stream. A message that is longer than that cannot be whole: nobody
// makes room for it first, which would be all of the work.
func replay[M any, P interface {
	*M
	proto.Message
}](stream []byte) func() (P, error) {
	r := bytes.NewReader(stream)
	options := protodelim.UnmarshalOptions{MaxSize: int64(len(stream))}
	return func() (P, error) {
		m := P(new(M))
		return m, options.UnmarshalFrom(r, m)
	}
}

// record keeps what is sent as a stream.
func record[P proto.Message](to *bytes.Buffer) func(P) error {
	return func(m P) error {
		_, err := protodelim.MarshalTo(to, m)
		return err
	}
}

// plenty of room.
func plenty(int) error { return nil }

// FuzzDelivery: what a host takes for a delivery is in bounds, and it takes it for
// the same after another journey.
func FuzzDelivery(f *testing.F) {
	digest := lb.NewSet().Digest()
	header := &wirepb.ApplyRequest{Part: &wirepb.ApplyRequest_Header{Header: &wirepb.DeliveryHeader{Base: string(digest), Want: string(digest)}}}
	put := func(items ...*wirepb.Item) *wirepb.ApplyRequest {
		return &wirepb.ApplyRequest{Part: &wirepb.ApplyRequest_Put{Put: &wirepb.Items{Items: items}}}
	}
	var seed bytes.Buffer
	for _, part := range []*wirepb.ApplyRequest{
		header,
		{Part: &wirepb.ApplyRequest_Delete{Delete: &wirepb.Keys{Keys: []string{"node/a", "node/b"}}}},
		put(&wirepb.Item{Key: "node/c"}, &wirepb.Item{Key: "node/d", Data: []byte("abc")}),
		{Part: &wirepb.ApplyRequest_Chunk{Chunk: []byte("def")}},
		put(&wirepb.Item{Key: "../x"}),
	} {
		_, _ = protodelim.MarshalTo(&seed, part)
		f.Add(seed.Bytes())
	}
	f.Fuzz(func(t *testing.T, stream []byte) {
		d, _, err := receiveDelivery(replay[wirepb.ApplyRequest](stream), plenty)
		if err != nil {
			return
		}
		size := 0
		for _, it := range d.Change.Put {
			size += len(it.Data)
			if it.Sum != sha256.Sum256(it.Data) || lb.CheckKey(it.Key) != nil {
				t.Errorf("%q with the sum %x", it.Key, it.Sum)
			}
		}
		if size > len(stream) {
			t.Errorf("%d bytes out of %d", size, len(stream))
		}
		var again bytes.Buffer
		if err := sendDelivery(d, "known", record[*wirepb.ApplyRequest](&again)); err != nil {
			t.Fatal(err)
		}
		got, known, err := receiveDelivery(replay[wirepb.ApplyRequest](again.Bytes()), plenty)
		if diff := cmp.Diff(d, got, cmpopts.EquateEmpty()); err != nil || diff != "" || known != "known" {
			t.Errorf("error %v, (-first +second):\n%s", err, diff)
		}
	})
}

// FuzzStatus: the same of what a controller takes for a status.
func FuzzStatus(f *testing.F) {
	first := host.Status{Message: "disk full", Report: host.Report{
		Wanted: lb.Sums{"node/a": {1}}.Manifest(), Live: lb.Sums{"node/a": {2}, "node/b": {}}.Manifest(),
		Refused: []lb.Refusal{{Key: "node/a", Reason: lb.RefusedInvalid, Message: "no"},
			{Key: "service/a/b/c", Reason: lb.RefusedOtherwise, Listener: lb.Listener{Address: netip.MustParseAddr("2001:db8::1"), Port: 80, Protocol: lb.TCP}}},
	}}
	var seed bytes.Buffer
	_ = sendStatus(first, nil, record[*wirepb.StatusResponse](&seed))
	f.Add(seed.Bytes())
	f.Fuzz(func(t *testing.T, stream []byte) {
		st, err := receiveStatus(nil, replay[wirepb.StatusResponse](stream))
		if err != nil {
			return
		}
		for what, base := range map[string]*host.Report{"all": nil, "changes": &first.Report, "nothing": &st.Report} {
			var again bytes.Buffer
			if err := sendStatus(st, base, record[*wirepb.StatusResponse](&again)); err != nil {
				t.Fatal(err)
			}
			got, err := receiveStatus(base, replay[wirepb.StatusResponse](again.Bytes()))
			if diff := cmp.Diff(st, got, cmpopts.EquateComparable(netip.Addr{}), cmpopts.EquateEmpty()); err != nil || diff != "" {
				t.Errorf("%s: error %v, (-first +second):\n%s", what, err, diff)
			}
			if what == "nothing" && again.Len() > 8*textMax+4*nameMax {
				t.Errorf("%d bytes of a status that is known", again.Len())
			}
		}
	})
}

// FuzzOutcome: the same of what it takes for the outcome of a delivery.
func FuzzOutcome(f *testing.F) {
	first := host.Outcome{Reloaded: true, Report: host.Report{Proved: true, Generation: "12",
		Wanted: lb.Sums{"node/a": {1}}.Manifest(), Live: lb.Sums{"node/a": {1}}.Manifest(),
		Refused: []lb.Refusal{{Key: "node/a", Reason: lb.RefusedInvalid, Message: "no"}},
	}}
	var seed bytes.Buffer
	_ = sendOutcome(first, nil, record[*wirepb.ApplyResponse](&seed))
	f.Add(seed.Bytes())
	f.Add(seed.Bytes()[:seed.Len()/2])
	f.Fuzz(func(t *testing.T, stream []byte) {
		for what, base := range map[string]*host.Report{"all": nil, "changes": &first.Report} {
			out, err := receiveOutcome(base, replay[wirepb.ApplyResponse](stream))
			if err != nil {
				continue
			}
			var again bytes.Buffer
			if err := sendOutcome(out, nil, record[*wirepb.ApplyResponse](&again)); err != nil {
				t.Fatal(err)
			}
			got, err := receiveOutcome(nil, replay[wirepb.ApplyResponse](again.Bytes()))
			if diff := cmp.Diff(out, got, cmpopts.EquateComparable(netip.Addr{}), cmpopts.EquateEmpty()); err != nil || diff != "" {
				t.Errorf("%s: error %v, (-first +second):\n%s", what, err, diff)
			}
		}
	})
}

// FuzzRendering: the same of the files that a host would have, whose paths become those of files here.
func FuzzRendering(f *testing.F) {
	var seed bytes.Buffer
	_ = sendRendering(host.Rendering{Files: []host.RenderedFile{
		{Path: "certs/a.pem", Sum: sha256.Sum256([]byte("secret"))},
		{Path: "services/a.b.c.conf", Data: []byte("listen"), Sum: sha256.Sum256([]byte("listen"))},
	}, Refused: []lb.Refusal{{Key: "node/a", Reason: lb.RefusedInvalid, Message: "no"}}}, record[*wirepb.RenderResponse](&seed))
	f.Add(seed.Bytes())
	f.Fuzz(func(t *testing.T, stream []byte) {
		r, err := receiveRendering(replay[wirepb.RenderResponse](stream))
		if err != nil {
			return
		}
		for _, file := range r.Files {
			if !filepath.IsLocal(file.Path) || file.Data != nil && file.Sum != sha256.Sum256(file.Data) {
				t.Errorf("%q with the sum %x", file.Path, file.Sum)
			}
		}
		var again bytes.Buffer
		if err := sendRendering(r, record[*wirepb.RenderResponse](&again)); err != nil {
			t.Fatal(err)
		}
		got, err := receiveRendering(replay[wirepb.RenderResponse](again.Bytes()))
		if diff := cmp.Diff(r, got, cmpopts.EquateComparable(netip.Addr{}), cmpopts.EquateEmpty()); err != nil || diff != "" {
			t.Errorf("error %v, (-first +second):\n%s", err, diff)
		}
	})
}

// FuzzObservation: the same of what a controller takes for what a host sees.
func FuzzObservation(f *testing.F) {
	first := host.Observation{Message: "HAProxy is stuck", Traffic: []host.Traffic{{
		Carried: engine.Carried{Service: lb.ID{Namespace: "a", Name: "b", UID: "c"}, Listener: lb.Listener{Address: netip.MustParseAddr("2001:db8::1"), Port: 80, Protocol: lb.TCP}},
		Counts:  engine.Counts{Open: 1, Made: host.Unknown}, Judged: engine.Judged{Up: 1, Down: 2, Named: []host.DownNode{{Node: "n1", For: host.Unknown}}},
	}}}
	var seed bytes.Buffer
	_ = sendObservation(first, record[*wirepb.ObserveResponse](&seed))
	f.Add(seed.Bytes())
	f.Fuzz(func(t *testing.T, stream []byte) {
		seen, err := receiveObservation(replay[wirepb.ObserveResponse](stream))
		if err != nil {
			return
		}
		var again bytes.Buffer
		if err := sendObservation(seen, record[*wirepb.ObserveResponse](&again)); err != nil {
			t.Fatal(err)
		}
		got, err := receiveObservation(replay[wirepb.ObserveResponse](again.Bytes()))
		if diff := cmp.Diff(seen, got, cmpopts.EquateEmpty(), cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); err != nil || diff != "" {
			t.Errorf("error %v, (-first +second):\n%s", err, diff)
		}
	})
}
