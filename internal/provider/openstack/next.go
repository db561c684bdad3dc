package openstack

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/gophercloud/gophercloud/v2/openstack/loadbalancer/v2/listeners"
	"github.com/gophercloud/gophercloud/v2/openstack/loadbalancer/v2/loadbalancers"
	"github.com/gophercloud/gophercloud/v2/openstack/loadbalancer/v2/monitors"
	"github.com/gophercloud/gophercloud/v2/openstack/loadbalancer/v2/pools"

	"github.com/external-lb/external-lb/internal/provider/sources"
	"github.com/external-lb/external-lb/provider"
)

// possible says which values Octavia cannot hold.
func possible(want provider.Spec) error {
	for _, l := range want.Listeners {
		check := l.Settings.HealthCheck
		for field, wrong := range map[string]bool{
			"healthCheck.interval": check.IntervalMilliseconds%1000 != 0,
			"healthCheck.timeout":  check.TimeoutMilliseconds%1000 != 0 || check.TimeoutMilliseconds > check.IntervalMilliseconds,
			"healthCheck.rise":     check.Rise > 10,
			"healthCheck.fall":     check.Fall > 10,
		} {
			if wrong {
				return &provider.Error{Code: provider.Unsupported, Field: field,
					Message: fmt.Sprintf("%s: Octavia takes whole seconds, a timeout up to the interval, and up to 10 checks in a row", l)}
			}
		}
	}
	return nil
}

// create a load balancer that bears its tags from the beginning. What is below it follows, one
// after the other: where Octavia makes all in one call, a listener may stay PENDING_CREATE
// below a load balancer that is ACTIVE.
func (s *session) create(ctx context.Context, id provider.ID, want provider.Spec) error {
	opts := loadbalancers.CreateOpts{
		Name: "external-lb " + want.Namespace + "/" + want.Name, VipSubnetID: s.Subnet, VipNetworkID: s.Network, FlavorID: s.Flavor,
		Tags: []string{clusterTag + id.Cluster, serviceTag + id.Service, nameTag + want.Namespace + "/" + want.Name},
	}
	if want.Flavor != "" {
		opts.FlavorID, opts.Tags = s.Flavors[want.Flavor], append(opts.Tags, flavorTag+want.Flavor)
	}
	if a := want.Families[0].Address; a.IsValid() {
		opts.VipAddress = a.String()
	}
	s.calls.Writes++
	return said(loadbalancers.Create(ctx, s.API, opts).Err)
}

// next makes the next change towards what is wanted, if there is one. New members come before
// all else: nodePorts that are gone may be somebody else's.
func (s *session) next(ctx context.Context, t *tree, want provider.Spec) (changed bool, err error) {
	steps := []func(context.Context, *tree, provider.Spec) (bool, error){
		s.only, s.unwanted, s.mend, s.members, s.missing, s.settings, s.unused,
	}
	for _, step := range steps {
		if changed, err = step(ctx, t, want); changed || err != nil {
			if changed {
				s.calls.Writes++
			}
			return changed, err
		}
	}
	return false, nil
}

// only one load balancer has the tags, and it is switched on.
func (s *session) only(ctx context.Context, t *tree, _ provider.Spec) (bool, error) {
	for _, id := range t.others {
		return true, loadbalancers.Delete(ctx, s.API, id, loadbalancers.DeleteOpts{Cascade: true}).ExtractErr()
	}
	if !t.lb.AdminStateUp {
		return true, loadbalancers.Update(ctx, s.API, t.lb.ID, loadbalancers.UpdateOpts{AdminStateUp: new(true)}).Err
	}
	return false, nil
}

// unwanted listeners go.
func (s *session) unwanted(ctx context.Context, t *tree, want provider.Spec) (bool, error) {
	for i := range t.listeners {
		l := &t.listeners[i]
		if !slices.ContainsFunc(want.Listeners, func(w provider.Listener) bool { return t.at(w) == l }) {
			return true, listeners.Delete(ctx, s.API, l.ID).ExtractErr()
		}
	}
	return false, nil
}

// forPort makes a change of one port. Where Octavia refuses it, that costs the port alone.
func (s *session) forPort(l provider.Listener, change func() error) (changed bool, _ error) {
	err := said(change())
	e, _ := errors.AsType[*provider.Error](err)
	if e == nil || e.Code != provider.QuotaExceeded && e.Code != provider.Unsupported {
		return true, err
	}
	s.calls.Writes++
	s.refused = append(s.refused, provider.Refusal{Port: l.Port, Protocol: l.Protocol, Reason: e.Code, Message: e.Message})
	return false, nil
}

