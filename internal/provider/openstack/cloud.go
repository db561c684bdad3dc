// Package openstack is the provider for Octavia, OpenStack's load balancers: one of them for
// each Service, with a listener and a pool for each port.
//
// Octavia takes one change of a load balancer at a time, and is at work on it for seconds. So
// each request reads all back and makes at most one change: see next.
package openstack

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack/loadbalancer/v2/loadbalancers"
	"golang.org/x/sync/errgroup"

	"github.com/external-lb/external-lb/internal/provider/caller"
	"github.com/external-lb/external-lb/provider"
)

// Options say where load balancers are made.
type Options struct {
	Subnet, Network string // of their addresses: one of the two, by ID
	MemberSubnet    string // through which they reach nodes, by ID; "": as Octavia reaches them from the addresses
	Flavor          string // by ID; "": Octavia's own
	// Flavors are the IDs of those that a Service may ask for, by their names.
	Flavors map[string]string
}

// Cloud is one project of an OpenStack.
type Cloud struct {
	API *gophercloud.ServiceClient // of the load-balancer service
	Options

	mends mends
}

// The tags of a load balancer.
const (
	clusterTag = "external-lb:cluster="
	serviceTag = "external-lb:service="
	nameTag    = "external-lb:name="
	flavorTag  = "external-lb:flavor=" // where one was asked for
)

// Capabilities are those of Octavia's own driver, amphora.
func (c *Cloud) Capabilities(context.Context) (provider.Capabilities, error) {
	settings := map[provider.Setting]provider.Support{}
	for _, s := range provider.AllSettings() {
		settings[s] = provider.Able
	}
	no := func(why string, of ...provider.Setting) {
		for _, s := range of {
			settings[s] = provider.Support{Missing: why}
		}
	}
	no("Octavia does not have it", "algorithm=Random", "algorithm=DestinationHash", "algorithm=ShortestExpectedDelay", "algorithm=NeverQueue",
		"proxyProtocol.accept", "maxConnectionsPerNode", "maxConnectionsPerClient", "retries")
	no("this provider makes listeners of TCP and UDP", "mode=HTTP")
	no("v1 of the contract has no words for it", provider.Unsaid...)
	const hash = "by a hash of the client's address: a client stays for as long as the nodes are the same, whatever the Service's timeout"
	settings[provider.SessionAffinity] = provider.Support{Note: hash}
	for _, s := range []provider.Setting{"algorithm=RoundRobin", "algorithm=LeastConnections"} {
		settings[s] = provider.Support{Affinity: "with sessionAffinity, a hash of the client's address chooses the node"}
	}
	no("this provider makes one address", provider.DualStack)
	no("this provider offers no certificates", provider.Certificates)
	for _, s := range []provider.Setting{"healthCheck.interval", "healthCheck.timeout"} {
		settings[s] = provider.Support{Note: "in whole seconds; the timeout is at most the interval"}
	}
	for _, s := range []provider.Setting{"healthCheck.rise", "healthCheck.fall"} {
		settings[s] = provider.Support{Note: "10 at most"}
	}
	settings["maxConnections"] = provider.Support{Note: "above it, a connection waits until another one ends; without it, that is so above 50,000, or what your Octavia has as default_connection_limit"}
	noUDP := func(why string, of ...provider.Setting) {
		for _, s := range of {
			support := settings[s]
			support.UDP = why
			settings[s] = support
		}
	}
	noUDP("flows of UDP end as Octavia's machines like", "timeouts.connect", "timeouts.idle")
	noUDP("PROXY headers are of TCP", "proxyProtocol.send=V1", "proxyProtocol.send=V2")
	noUDP("Octavia limits connections of TCP", "maxConnections")
	noUDP("nothing accepts TCP at a port of UDP: health is asked by HTTP", "healthCheck.type=TCP")
	noUDP("one good check is enough", "healthCheck.rise")
	settings[provider.SourceRanges] = provider.Support{Note: "those of nobody become 255.255.255.255/32"}
	return provider.Capabilities{Name: "openstack", Version: "1", Settings: settings, KeepsConnections: true, MaxListeners: maxListeners, Flavors: slices.Sorted(maps.Keys(c.Flavors)),
		Protocols: []provider.Protocol{provider.TCP, provider.UDP}, Families: []provider.IPFamily{provider.IPv4}}, nil
}

