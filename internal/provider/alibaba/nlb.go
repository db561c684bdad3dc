package alibaba

import (
	"maps"
	"net/netip"
	"slices"
	"strconv"

	"github.com/external-lb/external-lb/provider"
)

// nlb is what the steps are called with a Network Load Balancer. Its groups of servers are beside
// it, and have the checks and the algorithm. Nearly all that it does takes it some time.
type nlb struct{ Options }

func (nlb) oneByOne() bool { return true }

const (
	perCall       = 40                      // servers that one call takes
	certificateID = "CertificateIds.1"      // of a listener, which has one
	tls12         = "tls_cipher_policy_1_2" // TLS 1.2 and later: the default begins with 1.0
	every         = "5"                     // seconds from one check to the next: the least that NLB takes, and more than our default
)

func (n nlb) capabilities() provider.Capabilities {
	able := capable()
	able.no("NLB has no access control lists: clients are kept off by security groups", provider.SourceRanges)
	able.no("an NLB has an address in each zone", provider.WantedAddress)
	able.no("NLB does not have it", provider.SessionAffinity)
	able.no("NLB takes 5 to 50 seconds, and this provider 5", "healthCheck.interval")
	able.note("of TCP, 1 to 900 seconds", "timeouts.idle")
	able[provider.Certificates] = provider.Support{UDP: "TLS is over TCP", Note: "those that the provider's owner offers; TLS 1.2 and later"}
	out := able.capabilities()
	out.Certificates = slices.Sorted(maps.Keys(n.Certificates))
	return out
}

func (n nlb) possible(want provider.Spec) error { return possible(want, 1, false) }

func (nlb) cannot(provider.Spec) []provider.Refusal { return nil }

var algorithms = map[string]string{provider.RoundRobin: "Wrr", provider.LeastConnections: "Wlc", provider.SourceHash: "sch"}

func (n nlb) create(id provider.ID, want provider.Spec) call {
	kind := "Internet"
	if n.Private {
		kind = "Intranet"
	}
	var zones []params
	for _, z := range n.Zones {
		zones = append(zones, params{"ZoneId": z.ID, "VSwitchId": z.VSwitch})
	}
	p := params{
		"LoadBalancerType": "network", "LoadBalancerName": balancerName(want), "AddressType": kind, "AddressIpVersion": "ipv4", "VpcId": n.VPC,
		"LoadBalancerBillingConfig.PayType": "PostPay",
	}
	return call{nlbAPI, "CreateLoadBalancer", n.grouped(p.list("ZoneMappings", zones).tagged(id, want.Namespace+"/"+want.Name))}
}

func (nlb) remove(balancer string) call {
	return call{nlbAPI, "DeleteLoadBalancer", params{"LoadBalancerId": balancer}}
}

func (nlb) switchOn(string) *call { return nil }

func (nlb) groupFields(l provider.Listener) params {
	p := params{"Scheduler": algorithms[l.Settings.Algorithm], "PreserveClientIpEnabled": "false", "ConnectionDrainEnabled": "false"}
	check := l.Settings.HealthCheck
	if check.Type == provider.CheckNone || check.Type == "" {
		p["HealthCheckConfig.HealthCheckEnabled"] = "false"
		return p
	}
	p.with(params{
		"HealthCheckConfig.HealthCheckEnabled": "true", "HealthCheckConfig.HealthCheckType": check.Type,
		"HealthCheckConfig.HealthCheckConnectPort":    number(int32(check.Port)), // 0: the server's
		"HealthCheckConfig.HealthCheckInterval":       every,
		"HealthCheckConfig.HealthCheckConnectTimeout": seconds(check.TimeoutMilliseconds),
		"HealthCheckConfig.HealthyThreshold":          number(check.Rise), "HealthCheckConfig.UnhealthyThreshold": number(check.Fall),
	})
	if check.Type == provider.CheckHTTP {
		p.with(params{"HealthCheckConfig.HealthCheckUrl": check.Path, "HealthCheckConfig.HttpCheckMethod": "GET", "HealthCheckConfig.HealthCheckHttpCode.1": "http_2xx"})
	}
	return p
}

func (n nlb) createGroup(t *tree, l provider.Listener) call {
	p := params{"ServerGroupName": groupName(l), "ServerGroupType": "Ip", "Protocol": string(l.Protocol), "AddressIPVersion": "ipv4", "VpcId": n.VPC}
	return once(t.id, call{nlbAPI, "CreateServerGroup", n.grouped(p.with(n.groupFields(l)).tagged(t.id, t.name))}, recently())
}

