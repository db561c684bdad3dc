package wire

import (
	"bytes"
	"io"
	"testing"

	"google.golang.org/protobuf/encoding/protodelim"

	"github.com/external-lb/external-lb/internal/host"
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

// FuzzDelivery: what a host takes for a delivery, it takes for the same after
// another journey.
func FuzzDelivery(f *testing.F) {
	var seed bytes.Buffer
	_ = sendDelivery(host.Delivery{}, func(m *wirepb.ApplyRequest) error {
		_, err := protodelim.MarshalTo(&seed, m)
		return err
	})
	f.Add(seed.Bytes())
	for _, part := range []*wirepb.ApplyRequest{
		{Part: &wirepb.ApplyRequest_Delete{Delete: &wirepb.Deletes{Paths: [][]byte{[]byte("a/../b")}}}},
		{Part: &wirepb.ApplyRequest_File{File: &wirepb.FileHeader{Path: "a.conf", Size: 3, Fragment: true,
			Listens: []*wirepb.Socket{{Network: "tcp", Address: "192.0.2.1:80"}}}}},
		{Part: &wirepb.ApplyRequest_Chunk{Chunk: []byte("abc")}},
	} {
		_, _ = protodelim.MarshalTo(&seed, part)
		f.Add(seed.Bytes())
	}
	f.Fuzz(func(t *testing.T, stream []byte) {
		r := bytes.NewReader(stream)
		d, err := receiveDelivery(func() (*wirepb.ApplyRequest, error) {
			m := &wirepb.ApplyRequest{}
			return m, protodelim.UnmarshalFrom(r, m)
		})
		if err != nil {
			return
		}
		var parts []*wirepb.ApplyRequest
		if err := sendDelivery(d, func(m *wirepb.ApplyRequest) error { parts = append(parts, m); return nil }); err != nil {
			t.Fatal(err)
		}
		again, err := receiveDelivery(func() (*wirepb.ApplyRequest, error) {
			if len(parts) == 0 {
				return nil, io.EOF
			}
			m := parts[0]
			parts = parts[1:]
			return m, nil
		})
		if err != nil || again.Epoch != d.Epoch || again.Want != d.Want || len(again.Change.Put) != len(d.Change.Put) ||
			len(again.Change.Delete) != len(d.Change.Delete) {
			t.Errorf("%+v became %+v, %v", d, again, err)
		}
	})
}
