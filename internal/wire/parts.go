package wire

import (
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/external-lb/external-lb/internal/fileset"
	"github.com/external-lb/external-lb/internal/host"
	"github.com/external-lb/external-lb/internal/wire/wirepb"
)

// Bounds that keep each message far below gRPC's 4 MB, and a delivery within
// what a host can hold.
const (
	chunkSize   = 128 << 10 // bytes of content in a message
	batchSize   = 512       // paths, entries or refusals in a message
	textMax     = 4 << 10   // bytes of a message for people
	contentMax  = 1 << 30   // bytes of content in a delivery
	filesMax    = 1 << 20   // files in a delivery or a manifest
	listensMax  = 8192      // sockets of one file
	digestBytes = 64
)

func bounded(text string) string {
	if len(text) > textMax {
		text = text[:textMax] + " …"
	}
	return strings.ToValidUTF8(text, "?")
}

func invalid(format string, args ...any) error {
	return status.Errorf(codes.InvalidArgument, format, args...)
}

// sendAll sends, and stops at the first error.
func sendAll[M any](send func(M) error, messages iter.Seq[M]) error {
	for m := range messages {
		if err := send(m); err != nil {
			return err
		}
	}
	return nil
}

// sendDelivery sends a delivery in parts.
func sendDelivery(d host.Delivery, send func(*wirepb.ApplyRequest) error) error {
	header := &wirepb.DeliveryHeader{Epoch: fromEpoch(d.Epoch), Base: string(d.Base), Want: string(d.Want), Whole: d.Whole}
	if err := send(&wirepb.ApplyRequest{Part: &wirepb.ApplyRequest_Header{Header: header}}); err != nil {
		return err
	}
	for paths := range slices.Chunk(d.Change.Delete, batchSize) {
		part := &wirepb.ApplyRequest_Delete{Delete: &wirepb.Deletes{Paths: fromPaths(paths)}}
		if err := send(&wirepb.ApplyRequest{Part: part}); err != nil {
			return err
		}
	}
	for paths := range slices.Chunk(d.Spared, batchSize) {
		part := &wirepb.ApplyRequest_Spared{Spared: &wirepb.Spared{Paths: fromPaths(paths)}}
		if err := send(&wirepb.ApplyRequest{Part: part}); err != nil {
			return err
		}
	}
	for _, f := range d.Change.Put {
		if err := sendAll(send, fileParts(f)); err != nil {
			return err
		}
	}
	return nil
}

func fromPaths(paths []string) [][]byte {
	out := make([][]byte, len(paths))
	for i, path := range paths {
		out[i] = []byte(path)
	}
	return out
}

func fileParts(f fileset.File) iter.Seq[*wirepb.ApplyRequest] {
	return func(yield func(*wirepb.ApplyRequest) bool) {
		header := &wirepb.FileHeader{Path: f.Path, Fragment: f.Fragment, Private: f.Private, Size: uint64(len(f.Data))}
		for _, l := range f.Listens {
			header.Listens = append(header.Listens, &wirepb.Socket{Network: l.Network, Address: l.Address.String()})
		}
		if !yield(&wirepb.ApplyRequest{Part: &wirepb.ApplyRequest_File{File: header}}) {
			return
		}
		for data := range slices.Chunk(f.Data, chunkSize) {
			if !yield(&wirepb.ApplyRequest{Part: &wirepb.ApplyRequest_Chunk{Chunk: data}}) {
				return
			}
		}
	}
}

// receiveDelivery parses a whole delivery, or says what is wrong with it.
func receiveDelivery(recv func() (*wirepb.ApplyRequest, error)) (host.Delivery, error) {
	first, err := recv()
	if err != nil {
		return host.Delivery{}, err
	}
	header := first.GetHeader()
	if header == nil {
		return host.Delivery{}, invalid("a delivery begins with its header")
	}
	r := &receiver{recv: recv}
	r.d.Whole = header.GetWhole()
	r.d.Epoch = toEpoch(header.GetEpoch())
	if r.d.Base, err = toDigest(header.GetBase()); err != nil {
		return host.Delivery{}, err
	}
	if r.d.Want, err = toDigest(header.GetWant()); err != nil {
		return host.Delivery{}, err
	}
	for {
		m, err := recv()
		if errors.Is(err, io.EOF) {
			return r.d, nil
		}
		if err == nil {
			err = r.part(m)
		}
		if err != nil {
			return host.Delivery{}, err
		}
	}
}

// receiver puts a delivery together.
type receiver struct {
	recv func() (*wirepb.ApplyRequest, error)
	d    host.Delivery
	size uint64 // of the content announced so far
}

