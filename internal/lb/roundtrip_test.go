package lb_test

import (
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"google.golang.org/protobuf/encoding/protowire"
	"pgregory.net/rapid"

	"github.com/external-lb/external-lb/internal/lb"
	"github.com/external-lb/external-lb/internal/lb/lbtest"
)

var compare = cmp.Options{cmpopts.EquateComparable(netip.Addr{}, netip.AddrPort{}, netip.Prefix{}), cmpopts.EquateEmpty(), cmp.Comparer((*lb.Certificate).Equal)}

func encode(t rapid.TB, cfg *lb.Config) *lb.Set {
	t.Helper()
	set, err := new(lb.Encoder).Encode(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// decode puts a Config together again.
func decode(t rapid.TB, set *lb.Set) *lb.Config {
	t.Helper()
	cfg := &lb.Config{}
	for it := range set.All() {
		part, err := lb.Decode(it)
		if err != nil {
			t.Fatal(err)
		}
		if err := lbtest.InBounds(part); err != nil {
			t.Fatal(err)
		}
		lbtest.Add(cfg, part)
	}
	lbtest.Sort(cfg)
	return cfg
}

func TestWhatIsSentArrives(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		cfg := lbtest.Config().Draw(t, "config")
		if diff := cmp.Diff(cfg, decode(t, encode(t, cfg)), compare); diff != "" {
			t.Fatalf("(-sent +arrived):\n%s", diff)
		}
	})
}

// shuffled says the fields of a message in another order; those of a list stay in theirs.
func shuffled(random *rand.Rand, data []byte) []byte {
	var fields [][]byte
	for rest := data; len(rest) > 0; {
		_, _, n := protowire.ConsumeField(rest)
		fields, rest = append(fields, rest[:n]), rest[n:]
	}
	rank := random.Perm(lb.MaxNumber)
	slices.SortStableFunc(fields, func(a, b []byte) int { return rank[numberOf(a)] - rank[numberOf(b)] })
	return slices.Concat(fields...)
}

func numberOf(field []byte) protowire.Number { n, _, _ := protowire.ConsumeTag(field); return n }

func TestDigestsAreOverBytesAsSent(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		cfg := lbtest.Config().Draw(t, "config")
		set := encode(t, cfg)
		random := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		var again []lb.Item
		for it := range set.All() {
			if it.Sum != sha256.Sum256(it.Data) {
				t.Fatalf("%s has another sum than its bytes", it.Key)
			}
			other := lb.NewItem(it.Key, shuffled(random, it.Data))
			if same := slices.Equal(other.Data, it.Data); same != (other.Sum == it.Sum) {
				t.Fatalf("%s: the same bytes: %v, and the same sum: %v", it.Key, same, !same)
			}
			again = append(again, other)
		}
		if diff := cmp.Diff(cfg, decode(t, lb.NewSet(again...)), compare); diff != "" {
			t.Fatalf("in another order (-sent +arrived):\n%s", diff)
		}
		if set.Digest() != set.Manifest().Digest() {
			t.Fatal("the digest of a set is not that of its manifest")
		}
	})
}

// A Service that is the same pointer is not encoded again; nothing but time shows it.
func TestEncodersRememberNothingThatShows(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var kept lb.Encoder
		a, b := lbtest.Config().Draw(t, "a"), lbtest.Config().Draw(t, "b")
		if len(a.Services) > 0 && rapid.Bool().Draw(t, "one stays") {
			b.Services = []*lb.Service{a.Services[0]}
		}
		for _, cfg := range []*lb.Config{a, b, a, a} {
			got, err := kept.Encode(cfg)
			if err != nil {
				t.Fatal(err)
			}
			if got.Digest() != encode(t, cfg).Digest() {
				t.Fatal("an encoder that remembers makes another set")
			}
		}
	})
}

func TestChangesTurnOneSetIntoAnother(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := encode(t, lbtest.Config().Draw(t, "a")), encode(t, lbtest.Config().Draw(t, "b"))
		if rapid.Bool().Draw(t, "related") {
			b = a.With(slices.Collect(b.All())...)
		}
		change := lb.Diff(a.Manifest(), b)
		got := a.Apply(change)
		if got.Digest() != b.Digest() || got.Len() != b.Len() || change.Empty() != (a.Digest() == b.Digest()) {
			t.Fatalf("%d items of %d, a change of %d and %d", got.Len(), b.Len(), len(change.Put), len(change.Delete))
		}
		for _, it := range change.Put {
			if sum, ok := a.Sum(it.Key); ok && sum == it.Sum {
				t.Fatalf("%s is put, and was there", it.Key)
			}
		}
		if !lb.Diff(b.Manifest(), b).Empty() {
			t.Fatal("a set differs from itself")
		}
	})
}

func TestOfTwoItemsWithOneKeyTheLastCounts(t *testing.T) {
	a, b, c := lb.NewItem("node/a", []byte("1")), lb.NewItem("node/a", []byte("2")), lb.NewItem("node/b", nil)
	set := lb.NewSet(a, c, b)
	if got, ok := set.Get("node/a"); !ok || set.Len() != 2 || got.Sum != b.Sum {
		t.Errorf("%d items, %v %s", set.Len(), ok, got.Data)
	}
	if _, ok := set.Get("node/c"); ok {
		t.Error("there is an item that nobody put")
	}
	if lb.NewSet(b, c).Digest() != set.Digest() || lb.NewSet().Digest() == set.Digest() {
		t.Error("digests are not of the content")
	}
	if (lb.Manifest{}).Digest() != lb.NewSet().Digest() {
		t.Error("nothing has two digests")
	}
}

func TestKeysNameTheirParts(t *testing.T) {
	id := lb.ID{Namespace: "default", Name: "web", UID: "1-2"}
	if got, ok := lb.ServiceKey(id).ServiceID(); !ok || got != id {
		t.Errorf("%v, %v", got, ok)
	}
	for _, key := range []lb.Key{"", "node/n1", "service/default/web", "service/default/web/1/2", "service/default/../1", "service/a/b/", "node/a/b/c"} {
		if id, ok := key.ServiceID(); ok {
			t.Errorf("%q is of Service %s", key, id)
		}
	}
	for key, want := range map[lb.Key]string{lb.ServiceKey(id): "Service default/web", lb.NodeKey("n1"): "node n1", lb.VRRPKey: "vrrp"} {
		if got := key.Describe(); got != want {
			t.Errorf("%s is %q, want %q", key, got, want)
		}
	}
	if fmt.Sprint(lb.Digest("0123456789abcdef").Short(), lb.Digest("").Short(), lb.NewSet().Digest().Short()) != "0123456789abempty" {
		t.Error("short digests")
	}
}
