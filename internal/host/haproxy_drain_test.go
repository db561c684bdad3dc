package host

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/external-lb/external-lb/internal/engine"
	"github.com/external-lb/external-lb/internal/engine/haproxy"
	"github.com/external-lb/external-lb/internal/lb"
	"github.com/external-lb/external-lb/test/wait"
)

// draining are Services with a drain, on two nodes that say nothing.
type draining struct {
	*checked
	all    []lb.Node
	silent []net.Listener // the api's, by node
	asked  int            // root, to end connections
}

func newDraining(t *testing.T) *draining {
	t.Helper()
	d := &draining{checked: newChecked(t)}
	for _, s := range []**lb.Service{&d.api, &d.web} {
		*s = changed(*s, func(s *lb.Service) { s.Frontends[0].Settings.Drain = time.Hour })
	}
	for i := range 2 {
		l, err := net.Listen("tcp", netip.AddrPortFrom(silentNode(i).IPv4, d.api.Frontends[0].NodePort).String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		d.silent = append(d.silent, l)
		d.all = append(d.all, nodeAt(t, i, "200 OK"))
	}
	return d
}

// connect to the api through one of two nodes alone.
func (d *draining) connect(node int) standing {
	d.Helper()
	d.carry(d.all, node)
	s := standingAt(d.T, d.at(), d.silent[node])
	d.carry(d.all, 0, 1)
	return s
}

// reload HAProxy, so that what there is, is an old worker's.
func (d *draining) reload() {
	d.Helper()
	d.web = changed(d.web, func(s *lb.Service) { s.Frontends[0].Settings.IdleTimeout += time.Minute })
	if out := d.carry(d.all, 0, 1); !out.Reloaded {
		d.Fatal("not reloaded")
	}
}

// later the time of all who left is over. When they left is no use: the machine may not have run for
// as long as they may stay.
func (d *draining) later() {
	d.Helper()
	r := d.left()
	for _, one := range r.Leaving {
		one["Drain"] = 1
	}
	data, err := json.Marshal(r)
	if err == nil {
		err = os.WriteFile(filepath.Join(d.unit.dir, "leaving.json"), data, 0o600)
	}
	if err != nil {
		d.Fatal(err)
	}
}

// left is what the host has noted of who left.
func (d *draining) left() (r struct {
	Boot    string
	Leaving map[string]map[string]any
}) {
	d.Helper()
	data, err := os.ReadFile(filepath.Join(d.unit.dir, "leaving.json"))
	if err == nil {
		err = json.Unmarshal(data, &r)
	}
	if err != nil {
		d.Fatal(err)
	}
	return r
}

// ends waits until a connection has ended.
func (d *draining) ends(s standing) {
	d.Helper()
	wait.For(d, func(ctx context.Context) error {
		d.agent.drain(ctx)
		if err := s.ended(); err != nil {
			return fmt.Errorf("%w; the host says %q", err, d.status().message)
		}
		return nil
	})
}

// A node leaves in one way or another. Its connections live until their time is over, in whichever
// worker they are, and those through the other node live on.
func TestHAProxy_DrainOfANode(t *testing.T) {
	for name, between := range map[string]struct{ before, after func(*draining) }{
		"as it is":             {},
		"reloaded before":      {before: (*draining).reload},
		"reloaded after":       {after: func(d *draining) { d.web = nil; d.carryAPI(1) }},
		"by another agent":     {before: (*draining).reload, after: func(d *draining) { d.take(d.newAgent("")) }},
		"by sudo":              {before: (*draining).reload, after: endsBySudo},
		"with two old workers": {before: func(d *draining) { d.reload(); d.connect(1); d.reload() }},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDraining(t)
			ends, lives := d.connect(0), d.connect(1)
			if between.before != nil {
				between.before(d)
			}
			if out := d.carry(d.all, 1); out.Reloaded {
				t.Error("reloaded")
			}
			if between.after != nil {
				between.after(d)
			}
			d.status()
			ends.lives(t)
			d.later()
			d.ends(ends)
			lives.lives(t)
			if left := d.left().Leaving; len(left) > 0 {
				t.Errorf("it is not noted that they ended: %v", left)
			}
		})
	}
}

