// Package alibaba is the provider for Alibaba Cloud's load balancers: one NLB or classic one (CLB)
// for each Service, with a listener and a server group for each port.
//
// Each request reads all back, compares it with what is wanted, and makes the calls that can be
// made now: see steps. What the two products call by other names is in nlb.go and clb.go.
package alibaba

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/external-lb/external-lb/provider"
)

// Type is the product.
type Type string

// The products.
const (
	NLB Type = "nlb" // layer 4; an address for each zone, behind a name
	CLB Type = "clb" // classic SLB; one address
)

// Options say which load balancers are made.
type Options struct {
	Type    Type
	VPC     string // by ID
	Zones   []Zone // of an NLB: two or more. Of a CLB that is private: one, for its VSwitch
	Private bool   // reached from the VPC alone
	Spec    string // of a CLB, as slb.s1.small; "": it is paid by use
	// Flavors are the Specs of a CLB that a Service may ask for, by their names.
	Flavors  map[string]string
	Resource string // group of resources, by ID
	// Certificates are the IDs of those that a Service may ask for, by their names.
	Certificates map[string]string
}

// Zone has a VSwitch in it.
type Zone struct{ ID, VSwitch string }

// Cloud is an account in one region.
type Cloud struct {
	API *API
	Options

	servers servers

	mu    sync.Mutex
	begun map[provider.ID]begun
}

// The tags of all that we make.
const (
	clusterTag = "external-lb:cluster"
	serviceTag = "external-lb:service"
	nameTag    = "external-lb:name"
	flavorTag  = "external-lb:flavor" // of load balancers for which one was asked

	nameOf = "/" // before the name: a value may not begin with aliyun, which a namespace may
)

// product is what differs between the two.
type product interface {
	capabilities() provider.Capabilities
	// possible says which values it cannot hold.
	possible(provider.Spec) error
	// cannot says which listeners it cannot make as they are wanted.
	cannot(provider.Spec) []provider.Refusal
	// read all that has the tags, with all that is below it.
	read(ctx context.Context, s *session, tags params) ([]*tree, error)

	create(id provider.ID, want provider.Spec) call
	remove(balancer string) call
	switchOn(balancer string) *call
	groupFields(provider.Listener) params
	createGroup(t *tree, l provider.Listener) call
	updateGroup(g *group, l provider.Listener) call
	removeGroup(id string) call
	// members makes those of a group the ones that are wanted, in the order of the calls.
	members(g *group, want []server) []call
	// listenerFields are those of a listener; at is that which is there, if any.
	listenerFields(t *tree, at *listener, want provider.Spec, l provider.Listener, group string) params
	createListener(t *tree, l provider.Listener, fields params) call
	updateListener(t *tree, at *listener, fields params) call
	removeListener(balancer string, at *listener) call
	startListener(t *tree, at *listener) call
	// settings that a listener and its group have, or false where they are none of ours. l is the rest of it.
	settings(at *listener, g *group, l provider.Listener) (_ provider.Settings, affinity int32, ok bool)
	// oneByOne: a group is at work after each call.
	oneByOne() bool
}

func (c *Cloud) product() product {
	if c.Type == CLB {
		return clb{c.Options}
	}
	return nlb{c.Options}
}

// session is one request, and counts its calls.
type session struct {
	*Cloud
	product
	api           *API
	reads, writes atomic.Int32
}

func (c *Cloud) session() *session { return &session{Cloud: c, product: c.product(), api: c.API} }

func (s *session) count(read bool) {
	if read {
		s.reads.Add(1)
	} else {
		s.writes.Add(1)
	}
}

func (s *session) calls() provider.Calls {
	return provider.Calls{Reads: s.reads.Load(), Writes: s.writes.Load()}
}

// Capabilities are those of the product.
func (c *Cloud) Capabilities(context.Context) (provider.Capabilities, error) {
	return c.product().capabilities(), nil
}

