package wire_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/external-lb/external-lb/internal/host"
	"github.com/external-lb/external-lb/internal/lb"
	"github.com/external-lb/external-lb/internal/wire"
)

var web = lb.Key("service/" + strings.Repeat("n", 200) + "/web-0/uid")

// same compares, and does not take long for manifests.
var same = cmp.Options{cmpopts.EquateEmpty(), cmpopts.IgnoreFields(host.Status{}, "Clock"),
	cmpopts.EquateComparable(netip.Addr{}), cmp.Comparer(func(a, b lb.Sum) bool { return a == b })}

func report(items int) host.Report {
	m := manifest(items)
	return host.Report{
		Wanted: m, Live: m.Without(web), Proved: true, Generation: strings.Repeat("f", 64), Renderer: "nginx/1.22.1 v0.3.0 0123", Outdated: true,
		Refused: []lb.Refusal{
			{Key: web, Reason: lb.RefusedUnknown, Message: "the algorithm 9 is not known", OlderStays: true},
			{Key: "service/a/b/c", Reason: lb.RefusedNotAdmitted, Message: "port 22 is not admitted\nhere",
				Listener: lb.Listener{Address: netip.MustParseAddr("2001:db8::1"), Port: 22, Protocol: lb.SCTP}},
		},
	}
}

func TestStatusRoundTrip(t *testing.T) {
	for _, items := range []int{0, 1, 511, 512, 513, 20_000} { // 20,000 are more than 4 MB
		t.Run(fmt.Sprint(items), func(t *testing.T) {
			want := host.Status{
				Report: report(items), Engine: "nginx", EngineVersion: "nginx/1.22.1", Running: true, Active: true,
				Epoch: host.Epoch{Term: 2, Seq: 3}, OldWorkers: 4, Message: "disk almost full", Templates: "no such file",
				Restarts: 3, Restarted: "nginx was started anew",
			}
			want.Uses.Connections, want.Uses.Files, want.Uses.Memory = host.Use{Used: 630, Limit: 768}, host.Use{Used: 1, Limit: 1024}, host.Use{Used: 3 << 30, Limit: 4 << 30}
			want.Uses.Old, want.Uses.Tracked = host.Use{Used: 1 << 20, Limit: 1 << 30}, host.Use{Used: 7, Limit: 4096}
			c, _ := connect(t, &machine{status: func(context.Context) (host.Status, error) { return want, nil }})
			got, err := c.Status(t.Context())
			if diff := cmp.Diff(want, got, same); err != nil || diff != "" {
				t.Errorf("error %v, (-want +got):\n%s", err, diff)
			}
		})
	}
}

// counted is a stream that counts what comes from the host.
type counted struct {
	net.Conn
	n atomic.Int64
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.n.Add(int64(n))
	return n, err
}

func TestAReportIsNotSentTwice(t *testing.T) {
	now := host.Status{Report: report(2000)}
	now.Refused[0].Message = strings.Repeat("\xff", 10_000) // it does not arrive as it is
	m := &machine{status: func(context.Context) (host.Status, error) { return now, nil }}
	a, b := net.Pipe()
	ours := &counted{Conn: a}
	go wire.Serve(context.WithoutCancel(t.Context()), b, m)
	c, err := wire.NewClient(t.Context(), ours)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ask := func(want host.Report) int64 {
		t.Helper()
		before := ours.n.Load()
		got, err := c.Status(t.Context())
		got.Refused = slices.Clone(got.Refused) // it is shared
		got.Refused[0].Message, want.Refused[0].Message = "", ""
		if diff := cmp.Diff(want, got.Report, same); err != nil || diff != "" {
			t.Errorf("error %v, (-want +got):\n%s", err, diff)
		}
		return ours.n.Load() - before
	}
	copied := func() host.Report {
		r := now.Report
		r.Refused = slices.Clone(r.Refused)
		return r
	}
	if n := ask(copied()); n < 400<<10 {
		t.Errorf("%d bytes of the first", n)
	}
	now.Generation, now.Proved = "another", false // does not grow
	if n := ask(copied()); n > 4<<10 {
		t.Errorf("%d bytes of the second", n)
	}
	now.Live, now.Wanted = now.Wanted, now.Live
	now.Refused = slices.Clone(now.Refused[:1])
	if n := ask(copied()); n > 12<<10 {
		t.Errorf("%d bytes of changes", n)
	}
	// What a delivery was answered counts, too.
	now.Live, now.Wanted = now.Wanted.Without(web), manifest(1999)
	m.apply = func(context.Context, host.Delivery) (host.Outcome, error) {
		return host.Outcome{Report: now.Report}, nil
	}
	before := ours.n.Load()
	out, err := c.Apply(t.Context(), nothing())
	if n := ours.n.Load() - before; err != nil || n > 4<<10 || !out.Live.Equal(now.Live) || !out.Wanted.Equal(now.Wanted) {
		t.Errorf("error %v, %d bytes of an outcome, %d items wanted and %d live", err, n, out.Wanted.Len(), out.Live.Len())
	}
	if n := ask(copied()); n > 4<<10 {
		t.Errorf("%d bytes after a delivery", n)
	}
}

