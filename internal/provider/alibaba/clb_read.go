package alibaba

import (
	"context"
	"maps"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/external-lb/external-lb/provider"
)

// What is read of the answers of the SLB API.
type (
	clbTags struct {
		Tag []struct{ TagKey, TagValue string }
	}
	clbBalancers struct {
		TotalCount    int
		LoadBalancers struct {
			LoadBalancer []struct {
				LoadBalancerId, LoadBalancerStatus, Address, AddressType, CreateTime, VpcId string
				Tags                                                                        clbTags
			}
		}
	}
	clbGroups struct {
		VServerGroups struct {
			VServerGroup []struct{ VServerGroupId, VServerGroupName string }
		}
	}
	clbGroup struct {
		BackendServers struct {
			BackendServer []struct {
				ServerId, Type string
				Port           uint16
				Weight         int32
			}
		}
	}
	clbListeners struct {
		NextToken string
		Listeners []clbListener
	}
	clbListener struct {
		LoadBalancerId, ListenerProtocol, Status, VServerGroupId, Description, Scheduler, AclStatus, AclType, AclId string
		AclIds                                                                                                      []string
		ListenerPort                                                                                                uint16
		Bandwidth                                                                                                   int32
		TCPListenerConfig, UDPListenerConfig                                                                        clbConfig
	}
	clbConfig struct {
		PersistenceTimeout, EstablishedTimeout                                               int32
		HealthCheckConnectPort, HealthCheckInterval, HealthCheckConnectTimeout               int32
		HealthyThreshold, UnhealthyThreshold                                                 int32
		HealthCheck, HealthCheckSwitch, HealthCheckType, HealthCheckURI, HealthCheckHttpCode string
		HealthCheckMethod, ProxyProtocolV2Enabled                                            string
	}
	clbACLs struct {
		TotalCount int
		Acls       struct {
			Acl []struct {
				AclId, AclName string
				Tags           clbTags
			}
		}
	}
	clbACL struct {
		TotalAclEntry int
		AclEntrys     struct {
			AclEntry []struct{ AclEntryIP string }
		}
	}
)

func (t clbTags) params() params {
	p := params{}
	for _, tag := range t.Tag {
		p[tag.TagKey] = tag.TagValue
	}
	return p
}

// What one answer has, of lists and their entries, and of how many load balancers one call asks.
const aclPage, ports = "50", 10

// numbered reads pages of a list by their numbers, until there are as many items as it says.
func numbered[A any](ctx context.Context, s *session, c call, size, pageName string, each func(A) (items, total int, _ error)) error {
	c.params["PageSize"] = size
	seen := 0
	for number := 1; ; number++ {
		c.params[pageName] = strconv.Itoa(number)
		var answer A
		if err := s.do(ctx, c, &answer); err != nil {
			return err
		}
		items, total, err := each(answer)
		if seen += items; err != nil || items == 0 || seen >= total {
			return err
		}
	}
}

func (c clb) read(ctx context.Context, s *session, asked params) ([]*tree, error) {
	all := garden{}
	list := call{slbAPI, "DescribeLoadBalancers", params{}.asking(asked)}
	err := numbered(ctx, s, list, page, "PageNumber", func(a clbBalancers) (int, int, error) {
		for _, b := range a.LoadBalancers.LoadBalancer {
			t := all.of(b.Tags.params(), asked)
			if t == nil {
				continue
			}
			made := balancer{id: b.LoadBalancerId, created: b.CreateTime, state: provider.Live, off: b.LoadBalancerStatus == "inactive", private: b.AddressType == "intranet", vpc: b.VpcId, flavor: b.Tags.params()[flavorTag]}
			if ip := ipOf(b.Address); ip.IsValid() {
				made.address = provider.Address{Family: provider.IPv4, IP: ip}
			}
			if b.LoadBalancerStatus == "locked" {
				made.state, made.message = provider.Failed, "the CLB is locked: see the bills of the account"
			}
			t.add(made)
		}
		return len(a.LoadBalancers.LoadBalancer), a.TotalCount, nil
	})
	if err != nil {
		return nil, err
	}
	if err := c.acls(ctx, s, all, asked); err != nil {
		return nil, err
	}
	side, aside := errgroup.WithContext(ctx)
	side.SetLimit(reads)
	trees := all.sorted()
	for _, t := range trees {
		if t.lb != nil {
			side.Go(func() error { return c.groups(aside, s, t) })
		}
		for i := range t.acls {
			side.Go(func() error { return c.entries(aside, s, &t.acls[i]) })
		}
	}
	side.Go(func() error { return c.listeners(aside, s, all.byID()) })
	if err := side.Wait(); err != nil {
		return nil, err
	}
	var groups []*group
	trees = all.sorted() // without what has gone meanwhile
	for _, t := range trees {
		for i := range t.groups {
			groups = append(groups, &t.groups[i])
		}
	}
	return trees, s.addresses(ctx, groups)
}

