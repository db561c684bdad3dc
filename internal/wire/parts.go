package wire

import (
	"cmp"
	"iter"
	"net/netip"
	"slices"
	"strings"
	"unicode"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/external-lb/external-lb/internal/host"
	"github.com/external-lb/external-lb/internal/lb"
	"github.com/external-lb/external-lb/internal/wire/wirepb"
)

// Bounds of messages. Those of what they make up together are lb.MaxItems and
// lb.MaxSetBytes.
const (
	messageMax   = 1 << 20   // bytes of a message; what is larger is not read
	headersMax   = 32 << 10  // bytes around messages: an error's words, twice and encoded
	chunkSize    = 128 << 10 // bytes of content in a message
	batchSize    = 512       // keys or entries in a message
	refusalBatch = 128       // refusals in a message
	nameMax      = 256       // bytes of an engine's name, a version, a generation
	textMax      = 4 << 10   // bytes of a message for people
	digestBytes  = 64
	clusterMax   = 64 // bytes of a UID

	maxRefused = 2 * lb.MaxItems // of which refusals are: the owner's may be among them
	// What a host wants and carries, and both of its last report: what a host carries may have
	// certificates of older versions, too.
	liveMax    = 2 * lb.MaxItems
	entriesMax = 2 * (lb.MaxItems + liveMax)
)

// more ends a text that was cut.
const more = " …"

