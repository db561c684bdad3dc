package host

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/external-lb/external-lb/internal/engine"
	"github.com/external-lb/external-lb/internal/lb"
)

// public is an address of the tests' network that may be listened on, with a port
// that is free.
func public(t testing.TB) netip.AddrPort {
	t.Helper()
	return netip.AddrPortFrom(netip.MustParseAddr("198.51.100.1"), uint16(local(t).Port()))
}

// node is the one that carries everything.
func (b *box) node() lb.Node { return lb.Node{Name: "n1", IPv4: netip.MustParseAddr("198.51.100.130")} }

var lastNodePort atomic.Uint32

// web is a Service with one port for each listener, whose nodes say a text.
func (b *box) web(name, text string, listeners ...netip.AddrPort) *lb.Service {
	b.Helper()
	id, err := lb.NewID("default", name, "uid-"+name)
	if err != nil {
		b.Fatal(err)
	}
	family := lb.Family{Targets: lb.Targets{All: true}, Clients: lb.Clients{Everybody: true}}
	s := &lb.Service{ID: id, IPv4: family, IPv6: family}
	for _, at := range listeners {
		port := uint16(30000 + lastNodePort.Add(1))
		says(b, netip.AddrPortFrom(b.node().IPv4, port), text)
		s.Frontends = append(s.Frontends, lb.Frontend{
			Listener: lb.Listener{Address: at.Addr(), Port: at.Port(), Protocol: lb.TCP}, NodePort: port,
			Settings: lb.Settings{
				Algorithm: lb.RoundRobin, Mode: lb.ModeTCP, SendProxy: lb.ProxyNone, Retries: 2,
				ConnectTimeout: time.Second, IdleTimeout: 10 * time.Minute, HealthCheck: lb.HealthCheck{Type: lb.CheckNone},
			},
		})
	}
	slices.SortFunc(s.Frontends, func(a, b lb.Frontend) int { return a.Listener.Compare(b.Listener) })
	return s
}

// changed is another version of a Service.
func changed(s *lb.Service, change func(*lb.Service)) *lb.Service {
	next := *s
	next.Frontends = slices.Clone(s.Frontends)
	change(&next)
	return &next
}

// idle changes a Service in a way that the daemon takes.
func idle(d time.Duration) func(*lb.Service) {
	return func(s *lb.Service) {
		for i := range s.Frontends {
			s.Frontends[i].Settings.IdleTimeout = d
		}
	}
}

// wants are a node and Services.
func wants(n lb.Node, services ...*lb.Service) *lb.Config {
	slices.SortFunc(services, func(a, b *lb.Service) int { return a.ID.Compare(b.ID) })
	return &lb.Config{Nodes: []lb.Node{n}, Services: services}
}

func encoded(t testing.TB, cfg *lb.Config) *lb.Set {
	t.Helper()
	set, err := (&lb.Encoder{}).Encode(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// look at the machine.
func (b *box) look() Status {
	b.Helper()
	st, err := b.agent.Status(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	return st
}

// delivery of Items, with the next epoch, from what the machine says that it wants.
func (b *box) delivery(want *lb.Set) Delivery {
	b.Helper()
	have := b.look().Wanted
	b.seq++
	return Delivery{Epoch: Epoch{1, b.seq}, Base: have.Digest(), Change: lb.Diff(have, want), Want: want.Digest()}
}

// send delivers a model and wants it, or what is admitted of it, to be proved.
func (b *box) send(cfg *lb.Config) Outcome {
	b.Helper()
	return b.sendItems(encoded(b, cfg))
}

func (b *box) sendItems(want *lb.Set) Outcome {
	b.Helper()
	out, err := b.agent.Apply(b.Context(), b.delivery(want))
	if err != nil {
		b.Fatal(err)
	}
	b.proved(out)
	if out.Wanted.Digest() != want.Digest() {
		b.Fatalf("wants %s, not %s", out.Wanted.Digest().Short(), want.Digest().Short())
	}
	return out
}

// proved wants the status to say what the outcome of the last delivery has said.
func (b *box) proved(out Outcome) {
	b.Helper()
	st := b.look()
	if !out.Proved || !st.Proved || st.Generation != out.Generation || st.Outdated || st.Live.Digest() != out.Live.Digest() || st.Wanted.Digest() != out.Wanted.Digest() {
		b.Fatalf("the outcome is\n%+v\nand the status\n%+v", out, st)
	}
}

// failsWith wants the delivery of a model to fail with a code.
func (b *box) failsWith(code Code, cfg *lb.Config) *Error {
	b.Helper()
	return b.failsToTake(code, b.delivery(encoded(b, cfg)))
}

func (b *box) failsToTake(code Code, d Delivery) *Error {
	b.Helper()
	_, err := b.agent.Apply(b.Context(), d)
	var coded *Error
	if !errors.As(err, &coded) || coded.Code != code {
		b.Fatalf("want an error with the code %s, got %v", code, err)
	}
	return coded
}

// carriesNow wants these to be the Services that are live.
func (b *box) carriesNow(out Outcome, names ...string) {
	b.Helper()
	var got []string
	for key := range out.Live.All() {
		if id, ok := key.ServiceID(); ok {
			got = append(got, id.Name)
		}
	}
	slices.Sort(got)
	if slices.Sort(names); !slices.Equal(got, names) {
		b.Fatalf("carries %v, want %v; refused: %+v", got, names, out.Refused)
	}
}

// one wants a single refusal, and returns it.
func (b *box) one(refused []Refusal, reason lb.RefusalReason, words string) Refusal {
	b.Helper()
	if len(refused) != 1 || refused[0].Reason != reason || !strings.Contains(refused[0].Message, words) {
		b.Fatalf("refused: %+v, want one with %s and %q", refused, reason, words)
	}
	return refused[0]
}

// file is what is live for a Service.
func (b *box) file(s *lb.Service) string {
	return filepath.Join(b.unit.dir, engine.LiveLink, engine.Path(s.ID))
}

func (b *box) text(s *lb.Service) string {
	b.Helper()
	data, err := os.ReadFile(b.file(s))
	if err != nil {
		b.Fatal(err)
	}
	return string(data)
}

// says a text at an address to whoever connects.
func says(t testing.TB, at netip.AddrPort, text string) {
	t.Helper()
	l, err := net.Listen("tcp", at.String())
	if err != nil {
		t.Fatal(err)
	}
	var done sync.WaitGroup
	done.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			fmt.Fprint(c, text) // a client that has gone is not missed
			c.Close()
		}
	})
	t.Cleanup(func() {
		l.Close()
		done.Wait()
	})
}