// refuses reports whether Octavia has refused a change of a port in this request.
func (s *session) refuses(l provider.Listener) bool {
	return l.AmongRefused(s.refused)
}

// missing pools, monitors and listeners are made. A quota that one port has met, others meet, too: they are
// refused by the same words, without a call.
func (s *session) missing(ctx context.Context, t *tree, want provider.Spec) (bool, error) {
	full := map[string]provider.Refusal{} // by what there may be no more of
	create := func(what string, l provider.Listener, call func() error) (bool, error) {
		if r, met := full[what]; met {
			r.Port, r.Protocol = l.Port, l.Protocol
			s.refused = append(s.refused, r)
			return false, nil
		}
		changed, err := s.forPort(l, call)
		if changed || err != nil {
			return changed, err
		}
		if r := s.refused[len(s.refused)-1]; r.Reason == provider.QuotaExceeded {
			full[what] = r
		}
		return false, nil
	}
	for _, l := range want.Listeners {
		var changed bool
		var err error
		switch p, m := t.pool(l), monitorOpts(l); {
		case s.refuses(l):
		case p == nil:
			opts := poolOpts(want, l)
			opts.LoadbalancerID = t.lb.ID
			changed, err = create("pools", l, func() error { return pools.Create(ctx, s.API, opts).Err })
		case !p.works():
		case m != nil && p.monitor == nil:
			m.PoolID = p.ID
			changed, err = create("monitors", l, func() error { return monitors.Create(ctx, s.API, m).Err })
		case t.at(l) == nil:
			opts := listenerOpts(want, l)
			opts.LoadbalancerID, opts.DefaultPoolID = t.lb.ID, p.ID
			changed, err = create("listeners", l, func() error { return listeners.Create(ctx, s.API, opts).Err })
		}
		if changed || err != nil {
			return changed, err
		}
	}
	return false, nil
}

// settings of what is there become those that are wanted.
func (s *session) settings(ctx context.Context, t *tree, want provider.Spec) (bool, error) {
	for _, l := range want.Listeners {
		if s.refuses(l) || !t.works(l) {
			continue
		}
		if change := s.setting(ctx, t, want, l); change != nil {
			if changed, err := s.forPort(l, change); changed || err != nil {
				return changed, err
			}
		}
	}
	return false, nil
}

// setting is how to change the first setting of a port that is another one than is wanted, or nil.
func (s *session) setting(ctx context.Context, t *tree, want provider.Spec, l provider.Listener) func() error {
	p, at, o := t.pool(l), t.at(l), listenerOpts(want, l)
	switch method := method(want, l); {
	case p.settled(want, l) && p.serves(at, want, l):
		return nil
	case p.settled(want, l):
		return func() error {
			return listeners.Update(ctx, s.API, at.ID, listeners.UpdateOpts{
				DefaultPoolID: &p.ID, ConnLimit: o.ConnLimit, AdminStateUp: new(true), AllowedCIDRs: &o.AllowedCIDRs,
				TimeoutClientData: o.TimeoutClientData, TimeoutMemberData: o.TimeoutMemberData, TimeoutMemberConnect: o.TimeoutMemberConnect,
			}).Err
		}
	case p.LBMethod != method || !p.AdminStateUp:
		return func() error {
			return pools.Update(ctx, s.API, p.ID, pools.UpdateOpts{LBMethod: pools.LBMethod(method), AdminStateUp: new(true)}).Err
		}
	case p.Persistence.Type != "":
		return func() error { return pools.Update(ctx, s.API, p.ID, noSessions{}).Err }
	}
	return func() error { return monitors.Delete(ctx, s.API, p.monitor.ID).ExtractErr() } // and made anew: its type does not change
}

// carries reports whether a pool has the members that are wanted, and says so.
func (t *tree) carries(p *pool, want provider.Spec, l provider.Listener) bool {
	return sameMembers(p.members, Options{MemberSubnet: t.subnet}.wanted(want, l)) && p.Description == describe(want, l)
}

