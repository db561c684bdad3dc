package transport

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/external-lb/external-lb/internal/lb"
	"github.com/external-lb/external-lb/provider"
)

// counts are requests, by what they ask for and what became of them.
type counts struct {
	mu    sync.Mutex
	asked map[string]int
	calls provider.Calls
}

func (c *counts) hear(_, request, result string, calls provider.Calls) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked[request+" "+result]++
	c.calls.Reads, c.calls.Writes = c.calls.Reads+calls.Reads, c.calls.Writes+calls.Writes
}

// since the last time, in one line.
func (c *counts) since() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []string
	for _, what := range slices.Sorted(maps.Keys(c.asked)) {
		out = append(out, fmt.Sprintf("%d %s", c.asked[what], what))
	}
	clear(c.asked)
	return strings.Join(out, ", ")
}

// What a change costs in requests: docs/howto/cloud.md has this table.
func TestWhatAChangeCosts(t *testing.T) {
	w, heard := newWorld(t), &counts{asked: map[string]int{}}
	w.asked = heard.hear
	w.dial()
	cost := func(what, want string, do func()) {
		t.Helper()
		do()
		if got := heard.since(); got != want {
			t.Errorf("%s: %s; want %s", what, got, want)
		}
	}
	const round = "1 capabilities OK, 1 list OK"
	three := config(service("a", 30080), service("b", 30081), service("c", 30082))
	heard.since() // of the connection
	cost("three Services", round+", 3 put OK", func() { w.applied(three) })
	cost("a look", round, func() { w.status() })
	cost("nothing", round, func() { w.applied(three) })
	more := config(three.Services...)
	more.Nodes = append(more.Nodes, node("n3", "10.0.0.3"))
	cost("a node", round+", 3 put OK", func() { w.applied(more) })
	w.PutFault = func(provider.Spec) (*provider.Observed, error) {
		return nil, &provider.Error{Code: provider.QuotaExceeded, Message: "no more"}
	}
	cost("one that is refused", round+", 1 put QuotaExceeded", func() {
		if _, err := w.apply(&lb.Config{Nodes: more.Nodes, Services: append(slices.Clone(more.Services), service("d", 30083))}); err != nil {
			t.Error(err)
		}
	})
	w.PutFault = nil
	cost("one that goes, and the one that never came", "1 capabilities OK, 1 delete NotFound, 1 delete OK, 1 list OK", func() {
		w.applied(&lb.Config{Nodes: more.Nodes, Services: more.Services[:2]})
	})
	if heard.calls != (provider.Calls{}) {
		t.Errorf("a cloud of memory made calls: %+v", heard.calls)
	}
}

// A sum of what a provider says may be any number, and no counter goes back.
func TestCallsAreNeverNegative(t *testing.T) {
	all := make([]provider.LoadBalancer, 1<<16)
	for i := range all {
		all[i].Calls = provider.Calls{Reads: math.MaxInt32, Writes: math.MinInt32}
	}
	if sum := callsOf(all...); sum.Reads < 1<<16 || sum.Writes != 0 {
		t.Errorf("%+v", sum)
	}
}
