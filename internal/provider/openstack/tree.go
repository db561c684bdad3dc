package openstack

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/gophercloud/gophercloud/v2/openstack/loadbalancer/v2/listeners"
	"github.com/gophercloud/gophercloud/v2/openstack/loadbalancer/v2/loadbalancers"
	"github.com/gophercloud/gophercloud/v2/openstack/loadbalancer/v2/monitors"
	"github.com/gophercloud/gophercloud/v2/openstack/loadbalancer/v2/pools"
	"github.com/gophercloud/gophercloud/v2/pagination"

	"github.com/external-lb/external-lb/internal/provider/sources"
	"github.com/external-lb/external-lb/provider"
)

// tree is a load balancer with all that is below it.
type tree struct {
	lb        loadbalancers.LoadBalancer
	others    []string // IDs of load balancers with the same tags
	listeners []listeners.Listener
	pools     []pool
	subnet    string // that members are to have
}

type pool struct {
	pools.Pool
	members []pools.Member
	monitor *monitors.Monitor
}

// active is what Octavia has finished, and pending begins the status of what it is at work on.
const active, pending = "ACTIVE", "PENDING_"

// works reports whether Octavia has finished a pool and all that is below it.
func (p *pool) works() bool {
	return p.ProvisioningStatus == active && (p.monitor == nil || p.monitor.ProvisioningStatus == active) &&
		!slices.ContainsFunc(p.members, func(m pools.Member) bool { return m.ProvisioningStatus != active })
}

// session is one request, and counts its calls.
type session struct {
	*Cloud
	calls     provider.Calls
	finishing bool // Octavia is about to finish a part: see mends
	refused   []provider.Refusal
}

// read finds a load balancer by its tags, and reads it back.
func (s *session) read(ctx context.Context, id provider.ID) (*tree, error) {
	all, err := s.tagged(ctx, clusterTag+id.Cluster, serviceTag+id.Service)
	if err != nil {
		return nil, err
	}
	if len(all) == 0 {
		return nil, notFound
	}
	t, err := s.below(ctx, all[0])
	if err != nil {
		return nil, err
	}
	for i := range all[1:] {
		t.others = append(t.others, all[i+1].ID)
	}
	return t, nil
}

// tagged are load balancers that have all tags, the oldest first.
func (s *session) tagged(ctx context.Context, tags ...string) ([]loadbalancers.LoadBalancer, error) {
	all, err := pagesOf(ctx, s, loadbalancers.List(s.API, loadbalancers.ListOpts{Tags: tags}), loadbalancers.ExtractLoadBalancers)
	if err != nil {
		return nil, err
	}
	all = slices.DeleteFunc(all, func(b loadbalancers.LoadBalancer) bool { // an Octavia without tags gives all
		return slices.ContainsFunc(tags, func(tag string) bool { return !slices.Contains(b.Tags, tag) })
	})
	slices.SortFunc(all, func(a, b loadbalancers.LoadBalancer) int {
		return cmp.Or(a.CreatedAt.Compare(b.CreatedAt), cmp.Compare(a.ID, b.ID))
	})
	return all, nil
}

// pagesOf reads a list, and counts its pages.
func pagesOf[T any](ctx context.Context, s *session, list pagination.Pager, extract func(pagination.Page) ([]T, error)) (all []T, _ error) {
	s.calls.Reads++
	err := list.EachPage(ctx, func(_ context.Context, page pagination.Page) (bool, error) {
		some, err := extract(page)
		if err != nil {
			return false, err
		}
		all = append(all, some...)
		next, err := page.NextPageURL()
		if next != "" {
			s.calls.Reads++
		}
		return true, err
	})
	return all, said(err)
}

// below reads all that a load balancer has.
func (s *session) below(ctx context.Context, lb loadbalancers.LoadBalancer) (*tree, error) {
	t := &tree{lb: lb, subnet: s.MemberSubnet}
	var err error
	if t.listeners, err = pagesOf(ctx, s, listeners.List(s.API, listeners.ListOpts{LoadbalancerID: lb.ID}), listeners.ExtractListeners); err != nil {
		return nil, err
	}
	all, err := pagesOf(ctx, s, pools.List(s.API, pools.ListOpts{LoadbalancerID: lb.ID}), pools.ExtractPools)
	if err != nil {
		return nil, err
	}
	for i := range all {
		p, err := s.pool(ctx, all[i])
		if err != nil {
			return nil, err
		}
		t.pools = append(t.pools, p)
	}
	return t, nil
}

