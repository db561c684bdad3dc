package alibaba

import (
	"context"
	"maps"
	"net/netip"
	"slices"
	"strconv"

	"golang.org/x/sync/errgroup"

	"github.com/external-lb/external-lb/provider"
)

// What is read of the answers of the NLB API.
type (
	nlbTags []struct{ Key, Value string }

	nlbBalancers struct {
		NextToken     string
		LoadBalancers []struct {
			LoadBalancerId, LoadBalancerStatus, LoadBalancerBusinessStatus, DNSName, CreateTime, AddressType, VpcId string
			Tags                                                                                                    nlbTags
		}
	}
	nlbGroups struct {
		NextToken    string
		ServerGroups []nlbGroup
	}
	nlbGroup struct {
		ServerGroupId, ServerGroupName, ServerGroupType, ServerGroupStatus, Scheduler string
		PreserveClientIpEnabled, ConnectionDrainEnabled                               bool
		HealthCheck                                                                   struct {
			HealthCheckEnabled                                                                                           bool
			HealthCheckType, HealthCheckUrl, HttpCheckMethod                                                             string
			HealthCheckConnectPort, HealthCheckConnectTimeout, HealthCheckInterval, HealthyThreshold, UnhealthyThreshold int32
			HealthCheckHttpCode                                                                                          []string
		}
		Tags nlbTags
	}
	nlbServers struct {
		NextToken string
		Servers   []struct {
			ServerId, ServerType, ServerIp, Status string
			Port                                   uint16
			Weight                                 int32
		}
	}
	nlbListeners struct {
		NextToken string
		Listeners []struct {
			LoadBalancerId, ListenerId, ListenerProtocol, ListenerStatus, ListenerDescription, ServerGroupId, SecurityPolicyId string
			ListenerPort                                                                                                       uint16
			IdleTimeout, Cps                                                                                                   int32
			ProxyProtocolEnabled, CaEnabled                                                                                    bool
			CertificateIds                                                                                                     []string
		}
	}
)

func (t nlbTags) params() params {
	p := params{}
	for _, tag := range t {
		p[tag.Key] = tag.Value
	}
	return p
}

const (
	page  = "100" // items of one answer
	ids   = 20    // load balancers that one call asks for
	reads = 8     // calls at a time
)

// pages of a list, by the token of the one before.
func pages[A any](ctx context.Context, s *session, c call, next func(A) string, each func(A) error) error {
	c.params["MaxResults"] = page
	for {
		var answer A
		if err := s.do(ctx, c, &answer); err != nil {
			return err
		}
		if err := each(answer); err != nil {
			return err
		}
		if c.params["NextToken"] = next(answer); c.params["NextToken"] == "" {
			return nil
		}
	}
}

