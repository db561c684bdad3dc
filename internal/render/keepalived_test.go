package render_test

import (
	"errors"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/external-lb/external-lb/internal/engine"
	"github.com/external-lb/external-lb/internal/engine/engines"
	"github.com/external-lb/external-lb/internal/engine/keepalived"
	"github.com/external-lb/external-lb/internal/fileset"
	"github.com/external-lb/external-lb/internal/lb"
)

func vrrp(priority uint8) *lb.VRRP {
	return &lb.VRRP{Interface: "eth0", RouterID: 51, Interval: 100 * time.Millisecond, Priority: priority}
}

// forHosts are keepalived's files of two hosts, which differ in their priority.
func forHosts(t *testing.T, addresses ...string) map[string]*fileset.Set {
	t.Helper()
	var all []netip.Addr
	for _, a := range addresses {
		all = append(all, netip.MustParseAddr(a))
	}
	sets := map[string]*fileset.Set{}
	for host, priority := range map[string]uint8{"lb1": 250, "lb2": 240} {
		router, each, err := engines.Table.VRRP.Files(vrrp(priority), all)
		if err != nil {
			t.Fatal(err)
		}
		var files []fileset.File
		for _, f := range append(each, router) {
			files = append(files, f.File)
		}
		if sets[host], err = fileset.New(files...); err != nil {
			t.Fatal(err)
		}
	}
	return sets
}

func TestGoldenKeepalived(t *testing.T) {
	for name, addresses := range map[string][]string{
		"empty": {}, "two-families": {"192.0.2.1", "192.0.2.20", "2001:db8::1"},
	} {
		t.Run(name, func(t *testing.T) {
			for host, set := range forHosts(t, addresses...) {
				dir := filepath.Join("testdata", filepath.FromSlash(t.Name()), host)
				if *update {
					if err := os.RemoveAll(dir); err != nil {
						t.Fatal(err)
					}
					for f := range set.All() {
						writeFile(t, filepath.Join(dir, filepath.FromSlash(f.Path)), f.Data)
					}
				}
				if d := cmp.Diff(readTree(t, dir), contents(set)); d != "" {
					t.Errorf("not as in %s (-want +got):\n%s", dir, d)
				}
				if words := testKeepalived(t, set); words != "" {
					t.Errorf("keepalived: %s", words)
				}
			}
		})
	}
}

// testKeepalived has keepalived test files, with the script that the host's end
// defines. keepalived 2.2 ends itself with a signal after that, so its words count.
func testKeepalived(t *testing.T, set *fileset.Set) string {
	t.Helper()
	dir := t.TempDir()
	for f := range set.All() {
		writeFile(t, filepath.Join(dir, filepath.FromSlash(f.Path)), f.Data)
	}
	conf := filepath.Join(dir, "keepalived.conf")
	writeFile(t, conf, []byte("vrrp_script external-lb {\n    script /bin/true\n    user root\n}\ninclude keepalived/main.conf\n"))
	out, err := exec.Command("unshare", "--user", "--map-root-user", "--net", "sh", "-ec",
		"ip link add eth0 type veth peer name peer0; exec keepalived -t -f "+conf).CombinedOutput()
	if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.Exited() && exit.ExitCode() == 127 {
		t.Fatalf("keepalived does not run: %v\n%s", err, out)
	}
	words := ""
	for line := range strings.Lines(string(out)) {
		if strings.Contains(line, "Line ") {
			words += line
		}
	}
	return words
}

// What the test would not find it could not prove.
func TestKeepalivedRefusesABadFile(t *testing.T) {
	data, err := os.ReadFile(filepath.Join("testdata", "bad.keepalived"))
	if err != nil {
		t.Fatal(err)
	}
	f, err := fileset.NewFile(keepalived.Prefix+engine.MainPath, data)
	if err != nil {
		t.Fatal(err)
	}
	set, err := fileset.New(f)
	if err != nil {
		t.Fatal(err)
	}
	if words := testKeepalived(t, set); !strings.Contains(words, "lissen") {
		t.Errorf("keepalived says %q of a bad file", words)
	}
}

// All hosts have the same but for their priority: peers that disagree would both
// be active.
func TestHostsDifferInTheirPriorityAlone(t *testing.T) {
	sets := forHosts(t, "192.0.2.1")
	one, two := contents(sets["lb1"]), contents(sets["lb2"])
	const main = keepalived.Prefix + engine.MainPath
	two[main] = strings.ReplaceAll(two[main], "priority 240", "priority 250")
	if d := cmp.Diff(one, two); d != "" {
		t.Errorf("lb1 and lb2 differ (-lb1 +lb2):\n%s", d)
	}
}

// What could break out of keepalived's file reaches none.
func TestHostileRouters(t *testing.T) {
	for name, change := range map[string]func(*lb.VRRP){
		"interface": func(v *lb.VRRP) { v.Interface = "eth0\n    notify_master /bin/sh" },
		"no name":   func(v *lb.VRRP) { v.Interface = "" },
		"router ID": func(v *lb.VRRP) { v.RouterID = 0 },
		"interval":  func(v *lb.VRRP) { v.Interval = time.Millisecond },
		"fraction":  func(v *lb.VRRP) { v.Interval = 15 * time.Millisecond },
		"priority":  func(v *lb.VRRP) { v.Priority = 255 },
	} {
		v := vrrp(250)
		change(v)
		if router, _, err := engines.Table.VRRP.Files(v, nil); err == nil {
			t.Errorf("%s: rendered\n%s", name, router.Data)
		}
	}
}
