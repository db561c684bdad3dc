package octavia

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/external-lb/external-lb/internal/provider/openstack"
	"github.com/external-lb/external-lb/internal/provider/providertest"
	"github.com/external-lb/external-lb/provider"
)

// counting is a provider whose answers are to say as many calls as Octavia got.
type counting struct {
	*openstack.Cloud
	http.RoundTripper
	t             *testing.T
	reads, writes atomic.Int32
}

func (c *counting) over(r http.RoundTripper) http.RoundTripper {
	c.RoundTripper = r
	return c
}

func (c *counting) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Method == http.MethodGet {
		c.reads.Add(1)
	} else {
		c.writes.Add(1)
	}
	return c.RoundTripper.RoundTrip(r)
}

func (c *counting) calls() provider.Calls {
	return provider.Calls{Reads: c.reads.Load(), Writes: c.writes.Load()}
}

// same wants an answer to say the calls since a moment.
func (c *counting) same(since provider.Calls, said provider.Calls, err error) {
	now := c.calls()
	if got := (provider.Calls{Reads: now.Reads - since.Reads, Writes: now.Writes - since.Writes}); err == nil && said != got {
		c.t.Errorf("it said %+v, and made %+v", said, got)
	}
}

func (c *counting) Put(ctx context.Context, id provider.ID, want provider.Spec) (provider.Observed, error) {
	since := c.calls()
	o, err := c.Cloud.Put(ctx, id, want)
	c.same(since, o.Calls, err)
	return o, err
}

func (c *counting) Delete(ctx context.Context, id provider.ID) (provider.Observed, error) {
	since := c.calls()
	o, err := c.Cloud.Delete(ctx, id)
	c.same(since, o.Calls, err)
	return o, err
}

// What a change costs in calls of Octavia's API: docs/howto/octavia.md has this table.
func TestPut_CostsWhatItChanges(t *testing.T) {
	page, err := os.ReadFile("../../docs/howto/octavia.md")
	if err != nil {
		t.Fatal(err)
	}
	row := func(format string, args ...any) {
		t.Helper()
		if row := fmt.Sprintf("  | "+format+" |\n", args...); !strings.Contains(string(page), row) {
			t.Errorf("the page does not have %q", row)
		}
	}
	c := &counting{t: t}
	c.Cloud = env.newCloud(Project, c.over)
	id, other := provider.ID{Cluster: "cost", Service: "web"}, provider.ID{Cluster: "cost", Service: "other"}
	want := specOf(80)
	// change until Octavia has what is wanted. How often it is asked meanwhile is as it is fast.
	change := func(what string, want *provider.Spec) {
		t.Helper()
		since := c.calls()
		providertest.Reach(t, c, id, want)
		now := c.calls()
		t.Logf("%s: %d writes, %d reads", what, now.Writes-since.Writes, now.Reads-since.Reads)
		row("%s | %d", what, now.Writes-since.Writes)
	}
	look := func(ports int) (reads int32) {
		t.Helper()
		o, err := c.Put(t.Context(), id, *want)
		if err != nil || o.State != provider.Live || o.Calls.Writes != 0 || o.Calls.Reads != int32(3+2*ports) {
			t.Errorf("a look at %d ports: %s %+v, %v", ports, o.State, o.Calls, err)
		}
		return o.Calls.Reads
	}
	change("a Service with one port comes", want)
	row("a look at one that is as it should be | 0, and %d reads", look(1))
	want.Families[0].Members = append(want.Families[0].Members, provider.Member{Address: netip.MustParseAddr("192.0.2.12"), Weight: 1})
	change("a node comes or goes, for each port", want)
	want.Families[0].Sources = []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")}
	change("other source ranges, for each port", want)
	want.Listeners = specOf(80, 443).Listeners
	change("a port more", want)
	look(2)
	want.Listeners = want.Listeners[:1]
	change("a port less", want)

	providertest.Reach(t, c, other, specOf(80))
	since := c.calls()
	all, err := c.List(t.Context(), "cost")
	var said provider.Calls
	for _, o := range all {
		said.Reads, said.Writes = said.Reads+o.Calls.Reads, said.Writes+o.Calls.Writes
	}
	c.same(since, said, err)
	if err != nil || len(all) != 2 || said.Reads != 1+2*4 {
		t.Errorf("a list of %d: %+v, %v", len(all), said, err)
	}
	row("a list of all, each with one port | 0, and 1 read, and %d for each", (said.Reads-1)/2)
	change("a Service goes", nil)
	env.ends(t, c.Cloud, other)
}
