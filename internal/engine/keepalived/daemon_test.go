package keepalived

import (
	"encoding/json"
	"maps"
	"net/netip"
	"os"
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

// What keepalived says of our files decides; of the owner's, only what would end it does.
func TestVRRP_WhatKeepalivedSays(t *testing.T) {
	const owners = `(/etc/keepalived/keepalived.conf: Line 3) WARNING - the owner's affair
(Line 2) vrrp_garp_interval '0' is invalid
(/etc/keepalived/keepalived.conf: Line 12) Truncating auth_pass to 8 characters
(conf.d/own.conf: Line 1) Unknown keyword 'nonsense'
SECURITY VIOLATION - scripts are being executed but script_security not enabled.
(VI_1) No VIP specified; at least one is sensible
`
	const away = "(Line 4) WARNING - interface eth8 for vrrp_instance own doesn't exist\n"
	for name, c := range map[string]struct{ log, ours, owners string }{
		"the owner's affair":     {owners + away, "", ""},
		"a line of ours":         {owners + "(keepalived/main.conf: Line 5) Unknown keyword 'lissen'\n", "(keepalived/main.conf: Line 5) Unknown keyword 'lissen'", ""},
		"our interface":          {away + noEth9 + "\n" + noStart + "\n", noEth9, away[:len(away)-1] + "\n" + noEth9},
		"the owner's interface":  {owners + away + noStart + " in configuration\n", "", away[:len(away)-1]},
		"our router":             {owners + ownersRouter, ownersRouter, ownersRouter},
		"two of the owner's own": {"a and b both use VRID 51 with IPv6 on interface eth0\n", "", "a and b both use VRID 51 with IPv6 on interface eth0"},
	} {
		inMain := func(file string) bool { return file == "keepalived/main.conf" }
		if d := cmp.Diff(c.ours, complaints(c.log, inMain)); d != "" {
			t.Errorf("%s, ours: %s", name, d)
		}
		if d := cmp.Diff(c.owners, deadly(c.log)); d != "" {
			t.Errorf("%s, the owner's: %s", name, d)
		}
	}
}

const (
	noEth9       = "(keepalived/main.conf: Line 4) WARNING - interface eth9 for vrrp_instance external-lb doesn't exist"
	ownersRouter = "VI_1 and external-lb both use VRID 51 with IPv4 on interface eth0"
)

func TestVRRP_FilesOfOurs(t *testing.T) {
	k := &Daemon{Dir: t.TempDir()}
	for _, dir := range []string{"live/services", "live/keepalived/addresses"} {
		if err := os.MkdirAll(filepath.Join(k.Dir, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, file := range []string{"live/services/a.conf", "live/keepalived/addresses/ip.conf"} {
		if err := os.WriteFile(filepath.Join(k.Dir, file), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for file, ours := range map[string]bool{
		k.Dir + "/live/keepalived.conf": true, "services/a.conf": true, "addresses/ip.conf": true,
		"/etc/keepalived/keepalived.conf": false, "services/b.conf": false, "conf.d/a.conf": false,
	} {
		if k.ours(file) != ours {
			t.Errorf("%s: want %t", file, ours)
		}
	}
}

func TestBlameOfKeepalivedsMessages(t *testing.T) {
	k := &Daemon{}
	s := engine.Suspects{Dir: "/store", Fragments: map[string][]fileset.Socket{"services/a.conf": nil, "services/b.conf": nil, mainPath: nil}}
	for log, want := range map[string]map[string]engine.Culprit{
		"(services/a.conf: Line 3) Unknown keyword 'x'\n(/store/live/services/b.conf: Line 1) wrong\n(other.conf: Line 1) not blamed\n": {
			"services/a.conf": {Reason: "Unknown keyword 'x'"}, "services/b.conf": {Reason: "wrong"}},
		noEth9:       {mainPath: {Reason: "this host has no interface eth9: correct virtualAddresses.vrrp.interface of the Balancer, or name the host's interface so"}},
		ownersRouter: {mainPath: {Reason: "vrrp_instance VI_1 of this host's owner has the virtual router ID 51 on eth0: give the Balancer another virtualRouterID"}},
		"external-lb and VI 2 both use VRID 51 with IPv6 on interface eth0": {
			mainPath: {Reason: "vrrp_instance VI 2 of this host's owner has the virtual router ID 51 on eth0: give the Balancer another virtualRouterID"}},
	} {
		if d := cmp.Diff(want, k.Blame(s, log)); d != "" {
			t.Errorf("(-want +got):\n%s", d)
		}
	}
}

// What is printed of a virtual router is what the daemon knows of it.
func TestVRRP_WhatIsPrintedIsKnown(t *testing.T) {
	of := lb.VRRP{Interface: "eth0", RouterID: 51, Priority: 250, Interval: 50 * time.Millisecond}
	all := map[string]engine.Set{}
	k := &Daemon{Set: func(link string) (engine.Set, error) { return all[link], nil }}
	if k.sameRouter() || k.Active() || k.lacking() != "" {
		t.Error("there is no router")
	}
	all[engine.LiveLink] = setOf(t, of, "192.0.2.1", "2001:db8::1")
	want := virtualRouter{Interface: "eth0", RouterID: 51, Priority: 250, Every: 50 * time.Millisecond, Own: netip.MustParseAddr("169.254.76.51"), Addresses: true}
	if got := k.router(engine.LiveLink); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	other := of
	other.Priority = 240
	for name, c := range map[string]struct {
		before engine.Set
		same   bool
	}{
		"none before":     {engine.Set{}, false},
		"other addresses": {setOf(t, of, "192.0.2.9"), true},
		"first addresses": {setOf(t, of), false},
		"other priority":  {setOf(t, other, "192.0.2.1", "2001:db8::1"), false},
	} {
		if all[engine.BackLink] = c.before; k.sameRouter() != c.same {
			t.Errorf("%s: the same router: %t", name, !c.same)
		}
	}
}

// An active host that lacks an address says so. It is the one that has the router's own.
func TestVRRP_LacksAnAddress(t *testing.T) {
	own, err := addressesOf("lo")
	if err != nil {
		t.Fatal(err)
	}
	if !own[netip.MustParseAddr("127.0.0.1")] {
		t.Fatal("lo has no address")
	}
	for _, c := range []struct{ own, address, says string }{
		{"127.0.0.1", "127.0.0.1", ""}, {"127.0.0.1", "192.0.2.1", "lacks 192.0.2.1 on lo"}, {"169.254.76.51", "192.0.2.1", ""},
	} {
		router := virtualRouter{Interface: "lo", Own: netip.MustParseAddr(c.own)}
		k := &Daemon{Set: func(string) (engine.Set, error) {
			return viewsOf(t, map[string]any{mainPath: router, addressPath(netip.MustParseAddr(c.address)): c.address}), nil
		}}
		if words := k.lacking(); (words == "") != (c.says == "") || !strings.Contains(words, c.says) {
			t.Errorf("%+v: %q", c, words)
		}
	}
}

// setOf a router that brings addresses.
func setOf(t *testing.T, of lb.VRRP, addresses ...string) engine.Set {
	t.Helper()
	var brings []netip.Addr
	for _, a := range addresses {
		brings = append(brings, netip.MustParseAddr(a))
	}
	router, each, err := filesOf(&of, brings)
	if err != nil {
		t.Fatal(err)
	}
	views := map[string]any{}
	for _, f := range append(each, router) {
		views[f.Path] = f.View
	}
	return viewsOf(t, views)
}

func viewsOf(t *testing.T, views map[string]any) engine.Set {
	t.Helper()
	return engine.Set{
		Digest: "set", Paths: slices.Sorted(maps.Keys(views)),
		Read: func(path string) ([]byte, error) { return json.Marshal(views[path]) },
	}
}

// Every interval that the model allows is one that keepalived reads as it is meant.
func TestVRRP_EveryIntervalIsPrinted(t *testing.T) {
	for hundredths := range 4000 {
		every := time.Duration(hundredths+1) * 10 * time.Millisecond
		text := virtualRouter{Every: every}.Interval()
		if back, err := time.ParseDuration(text + "s"); err != nil || back != every || len(text) > len("39.99") {
			t.Fatalf("%s: %q, %v", every, text, err)
		}
	}
}

func TestVRRP_AFileTellsByItsPathWhatItBrings(t *testing.T) {
	for _, a := range []string{"192.0.2.1", "2001:db8::1", "2001:db8:1:2:3:4:5:6"} {
		if got, ok := broughtBy(addressPath(netip.MustParseAddr(a))); !ok || got.String() != a {
			t.Errorf("%s: %s, %t", a, got, ok)
		}
	}
	for _, path := range []string{
		"", mainPath, "ip-192.0.2.1.conf", addressesPrefix + "ip-192.0.2.1", addressesPrefix + "ip-192-0-2-1.conf",
		addressesPrefix + "ip-2001-db8-0--1.conf",
	} {
		if got, ok := broughtBy(path); ok {
			t.Errorf("%s brings %s", path, got)
		}
	}
}
