package kit

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"github.com/external-lb/external-lb/provider"
)

func (r *run) capabilities(ctx context.Context) (err error) {
	if r.able, err = r.client.Capabilities(ctx); err != nil {
		return err
	}
	if why := r.able.Unsupported(provider.GivenAddress, provider.TCP); why != "" && !r.Address.IsValid() {
		return fmt.Errorf("it gives no addresses by itself (%s): say one that it gives to who wants it", why)
	}
	return nil
}

func (r *run) token(ctx context.Context) error {
	id := r.id()
	for _, token := range []string{"", "wrong", r.Token + "x"} {
		other, err := provider.NewClient(r.URL, token, r.Roots)
		if err != nil {
			return err
		}
		_, capabilities := other.Capabilities(ctx)
		_, list := other.List(ctx, id.Cluster)
		_, get := other.Get(ctx, id)
		_, put := other.Put(ctx, id, r.spec())
		_, del := other.Delete(ctx, id)
		for what, err := range map[string]error{"capabilities": capabilities, "list": list, "get": get, "put": put, "delete": del} {
			if !provider.Is(err, provider.Unauthorized) {
				return fmt.Errorf("%s with the token %.8q…: want Unauthorized, got %w", what, token, orNothing(err))
			}
		}
	}
	return nil
}

// orNothing is for errors that should be there.
func orNothing(err error) error {
	if err == nil {
		return errors.New("no error")
	}
	return err
}

// spoil are requests that no provider may take.
var spoil = map[string]func(*provider.Spec){
	"no family":             func(s *provider.Spec) { s.Families = nil },
	"a family twice":        func(s *provider.Spec) { s.Families = append(s.Families, s.Families[0]) },
	"no listener":           func(s *provider.Spec) { s.Listeners = nil },
	"a listener twice":      func(s *provider.Spec) { s.Listeners = append(s.Listeners, s.Listeners[0]) },
	"port 0":                func(s *provider.Spec) { s.Listeners[0].Port = 0 },
	"nodePort 0":            func(s *provider.Spec) { s.Listeners[0].NodePort = 0 },
	"a kubelet's port":      func(s *provider.Spec) { s.Listeners[0].NodePort = 10250 },
	"an unknown protocol":   func(s *provider.Spec) { s.Listeners[0].Protocol = "GRE" },
	"an unknown algorithm":  func(s *provider.Spec) { s.Listeners[0].Settings.Algorithm = "Fastest" },
	"a negative timeout":    func(s *provider.Spec) { s.Listeners[0].Settings.ConnectTimeoutMilliseconds = -1 },
	"a missing algorithm":   func(s *provider.Spec) { s.Listeners[0].Settings.Algorithm = "" },
	"weight 0":              func(s *provider.Spec) { s.Families[0].Members[0].Weight = 0 },
	"a member twice":        func(s *provider.Spec) { f := &s.Families[0]; f.Members = append(f.Members, f.Members[0]) },
	"a member of no family": func(s *provider.Spec) { s.Families[0].Members[0].Address = netip.MustParseAddr("::ffff:192.0.2.1") },
	"a link-local member":   func(s *provider.Spec) { s.Families[0].Members[0].Address = netip.MustParseAddr("169.254.169.254") },
	"bits beside a range":   func(s *provider.Spec) { s.Families[0].Sources = []netip.Prefix{netip.MustParsePrefix("192.0.2.1/24")} },
	"a range beside everybody": func(s *provider.Spec) {
		f := &s.Families[0]
		f.Sources = append(f.Sources, netip.PrefixFrom(f.Members[0].Address, f.Members[0].Address.BitLen()))
	},
	"a flavor of two words": func(s *provider.Spec) { s.Flavor = "very big" },
	"a certificate's ID":    func(s *provider.Spec) { s.Listeners[0].Certificate = "123_CN/shop" },
	"a certificate of UDP":  func(s *provider.Spec) { s.Listeners[0].Protocol, s.Listeners[0].Certificate = provider.UDP, "shop" },
	"a negative affinity":   func(s *provider.Spec) { s.AffinitySeconds = -1 },
	"a name with a newline": func(s *provider.Spec) { s.Name = "web\nGET /" },
	"a long name":           func(s *provider.Spec) { s.Name = strings.Repeat("a", 64) },
	"too many listeners": func(s *provider.Spec) {
		for port := range uint16(provider.MaxListeners + 1) {
			l := s.Listeners[0]
			l.Port = 1 + port
			s.Listeners = append(s.Listeners, l)
		}
	},
}

