package wire

import (
	"io"
	"strconv"
	"strings"
	"testing"

	"github.com/external-lb/external-lb/internal/host"
	"github.com/external-lb/external-lb/internal/lb"
	"github.com/external-lb/external-lb/internal/wire/wirepb"
)

// arrives is whether one sum more is taken.
func arrives(before int) error {
	a := arrived{sums: make(lb.Sums, before)}
	for i := range before {
		a.sums[lb.Key(strconv.Itoa(i))] = lb.Sum{}
	}
	if !a.add("node/a", make([]byte, 32)) {
		return errAnswer
	}
	return nil
}

// What has arrived is bounded, however it was cut into messages.
func TestBoundsOfWhatArrives(t *testing.T) {
	items := func(data string) *wirepb.ApplyRequest {
		return &wirepb.ApplyRequest{Part: &wirepb.ApplyRequest_Put{Put: &wirepb.Items{Items: []*wirepb.Item{{Key: "node/b", Data: []byte(data)}}}}}
	}
	chunk := &wirepb.ApplyRequest{Part: &wirepb.ApplyRequest_Chunk{Chunk: []byte("xx")}}
	shown := &wirepb.RenderResponse{Part: &wirepb.RenderResponse_Chunk{Chunk: []byte("xx")}}
	refusal := &wirepb.Refusals{Refusals: []*wirepb.Refusal{{Key: "node/a", Message: "xx"}}}
	file := func() []host.RenderedFile { return []host.RenderedFile{{Path: "a", Data: []byte{}}} }
	for name, tc := range map[string]struct{ last, more error }{
		"items":    {(&receiver{more: plenty, size: lb.MaxSetBytes - 2}).part(items("xx")), (&receiver{more: plenty, size: lb.MaxSetBytes - 1}).part(items("xx"))},
		"a chunk":  {(&receiver{more: plenty, size: lb.MaxSetBytes - 2, key: "node/a"}).part(chunk), (&receiver{more: plenty, size: lb.MaxSetBytes - 1, key: "node/a"}).part(chunk)},
		"files":    {(&rendering{size: renderedMax - 2, files: file()}).part(shown), (&rendering{size: renderedMax - 1, files: file()}).part(shown)},
		"refusals": {(&refusals{text: lb.MaxRefusalText - 2}).add(refusal), (&refusals{text: lb.MaxRefusalText - 1}).add(refusal)},
		"refused":  {(&refusals{got: make([]lb.Refusal, lb.MaxRefusals-1)}).add(refusal), (&refusals{got: make([]lb.Refusal, lb.MaxRefusals)}).add(refusal)},
		"of items": {(&refusals{keys: maxRefused - 1}).add(refusal), (&refusals{keys: maxRefused}).add(refusal)},
		"live":     {arrives(liveMax - 1), arrives(liveMax)},
		"number":   {(&ascending{n: lb.MaxItems - 1}).next("a"), (&ascending{n: lb.MaxItems}).next("a")},
	} {
		if tc.last != nil || tc.more == nil {
			t.Errorf("%s: %v, and one more %v", name, tc.last, tc.more)
		}
	}
}

func TestPartsThatAreNone(t *testing.T) {
	for name, part := range map[string]*wirepb.ApplyRequest{
		"nothing":      {},
		"a header":     {Part: &wirepb.ApplyRequest_Header{Header: &wirepb.DeliveryHeader{}}},
		"no items":     {Part: &wirepb.ApplyRequest_Put{Put: &wirepb.Items{}}},
		"no keys":      {Part: &wirepb.ApplyRequest_Delete{}},
		"a lone chunk": {Part: &wirepb.ApplyRequest_Chunk{Chunk: []byte("x")}},
	} {
		if err := (&receiver{more: plenty}).part(part); err == nil {
			t.Errorf("%s is taken for a part of a delivery", name)
		}
	}
}

// What names a cluster is stored and compared, and has no other letters than a UID.
func TestClustersThatAreNone(t *testing.T) {
	for _, ok := range []string{"", "0c0c6d4e-5a3f-4d0a-9d7e-1f6a0c9b7a51", strings.Repeat("a", clusterMax)} {
		if got, err := toCluster(ok); err != nil || got != ok {
			t.Errorf("%q: %q, %v", ok, got, err)
		}
	}
	for _, bad := range []string{"A", "a b", "a\n", "ä", "\x00", strings.Repeat("a", clusterMax+1)} {
		if _, err := toCluster(bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

// A host that tells changes of what it never told is not believed.
func TestChangesOfNothing(t *testing.T) {
	for name, s := range map[string]*wirepb.ReportSummary{"entries": {Changes: true}, "refusals": {SameRefusals: true}} {
		parts := []*wirepb.StatusResponse{{Part: &wirepb.StatusResponse_Summary{Summary: &wirepb.StatusSummary{Report: s}}}}
		_, err := receiveStatus(nil, func() (*wirepb.StatusResponse, error) {
			if len(parts) == 0 {
				return nil, io.EOF
			}
			m := parts[0]
			parts = parts[1:]
			return m, nil
		})
		if err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}
