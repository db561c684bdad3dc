// Package providertest has a cloud for tests: it carries nothing, and does what it is told.
package providertest

import (
	"context"
	"encoding/binary"
	"hash/fnv"
	"net/http/httptest"
	"net/netip"
	"sync"
	"testing"

	"github.com/external-lb/external-lb/provider"
)

// Token is what requests to the provider of Serve bear.
const Token = "secret"

// Serve starts a provider of a new Cloud, until the test ends.
func Serve(t testing.TB) (c *Cloud, url string) {
	t.Helper()
	c = &Cloud{All: map[provider.ID]provider.Spec{}}
	s := &provider.Server{Cloud: c, Token: Token}
	server := httptest.NewServer(s.Handler())
	t.Cleanup(server.Close)
	return c, server.URL
}

// Cloud keeps what it is told, but for the faults that a test asks for. Its fields are read
// and changed under its lock where it is in use.
type Cloud struct {
	sync.Mutex
	All         map[provider.ID]provider.Spec
	Puts        int
	Wait        func(provider.Spec)                             // before each Put, without the lock
	PutFault    func(provider.Spec) (*provider.Observed, error) // nil, nil: it does as it is told
	Addresses   []provider.Address                              // of each load balancer; nil: as Gives has them
	Named       bool                                            // it gives each load balancer a hostname of its own, see Name
	Fails       bool                                            // all of them are in error
	DeleteFault func() error                                    // nil: it is gone
	ListFault   func() error
	Change      func(*provider.Capabilities)
}

// Capabilities are those of a cloud that can do everything.
func (c *Cloud) Capabilities(context.Context) (provider.Capabilities, error) {
	c.Lock()
	defer c.Unlock()
	settings := map[provider.Setting]provider.Support{}
	for _, s := range provider.AllSettings() {
		settings[s] = provider.Able
	}
	for _, s := range provider.Unsaid {
		settings[s] = provider.Support{Missing: "v1 has no words for it"}
	}
	out := provider.Capabilities{Name: "test", Version: "7", Settings: settings,
		Protocols: []provider.Protocol{provider.TCP, provider.UDP}, Families: []provider.IPFamily{provider.IPv4, provider.IPv6}}
	if c.Change != nil {
		c.Change(&out)
	}
	return out, nil
}

// Observed is a load balancer that carries a Spec.
func Observed(id provider.ID, s provider.Spec) provider.Observed {
	var o provider.Observed
	o.Service, o.State, o.Spec = id.Service, provider.Live, s
	for _, f := range s.Families {
		if !f.Address.IsValid() {
			f.Address = Gives(id, f.Family)
		}
		o.Addresses = append(o.Addresses, provider.Address{Family: f.Family, IP: f.Address})
	}
	return o
}

// Gives is the address that a load balancer gets which wants none: hardly two get the same one.
func Gives(id provider.ID, f provider.IPFamily) netip.Addr {
	h := fnv.New32a()
	h.Write([]byte(id.Service))
	sum := h.Sum32()
	if f == provider.IPv4 {
		return netip.AddrFrom4([4]byte{198, 18 + byte(sum>>16&1), byte(sum >> 8), byte(sum)})
	}
	b := netip.MustParseAddr("2001:db8:113::").As16()
	binary.BigEndian.PutUint32(b[12:], sum)
	return netip.AddrFrom16(b)
}

// Name is the hostname that a load balancer gets from a cloud that has no lasting IPs.
func Name(id provider.ID) string { return id.Service + ".example.net" }

// observed is what was made of a Spec, with the addresses that the test wants. The lock is held.
func (c *Cloud) observed(id provider.ID, s provider.Spec) provider.Observed {
	o := Observed(id, s)
	if c.Addresses != nil {
		o.Addresses = c.Addresses
	}
	if c.Named {
		o.Addresses = []provider.Address{{Family: s.Families[0].Family, Hostname: Name(id)}}
	}
	if c.Fails {
		o.State = provider.Failed
	}
	return o
}

// Put makes a load balancer of a Spec.
func (c *Cloud) Put(_ context.Context, id provider.ID, s provider.Spec) (provider.Observed, error) {
	if c.Wait != nil {
		c.Wait(s)
	}
	c.Lock()
	defer c.Unlock()
	c.Puts++
	if c.PutFault != nil {
		if o, err := c.PutFault(s); err != nil || o != nil {
			if o != nil {
				o.Service, o.Spec.Namespace, o.Spec.Name = id.Service, s.Namespace, s.Name
				return *o, err
			}
			return provider.Observed{}, err
		}
	}
	c.All[id] = s
	return c.observed(id, s), nil
}

// Get reads one back.
func (c *Cloud) Get(_ context.Context, id provider.ID) (provider.Observed, error) {
	c.Lock()
	defer c.Unlock()
	if s, there := c.All[id]; there {
		return c.observed(id, s), nil
	}
	return provider.Observed{}, &provider.Error{Code: provider.NotFound, Message: "there is none"}
}

// Delete takes one away.
func (c *Cloud) Delete(ctx context.Context, id provider.ID) (provider.Observed, error) {
	o, err := c.Get(ctx, id)
	if err != nil {
		return o, err
	}
	c.Lock()
	defer c.Unlock()
	if c.DeleteFault != nil {
		if err := c.DeleteFault(); err != nil {
			return o, err
		}
	}
	delete(c.All, id)
	o.State = provider.Deleting
	return o, nil
}

// List reads all of a cluster back.
func (c *Cloud) List(_ context.Context, cluster string) (out []provider.Observed, _ error) {
	c.Lock()
	defer c.Unlock()
	if c.ListFault != nil {
		if err := c.ListFault(); err != nil {
			return nil, err
		}
	}
	for id, s := range c.All {
		if id.Cluster == cluster {
			out = append(out, c.observed(id, s))
		}
	}
	return out, nil
}
