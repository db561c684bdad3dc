package ipam

import (
	"fmt"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"pgregory.net/rapid"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/lb"
	"github.com/external-lb/external-lb/test/builder"
)

var compareAddrs = cmp.Options{cmpopts.EquateEmpty(), cmp.Comparer(func(a, b netip.Addr) bool { return a == b })}

// world is a cluster in which everything happens at random.
type world struct {
	cluster
	next int

	changing *Assigner // sees changes only
	of       []*Pool   // whose pools these were
	given    map[types.UID]Request
}

var worldPools = []string{"none", "one", "ports", "manual"}

func worldPool(name string) *builder.AddressPoolBuilder {
	switch name {
	case "one":
		return builder.AddressPool(name, "192.0.2.8").Shared()
	case "ports":
		return builder.AddressPool(name, "192.0.2.16/31", "2001:db8:1::/127").Shared()
	case "manual":
		return builder.AddressPool(name, "192.0.2.32/31", "2001:db8:2::/127").Manual()
	default:
		return builder.AddressPool(name, "192.0.2.0/30", "2001:db8::/126")
	}
}

var worldAddrs = addrs("192.0.2.0", "192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.8", "192.0.2.16", "192.0.2.17", "192.0.2.32",
	"2001:db8::", "2001:db8::1", "2001:db8:1::", "2001:db8:1::1", "2001:db8:2::", "203.0.113.1", "2001:db8:f::1")

func (w *world) drawPools(t *rapid.T) {
	var pools []*builder.AddressPoolBuilder
	for _, name := range worldPools {
		if rapid.IntRange(0, 9).Draw(t, name) == 0 {
			continue
		}
		p := worldPool(name).Priority(rapid.Int32Range(0, 1).Draw(t, "priority"))
		if rapid.IntRange(0, 3).Draw(t, "selective") == 0 {
			p = p.Services("tier", "gold")
		}
		pools = append(pools, p)
	}
	w.setPools(pools...)
}

func (w *world) drawService(t *rapid.T) {
	r := w.add(fmt.Sprintf("s%d", w.next))
	r.Created = epoch.Add(time.Duration(rapid.IntRange(0, 3).Draw(t, "age")) * time.Hour)
	w.next++
	w.drawSpec(t, r)
}

func (w *world) drawSpec(t *rapid.T, r *Request) {
	r.Families = rapid.SampledFrom([][]corev1.IPFamily{{v4}, {v6}, {v4, v6}, {v6, v4}}).Draw(t, "families")
	r.RequireAll = len(r.Families) == 2 && rapid.Bool().Draw(t, "require")
	r.Ports = rapid.SliceOfNDistinct(rapid.Custom(func(t *rapid.T) Port {
		return Port{rapid.SampledFrom([]lb.Protocol{lb.TCP, lb.UDP}).Draw(t, "protocol"), rapid.Uint16Range(80, 82).Draw(t, "port")}
	}), 1, 3, rapid.ID[Port]).Draw(t, "ports")
	r.Requested = rapid.SliceOfNDistinct(rapid.SampledFrom(worldAddrs), 0, 2, rapid.ID[netip.Addr]).Draw(t, "requested")
	r.Pool = rapid.SampledFrom([]string{"", "", "", "none", "one", "manual", "nowhere"}).Draw(t, "pool")
	r.Labels = rapid.SampledFrom([]labels.Set{{}, {"tier": "gold"}}).Draw(t, "labels")
}