// carryAPI alone, on some nodes.
func (d *draining) carryAPI(which ...int) Outcome {
	d.Helper()
	cfg := &lb.Config{Services: []*lb.Service{d.api}}
	for _, i := range which {
		cfg.Nodes = append(cfg.Nodes, d.all[i])
	}
	return d.send(cfg)
}

// endsBySudo ends connections as an agent does that is not root.
func endsBySudo(d *draining) {
	root := d.newAgent("")
	d.unit.settings.sudo = true
	d.unit.run = scripted{d.unit.run, func(argv []string) (string, error, bool) {
		if strings.HasSuffix(strings.Join(argv, " "), " host end-drained") && argv[0] == "sudo" && argv[2] != "-l" {
			d.asked++
			return "", root.EndLeftConnections(d.Context()), true
		}
		return "", nil, argv[0] == "sudo"
	}}
}

// The connections of a Service that was deleted have the time that it gave them.
func TestHAProxy_DrainOfAService(t *testing.T) {
	d := newDraining(t)
	ends := d.connect(0)
	d.send(&lb.Config{Nodes: d.all, Services: []*lb.Service{d.web}})
	if _, err := net.Dial("tcp", d.at().String()); err == nil {
		t.Error("it takes new connections")
	}
	d.status()
	ends.lives(t)
	d.later()
	d.ends(ends)
}

// An agent that dies as soon as HAProxy has taken over has noted who left with that.
func TestHAProxy_DrainOfWhatLeftWithTheLastReload(t *testing.T) {
	d := newDraining(t)
	ends := d.connect(0)
	dying := d.newAgent("")
	daemon := dying.units[0].daemon.(*haproxy.Daemon)
	before, err := daemon.Ask(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	daemon.Runner = scripted{daemon.Runner, func(argv []string) (string, error, bool) {
		if !slices.Equal(argv, daemon.Settings.Reload) {
			return "", nil, false
		}
		if out, err := (engine.Machine{}).Run(t.Context(), argv); err != nil {
			return out, err, true
		}
		wait.True(t, "HAProxy has taken over", func() bool {
			now, err := daemon.Ask(t.Context())
			return err == nil && now.PID != before.PID
		})
		panic(crash{"reload"})
	}}
	d.crashes(dying, d.delivery(encoded(d, &lb.Config{Nodes: d.all, Services: []*lb.Service{d.web}})))
	d.take(d.newAgent(""))
	d.status()
	if _, err := net.Dial("tcp", d.at().String()); err == nil {
		t.Error("it takes new connections")
	}
	ends.lives(t)
	d.later()
	d.ends(ends)
}

// A node that comes back is not cut. It leaves anew.
func TestHAProxy_DrainEndsWhenTheNodeIsBack(t *testing.T) {
	d := newDraining(t)
	lives := d.connect(0)
	d.carry(d.all, 1)
	d.carry(d.all, 0, 1)
	d.later()
	d.status()
	lives.lives(t)
	d.carry(d.all, 1)
	d.status()
	lives.lives(t)
	d.later()
	d.ends(lives)
}

// What a change takes away that does not go live stays.
func TestHAProxy_DrainOfWhatWasTakenBack(t *testing.T) {
	d := newDraining(t)
	lives := d.connect(0)
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		t.Fatal(err)
	}
	record := fmt.Sprintf(`{"Boot":%q,"Leaving":{"%s/node0":{"Since":-1,"Drain":1}}}`, strings.TrimSpace(string(boot)), d.section())
	if err := os.WriteFile(filepath.Join(d.unit.dir, "leaving.json"), []byte(record), 0o600); err != nil {
		t.Fatal(err)
	}
	d.status()
	lives.lives(t)
	if left := d.left().Leaving; len(left) > 0 {
		t.Errorf("it leaves still: %v", left)
	}
}