// Put makes all the calls towards a Spec that can be made now.
func (c *Cloud) Put(ctx context.Context, id provider.ID, want provider.Spec) (provider.Observed, error) {
	s := c.session()
	impossible := s.cannot(want)
	if err := s.possible(want.Without(impossible)); err != nil {
		return provider.Observed{}, err
	}
	t, err := s.one(ctx, id)
	if err != nil {
		return provider.Observed{}, err
	}
	field := provider.SessionAffinity
	if len(impossible) == 0 {
		field = provider.Certificates
	}
	impossible = append(impossible, s.unoffered(t, want.Without(impossible))...)
	if len(impossible) == len(want.Listeners) {
		return provider.Observed{}, &provider.Error{Code: impossible[0].Reason, Field: string(field), Message: impossible[0].Message}
	}
	want = want.Without(impossible)
	if a := want.Families[0].Address; a.IsValid() && t.lb != nil && a != t.lb.address.IP {
		return provider.Observed{}, &provider.Error{Code: provider.Unsupported, Field: string(provider.WantedAddress),
			Message: fmt.Sprintf("it has %v, and the cloud does not change that", t.lb.address.IP)}
	}
	if _, offered := s.Flavors[want.Flavor]; t.lb == nil && want.Flavor != "" && !offered {
		return provider.Observed{}, provider.NoFlavor(want.Flavor, slices.Sorted(maps.Keys(s.Flavors)))
	}
	nodes, missing, err := s.nodes(ctx, want.Families[0].Members)
	if err != nil {
		return provider.Observed{}, err
	}
	if t.lb != nil && s.elsewhere(t.lb) != "" { // what it carries is kept right, and it gets nothing new
		want.Listeners = slices.DeleteFunc(slices.Clone(want.Listeners), func(l provider.Listener) bool { return t.at(l) == nil })
	}
	var steps []step
	var waiting bool
	if t.lb != nil || len(missing) == 0 || len(nodes) > 0 { // else nobody can answer at what would be paid for
		steps, waiting = s.steps(t, want, nodes)
	}
	refused, err := s.walk(ctx, steps)
	if err != nil && !provider.Is(err, provider.Immutable) {
		if t.lb == nil && never(err) {
			s.listed(id)
		}
		return provider.Observed{}, err
	}
	if t.lb != nil && t.lb.state == provider.Live { // else a twin may be what serves
		if stays := s.away(ctx, t.others); err == nil {
			err = stays
		}
	}
	o := t.observed(s)
	o.Spec.Namespace, o.Spec.Name = want.Namespace, want.Name
	o.Refused = append(impossible, refused...)
	o.Spec.Listeners = withoutBare(o.Spec.Listeners, o.Refused)
	held, _ := errors.AsType[*provider.Error](err)
	works := waiting || int(s.writes.Load()) > len(refused)
	switch {
	case o.State == provider.Failed && (t.lb.state == provider.Failed || !works):
	case held != nil:
		o.State, o.Reason, o.Message, o.RetryAfterSeconds = provider.Pending, held.Code, held.Message, held.RetryAfterSeconds
	case works:
		o.State, o.RetryAfterSeconds = provider.Pending, 0
	case len(missing) > 0 || len(refused) > 0 && differ(o.Spec, want.Without(refused)): // a port is there, and not as it is wanted
		o.State, o.RetryAfterSeconds = provider.Pending, 10
		o.Reason, o.Message = why(refused, missing)
	case o.Spec.Flavor != want.Flavor:
		o.RetryAfterSeconds = 30
		o.Reason, o.Message = provider.OtherFlavor(o.Spec.Flavor, refused)
	case len(refused) > 0:
		o.RetryAfterSeconds = 30
	}
	o.Calls = s.calls()
	return o, nil
}

// why something is not as it is wanted.
func why(refused []provider.Refusal, missing []netip.Addr) (provider.Code, string) {
	code, words := provider.Unavailable, []string{}
	if len(refused) > 0 {
		code, words = refused[0].Reason, append(words, fmt.Sprintf("port %d: %s", refused[0].Port, refused[0].Message))
	}
	if len(missing) > 0 {
		words = append(words, fmt.Sprintf("no instance of the VPC has the address %s of a node", join(missing)))
	}
	return code, strings.Join(words, "; ")
}

// differ reports whether two Specs do in more than the flavor, which does not change.
func differ(is, want provider.Spec) bool {
	want.Flavor = is.Flavor
	return is.Digest() != want.Digest()
}

// never reports whether a call that failed has surely done nothing.
func never(err error) bool {
	e, told := errors.AsType[*provider.Error](err)
	return told && !again(err) && (e.Code != provider.Internal || denied(e))
}

// again reports whether a call that failed may have done something, or may do so if it is made once more.
func again(err error) bool {
	return provider.Is(err, provider.Immutable) || provider.Is(err, provider.Throttled) || provider.Is(err, provider.Unavailable)
}

