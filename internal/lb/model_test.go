package lb

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestNewID(t *testing.T) {
	good := []string{"a", "web", "web-1", "0", "6f1c0a52-1111-4222-8333-944455566677", strings.Repeat("a", 63)}
	for _, name := range good {
		if id, err := NewID("default", name, "uid"); err != nil || id.Name != name {
			t.Errorf("%q: %v, %v", name, id, err)
		}
	}
	// All of these would pass a daemon's own check, or break it.
	bad := []string{"", "-a", "a-", "A", "a.b", "a_b", "a b", "a\n", "ä", "$remote_addr", "a{", "a;", "#", "unix:/var/run/docker.sock", "${VAR}", strings.Repeat("a", 64)}
	for _, name := range bad {
		for i, parts := range [][3]string{{name, "web", "uid"}, {"default", name, "uid"}, {"default", "web", name}} {
			if id, err := NewID(parts[0], parts[1], parts[2]); err == nil || id != (ID{}) {
				t.Errorf("%q as part %d gave %v", name, i, id)
			}
		}
	}
	_, err := NewID("a b", "a b", strings.Repeat("x", 100_000)+"\n")
	if err == nil || !strings.Contains(err.Error(), "namespace") || len(err.Error()) > 200 {
		t.Errorf("error: %.300v", err)
	}
}

func TestListenersAreSorted(t *testing.T) {
	listener := func(at string, p Protocol) Listener {
		a := netip.MustParseAddrPort(at)
		return Listener{a.Addr(), a.Port(), p}
	}
	got := []Listener{listener("[2001:db8::1]:80", TCP), listener("192.0.2.10:80", TCP), listener("192.0.2.9:443", TCP), listener("192.0.2.9:80", UDP), listener("192.0.2.9:80", TCP)}
	slices.SortFunc(got, Listener.Compare)
	var words []string
	for _, l := range got {
		words = append(words, l.String())
	}
	want := []string{"192.0.2.9:80/TCP", "192.0.2.9:80/UDP", "192.0.2.9:443/TCP", "192.0.2.10:80/TCP", "[2001:db8::1]:80/TCP"}
	if diff := cmp.Diff(want, words); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