// bounded makes a text of whoever wrote it one that can be shown: so long at most, in
// UTF-8, without control characters. What it returns it leaves as it is.
func bounded(text string, limit int) string {
	end := ""
	if len(text) > limit {
		text, end = text[:limit-len(more)], more
	}
	return strings.Map(func(r rune) rune {
		if r != '\n' && r != '\t' && !unicode.IsGraphic(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, "?")) + end
}

func invalid(format string, args ...any) error {
	return status.Errorf(codes.InvalidArgument, format, args...)
}

// ascending checks keys: each is one, and none comes twice.
type ascending struct {
	last lb.Key
	n    int
	most int // 0: lb.MaxItems
}

func (a *ascending) next(key lb.Key) error {
	if err := lb.CheckKey(key); err != nil {
		return invalid("%v", err)
	}
	switch most := cmp.Or(a.most, lb.MaxItems); {
	case key <= a.last:
		return invalid("%q after %q: keys are to be in order, each once", key, a.last)
	case a.n == most:
		return invalid("more than %d items", most)
	}
	a.last = key
	a.n++
	return nil
}

func toDigest(s string) (lb.Digest, error) {
	if len(s) != digestBytes || strings.Trim(s, "0123456789abcdef") != "" {
		return "", invalid("not a digest: %.80q", s)
	}
	return lb.Digest(s), nil
}

// toCluster takes what may be a UID; "" is none.
func toCluster(s string) (string, error) {
	if len(s) > clusterMax || strings.Trim(s, "0123456789abcdefghijklmnopqrstuvwxyz-") != "" {
		return "", invalid("not the UID of a namespace: %.80q", s)
	}
	return s, nil
}

func fromEpoch(e host.Epoch) *wirepb.Epoch {
	return &wirepb.Epoch{Term: e.Term, Seq: e.Seq}
}

// toEpoch takes a negative term for none: a leader goes up from there by steps of a bounded
// size, and would not come to an end.
func toEpoch(e *wirepb.Epoch) host.Epoch {
	return host.Epoch{Term: max(0, e.GetTerm()), Seq: e.GetSeq()}
}

// reasons pairs why something is refused with its numbers. Another number, of a newer
// peer, is lb.RefusedOtherwise.
var reasons = map[lb.RefusalReason]wirepb.RefusalReason{
	lb.RefusedUnknown:     wirepb.RefusalReason_REFUSAL_REASON_UNKNOWN,
	lb.RefusedInvalid:     wirepb.RefusalReason_REFUSAL_REASON_INVALID,
	lb.RefusedNotAdmitted: wirepb.RefusalReason_REFUSAL_REASON_NOT_ADMITTED,
	lb.RefusedUnavailable: wirepb.RefusalReason_REFUSAL_REASON_UNAVAILABLE,
	lb.RefusedByEngine:    wirepb.RefusalReason_REFUSAL_REASON_ENGINE,
}

func toReason(n wirepb.RefusalReason) lb.RefusalReason {
	for reason, number := range reasons {
		if number == n {
			return reason
		}
	}
	return lb.RefusedOtherwise
}

// legible makes refusals ones that the other end takes, and digests as it does. Those
// that are so already are shared, not copied: there may be many, and many who ask.
func legible(refused []lb.Refusal) []lb.Refusal {
	out, copied := refused, false
	for i, r := range refused {
		if _, known := reasons[r.Reason]; !known {
			r.Reason = lb.RefusedOtherwise
		}
		r.Message = bounded(r.Message, min(textMax, lb.MaxRefusalText/len(refused)))
		if r == refused[i] {
			continue
		}
		if !copied {
			out, copied = slices.Clone(refused), true
		}
		out[i] = r
	}
	return out
}

// refusalParts cuts refusals into messages.
func refusalParts(refused []lb.Refusal) iter.Seq[*wirepb.Refusals] {
	return func(yield func(*wirepb.Refusals) bool) {
		for batch := range slices.Chunk(refused, refusalBatch) {
			part := &wirepb.Refusals{}
			for _, r := range batch {
				m := &wirepb.Refusal{Key: string(r.Key), Reason: reasons[r.Reason], Message: r.Message, OlderStays: r.OlderStays}
				if !r.OfItem() {
					m.Listener = fromListener(r.Listener)
				}
				part.Refusals = append(part.Refusals, m)
			}
			if !yield(part) {
				return
			}
		}
	}
}

// refusals collects those that arrive.
type refusals struct {
	got  []lb.Refusal
	keys int // how often another one came
	text int // bytes of all messages
}

func (r *refusals) add(part *wirepb.Refusals) error {
	for _, m := range part.GetRefusals() {
		refusal := lb.Refusal{Key: lb.Key(m.GetKey()), Reason: toReason(m.GetReason()), OlderStays: m.GetOlderStays(),
			Message: bounded(m.GetMessage(), textMax)}
		if err := lb.CheckKey(refusal.Key); err != nil {
			return invalid("%v", err)
		}
		var err error
		if m.GetListener() != nil {
			if refusal.Listener, err = toListener(m.GetListener()); err != nil {
				return err
			}
		}
		if n := len(r.got); n > 0 && r.got[n-1].Key == refusal.Key {
			refusal.Key = r.got[n-1].Key // the same bytes: a Service may have many ports
		} else {
			r.keys++
		}
		r.text += len(refusal.Message)
		if r.text > lb.MaxRefusalText || r.keys > maxRefused || len(r.got) == lb.MaxRefusals {
			return invalid("more than %d refusals, of %d items, or %d bytes of messages for them", lb.MaxRefusals, maxRefused, lb.MaxRefusalText)
		}
		r.got = append(r.got, refusal)
	}
	return nil
}

func fromListener(l lb.Listener) *wirepb.Listener {
	return &wirepb.Listener{Address: netip.AddrPortFrom(l.Address, l.Port).String(), Protocol: string(l.Protocol)}
}

func toListener(m *wirepb.Listener) (lb.Listener, error) {
	at, err := netip.ParseAddrPort(m.GetAddress())
	l := lb.Listener{Address: at.Addr(), Port: at.Port(), Protocol: lb.Protocol(m.GetProtocol())}
	if err != nil || at.Port() == 0 || at.Addr().Zone() != "" || !slices.Contains([]lb.Protocol{lb.TCP, lb.UDP, lb.SCTP}, l.Protocol) {
		return lb.Listener{}, invalid("not a listener: %.80q %.80q", m.GetAddress(), m.GetProtocol())
	}
	return l, nil
}