// Put makes the next change, if Octavia takes one.
func (c *Cloud) Put(ctx context.Context, id provider.ID, want provider.Spec) (provider.Observed, error) {
	if err := possible(want); err != nil {
		return provider.Observed{}, err
	}
	s := &session{Cloud: c}
	t, err := s.read(ctx, id)
	if _, offered := c.Flavors[want.Flavor]; provider.Is(err, provider.NotFound) && want.Flavor != "" && !offered {
		return provider.Observed{}, provider.NoFlavor(want.Flavor, slices.Sorted(maps.Keys(c.Flavors)))
	}
	if provider.Is(err, provider.NotFound) {
		err = s.create(ctx, id, want)
		o := provider.Observed{Spec: provider.Spec{Namespace: want.Namespace, Name: want.Name}}
		o.Service, o.State, o.RetryAfterSeconds, o.Calls = id.Service, provider.Pending, 1, s.calls
		return o, err
	}
	if err != nil {
		return provider.Observed{}, err
	}
	if a := want.Families[0].Address; a.IsValid() && a.String() != t.lb.VipAddress {
		return provider.Observed{}, &provider.Error{Code: provider.Unsupported, Field: string(provider.WantedAddress),
			Message: "it has " + t.lb.VipAddress + ", and Octavia does not change that"}
	}
	o := t.observed(id)
	s.finishing = c.mends.finishing(t)
	if t.lb.ProvisioningStatus == active {
		changed, err := s.next(ctx, t, want)
		if err != nil {
			return provider.Observed{}, said(err)
		}
		if changed || s.finishing {
			o.State, o.RetryAfterSeconds = provider.Pending, 1
		} else if err := s.rest(t, want, &o); err != nil {
			return provider.Observed{}, err
		}
	}
	o.Calls = s.calls
	return o, nil
}

// rest says what is not as it is wanted where there is no change to make.
func (s *session) rest(t *tree, want provider.Spec, o *provider.Observed) error {
	if len(s.refused) > 0 && len(s.refused) == len(want.Listeners) {
		return &provider.Error{Code: s.refused[0].Reason, Message: s.refused[0].Message}
	}
	o.Refused = append(s.refused, t.inError(want.Without(s.refused))...)
	o.Spec.Listeners = slices.DeleteFunc(o.Spec.Listeners, func(l provider.Listener) bool { // what does not carry is not of the digest
		return l.NodePort == 0 && l.AmongRefused(o.Refused)
	})
	there := want.Without(o.Refused)
	there.Flavor = o.Spec.Flavor
	switch {
	case len(s.refused) > 0 && o.Spec.Digest() != there.Digest(): // a port is there, and not as it is wanted
		r := s.refused[0]
		o.State, o.Reason, o.Message = provider.Pending, r.Reason, fmt.Sprintf("port %d: %s", r.Port, r.Message)
	case o.Spec.Flavor != want.Flavor:
		o.Reason, o.Message = provider.OtherFlavor(o.Spec.Flavor, o.Refused)
	}
	if len(o.Refused) > 0 || o.Spec.Flavor != want.Flavor {
		o.RetryAfterSeconds = int32(mendInterval / time.Second)
	}
	return nil
}

// Get reads one back.
func (c *Cloud) Get(ctx context.Context, id provider.ID) (provider.Observed, error) {
	s := &session{Cloud: c}
	t, err := s.read(ctx, id)
	if err != nil {
		return provider.Observed{}, err
	}
	o := t.observed(id)
	o.Calls = s.calls
	return o, nil
}

// List reads all of a cluster back.
func (c *Cloud) List(ctx context.Context, cluster string) ([]provider.Observed, error) {
	s := &session{Cloud: c}
	all, err := s.tagged(ctx, clusterTag+cluster)
	if err != nil {
		return nil, err
	}
	seen := map[string]bool{}
	all = slices.DeleteFunc(all, func(b loadbalancers.LoadBalancer) bool {
		service := tagOf(b.Tags, serviceTag)
		again := service == "" || seen[service] // of two with one tag the first counts, and Put removes the other
		seen[service] = true
		return again
	})
	out := make([]provider.Observed, len(all))
	side, ctx := errgroup.WithContext(ctx)
	side.SetLimit(reads)
	for i := range all {
		side.Go(func() error {
			one := &session{Cloud: c}
			t, err := one.below(ctx, all[i])
			if err != nil && away(err) {
				return err
			}
			if err != nil {
				t = &tree{lb: all[i]}
			}
			out[i] = t.observed(provider.ID{Cluster: cluster, Service: tagOf(all[i].Tags, serviceTag)})
			out[i].Calls = one.calls
			if e, _ := errors.AsType[*provider.Error](err); e != nil && out[i].State == provider.Pending {
				out[i].Reason, out[i].Message = e.Code, e.Message
			}
			return nil
		})
	}
	if err := side.Wait(); err != nil {
		return nil, err
	}
	if len(out) > 0 {
		out[0].Calls.Reads += s.calls.Reads
	}
	return out, nil
}

