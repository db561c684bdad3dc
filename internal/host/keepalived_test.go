package host

import (
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/external-lb/external-lb/internal/engine"
	"github.com/external-lb/external-lb/internal/engine/engines"
	"github.com/external-lb/external-lb/internal/engine/keepalived"
	"github.com/external-lb/external-lb/internal/lb"
	"github.com/external-lb/external-lb/test/wait"
)

// addressesOf a network device.
func addressesOf(t *testing.T, device string) map[netip.Addr]bool {
	t.Helper()
	link, err := net.InterfaceByName(device)
	if err != nil {
		t.Fatal(err)
	}
	all, err := link.Addrs()
	if err != nil {
		t.Fatal(err)
	}
	have := map[netip.Addr]bool{}
	for _, a := range all {
		have[netip.MustParsePrefix(a.String()).Addr().Unmap()] = true
	}
	return have
}

func TestVRRP_Install(t *testing.T) {
	onBareMachine(t, func(t *testing.T) {
		for _, command := range []string{"ip link add eth0 type veth peer name peer0", "ip link set eth0 up", "ip link set peer0 up", "ip addr add 192.0.2.1/24 dev eth0"} {
			run(t, strings.Fields(command)...)
		}
		startDaemon(t)
		put(t, "/etc/keepalived/keepalived.conf", "# with a password\n")
		defer hidden(t, "/etc/keepalived/keepalived.conf")()
		options := InstallOptions{AuthorizedKeys: []string{aKey}, VRRP: true}
		steps := install(t, options)
		for name, want := range map[string]engine.StepResult{"include": engine.StepDone, "sysctl": engine.StepDone, "keepalived": engine.StepWarning, "sudo rights": engine.StepDone} {
			if steps[name] != want {
				t.Errorf("%s is %s, want %s", name, steps[name], want)
			}
		}
		run(t, "sh", "-c", "keepalived >/dev/null 2>&1 </dev/null")
		run(t, "timeout", "30", "sh", "-c", "until pgrep ^elb-; do sleep 0.05; done") // it shows what it runs
		for name, result := range install(t, options) {
			if result != engine.StepPresent && name != "ports" && name != "agent" {
				t.Errorf("a second time: %s is %s", name, result)
			}
		}
		s, err := LoadSettings(SettingsPath, &engines.Table)
		if err != nil {
			t.Fatal(err)
		}
		b := &box{T: t}
		b.take(agentOf(t, s))
		run(t, "ip", "route", "add", "local", "198.51.100.128/25", "dev", "lo") // where the node is, not the host
		vip, vip6 := netip.MustParseAddrPort("198.51.100.1:8080"), netip.MustParseAddr("2001:db8::1")
		web := b.web("web", "one", vip)
		good := routed(wants(b.node(), web), "eth0", vip.Addr(), vip6)
		out := b.send(good)
		if !out.Proved || len(out.Refused) > 0 || out.Live.Digest() != out.Wanted.Digest() {
			t.Fatalf("%+v", out)
		}
		wait.True(b, "it has the addresses", func() bool { return b.look().Active })
		b.says(vip, "one")
		st := b.look()
		if !st.Proved || !st.Active || st.Message != "" || st.Generation != out.Generation || !strings.Contains(st.EngineVersion, "keepalived/2.") {
			t.Errorf("%+v", st)
		}
		if out = b.send(good); out.Reloaded {
			t.Errorf("again: %+v", out)
		}
		t.Run("an address goes before its traffic", func(t *testing.T) {
			var order []string
			for _, u := range b.agent.units {
				u.at = func(step string) {
					if step == "swap" {
						order = append(order, filepath.Base(u.dir))
					}
				}
				defer func() { u.at = func(string) {} }()
			}
			b.send(routed(wants(b.node()), "eth0", vip6))
			if got := strings.Join(order, " "); got != "keepalived nginx" {
				t.Errorf("the units changed in the order %s", got)
			}
			if addressesOf(t, "eth0")[vip.Addr()] {
				t.Error("the address is still there")
			}
			order = nil
			b.send(good)
			if got := strings.Join(order, " "); got != "nginx keepalived" {
				t.Errorf("the units changed in the order %s", got)
			}
			b.says(vip, "one")
		})
		t.Run("a router of which a newer manager says more", func(t *testing.T) {
			set := encoded(t, good)
			out := b.sendItems(set.With(newer(itemAt(t, set, lb.VRRPKey))))
			if r := b.one(out.Refused, lb.RefusedUnknown, "upgrade it on this host"); !r.OlderStays || !addressesOf(t, "eth0")[vip.Addr()] {
				t.Errorf("%+v", out)
			}
			b.send(good)
		})
		t.Run("what is the owner's", func(t *testing.T) {
			b.owns(good, lb.VRRPKey, lb.AddressKey(vip.Addr()), lb.ServiceKey(web.ID))
			out := b.send(wants(b.node()))
			if have := addressesOf(t, "eth0"); !have[vip.Addr()] || have[vip6] || len(out.Refused) > 0 || out.Live.Len() != 1 {
				t.Errorf("%v, %+v", have, out)
			}
			b.says(vip, "one")
			b.owns(good)
			b.send(good)
		})
		t.Run("an interface that is not there", func(t *testing.T) {
			second := netip.AddrPortFrom(vip.Addr(), 82)
			out := b.send(routed(wants(b.node(), web, b.web("more", "more", second)), "eth9", vip.Addr(), vip6))
			if r := b.one(out.Refused, lb.RefusedUnavailable, "no interface eth9"); r.Key != lb.VRRPKey || !r.OlderStays {
				t.Errorf("%+v", out)
			}
			b.says(vip, "one")
			b.says(second, "more")
			if have := addressesOf(t, "eth0"); !have[vip.Addr()] {
				t.Errorf("keepalived lost its addresses: %v", have)
			}
			if out := b.send(good); !out.Proved || out.Live.Digest() != out.Wanted.Digest() {
				t.Errorf("back: %+v", out)
			}
		})
		t.Run("an address that somebody takes away", func(t *testing.T) {
			run(t, "ip", "addr", "del", "198.51.100.1/32", "dev", "eth0")
			wait.True(b, "keepalived has put it back", func() bool { return addressesOf(t, "eth0")[vip.Addr()] })
		})
		t.Run("keepalived ends", func(t *testing.T) {
			run(t, "pkill", "-F", "/run/keepalived.pid")
			wait.True(b, "keepalived has ended", func() bool { return !b.look().Running })
			if st := b.look(); st.Proved || st.Generation != "" || st.Active || !strings.HasPrefix(st.Message, "keepalived does not run") {
				t.Errorf("%+v", st)
			}
			// Traffic goes on, and what is new of it goes live.
			second := netip.AddrPortFrom(vip.Addr(), 81)
			run(t, "ip", "addr", "add", "198.51.100.1/32", "dev", "eth0")
			b.failsWith(CodeMachine, routed(wants(b.node(), web, b.web("more", "more", second)), "eth0", vip.Addr(), vip6))
			b.says(vip, "one")
			b.says(second, "more")
		})
	})
}

