package engine_test

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/external-lb/external-lb/internal/engine"
	"github.com/external-lb/external-lb/internal/lb"
)

func TestFrontendNamesAreRead(t *testing.T) {
	id := lb.ID{Namespace: "shop", Name: "web-1", UID: "0c0c6d4e-5a3f"}
	for _, text := range []string{"192.0.2.1:80", "[2001:db8::1]:443", "[::]:1", "[2001:db8::]:65535", "[2001:db8:1:2:3:4:5:6]:53", "[1:2::]:9", "0.0.0.0:8"} {
		at := netip.MustParseAddrPort(text)
		gotID, got, network, ok := engine.ParseFrontendName(engine.FrontendName(id, at, "udp"))
		if !ok || gotID != id || got != at || network != "udp" {
			t.Errorf("%s: %v %s %s, %t", text, gotID, got, network, ok)
		}
	}
	for _, name := range []string{"", "web", "external-lb.nodes.ipv4.abc", "a.b.c.192-0-2-1.80", "a.b.c.192-0-2.80.tcp", "a.b.c.192-0-2-1.65536.tcp", "A.b.c.192-0-2-1.80.tcp"} {
		if id, at, _, ok := engine.ParseFrontendName(name); ok {
			t.Errorf("%q is %v at %s", name, id, at)
		}
	}
}

func TestNodesThatAreDownAreNamedUpToABound(t *testing.T) {
	var n engine.Judged
	for i := 99; i >= 0; i-- {
		n.Judge(fmt.Sprintf("n%02d", i), i%2 == 0, engine.Unknown)
	}
	if n.Up != 50 || n.Down != 50 || len(n.Named) != engine.MaxNamed || n.Named[0].Node != "n01" {
		t.Errorf("%+v", n)
	}
}
