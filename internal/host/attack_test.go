package host_test

import (
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"net"
	"net/netip"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/external-lb/external-lb/internal/fileset"
	"github.com/external-lb/external-lb/internal/host"
	"github.com/external-lb/external-lb/internal/lb"
	"github.com/external-lb/external-lb/internal/wire"
)

// What somebody with the key of a host can send it is tried on real daemons: whatever
// it is, they read, write and run nothing that they would not for a plain model, and
// their files have no line that our templates cannot have made.

const (
	deliveries = 10 // hostile ones, to each machine
	plainOnes  = 6  // before, to see what daemons do anyway
)

// attacker has the key: a stream to the agent of a machine.
type attacker struct {
	*testing.T
	victim   *host.Victim
	socket   string // of the agent
	client   *wire.Client
	random   *rand.Rand
	seq      uint64
	wanted   lb.Manifest
	services []*lb.Service           // see pool
	sent     map[lb.Sum][]byte       // so far
	tried    map[lb.Key]string       // with this delivery
	usual    map[fileset.Socket]bool // without anything that is carried
	own      map[netip.Addr]bool     // the machine's addresses
	ownLines map[string]bool         // of the host's own file, see ownFile
	learns   bool                    // while nothing hostile is sent
}

func attack(t *testing.T, engine string) *attacker {
	t.Helper()
	a := &attacker{T: t, victim: host.Victims[engine](t), random: rand.New(rand.NewPCG(1, 2)), wanted: lb.Manifest{}, sent: map[lb.Sum][]byte{}, tried: map[lb.Key]string{},
		ownLines: map[string]bool{}, learns: true}
	a.socket = filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", a.socket)
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
	a.client = a.connect(func(c net.Conn) net.Conn { return c })
	a.usual, a.own = host.Listening(), ownAddresses(t)
	return a
}

// connect makes another stream to the agent, which somebody may listen in on.
func (a *attacker) connect(through func(net.Conn) net.Conn) *wire.Client {
	a.Helper()
	conn, err := net.Dial("unix", a.socket)
	if err != nil {
		a.Fatal(err)
	}
	client, err := wire.NewClient(a.Context(), through(conn))
	if err != nil {
		a.Fatal(err)
	}
	a.Cleanup(func() { client.Close() })
	return client
}

func ownAddresses(t *testing.T) map[netip.Addr]bool {
	t.Helper()
	all, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	own := map[netip.Addr]bool{}
	for _, a := range all {
		own[netip.MustParsePrefix(a.String()).Addr().Unmap()] = true
	}
	return own
}

// delivery of Items, whatever they are.
func (a *attacker) delivery(items []lb.Item) host.Delivery {
	a.seq++
	for _, it := range items {
		a.sent[it.Sum] = it.Data
	}
	want := lb.NewSet(items...)
	return host.Delivery{
		Epoch: host.Epoch{Term: 1, Seq: a.seq}, Base: a.wanted.Digest(), Change: lb.Diff(a.wanted, want), Want: want.Digest(),
	}
}

// send Items, whatever they are. The result is what the agent says, and how many
// Services it carries.
func (a *attacker) send(items []lb.Item) (refused []lb.Refusal, services int, err error) {
	a.Helper()
	if a.victim.Engine().Name == "lvs" {
		return a.render(items)
	}
	out, err := a.client.Apply(a.Context(), a.delivery(items))
	if err != nil {
		return nil, 0, err
	}
	a.wanted = out.Wanted
	a.carried(out.Live)
	return out.Refused, a.intact(), nil
}

// render shows what would be given to daemons. A machine without one shows it only.
func (a *attacker) render(items []lb.Item) (refused []lb.Refusal, services int, err error) {
	a.Helper()
	out, err := a.client.Render(a.Context(), a.delivery(items))
	if err != nil {
		return nil, 0, err
	}
	t := a.newTraffic()
	for _, f := range out.Files {
		_, path, _ := strings.Cut(f.Path, "/") // the unit's folder
		if strings.HasPrefix(path, "services/") {
			services++
		}
		switch {
		case !strings.HasSuffix(path, ".pem"):
			a.file(t, path, f.Data)
		case f.Data != nil:
			a.Errorf("%s: a key is shown", path)
		}
	}
	if err := t.wrong(); err != nil {
		a.Errorf("rendered: %v", err)
	}
	carried := lb.NewSet(items...).Manifest()
	for _, r := range out.Refused {
		if r.OfItem() {
			carried = carried.Without(r.Key)
		}
	}
	a.carried(carried)
	return out.Refused, services, nil
}

// control sends an item for each field, as it is, and wants it to be carried: otherwise
// what is done to the field is not tried.
func (a *attacker) control(all []change) {
	a.Helper()
	clear(a.tried)
	items, fields := a.base(), map[lb.Key]change{}
	for _, c := range all {
		if !c.harmless {
			continue
		}
		n := len(fields)
		it := a.subject(c, n)
		items, fields[it.Key] = append(items, it), c
		if c.kind == "certificate" {
			_, name, _ := strings.Cut(string(it.Key), "/")
			items = append(items, a.shows(name, n))
		}
	}
	refused, _, err := a.send(items)
	if err != nil {
		a.Fatal(err)
	}
	for _, r := range refused {
		if c, ok := fields[r.Key]; ok && (c.kind != "address" || len(a.victim.Units()) > 1) {
			a.Errorf("%s is not tried, since its item is refused anyway: %s %s", c.field.FullName(), r.Listener, r.Message)
		}
	}
}

