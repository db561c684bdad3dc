package host

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/external-lb/external-lb/internal/engine"
	"github.com/external-lb/external-lb/internal/fileset"
	"github.com/external-lb/external-lb/internal/lb"
	"github.com/external-lb/external-lb/test/wait"
)

// instant is a daemon that takes everything at once: what is left is what the agent does.
type instant struct {
	engine.Daemon
	runs fileset.Digest
}

func (d *instant) Check(context.Context, engine.Candidate) (string, error) { return "", nil }
func (d *instant) TooOld(string) string                                    { return "" }
func (d *instant) Limits(int, int) string                                  { return "" }
func (d *instant) Processes(int) (bool, int)                               { return true, 0 }

func (d *instant) Ask(context.Context) (engine.Answer, error) {
	return engine.Answer{Digest: d.runs, Version: "instant"}, nil
}

func (d *instant) ProvesWithin(_ context.Context, want fileset.Digest, _ time.Duration) bool {
	return d.runs == want
}

func (d *instant) Reload(_ context.Context, want fileset.Digest, _ time.Duration) error {
	d.runs = want
	return nil
}

// deliveries make changes of one Service among many on nodes, for an agent whose daemon is instant.
type deliveries struct {
	testing.TB
	agent *Agent
	cfg   *lb.Config
	set   *lb.Set
	coder lb.Encoder
	seq   uint64
}

func newDeliveries(tb testing.TB, services, nodes int) *deliveries {
	d := &deliveries{TB: tb, agent: newAgentOf(tb, "engine: nginx\nroot: "+tb.TempDir()+"\n"), cfg: &lb.Config{}, set: lb.NewSet()}
	for _, u := range d.agent.units {
		u.daemon = &instant{Daemon: u.daemon}
		if err := os.MkdirAll(u.dir, 0o755); err != nil {
			tb.Fatal(err)
		}
		if err := u.initialise(tb.Context()); err != nil {
			tb.Fatal(err)
		}
	}
	if err := os.MkdirAll(filepath.Join(d.agent.settings.Root, "model"), 0o700); err != nil {
		tb.Fatal(err)
	}
	if err := d.agent.initialise(); err != nil {
		tb.Fatal(err)
	}
	for i := range services {
		d.cfg.Services = append(d.cfg.Services, numbered(i))
	}
	for i := range nodes {
		d.cfg.Nodes = append(d.cfg.Nodes, lb.Node{Name: fmt.Sprintf("node-%05d", i), IPv4: netip.AddrFrom4([4]byte{10, 16, byte(i >> 8), byte(i)})})
	}
	d.deliver()
	return d
}

// numbered is the i-th of many Services.
func numbered(i int) *lb.Service {
	a := netip.AddrFrom4([4]byte{198, 18, byte(i >> 8), byte(i)})
	return &lb.Service{
		ID:   lb.ID{Namespace: "default", Name: fmt.Sprintf("service-%05d", i), UID: fmt.Sprintf("6f1c0a52-1111-4222-8333-%012d", i)},
		IPv4: lb.Family{Targets: lb.Targets{All: true}, Clients: lb.Clients{Everybody: true}},
		Frontends: []lb.Frontend{{Listener: lb.Listener{Address: a, Port: 8080, Protocol: lb.TCP}, NodePort: 30080,
			Settings: lb.Settings{Algorithm: lb.RoundRobin, Mode: lb.ModeTCP, SendProxy: lb.ProxyNone, Retries: 2,
				ConnectTimeout: time.Second, IdleTimeout: 10 * time.Minute, HealthCheck: lb.HealthCheck{Type: lb.CheckNone}}}},
	}
}

// anew is the agent as another process, which remembers nothing.
func (d *deliveries) anew() *Agent {
	a := agentOf(d, d.agent.settings)
	for i, u := range a.units {
		u.daemon = d.agent.units[i].daemon
	}
	return a
}

func (d *deliveries) delivery(now *lb.Set) Delivery {
	return Delivery{Epoch: Epoch{1, d.seq}, Base: d.set.Digest(), Change: lb.Diff(d.set.Manifest(), now), Want: now.Digest()}
}

// change one Service, and deliver that.
func (d *deliveries) change() {
	at := int(d.seq) % len(d.cfg.Services)
	next := *d.cfg
	next.Services = slices.Clone(d.cfg.Services)
	next.Services[at] = changed(next.Services[at], func(s *lb.Service) { s.Frontends[0].NodePort = uint16(30000 + d.seq%2000) })
	d.cfg = &next
	d.deliver()
}

func (d *deliveries) deliver() {
	now, err := d.coder.Encode(d.cfg)
	if err != nil {
		d.Fatal(err)
	}
	d.seq++
	out, err := d.agent.Apply(d.Context(), d.delivery(now))
	if err != nil {
		d.Fatal(err)
	}
	if !out.Proved || out.Live.Digest() != now.Digest() {
		d.Fatalf("%d of %d items are live, refused %+v", out.Live.Len(), now.Len(), out.Refused[:min(3, len(out.Refused))])
	}
	d.set = now
}

