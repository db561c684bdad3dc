package host

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/external-lb/external-lb/internal/lb"
)

// newOwnedBox is a machine whose owner admits API servers at any port.
func newOwnedBox(t *testing.T) *box {
	return newBoxOf(t, t.TempDir(), 512, "admit:\n  backends: [{ports: [1-65535]}]\n")
}

// controlPlane is at a listener, with API servers that say their names.
func (b *box) controlPlane(at netip.AddrPort, servers ...string) *lb.Service {
	b.Helper()
	s := b.web("kubernetes", "", at)
	s.ID, s.IPv4.Targets, s.IPv6.Targets = lb.ControlPlane, lb.Targets{}, lb.Targets{}
	for i, name := range servers {
		a := netip.AddrFrom4([4]byte{198, 51, 100, byte(140 + i)})
		says(b, netip.AddrPortFrom(a, s.Frontends[0].NodePort), name)
		s.Servers = append(s.Servers, lb.Node{Name: name, IPv4: a})
	}
	return s
}

// owns delivers as the owner, whose some Items are.
func (b *box) owns(cfg *lb.Config, keys ...lb.Key) {
	b.Helper()
	d := b.delivery(encoded(b, cfg))
	d.Owner, d.Keep = true, keys
	b.takes(d)
}

var apiKey = lb.ServiceKey(lb.ControlPlane)

func TestADeliveryDoesNotTakeWhatIsTheOwners(t *testing.T) {
	b, api, web := newOwnedBox(t), public(t), public(t)
	b.owns(&lb.Config{Services: []*lb.Service{b.controlPlane(api, "cp1")}}, apiKey)
	b.says(api, "cp1")
	// The first delivery knows nothing of it, and hears nothing of it.
	out := b.send(wants(b.node(), b.web("web", "web", web)))
	if out.Live.Len() != 2 || len(out.Refused) != 0 {
		t.Errorf("%+v", out)
	}
	b.says(api, "cp1")
	b.says(web, "web")
	if kept := b.look().Kept; kept != api.String()+"/TCP to cp1" {
		t.Errorf("it keeps %q", kept)
	}
	// Nor does another cluster's, a process that starts anew, or a withdrawal of everything.
	if _, _, err := b.agent.ResetTerm(t.Context(), "other"); err != nil {
		t.Fatal(err)
	}
	b.take(b.newAgent(""))
	d := b.delivery(encoded(t, &lb.Config{}))
	d.Cluster = "other"
	b.takes(d)
	b.says(api, "cp1")
	if items, err := os.ReadDir(filepath.Join(b.agent.settings.modelDir(), itemsDir)); err != nil || len(items) != 1 {
		t.Errorf("%d items are left: %v", len(items), err)
	}
	// The owner takes it away.
	b.owns(&lb.Config{})
	b.says(api, "")
}

func TestWhatIsDeliveredIsJoinedWithTheOwners(t *testing.T) {
	b, api, other := newOwnedBox(t), public(t), public(t)
	own := b.controlPlane(api, "cp1", "cp2")
	b.owns(&lb.Config{Services: []*lb.Service{changed(own, func(s *lb.Service) { s.Servers = s.Servers[:1] })}}, apiKey)
	// A delivery adds servers. It changes neither those of the owner nor where is listened.
	delivered := changed(own, func(s *lb.Service) {
		s.Frontends[0].Listener.Port = other.Port()
		s.Servers = slices.Clone(s.Servers)
		s.Servers[0].IPv4 = netip.MustParseAddr("198.51.100.250")
	})
	out := b.send(&lb.Config{Services: []*lb.Service{delivered}})
	if len(out.Refused) != 0 || out.Live.Len() != 1 || out.Live.Sums()[apiKey] != out.Wanted.Sums()[apiKey] {
		t.Errorf("%+v", out)
	}
	if got := b.answers(api); got != "cp1 cp2" || hear(other) != "" {
		t.Errorf("%s answers %q, %s %q", api, got, other, hear(other))
	}
	// With the same bytes delivered, a change of the owner's is made live.
	b.owns(&lb.Config{Services: []*lb.Service{changed(own, func(s *lb.Service) { s.Servers = s.Servers[1:] })}}, apiKey)
	b.send(&lb.Config{Services: []*lb.Service{changed(delivered, func(s *lb.Service) { s.Servers = s.Servers[1:] })}})
	if got := b.answers(api); got != "cp2" {
		t.Errorf("%q", got)
	}
}

