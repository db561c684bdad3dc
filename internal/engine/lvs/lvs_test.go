package lvs

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/external-lb/external-lb/internal/engine"
	"github.com/external-lb/external-lb/internal/fileset"
	"github.com/external-lb/external-lb/internal/lb"
)

// view is what a file prints, as it is kept: hosts read what earlier versions have kept.
const view = `{"ID": {"Namespace": "default", "Name": "web", "UID": "1"}, "Frontends": [
	{"Listener": "192.0.2.1:80", "Protocol": "TCP", "Method": "NAT", "Scheduler": "wrr", "Interval": "2",
		"Restricted": true, "Sources": ["198.51.100.0/24", "203.0.113.7/32"],
		"Backends": [{"Node": "n1", "Address": "10.0.0.1:30080", "Weight": 1}, {"Address": "10.0.0.2:30080", "Weight": 1}, {"Address": "10.0.0.2:30080", "Weight": 1}],
		"Check": {"Kind": "HTTP_GET", "Port": 10256, "Timeout": 1}},
	{"Listener": "[2001:db8::1]:53", "Protocol": "UDP", "Method": "DR", "Backends": [{"Address": "[2001:db8:1::1]:53", "Weight": 1}]},
	{"Listener": "[2001:db8::1]:53", "Protocol": "SCTP", "Method": "NAT", "Restricted": true}
]}`

// setOf views, by path.
func setOf(views map[string]string) engine.Set {
	return engine.Set{
		Digest: fileset.Digest(fmt.Sprint(views)), Paths: slices.Sorted(maps.Keys(views)),
		Read: func(path string) ([]byte, error) { return []byte(views[path]), nil },
	}
}

func at(network, address string) fileset.Socket {
	return fileset.Socket{Network: network, Address: netip.MustParseAddrPort(address)}
}

func servers(addresses ...string) (all []netip.AddrPort) {
	for _, a := range addresses {
		all = append(all, netip.MustParseAddrPort(a))
	}
	return all
}