func TestRenderRoundTrip(t *testing.T) {
	file := func(path string, data []byte) host.RenderedFile {
		return host.RenderedFile{Path: path, Data: data, Sum: sha256.Sum256(data)}
	}
	private := file("c.pem", []byte("a key"))
	private.Data = nil
	want := host.Rendering{
		Files:   []host.RenderedFile{file("a.conf", []byte{}), file("b/large.conf", bytes.Repeat([]byte("server 192.0.2.1;\n"), 300_000)), private, file("d.conf", []byte("x"))},
		Refused: report(1).Refused,
	}
	var arrived host.Delivery
	m := &machine{render: func(d host.Delivery) (host.Rendering, error) { arrived = d; return want, nil }}
	c, _ := connect(t, m)
	d := delivery(t)
	got, err := c.Render(t.Context(), d)
	comparer := cmp.Comparer(func(a, b host.RenderedFile) bool {
		return a.Path == b.Path && a.Sum == b.Sum && bytes.Equal(a.Data, b.Data) && (a.Data == nil) == (b.Data == nil)
	})
	if diff := cmp.Diff(want, got, same, comparer); err != nil || diff != "" {
		t.Errorf("error %v, (-want +got):\n%s", err, diff)
	}
	if diff := cmp.Diff(d, arrived, cmpopts.EquateEmpty(), cmp.Comparer(sameItem)); diff != "" {
		t.Errorf("delivery (-sent +arrived):\n%s", diff)
	}
	bad := map[string]func(r *host.Rendering){
		"path up":         func(r *host.Rendering) { r.Files[0].Path = "../a" },
		"absolute path":   func(r *host.Rendering) { r.Files[0].Path = "/etc/passwd" },
		"path on a line":  func(r *host.Rendering) { r.Files[0].Path = "a\nb" },
		"twice":           func(r *host.Rendering) { r.Files[1] = r.Files[0] },
		"another content": func(r *host.Rendering) { r.Files[0].Data = []byte("x") },
		"the last one's":  func(r *host.Rendering) { r.Files[3].Data = []byte("y") },
	}
	for name, spoil := range bad {
		m.render = func(host.Delivery) (host.Rendering, error) {
			r := want
			r.Files = slices.Clone(r.Files)
			spoil(&r)
			return r, nil
		}
		if _, err := c.Render(t.Context(), nothing()); err == nil || errors.Is(err, wire.ErrLost) {
			t.Errorf("%s: error %v", name, err)
		}
	}
}

// A host is not trusted either.
func TestWhatIsNoAnswerIsNotTaken(t *testing.T) {
	var answer host.Report
	c, _ := connect(t, &machine{
		status: func(context.Context) (host.Status, error) { return host.Status{Report: answer}, nil },
		apply:  func(context.Context, host.Delivery) (host.Outcome, error) { return host.Outcome{Report: answer}, nil },
	})
	refused := func(r lb.Refusal) host.Report { return host.Report{Refused: []lb.Refusal{r}} }
	bad := map[string]host.Report{
		"wanted":         {Wanted: lb.Sums{"../x": {}}.Manifest()},
		"root":           {Wanted: lb.Sums{"/x": {}}.Manifest()},
		"live":           {Live: lb.Sums{"Node/a": {}}.Manifest()},
		"refused":        refused(lb.Refusal{Key: "a b"}),
		"no address":     refused(lb.Refusal{Key: "node/a", Listener: lb.Listener{Port: 1, Protocol: lb.TCP}}),
		"a zone":         refused(lb.Refusal{Key: "node/a", Listener: lb.Listener{Address: netip.MustParseAddr("fe80::1%eth0"), Port: 1, Protocol: lb.TCP}}),
		"no port":        refused(lb.Refusal{Key: "node/a", Listener: lb.Listener{Address: netip.MustParseAddr("192.0.2.1"), Protocol: lb.TCP}}),
		"other protocol": refused(lb.Refusal{Key: "node/a", Listener: lb.Listener{Address: netip.MustParseAddr("192.0.2.1"), Port: 1, Protocol: "QUIC"}}),
	}
	for name, r := range bad {
		answer = r
		if _, err := c.Status(t.Context()); err == nil || errors.Is(err, wire.ErrLost) {
			t.Errorf("status, %s: error %v", name, err)
		}
		if _, err := c.Apply(t.Context(), nothing()); err == nil || errors.Is(err, wire.ErrLost) {
			t.Errorf("outcome, %s: error %v", name, err)
		}
	}
	answer = refused(lb.Refusal{Key: "node/a", Reason: "Mood", Message: "\x1b[2J not\ttoday\n" + strings.Repeat("ä", 4000)})
	st, err := c.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	got := st.Refused[0]
	if got.Reason != lb.RefusedOtherwise || len(got.Message) > 4096 || !strings.HasPrefix(got.Message, " [2J not\ttoday\nää") || !utf8.ValidString(got.Message) {
		t.Errorf("%s: %d bytes %.40q", got.Reason, len(got.Message), got.Message)
	}
}

// A host says what time it was when it was asked, and when it answered.
func TestStatus_HasTheHostsTime(t *testing.T) {
	var looked time.Time
	c, _ := connect(t, &machine{status: func(context.Context) (host.Status, error) {
		looked = time.Now()
		return host.Status{}, nil
	}})
	before := time.Now()
	st, err := c.Status(t.Context())
	after := time.Now()
	said := []time.Time{before, st.Clock.Asked, looked, st.Clock.Answered, after}
	if err != nil || !slices.IsSortedFunc(said, time.Time.Compare) {
		t.Errorf("%v, %v", err, said)
	}
}