func (r *run) bounds(ctx context.Context) error {
	id := r.id()
	var errs []error
	want := func(what string, code provider.Code, err error) {
		if !provider.Is(err, code) {
			errs = append(errs, fmt.Errorf("%s: want %s, got %w", what, code, orNothing(err)))
		}
	}
	for what, change := range spoil {
		s := r.spec()
		change(&s)
		_, err := r.client.Put(ctx, id, s)
		want(what, provider.Invalid, err)
	}
	good, err := json.Marshal(r.spec())
	if err != nil {
		return err
	}
	path := "/v1/clusters/" + id.Cluster + "/loadbalancers/"
	raw := func(method, path string, body []byte) error { return r.client.Do(ctx, method, path, body, &struct{}{}) }
	want("no JSON", provider.Invalid, raw(http.MethodPut, path+id.Service, []byte("{")))
	want("a field that nobody knows", provider.Invalid, raw(http.MethodPut, path+id.Service, append([]byte(`{"new": 1, `), good[1:]...)))
	want("two bodies", provider.Invalid, raw(http.MethodPut, path+id.Service, slices.Concat(good, good)))
	want("a large body", provider.TooLarge, raw(http.MethodPut, path+id.Service, bytes.Repeat([]byte(" "), provider.MaxBody+1)))
	want("a UID that is none", provider.Invalid, raw(http.MethodPut, path+"A_B", good))
	want("a path that nobody knows", provider.Invalid, raw(http.MethodGet, "/v1/else", nil))
	want("a method that nobody knows", provider.Invalid, raw(http.MethodPost, path+id.Service, good))
	_, err = r.client.Get(ctx, id)
	want("what was refused", provider.NotFound, err)
	return errors.Join(errs...)
}

func (r *run) create(ctx context.Context) error {
	for _, p := range r.able.Protocols {
		id, s := r.id(), r.spec()
		s.Listeners[0].Protocol, s.Listeners[0].Settings = p, r.able.Prune(p, full)
		b, err := r.settle(ctx, id, s)
		if err != nil {
			return fmt.Errorf("%s: %w", p, err)
		}
		got, err := r.client.Get(ctx, id)
		if err != nil || !got.Proves(s) {
			return fmt.Errorf("%s: asked after that, %s", p, said(got, err))
		}
		if got.Namespace != s.Namespace || got.Name != s.Name {
			return fmt.Errorf("%s: it is said to be %s/%s, and is %s/%s", p, got.Namespace, got.Name, s.Namespace, s.Name)
		}
		all, err := r.client.List(ctx, id.Cluster)
		listed := func(b provider.LoadBalancer) bool { return b.Service == id.Service && b.Proves(s) }
		if err != nil || !slices.ContainsFunc(all, listed) {
			return fmt.Errorf("%s: it is not in the list, or other there: %v, %w", p, all, orNothing(err))
		}
		if err := r.listCost(all, b); err != nil {
			return err
		}
		if err := r.answers(ctx, b, s, 0); err != nil {
			return err
		}
		if err := r.gone(ctx, id); err != nil { // the next one may have to have its address
			return err
		}
	}
	return nil
}

// listCost is told by a list where an answer to Put tells its own. Not every cloud is read by calls.
func (r *run) listCost(all []provider.LoadBalancer, put provider.LoadBalancer) error {
	var reads int32
	for _, b := range all {
		reads += b.Calls.Reads
	}
	r.calls.Reads += reads
	if put.Calls.Reads > 0 && reads == 0 {
		return fmt.Errorf("the list says that it took no call, and the same load balancer was read by %d before", put.Calls.Reads)
	}
	return nil
}

func (r *run) repeat(ctx context.Context) error {
	id, s := r.id(), r.spec()
	s = r.listener(s, 1)
	before, err := r.settle(ctx, id, s)
	if err != nil {
		return err
	}
	slices.Reverse(s.Listeners) // the order does not count
	b, err := r.client.Put(ctx, id, s)
	switch {
	case err != nil:
		return err
	case !b.Proves(s):
		return errors.New(said(b, nil))
	case b.Calls.Writes > 0:
		return fmt.Errorf("it made %d writes", b.Calls.Writes)
	case !slices.Equal(b.Addresses, before.Addresses):
		return fmt.Errorf("the address was %v and is %v", before.Addresses, b.Addresses)
	}
	return nil
}

