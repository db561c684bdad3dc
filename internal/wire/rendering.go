package wire

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"path/filepath"
	"slices"
	"strings"

	"github.com/external-lb/external-lb/internal/host"
	"github.com/external-lb/external-lb/internal/lb"
	"github.com/external-lb/external-lb/internal/text"
	"github.com/external-lb/external-lb/internal/wire/wirepb"
)

// Bounds of what a host shows.
const (
	renderedMax  = 64 << 20 // bytes: a host shows no more either
	renderedMost = 2 * lb.MaxItems
	pathMax      = 512 // bytes
)

func sendRendering(r host.Rendering, send func(*wirepb.RenderResponse) error) error {
	for _, f := range r.Files {
		header := &wirepb.FileHeader{Path: f.Path, Private: f.Data == nil, Sum: f.Sum[:]}
		if err := send(&wirepb.RenderResponse{Part: &wirepb.RenderResponse_File{File: header}}); err != nil {
			return err
		}
		for data := range slices.Chunk(f.Data, chunkSize) {
			if err := send(&wirepb.RenderResponse{Part: &wirepb.RenderResponse_Chunk{Chunk: data}}); err != nil {
				return err
			}
		}
	}
	for part := range refusalParts(legible(r.Refused)) {
		if err := send(&wirepb.RenderResponse{Part: &wirepb.RenderResponse_Refused{Refused: part}}); err != nil {
			return err
		}
	}
	return nil
}

// receiveRendering reads what a host would have. The content of a file is what its
// sum says.
func receiveRendering(recv func() (*wirepb.RenderResponse, error)) (host.Rendering, error) {
	var out rendering
	for {
		m, err := recv()
		switch {
		case errors.Is(err, io.EOF):
			if err := out.whole(); err != nil {
				return host.Rendering{}, err
			}
			return host.Rendering{Files: out.files, Refused: out.refused.got}, nil
		case err == nil:
			err = out.part(m)
		}
		if err != nil {
			return host.Rendering{}, err
		}
	}
}

// rendering collects files that arrive.
type rendering struct {
	files   []host.RenderedFile
	refused refusals
	size    int // bytes of all files
}

func (r *rendering) part(m *wirepb.RenderResponse) error {
	switch p := m.GetPart().(type) {
	case *wirepb.RenderResponse_File:
		if err := r.whole(); err != nil {
			return err
		}
		return r.file(p.File)
	case *wirepb.RenderResponse_Chunk:
		if len(r.files) == 0 || r.last().Data == nil || len(p.Chunk) == 0 {
			return errAnswer
		}
		if r.size += len(p.Chunk); r.size > renderedMax {
			return invalid("more than %d bytes of files", renderedMax)
		}
		r.last().Data = append(r.last().Data, p.Chunk...)
		return nil
	case *wirepb.RenderResponse_Refused:
		return r.refused.add(p.Refused)
	default:
		return errAnswer
	}
}

func (r *rendering) last() *host.RenderedFile { return &r.files[len(r.files)-1] }

func (r *rendering) file(header *wirepb.FileHeader) error {
	path := header.GetPath()
	if len(path) > pathMax || !filepath.IsLocal(path) || strings.ContainsFunc(path, text.Unprintable) || len(header.GetSum()) != sha256.Size {
		return errAnswer
	}
	if len(r.files) == renderedMost || len(r.files) > 0 && path <= r.last().Path {
		return invalid("%.80q is one file too many", path)
	}
	f := host.RenderedFile{Path: path, Sum: [sha256.Size]byte(header.GetSum())}
	if !header.GetPrivate() {
		f.Data = []byte{}
	}
	r.files = append(r.files, f)
	return nil
}

// whole checks the last file.
func (r *rendering) whole() error {
	if len(r.files) == 0 || r.last().Data == nil {
		return nil
	}
	if sum := sha256.Sum256(r.last().Data); !bytes.Equal(sum[:], r.last().Sum[:]) {
		return invalid("the content of %q is not what its digest says", r.last().Path)
	}
	return nil
}