// What an agent works out of what changed is what one would that remembers nothing: the files that
// are live, what is proved of them, and what is seen of what others do to them.
func TestDeliveriesFollowChanges(t *testing.T) {
	bindAnything(t)
	for seed := range uint64(5) {
		random := rand.New(rand.NewPCG(seed, 0))
		d := newDeliveries(t, 20, 3)
		for range 12 {
			for range random.IntN(3) {
				d.anyChange(random)
			}
			spoilt := random.IntN(4) == 0 && d.tampers(random)
			if st, err := d.agent.Status(t.Context()); err != nil || st.Proved == spoilt {
				t.Fatalf("proved %t, and a file was changed: %t; %v", st.Proved, spoilt, err)
			}
			d.deliver()
			d.sameAsAnew()
			if random.IntN(5) == 0 {
				d.agent = d.anew()
			}
		}
	}
}

// A link more or less, which each delivery gives to the files that stay, does not make them be read
// again: but for the Service that changed, and the host's own file, their sums are known.
func TestFilesThatStayAreNotReadAgain(t *testing.T) {
	bindAnything(t)
	d := newDeliveries(t, 20, 3)
	d.change()
	d.change() // so that generations are dropped, too
	files, known := 0, 0
	look := func() {
		u := d.agent.units[0]
		dir := filepath.Join(u.dir, engine.LiveLink) + "/"
		files, known = 0, 0
		if err := fs.WalkDir(os.DirFS(dir), ".", func(name string, e fs.DirEntry, err error) error {
			if err != nil || e.IsDir() {
				return err
			}
			info, err := e.Info()
			if files++; err == nil && u.sums.known[filePath(name)].identity == identify(info) {
				known++
			}
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
	wait.True(t, "all files are known", func() bool {
		d.sameAsAnew()
		look()
		return known == files
	})
	d.change()
	if look(); files < 20 || known < files-2 {
		t.Errorf("of %d files %d are known after a change", files, known)
	}
}

// anyChange of what is wanted next.
func (d *deliveries) anyChange(random *rand.Rand) {
	next := *d.cfg
	next.Services, next.Nodes = slices.Clone(d.cfg.Services), slices.Clone(d.cfg.Nodes)
	at := random.IntN(len(next.Services))
	switch random.IntN(5) {
	case 0:
		next.Services = slices.Delete(next.Services, at, at+1)
	case 1:
		s := numbered(20 + random.IntN(40))
		if i, there := slices.BinarySearchFunc(next.Services, s, func(a, b *lb.Service) int { return a.ID.Compare(b.ID) }); !there {
			next.Services = slices.Insert(next.Services, i, s)
		}
	case 2:
		next.Nodes[random.IntN(len(next.Nodes))].Draining = random.IntN(2) == 0
	default:
		next.Services[at] = changed(next.Services[at], func(s *lb.Service) { s.Frontends[0].NodePort = uint16(30000 + random.IntN(9)) })
	}
	d.cfg = &next
}

// tampers with a file that is live, and leaves its size and time of modification.
func (d *deliveries) tampers(random *rand.Rand) bool {
	s := d.cfg.Services[random.IntN(len(d.cfg.Services))]
	path := filepath.Join(d.agent.units[0].dir, engine.LiveLink, engine.Path(s.ID))
	info, err := os.Stat(path)
	if err != nil {
		return false // it is not delivered yet
	}
	data, err := os.ReadFile(path)
	if err != nil {
		d.Fatal(err)
	}
	data[len(data)/2] ^= 1
	if err := errors.Join(os.WriteFile(path, data, 0o644), os.Chtimes(path, time.Time{}, info.ModTime())); err != nil {
		d.Fatal(err)
	}
	return true
}

// sameAsAnew holds the agent, and the files that are live, against one that remembers nothing.
func (d *deliveries) sameAsAnew() {
	d.Helper()
	anew := d.anew()
	got, err := d.agent.Status(d.Context())
	want, err2 := anew.Status(d.Context())
	if err := errors.Join(err, err2); err != nil {
		d.Fatal(err)
	}
	if got.Digest() != want.Digest() || !got.Proved || !want.Proved || got.Generation != want.Generation {
		d.Fatalf("the agent says\n%+v\nand one that remembers nothing\n%+v", got.Report, want.Report)
	}
	r, err := anew.Render(d.Context(), d.delivery(d.set))
	if err != nil {
		d.Fatal(err)
	}
	files := map[string]bool{d.agent.units[0].daemon.OwnFile(): true}
	for _, f := range r.Files {
		_, name, _ := strings.Cut(f.Path, "/")
		files[name] = true
		if data, err := os.ReadFile(filepath.Join(d.agent.units[0].dir, engine.LiveLink, name)); err != nil || sha256.Sum256(data) != f.Sum {
			d.Fatalf("%s is live as\n%s\nand should be\n%s", name, data, f.Data)
		}
	}
	live := os.DirFS(filepath.Join(d.agent.units[0].dir, engine.LiveLink) + "/")
	if err := fs.WalkDir(live, ".", func(name string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() && !files[name] {
			d.Errorf("%s is live, and nobody wants it", name)
		}
		return err
	}); err != nil {
		d.Fatal(err)
	}
}
