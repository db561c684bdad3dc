package kit

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/external-lb/external-lb/provider"
)

// memory is a cloud that takes several calls for everything, and may have faults.
type memory struct {
	mu     sync.Mutex
	all    map[provider.ID]*entry
	others int // objects of strangers
	next   netip.Addr
	faults struct {
		rewrites, newAddress, sharesAddresses, oneAddress, givesNone, oneCluster, echoes, goesEarly, sweeps, forgets, sticks, clings, anyFlavor, noFlavor, keepsNodePort, anyCertificate, noTLS, freeLists bool

		late bool // it hears requests that were cut when another load balancer is asked for
	}
	late     map[provider.ID]provider.Spec
	cameLate int
	first    map[string]string // where datagrams to an address went first
	asked    int
}

type entry struct {
	address netip.Addr
	spec    provider.Spec // as it is in the cloud
	wanted  provider.Spec
	going   bool
	stuck   bool // by a request that was cut
}

func newCloud() *memory {
	return &memory{all: map[provider.ID]*entry{}, late: map[provider.ID]provider.Spec{}, first: map[string]string{}, others: 3, next: netip.MustParseAddr("203.0.113.100")}
}

func (c *memory) Capabilities(context.Context) (provider.Capabilities, error) {
	settings := map[provider.Setting]provider.Support{}
	for _, s := range provider.AllSettings() {
		settings[s] = provider.Able
	}
	for _, s := range append([]provider.Setting{
		"mode=HTTP", "algorithm=Random", "healthCheck.http", provider.DualStack, provider.Weights,
	}, provider.Unsaid...) {
		settings[s] = provider.Support{Missing: "this cloud does not"}
	}
	if c.faults.givesNone {
		settings[provider.GivenAddress] = provider.Support{Missing: "say which one"}
	}
	return provider.Capabilities{Name: "memory", Settings: settings,
		Protocols: []provider.Protocol{provider.TCP, provider.UDP}, Families: []provider.IPFamily{provider.IPv4}, Flavors: []string{"big"}, Certificates: []string{"shop"}}, nil
}

func (c *memory) key(id provider.ID) provider.ID {
	if c.faults.oneCluster {
		id.Cluster = ""
	}
	return id
}