func (r *receiver) part(m *wirepb.ApplyRequest) error {
	if len(r.d.Change.Put)+len(r.d.Change.Delete)+len(r.d.Spared) >= filesMax {
		return invalid("more than %d files", filesMax)
	}
	switch p := m.GetPart().(type) {
	case *wirepb.ApplyRequest_Delete:
		return addPaths(&r.d.Change.Delete, p.Delete.GetPaths())
	case *wirepb.ApplyRequest_Spared:
		return addPaths(&r.d.Spared, p.Spared.GetPaths())
	case *wirepb.ApplyRequest_File:
		f, err := r.file(p.File)
		if err != nil {
			return err
		}
		r.d.Change.Put = append(r.d.Change.Put, f)
		return nil
	default:
		return invalid("unexpected part %T of a delivery", p)
	}
}

func addPaths(to *[]string, paths [][]byte) error {
	for _, path := range paths {
		if !filepath.IsLocal(string(path)) {
			return invalid("not a path below the root: %q", path)
		}
		*to = append(*to, string(path))
	}
	return nil
}

func (r *receiver) file(header *wirepb.FileHeader) (fileset.File, error) {
	r.size += header.GetSize()
	if header.GetSize() > contentMax || r.size > contentMax {
		return fileset.File{}, invalid("a delivery of more than %d bytes", contentMax)
	}
	listens, err := toSockets(header.GetListens())
	if err != nil {
		return fileset.File{}, err
	}
	var data []byte // grows with what arrives, not with what is promised
	for uint64(len(data)) < header.GetSize() {
		m, err := r.recv()
		if err != nil {
			return fileset.File{}, cutOff(err)
		}
		chunk := m.GetChunk()
		if len(chunk) == 0 || uint64(len(data)+len(chunk)) > header.GetSize() {
			return fileset.File{}, invalid("the content of %q is not of the size announced", header.GetPath())
		}
		data = append(data, chunk...)
	}
	f, err := fileset.NewFile(header.GetPath(), data)
	if err != nil {
		return fileset.File{}, invalid("%v", err)
	}
	f.Fragment, f.Private, f.Listens = header.GetFragment(), header.GetPrivate(), listens
	return f, nil
}

// cutOff is what an end in the middle means.
func cutOff(err error) error {
	if errors.Is(err, io.EOF) {
		return invalid("the delivery ends in the middle of a file")
	}
	return err
}

func toSockets(in []*wirepb.Socket) ([]fileset.Socket, error) {
	if len(in) > listensMax {
		return nil, invalid("more than %d sockets in one file", listensMax)
	}
	var out []fileset.Socket
	for _, s := range in {
		address, err := netip.ParseAddrPort(s.GetAddress())
		if err != nil || !slices.Contains(fileset.Networks, s.GetNetwork()) {
			return nil, invalid("not a socket: %q %q", s.GetNetwork(), s.GetAddress())
		}
		out = append(out, fileset.Socket{Network: s.GetNetwork(), Address: address})
	}
	return out, nil
}

func toDigest(s string) (fileset.Digest, error) {
	if s != "" && (len(s) != digestBytes || strings.Trim(s, "0123456789abcdef") != "") {
		return "", invalid("not a digest: %q", bounded(s))
	}
	return fileset.Digest(s), nil
}

func fromEpoch(e host.Epoch) *wirepb.Epoch {
	return &wirepb.Epoch{Lease: e.Lease, Term: e.Term, Seq: e.Seq}
}

func toEpoch(e *wirepb.Epoch) host.Epoch {
	return host.Epoch{Lease: e.GetLease(), Term: e.GetTerm(), Seq: e.GetSeq()}
}

// manifestParts cuts a manifest into messages.
func manifestParts(m fileset.Manifest) iter.Seq[*wirepb.Manifest] {
	return func(yield func(*wirepb.Manifest) bool) {
		for paths := range slices.Chunk(slices.Sorted(maps.Keys(m)), batchSize) {
			part := &wirepb.Manifest{}
			for _, path := range paths {
				sum := m[path]
				part.Entries = append(part.Entries, &wirepb.Entry{Path: []byte(path), Sum: sum[:]})
			}
			if !yield(part) {
				return
			}
		}
	}
}

// addEntries parses a part of a manifest. The paths are what is on a host's disk,
// whatever that is.
func addEntries(m fileset.Manifest, part *wirepb.Manifest) error {
	for _, e := range part.GetEntries() {
		if len(e.GetSum()) != len(fileset.Sum{}) {
			return fmt.Errorf("the host sent a checksum of %d bytes", len(e.GetSum()))
		}
		m[string(e.GetPath())] = fileset.Sum(e.GetSum())
	}
	if len(m) > filesMax {
		return fmt.Errorf("the host sent more than %d files", filesMax)
	}
	return nil
}
