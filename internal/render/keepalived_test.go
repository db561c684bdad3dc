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

	"github.com/external-lb/external-lb/internal/fileset"
	"github.com/external-lb/external-lb/internal/lb"
	"github.com/external-lb/external-lb/internal/render"
)

func vrrp() *lb.VRRP {
	return &lb.VRRP{Interface: "eth0", RouterID: 51, Interval: 100 * time.Millisecond,
		Hosts: []lb.VRRPHost{{Name: "lb1", Priority: 250}, {Name: "lb2", Priority: 240}}}
}

// forHosts renders a Config with a virtual router, and keeps what is keepalived's.
func forHosts(t *testing.T, cfg *lb.Config) map[string]*fileset.Set {
	t.Helper()
	cfg.VRRP = vrrp()
	r, err := render.New(lb.Nginx)
	if err != nil {
		t.Fatal(err)
	}
	shared, err := r.Render(cfg)
	if err != nil {
		t.Fatal(err)
	}
	sets, err := render.ForHosts(shared, cfg.VRRP)
	if err != nil {
		t.Fatal(err)
	}
	return sets
}

// onlyKeepaliveds are the files that keepalived reads.
func onlyKeepaliveds(t *testing.T, set *fileset.Set) *fileset.Set {
	t.Helper()
	var files []fileset.File
	for f := range set.All() {
		if strings.HasPrefix(f.Path, render.KeepalivedPrefix) {
			files = append(files, f)
		}
	}
	out, err := fileset.New(files...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestGoldenKeepalived(t *testing.T) {
	for name, cfg := range map[string]*lb.Config{
		"empty": {},
		"two-families": {Services: []*lb.Service{
			service(t, "a", tcp("192.0.2.1:80"), tcp("192.0.2.1:443"), tcp("[2001:db8::1]:80")),
			service(t, "b", tcp("192.0.2.1:81"), tcp("192.0.2.20:80")),
		}},
	} {
		t.Run(name, func(t *testing.T) {
			for host, set := range forHosts(t, cfg) {
				set, dir := onlyKeepaliveds(t, set), filepath.Join("testdata", filepath.FromSlash(t.Name()), host)
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
	f, err := fileset.NewFile(render.KeepalivedPrefix+render.MainPath, data)
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
	sets := forHosts(t, &lb.Config{Services: []*lb.Service{service(t, "a", tcp("192.0.2.1:80"))}})
	one, two := contents(sets["lb1"]), contents(sets["lb2"])
	const main = render.KeepalivedPrefix + render.MainPath
	two[main] = strings.ReplaceAll(two[main], "priority 240", "priority 250")
	if d := cmp.Diff(one, two); d != "" {
		t.Errorf("lb1 and lb2 differ (-lb1 +lb2):\n%s", d)
	}
}

func TestAddressesComeAndGoWithServices(t *testing.T) {
	r, err := render.New(lb.HAProxy)
	if err != nil {
		t.Fatal(err)
	}
	a, b := service(t, "a", tcp("192.0.2.1:80")), service(t, "b", tcp("192.0.2.1:81"), tcp("192.0.2.2:80"))
	for i, step := range []struct {
		services []*lb.Service
		one, two bool
	}{
		{nil, false, false},
		{[]*lb.Service{a}, true, false},
		{[]*lb.Service{a, b}, true, true},
		{[]*lb.Service{b}, true, true}, // which shares the address
		{nil, false, false},
	} {
		set, err := r.Render(&lb.Config{Services: step.services, VRRP: vrrp()})
		if err != nil {
			t.Fatal(err)
		}
		for address, want := range map[string]bool{"192.0.2.1": step.one, "192.0.2.2": step.two} {
			if _, got := set.Get(render.AddressPath(netip.MustParseAddr(address))); got != want {
				t.Errorf("step %d: %s is there: %t, want %t", i, address, got, want)
			}
		}
	}
	// And all at once where the Balancer stops to move them.
	set, err := r.Render(&lb.Config{Services: []*lb.Service{a}, VRRP: vrrp()})
	if err != nil || set.Len() != 3 {
		t.Fatalf("%d files, %v", set.Len(), err)
	}
	if set, err = r.Render(&lb.Config{Services: []*lb.Service{a}}); err != nil || set.Len() != 2 {
		t.Errorf("%d files without a router, want 2; %v", set.Len(), err)
	}
}

func TestHostileRouters(t *testing.T) {
	for name, change := range map[string]func(*lb.VRRP){
		"interface": func(v *lb.VRRP) { v.Interface = "eth0\n    notify_master /bin/sh" },
		"no name":   func(v *lb.VRRP) { v.Interface = "" },
		"router ID": func(v *lb.VRRP) { v.RouterID = 0 },
		"interval":  func(v *lb.VRRP) { v.Interval = time.Millisecond },
		"fraction":  func(v *lb.VRRP) { v.Interval = 15 * time.Millisecond },
		"priority":  func(v *lb.VRRP) { v.Hosts[1].Priority = 255 },
	} {
		v := vrrp()
		change(v)
		empty, err := fileset.New()
		if err != nil {
			t.Fatal(err)
		}
		if sets, err := render.ForHosts(empty, v); err == nil {
			t.Errorf("%s: rendered %v", name, contents(sets["lb1"]))
		}
	}
}