// Whoever sends more than the disk can hold gets nothing, and takes nothing from those
// who come after.
func TestAFullDiskHasRoomAgain(t *testing.T) {
	root := t.TempDir()
	if err := unix.Mount("tmpfs", root, "tmpfs", 0, "size=1m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(root, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	b := newBoxIn(t, root, 512)
	at := public(t)
	b.send(wants(b.node()))
	for _, size := range []int{1 << 20, 9000, 100 << 10} { // one that is cut, and many
		var garbage []lb.Item
		for i := range 2 << 20 / size {
			data := make([]byte, size)
			data[0], data[1] = byte(i), byte(size)
			garbage = append(garbage, lb.NewItem(lb.NodeKey(fmt.Sprintf("garbage-%06d", i)), data))
		}
		if e := b.failsToTake(CodeMachine, b.delivery(encoded(t, wants(b.node())).With(garbage...))); !strings.Contains(e.Message, "full") {
			t.Errorf("%v", e)
		}
	}
	b.send(wants(b.node(), b.web("web", "one", at)))
	b.says(at, "one")
	if all, err := os.ReadDir(filepath.Join(b.agent.settings.modelDir(), itemsDir)); err != nil || len(all) != 2 {
		t.Errorf("%d items are kept (%v), want 2", len(all), err)
	}
}

// A model that would take more memory than there is for it is refused while it is read,
// in one delivery or in several, also if nothing of it is carried.
func TestTooManyListenersAndPods(t *testing.T) {
	b := &box{T: t, dir: t.TempDir()}
	b.take(newAgentOf(t, "root: "+t.TempDir()+"\n"))
	b.initialise()
	m, err := b.agent.read()
	if err != nil {
		t.Fatal(err)
	}
	before := maxExtent
	maxExtent = extent{listeners: 1024, endpoints: 1024}
	t.Cleanup(func() { maxExtent = before })
	web := &lb.Service{ID: lb.ID{Namespace: "default", Name: "web", UID: "uid"}}
	for port := range 512 {
		web.Frontends = append(web.Frontends, lb.Frontend{
			Listener: lb.Listener{Address: netip.MustParseAddr("192.0.2.1"), Port: uint16(port + 1), Protocol: lb.TCP}, NodePort: 30000,
			Settings: lb.Settings{Algorithm: lb.RoundRobin, Mode: lb.ModeTCP, SendProxy: lb.ProxyNone, ConnectTimeout: time.Second, IdleTimeout: time.Second, HealthCheck: lb.HealthCheck{Type: lb.CheckNone}},
		})
	}
	crowd := *web
	crowd.Pods, crowd.Frontends = true, slices.Clone(web.Frontends[:4])
	for i := range crowd.Frontends {
		for k := range 256 {
			at := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 244, 0, byte(k)}), 8080)
			crowd.Frontends[i].Endpoints = append(crowd.Frontends[i].Endpoints, lb.Endpoint{Address: at})
		}
	}
	item := func(uid string, more ...byte) lb.Item {
		next := *web
		if strings.HasPrefix(uid, "pods") {
			next = crowd
			next.Frontends = next.Frontends[:len(uid)-len("pods")]
		}
		next.ID.UID = uid
		it := itemOf(t, &next)
		return lb.NewItem(it.Key, append(it.Data, more...))
	}
	unknown := protowire.AppendVarint(protowire.AppendTag(nil, 60, protowire.VarintType), 1)
	have := lb.NewSet()
	for _, c := range []struct {
		what  string
		want  *lb.Set
		taken bool
	}{
		{"too many", lb.NewSet(item("a"), item("b"), item("c")), false},
		{"as many as may be", lb.NewSet(item("a"), item("b")), true},
		{"one more", lb.NewSet(item("a"), item("b"), item("c")), false},
		{"one more, from somebody newer", lb.NewSet(item("a"), item("b"), item("c", unknown...)), false},
		{"another", lb.NewSet(item("a"), item("c")), true},
		{"a newer version", lb.NewSet(item("a"), item("c", unknown...)), true},
		{"one more than what is newer", lb.NewSet(item("a"), item("b"), item("c", unknown...)), false},
		{"as many pods as may be", lb.NewSet(item("pods12"), item("pods34")), true},
		{"others before they go", lb.NewSet(item("pods12"), item("pods56")), true},
		{"more pods", lb.NewSet(item("pods12"), item("pods56"), item("pods7")), false},
		{"more pods, from somebody newer", lb.NewSet(item("pods12"), item("pods56"), item("pods7", unknown...)), false},
	} {
		next, err := m.changed(Delivery{Base: have.Digest(), Change: lb.Diff(have.Manifest(), c.want), Want: c.want.Digest()})
		if (err == nil) != c.taken {
			t.Errorf("%s: %v", c.what, err)
		}
		if err == nil {
			have, m.wanted = c.want, *next
		}
	}
}
