package ipam

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/lb"
	"github.com/external-lb/external-lb/test/builder"
)

var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func parse(builders ...*builder.AddressPoolBuilder) ([]*Pool, map[string]*Problem) {
	pools := make([]v1alpha1.AddressPool, len(builders))
	for i, b := range builders {
		pools[i] = *b.Obj()
	}
	accepted, _, problems := ParsePools(pools)
	return accepted, problems
}

// cluster is the world of a story: Services come, change and go, and each
// assignment is recorded and published before the next.
type cluster struct {
	t        testing.TB
	pools    []*Pool
	requests []*Request // from the oldest
	got      map[types.UID]Assignment
	usage    map[string]Usage
}

func newCluster(t testing.TB, pools ...*builder.AddressPoolBuilder) *cluster {
	c := &cluster{t: t}
	c.setPools(pools...)
	return c
}

func (c *cluster) setPools(pools ...*builder.AddressPoolBuilder) {
	c.t.Helper()
	accepted, problems := parse(pools...)
	for name, p := range problems {
		c.t.Fatalf("pool %s: %s", name, p.Message)
	}
	c.pools = accepted
}

// add makes a Service of one IPv4 address and port 80, younger than the others.
func (c *cluster) add(name string) *Request {
	r := &Request{
		UID: types.UID("uid-" + name), Name: "default/" + name,
		Created:  epoch.Add(time.Duration(len(c.requests)) * time.Minute),
		Families: []corev1.IPFamily{corev1.IPv4Protocol},
		Ports:    ports(80),
		Labels:   labels.Set{}, NamespaceLabels: labels.Set{},
	}
	c.requests = append(c.requests, r)
	return r
}

// remove is the end of a withdrawal.
func (c *cluster) remove(r *Request) {
	for i := range c.requests {
		if c.requests[i] == r {
			c.requests = append(c.requests[:i:i], c.requests[i+1:]...)
			return
		}
	}
}

// assign settles without telling anybody.
func (c *cluster) assign() {
	c.got, c.usage = assign(c.pools, c.copies())
}

// assign settles everything at once.
func assign(pools []*Pool, requests []Request) (map[types.UID]Assignment, map[string]Usage) {
	x := NewAssigner(pools)
	for i := range requests {
		x.Set(&requests[i])
	}
	return x.Assign()
}

func (c *cluster) copies() []Request {
	requests := make([]Request, len(c.requests))
	for i, r := range c.requests {
		requests[i] = *r
	}
	return requests
}

// publish settles, records and publishes.
func (c *cluster) publish() {
	c.assign()
	for _, r := range c.requests {
		if r.Withdrawing {
			continue
		}
		r.Recorded, r.Listeners = c.got[r.UID].Addresses, c.got[r.UID].Listeners
		r.Published = c.got[r.UID].Addresses
	}
}

// want checks what a Service has, and that it has no problem.
func (c *cluster) want(r *Request, addresses ...string) {
	c.t.Helper()
	c.wantAddresses(r, addresses...)
	if p := c.got[r.UID].Problem; p != nil {
		c.t.Errorf("%s has a problem: %s: %s", r.Name, p.Reason, p.Message)
	}
}

func (c *cluster) wantAddresses(r *Request, addresses ...string) {
	c.t.Helper()
	if got, want := fmt.Sprint(c.got[r.UID].Addresses), fmt.Sprint(addrs(addresses...)); got != want {
		c.t.Errorf("%s has %s, want %s", r.Name, got, want)
	}
}

// wantProblem checks what a Service is told.
func (c *cluster) wantProblem(r *Request, reason string, texts ...string) {
	c.t.Helper()
	p := c.got[r.UID].Problem
	if p == nil || p.Reason != reason {
		c.t.Errorf("%s has problem %v, want %s", r.Name, p, reason)
		return
	}
	for _, w := range texts {
		if !strings.Contains(p.Message, w) {
			c.t.Errorf("%s is told %q, want it to say %q", r.Name, p.Message, w)
		}
	}
}

func (c *cluster) wantNotice(r *Request, word string) {
	c.t.Helper()
	if n := c.got[r.UID].Notice; !strings.Contains(n, word) || (word == "") != (n == "") {
		c.t.Errorf("%s has notice %q, want %q", r.Name, n, word)
	}
}

// wantConflicts checks which listeners a Service has to leave to others.
func (c *cluster) wantConflicts(r *Request, listeners ...string) {
	c.t.Helper()
	var got []string
	for _, x := range c.got[r.UID].Conflicts {
		got = append(got, x.Listener.String()+" "+x.Holder)
	}
	if fmt.Sprint(got) != fmt.Sprint(listeners) {
		c.t.Errorf("%s leaves %s to others, want %s", r.Name, got, listeners)
	}
}

func addrs(list ...string) []netip.Addr {
	var out []netip.Addr
	for _, s := range list {
		out = append(out, netip.MustParseAddr(s))
	}
	return out
}

func ports(numbers ...uint16) []Port {
	var out []Port
	for _, n := range numbers {
		out = append(out, Port{lb.TCP, n})
	}
	return out
}

func dual(first, second corev1.IPFamily) []corev1.IPFamily { return []corev1.IPFamily{first, second} }

const (
	v4 = corev1.IPv4Protocol
	v6 = corev1.IPv6Protocol
)
