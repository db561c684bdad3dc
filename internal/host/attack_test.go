package host_test

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/external-lb/external-lb/internal/host"
	"github.com/external-lb/external-lb/internal/lb"
	"github.com/external-lb/external-lb/internal/lb/lbtest"
	"github.com/external-lb/external-lb/internal/render/rendertest"
	"github.com/external-lb/external-lb/internal/wire"
)

// What somebody with the key of a host can send it is tried on real daemons: whatever
// it is, they read, write and run nothing that they would not for a plain model, and
// their files have no line that our templates cannot have made.

const (
	deliveries = 50 // hostile ones, to each machine
	plainOnes  = 12 // before, to see what daemons do anyway
)

// attacker has the key: a stream to the agent of a machine.
type attacker struct {
	*testing.T
	victim *host.Victim
	engine string
	client *wire.Client
	random *rand.Rand
	seq    uint64
	wanted lb.Manifest
}

func attack(t *testing.T, engine string) *attacker {
	t.Helper()
	a := &attacker{T: t, victim: host.Victims[engine](t), engine: engine, random: rand.New(rand.NewPCG(1, 2)), wanted: lb.Manifest{}}
	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- wire.Listen(ctx, l, a.victim.Agent) }()
	t.Cleanup(func() {
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	conn, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	if a.client, err = wire.NewClient(t.Context(), conn); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.client.Close() })
	return a
}

// send Items, whatever they are. The result is what the agent says.
func (a *attacker) send(items []lb.Item) ([]lb.Refusal, error) {
	a.Helper()
	a.seq++
	want := lb.NewSet(items...)
	d := host.Delivery{
		Epoch: host.Epoch{Lease: 1, Term: 1, Seq: a.seq}, Base: a.wanted.Digest(), Change: lb.Diff(a.wanted, want), Want: want.Digest(),
	}
	if a.engine == "lvs" {
		return a.render(d)
	}
	out, err := a.client.Apply(a.Context(), d)
	if err != nil {
		return nil, err
	}
	a.wanted = out.Wanted
	return out.Refused, nil
}

// render is for a machine without a daemon. What it would give the daemon it shows.
func (a *attacker) render(d host.Delivery) ([]lb.Refusal, error) {
	a.Helper()
	out, err := a.client.Render(a.Context(), d)
	if err != nil {
		return nil, err
	}
	for _, f := range out.Files {
		if err := rendertest.Check(a.engine, false, f.Data); err != nil {
			a.Errorf("%s: %v", f.Path, err)
		}
	}
	return out.Refused, nil
}

// intact holds every file that a daemon could read against what templates can make.
func (a *attacker) intact() {
	a.Helper()
	for _, u := range a.victim.Units() {
		files, err := filepath.Glob(filepath.Join(u.Dir, "generations", "*", "files"))
		if err != nil {
			a.Fatal(err)
		}
		for _, dir := range files {
			a.intactBelow(dir, u.OwnFile)
		}
	}
}

func (a *attacker) intactBelow(dir, ownFile string) {
	a.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || d.Name() == ownFile {
			return err
		}
		if !d.Type().IsRegular() {
			return errors.New(path + " is no file")
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		engine := a.engine
		if strings.Contains(path, "/keepalived/") {
			engine = "keepalived"
		} else if engine == "keepalived" {
			engine = "nginx" // beside it
		}
		if err := rendertest.Check(engine, strings.HasSuffix(path, ".pem"), data); err != nil {
			a.Errorf("%s: %v", path, err)
		}
		return nil
	})
	if err != nil {
		a.Error(err)
	}
}

// plain is a model that its owner could send: with the certificates, and on this
// machine's interface.
func (a *attacker) plain(seed int) []lb.Item {
	a.Helper()
	cfg := lbtest.Config().Example(seed)
	if cfg.VRRP != nil {
		cfg.VRRP.Interface, cfg.VRRP.Interval = "eth0", 20*time.Millisecond // hosts take four of them to agree
	}
	set, err := (&lb.Encoder{}).Encode(cfg)
	if err != nil {
		a.Fatal(err)
	}
	return slices.Collect(set.All())
}

// hostile is a plain model in which some changes are made, and some bytes scrambled.
func (a *attacker) hostile(seed int, some []change) []lb.Item {
	a.Helper()
	items := a.plain(seed)
	for _, c := range some {
		at := slices.IndexFunc(items, func(it lb.Item) bool { return kindOf(it.Key) == c.kind })
		if at < 0 {
			continue
		}
		of := slices.DeleteFunc(slices.Clone(items), func(it lb.Item) bool { return kindOf(it.Key) != c.kind })
		bad := c.do(of[a.random.IntN(len(of))], a.random)
		items[slices.IndexFunc(items, func(it lb.Item) bool { return it.Key == bad.Key })] = bad
	}
	for range 2 {
		if len(items) > 0 {
			at := a.random.IntN(len(items))
			items[at] = scramble(items[at], a.random)
		}
	}
	return items
}