func (n nlb) read(ctx context.Context, s *session, asked params) ([]*tree, error) {
	all := garden{}
	err := pages(ctx, s, call{nlbAPI, "ListLoadBalancers", params{}.asking(asked)}, func(a nlbBalancers) string { return a.NextToken }, func(a nlbBalancers) error {
		for _, b := range a.LoadBalancers {
			if t := all.of(b.Tags.params(), asked); t != nil && b.LoadBalancerStatus != "Deleted" {
				state, why := nlbState(b.LoadBalancerStatus, b.LoadBalancerBusinessStatus)
				t.add(balancer{id: b.LoadBalancerId, created: b.CreateTime, state: state, message: why, address: nlbAddress(b.DNSName), private: b.AddressType == "Intranet", vpc: b.VpcId, flavor: b.Tags.params()[flavorTag]})
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	err = pages(ctx, s, call{nlbAPI, "ListServerGroups", params{}.asking(asked)}, func(a nlbGroups) string { return a.NextToken }, func(a nlbGroups) error {
		for _, g := range a.ServerGroups {
			if t := all.of(g.Tags.params(), asked); t != nil {
				t.groups = append(t.groups, g.group())
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	side, ctx := errgroup.WithContext(ctx)
	side.SetLimit(reads)
	trees := all.sorted()
	for _, t := range trees {
		for i := range t.groups {
			side.Go(func() error { return n.servers(ctx, s, &t.groups[i]) })
		}
	}
	side.Go(func() error { return n.listeners(ctx, s, all.byID()) })
	if err := side.Wait(); err != nil {
		return nil, err
	}
	return all.sorted(), nil
}

func nlbState(status, business string) (provider.State, string) {
	switch {
	case status == "CreateFailed":
		return provider.Failed, "the NLB is CreateFailed: delete it, and it is made anew"
	case business != "" && business != "Normal":
		return provider.Failed, "the NLB is " + business + ": see the bills of the account"
	case status == "Active":
		return provider.Live, ""
	case status == "Inactive":
		return provider.Failed, "the NLB is Inactive: see its console"
	case status == "Deleting":
		return provider.Deleting, ""
	}
	return provider.Pending, ""
}

// listeners of load balancers by ID.
func (n nlb) listeners(ctx context.Context, s *session, of map[string]*balancer) error {
	for part := range chunks(slices.Sorted(maps.Keys(of)), ids) {
		c := call{nlbAPI, "ListListeners", names("LoadBalancerIds", part)}
		err := pages(ctx, s, c, func(a nlbListeners) string { return a.NextToken }, func(a nlbListeners) error {
			for _, l := range a.Listeners {
				b := of[l.LoadBalancerId]
				if b == nil {
					continue
				}
				at := listener{id: l.ListenerId, port: l.ListenerPort, raw: l.ListenerProtocol, group: l.ServerGroupId,
					busy: l.ListenerStatus != "Running" && l.ListenerStatus != "Stopped", stopped: l.ListenerStatus == "Stopped"}
				at.nodePort, at.certificate = described(l.ListenerDescription)
				at.fields = params{"ServerGroupId": l.ServerGroupId, "ListenerDescription": l.ListenerDescription, "Cps": number(l.Cps)}
				switch l.ListenerProtocol {
				case "TCP", "TCPSSL":
					at.protocol, at.tls = provider.TCP, l.ListenerProtocol == "TCPSSL"
					if at.tls {
						at.fields.with(params{"SecurityPolicyId": l.SecurityPolicyId, "CaEnabled": strconv.FormatBool(l.CaEnabled)})
					}
					at.fields.with(params{"IdleTimeout": number(l.IdleTimeout), "ProxyProtocolEnabled": strconv.FormatBool(l.ProxyProtocolEnabled)},
						names("CertificateIds", l.CertificateIds))
				case "UDP":
					at.protocol = provider.UDP
				}
				b.listeners = append(b.listeners, at)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (n nlb) servers(ctx context.Context, s *session, g *group) error {
	c := call{nlbAPI, "ListServerGroupServers", params{"ServerGroupId": g.id}}
	err := pages(ctx, s, c, func(a nlbServers) string { return a.NextToken }, func(a nlbServers) error {
		for _, m := range a.Servers {
			ip := ipOf(m.ServerIp)
			if m.ServerId != m.ServerIp { // none of ours, which are named by their addresses
				ip = netip.Addr{}
			}
			g.servers = append(g.servers, server{id: m.ServerId, ip: ip, port: m.Port, weight: m.Weight, busy: m.Status != "Available"})
		}
		return nil
	})
	if g.gone = gone(err); g.gone {
		return nil
	}
	return err
}

func (g nlbGroup) group() group {
	out := group{id: g.ServerGroupId, name: g.ServerGroupName, busy: g.ServerGroupStatus != "Available", fields: params{
		"Scheduler": spelled(algorithms, g.Scheduler), "PreserveClientIpEnabled": strconv.FormatBool(g.PreserveClientIpEnabled),
		"ConnectionDrainEnabled":               strconv.FormatBool(g.ConnectionDrainEnabled),
		"HealthCheckConfig.HealthCheckEnabled": strconv.FormatBool(g.HealthCheck.HealthCheckEnabled),
	}}
	check := g.HealthCheck
	if !check.HealthCheckEnabled {
		return out
	}
	out.fields.with(params{
		"HealthCheckConfig.HealthCheckType": check.HealthCheckType, "HealthCheckConfig.HealthCheckConnectPort": number(check.HealthCheckConnectPort),
		"HealthCheckConfig.HealthCheckInterval": number(check.HealthCheckInterval), "HealthCheckConfig.HealthCheckConnectTimeout": number(check.HealthCheckConnectTimeout),
		"HealthCheckConfig.HealthyThreshold": number(check.HealthyThreshold), "HealthCheckConfig.UnhealthyThreshold": number(check.UnhealthyThreshold),
	})
	if check.HealthCheckType == provider.CheckHTTP {
		out.fields.with(params{"HealthCheckConfig.HealthCheckUrl": check.HealthCheckUrl, "HealthCheckConfig.HttpCheckMethod": check.HttpCheckMethod},
			names("HealthCheckConfig.HealthCheckHttpCode", check.HealthCheckHttpCode))
	}
	return out
}
