package wire_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go.uber.org/goleak"

	"github.com/external-lb/external-lb/internal/fileset"
	"github.com/external-lb/external-lb/internal/host"
	"github.com/external-lb/external-lb/internal/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// machine is a host that answers as it is told.
type machine struct {
	status  func(context.Context) (host.Status, error)
	apply   func(context.Context, host.Delivery) (host.Outcome, error)
	applied chan host.Delivery
}

func (m *machine) Status(ctx context.Context) (host.Status, error) { return m.status(ctx) }

func (m *machine) Apply(ctx context.Context, d host.Delivery) (host.Outcome, error) {
	if m.applied != nil {
		m.applied <- d
	}
	return m.apply(ctx, d)
}

// connect serves a host and returns its client, and what Serve returned.
func connect(t *testing.T, h host.Host) (*wire.Client, <-chan error) {
	t.Helper()
	ours, theirs := net.Pipe()
	served := make(chan error, 1)
	go func() { served <- wire.Serve(context.WithoutCancel(t.Context()), theirs, h) }()
	c, err := wire.NewClient(t.Context(), ours)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c, served
}

func sums(n int) fileset.Manifest {
	m := fileset.Manifest{}
	for i := range n {
		m[fmt.Sprintf("%s/service-%d.conf", strings.Repeat("n", 200), i)] = fileset.Sum{byte(i), byte(i >> 8)}
	}
	return m
}

func TestStatusRoundTrip(t *testing.T) {
	for _, files := range []int{0, 1, 511, 512, 513, 20_000} { // 20,000 are more than 4 MB
		t.Run(fmt.Sprint(files), func(t *testing.T) {
			m := sums(files)
			m["\xff not UTF-8"] = fileset.Sum{1}
			want := host.Status{
				Engine: "nginx", EngineVersion: "nginx/1.22.1", Running: true,
				Epoch: host.Epoch{Lease: 1, Term: 2, Seq: 3}, Live: m.Digest(), Files: m,
				OldWorkers: 4, Message: "disk almost full",
			}
			c, _ := connect(t, &machine{status: func(context.Context) (host.Status, error) { return want, nil }})
			got, err := c.Status(t.Context())
			if diff := cmp.Diff(want, got); err != nil || diff != "" {
				t.Errorf("error %v, (-want +got):\n%s", err, diff)
			}
		})
	}
}

func delivery(t *testing.T) host.Delivery {
	t.Helper()
	big := make([]byte, 9<<20+1)
	random := rand.New(rand.NewPCG(1, 2))
	for i := range big {
		big[i] = byte(random.Uint32())
	}
	var put []fileset.File
	for i, data := range [][]byte{big, nil, []byte("x"), make([]byte, 128<<10), make([]byte, 128<<10+1)} {
		f, err := fileset.NewFile(fmt.Sprintf("f%d.conf", i), data)
		if err != nil {
			t.Fatal(err)
		}
		put = append(put, f)
	}
	fragment, err := fileset.NewFragment("services/a.conf", []byte("server {}"), []fileset.Socket{
		{Network: "tcp", Address: netip.MustParseAddrPort("[2001:db8::1]:80")},
		{Network: "udp", Address: netip.MustParseAddrPort("192.0.2.1:53")},
	})
	if err != nil {
		t.Fatal(err)
	}
	private, err := fileset.NewPrivate("certs/a.pem", []byte("a key"))
	if err != nil {
		t.Fatal(err)
	}
	d := host.Delivery{
		Epoch:  host.Epoch{Lease: 1_800_000_000, Term: 7, Seq: 1 << 63},
		Base:   sums(1).Digest(),
		Want:   sums(2).Digest(),
		Change: fileset.Change{Put: append(put, fragment, private)},
		Whole:  true,
	}
	for i := range 30_000 { // more than 4 MB
		d.Change.Delete = append(d.Change.Delete, fmt.Sprintf("%s/%05d.conf", strings.Repeat("d", 200), i))
		d.Spared = append(d.Spared, fmt.Sprintf("spared/%05d.conf", i))
	}
	return d
}

// sameFile, because go-cmp takes minutes for megabytes.
func sameFile(a, b fileset.File) bool {
	return a.Path == b.Path && a.Sum == b.Sum && bytes.Equal(a.Data, b.Data) &&
		a.Fragment == b.Fragment && a.Private == b.Private && slices.Equal(a.Listens, b.Listens)
}