func (r *run) change(ctx context.Context) error {
	id, s := r.id(), r.spec()
	first, err := r.settle(ctx, id, s)
	if err != nil {
		return err
	}
	step := func(what string, node int) error {
		b, err := r.settle(ctx, id, s)
		if err == nil && !slices.Equal(b.Addresses, first.Addresses) {
			err = fmt.Errorf("the address was %v and is %v", first.Addresses, b.Addresses)
		}
		if err == nil && node >= 0 {
			err = r.answers(ctx, b, s, node)
		}
		if err == nil && node < 0 {
			err = r.silent(ctx, b, s)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		return nil
	}
	old := s
	s = r.listener(s, 0)
	if err := step("a listener more", 0); err != nil {
		return err
	}
	for i := range s.Listeners {
		s.Listeners[i].NodePort = r.nodePort(1)
	}
	if err := step("another nodePort", 1); err != nil {
		return err
	}
	s.Listeners = s.Listeners[1:]
	if err := step("a listener less", 1); err != nil {
		return err
	}
	if err := r.silent(ctx, first, old); err != nil {
		return fmt.Errorf("the listener that is gone: %w", err)
	}
	s.Families = slices.Clone(s.Families)
	members := s.Families[0].Members
	s.Families[0].Members = nil
	if err := step("no member", -1); err != nil {
		return err
	}
	s.Families[0].Members = members
	return step("members again", 1)
}

// datagrams: many clouds carry them by something else than connections.
func (r *run) datagrams(ctx context.Context) error {
	for _, p := range []provider.Protocol{provider.UDP, provider.TCP} {
		if !slices.Contains(r.able.Protocols, p) {
			return skipped("it does not carry " + string(p))
		}
	}
	if !r.Member.IsValid() {
		return skipped("say a member: only traffic shows who gets datagrams")
	}
	id, s := r.id(), r.spec()
	connections := s.Listeners
	udp := connections[0]
	udp.Protocol, udp.Settings = provider.UDP, r.able.Prune(provider.UDP, full)
	for _, step := range []struct {
		what string
		node int // that answers datagrams; -1: none
	}{{"both on one port", 0}, {"another nodePort for datagrams", 1}, {"no more datagrams", -1}} {
		if s.Listeners = connections; step.node >= 0 {
			udp.NodePort = r.nodePort(step.node)
			s.Listeners = append(slices.Clone(connections), udp)
		}
		b, err := r.settle(ctx, id, s)
		if err == nil {
			err = r.answers(ctx, b, provider.Spec{Listeners: connections}, 0)
		}
		datagrams := provider.Spec{Listeners: []provider.Listener{udp}}
		if err == nil && step.node >= 0 {
			err = r.answers(ctx, b, datagrams, step.node)
		}
		if err == nil && step.node < 0 {
			err = r.silent(ctx, b, datagrams)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", step.what, err)
		}
	}
	return nil
}

func (r *run) sources(ctx context.Context) error {
	if why := r.able.Unsupported(provider.SourceRanges, provider.TCP); why != "" {
		return skipped("it cannot: " + why)
	}
	id, s := r.id(), r.spec()
	open := s.Families[0].Sources
	closed := netip.MustParsePrefix("198.51.100.0/24")
	if s.Families[0].Family == provider.IPv6 {
		closed = netip.MustParsePrefix("2001:db8:1::/48")
	}
	for _, sources := range [][]netip.Prefix{{closed}, open, nil} {
		s.Families = slices.Clone(s.Families)
		s.Families[0].Sources = sources
		b, err := r.settle(ctx, id, s)
		if err == nil && len(sources) > 0 && sources[0].Bits() == 0 {
			err = r.answers(ctx, b, s, 0)
		} else if err == nil {
			err = r.silent(ctx, b, s)
		}
		if err != nil {
			return fmt.Errorf("ranges %v: %w", sources, err)
		}
	}
	return nil
}

func (r *run) affinity(ctx context.Context) error {
	id, s := r.id(), r.spec()
	if why := r.able.Unsupported(provider.SessionAffinity, s.Listeners[0].Protocol); why != "" {
		return skipped("it cannot: " + why)
	}
	for _, s.AffinitySeconds = range []int32{3600, 60, 0} { // some clouds take no more than an hour
		if err := r.carries(ctx, id, s); err != nil {
			return fmt.Errorf("for %d seconds: %w", s.AffinitySeconds, err)
		}
	}
	return nil
}

// unknownName is one of what no provider should offer.
const unknownName = "no-such-thing"

func (r *run) flavor(ctx context.Context) error {
	if len(r.able.Flavors) == 0 {
		return skipped("it offers none")
	}
	id, s := r.id(), r.spec()
	s.Flavor = unknownName
	_, err := r.client.Put(ctx, id, s)
	if e, ok := errors.AsType[*provider.Error](err); !ok || e.Code != provider.Unsupported || e.Field != "flavor" {
		return fmt.Errorf("%s: want Unsupported with the field flavor, got %w", s.Flavor, orNothing(err))
	}
	if _, err := r.client.Get(ctx, id); !provider.Is(err, provider.NotFound) {
		return fmt.Errorf("after %s was refused: want NotFound, got %w", s.Flavor, orNothing(err))
	}
	s.Flavor = r.able.Flavors[0]
	if err := r.carries(ctx, id, s); err != nil {
		return fmt.Errorf("%s: %w", s.Flavor, err)
	}
	return nil
}

func (r *run) certificate(ctx context.Context) error {
	if len(r.able.Certificates) == 0 {
		return skipped("it offers none")
	}
	id, s := r.id(), r.spec()
	l := &s.Listeners[0]
	l.Protocol, l.Certificate = provider.TCP, unknownName
	_, err := r.client.Put(ctx, id, s)
	if e, ok := errors.AsType[*provider.Error](err); !ok || e.Code != provider.Unsupported || e.Field != string(provider.Certificates) {
		return fmt.Errorf("%s: want Unsupported with the field certificates, got %w", l.Certificate, orNothing(err))
	}
	if _, err := r.client.Get(ctx, id); !provider.Is(err, provider.NotFound) {
		return fmt.Errorf("after %s was refused: want NotFound, got %w", l.Certificate, orNothing(err))
	}
	for _, l.Certificate = range []string{r.able.Certificates[0], "", r.able.Certificates[0]} {
		if err := r.carries(ctx, id, s); err != nil {
			return fmt.Errorf("%q: %w", l.Certificate, err)
		}
	}
	return nil
}