// Put takes one step of several, as a cloud that is still at work.
func (c *memory) Put(ctx context.Context, id provider.ID, want provider.Spec) (provider.Observed, error) {
	if c.faults.late && c.isLate(ctx, id, want) {
		return provider.Observed{}, ctx.Err()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.put(ctx, id, want)
}

// isLate keeps a request that is cut, and lets in those that were cut before.
func (c *memory) isLate(ctx context.Context, id provider.ID, want provider.Spec) bool {
	cut := false
	select {
	case <-ctx.Done():
		cut = true
	case <-time.After(10 * time.Millisecond):
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if cut {
		c.late[id] = want
		return true
	}
	for late, spec := range c.late {
		if late != id {
			delete(c.late, late)
			_, _ = c.put(context.Background(), late, spec)
			c.cameLate++
		}
	}
	return false
}

// put needs the lock.
func (c *memory) put(ctx context.Context, id provider.ID, want provider.Spec) (provider.Observed, error) {
	e := c.all[c.key(id)]
	address := want.Families[0].Address
	for other, o := range c.all {
		if address.IsValid() && o.address == address && other != c.key(id) && !c.faults.sharesAddresses {
			return provider.Observed{}, &provider.Error{Code: provider.AddressTaken, Message: "another one has it"}
		}
	}
	calls := provider.Calls{Reads: 1}
	if e == nil && want.Flavor != "" && want.Flavor != "big" && !c.faults.anyFlavor {
		return provider.Observed{}, &provider.Error{Code: provider.Unsupported, Field: "flavor", Message: "this cloud has big ones"}
	}
	if name := certificateOf(want); name != "" && name != "shop" && !c.faults.anyCertificate {
		return provider.Observed{}, &provider.Error{Code: provider.Unsupported, Field: "certificates", Message: provider.NoCertificate(name, []string{"shop"})}
	}
	if e == nil {
		if !address.IsValid() {
			if address = c.next; !c.faults.oneAddress {
				c.next = c.next.Next()
			}
		}
		e = &entry{address: address}
		c.all[c.key(id)] = e
		calls.Writes++
	}
	e.wanted = want
	if c.faults.sticks && calls.Writes > 0 { // at the first call
		select {
		case <-ctx.Done():
			e.stuck = true
		case <-time.After(250 * time.Millisecond):
		}
	}
	if e.stuck {
		return provider.Observed{}, &provider.Error{Code: provider.Immutable, Message: "another request is at work"}
	}
	switch done := e.spec.Digest() == want.Digest(); {
	case ctx.Err() != nil || calls.Writes > 0: // the first call was all
	case done && c.faults.rewrites:
		calls.Writes++
	case done:
	case len(e.spec.Families) == 0:
		e.spec.Families = want.Families
		calls.Writes++
	default:
		if c.faults.newAddress {
			e.address, c.next = c.next, c.next.Next()
		}
		affinity := e.spec.AffinitySeconds
		if e.spec = want; c.faults.clings && affinity > 0 {
			e.spec.AffinitySeconds = affinity
		}
		if c.faults.forgets && len(want.Listeners) > 0 && want.Listeners[0].Protocol == provider.UDP {
			e.spec.Listeners = slices.Clone(want.Listeners)
			e.spec.Listeners[0].NodePort++
		}
		if c.faults.noTLS {
			e.spec.Listeners = slices.Clone(want.Listeners)
			e.spec.Listeners[0].Certificate = ""
		}
		if c.faults.noFlavor {
			e.spec.Flavor = ""
		}
		calls.Writes++
	}
	o := c.observed(id, e)
	o.Calls = calls
	return o, nil
}

func (c *memory) observed(id provider.ID, e *entry) provider.Observed {
	o := provider.Observed{Spec: e.spec}
	if c.faults.echoes {
		o.Spec = e.wanted
	}
	o.Spec.Namespace, o.Spec.Name = e.wanted.Namespace, e.wanted.Name
	o.Service, o.State = id.Service, provider.Live
	o.Addresses = []provider.Address{{Family: provider.IPv4, IP: e.address}}
	switch {
	case e.going:
		o.State = provider.Deleting
	case len(e.spec.Listeners) == 0:
		o.State = provider.Pending
	}
	return o
}

func (c *memory) Get(_ context.Context, id provider.ID) (provider.Observed, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.all[c.key(id)]
	if e == nil {
		return provider.Observed{}, &provider.Error{Code: provider.NotFound, Message: "there is none"}
	}
	return c.observed(id, e), nil
}

// Delete takes two calls, too.
func (c *memory) Delete(_ context.Context, id provider.ID) (provider.Observed, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.all[c.key(id)]
	switch {
	case e == nil || e.going && c.faults.goesEarly:
		return provider.Observed{}, &provider.Error{Code: provider.NotFound, Message: "there is none"}
	case e.going:
		delete(c.all, c.key(id))
	}
	if e.going = true; c.faults.sweeps {
		c.others = 0
	}
	return c.observed(id, e), nil
}

func (c *memory) List(_ context.Context, cluster string) (out []provider.Observed, _ error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for id, e := range c.all {
		if id.Cluster == cluster || c.faults.oneCluster {
			o := c.observed(id, e)
			if !c.faults.freeLists {
				o.Calls.Reads = 1
			}
			out = append(out, o)
		}
	}
	return out, nil
}

// dial as a client whom a load balancer sends on.
func (c *memory) dial(ctx context.Context, network, address string) (net.Conn, error) {
	to := c.nodePort(network, address)
	if to == "" {
		return nil, errors.New("nothing listens there")
	}
	node, err := (&net.Dialer{}).DialContext(ctx, network, to)
	if err != nil || !c.secure(address) {
		return node, err
	}
	client, here := net.Pipe()
	go func() { // TLS is terminated
		defer node.Close()
		ended := tls.Server(here, &tls.Config{Certificates: own()})
		defer ended.Close()
		_, _ = io.Copy(ended, node) // either end may go
	}()
	return client, nil
}

// own certificate of the cloud.
var own = sync.OnceValue(func() []tls.Certificate {
	s := httptest.NewTLSServer(nil)
	defer s.Close()
	return s.TLS.Certificates
})

// secure reports whether TLS is terminated at an address.
func (c *memory) secure(address string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, e := range c.all {
		for _, l := range e.spec.Listeners {
			if l.Certificate != "" && netip.AddrPortFrom(e.address, l.Port).String() == address {
				return true
			}
		}
	}
	return false
}

// certificateOf the first listener, if there is any.
func certificateOf(s provider.Spec) string {
	if len(s.Listeners) == 0 {
		return ""
	}
	return s.Listeners[0].Certificate
}

// nodePort that gets what comes to an address, or "".
func (c *memory) nodePort(network, address string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, e := range c.all {
		for _, l := range e.spec.Listeners {
			f := e.spec.Families[0]
			mayCome := slices.ContainsFunc(f.Sources, func(p netip.Prefix) bool { return p.Contains(netip.MustParseAddr("127.0.0.1")) })
			if strings.ToLower(string(l.Protocol)) != network || netip.AddrPortFrom(e.address, l.Port).String() != address || !mayCome || len(f.Members) == 0 {
				continue
			}
			to := netip.AddrPortFrom(f.Members[0].Address, l.NodePort).String()
			if c.faults.keepsNodePort && l.Protocol == provider.UDP {
				if c.first[address] == "" {
					c.first[address] = to
				}
				if c.asked++; c.asked%2 == 0 {
					return c.first[address]
				}
			}
			return to
		}
	}
	return ""
}

func (c *memory) drift(id provider.ID) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.all[c.key(id)]
	e.spec.Listeners = slices.Clone(e.spec.Listeners)
	e.spec.Listeners[0].NodePort++
	return nil
}

func (c *memory) strangers(context.Context) (string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return fmt.Sprint(c.others), nil
}

// laxServer asks for no token, checks nothing, and ignores what it does not know.
func laxServer(t *testing.T) http.Handler {
	c := newCloud()
	mux := http.NewServeMux()
	say := func(w http.ResponseWriter, o any, err error) {
		if err != nil {
			w.WriteHeader(http.StatusNotFound)
			o = err
		}
		if err := json.NewEncoder(w).Encode(o); err != nil {
			t.Log(err)
		}
	}
	one := func(w http.ResponseWriter, r *http.Request) {
		id := provider.ID{Cluster: r.PathValue("cluster"), Service: r.PathValue("service")}
		var spec provider.Spec
		var o provider.Observed
		err := json.NewDecoder(r.Body).Decode(&spec)
		switch {
		case r.Method == http.MethodGet:
			o, err = c.Get(r.Context(), id)
		case r.Method == http.MethodDelete:
			o, err = c.Delete(r.Context(), id)
		case err == nil && len(spec.Families) > 0:
			o, err = c.Put(r.Context(), id, spec)
		default:
			err = &provider.Error{Code: provider.NotFound}
		}
		if o.Namespace, o.Name = o.Spec.Namespace, o.Spec.Name; o.State == provider.Live {
			o.Digest = o.Spec.Digest()
		}
		say(w, o.LoadBalancer, err)
	}
	mux.HandleFunc("/v1/clusters/{cluster}/loadbalancers/{service}", one)
	mux.HandleFunc("GET /v1/capabilities", func(w http.ResponseWriter, r *http.Request) {
		able, err := c.Capabilities(r.Context())
		say(w, able, err)
	})
	mux.HandleFunc("GET /v1/clusters/{cluster}/loadbalancers", func(w http.ResponseWriter, r *http.Request) {
		all, err := c.List(r.Context(), r.PathValue("cluster"))
		slices.SortFunc(all, func(a, b provider.Observed) int { return len(a.Service) - len(b.Service) })
		list := provider.List{}
		for _, o := range all {
			list.LoadBalancers = append(list.LoadBalancers, o.LoadBalancer)
		}
		say(w, list, err)
	})
	return mux
}