func TestApplyRoundTrip(t *testing.T) {
	want := host.Outcome{Live: sums(3).Digest(), Files: sums(3), Reloaded: true}
	for i := range 2000 {
		want.Refused = append(want.Refused, host.Refusal{Path: fmt.Sprint(i), Reason: strings.Repeat("r", 4000)})
	}
	m := &machine{applied: make(chan host.Delivery, 1)}
	m.apply = func(context.Context, host.Delivery) (host.Outcome, error) { return want, nil }
	c, _ := connect(t, m)
	for _, d := range []host.Delivery{delivery(t), {}} {
		got, err := c.Apply(t.Context(), d)
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("error %v, outcome (-want +got):\n%s", err, diff)
		}
		arrived := <-m.applied
		opts := cmp.Options{cmpopts.EquateEmpty(), cmp.Comparer(sameFile)}
		if diff := cmp.Diff(d, arrived, opts); diff != "" {
			t.Errorf("delivery (-sent +arrived):\n%s", diff)
		}
	}
}

func TestErrorsTravel(t *testing.T) {
	var rolledBack error = &host.Error{Code: host.CodeRolledBack, Message: "nginx: [emerg] \xff unknown directive"}
	answers := []error{rolledBack, errors.New("no such luck")}
	m := &machine{}
	m.apply = func(context.Context, host.Delivery) (host.Outcome, error) { return host.Outcome{}, answers[0] }
	m.status = func(context.Context) (host.Status, error) { return host.Status{}, answers[1] }
	c, _ := connect(t, m)

	_, err := c.Apply(t.Context(), host.Delivery{})
	he, ok := errors.AsType[*host.Error](err)
	if !ok || he.Code != host.CodeRolledBack || he.Message != "nginx: [emerg] ? unknown directive" {
		t.Errorf("got %#v", err)
	}
	_, err = c.Status(t.Context())
	if err == nil || err.Error() != "no such luck" || errors.Is(err, wire.ErrLost) {
		t.Errorf("got %#v", err)
	}
}

func TestHostRefusesWhatIsNotADelivery(t *testing.T) {
	c, _ := connect(t, &machine{apply: func(context.Context, host.Delivery) (host.Outcome, error) {
		t.Error("applied")
		return host.Outcome{}, nil
	}})
	bad := map[string]host.Delivery{
		"base":           {Base: "../../etc/passwd"},
		"want":           {Want: fileset.Digest(strings.Repeat("G", 64))},
		"path up":        {Change: fileset.Change{Put: []fileset.File{{Path: "../authorized_keys"}}}},
		"absolute path":  {Change: fileset.Change{Put: []fileset.File{{Path: "/etc/passwd"}}}},
		"delete up":      {Change: fileset.Change{Delete: []string{"a/../../b"}}},
		"delete root":    {Change: fileset.Change{Delete: []string{"/etc/passwd"}}},
		"spared up":      {Spared: []string{"../b"}},
		"delete nothing": {Change: fileset.Change{Delete: []string{""}}},
		"network":        {Change: fileset.Change{Put: []fileset.File{{Path: "a", Listens: []fileset.Socket{{Network: "unix", Address: netip.MustParseAddrPort("192.0.2.1:1")}}}}}},
		"address":        {Change: fileset.Change{Put: []fileset.File{{Path: "a", Listens: []fileset.Socket{{Network: "tcp"}}}}}},
	}
	for name, d := range bad {
		if _, err := c.Apply(t.Context(), d); err == nil || errors.Is(err, wire.ErrLost) {
			t.Errorf("%s: error %v", name, err)
		}
	}
}

func TestConnectionLostWhileApplying(t *testing.T) {
	ours, theirs := net.Pipe()
	entered, left := make(chan struct{}), make(chan struct{})
	m := &machine{apply: func(ctx context.Context, _ host.Delivery) (host.Outcome, error) {
		close(entered)
		<-ctx.Done()
		close(left)
		return host.Outcome{}, ctx.Err()
	}}
	served := make(chan error, 1)
	go func() { served <- wire.Serve(context.WithoutCancel(t.Context()), theirs, m) }()
	c, err := wire.NewClient(t.Context(), ours)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	go func() {
		<-entered
		ours.Close()
	}()
	if _, err := c.Apply(t.Context(), host.Delivery{}); !errors.Is(err, wire.ErrLost) {
		t.Errorf("got %v, want ErrLost", err)
	}
	<-c.Done()
	if err := <-served; err != nil {
		t.Errorf("Serve: %v", err)
	}
	select {
	case <-left:
	default:
		t.Error("Serve returned before the host had")
	}
	if _, err := c.Status(t.Context()); !errors.Is(err, wire.ErrLost) {
		t.Errorf("after the loss: %v, want ErrLost", err)
	}
}

