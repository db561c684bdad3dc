package wire

import (
	"crypto/sha256"
	"errors"
	"io"
	"iter"
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
	for d := range base.Wanted.Differences(r.Wanted) {
		keys = append(keys, d.Key)
	}
	for d := range base.Live.Differences(r.Live) {
		keys = append(keys, d.Key)
	}
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
	if sum, ok := m.Sum(key); ok {
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
	var was host.Report
	if s.GetChanges() {
		was = *base
	}
	in := &entries{changes: s.GetChanges(), keys: ascending{most: entriesMax}}
	in.wanted.was, in.live.was = was.Wanted, was.Live
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
	wanted, live := in.wanted.manifest(), in.live.manifest()
	if wanted.Len() > lb.MaxItems || live.Len() > liveMax {
		return host.Report{}, invalid("more than %d items", lb.MaxItems)
	}
	r := host.Report{
		Generation: bounded(s.GetGeneration(), nameMax), Proved: s.GetProved(),
		Outdated: s.GetOutdated(), Renderer: bounded(s.GetRenderer(), nameMax),
		Wanted: wanted, Live: live, Refused: refused.got,
	}
	if s.GetSameRefusals() {
		r.Refused = base.Refused
	}
	return r, nil
}

// entries collects those that arrive.
type entries struct {
	wanted, live arrived
	changes      bool // of a report
	keys         ascending
}

func (in *entries) add(entries []*wirepb.Entry) error {
	for _, e := range entries {
		key := lb.Key(e.GetKey())
		if err := in.keys.next(key); err != nil {
			return err
		}
		none := len(e.GetWanted())+len(e.GetLive()) == 0
		if none && !in.changes || !in.wanted.add(key, e.GetWanted()) || !in.live.add(key, e.GetLive()) {
			return errAnswer
		}
	}
	return nil
}

// arrived is what a Manifest has from now on, and what it has no longer.
type arrived struct {
	was  lb.Manifest
	sums lb.Sums
	gone []lb.Key
}

// add a sum, or that there is none; false: it is not one.
func (a *arrived) add(key lb.Key, sum []byte) bool {
	switch len(sum) {
	case 0:
		if a.was.Has(key) {
			a.gone = append(a.gone, key)
		}
	case sha256.Size:
		if a.sums == nil {
			a.sums = lb.Sums{}
		}
		a.sums[key] = lb.Sum(sum)
		return len(a.sums) <= liveMax
	default:
		return false
	}
	return true
}

func (a *arrived) manifest() lb.Manifest { return a.was.Without(a.gone...).With(a.sums) }
