package wire

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"iter"
	"maps"
	"slices"
	"sync"

	"github.com/external-lb/external-lb/internal/host"
	"github.com/external-lb/external-lb/internal/lb"
	"github.com/external-lb/external-lb/internal/wire/wirepb"
)

// told is the last report that went over a stream. Both ends keep it, so that what
// they have in common is not sent again.
type told struct {
	mu     sync.Mutex
	report *host.Report // nil: none yet
}

func (t *told) last() *host.Report {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.report
}

// known is the last report if the other end has that; else nil.
func (t *told) known(digest string) *host.Report {
	if last := t.last(); last != nil && digest != "" && last.Digest() == digest {
		return last
	}
	return nil
}

func (t *told) keep(r host.Report) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.report = &r
}

func fromReport(r host.Report, base *host.Report) *wirepb.ReportSummary {
	return &wirepb.ReportSummary{
		Generation: bounded(r.Generation, nameMax), Proved: r.Proved, Outdated: r.Outdated, Renderer: bounded(r.Renderer, nameMax),
		Changes: base != nil, SameRefusals: base != nil && slices.Equal(r.Refused, base.Refused),
	}
}

// entryParts cuts what a host wants and carries into messages; of that, what differs
// from base.
func entryParts(r host.Report, base *host.Report) iter.Seq[*wirepb.Entries] {
	if base == nil {
		base = &host.Report{}
	}
	var keys []lb.Key
	for _, m := range []lb.Manifest{r.Wanted, r.Live, base.Wanted, base.Live} {
		keys = slices.AppendSeq(keys, maps.Keys(m))
	}
	keys = slices.DeleteFunc(keys, func(key lb.Key) bool {
		return bytes.Equal(sum(r.Wanted, key), sum(base.Wanted, key)) && bytes.Equal(sum(r.Live, key), sum(base.Live, key))
	})
	slices.Sort(keys)
	return func(yield func(*wirepb.Entries) bool) {
		for batch := range slices.Chunk(slices.Compact(keys), batchSize) {
			part := &wirepb.Entries{}
			for _, key := range batch {
				part.Entries = append(part.Entries, &wirepb.Entry{Key: string(key), Wanted: sum(r.Wanted, key), Live: sum(r.Live, key)})
			}
			if !yield(part) {
				return
			}
		}
	}
}

// sum of an item; empty: it is not in the manifest.
func sum(m lb.Manifest, key lb.Key) []byte {
	if sum, ok := m[key]; ok {
		return sum[:]
	}
	return nil
}

// receiveReport reads what follows a summary up to the answer's end. base is the
// report whose Digest was sent; nil: none.
func receiveReport[M interface {
	GetEntries() *wirepb.Entries
	GetRefused() *wirepb.Refusals
}](s *wirepb.ReportSummary, base *host.Report, recv func() (M, error)) (host.Report, error) {
	if base == nil && (s.GetChanges() || s.GetSameRefusals()) {
		return host.Report{}, errAnswer
	}
	in := newEntries(s.GetChanges(), base)
	var refused refusals
	for {
		m, err := recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil {
			switch {
			case len(m.GetEntries().GetEntries()) > 0:
				err = in.add(m.GetEntries().GetEntries())
			case len(m.GetRefused().GetRefusals()) > 0 && !s.GetSameRefusals():
				err = refused.add(m.GetRefused())
			default:
				err = errAnswer
			}
		}
		if err != nil {
			return host.Report{}, err
		}
	}
	r := host.Report{
		Generation: bounded(s.GetGeneration(), nameMax), Proved: s.GetProved(),
		Outdated: s.GetOutdated(), Renderer: bounded(s.GetRenderer(), nameMax),
		Wanted: in.wanted, Live: in.live, Refused: refused.got,
	}
	if s.GetSameRefusals() {
		r.Refused = base.Refused
	}
	return r, nil
}

// entries collects those that arrive.
type entries struct {
	wanted, live lb.Manifest
	changes      bool // of a report
	shared       bool // with that
	keys         ascending
}

func newEntries(changes bool, base *host.Report) *entries {
	if changes {
		return &entries{wanted: base.Wanted, live: base.Live, changes: true, shared: true}
	}
	return &entries{wanted: lb.Manifest{}, live: lb.Manifest{}}
}

func (in *entries) add(arrived []*wirepb.Entry) error {
	if in.shared {
		in.wanted, in.live, in.shared = maps.Clone(in.wanted), maps.Clone(in.live), false
	}
	for _, e := range arrived {
		key := lb.Key(e.GetKey())
		if err := in.keys.next(key); err != nil {
			return err
		}
		none := len(e.GetWanted())+len(e.GetLive()) == 0
		if none && !in.changes || !change(in.wanted, key, e.GetWanted()) || !change(in.live, key, e.GetLive()) {
			return errAnswer
		}
	}
	if len(in.wanted) > lb.MaxItems || len(in.live) > lb.MaxItems {
		return invalid("more than %d items", lb.MaxItems)
	}
	return nil
}

// change puts a sum into a manifest, or takes it out; false: it is not one.
func change(m lb.Manifest, key lb.Key, sum []byte) bool {
	switch len(sum) {
	case 0:
		delete(m, key)
	case sha256.Size:
		m[key] = lb.Sum(sum)
	default:
		return false
	}
	return true
}
