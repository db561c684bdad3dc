package host

import (
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/external-lb/external-lb/internal/fileset"
)

// routerConf is what a Balancer with VRRP delivers to one of its hosts.
const routerConf = `# Made by external-lb.
vrrp_instance external-lb {
    version 3
    interface %s
    virtual_router_id 51
    priority 250
    advert_int 0.05
    virtual_ipaddress {
        169.254.76.51/32
    }
    virtual_ipaddress_excluded {
        include addresses/*.conf
    }
    track_script {
        external-lb
    }
}
`

func routed(t testing.TB, device string, set *fileset.Set, addresses ...string) *fileset.Set {
	t.Helper()
	main, err := fileset.NewFile(keepalivedMain, fmt.Appendf(nil, routerConf, device))
	if err != nil {
		t.Fatal(err)
	}
	files := []fileset.File{main}
	for i, a := range addresses {
		f, err := fileset.NewFile(fmt.Sprintf("keepalived/addresses/ip-%d.conf", i), []byte(a+"\n"))
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, f)
	}
	for f := range set.All() {
		files = append(files, f)
	}
	out, err := fileset.New(files...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestVRRP_Install(t *testing.T) {
	onBareMachine(t, func(t *testing.T) {
		for _, command := range []string{"ip link add eth0 type veth peer name peer0", "ip link set eth0 up", "ip link set peer0 up", "ip addr add 192.0.2.1/24 dev eth0"} {
			run(t, strings.Fields(command)...)
		}
		startDaemon(t)
		options := InstallOptions{AuthorizedKeys: []string{aKey}, VRRP: true}
		steps := install(t, options)
		for name, want := range map[string]StepResult{"include": StepDone, "sysctl": StepDone, "keepalived": StepWarning, "sudo rights": StepDone} {
			if steps[name] != want {
				t.Errorf("%s is %s, want %s", name, steps[name], want)
			}
		}
		run(t, "sh", "-c", "keepalived >/dev/null 2>&1 </dev/null")
		run(t, "timeout", "30", "sh", "-c", "until pgrep ^"+processMark+"; do sleep 0.05; done") // it shows what it runs
		for name, result := range install(t, options) {
			if result != StepPresent && name != "ports" {
				t.Errorf("a second time: %s is %s", name, result)
			}
		}
		s, err := LoadSettings(SettingsPath)
		if err != nil {
			t.Fatal(err)
		}
		h, err := New(s)
		if err != nil {
			t.Fatal(err)
		}
		seq := uint64(0)
		deliver := func(set *fileset.Set) (Outcome, error) {
			st, err := h.Status(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			seq++
			return h.Apply(t.Context(), Delivery{Epoch: Epoch{1, 1, seq}, Base: st.Files.Digest(), Change: fileset.Diff(st.Files, set), Want: set.Digest()})
		}
		at := local(t)
		vip := netip.AddrPortFrom(netip.MustParseAddr("198.51.100.1"), at.Port())

		good := routed(t, "eth0", set(t, service(t, "web", "one", at), service(t, "vip", "vip", vip)), "198.51.100.1/32", "2001:db8::1/128")
		out, err := deliver(good)
		if err != nil || out.Live != good.Digest() || !out.Active || len(out.Refused) > 0 {
			t.Fatalf("%+v, %v", out, err)
		}
		if got := hear(vip); got != "vip" {
			t.Errorf("%s says %q", vip, got)
		}
		st, err := h.Status(t.Context())
		if err != nil || st.Live != good.Digest() || !st.Active || st.Message != "" || !strings.Contains(st.EngineVersion, "keepalived/2.") {
			t.Errorf("%+v, %v", st, err)
		}
		if out, err = deliver(good); err != nil || out.Reloaded {
			t.Errorf("again: %+v, %v", out, err)
		}

		t.Run("an interface that is not there", func(t *testing.T) {
			_, err := deliver(routed(t, "eth9", set(t, service(t, "web", "two", at)), "198.51.100.1/32"))
			if err == nil || !strings.Contains(err.Error(), "no interface eth9") {
				t.Errorf("%v", err)
			}
			if got := hear(vip); got != "" { // the other daemon has taken its part
				t.Errorf("%s says %q", vip, got)
			}
			if have, err := addressesOf("eth0"); err != nil || !have[vip.Addr()] {
				t.Errorf("keepalived lost its addresses: %v, %v", have, err)
			}
			if out, err := deliver(good); err != nil || out.Live != good.Digest() {
				t.Errorf("back: %+v, %v", out, err)
			}
		})
		t.Run("an address that somebody takes away", func(t *testing.T) {
			run(t, "ip", "addr", "del", "198.51.100.1/32", "dev", "eth0")
			(&box{T: t}).eventually("keepalived has put it back", func() bool {
				have, err := addressesOf("eth0")
				return err == nil && have[vip.Addr()]
			})
		})
		t.Run("keepalived ends", func(t *testing.T) {
			run(t, "pkill", "-F", "/run/keepalived.pid")
			(&box{T: t}).eventually("keepalived has ended", func() bool {
				st, err := h.Status(t.Context())
				return err == nil && !st.Running
			})
			st, err := h.Status(t.Context())
			if err != nil || st.Live != "" || st.Active || !strings.HasPrefix(st.Message, "keepalived does not run") {
				t.Errorf("%+v, %v", st, err)
			}
		})
	})
}

func TestVRRP_NeedsAPreparedMachine(t *testing.T) {
	b := newBox(t)
	e := b.fails(CodeMachine, b.delivery(routed(t, "eth0", set(t))))
	if !strings.Contains(e.Message, "host install --vrrp") {
		t.Errorf("message %q", e.Message)
	}
	b.consistent(fileset.Manifest{}.Digest())
}

// keepalived runs as root and can be told to run anything: nothing of that kind
// comes over the wire.
func TestVRRP_HostileLines(t *testing.T) {
	for _, line := range []string{
		"notify_master /bin/sh", "    notify \"/bin/sh -c id\"", "script /bin/sh", "include /etc/shadow", "include ../*.conf",
		"smtp_server 192.0.2.1", "@lb1 priority 255", "$X=1", "vrrp_instance other {", "vrrp_script external-lb {", "global_defs {",
		"virtual_server 192.0.2.1 80 {", "192.0.2.1/32 dev eth0 label x", "interface eth0; notify x", "priority 250 notify /bin/sh",
		"external-lb\x00", "# \x1b[2J", "}}", "~SEQ(x,1,2) y",
	} {
		f := source{keepalivedMain, []byte("vrrp_instance external-lb {\n" + line + "\n}\n")}
		if words := (&keepalived{}).allowed(f); !strings.HasPrefix(words, "(keepalived/main.conf: Line 2) ") {
			t.Errorf("%q: %q", line, words)
		}
	}
	if words := (&keepalived{}).allowed(source{keepalivedMain, fmt.Appendf(nil, routerConf, "eth0")}); words != "" {
		t.Error(words)
	}
}

func TestVRRP_WhatKeepalivedSays(t *testing.T) {
	const log = `(/etc/keepalived/keepalived.conf: Line 3) WARNING - the owner's affair
(keepalived/main.conf: Line 4) WARNING - interface eth9 for vrrp_instance external-lb doesn't exist
(Line 4) WARNING - interface eth8 for vrrp_instance own doesn't exist
(keepalived/main.conf: Line 5) Unknown keyword 'lissen'
Thu Non-existent interface specified in configuration
`
	want := "(keepalived/main.conf: Line 4) WARNING - interface eth9 for vrrp_instance external-lb doesn't exist\n(keepalived/main.conf: Line 5) Unknown keyword 'lissen'"
	if d := cmp.Diff(want, complaints(log)); d != "" {
		t.Error(d)
	}
	if _, err := os.Stat("/usr/sbin/keepalived"); err != nil {
		t.Error(err)
	}
}