func (s *session) pool(ctx context.Context, of pools.Pool) (pool, error) {
	p := pool{Pool: of}
	var err error
	p.members, err = pagesOf(ctx, s, pools.ListMembers(s.API, of.ID, pools.ListMembersOpts{}), pools.ExtractMembers)
	if err != nil || of.MonitorID == "" {
		return p, err
	}
	s.calls.Reads++
	p.monitor, err = monitors.Get(ctx, s.API, of.MonitorID).Extract()
	return p, said(err)
}

func tagOf(tags []string, prefix string) string {
	for _, t := range tags {
		if value, ok := strings.CutPrefix(t, prefix); ok {
			return value
		}
	}
	return ""
}

// observed is what a tree carries, in the words of the contract. Of a listener for which they do not do, only
// port and protocol are there, as no Spec asks for it: so the digest is another one.
func (t *tree) observed(id provider.ID) provider.Observed {
	var o provider.Observed
	o.Service = id.Service
	o.Spec.Namespace, o.Spec.Name, _ = strings.Cut(tagOf(t.lb.Tags, nameTag), "/")
	switch status := t.lb.ProvisioningStatus; {
	case status == "PENDING_DELETE":
		o.State, o.RetryAfterSeconds = provider.Deleting, 1
	case strings.HasPrefix(status, pending):
		o.State, o.RetryAfterSeconds = provider.Pending, 1
	case status == active:
		o.State = provider.Live
	default:
		o.State, o.Reason = provider.Failed, provider.Internal
		o.Message = "the load balancer is " + status + " in Octavia: see its amphorae, then fail it over"
	}
	if a, err := netip.ParseAddr(t.lb.VipAddress); err == nil && a.Is4() {
		o.Addresses = []provider.Address{{Family: provider.IPv4, IP: a}}
	}
	if !t.lb.AdminStateUp || len(t.others) > 0 {
		return o
	}
	o.Spec.Flavor = tagOf(t.lb.Tags, flavorTag)
	o.Spec.Families = []provider.Family{{Family: provider.IPv4}}
	f := &o.Spec.Families[0]
	var others []provider.Listener
	for i := range t.listeners {
		from := &t.listeners[i]
		one, ok := t.listener(from)
		switch bare := (provider.Listener{Port: uint16(from.ProtocolPort), Protocol: provider.Protocol(from.Protocol)}); {
		case !t.finished(from) && !t.pending(): // a list says the same of it as the answer to Put
			o.Refused = append(o.Refused, inError(bare))
			continue
		case ok && len(o.Spec.Listeners) == 0:
			*f, o.Spec.AffinitySeconds = one.Families[0], one.AffinitySeconds
		case !ok || !slices.Equal(f.Sources, one.Families[0].Sources) || !slices.Equal(f.Members, one.Families[0].Members) ||
			o.Spec.AffinitySeconds != one.AffinitySeconds:
			others = append(others, bare)
			continue
		}
		o.Spec.Listeners = append(o.Spec.Listeners, one.Listeners...)
	}
	if len(o.Spec.Listeners) > 0 {
		o.Spec.Listeners = append(o.Spec.Listeners, others...)
	} else if o.State == provider.Live {
		o.State, o.RetryAfterSeconds = provider.Pending, 1
	}
	return o
}

// listener is what one carries, with what it has of its pool.
func (t *tree) listener(from *listeners.Listener) (s provider.Spec, ok bool) {
	p, f := t.poolOf(from), provider.Family{Family: provider.IPv4}
	if p == nil || !t.finished(from) || !from.AdminStateUp {
		return s, false
	}
	says := p.says()
	l := provider.Listener{Port: uint16(from.ProtocolPort), Protocol: provider.Protocol(from.Protocol), NodePort: says.node, Settings: provider.Settings{
		Mode: provider.ModeTCP, Algorithm: reverse(algorithms, p.LBMethod), SendProxy: provider.ProxyNone,
		MaxConnections: int32(max(from.ConnLimit, 0)), HealthCheck: p.check(),
	}}
	switch {
	case l.Protocol == provider.UDP && p.Protocol == udp:
	case l.Protocol == provider.TCP && from.TimeoutClientData == from.TimeoutMemberData:
		l.Settings.SendProxy = reverse(proxies, p.Protocol)
		l.Settings.ConnectTimeoutMilliseconds, l.Settings.IdleTimeoutMilliseconds = int32(from.TimeoutMemberConnect), int32(from.TimeoutMemberData)
	default:
		return s, false
	}
	if says.affinity > 0 {
		if p.LBMethod != sticky {
			return s, false
		}
		l.Settings.Algorithm = says.algorithm
	}
	l.Settings.HealthCheck.Port = says.check
	for _, m := range p.members {
		a, err := netip.ParseAddr(m.Address)
		if err != nil {
			return s, false
		}
		f.Members = append(f.Members, provider.Member{Address: a, Weight: int32(m.Weight)})
	}
	slices.SortFunc(f.Members, func(a, b provider.Member) int { return a.Address.Compare(b.Address) })
	f.Sources, ok = sources.Read(from.AllowedCIDRs)
	s = provider.Spec{Families: []provider.Family{f}, Listeners: []provider.Listener{l}, AffinitySeconds: says.affinity}
	return s, ok && l.NodePort != 0 && t.at(l) == from && t.pool(l) == p && t.carries(p, s, l) && p.settled(s, l) && p.serves(from, s, l)
}