// section of the api in HAProxy's configuration.
func (d *draining) section() string {
	d.Helper()
	live, err := os.ReadFile(d.haproxy().Live())
	if err != nil {
		d.Fatal(err)
	}
	lines := strings.Split(string(live), "\n")
	i := slices.IndexFunc(lines, func(l string) bool { return strings.HasPrefix(l, "listen default.api.") })
	if i < 0 {
		d.Fatal("the api is not carried")
	}
	return strings.TrimPrefix(lines[i], "listen ")
}

// A master without a socket cannot be told, and that is said, also while a delivery is under way.
func TestHAProxy_DrainWithoutAMastersSocket(t *testing.T) {
	d := newDraining(t)
	d.stop()
	d.command = d.command[:slices.Index(d.command, "-S")]
	d.start()
	lives := d.connect(0)
	d.reload()
	d.carry(d.all, 1)
	d.later()
	const advice = "add `-S /run/haproxy-master.sock` to EXTRAOPTS in "
	words := d.status().message
	if !strings.Contains(words, advice) {
		t.Errorf("it says %q", words)
	}
	s, err := openStore(d.unit.dir)
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	unlock, err := s.lock(t.Context(), false)
	if err != nil || unlock == nil {
		t.Fatal("no delivery begins", err)
	}
	if now := d.status().message; now != words {
		t.Errorf("during a delivery it says %q", now)
	}
	unlock()
	lives.lives(t)
}

// What could not be noted is no other process's to end, until it can be. That is said meanwhile.
func TestHAProxy_DrainThatCannotBeNoted(t *testing.T) {
	d := newDraining(t)
	d.api = changed(d.api, func(s *lb.Service) { s.Frontends[0].Settings.Drain = lb.MinDrain })
	ends := d.connect(0)
	d.reload()
	endsBySudo(d)
	inTheWay := filepath.Join(d.unit.dir, "leaving.json")
	_ = os.Remove(inTheWay)                                                                                              // it may be there
	if err := errors.Join(os.Mkdir(inTheWay, 0o700), unix.Mount("tmpfs", inTheWay, "tmpfs", 0, "size=4k")); err != nil { // which nothing moves
		t.Fatal(err)
	}
	free := sync.OnceValue(func() error { return unix.Unmount(inTheWay, unix.MNT_DETACH) })
	t.Cleanup(func() { _ = free() })
	d.carry(d.all, 1)
	wait.For(t, func(context.Context) error {
		if words := d.status().message; !strings.Contains(words, "who left is not noted") {
			return fmt.Errorf("the host says %q", words)
		}
		return nil
	})
	ends.lives(t)
	asked := d.asked
	if words := d.status().message; !strings.Contains(words, "who left is not noted") || d.asked > asked {
		t.Errorf("it says %q, and root was asked %d times, and then %d", words, asked, d.asked)
	}
	if err := errors.Join(free(), os.Remove(inTheWay)); err != nil {
		t.Fatal(err)
	}
	d.status() // now it is noted
	d.take(d.newAgent(""))
	d.ends(ends)
}

// Of old workers, one that hangs keeps its connections, and no other does.
func TestHAProxy_DrainWhileAnOldWorkerHangs(t *testing.T) {
	d := newDraining(t)
	stays := d.connect(0)
	d.reload()
	ends := d.connect(0)
	d.reload()
	d.carry(d.all, 1)
	said, err := d.haproxy().Ask(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	old := d.unit.old(said.PID)
	if len(old) != 2 {
		t.Fatalf("old workers: %+v", old)
	}
	signal := func(s syscall.Signal) {
		t.Helper()
		if err := syscall.Kill(old[0].PID, s); err != nil {
			t.Fatal(err)
		}
	}
	signal(syscall.SIGSTOP)
	goesOn := sync.OnceFunc(func() { signal(syscall.SIGCONT) })
	defer goesOn()
	d.later()
	d.ends(ends)
	if words := d.status().message; !strings.Contains(words, "an old worker does not say which connections it has") {
		t.Errorf("it says %q", words)
	}
	goesOn()
	stays.lives(t)
	d.take(d.newAgent("")) // which does not wait
	d.ends(stays)
}