// step lets something happen: a Service comes, changes, asks for another's ports, leaves or
// is withdrawn, its record is dropped by somebody who writes its status, or the pools are
// edited.
func (w *world) step(t *rapid.T) {
	if len(w.requests) == 0 {
		w.drawService(t)
		return
	}
	r := rapid.SampledFrom(w.requests).Draw(t, "service")
	switch rapid.SampledFrom([]string{"come", "come", "come", "change", "leave", "pools", "drop", "grab"}).Draw(t, "step") {
	case "come":
		w.drawService(t)
	case "change":
		w.drawSpec(t, r)
	case "grab": // another's ports, by whoever may share its address
		r.Ports = rapid.SampledFrom(w.requests).Draw(t, "from").Ports
	case "leave":
		if r.Withdrawing {
			w.remove(r)
		}
		r.Withdrawing = true
	case "pools":
		w.drawPools(t)
	case "drop":
		if !r.Withdrawing {
			r.Shown, r.ShownByUs = union(r.Shown, r.Published), rapid.Bool().Draw(t, "ours")
			r.Recorded, r.Listeners, r.Published = nil, nil, nil
		}
	}
}

// tell writes what was assigned as the controller does, until it crashes: first
// the record, then the status, then the record without what was left.
func (w *world) tell(t *rapid.T) {
	for _, r := range w.requests {
		if r.Withdrawing {
			continue
		}
		got := w.got[r.UID]
		upTo := rapid.IntRange(0, 3).Draw(t, "written")
		if upTo >= 1 {
			recorded(r, got)
		}
		if upTo >= 2 {
			r.Published = got.Addresses
		}
		if upTo >= 3 {
			r.Recorded = got.Addresses
		}
	}
}

// recorded is a Service once its assignment is on record.
func recorded(r *Request, got Assignment) {
	r.Recorded, r.Listeners = slices.Concat(got.Addresses, got.Leaving), got.Listeners
	r.Published, r.Shown = union(r.Published, r.Shown), nil
}

func union(lists ...[]netip.Addr) []netip.Addr {
	var out []netip.Addr
	for _, a := range slices.Concat(lists...) {
		if !slices.Contains(out, a) {
			out = append(out, a)
		}
	}
	return out
}

func TestProperties(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w := &world{cluster: cluster{t: t}}
		w.drawPools(rt)
		for range rapid.IntRange(1, 25).Draw(rt, "steps") {
			w.step(rt)
			w.assign()
			w.log(rt)
			w.checkListeners(rt)
			w.checkListenersStay(rt)
			w.checkUnshared(rt)
			w.checkPublishedStays(rt)
			w.checkShape(rt)
			w.checkOrder(rt)
			w.checkIncremental(rt)
			w.checkRestart(rt)
			w.checkStranger(rt)
			w.checkBadPools(rt)
			w.tell(rt)
		}
	})
}

func (w *world) log(t *rapid.T) {
	for _, r := range w.requests {
		got := w.got[r.UID]
		t.Logf("%s of %v %v %v wants %v of %q, published %v, recorded %v %v, withdrawing %t: %v, leaving %v, conflicts %v, %v",
			r.Name, r.Created, r.Families, r.Ports, r.Requested, r.Pool, r.Published, r.Recorded, r.Listeners, r.Withdrawing,
			got.Addresses, got.Leaving, got.Conflicts, got.Problem)
	}
}

// checkUnshared: an address that is not shared is nobody else's, also while its
// Service leaves it.
func (w *world) checkUnshared(t *rapid.T) {
	shared := func(a netip.Addr) bool {
		return slices.ContainsFunc([]string{"one", "ports"}, func(name string) bool {
			accepted, _ := parse(worldPool(name))
			return accepted[0].Contains(a)
		})
	}
	holders := map[netip.Addr]string{}
	for _, r := range w.requests {
		onRecord := func(a netip.Addr) bool { return slices.Contains(r.Recorded, a) }
		held := union(w.got[r.UID].Addresses, slices.DeleteFunc(slices.Clone(r.Published), func(a netip.Addr) bool { return !onRecord(a) }))
		for _, a := range held {
			if shared(a) {
				continue
			}
			if other, held := holders[a]; held {
				t.Fatalf("%s is both %s's and %s's", a, other, r.Name)
			}
			holders[a] = r.Name
		}
	}
}