// described is what the description of a pool says: ports of members and of their check, and with
// affinity, how long and beside which algorithm.
type described struct {
	node, check uint16
	affinity    int32
	algorithm   string
}

func (p *pool) says() (d described) {
	_, _ = fmt.Sscan(p.Description, &d.node, &d.check, &d.affinity, &d.algorithm) // as far as it goes
	return d
}

// describe is the description of the pool of a Listener.
func describe(want provider.Spec, l provider.Listener) string {
	switch check := l.Settings.HealthCheck.Port; {
	case want.AffinitySeconds > 0:
		return fmt.Sprintf("%d %d %d %s", l.NodePort, check, want.AffinitySeconds, l.Settings.Algorithm)
	case check != 0:
		return fmt.Sprintf("%d %d", l.NodePort, check)
	}
	return strconv.Itoa(int(l.NodePort))
}

// maxSeconds are those that a number of milliseconds has room for.
const maxSeconds = math.MaxInt32 / 1000

// within reports whether numbers of Octavia's are from 0 to most. Cut to fewer bits, others would be read for those that are wanted.
func within(most int, numbers ...int) bool {
	return !slices.ContainsFunc(numbers, func(n int) bool { return n < 0 || n > most })
}

func (p *pool) check() provider.HealthCheck {
	m := p.monitor
	switch {
	case m == nil:
		return provider.HealthCheck{Type: provider.CheckNone}
	case !within(maxSeconds, m.Delay, m.Timeout) || !within(math.MaxInt32, m.MaxRetries, m.MaxRetriesDown):
		return provider.HealthCheck{Type: "other"}
	case !m.AdminStateUp || m.Type != "TCP" && m.Type != "HTTP" || m.Type == "HTTP" && (m.ExpectedCodes != goodCodes || m.HTTPMethod != "GET"):
		return provider.HealthCheck{Type: "other"}
	}
	c := provider.HealthCheck{Type: m.Type, IntervalMilliseconds: int32(m.Delay) * 1000, TimeoutMilliseconds: int32(m.Timeout) * 1000,
		Rise: int32(m.MaxRetries), Fall: int32(m.MaxRetriesDown)}
	if m.Type == "HTTP" {
		c.Path = m.URLPath
	}
	if p.Protocol == udp { // its machines do not count good checks
		c.Rise = 0
	}
	return c
}

// Words of the contract and of Octavia.
var (
	algorithms = map[string]string{provider.RoundRobin: "ROUND_ROBIN", provider.LeastConnections: "LEAST_CONNECTIONS", provider.SourceHash: sticky}
	proxies    = map[string]string{provider.ProxyNone: "TCP", provider.ProxyV1: "PROXY", provider.ProxyV2: "PROXYV2"}
)

// goodCodes are those of HTTP by which a node is well.
const goodCodes = "200"

// udp is the protocol of listeners and of pools.
const udp = "UDP"

// sticky is the method that sends each client to one member, by a hash of its address. Octavia's
// sessions do that for a while, too, but its HAProxy forgets them with each change.
const sticky = "SOURCE_IP"

// method by which a member is chosen.
func method(want provider.Spec, l provider.Listener) string {
	if want.AffinitySeconds > 0 {
		return sticky
	}
	return algorithms[l.Settings.Algorithm]
}

func reverse(words map[string]string, octavia string) string {
	for ours, theirs := range words {
		if theirs == octavia {
			return ours
		}
	}
	return octavia
}