// settled reports whether it chooses and judges them as is wanted. A monitor that is missing is made before.
func (p *pool) settled(want provider.Spec, l provider.Listener) bool {
	check := l.Settings.HealthCheck
	check.Port = 0
	return p.LBMethod == method(want, l) && p.AdminStateUp && p.Persistence.Type == "" && (p.monitor == nil || p.check() == check)
}

// serves reports whether a listener is as is wanted, and sends to the pool.
func (p *pool) serves(at *listeners.Listener, want provider.Spec, l provider.Listener) bool {
	o := listenerOpts(want, l)
	return at.DefaultPoolID == p.ID && at.AdminStateUp && at.ConnLimit == *o.ConnLimit && sources.Same(at.AllowedCIDRs, o.AllowedCIDRs) &&
		(o.TimeoutClientData == nil || at.TimeoutClientData == *o.TimeoutClientData &&
			at.TimeoutMemberData == *o.TimeoutMemberData && at.TimeoutMemberConnect == *o.TimeoutMemberConnect)
}

// noSessions takes the sessions from a pool that somebody gave to it.
type noSessions struct{}

// ToPoolUpdateMap has what pools.UpdateOpts leaves out where it is nil.
func (noSessions) ToPoolUpdateMap() (map[string]any, error) {
	return map[string]any{"pool": map[string]any{"session_persistence": nil}}, nil
}

// unused pools go.
func (s *session) unused(ctx context.Context, t *tree, want provider.Spec) (bool, error) {
	for i := range t.pools {
		p := &t.pools[i]
		if !slices.ContainsFunc(want.Listeners, func(l provider.Listener) bool { return t.pool(l) == p }) {
			return true, pools.Delete(ctx, s.API, p.ID).ExtractErr()
		}
	}
	return false, nil
}

// pool of a Listener, or nil. Its protocol is in its name, as it does not change.
func (t *tree) pool(l provider.Listener) *pool {
	for i := range t.pools {
		if t.pools[i].Name == poolName(l) && t.pools[i].Protocol == poolProtocol(l) {
			return &t.pools[i]
		}
	}
	return nil
}

func (t *tree) at(l provider.Listener) *listeners.Listener {
	for i := range t.listeners {
		if t.listeners[i].ProtocolPort == int(l.Port) && t.listeners[i].Protocol == string(l.Protocol) {
			return &t.listeners[i]
		}
	}
	return nil
}

// poolProtocol is what members are sent.
func poolProtocol(l provider.Listener) string {
	if l.Protocol == provider.UDP {
		return udp
	}
	return proxies[l.Settings.SendProxy]
}

func poolName(l provider.Listener) string {
	return strconv.Itoa(int(l.Port)) + " " + poolProtocol(l)
}

func poolOpts(want provider.Spec, l provider.Listener) pools.CreateOpts {
	return pools.CreateOpts{Name: poolName(l), Description: describe(want, l), Protocol: pools.Protocol(poolProtocol(l)),
		LBMethod: pools.LBMethod(method(want, l))}
}

func listenerOpts(want provider.Spec, l provider.Listener) listeners.CreateOpts {
	limit := int(l.Settings.MaxConnections)
	if limit == 0 {
		limit = -1
	}
	out := listeners.CreateOpts{
		Name: strconv.Itoa(int(l.Port)), Protocol: listeners.Protocol(l.Protocol), ProtocolPort: int(l.Port), ConnLimit: &limit,
		AllowedCIDRs: sources.List(want.Families[0].Sources),
	}
	if l.Protocol == provider.TCP {
		idle := int(l.Settings.IdleTimeoutMilliseconds)
		out.TimeoutClientData, out.TimeoutMemberData, out.TimeoutMemberConnect = &idle, &idle, new(int(l.Settings.ConnectTimeoutMilliseconds))
	}
	return out
}

func monitorOpts(l provider.Listener) *monitors.CreateOpts {
	c := l.Settings.HealthCheck
	if c.Type == provider.CheckNone {
		return nil
	}
	o := &monitors.CreateOpts{Type: c.Type, Delay: int(c.IntervalMilliseconds / 1000), Timeout: int(c.TimeoutMilliseconds / 1000),
		MaxRetries: max(int(c.Rise), 1), MaxRetriesDown: int(c.Fall)}
	if c.Type == provider.CheckHTTP {
		o.URLPath, o.ExpectedCodes, o.HTTPMethod = c.Path, goodCodes, "GET"
	}
	return o
}