// some virtual servers.
func some(t *testing.T) map[fileset.Socket]virtualServer {
	t.Helper()
	all, err := virtualServersOf(setOf(map[string]string{"services/a.conf": view, "keepalived/main.conf": `{"Interface": "eth0"}`}))
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestVirtualServersOfASet(t *testing.T) {
	web, dns, closed := at("tcp", "192.0.2.1:80"), at("udp", "[2001:db8::1]:53"), at("sctp", "[2001:db8::1]:53")
	id := lb.ID{Namespace: "default", Name: "web", UID: "1"}
	want := map[fileset.Socket]virtualServer{
		web: {Socket: web, service: id, realServers: servers("10.0.0.1:30080", "10.0.0.2:30080"), checkPort: 10256, restricted: true,
			judged:  map[netip.AddrPort]string{netip.MustParseAddrPort("10.0.0.1:30080"): "n1"}, // a version before did not note the name
			sources: []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24"), netip.MustParsePrefix("203.0.113.7/32")}},
		dns:    {Socket: dns, service: id, realServers: servers("[2001:db8:1::1]:53"), direct: true},
		closed: {Socket: closed, service: id, restricted: true},
	}
	if d := cmp.Diff(want, some(t), cmp.AllowUnexported(virtualServer{}), cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b }),
		cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

// What is printed of a Service is what the daemon knows of it.
func TestWhatIsPrintedIsKnown(t *testing.T) {
	settings := lb.Settings{
		Algorithm: lb.RoundRobin, Mode: lb.ModeTCP, SendProxy: lb.ProxyNone, ConnectTimeout: time.Second, IdleTimeout: time.Minute,
		HealthCheck: lb.HealthCheck{Type: lb.CheckAuto, Interval: time.Second, Timeout: time.Second, Rise: 1, Fall: 1},
	}
	ranges := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("192.0.2.0/24")}
	front := func(port uint16, change func(*engine.Frontend)) engine.Frontend {
		f := engine.Frontend{
			Listener: lb.Listener{Address: netip.MustParseAddr("192.0.2.1"), Port: port, Protocol: lb.TCP}, Allow: lb.Clients{Everybody: true}, Settings: settings,
			Backends: []engine.Backend{{Node: "b", Address: netip.MustParseAddrPort("10.0.0.2:30080")}, {Node: "a", Address: netip.MustParseAddrPort("10.0.0.1:30080")}},
		}
		change(&f)
		return f
	}
	printed, err := viewOf(&engine.Service{ID: lb.ID{Namespace: "default", Name: "web", UID: "1"}, Frontends: []engine.Frontend{
		front(80, func(f *engine.Frontend) { f.Allow = lb.Clients{Sources: ranges} }),
		front(81, func(f *engine.Frontend) { f.Allow = lb.Clients{} }),
		front(82, func(f *engine.Frontend) { f.Backends = nil }), // nobody is to wait for an answer
		front(83, func(f *engine.Frontend) { f.Settings.HealthCheck.Type = lb.CheckNone }),
	}})
	if err != nil {
		t.Fatal(err)
	}
	data, err := json.Marshal(printed.Data)
	if err != nil {
		t.Fatal(err)
	}
	all, err := virtualServersOf(setOf(map[string]string{"services/a.conf": string(data)}))
	if err != nil {
		t.Fatal(err)
	}
	both := servers("10.0.0.1:30080", "10.0.0.2:30080")
	for port, want := range map[uint16]virtualServer{
		80: {realServers: both, checkPort: engine.KubeProxyPort, restricted: true, sources: ranges},
		81: {realServers: both, checkPort: engine.KubeProxyPort, restricted: true},
		82: {checkPort: engine.KubeProxyPort, restricted: true},
		83: {realServers: both},
	} {
		got := all[at("tcp", fmt.Sprint("192.0.2.1:", port))]
		if !slices.Equal(got.realServers, want.realServers) || got.checkPort != want.checkPort || got.restricted != want.restricted || !slices.Equal(got.sources, want.sources) {
			t.Errorf("%d: %+v, want %+v", port, got, want)
		}
	}
}

// The kernel takes the rules; elements are where they should be.
func TestPacketRules(t *testing.T) {
	for name, servers := range map[string]map[fileset.Socket]virtualServer{"none": nil, "some": some(t)} {
		text, file := packetRules(servers, nil), filepath.Join(t.TempDir(), "rules.nft")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		for range 2 { // it replaces itself
			if out, err := exec.Command("unshare", "-n", "sh", "-ec", `nft -f "$1"; nft -f "$1"; nft list ruleset`, "sh", file).CombinedOutput(); err != nil {
				t.Errorf("%s: %v: %s\n%s", name, err, out, text)
			}
		}
		for _, element := range []string{"{ 192.0.2.1 }", "192.0.2.1 . 80 . 198.51.100.0/24, 192.0.2.1 . 80 . 203.0.113.7/32", "2001:db8::1 . sctp . 53",
			"elements = { 192.0.2.1 . tcp . 80 }", "elements = { 2001:db8::1 . udp . 53 }"} {
			if strings.Contains(text, element) != (name == "some") {
				t.Errorf("%s: %q:\n%s", name, element, text)
			}
		}
	}
}

// leaves is view, of which two nodes leave.
func leaves() string {
	out := view
	for _, to := range []string{`"10.0.0.1:30080", "Weight": 1`, `"[2001:db8:1::1]:53", "Weight": 1`} {
		out = strings.Replace(out, to, strings.TrimSuffix(to, "1")+"0", 1)
	}
	return strings.Replace(out, `"Interval": "2"`, `"Interval": "2", "Drain": 30`, 1)
}

// leftLongAgo notes that one of these did.
func (k *Daemon) leftLongAgo(t *testing.T) {
	t.Helper()
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		t.Fatal(err)
	}
	const one = `{"default.web.1.192-0-2-1.80.tcp/10.0.0.1:30080": {"Since": -30000000000, "Drain": 30000000000}}`
	record := fmt.Sprintf(`{"Boot": %q, "Leaving": %s}`, strings.TrimSpace(string(boot)), one)
	if err := os.WriteFile(filepath.Join(k.Dir, leavingFile), []byte(record), 0o600); err != nil {
		t.Fatal(err)
	}
}

// Connections end to nodes that leave, and whose time is over.
func TestPacketRulesEndWhatIsLate(t *testing.T) {
	all, err := virtualServersOf(setOf(map[string]string{"services/a.conf": leaves()}))
	if err != nil {
		t.Fatal(err)
	}
	k := open(engine.Place{Dir: t.TempDir(), Settings: &Settings{}}).(*Daemon)
	if late := k.late(all); len(late) > 0 || k.Late() {
		t.Errorf("%q is late", late)
	}
	k.leftLongAgo(t)
	if !k.Late() {
		t.Error("nothing is to be done")
	}
	late := k.late(all)
	text, file := packetRules(all, late), filepath.Join(t.TempDir(), "rules.nft")
	if want := "set ended4 {\n        type ipv4_addr . inet_service . ipv4_addr . inet_service\n        elements = { 192.0.2.1 . 80 . 10.0.0.1 . 30080 }\n"; !strings.Contains(text, want) {
		t.Errorf("%q: no %q in\n%s", late, want, text)
	}
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("unshare", "-n", "nft", "-f", file).CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
	if late := k.late(some(t)); len(late) > 0 {
		t.Errorf("%q is late, and has come back", late)
	}
}

