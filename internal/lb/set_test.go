package lb_test

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/external-lb/external-lb/internal/lb"
)

// same compares a Set with one that is made from nothing.
func same(t rapid.TB, what string, got *lb.Set, want map[lb.Key]lb.Item) {
	t.Helper()
	fresh := lb.NewSet(slices.Collect(maps.Values(want))...)
	if got.Digest() != fresh.Digest() || got.Len() != len(want) || got.Manifest().Digest() != fresh.Digest() {
		t.Fatalf("%s: %d items with the digest %s, want %d with %s", what, got.Len(), got.Digest().Short(), len(want), fresh.Digest().Short())
	}
	keys := slices.Sorted(maps.Keys(want))
	for it := range got.All() {
		if len(keys) == 0 || it.Key != keys[0] || !bytes.Equal(it.Data, want[it.Key].Data) || it.Sum != want[it.Key].Sum {
			t.Fatalf("%s: unexpected %s, want %v", what, it.Key, keys[:min(1, len(keys))])
		}
		keys = keys[1:]
	}
	if got.Manifest().Len() != len(want) || !maps.EqualFunc(got.Manifest().Sums(), want, func(sum lb.Sum, it lb.Item) bool { return sum == it.Sum }) {
		t.Fatalf("%s: the manifest says something else", what)
	}
}

// What changes have made, in any order, is what would be made of the same items at once; and two
// sets differ in what is different.
func TestSetsFollowChanges(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		keys := rapid.SampledFrom([]int{3, 30, 600}).Draw(t, "keys")
		random := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		key := func() lb.Key { return lb.NodeKey(fmt.Sprint(random.IntN(keys))) }
		set, want := lb.NewSet(), map[lb.Key]lb.Item{}
		for range rapid.IntRange(1, 8).Draw(t, "steps") {
			before, had := set, maps.Clone(want)
			var c lb.Change
			most := rapid.SampledFrom([]int{1, 5, 2 * keys}).Draw(t, "most")
			for range random.IntN(most + 1) {
				k := key()
				delete(want, k)
				c.Delete = append(c.Delete, k)
			}
			for range random.IntN(most + 1) {
				it := lb.NewItem(key(), []byte{byte(random.IntN(2))})
				want[it.Key] = it
				c.Put = append(c.Put, it)
			}
			set = set.Apply(c)
			same(t, "after a change", set, want)
			same(t, "what was", before, had)
			changed(t, before, set, had, want)
			for range 3 {
				k := key()
				it, there := set.Get(k)
				if w, wanted := want[k]; there != wanted || it.Sum != w.Sum || set.Manifest().Has(k) != wanted {
					t.Fatalf("%s is there: %t, want %t", k, there, wanted)
				}
			}
		}
	})
}

// changed holds differences, and the change that is made of them, against two maps.
func changed(t *rapid.T, before, after *lb.Set, was, is map[lb.Key]lb.Item) {
	t.Helper()
	differences := 0
	for d := range before.Manifest().Differences(after.Manifest()) {
		differences++
		a, had := was[d.Key]
		b, has := is[d.Key]
		if (d.Was != nil) != had || (d.Is != nil) != has || had && *d.Was != a.Sum || has && *d.Is != b.Sum || had && has && a.Sum == b.Sum {
			t.Fatalf("%s is said to differ: %v, %v", d.Key, d.Was, d.Is)
		}
	}
	n := 0
	for k, it := range is {
		if old, had := was[k]; !had || old.Sum != it.Sum {
			n++
		}
	}
	for k := range was {
		if _, has := is[k]; !has {
			n++
		}
	}
	c := lb.Diff(before.Manifest(), after)
	if differences != n || len(c.Put)+len(c.Delete) != n {
		t.Fatalf("%d differences, a change of %d and %d, want %d", differences, len(c.Put), len(c.Delete), n)
	}
	if before.Apply(c).Digest() != after.Digest() || (n == 0) != before.Manifest().Equal(after.Manifest()) {
		t.Fatal("the change leads elsewhere")
	}
	if back := after.Apply(lb.Diff(after.Manifest(), before)); back.Digest() != before.Digest() {
		t.Fatal("there is no way back")
	}
}

