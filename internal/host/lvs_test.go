package host

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/external-lb/external-lb/internal/fileset"
)

const virtualConf = `# Made by external-lb for the Service default/web (uid 1). Changes are overwritten.
# allow TCP 192.0.2.1:80 198.51.100.0/24 203.0.113.7/32
virtual_server 192.0.2.1 80 {
    protocol TCP
    lvs_method NAT
    real_server 10.0.0.1 30080 {
        weight 1
    }
    real_server 10.0.0.2 30080 {
        weight 1
    }
}
virtual_server 2001:db8::1 53 {
    protocol UDP
    lvs_method DR
    real_server 2001:db8:1::1 53 {
        weight 1
    }
}
# allow SCTP [2001:db8::1]:53
`

func at(network, address string) fileset.Socket {
	return fileset.Socket{Network: network, Address: netip.MustParseAddrPort(address)}
}

func servers(addresses ...string) (all []netip.AddrPort) {
	for _, a := range addresses {
		all = append(all, netip.MustParseAddrPort(a))
	}
	return all
}

func virtualServersOf(t *testing.T, text string) map[fileset.Socket]virtualServer {
	t.Helper()
	all, err := parseVirtualServers([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	out := map[fileset.Socket]virtualServer{}
	for _, v := range all {
		out[v.Socket] = v
	}
	return out
}

func TestVirtualServersOfAFile(t *testing.T) {
	web, dns, closed := at("tcp", "192.0.2.1:80"), at("udp", "[2001:db8::1]:53"), at("sctp", "[2001:db8::1]:53")
	want := map[fileset.Socket]virtualServer{
		web: {Socket: web, realServers: servers("10.0.0.1:30080", "10.0.0.2:30080"), restricted: true,
			sources: []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24"), netip.MustParsePrefix("203.0.113.7/32")}},
		dns:    {Socket: dns, realServers: servers("[2001:db8:1::1]:53"), direct: true},
		closed: {Socket: closed, restricted: true, sources: []netip.Prefix{}},
	}
	if d := cmp.Diff(want, virtualServersOf(t, virtualConf), cmp.AllowUnexported(virtualServer{}), cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b }),
		cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

// The kernel takes the rules; elements are where they should be.
func TestPacketRules(t *testing.T) {
	for name, servers := range map[string]map[fileset.Socket]virtualServer{"none": nil, "some": virtualServersOf(t, virtualConf)} {
		text, file := packetRules(servers), filepath.Join(t.TempDir(), "rules.nft")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		for range 2 { // it replaces itself
			if out, err := exec.Command("unshare", "-n", "sh", "-ec", `nft -f "$1"; nft -f "$1"; nft list ruleset`, "sh", file).CombinedOutput(); err != nil {
				t.Errorf("%s: %v: %s\n%s", name, err, out, text)
			}
		}
		for _, element := range []string{"{ 192.0.2.1 }", "192.0.2.1 . tcp . 80 . 198.51.100.0/24, 192.0.2.1 . tcp . 80 . 203.0.113.7/32", "2001:db8::1 . sctp . 53",
			"elements = { 192.0.2.1 . tcp . 80 }", "elements = { 2001:db8::1 . udp . 53 }"} {
			if strings.Contains(text, element) != (name == "some") {
				t.Errorf("%s: %q:\n%s", name, element, text)
			}
		}
	}
}

// The kernel takes ranges that hold one another, as Kubernetes does.
func TestPacketRulesOfOverlappingRanges(t *testing.T) {
	for _, text := range []string{
		"10.0.0.0/8 10.1.0.0/16", "10.0.0.0/8 10.0.0.0/16", "0.0.0.0/1 10.0.0.0/8 128.0.0.0/1",
		"10.0.0.0/8 10.255.0.0/16", "10.2.0.0/16 10.2.0.0/17 10.2.128.0/17 10.2.0.0/16", "0.0.0.0/0 192.0.2.1/32",
	} {
		all := virtualServersOf(t, "# allow TCP 192.0.2.1:80 "+text+"\n")
		file := filepath.Join(t.TempDir(), "rules.nft")
		if err := os.WriteFile(file, []byte(packetRules(all)), 0o600); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command("unshare", "-n", "nft", "-f", file).CombinedOutput(); err != nil {
			t.Errorf("%s: %v: %s", text, err, out)
		}
	}
}

// Remarks count wherever they are, and there may be several of one socket.
func TestWhoIsAllowed(t *testing.T) {
	const server = "virtual_server 192.0.2.1 80 {\n    protocol TCP\n    lvs_method NAT\n    real_server 10.0.0.1 80 {\n    }\n}\n"
	const one, other = "# allow TCP 192.0.2.1:80 10.0.0.0/8\n", "# allow TCP 192.0.2.1:80 192.0.2.0/24\n"
	want := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("192.0.2.0/24")}
	for _, text := range []string{one + other + server, server + one + other, one + server + other, "# allow TCP 192.0.2.1:80\n" + one + other + server} {
		v := virtualServersOf(t, text)[at("tcp", "192.0.2.1:80")]
		if !v.restricted || !slices.Equal(v.sources, want) || len(v.realServers) != 1 {
			t.Errorf("%s: %+v", text, v)
		}
	}
}

// lvsCandidate is an Agent for LVS on a store of its own, and files on trial in it.
func lvsCandidate(t *testing.T, files ...fileset.File) (*Agent, *staged) {
	t.Helper()
	s, err := parseSettings([]byte("engine: lvs\nroot: "+t.TempDir()+"\n"), false)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(s.dir(), 0o755); err != nil {
		t.Fatal(err)
	}
	a, err := NewAgent(s)
	if err != nil {
		t.Fatal(err)
	}
	if err := a.initialise(t.Context()); err != nil {
		t.Fatal(err)
	}
	set, err := fileset.New(files...)
	if err != nil {
		t.Fatal(err)
	}
	want, err := plan(index{}, a.daemon.ownFile(), false, Delivery{Base: fileset.Manifest{}.Digest(), Change: fileset.Diff(nil, set), Want: set.Digest()})
	if err != nil {
		t.Fatal(err)
	}
	st, err := openStore(a.dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.close() })
	g, err := st.stage("", want)
	if err == nil {
		err = st.link(candidateLink, g.name)
	}
	if err != nil {
		t.Fatal(err)
	}
	return a, g
}

// keepalived takes as many ranges as a Service may have, and no file that the host has not read.
func TestKeepalivedReadsWhatTheHostHasRead(t *testing.T) {
	const evil = "virtual_server 192.0.2.1 80 {\n    protocol TCP\n    lvs_method NAT\n    lvs_sched rr\n    quorum_down \"/bin/true\" root\n    real_server 10.0.0.1 80 {\n        weight 1\n    }\n}\n"
	private, err := fileset.NewFile("services/b.conf", []byte(evil))
	if err != nil {
		t.Fatal(err)
	}
	private.Private = true
	ranges := ""
	for i := range 1000 {
		ranges += fmt.Sprintf("# allow TCP 192.0.2.1:80 203.%d.%d.0/24\n", i/250, i%250)
	}
	good := fragment(t, "good", ranges+strings.Replace(evil, "    quorum_down \"/bin/true\" root\n", "", 1), netip.MustParseAddrPort("192.0.2.1:80"))
	for name, c := range map[string]struct {
		files []fileset.File
		words string // the beginning; "": taken
	}{
		"a thousand ranges": {[]fileset.File{good}, ""},
		"a private file":    {[]fileset.File{good, private}, "(services/b.conf: Line 1) this host does not give private files to keepalived"},
	} {
		a, g := lvsCandidate(t, c.files...)
		words, err := a.daemon.check(t.Context(), g)
		if err != nil || (words == "") != (c.words == "") || !strings.HasPrefix(words, c.words) {
			t.Errorf("%s: %q, %v", name, words, err)
		}
	}
}

// A generation that is rolled back leaves its name to the next, and nothing else.
func TestVirtualServersAreOfTheGenerationThatIsThere(t *testing.T) {
	k := newKeepalived(Settings{Engine: EngineLVS, Root: t.TempDir()}, nil)
	gen := filepath.Join(k.dir, genDir, "8", filesDir)
	if err := os.MkdirAll(filepath.Join(gen, servicesPrefix), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(genDir, "8", filesDir), filepath.Join(k.dir, liveLink)); err != nil {
		t.Fatal(err)
	}
	for i, source := range []string{"10.0.0.0/8", "192.168.0.0/16"} {
		own := "# digest: " + strings.Repeat(fmt.Sprint(i), 64) + "\n"
		for path, text := range map[string]string{k.ownFile(): own, "services/a.conf": "# allow TCP 192.0.2.1:80 " + source + "\n"} {
			if err := os.WriteFile(filepath.Join(gen, path), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		all, err := k.virtualServers(liveLink)
		if v := all[at("tcp", "192.0.2.1:80")]; err != nil || len(v.sources) != 1 || v.sources[0].String() != source {
			t.Errorf("%v, %v; want %s", all, err, source)
		}
	}
}

func TestHostileLinesForIPVS(t *testing.T) {
	k := &keepalived{lvs: true}
	if words := k.allowed(source{"services/a.conf", []byte(virtualConf)}); words != "" {
		t.Errorf("the host refuses what is rendered: %s", words)
	}
	for _, line := range []string{
		"    MISC_CHECK {", "        misc_path /bin/sh", "    quorum_up /bin/sh", "include /etc/passwd", "global_defs {", "vrrp_script x {",
		"    notify_down /bin/sh", "        path /a b", "virtual_server fwmark 1 {", "# allow TCP nowhere:80", "# allow TCP 192.0.2.1:80 all", "    protocol TCP\r",
		"# allow TCP 192.0.2.1:80 2001:db8::/32", "# allow TCP 192.0.2.1:80 10.0.0.1/8", "    sorry_server 127.0.0.1 22",
	} {
		if words := k.allowed(source{"services/a.conf", []byte(line + "\n")}); !strings.HasPrefix(words, "(services/a.conf: Line 1) ") {
			t.Errorf("%q: %q", line, words)
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
	want := virtualServersOf(t, virtualConf)
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
	want := virtualServersOf(t, strings.ReplaceAll(virtualConf, "weight 1\n", "weight 1\n        HTTP_GET {\n            connect_port 10256\n        }\n"))
	table := func(webClosed, dnsClosed int) map[fileset.Socket]kernelServer {
		return map[fileset.Socket]kernelServer{web: {want[web].realServers, webClosed}, dns: {want[dns].realServers, dnsClosed}}
	}
	if words := allClosed(want, table(2, 1)); !strings.HasPrefix(words, "every node fails its health check on port 10256, so nothing answers: ") {
		t.Errorf("all fail: %q", words)
	}
	for name, words := range map[string]string{
		"a node serves":         allClosed(want, table(1, 1)),
		"a Service is served":   allClosed(want, table(2, 0)),
		"nothing is checked":    allClosed(virtualServersOf(t, virtualConf), table(2, 1)),
		"there are no Services": allClosed(nil, nil),
	} {
		if words != "" {
			t.Errorf("%s: %q", name, words)
		}
	}
}

func TestBlameOfKeepalivedsWords(t *testing.T) {
	k := &keepalived{lvs: true}
	s := suspects{dir: "/store", index: index{"services/a.conf": {Fragment: true}, "services/b.conf": {Fragment: true}, "main.conf": {}}}
	got := k.blame(s, "(services/a.conf: Line 3) Unknown keyword 'x'\n(/store/live/services/b.conf: Line 1) wrong\n(main.conf: Line 1) not blamed\n")
	if d := cmp.Diff(map[string]string{"services/a.conf": "Unknown keyword 'x'", "services/b.conf": "wrong"}, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}