// While the packet filter refuses its rules, it is told them after a pause only; each time says why.
func TestEndingWaitsAfterAFailure(t *testing.T) {
	told, refuses := 0, true
	k := open(engine.Place{
		Dir: t.TempDir(), Settings: &Settings{Rules: []string{"nft"}},
		Set: func(string) (engine.Set, error) { return setOf(map[string]string{"services/a.conf": leaves()}), nil },
		Runner: runner(func([]string) (string, error) {
			if told++; refuses {
				return "netlink: Error: no luck", exec.Command("false").Run()
			}
			return "", nil
		}),
	}).(*Daemon)
	k.leftLongAgo(t)
	for range 3 { // as an agent does every second
		if !k.Late() {
			continue
		}
		if err := k.Repair(t.Context()); err == nil || !strings.Contains(err.Error(), "the packet filter refuses its rules: netlink: Error: no luck") {
			t.Errorf("it says %v", err)
		}
	}
	if told != 1 {
		t.Errorf("it was told %d times", told)
	}
	refuses = false
	if err := k.Repair(t.Context()); err != nil { // as an agent does every half minute
		t.Error(err)
	}
	if k.Late() {
		t.Error("it is done, and still to be done")
	}
}

// Who leaves and cannot be noted is told, though the rules are loaded.
func TestWhoCannotBeNotedIsTold(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "lvs")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	k := open(engine.Place{
		Dir: dir, Settings: &Settings{Rules: []string{"nft"}},
		Set:    func(string) (engine.Set, error) { return setOf(map[string]string{"services/a.conf": leaves()}), nil },
		Runner: runner(func([]string) (string, error) { return "", os.RemoveAll(dir) }),
	}).(*Daemon)
	if err := k.Repair(t.Context()); err == nil || !strings.Contains(err.Error(), "who left is not noted") {
		t.Errorf("it says %v", err)
	}
}

type runner func(argv []string) (string, error)

func (r runner) Run(_ context.Context, argv []string) (string, error) { return r(argv) }

// The kernel takes ranges that hold one another, as Kubernetes does.
func TestPacketRulesOfOverlappingRanges(t *testing.T) {
	for _, text := range []string{
		"10.0.0.0/8 10.1.0.0/16", "10.0.0.0/8 10.0.0.0/16", "0.0.0.0/1 10.0.0.0/8 128.0.0.0/1",
		"10.0.0.0/8 10.255.0.0/16", "10.2.0.0/16 10.2.0.0/17 10.2.128.0/17 10.2.0.0/16", "0.0.0.0/0 192.0.2.1/32",
	} {
		web := at("tcp", "192.0.2.1:80")
		all := map[fileset.Socket]virtualServer{web: {Socket: web, restricted: true}}
		for word := range strings.FieldsSeq(text) {
			v := all[web]
			v.sources = append(v.sources, netip.MustParsePrefix(word))
			all[web] = v
		}
		file := filepath.Join(t.TempDir(), "rules.nft")
		if err := os.WriteFile(file, []byte(packetRules(all, nil)), 0o600); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command("unshare", "-n", "nft", "-f", file).CombinedOutput(); err != nil {
			t.Errorf("%s: %v: %s", text, err, out)
		}
	}
}

// What is live is read once, and again when something else is.
func TestVirtualServersAreOfTheSetThatIsThere(t *testing.T) {
	var live engine.Set
	k := open(engine.Place{Settings: &Settings{}, Set: func(string) (engine.Set, error) { return live, nil }}).(*Daemon)
	for _, source := range []string{"10.0.0.0/8", "192.168.0.0/16"} {
		reads := 0
		live = setOf(map[string]string{"services/a.conf": fmt.Sprintf(`{"Frontends": [{"Listener": "192.0.2.1:80", "Protocol": "TCP", "Restricted": true, "Sources": [%q]}]}`, source)})
		read := live.Read
		live.Read = func(path string) ([]byte, error) {
			if reads++; k.mu.TryLock() {
				k.mu.Unlock()
			} else {
				t.Error("others wait while it is read")
			}
			return read(path)
		}
		for range 2 {
			all, err := k.virtualServers(engine.LiveLink)
			if v := all[at("tcp", "192.0.2.1:80")]; err != nil || len(v.sources) != 1 || v.sources[0].String() != source {
				t.Errorf("%v, %v; want %s", all, err, source)
			}
		}
		if reads != 1 {
			t.Errorf("read %d times", reads)
		}
	}
}