func (n nlb) updateGroup(g *group, l provider.Listener) call {
	return call{nlbAPI, "UpdateServerGroupAttribute", params{"ServerGroupId": g.id}.with(n.groupFields(l))}
}

func (nlb) removeGroup(id string) call {
	return call{nlbAPI, "DeleteServerGroup", params{"ServerGroupId": id}}
}

func (nlb) members(g *group, want []server) (out []call) {
	gone, come, weigh := difference(g.servers, want)
	for _, change := range []struct {
		action  string
		servers []server
		weighed bool
	}{{"RemoveServersFromServerGroup", gone, false}, {"AddServersToServerGroup", come, true}, {"UpdateServerGroupServersAttribute", weigh, true}} {
		for part := range chunks(change.servers, perCall) {
			var list []params
			for _, m := range part {
				p := params{"ServerId": m.id, "ServerType": "Ip", "ServerIp": m.ip.String(), "Port": strconv.Itoa(int(m.port))}
				if change.weighed {
					p["Weight"] = number(m.weight)
				}
				list = append(list, p)
			}
			out = append(out, call{nlbAPI, change.action, params{"ServerGroupId": g.id}.list("Servers", list)})
		}
	}
	return out
}

func (n nlb) listenerFields(_ *tree, at *listener, _ provider.Spec, l provider.Listener, group string) params {
	p := params{"ServerGroupId": group, "ListenerDescription": describe(l), "Cps": "0"} // connections a second: no limit
	if l.Protocol == provider.UDP {
		return p
	}
	p.with(params{"IdleTimeout": seconds(l.Settings.IdleTimeoutMilliseconds), "ProxyProtocolEnabled": strconv.FormatBool(l.Settings.SendProxy == provider.ProxyV2)})
	if l.Certificate != "" {
		p.with(params{certificateID: n.certificate(l, at), "SecurityPolicyId": tls12, "CaEnabled": "false"})
	}
	return p
}

func (n nlb) createListener(t *tree, l provider.Listener, fields params) call {
	protocol := string(l.Protocol)
	if l.Certificate != "" {
		protocol = "TCPSSL"
	}
	p := params{"LoadBalancerId": t.lb.id, "ListenerProtocol": protocol, "ListenerPort": strconv.Itoa(int(l.Port))}
	return once(t.id, call{nlbAPI, "CreateListener", p.with(fields).tagged(t.id, t.name)}, recently())
}

func (nlb) updateListener(_ *tree, at *listener, fields params) call {
	return call{nlbAPI, "UpdateListenerAttribute", params{"ListenerId": at.id}.with(fields)}
}

func (nlb) removeListener(_ string, at *listener) call {
	return call{nlbAPI, "DeleteListener", params{"ListenerId": at.id}}
}

func (nlb) startListener(_ *tree, at *listener) call {
	return call{nlbAPI, "StartListener", params{"ListenerId": at.id}}
}

func (n nlb) settings(at *listener, g *group, l provider.Listener) (provider.Settings, int32, bool) {
	s := provider.Settings{Mode: provider.ModeTCP, Algorithm: reverse(algorithms, g.fields["Scheduler"]), SendProxy: provider.ProxyNone,
		HealthCheck: provider.HealthCheck{Type: provider.CheckNone}}
	if at.protocol == provider.TCP {
		s.IdleTimeoutMilliseconds = milliseconds(at.fields["IdleTimeout"])
		if at.fields["ProxyProtocolEnabled"] == "true" {
			s.SendProxy = provider.ProxyV2
		}
	}
	if check := g.fields; check["HealthCheckConfig.HealthCheckEnabled"] == "true" {
		s.HealthCheck = provider.HealthCheck{Type: check["HealthCheckConfig.HealthCheckType"],
			TimeoutMilliseconds: milliseconds(check["HealthCheckConfig.HealthCheckConnectTimeout"]),
			Rise:                value(check["HealthCheckConfig.HealthyThreshold"]), Fall: value(check["HealthCheckConfig.UnhealthyThreshold"]),
			Port: uint16(value(check["HealthCheckConfig.HealthCheckConnectPort"])), Path: check["HealthCheckConfig.HealthCheckUrl"]}
	}
	// What the contract has no words for is as we make it.
	l.Settings = s
	return s, 0, same(g.fields, n.groupFields(l)) && same(at.fields, n.listenerFields(nil, at, provider.Spec{}, l, g.id))
}

// address of an NLB is a name: each zone has an address of its own.
func nlbAddress(name string) provider.Address {
	if name == "" {
		return provider.Address{}
	}
	return provider.Address{Family: provider.IPv4, Hostname: name}
}

func ipOf(text string) netip.Addr {
	a, _ := netip.ParseAddr(text)
	return a
}