// walk makes calls. Where one has to wait, so do all after it. One that is refused for a port costs that
// port; of others that are refused the first one is returned, and costs nothing else.
func (s *session) walk(ctx context.Context, steps []step) (refused []provider.Refusal, first error) {
	for _, step := range steps {
		if slices.ContainsFunc(refused, func(r provider.Refusal) bool { return step.of(r) }) {
			continue
		}
		err := s.do(ctx, step.call, nil)
		e, told := errors.AsType[*provider.Error](err)
		switch {
		case err == nil:
		case !told || again(err) || denied(e):
			return refused, err
		case step.listener != nil:
			refused = append(refused, provider.Refusal{Port: step.listener.Port, Protocol: step.listener.Protocol, Reason: e.Code, Message: e.Message})
		case first == nil:
			first = err
		}
	}
	return refused, first
}

// away takes load balancers away, each whatever becomes of the others, and returns the first error. One that
// stays, as it is protected, is to send to no nodePort any more: those are somebody else's soon.
func (s *session) away(ctx context.Context, all []balancer) (first error) {
	for _, b := range all {
		if b.state == provider.Deleting {
			continue
		}
		err := s.do(ctx, s.remove(b.id), nil)
		if err != nil && !again(err) && b.state == provider.Live {
			for i := range b.listeners {
				_ = s.do(ctx, s.removeListener(b.id, &b.listeners[i]), nil) // why it stays is what is told
			}
		}
		if first == nil {
			first = err
		}
	}
	return first
}

// Get reads one back.
func (c *Cloud) Get(ctx context.Context, id provider.ID) (provider.Observed, error) {
	s := c.session()
	t, err := s.one(ctx, id)
	if err != nil {
		return provider.Observed{}, err
	}
	if t.empty() {
		return provider.Observed{}, notFound
	}
	o := t.observed(s)
	o.Calls = s.calls()
	return o, nil
}

// List reads all of a cluster back.
func (c *Cloud) List(ctx context.Context, cluster string) ([]provider.Observed, error) {
	s := c.session()
	trees, err := s.read(ctx, s, params{clusterTag: cluster})
	if err != nil {
		return nil, err
	}
	out := make([]provider.Observed, 0, len(trees))
	for _, t := range trees {
		out = append(out, t.observed(s))
	}
	if len(out) > 0 { // they were read together
		out[0].Calls = s.calls()
	}
	return out, nil
}

// Delete takes all away that has the tags: load balancers first, whose listeners go with them.
func (c *Cloud) Delete(ctx context.Context, id provider.ID) (provider.Observed, error) {
	s := c.session()
	t, err := s.one(ctx, id)
	if err != nil {
		return provider.Observed{}, err
	}
	switch {
	case t.empty() && c.asked(id):
		return provider.Observed{}, &provider.Error{Code: provider.Immutable, RetryAfterSeconds: 5,
			Message: "a load balancer was asked for a moment ago, and the cloud may list it yet"}
	case t.empty():
		return provider.Observed{}, notFound
	}
	o := t.observed(s)
	if all := t.balancers(); len(all) > 0 {
		err = s.away(ctx, all)
	} else {
		_, err = s.walk(ctx, s.leftovers(t))
	}
	held, _ := errors.AsType[*provider.Error](err)
	if held != nil && held.Code != provider.Immutable {
		return provider.Observed{}, err
	}
	o.State, o.RetryAfterSeconds, o.Reason, o.Message = provider.Deleting, 0, "", ""
	if held != nil {
		o.Message = held.Message
	}
	o.Calls = s.calls()
	return o, nil
}

var notFound = &provider.Error{Code: provider.NotFound, Message: "nothing has its tags"}

// one tree of an ID, which may be empty.
func (s *session) one(ctx context.Context, id provider.ID) (*tree, error) {
	trees, err := s.read(ctx, s, params{clusterTag: id.Cluster, serviceTag: id.Service})
	if err != nil {
		return nil, err
	}
	if len(trees) == 0 {
		return &tree{id: id}, nil
	}
	if trees[0].lb != nil {
		s.listed(id)
	}
	return trees[0], nil
}

func join(all []netip.Addr) string {
	var out []string
	for _, a := range all[:min(len(all), 3)] {
		out = append(out, a.String())
	}
	return strings.Join(out, ", ")
}