// routed is a model with addresses that move between hosts.
func routed(cfg *lb.Config, device string, addresses ...netip.Addr) *lb.Config {
	cfg.VRRP = &lb.VRRP{Interface: device, RouterID: 51, Priority: 250, Interval: 50 * time.Millisecond}
	cfg.Addresses = addresses
	return cfg
}

// What is kept of keepalived's files cannot be read: the addresses that these bring are not
// taken for the machine's own, which would withdraw them.
func TestVRRP_ALostIndexWithdrawsNothing(t *testing.T) {
	b := newVRRPBox(t)
	if err := os.Chmod(filepath.Dir(b.dir), 0o755); err != nil { // so that keepalived's script finds nginx
		t.Fatal(err)
	}
	vip, vip6, own := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("192.0.2.200")
	good := routed(wants(b.node()), "eth0", vip, own, vip6)
	before := b.send(good)
	wait.True(b, "the machine is active", func() bool { return addressesOf(t, "eth0")[vip] })
	moves := b.agent.units[1]
	for _, index := range []string{"{", ""} {
		files, err := os.Readlink(filepath.Join(moves.dir, engine.LiveLink))
		if err != nil {
			t.Fatal(err)
		}
		put(t, filepath.Join(moves.dir, filepath.Dir(files), indexFile), index)
		b.take(b.newAgent(""))
		moves = b.agent.units[1]
		moves.at = func(string) {
			if have := addressesOf(t, "eth0"); !have[vip] || !have[vip6] || !have[own] {
				t.Errorf("the machine has %v", have)
			}
		}
		if st := b.look(); st.Proved {
			t.Error("it is proved, though it cannot be read")
		}
		out := b.send(good)
		if r := b.one(out.Refused, lb.RefusedNotAdmitted, "an address of this host itself"); r.Key != lb.AddressKey(own) {
			t.Errorf("%+v", r)
		}
		if out.Live.Digest() != before.Live.Digest() || out.Generation != before.Generation {
			t.Errorf("%+v", out)
		}
	}
}