// answers are those of twenty connections, each once.
func (b *box) answers(at netip.AddrPort) string {
	var all []string
	for range 20 {
		all = append(all, hear(at))
	}
	slices.Sort(all)
	return strings.Join(slices.Compact(all), " ")
}

func TestWhatTheOwnersVersionCannotReadLeavesTheOwners(t *testing.T) {
	b, api := newOwnedBox(t), public(t)
	own := b.controlPlane(api, "cp1")
	b.owns(&lb.Config{Services: []*lb.Service{own}}, apiKey)
	it, _ := encoded(t, &lb.Config{Services: []*lb.Service{own}}).Get(apiKey)
	out := b.sendItems(lb.NewSet(lb.NewItem(apiKey, append(slices.Clone(it.Data), 0xf8, 0x03, 1)))) // field 63
	if len(out.Refused) != 1 || out.Refused[0].Reason != lb.RefusedUnknown || !out.Refused[0].OlderStays {
		t.Errorf("%+v", out.Refused)
	}
	b.says(api, "cp1")
}

// Without it, the address would go with the next delivery.
func TestWhatIsTheOwnersAndCannotBeRead(t *testing.T) {
	b, api := newOwnedBox(t), public(t)
	cfg := &lb.Config{Services: []*lb.Service{b.controlPlane(api, "cp1")}}
	b.owns(cfg, apiKey)
	if err := os.WriteFile(filepath.Join(b.agent.settings.modelDir(), ownFile), []byte("nonsense"), privateMode); err != nil {
		t.Fatal(err)
	}
	b.take(b.newAgent(""))
	if err := b.failsToTake(CodeMachine, b.from("", Epoch{1, 100})); !strings.Contains(err.Message, "host apply") {
		t.Error(err)
	}
	b.says(api, "cp1")
	b.owns(cfg, apiKey)
	b.takes(b.from("", Epoch{1, 101}))
	b.says(api, "cp1")
}

func TestTheOwnersRouterStays(t *testing.T) {
	router := func(change func(*lb.VRRP)) *lb.VRRP {
		v := &lb.VRRP{Interface: "eth0", RouterID: 51, Interval: time.Second, Priority: 250}
		change(v)
		return v
	}
	address := netip.MustParseAddr("192.0.2.9")
	own := noItems()
	for key, one := range map[lb.Key]any{lb.VRRPKey: router(func(*lb.VRRP) {}), lb.AddressKey(address): address} {
		own.parts[key], own.sums = one, own.sums.With(lb.Sums{key: {1}})
	}
	for name, tc := range map[string]struct {
		delivered any
		want      *lb.VRRP
		refused   int
	}{
		"none":              {nil, router(func(*lb.VRRP) {}), 0},
		"another":           {router(func(v *lb.VRRP) { v.RouterID = 52 }), router(func(*lb.VRRP) {}), 1},
		"this host drained": {router(func(v *lb.VRRP) { v.Priority = 80 }), router(func(v *lb.VRRP) { v.Priority = 80 }), 0},
		"one that is wrong": {fmt.Errorf("no interface"), router(func(*lb.VRRP) {}), 1},
	} {
		d := &delivery{parts: map[lb.Key]any{}, sums: lb.Sums{}, refused: map[refused]lb.Refusal{}, stays: map[lb.Key]bool{}}
		if tc.delivered != nil {
			d.parts[lb.VRRPKey], d.sums[lb.VRRPKey] = tc.delivered, lb.Sum{2}
		}
		d.addOwn(own)
		if got := d.parts[lb.VRRPKey].(*lb.VRRP); *got != *tc.want || len(d.refused) != tc.refused || d.parts[lb.AddressKey(address)] != address {
			t.Errorf("%s: %+v, %v", name, got, d.refused)
		}
	}
}
