package wire_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go.uber.org/goleak"

	"github.com/external-lb/external-lb/internal/host"
	"github.com/external-lb/external-lb/internal/lb"
	"github.com/external-lb/external-lb/internal/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// machine is a host that answers as it is told.
type machine struct {
	status  func(context.Context) (host.Status, error)
	apply   func(context.Context, host.Delivery) (host.Outcome, error)
	render  func(host.Delivery) (host.Rendering, error)
	applied chan host.Delivery
}

func (m *machine) Status(ctx context.Context) (host.Status, error) { return m.status(ctx) }

func (m *machine) Apply(ctx context.Context, d host.Delivery) (host.Outcome, error) {
	if m.applied != nil {
		m.applied <- d
	}
	return m.apply(ctx, d)
}

func (m *machine) Render(_ context.Context, d host.Delivery) (host.Rendering, error) {
	return m.render(d)
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

// manifest of n items with long keys.
func manifest(n int) lb.Manifest {
	m := lb.Sums{}
	for i := range n {
		m[lb.Key(fmt.Sprintf("service/%s/web-%d/uid", strings.Repeat("n", 200), i))] = lb.Sum{byte(i), byte(i >> 8)}
	}
	return m.Manifest()
}

// nothing is a delivery that changes nothing.
func nothing() host.Delivery {
	return host.Delivery{Base: lb.NewSet().Digest(), Want: lb.NewSet().Digest()}
}

func delivery(t *testing.T) host.Delivery {
	t.Helper()
	big := make([]byte, 9<<20+1)
	random := rand.New(rand.NewPCG(1, 2))
	for i := range big {
		big[i] = byte(random.Uint32())
	}
	d := host.Delivery{
		Cluster: "0c0c6d4e-5a3f-4d0a-9d7e-1f6a0c9b7a51", Epoch: host.Epoch{Term: 7, Seq: 1 << 63},
		Base: manifest(1).Digest(),
		Want: manifest(2).Digest(),
	}
	for i, data := range [][]byte{big, nil, []byte("x"), make([]byte, 128<<10), make([]byte, 128<<10+1)} {
		d.Change.Put = append(d.Change.Put, lb.NewItem(lb.NodeKey(fmt.Sprint(i)), data))
	}
	for i := range 30_000 { // more than 4 MB
		name := fmt.Sprintf("%s%05d", strings.Repeat("d", 200), i)
		d.Change.Delete = append(d.Change.Delete, lb.NodeKey(name))
		d.Change.Put = append(d.Change.Put, lb.NewItem(lb.CertificateKey(name), []byte(name)))
	}
	slices.SortFunc(d.Change.Put, func(a, b lb.Item) int { return strings.Compare(string(a.Key), string(b.Key)) })
	return d
}

// sameItem, because go-cmp takes minutes for megabytes.
func sameItem(a, b lb.Item) bool {
	return a.Key == b.Key && a.Sum == b.Sum && bytes.Equal(a.Data, b.Data)
}

func TestApplyRoundTrip(t *testing.T) {
	want := host.Outcome{Report: report(3), Reloaded: true, Active: true, Old: host.Use{Used: 5, Limit: 6}}
	for i := range 2000 {
		want.Refused = append(want.Refused, lb.Refusal{Key: lb.NodeKey(fmt.Sprint(i)), Reason: lb.RefusedByEngine, Message: strings.Repeat("r", 4000)})
	}
	m := &machine{applied: make(chan host.Delivery, 1)}
	m.apply = func(context.Context, host.Delivery) (host.Outcome, error) { return want, nil }
	c, _ := connect(t, m)
	for _, d := range []host.Delivery{delivery(t), nothing()} {
		got, err := c.Apply(t.Context(), d)
		if diff := cmp.Diff(want, got, same); err != nil || diff != "" {
			t.Errorf("error %v, outcome (-want +got):\n%s", err, diff)
		}
		arrived := <-m.applied
		if diff := cmp.Diff(d, arrived, cmpopts.EquateEmpty(), cmp.Comparer(sameItem)); diff != "" {
			t.Errorf("delivery (-sent +arrived):\n%s", diff)
		}
	}
}

func TestErrorsTravel(t *testing.T) {
	var rolledBack error = &host.Error{Code: host.CodeRolledBack, Message: "nginx: [emerg] \xff unknown directive"}
	answers := []error{rolledBack, errors.New("no such luck"), &host.Error{Code: "Weather", Message: "it rains"}}
	m := &machine{}
	m.apply = func(context.Context, host.Delivery) (host.Outcome, error) { return host.Outcome{}, answers[0] }
	m.status = func(context.Context) (host.Status, error) { return host.Status{}, answers[1] }
	c, _ := connect(t, m)

	_, err := c.Apply(t.Context(), nothing())
	he, ok := errors.AsType[*host.Error](err)
	if !ok || he.Code != host.CodeRolledBack || he.Message != "nginx: [emerg] ? unknown directive" {
		t.Errorf("got %#v", err)
	}
	_, err = c.Status(t.Context())
	if err == nil || err.Error() != "no such luck" || errors.Is(err, wire.ErrLost) {
		t.Errorf("got %#v", err)
	}
	// A code that is not known tells nothing of what runs.
	answers[0] = answers[2]
	_, err = c.Apply(t.Context(), nothing())
	if _, ok := errors.AsType[*host.Error](err); ok || err == nil || err.Error() != "it rains" {
		t.Errorf("got %#v", err)
	}
}

func TestHostRefusesWhatIsNotADelivery(t *testing.T) {
	c, _ := connect(t, &machine{apply: func(context.Context, host.Delivery) (host.Outcome, error) {
		t.Error("applied")
		return host.Outcome{}, nil
	}})
	puts := func(keys ...lb.Key) func(*host.Delivery) {
		return func(d *host.Delivery) {
			for _, key := range keys {
				d.Change.Put = append(d.Change.Put, lb.NewItem(key, nil))
			}
		}
	}
	bad := map[string]func(*host.Delivery){
		"no base":     func(d *host.Delivery) { d.Base = "" },
		"base":        func(d *host.Delivery) { d.Base = "../../etc/passwd" },
		"want":        func(d *host.Delivery) { d.Want = lb.Digest(strings.Repeat("G", 64)) },
		"no key":      puts(""),
		"capitals":    puts("node/A"),
		"a line":      puts("node/a\nb"),
		"too long":    puts(lb.Key("node/" + strings.Repeat("a", 400))),
		"twice":       puts("node/a", "node/a"),
		"not sorted":  puts("node/b", "node/a"),
		"delete":      func(d *host.Delivery) { d.Change.Delete = []lb.Key{"node/a b"} },
		"delete none": func(d *host.Delivery) { d.Change.Delete = []lb.Key{""} },
	}
	for name, spoil := range bad {
		d := nothing()
		spoil(&d)
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
	if _, err := c.Apply(t.Context(), nothing()); !errors.Is(err, wire.ErrLost) {
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
		if d := time.Since(start); d > 35*time.Second {
			t.Errorf("the host noticed after %v", d)
		}
		<-c.Done()
		if d := time.Since(start); d > 40*time.Second {
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
		"older":          {"external-lb-host 0 v0.0.1\n", `the other end is not external-lb: it says "external-lb-host 0 v0.0.1\n"`},
		"newer":          {"external-lb-host 6 v0.4.0\n", "the host runs external-lb v0.4.0, protocol 6; the controller is devel, protocol 5: update the controller"},
		"older protocol": {"external-lb-host 2 v0.1.0\n", "the host runs external-lb v0.1.0, protocol 2; the controller is devel, protocol 5: update external-lb on the host"},
		"login message":  {"Welcome to Debian\n", `the other end is not external-lb: it says "Welcome to Debian\n"`},
		"nothing":        {"", "the other end said nothing: EOF"},
		"cut short":      {"external-lb-host 1", `the other end is not external-lb: it says "external-lb-host 1"`},
		"no version":     {"external-lb-host 1\n", `the other end is not external-lb: it says "external-lb-host 1\n"`},
		"endless":        {strings.Repeat("y", 300), `the other end is not external-lb: it says "` + strings.Repeat("y", 256) + `"`},
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