// A router that this machine cannot have is refused with its addresses, by name and before a
// reload that would end keepalived; all else is carried. What keepalived says of its owner's
// lines stands in nobody's way.
func TestVRRP_ARouterThatTheMachineCannotHave(t *testing.T) {
	b := newVRRPBox(t)
	if err := os.Chmod(filepath.Dir(b.dir), 0o755); err != nil { // so that keepalived's script finds nginx
		t.Fatal(err)
	}
	k := b.agent.units[1].daemon.(*keepalived.Daemon)
	put(t, k.Conf, `global_defs {
    vrrp_garp_interval 0
}
vrrp_script check {
    script /usr/bin/true
    user daemon
}
vrrp_instance VI_1 {
    interface eth0
    virtual_router_id 51
    advert_int 1
    authentication {
        auth_type PASS
        auth_pass longer-than-8
    }
    virtual_ipaddress {
        192.0.2.77/24
    }
    track_script {
        check
    }
}
include `+k.Live()+"\n")
	run(t, k.Settings.Reload...)
	owners := func() bool { return addressesOf(t, "eth0")[netip.MustParseAddr("192.0.2.77")] }
	wait.True(b, "the owner's address is here", owners)
	at, vip := public(t), netip.MustParseAddr("192.0.2.1")
	for device, why := range map[string]string{"eth0": "vrrp_instance VI_1 of this host's owner has the virtual router ID 51", "eth9": "no interface eth9"} {
		out := b.send(routed(wants(b.node(), b.web("web", "one", at)), device, vip))
		if len(out.Refused) != 2 || !out.Proved || out.Active {
			t.Errorf("%s: %+v", device, out)
		}
		for i, r := range out.Refused {
			if key := []lb.Key{lb.AddressKey(vip), lb.VRRPKey}[i]; r.Key != key || r.Reason != lb.RefusedUnavailable || !strings.Contains(r.Message, why) {
				t.Errorf("%s: %+v", device, r)
			}
		}
		b.says(at, "one")
		wait.True(b, "the owner's address is still here", owners)
	}
	other := routed(wants(b.node(), b.web("web", "one", at)), "eth0", vip)
	other.VRRP.RouterID = 52
	if out := b.send(other); len(out.Refused) > 0 || !out.Proved || !owners() {
		t.Errorf("another number: %+v, the owner's address is here: %t", out, owners())
	}
	wait.True(b, "it has the addresses", func() bool { return b.look().Active })
}

func TestVRRP_NeedsAPreparedMachine(t *testing.T) {
	b := newBox(t)
	at := public(t)
	out := b.send(routed(wants(b.node(), b.web("web", "one", at)), "eth0", at.Addr()))
	if len(out.Refused) != 2 || !strings.Contains(out.Refused[0].Message, "host install --vrrp") {
		t.Errorf("refused: %+v", out.Refused)
	}
	b.says(at, "one")
}
