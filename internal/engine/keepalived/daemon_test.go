package keepalived

import (
	"encoding/json"
	"maps"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/external-lb/external-lb/internal/engine"
	"github.com/external-lb/external-lb/internal/fileset"
	"github.com/external-lb/external-lb/internal/lb"
)

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

func TestBlameOfKeepalivedsMessages(t *testing.T) {
	k := &Daemon{}
	s := engine.Suspects{Dir: "/store", Fragments: map[string][]fileset.Socket{"services/a.conf": nil, "services/b.conf": nil}}
	got := k.Blame(s, "(services/a.conf: Line 3) Unknown keyword 'x'\n(/store/live/services/b.conf: Line 1) wrong\n(main.conf: Line 1) not blamed\n")
	if d := cmp.Diff(map[string]engine.Culprit{"services/a.conf": {Reason: "Unknown keyword 'x'"}, "services/b.conf": {Reason: "wrong"}}, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
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
