package wire

import (
	"fmt"
	"io"
	"net/netip"
	"slices"
	"testing"

	"github.com/external-lb/external-lb/internal/host"
	"github.com/external-lb/external-lb/internal/lb"
	"github.com/external-lb/external-lb/internal/wire/wirepb"
)

// As much as a host can have to say is taken: it has nothing in common with what it said last,
// and refuses every Item, and every listener by itself. What is live comes in the same way as
// what is wanted.
func TestTheLargestReportIsTaken(t *testing.T) {
	items := func(kind string, n int) lb.Manifest {
		all := make(lb.Sums, n)
		for i := range n {
			all[lb.Key(fmt.Sprintf("%s/%06d", kind, i))] = lb.Sum{1}
		}
		return all.Manifest()
	}
	before := host.Report{Wanted: items("a", lb.MaxItems), Live: items("b", 1)}
	now := host.Report{Wanted: items("c", lb.MaxItems), Live: items("d", 1)}
	for i := range lb.MaxItems {
		now.Refused = append(now.Refused, lb.Refusal{Key: lb.Key(fmt.Sprintf("node/%06d", i)), Reason: lb.RefusedInvalid, Message: "no"})
	}
	for i := range lb.MaxListeners {
		l := lb.Listener{Address: netip.AddrFrom4([4]byte{192, 0, byte(i >> 17), byte(i >> 9)}), Port: uint16(1 + i&511), Protocol: lb.TCP}
		now.Refused = append(now.Refused, lb.Refusal{Key: lb.Key(fmt.Sprintf("service/default/web-%03d/uid", i>>9)), Listener: l, Reason: lb.RefusedNotAdmitted, Message: "no"})
	}
	var parts []*wirepb.StatusResponse
	if err := sendStatus(host.Status{Report: now}, &before, func(m *wirepb.StatusResponse) error { parts = append(parts, m); return nil }); err != nil {
		t.Fatal(err)
	}
	got, err := receiveStatus(&before, func() (*wirepb.StatusResponse, error) {
		if len(parts) == 0 {
			return nil, io.EOF
		}
		next := parts[0]
		parts = parts[1:]
		return next, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if !got.Wanted.Equal(now.Wanted) || !got.Live.Equal(now.Live) || !slices.Equal(got.Refused, now.Refused) {
		t.Errorf("%d items wanted, %d live, %d refusals", got.Wanted.Len(), got.Live.Len(), len(got.Refused))
	}
}