func TestNginx_NothingThatIsSentLeadsOutOfWhatIsOwned(t *testing.T)   { nothingLeadsOut(t, "nginx") }
func TestHAProxy_NothingThatIsSentLeadsOutOfWhatIsOwned(t *testing.T) { nothingLeadsOut(t, "haproxy") }
func TestKeepalived_NothingThatIsSentLeadsOutOfWhatIsOwned(t *testing.T) {
	nothingLeadsOut(t, "keepalived")
}
func TestLVS_NothingThatIsSentLeadsOutOfWhatIsOwned(t *testing.T) { nothingLeadsOut(t, "lvs") }

func nothingLeadsOut(t *testing.T, engine string) {
	a := attack(t, engine)
	a.victim.BeforeChecks(func() { a.intact() })
	w := newWatch(t)
	owned := append(slices.Clone(a.victim.Owned), filepath.Dir(t.TempDir()))
	for seed := range plainOnes {
		if _, _, err := a.send(a.plain(seed)); err != nil {
			t.Fatalf("plain %d: %v", seed, err)
		}
	}
	all := slices.DeleteFunc(changes(), change.alone)
	a.control(all)
	a.learns = false
	usual := w.take(owned...)
	before := tree(t, "/etc", "/usr/local")
	a.random.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	refused, services, n, each := 0, 0, 0, (len(all)+deliveries-1)/deliveries
	for some := range slices.Chunk(all, each) {
		n++
		left, live, err := a.send(a.hostileModel(n, some))
		if err != nil {
			t.Errorf("delivery %d: %v", n, err)
		}
		refused, services = refused+len(left), services+live
		for did := range w.take(owned...) {
			if !usual[did] {
				t.Errorf("delivery %d: a daemon %s %s", n, did.how, did.path)
			}
		}
	}
	a.loners()
	if after := tree(t, "/etc", "/usr/local"); !maps.Equal(before, after) {
		t.Error("files of the machine have changed")
	}
	t.Logf("%d changes in %d deliveries: %d refusals, and %d Services carried; daemons use %d files besides their own", len(all), n, refused, services, len(usual))
	if services < 2*n || refused < n {
		t.Errorf("too little got so far")
	}
	if _, _, err := a.send(a.plain(1)); err != nil {
		t.Errorf("a plain model is not taken any more: %v", err)
	}
}

// hostileModel has an item for each of some changes, and some of any bytes.
func (a *attacker) hostileModel(n int, some []change) []lb.Item {
	a.Helper()
	clear(a.tried)
	items := a.base()
	for i, c := range some {
		items = append(items, a.hostile(c, n*len(some)+i)...)
	}
	for i := range 3 {
		items = append(items, a.scrambled(100_000+n*3+i))
	}
	return items
}

// loners tries each change of what a model has one of, a virtual router and the API
// servers. Daemons are given some of what is taken, but for what takes them long.
func (a *attacker) loners() {
	a.Helper()
	moves := len(a.victim.Units()) > 1
	for i, c := range changes() {
		if !c.alone() || !moves && a.victim.Engine().Name != "lvs" && i%10 > 0 {
			continue
		}
		clear(a.tried)
		items := append(a.base(), a.hostile(c, i)...)
		refused, _, err := a.render(items)
		if err != nil {
			a.Errorf("%s: %v", c, err)
			continue
		}
		key := lb.VRRPKey
		if c.ofServers() {
			key = lb.ServiceKey(lb.ControlPlane)
		}
		is := slices.ContainsFunc(refused, func(r lb.Refusal) bool { return r.Key == key })
		if c.harmless && c.ofServers() && is {
			a.Errorf("%s is not tried, since the API servers are refused anyway: %v", c, refused)
		}
		if is || !moves && !c.ofServers() || c.field.Name() == "interval" || c.harmless || i%4 > 0 {
			continue
		}
		if _, _, err := a.send(items); err != nil && !errors.As(err, new(*host.Error)) { // there may be no such interface
			a.Errorf("%s: %v", c, err)
		}
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
			if _, _, err := a.send(nil); err != nil {
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
			refused, _, err := a.send(items)
			if err != nil || len(refused) != len(items) {
				t.Errorf("%d of %d items are refused: %v, %v", len(refused), len(items), refused, err)
			}
			for _, key := range []lb.Key{"../main.conf", "/etc/nginx/nginx.conf", "node/../../etc/passwd", "node//x", "node/", "", ".", "node/A", "node/x y", "node/x\n", "node/\x00", "node/ä"} {
				for what, change := range map[string]lb.Change{"puts": {Put: []lb.Item{lb.NewItem(key, []byte(payloads[engine]))}}, "deletes": {Delete: []lb.Key{key}}} {
					d := a.delivery(items)
					if d.Change = change; what == "puts" {
						d.Want = lb.NewSet(append(items, change.Put...)...).Digest()
					}
					if _, err := a.client.Apply(t.Context(), d); err == nil || errors.As(err, new(*host.Error)) {
						t.Errorf("a delivery that %s the key %q gets to the machine: %v", what, key, err)
					}
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
