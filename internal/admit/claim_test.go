package admit

import (
	"maps"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/external-lb/external-lb/internal/engine"
	"github.com/external-lb/external-lb/internal/lb"
)

// claims are all addresses of a model that are not of nodes, and forms of them.
func claims(parts map[lb.Key]any) (all []netip.Addr) {
	add := func(a netip.Addr) {
		all = append(all, a)
		if a.Is4() {
			b := a.As4()
			all = append(all, netip.AddrFrom16([16]byte{0, 0x64, 0xff, 0x9b, 12: b[0], b[1], b[2], b[3]}), netip.AddrFrom16([16]byte{0x20, 0x02, b[0], b[1], b[2], b[3], 15: 1}))
		}
	}
	for _, key := range slices.Sorted(maps.Keys(parts)) {
		switch part := parts[key].(type) {
		case netip.Addr:
			add(part)
		case *lb.Service:
			for _, f := range part.Frontends {
				add(f.Listener.Address)
				for _, e := range f.Endpoints {
					add(e.Address.Addr())
				}
			}
		}
	}
	return all
}

// One more node that says it has the address of another, in whatever form, takes no pod and no
// listener from anybody. On own addresses of the host the owner's ownPorts say what nodes have.
func TestNoNodeTakesWhatOthersHave(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r, m, parts := drawRules(t), drawMachine(t), drawParts(t)
		all := append(claims(parts), netip.MustParseAddr("203.0.113.9"))
		evil := lb.Node{Name: "zz-evil"}
		a := rapid.SampledFrom(all).Draw(t, "claims")
		if evil.IPv6 = a; a.Is4() {
			evil.IPv4, evil.IPv6 = a, netip.Addr{}
		}
		if inAnyForm(a, m.has) {
			t.Skip()
		}
		before := r.Admit(parts, m)
		with := maps.Clone(parts)
		with[lb.NodeKey(evil.Name)] = evil
		after := r.Admit(with, m)
		if slices.ContainsFunc(after.Refused, func(f lb.Refusal) bool { return f.Key == lb.NodeKey(evil.Name) }) {
			if diff := cmp.Diff(before.Config, after.Config, compare); diff != "" {
				t.Fatalf("it is refused, and this has changed (-without +with):\n%s", diff)
			}
			return
		}
		answered := func(cfg *lb.Config) map[lb.Listener][]lb.Endpoint { // and the pods of each listener
			nodes, out := engine.NewNodes(cfg.Nodes), map[lb.Listener][]lb.Endpoint{}
			for _, s := range cfg.Services {
				for i, f := range engine.Resolve(s, nodes).Frontends {
					if len(f.Backends) > 0 {
						out[f.Listener] = s.Frontends[i].Endpoints
					}
				}
			}
			return out
		}
		now := answered(after.Config)
		for l, pods := range answered(before.Config) {
			if left, there := now[l]; !there || !slices.Equal(pods, left) {
				t.Fatalf("%s takes from %s: %v of %v are left (%v)", a, l, left, pods, there)
			}
		}
	})
}