// away reports whether Octavia answers nothing now. Other faults are of what was asked for: it went while it was read,
// or cannot be read, and costs itself alone.
func away(err error) bool {
	e, told := errors.AsType[*provider.Error](err)
	return !told || e.Code == provider.Throttled || e.Code == provider.Unavailable && e.RetryAfterSeconds == 0
}

// reads at a time, where all load balancers are read; and how much one Service may cost.
const reads, maxListeners = 16, 32

// Delete asks Octavia to remove all that is below a load balancer, too.
func (c *Cloud) Delete(ctx context.Context, id provider.ID) (provider.Observed, error) {
	s := &session{Cloud: c}
	all, err := s.tagged(ctx, clusterTag+id.Cluster, serviceTag+id.Service)
	if err != nil {
		return provider.Observed{}, err
	}
	if len(all) == 0 {
		return provider.Observed{}, notFound
	}
	for i := range all {
		if strings.HasPrefix(all[i].ProvisioningStatus, pending) {
			continue
		}
		s.calls.Writes++
		if err := loadbalancers.Delete(ctx, c.API, all[i].ID, loadbalancers.DeleteOpts{Cascade: true}).ExtractErr(); err != nil {
			return provider.Observed{}, said(err)
		}
	}
	o := (&tree{lb: all[0]}).observed(id)
	o.State, o.RetryAfterSeconds, o.Calls = provider.Deleting, 1, s.calls
	return o, nil
}

var notFound = &provider.Error{Code: provider.NotFound, Message: "no load balancer has its tags"}

// said is what Octavia says, by the code that the contract has for it.
func said(err error) error {
	answer, ok := errors.AsType[gophercloud.ErrUnexpectedResponseCode](err)
	if !ok {
		if _, ours := errors.AsType[*provider.Error](err); ours || err == nil {
			return err
		}
		e := &provider.Error{Code: provider.Unavailable, Message: err.Error()}
		if unreadable(err) {
			e.RetryAfterSeconds = 5
		}
		return e
	}
	var fault struct {
		Text string `json:"faultstring"`
	}
	if json.Unmarshal(answer.Body, &fault) != nil || fault.Text == "" {
		fault.Text = fmt.Sprintf("Octavia at %s answers with the status %d", hostOf(answer.URL), answer.Actual)
	}
	e := &provider.Error{Code: provider.Internal, Message: fault.Text}
	switch answer.Actual {
	case http.StatusNotFound: // it went while we looked; but a subnet is of the provider's options, and does not come
		if e.Code, e.RetryAfterSeconds = provider.Immutable, 1; strings.HasPrefix(fault.Text, "Subnet ") {
			e.Code, e.RetryAfterSeconds = provider.Unsupported, 0
		}
	case http.StatusConflict:
		if e.Code = provider.AddressTaken; strings.Contains(fault.Text, "immutable") {
			e.Code, e.RetryAfterSeconds = provider.Immutable, 1
		}
	case http.StatusForbidden:
		if strings.Contains(strings.ToLower(fault.Text), "quota") {
			e.Code = provider.QuotaExceeded
		}
	case http.StatusInternalServerError:
		switch {
		case strings.Contains(fault.Text, "already allocated"): // says Neutron
			e.Code = provider.AddressTaken
		case answer.Method == http.MethodGet: // of Octavia 11, where something else is deleted while it lists
			e.Code, e.RetryAfterSeconds = provider.Unavailable, 1
		}
	case http.StatusBadRequest, http.StatusNotImplemented:
		e.Code = provider.Unsupported
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		e.Code, e.RetryAfterSeconds = provider.Throttled, cmp.Or(provider.RetryAfter(answer.ResponseHeader), 5)
	}
	return e
}

// unreadable reports whether there was an answer that nobody can read.
func unreadable(err error) bool {
	_, syntax := errors.AsType[*json.SyntaxError](err)
	_, other := errors.AsType[*json.UnmarshalTypeError](err)
	_, large := errors.AsType[*http.MaxBytesError](err)
	return syntax || other || large
}

// WithoutCredentials is the API of an Octavia that asks for none.
func WithoutCredentials(endpoint, project string) *gophercloud.ServiceClient {
	endpoint = strings.TrimSuffix(endpoint, "/") + "/"
	return &gophercloud.ServiceClient{
		ProviderClient: &gophercloud.ProviderClient{HTTPClient: *caller.New(http.DefaultTransport, maxCall, maxAnswer)}, Endpoint: endpoint, ResourceBase: endpoint + "v2.0/",
		MoreHeaders: map[string]string{"X-Project-Id": project, "X-Roles": "load-balancer_member"},
	}
}