func TestNothingThatIsSentLeadsOutOfWhatIsOwned(t *testing.T) {
	all := changes()
	for _, engine := range slices.Sorted(maps.Keys(host.Victims)) {
		t.Run(engine, func(t *testing.T) {
			a := attack(t, engine)
			w := newWatch(t)
			owned := append(slices.Clone(a.victim.Owned), filepath.Dir(t.TempDir()))
			for seed := range plainOnes {
				if _, err := a.send(a.plain(seed)); err != nil {
					t.Fatalf("plain %d: %v", seed, err)
				}
			}
			usual := w.take(owned...)
			before := tree(t, "/etc", "/usr/local")
			random := rand.New(rand.NewPCG(3, 4))
			random.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
			taken, refused := 0, 0
			each := (len(all) + deliveries - 1) / deliveries
			n := 0
			for some := range slices.Chunk(all, each) {
				n++
				left, err := a.send(a.hostile(plainOnes+n, some))
				if coded, ok := errors.AsType[*host.Error](err); err != nil && (!ok || coded.Code == "") {
					t.Errorf("delivery %d: %v", n, err)
				}
				if err == nil {
					taken++
				}
				refused += len(left)
				a.intact()
				for did := range w.take(owned...) {
					if !usual[did] {
						t.Errorf("delivery %d: a daemon %s %s", n, did.how, did.path)
					}
				}
			}
			if after := tree(t, "/etc", "/usr/local"); !maps.Equal(before, after) {
				t.Error("files of the machine have changed")
			}
			t.Logf("%d changes in %d deliveries: %d taken, %d refusals; daemons use %d files besides their own", len(all), n, taken, refused, len(usual))
			if taken < n/2 || refused < n {
				t.Errorf("too few deliveries got so far: %d of %d, with %d refusals", taken, n, refused)
			}
			if _, err := a.send(a.plain(1)); err != nil {
				t.Errorf("a plain model is not taken any more: %v", err)
			}
		})
	}
}

// payloads made the key root once, when files were sent.
var payloads = map[string]string{
	"nginx": "log_format k 'ssh-ed25519 AAAA attacker';\nserver {\n    listen 198.51.100.1:9999;\n    access_log /root/.ssh/authorized_keys k;\n    return x;\n}\n" +
		"include /root/*;\n",
	"haproxy": ".if defined(HAPROXY_MWORKER)\nprogram evil\n    command /bin/sh -c id\n.endif\n" +
		"frontend evil\n    mode http\n    bind 198.51.100.1:9999\n    http-request return status 200 content-type text/plain file /etc/shadow\n",
	"keepalived": "vrrp_instance external-lb {\n" + strings.Repeat("#", 1023) + "notify_master \"/bin/sh -c id\" root\n}\n",
	"lvs":        "virtual_server 198.51.100.1 9999 {\n    quorum_up \"/bin/sh -c id\" root\n}\n",
}

// Files cannot be said any more: neither by the paths that they had, nor as the
// content of what there is.
func TestEarlierAttacksCannotBeSaid(t *testing.T) {
	for _, engine := range slices.Sorted(maps.Keys(host.Victims)) {
		t.Run(engine, func(t *testing.T) {
			a := attack(t, engine)
			w := newWatch(t)
			owned := append(slices.Clone(a.victim.Owned), filepath.Dir(t.TempDir()))
			if _, err := a.send(nil); err != nil {
				t.Fatal(err)
			}
			usual := w.take(owned...)
			var items []lb.Item
			for _, key := range []lb.Key{
				"services/default.web.uid.conf", "services/x.conf", "main.conf", "proof.conf", "haproxy.cfg", "keepalived.conf", "keepalived/main.conf",
				"keepalived/addresses/ip-192.0.2.1.conf", "certs/00000000000000000000000000000000.pem", "index.json", "state.json", "live/main.conf", "program", "file", "template/main.conf.tmpl", "script/x",
				"node/n1", "service/default/web/uid", "certificate/00000000000000000000000000000000", "address/192.0.2.1", "vrrp",
			} {
				items = append(items, lb.NewItem(key, []byte(payloads[engine])))
			}
			refused, err := a.send(items)
			if err != nil || len(refused) != len(items) {
				t.Errorf("%d of %d items are refused: %v, %v", len(refused), len(items), refused, err)
			}
			for _, key := range []lb.Key{"../main.conf", "/etc/nginx/nginx.conf", "node/../../etc/passwd", "node//x", "node/", "", ".", "node/A", "node/x y", "node/x\n", "node/\x00", "node/ä"} {
				if _, err := a.send([]lb.Item{lb.NewItem(key, []byte(payloads[engine]))}); err == nil {
					t.Errorf("a delivery with the key %q is taken", key)
				}
			}
			a.intact()
			for did := range w.take(owned...) {
				if !usual[did] {
					t.Errorf("a daemon %s %s", did.how, did.path)
				}
			}
			for _, u := range a.victim.Units() {
				files, err := filepath.Glob(filepath.Join(u.Dir, "live", "*"))
				if err != nil {
					t.Fatal(err)
				}
				for _, path := range files {
					if name := filepath.Base(path); name != "main.conf" && name != u.OwnFile {
						t.Errorf("%s is there", path)
					}
				}
			}
		})
	}
}

// The watch sees what it is there for.
func TestTheWatchSeesWhatProgramsDo(t *testing.T) {
	w := newWatch(t)
	path := filepath.Join(t.TempDir(), "written")
	if err := exec.Command("sh", "-c", "cat /etc/shadow >"+path).Run(); err != nil {
		t.Fatal(err)
	}
	seen := map[access]bool{}
	cat, err := exec.LookPath("cat")
	if err != nil {
		t.Fatal(err)
	}
	if cat, err = filepath.EvalSymlinks(cat); err != nil {
		t.Fatal(err)
	}
	late := time.After(10 * time.Second)
	for !seen[access{"reads", "/etc/shadow"}] || !seen[access{"writes", path}] || !seen[access{"runs", cat}] {
		maps.Copy(seen, w.take())
		select {
		case <-late:
			t.Fatalf("%v", seen)
		case <-time.After(time.Millisecond):
		}
	}
}