// No key is taken for a part of another item, nor an item for two.
func TestDigestsTellSetsApart(t *testing.T) {
	item := func(key string, sum byte) lb.Item { return lb.Item{Key: lb.Key(key), Sum: lb.Sum{sum}} }
	zeros := string(make([]byte, 32))
	sets := map[string][]lb.Item{
		"nothing": nil, "one": {item("node/a", 1)}, "another sum": {item("node/a", 2)}, "another key": {item("node/b", 1)},
		"two": {item("node/a", 1), item("node/b", 2)}, "swapped": {item("node/a", 2), item("node/b", 1)},
		"a long key": {item("node/a\x01"+zeros[1:]+"\x06node/b", 2)}, "no sum": {item("node/a", 0)},
	}
	seen := map[lb.Digest]string{}
	for name, items := range sets {
		d := lb.NewSet(items...).Digest()
		if other, twice := seen[d]; twice || len(d) != 64 {
			t.Errorf("%s and %s have the digest %q", name, other, d)
		}
		seen[d] = name
	}
}

// manyServices is a Config with Services, each on an address of its own, on nodes.
func manyServices(services, nodes int) *lb.Config {
	cfg := &lb.Config{}
	for i := range services {
		a := netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})
		cfg.Addresses = append(cfg.Addresses, a)
		cfg.Services = append(cfg.Services, &lb.Service{
			ID:   lb.ID{Namespace: "default", Name: fmt.Sprintf("service-%05d", i), UID: fmt.Sprintf("6f1c0a52-1111-4222-8333-%012d", i)},
			IPv4: lb.Family{Targets: lb.Targets{All: true}, Clients: lb.Clients{Everybody: true}},
			Frontends: []lb.Frontend{{Listener: lb.Listener{Address: a, Port: 80, Protocol: lb.TCP}, NodePort: 30080,
				Settings: lb.Settings{Algorithm: lb.RoundRobin, Mode: lb.ModeTCP, SendProxy: lb.ProxyNone, HealthCheck: lb.HealthCheck{Type: lb.CheckNone}}}},
		})
	}
	for i := range nodes {
		cfg.Nodes = append(cfg.Nodes, lb.Node{Name: fmt.Sprintf("node-%05d", i), IPv4: netip.AddrFrom4([4]byte{172, 16, byte(i >> 8), byte(i)})})
	}
	return cfg
}

// oneChange is a function that changes a Service of a Config in each round, and encodes it and the
// change that a host is sent.
func oneChange(tb testing.TB, cfg *lb.Config) func() {
	var e lb.Encoder
	set, err := e.Encode(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	round := 0
	return func() {
		round++
		at := round % len(cfg.Services)
		next := *cfg
		next.Services = slices.Clone(cfg.Services)
		s := *cfg.Services[at]
		s.HealthCheckNodePort = uint16(1 + round%50_000)
		next.Services[at] = &s
		now, err := e.Encode(&next)
		if err != nil {
			tb.Fatal(err)
		}
		if c := lb.Diff(set.Manifest(), now); len(c.Put) != 1 || len(c.Delete) > 0 {
			tb.Fatalf("a change of one is %d items, and %d that go", len(c.Put), len(c.Delete))
		}
		cfg, set = &next, now
	}
}

// What a change of one Service takes of memory does not go by how many there are.
func TestOneChangeAllocatesLittle(t *testing.T) {
	for _, services := range []int{1000, 10_000} {
		if n := testing.AllocsPerRun(50, oneChange(t, manyServices(services, 1000))); n > 40 {
			t.Errorf("one change among %d Services allocates %.0f times", services, n)
		}
	}
}

func BenchmarkOneChange(b *testing.B) {
	for _, services := range []int{1000, 10_000} {
		b.Run(fmt.Sprintf("%dx1000", services), func(b *testing.B) {
			change := oneChange(b, manyServices(services, 1000))
			b.ReportAllocs()
			for b.Loop() {
				change()
			}
		})
	}
}

func BenchmarkNewSet(b *testing.B) {
	cfg := manyServices(10_000, 1000)
	for b.Loop() {
		if _, err := new(lb.Encoder).Encode(cfg); err != nil {
			b.Fatal(err)
		}
	}
}