func TestServeEnds(t *testing.T) {
	t.Run("with the client", func(t *testing.T) {
		c, served := connect(t, &machine{})
		c.Close()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	t.Run("with its context", func(t *testing.T) {
		ours, theirs := net.Pipe()
		ctx, cancel := context.WithCancel(t.Context())
		served := make(chan error, 1)
		go func() { served <- wire.Serve(ctx, theirs, &machine{}) }()
		c, err := wire.NewClient(t.Context(), ours)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
}

// frozen is a stream that can stop to carry anything, as a cut network does.
type frozen struct {
	net.Conn
	cut chan struct{}
}

func (f *frozen) Write(p []byte) (int, error) {
	select {
	case <-f.cut:
		return len(p), nil
	default:
		return f.Conn.Write(p)
	}
}

func TestCutNetworkIsNoticed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := net.Pipe()
		cut := make(chan struct{})
		served := make(chan error, 1)
		go func() { served <- wire.Serve(context.Background(), &frozen{b, cut}, &machine{}) }()
		c, err := wire.NewClient(t.Context(), &frozen{a, cut})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		synctest.Wait()
		start := time.Now()
		close(cut)
		if err := <-served; err != nil {
			t.Error(err)
		}
		if d := time.Since(start); d > 10*time.Second {
			t.Errorf("the host noticed after %v", d)
		}
		<-c.Done()
		if d := time.Since(start); d > 15*time.Second {
			t.Errorf("the controller noticed after %v", d)
		}
	})
}

func TestIdleConnectionStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _ := connect(t, &machine{status: func(context.Context) (host.Status, error) { return host.Status{}, nil }})
		time.Sleep(48 * time.Hour) // of the bubble's clock
		if _, err := c.Status(t.Context()); err != nil {
			t.Error(err)
		}
		c.Close()
		synctest.Wait()
	})
}

func TestPeersOfAnotherKind(t *testing.T) {
	tests := map[string]struct {
		says, want string
	}{
		"older":         {"external-lb-host 0 v0.0.1\n", `the other end is not external-lb: it says "external-lb-host 0 v0.0.1\n"`},
		"newer":         {"external-lb-host 3 v0.3.0\n", "the host runs external-lb v0.3.0, protocol 3; the controller is (devel), protocol 2: update the controller"},
		"without keys":  {"external-lb-host 1 v0.1.0\n", "the host runs external-lb v0.1.0, protocol 1; the controller is (devel), protocol 2: update external-lb on the host"},
		"login message": {"Welcome to Debian\n", `the other end is not external-lb: it says "Welcome to Debian\n"`},
		"nothing":       {"", "the other end said nothing: EOF"},
		"cut short":     {"external-lb-host 1", `the other end is not external-lb: it says "external-lb-host 1"`},
		"no version":    {"external-lb-host 1\n", `the other end is not external-lb: it says "external-lb-host 1\n"`},
		"endless":       {strings.Repeat("y", 300), `the other end is not external-lb: it says "` + strings.Repeat("y", 256) + `"`},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			ours, theirs := net.Pipe()
			go io.Copy(io.Discard, theirs)
			go func() {
				io.WriteString(theirs, tc.says)
				theirs.Close()
			}()
			if tc.says != "" && strings.HasPrefix(tc.want, "the host") {
				var ve *wire.VersionError
				_, err := wire.NewClient(t.Context(), ours)
				if !errors.As(err, &ve) || err.Error() != tc.want {
					t.Errorf("got %v, want %s", err, tc.want)
				}
				return
			}
			_, err := wire.NewClient(t.Context(), ours)
			if err == nil || err.Error() != tc.want {
				t.Errorf("got %v, want %s", err, tc.want)
			}
		})
	}
}

func TestOlderHostIsToldApart(t *testing.T) {
	err := &wire.VersionError{Ours: wire.Hello{Protocol: 3, Version: "v0.3.0"}, Theirs: wire.Hello{Protocol: 2, Version: "v0.1.0"}}
	want := "the host runs external-lb v0.1.0, protocol 2; the controller is v0.3.0, protocol 3: update external-lb on the host"
	if err.Error() != want {
		t.Errorf("got %s", err)
	}
}

func TestServeRefusesAnotherProtocol(t *testing.T) {
	ours, theirs := net.Pipe()
	served := make(chan error, 1)
	go func() { served <- wire.Serve(t.Context(), theirs, &machine{}) }()
	go io.Copy(io.Discard, ours)
	io.WriteString(ours, "external-lb-host 9 v9.0.0\n")
	if err := <-served; err == nil || !strings.Contains(err.Error(), "protocol 9") {
		t.Errorf("got %v", err)
	}
}

func TestSilentHostIsGivenUp(t *testing.T) {
	ours, theirs := net.Pipe()
	defer theirs.Close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := wire.NewClient(ctx, ours); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}
