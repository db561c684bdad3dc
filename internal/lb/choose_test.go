package lb

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func itself(s string) string { return s }

// manyNodes are n00, n01, …
func manyNodes(count int) (nodes []string) {
	for i := range count {
		nodes = append(nodes, fmt.Sprintf("n%02d", i))
	}
	return nodes
}

func TestChooseMovesLittle(t *testing.T) {
	const services, count, limit = 200, 20, 3
	load := map[string]int{}
	for i := range services {
		uid := fmt.Sprintf("uid-%03d", i)
		nodes := Choose(manyNodes(count), itself, uid, limit)
		if len(nodes) != limit {
			t.Fatalf("%s is on %v, want %d nodes", uid, nodes, limit)
		}
		after := Choose(manyNodes(count)[1:], itself, uid, limit) // n00 is gone
		for _, n := range nodes {
			load[n]++
			if n != "n00" && !slices.Contains(after, n) {
				t.Errorf("%s left %s, which is still there", uid, n)
			}
		}
		if !slices.Contains(nodes, "n00") && !slices.Equal(nodes, after) {
			t.Errorf("%s moved without need from %v to %v", uid, nodes, after)
		}
	}
	for n, l := range load { // 30 each would be even
		if l < 10 || l > 60 {
			t.Errorf("%s carries %d of %d", n, l, services*limit)
		}
	}
	if len(load) != count {
		t.Errorf("only %d nodes carry anything", len(load))
	}
}

func TestChoose(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		nodes := rapid.SliceOfDistinct(rapid.StringMatching(`[a-c]{1,3}`), rapid.ID[string]).Draw(t, "nodes")
		uid, limit := rapid.StringMatching(`[a-z]{0,4}`).Draw(t, "uid"), rapid.IntRange(-1, 8).Draw(t, "limit")
		before := strings.Join(nodes, ",")
		got := Choose(nodes, itself, uid, limit)
		if strings.Join(nodes, ",") != before {
			t.Fatal("the nodes are changed")
		}
		if want := min(len(nodes), limit); limit > 0 && len(got) != want || limit <= 0 && !slices.Equal(got, nodes) {
			t.Fatalf("%d of %d, at most %d", len(got), len(nodes), limit)
		}
		last := -1
		for _, n := range got {
			i := slices.Index(nodes, n)
			if i <= last {
				t.Fatalf("%v is not in the order of %v", got, nodes)
			}
			last = i
		}
		// The order in which nodes are given decides nothing.
		random := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		shuffled := slices.Clone(nodes)
		random.Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
		again := Choose(shuffled, itself, uid, limit)
		if !slices.Equal(slices.Sorted(slices.Values(got)), slices.Sorted(slices.Values(again))) {
			t.Fatalf("in another order %v instead of %v", again, got)
		}
	})
}

// Nodes that wait take no place of others, nor others theirs.
func TestChooseBoth(t *testing.T) {
	waits := func(n string) bool { return strings.HasPrefix(n, "w") }
	all := []string{"a", "b", "w1", "c", "w2", "w3"}
	for limit, want := range map[int]string{0: "a b c w1 w2 w3", 1: "1 1", 2: "2 2", 3: "a b c w1 w2 w3", 4: "a b c w1 w2 w3"} {
		got := ChooseBoth(all, itself, waits, "uid", limit)
		behind := len(slices.DeleteFunc(slices.Clone(got), func(n string) bool { return !waits(n) }))
		if text := strings.Join(got, " "); text != want && fmt.Sprint(len(got)-behind, behind) != want {
			t.Errorf("%d of each: %s", limit, text)
		}
	}
}

func BenchmarkChoose(b *testing.B) {
	nodes := manyNodes(1000)
	for b.Loop() {
		Choose(nodes, itself, "6f1c0a52-1111-4222-8333-944455566677", 10)
	}
}