func (c clb) groups(ctx context.Context, s *session, t *tree) error {
	var answer clbGroups
	err := s.do(ctx, call{slbAPI, "DescribeVServerGroups", params{"LoadBalancerId": t.lb.id}}, &answer)
	if gone(err) {
		t.lb.state = provider.Deleting // since it was listed
		return nil
	} else if err != nil {
		return err
	}
	for _, g := range answer.VServerGroups.VServerGroup {
		made := group{id: g.VServerGroupId, name: g.VServerGroupName, fields: params{}}
		var servers clbGroup
		err := s.do(ctx, call{slbAPI, "DescribeVServerGroupAttribute", params{"VServerGroupId": g.VServerGroupId}}, &servers)
		if gone(err) {
			continue
		} else if err != nil {
			return err
		}
		for _, m := range servers.BackendServers.BackendServer {
			made.servers = append(made.servers, server{id: m.ServerId, port: m.Port, weight: m.Weight})
		}
		t.groups = append(t.groups, made)
	}
	return nil
}

func (c clb) acls(ctx context.Context, s *session, all garden, asked params) error {
	list := call{slbAPI, "DescribeAccessControlLists", params{}.asking(asked)}
	return numbered(ctx, s, list, aclPage, "PageNumber", func(a clbACLs) (int, int, error) {
		for _, l := range a.Acls.Acl {
			if t := all.of(l.Tags.params(), asked); t != nil {
				t.acls = append(t.acls, acl{id: l.AclId, name: l.AclName})
			}
		}
		return len(a.Acls.Acl), a.TotalCount, nil
	})
}

func (c clb) entries(ctx context.Context, s *session, list *acl) error {
	of := call{slbAPI, "DescribeAccessControlListAttribute", params{"AclId": list.id}}
	err := numbered(ctx, s, of, aclPage, "Page", func(a clbACL) (int, int, error) {
		for _, e := range a.AclEntrys.AclEntry {
			list.entries = append(list.entries, e.AclEntryIP)
		}
		return len(a.AclEntrys.AclEntry), a.TotalAclEntry, nil
	})
	if list.gone = gone(err); list.gone {
		return nil
	}
	return err
}

func (c clb) listeners(ctx context.Context, s *session, of map[string]*balancer) error {
	for part := range chunks(slices.Sorted(maps.Keys(of)), ports) {
		list := call{slbAPI, "DescribeLoadBalancerListeners", names("LoadBalancerId", part)}
		err := pages(ctx, s, list, func(a clbListeners) string { return a.NextToken }, func(a clbListeners) error {
			for _, l := range a.Listeners {
				if b := of[l.LoadBalancerId]; b != nil {
					b.listeners = append(b.listeners, l.listener())
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (l clbListener) listener() listener {
	at := listener{port: l.ListenerPort, raw: l.ListenerProtocol, group: l.VServerGroupId,
		busy: l.Status != "running" && l.Status != "stopped", stopped: l.Status == "stopped"}
	at.nodePort, at.certificate = described(l.Description)
	var of clbConfig
	switch strings.ToUpper(l.ListenerProtocol) {
	case "TCP":
		at.protocol, of = provider.TCP, l.TCPListenerConfig
	case "UDP":
		at.protocol, of = provider.UDP, l.UDPListenerConfig
	}
	at.fields = params{"VServerGroupId": l.VServerGroupId, "Description": l.Description, "Scheduler": spelled(schedulers, l.Scheduler), "Bandwidth": number(l.Bandwidth),
		"AclStatus": "off", "HealthCheckSwitch": "off", "ProxyProtocolV2Enabled": "false"}
	if l.AclStatus == "on" {
		at.acl = l.AclId
		if at.acl == "" && len(l.AclIds) == 1 {
			at.acl = l.AclIds[0]
		}
		at.fields.with(params{"AclStatus": "on", "AclType": l.AclType, "AclId": at.acl})
	}
	if strings.EqualFold(of.ProxyProtocolV2Enabled, "true") || of.ProxyProtocolV2Enabled == "on" {
		at.fields["ProxyProtocolV2Enabled"] = "true"
	}
	if at.protocol == provider.TCP {
		at.fields.with(params{"EstablishedTimeout": number(of.EstablishedTimeout), "PersistenceTimeout": number(of.PersistenceTimeout)})
	}
	if of.HealthCheckSwitch != "on" && of.HealthCheck != "on" {
		return at
	}
	port := number(of.HealthCheckConnectPort)
	if port == "0" {
		port = ownPort
	}
	at.fields.with(params{"HealthCheckSwitch": "on", "HealthCheckType": of.HealthCheckType, "HealthCheckConnectPort": port,
		"HealthCheckInterval": number(of.HealthCheckInterval), "HealthCheckConnectTimeout": number(of.HealthCheckConnectTimeout),
		"HealthyThreshold": number(of.HealthyThreshold), "UnhealthyThreshold": number(of.UnhealthyThreshold)})
	if of.HealthCheckType == "http" {
		at.fields.with(params{"HealthCheckURI": of.HealthCheckURI, "HealthCheckHttpCode": of.HealthCheckHttpCode, "HealthCheckMethod": of.HealthCheckMethod})
	}
	return at
}