// checkPublishedStays: S10, S35, only its user's request moves a Service.
func (w *world) checkPublishedStays(t *rapid.T) {
	for _, r := range w.requests {
		got := w.got[r.UID].Addresses
		for _, a := range r.Published {
			sameFamily := func(b netip.Addr) bool { return a.Is4() == b.Is4() }
			asked := slices.ContainsFunc(r.Families, func(f corev1.IPFamily) bool { return (f == v4) == a.Is4() })
			i := slices.IndexFunc(got, sameFamily)
			switch {
			case !asked || slices.Contains(got, a) || !slices.Contains(r.Recorded, a):
			case i >= 0 && slices.Contains(r.Requested, got[i]) && !r.Withdrawing:
			case i >= 0 && got[i] == assigned(r.Recorded, sameFamily): // its request of an earlier step
			default:
				t.Fatalf("%s had published %s and has %v now", r.Name, a, got)
			}
		}
	}
}

func assigned(record []netip.Addr, ofFamily func(netip.Addr) bool) netip.Addr {
	if i := slices.IndexFunc(record, ofFamily); i >= 0 {
		return record[i]
	}
	return netip.Addr{}
}

// checkShape: at most one address per family, in order; a missing one is told;
// a new one is no conflict.
func (w *world) checkShape(t *rapid.T) {
	for _, r := range w.requests {
		got := w.got[r.UID]
		var order []int
		for _, a := range got.Addresses {
			f := map[bool]corev1.IPFamily{true: v4, false: v6}[a.Is4()]
			order = append(order, slices.Index(r.Families, f))
		}
		if slices.Contains(order, -1) || !slices.IsSorted(order) || len(slices.Compact(slices.Clone(order))) != len(order) {
			t.Fatalf("%s has %v of %v", r.Name, got.Addresses, r.Families)
		}
		if !r.Withdrawing && len(got.Addresses) < len(r.Families) && got.Problem == nil {
			t.Fatalf("%s has %v of %v and is not told why", r.Name, got.Addresses, r.Families)
		}
		if p := got.Problem; p != nil && (p.Reason == "" || p.Message == "") {
			t.Fatalf("%s is told %+v", r.Name, p)
		}
		for _, c := range got.Conflicts {
			if !slices.Contains(union(r.Recorded, r.Shown), c.Listener.Address) || got.Problem == nil {
				t.Fatalf("%s was given an address on which %s is taken", r.Name, c.Listener)
			}
		}
	}
}

// checkOrder: neither the order of requests nor that of pools matters.
func (w *world) checkOrder(t *rapid.T) {
	var requests []Request
	for _, r := range rapid.Permutation(w.requests).Draw(t, "requests") {
		requests = append(requests, *r)
	}
	pools := rapid.Permutation(w.pools).Draw(t, "pools")
	got, usage := assign(pools, requests)
	if diff := cmp.Diff(w.got, got, compareAddrs) + cmp.Diff(w.usage, usage); diff != "" {
		t.Fatalf("another order, another result:\n%s", diff)
	}
}

// checkIncremental: what is worked out of changes alone is what is worked out of all.
func (w *world) checkIncremental(t *rapid.T) {
	if w.changing == nil || !slices.Equal(w.of, w.pools) {
		w.changing, w.of, w.given = NewAssigner(w.pools), w.pools, map[types.UID]Request{}
	}
	gone := maps.Clone(w.given)
	for _, r := range w.copies() {
		delete(gone, r.UID)
		if was, known := w.given[r.UID]; !known || !reflect.DeepEqual(was, r) {
			w.given[r.UID] = r
			w.changing.Set(&r)
		}
	}
	for uid := range gone {
		delete(w.given, uid)
		w.changing.Remove(uid)
	}
	got, usage := w.changing.Assign()
	if diff := cmp.Diff(w.got, got, compareAddrs) + cmp.Diff(w.usage, usage); diff != "" {
		t.Fatalf("of changes alone, another result (-all +changes):\n%s", diff)
	}
}