func TestWhatTheKernelCarries(t *testing.T) {
	got := parseIPVS(`IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port Forward Weight ActiveConn InActConn
TCP  CB007105:0050 wrr  
  -> C6120102:7580      Masq    1      0          0         
  -> C6120101:7580      Masq    0      0          0         
UDP  [2001:0db8:0000:0001:0000:0000:0000:0000]:0035 wrr persistent 360 FFFFFFFF
  -> [2001:0db8:0000:0002:0000:0000:0000:0001]:0035      Route   1      0          0         
FWM  00000001 rr
  -> C6120103:7580      Masq    1      0          0         
SCTP CB007106:0050 mh  
`)
	want := map[fileset.Socket]kernelServer{
		at("tcp", "203.0.113.5:80"):      {servers("198.18.1.1:30080", "198.18.1.2:30080"), 1},
		at("udp", "[2001:db8:0:1::]:53"): {servers("[2001:db8:0:2::1]:53"), 0},
		at("sctp", "203.0.113.6:80"):     {},
	}
	if d := cmp.Diff(want, got, cmp.AllowUnexported(kernelServer{}), cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

// The proof is the kernel's table: what it lacks, has beside, or still has.
func TestKernelsTableIsCompared(t *testing.T) {
	web, dns := at("tcp", "192.0.2.1:80"), at("udp", "[2001:db8::1]:53")
	want := some(t)
	table := func(change func(map[fileset.Socket]kernelServer)) map[fileset.Socket]kernelServer {
		all := map[fileset.Socket]kernelServer{web: {realServers: servers("10.0.0.1:30080", "10.0.0.2:30080")}, dns: {realServers: servers("[2001:db8:1::1]:53")}}
		change(all)
		return all
	}
	gone := at("tcp", "192.0.2.9:80")
	before := map[fileset.Socket]virtualServer{web: want[web], gone: {Socket: gone, realServers: servers("10.0.0.1:30099")}}
	for name, c := range map[string]struct {
		change func(map[fileset.Socket]kernelServer)
		says   string // part of it; "": nothing
	}{
		"as it should be": {func(map[fileset.Socket]kernelServer) {}, ""},
		"somebody else's": {func(all map[fileset.Socket]kernelServer) {
			all[at("tcp", "192.0.2.77:1")] = kernelServer{realServers: servers("10.9.9.9:1")}
		}, ""},
		"one is missing": {func(all map[fileset.Socket]kernelServer) { delete(all, dns) }, "lacks 1 of 3 virtual servers, such as udp [2001:db8::1]:53"},
		"an old nodePort": {func(all map[fileset.Socket]kernelServer) {
			all[web] = kernelServer{realServers: servers("10.0.0.1:30070", "10.0.0.2:30070")}
		}, "other real servers for 1 virtual servers, such as tcp 192.0.2.1:80"},
		"one node less": {func(all map[fileset.Socket]kernelServer) {
			all[web] = kernelServer{realServers: servers("10.0.0.1:30080")}
		}, "other real servers"},
		"UDP without a node that fails": {func(all map[fileset.Socket]kernelServer) { all[dns] = kernelServer{} }, ""},
		"UDP to somebody else": {func(all map[fileset.Socket]kernelServer) {
			all[dns] = kernelServer{realServers: servers("[2001:db8:1::2]:53")}
		}, "other real servers"},
		"withdrawn, and there": {func(all map[fileset.Socket]kernelServer) {
			all[gone] = kernelServer{realServers: servers("10.0.0.1:30099")}
		}, "such as tcp 192.0.2.9:80"},
	} {
		got := compareIPVS(want, before, table(c.change))
		if (got == "") != (c.says == "") || !strings.Contains(got, c.says) {
			t.Errorf("%s: %q, want %q", name, got, c.says)
		}
	}
}

// A host on which every node fails its check says so; one node that does not is enough.
func TestEveryNodeFailsItsCheck(t *testing.T) {
	web, dns := at("tcp", "192.0.2.1:80"), at("udp", "[2001:db8::1]:53")
	want := some(t)
	unchecked := map[fileset.Socket]virtualServer{web: {realServers: want[web].realServers}}
	table := func(webClosed, dnsClosed int) map[fileset.Socket]kernelServer {
		return map[fileset.Socket]kernelServer{web: {want[web].realServers, webClosed}, dns: {want[dns].realServers, dnsClosed}}
	}
	if words := allClosed(want, table(2, 1)); !strings.HasPrefix(words, "every node fails its health check on port 10256, so nothing answers: ") {
		t.Errorf("all fail: %q", words)
	}
	for name, words := range map[string]string{
		"a node serves":         allClosed(want, table(1, 1)),
		"a Service is served":   allClosed(want, table(2, 0)),
		"nothing is checked":    allClosed(unchecked, table(2, 1)),
		"there are no Services": allClosed(nil, nil),
	} {
		if words != "" {
			t.Errorf("%s: %q", name, words)
		}
	}
}
