// Command provider is a whole provider in 150 lines: its cloud is a TCP proxy in this process.
// docs/contributing/write-a-provider.md walks through it.
package main

import (
	"context"
	"flag"
	"log"
	"net/netip"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"

	"github.com/external-lb/external-lb/provider"
)

// cloud has load balancers on addresses of this machine.
type cloud struct {
	mu        sync.Mutex
	addresses netip.Prefix
	all       map[provider.ID]*balancer
}

// Capabilities says what of a Service's settings can be done. Nothing is able by default.
func (c *cloud) Capabilities(context.Context) (provider.Capabilities, error) {
	settings := map[provider.Setting]provider.Support{}
	for _, s := range provider.AllSettings() {
		settings[s] = provider.Support{Missing: "the example leaves it out"}
	}
	for _, s := range []provider.Setting{"algorithm=RoundRobin", "mode=TCP", "proxyProtocol.send=None", "timeouts.connect",
		"healthCheck.type=None", provider.SourceRanges, provider.WantedAddress, provider.GivenAddress} {
		settings[s] = provider.Able
	}
	return provider.Capabilities{Name: "example", Version: "1", Settings: settings, KeepsConnections: true,
		Protocols: []provider.Protocol{provider.TCP}, Families: []provider.IPFamily{provider.IPv4}}, nil
}

// Put makes a load balancer of what is there. It begins with what it reads back, and so it
// does not matter what was there, or where an earlier Put ended.
func (c *cloud) Put(_ context.Context, id provider.ID, want provider.Spec) (provider.Observed, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, there := c.all[id]; !there && want.Flavor != "" { // one that is there is kept right
		return provider.Observed{}, &provider.Error{Code: provider.Unsupported, Field: "flavor", Message: "the example has none"}
	}
	b, err := c.find(id, want.Families[0].Address)
	if err != nil {
		return provider.Observed{}, err
	}
	asked := want.Flavor
	want.Flavor = "" // it has none
	o := b.observed(id)
	if o.Spec.Digest() != want.Digest() {
		b.namespace, b.name = want.Namespace, want.Name
		refused, writes := b.carry(want)
		o = b.observed(id)
		o.Refused, o.Calls.Writes = refused, writes
	}
	if asked != "" {
		o.Reason, o.Message = provider.Unsupported, "the example has no flavors"
	}
	return o, nil
}

// Get reads one back.
func (c *cloud) Get(_ context.Context, id provider.ID) (provider.Observed, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	b, there := c.all[id]
	if !there {
		return provider.Observed{}, &provider.Error{Code: provider.NotFound, Message: "there is none"}
	}
	return b.observed(id), nil
}

// Delete ends one. The second time nothing is there, and that says that it is gone.
func (c *cloud) Delete(ctx context.Context, id provider.ID) (provider.Observed, error) {
	o, err := c.Get(ctx, id)
	if err != nil {
		return o, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	_, o.Calls.Writes = c.all[id].carry(provider.Spec{Families: []provider.Family{{}}})
	delete(c.all, id)
	o.State = provider.Deleting
	return o, nil
}

// List reads all of a cluster back.
func (c *cloud) List(_ context.Context, cluster string) (out []provider.Observed, _ error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for id, b := range c.all {
		if id.Cluster == cluster {
			out = append(out, b.observed(id))
		}
	}
	return out, nil
}

// find the load balancer with a tag, or make one. Its address stays.
func (c *cloud) find(id provider.ID, wanted netip.Addr) (*balancer, error) {
	taken := map[netip.Addr]bool{}
	for other, b := range c.all {
		taken[b.address] = other != id
	}
	if b, there := c.all[id]; there && (!wanted.IsValid() || wanted == b.address) {
		return b, nil
	} else if there {
		return nil, &provider.Error{Code: provider.Unsupported, Field: "wantedAddress", Message: "it has " + b.address.String() + " already"}
	}
	address := wanted
	for next := c.addresses.Addr(); !address.IsValid() && c.addresses.Contains(next); next = next.Next() {
		if !taken[next] {
			address = next
		}
	}
	switch {
	case !address.IsValid():
		return nil, &provider.Error{Code: provider.QuotaExceeded, Message: "no address is free"}
	case taken[address] || !c.addresses.Contains(address):
		return nil, &provider.Error{Code: provider.AddressTaken, Message: address.String() + " is not to be had"}
	}
	c.all[id] = &balancer{address: address, ports: map[uint16]*port{}}
	return c.all[id], nil
}

func main() {
	listen := flag.String("listen", "127.0.0.1:8480", "where to answer; anywhere but on loopback with -cert and -key")
	cert, key := flag.String("cert", "", "certificate in PEM"), flag.String("key", "", "its key")
	tokenFile := flag.String("token-file", "token", "what requests have to bear")
	addresses := flag.String("addresses", "127.2.0.0/24", "of this machine, for load balancers")
	nodes := flag.String("nodes", "10.0.0.0/8", "the network of the nodes")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	token, err := os.ReadFile(*tokenFile)
	if err != nil {
		log.Fatal(err)
	}
	c := &cloud{addresses: netip.MustParsePrefix(*addresses), all: map[provider.ID]*balancer{}}
	s := provider.Server{Cloud: c, Token: strings.TrimSpace(string(token)),
		Admit: provider.Admit{Nodes: []netip.Prefix{netip.MustParsePrefix(*nodes)}}}
	if err := s.ListenAndServe(ctx, *listen, *cert, *key, os.Stdout); err != nil {
		log.Fatal(err)
	}
}