// checkRestart: S35, a crash after the records were written changes nothing.
func (w *world) checkRestart(t *rapid.T) {
	requests := w.copies()
	for i, r := range w.requests {
		if r.Withdrawing {
			continue // nobody writes its record any more
		}
		recorded(&requests[i], w.got[r.UID])
	}
	got, usage := assign(w.pools, requests)
	before, after := addressesOf(w.got), addressesOf(got)
	if diff := cmp.Diff(before, after, compareAddrs) + cmp.Diff(w.usage, usage); diff != "" {
		t.Fatalf("a restart changed assignments:\n%s", diff)
	}
}

// checkStranger: what a Service without a record shows takes nothing from those with one.
func (w *world) checkStranger(t *rapid.T) {
	stranger := Request{
		UID: "stranger", Name: "default/stranger", Created: epoch.Add(-time.Hour), Families: dual(v4, v6), Ports: ports(80, 81, 82),
		Shown: rapid.SliceOfN(rapid.SampledFrom(worldAddrs), 1, 4).Draw(t, "shown"), ShownByUs: rapid.Bool().Draw(t, "ours"),
	}
	got, _ := assign(w.pools, append(w.copies(), stranger))
	w.checkRecordedStays(t, got)
}

// checkBadPools: of pools that are not in force any more, whoever has an address on
// record keeps it, and nobody gets one.
func (w *world) checkBadPools(t *rapid.T) {
	var pools []*Pool
	for _, p := range w.pools {
		foreign := *p
		foreign.Foreign = true
		pools = append(pools, &foreign)
	}
	got, _ := assign(pools, w.copies())
	w.checkRecordedStays(t, got)
	for _, r := range w.requests {
		for _, a := range got[r.UID].Addresses {
			if !slices.Contains(union(r.Recorded, r.Shown), a) {
				t.Fatalf("%s got %s of a pool that is not in force", r.Name, a)
			}
		}
	}
}

// checkRecordedStays: who had what was on record as assigned, and nothing else, has
// it still, or what their user requests.
func (w *world) checkRecordedStays(t *rapid.T, got map[types.UID]Assignment) {
	for _, r := range w.requests {
		s := newService(r)
		had := w.got[r.UID].Addresses
		if slices.ContainsFunc(had, s.leaves) {
			continue
		}
		for _, a := range had {
			if now := got[r.UID].Addresses; !slices.ContainsFunc(now, func(b netip.Addr) bool {
				return a == b || a.Is4() == b.Is4() && slices.Contains(r.Requested, b)
			}) {
				t.Fatalf("%s had %v on record and has %v now", r.Name, had, now)
			}
		}
	}
}

func addressesOf(assignments map[types.UID]Assignment) map[types.UID][]netip.Addr {
	out := map[types.UID][]netip.Addr{}
	for uid, a := range assignments {
		out[uid] = a.Addresses
	}
	return out
}

// FuzzParsePools: whatever pools say, no address is in two that are accepted.
func FuzzParsePools(f *testing.F) {
	f.Add("192.0.2.0/28", "192.0.2.8-192.0.2.40", "192.0.2.4")
	f.Add("2001:db8::/64", "2001:db8::1", "192.0.2.0/24")
	f.Fuzz(func(t *testing.T, a, b, c string) {
		pools, problems := parse(
			builder.AddressPool("a", v1alpha1.AddressRange(a), v1alpha1.AddressRange(b)),
			builder.AddressPool("b", v1alpha1.AddressRange(b), v1alpha1.AddressRange(c)),
			builder.AddressPool("c", v1alpha1.AddressRange(c)))
		if len(pools)+len(problems) != 3 {
			t.Fatalf("%d pools, %d problems", len(pools), len(problems))
		}
		x := newIndex(pools)
		for i := 1; i < len(x); i++ {
			if !x[i-1].last.Less(x[i].first) {
				t.Fatalf("%s of %s overlaps %s of %s", x[i-1].addrRange, x[i-1].pool.Name, x[i].addrRange, x[i].pool.Name)
			}
		}
	})
}
