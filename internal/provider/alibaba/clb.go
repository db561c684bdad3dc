package alibaba

import (
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/external-lb/external-lb/internal/provider/sources"
	"github.com/external-lb/external-lb/provider"
)

// clb is what the steps are called with a classic load balancer. Its groups are below it, and its
// listeners have the checks and the algorithm. Its members are instances.
type clb struct{ Options }

func (clb) oneByOne() bool { return false }

const (
	perList    = 20  // servers that one call takes
	perEntries = 50  // networks that one call takes
	maxEntries = 300 // networks of a list
	ownPort    = "-520"
	maxSticky  = 3600 // seconds
)

// ByUse is the Spec of a CLB that is paid by what goes through it.
const ByUse = "use"

func (c clb) capabilities() provider.Capabilities {
	able := capable()
	able[provider.SessionAffinity] = provider.Support{UDP: noUDP, Note: "3600 seconds at most"}
	able.note("those of nobody become "+sources.Nobody.String(), provider.SourceRanges)
	able.note("of TCP, 10 to 900 seconds", "timeouts.idle")
	able.no("CLB does not have it", "algorithm=LeastConnections")
	if !c.Private {
		able.no("the cloud chooses public addresses; private ones may be named", provider.WantedAddress)
	}
	out := able.capabilities()
	out.MaxSources, out.Flavors = maxEntries, slices.Sorted(maps.Keys(c.Flavors))
	return out
}

func (c clb) possible(want provider.Spec) error {
	if want.AffinitySeconds > maxSticky {
		return &provider.Error{Code: provider.Unsupported, Field: string(provider.SessionAffinity),
			Message: "CLB keeps a client for 3600 seconds at most: see sessionAffinityConfig.clientIP.timeoutSeconds"}
	}
	return possible(want, 10, true)
}

const noUDP = "CLB keeps no clients of UDP"

func (clb) cannot(want provider.Spec) (out []provider.Refusal) {
	for _, l := range want.Listeners {
		if l.Protocol == provider.UDP && want.AffinitySeconds > 0 {
			out = append(out, provider.Refusal{Port: l.Port, Protocol: l.Protocol, Reason: provider.Unsupported, Message: noUDP})
		}
	}
	return out
}

func (c clb) create(id provider.ID, want provider.Spec) call {
	p := params{"LoadBalancerName": balancerName(want), "AddressType": "internet", "AddressIPVersion": "ipv4", "PayType": "PayOnDemand",
		"InternetChargeType": "paybytraffic", "InstanceChargeType": "PayByCLCU"}
	spec, tags := c.Spec, []params{}
	if want.Flavor != "" {
		spec, tags = c.Flavors[want.Flavor], append(tags, params{"Key": flavorTag, "Value": want.Flavor})
	}
	if spec != "" && spec != ByUse {
		p.with(params{"InstanceChargeType": "PayBySpec", "LoadBalancerSpec": spec})
	}
	if c.Private {
		delete(p, "InternetChargeType")
		p.with(params{"AddressType": "intranet", "VpcId": c.VPC, "VSwitchId": c.Zones[0].VSwitch})
	}
	if a := want.Families[0].Address; a.IsValid() {
		p["Address"] = a.String()
	}
	return call{slbAPI, "CreateLoadBalancer", c.grouped(p.tagged(id, want.Namespace+"/"+want.Name, tags...))}
}

func (clb) remove(balancer string) call {
	return call{slbAPI, "DeleteLoadBalancer", params{"LoadBalancerId": balancer}}
}

func (clb) switchOn(balancer string) *call {
	return &call{slbAPI, "SetLoadBalancerStatus", params{"LoadBalancerId": balancer, "LoadBalancerStatus": "active"}}
}

func (clb) groupFields(provider.Listener) params { return params{} }

func (clb) createGroup(t *tree, l provider.Listener) call {
	p := params{"LoadBalancerId": t.lb.id, "VServerGroupName": groupName(l)}
	return call{slbAPI, "CreateVServerGroup", p.tagged(t.id, t.name)}
}

func (clb) updateGroup(g *group, _ provider.Listener) call { // it has nothing that could differ
	return call{slbAPI, "SetVServerGroupAttribute", params{"VServerGroupId": g.id, "VServerGroupName": g.name}}
}

func (clb) removeGroup(id string) call {
	return call{slbAPI, "DeleteVServerGroup", params{"VServerGroupId": id}}
}

// clbServer is one of the servers in a call, which has them as JSON.
type clbServer struct {
	ServerId    string
	Port        string
	Weight      string `json:",omitempty"`
	Type        string
	Description string `json:",omitempty"`
}

func (clb) members(g *group, want []server) (out []call) {
	gone, come, weigh := difference(g.servers, want)
	for _, change := range []struct {
		action  string
		servers []server
		weighed bool
	}{{"RemoveVServerGroupBackendServers", gone, false}, {"AddVServerGroupBackendServers", come, true}, {"SetVServerGroupAttribute", weigh, true}} {
		for part := range chunks(change.servers, perList) {
			var list []clbServer
			for _, m := range part {
				s := clbServer{ServerId: m.id, Port: strconv.Itoa(int(m.port)), Type: "ecs"}
				if change.weighed {
					s.Weight = number(m.weight)
				}
				list = append(list, s)
			}
			text, err := json.Marshal(list)
			if err != nil {
				panic(err) // texts alone
			}
			p := params{"VServerGroupId": g.id, "BackendServers": string(text)}
			if change.action == "SetVServerGroupAttribute" {
				p["VServerGroupName"] = g.name
			}
			out = append(out, call{slbAPI, change.action, p})
		}
	}
	return out
}

var schedulers = map[string]string{provider.RoundRobin: "wrr", provider.SourceHash: "sch"}

// checks are the words of CLB for the type of a check.
var checks = map[string]string{provider.CheckTCP: "tcp", provider.CheckHTTP: "http"}

func (clb) listenerFields(t *tree, _ *listener, want provider.Spec, l provider.Listener, group string) params {
	p := params{"VServerGroupId": group, "Description": describe(l), "Scheduler": schedulers[l.Settings.Algorithm], "Bandwidth": "-1",
		"AclStatus": "off", "HealthCheckSwitch": "off", "ProxyProtocolV2Enabled": "false"}
	if list := t.acl(); list != nil && len(sources.List(want.Families[0].Sources)) > 0 {
		p.with(params{"AclStatus": "on", "AclType": "white", "AclId": list.id})
	}
	if l.Protocol == provider.UDP {
		return p
	}
	p.with(params{"EstablishedTimeout": seconds(l.Settings.IdleTimeoutMilliseconds), "PersistenceTimeout": number(want.AffinitySeconds),
		"ProxyProtocolV2Enabled": strconv.FormatBool(l.Settings.SendProxy == provider.ProxyV2)})
	check := l.Settings.HealthCheck
	if check.Type == provider.CheckNone || check.Type == "" {
		return p
	}
	port := ownPort
	if check.Port != 0 {
		port = strconv.Itoa(int(check.Port))
	}
	p.with(params{"HealthCheckSwitch": "on", "HealthCheckType": checks[check.Type], "HealthCheckConnectPort": port,
		"HealthCheckInterval": seconds(check.IntervalMilliseconds), "HealthCheckConnectTimeout": seconds(check.TimeoutMilliseconds),
		"HealthyThreshold": number(check.Rise), "UnhealthyThreshold": number(check.Fall)})
	if check.Type == provider.CheckHTTP {
		p.with(params{"HealthCheckURI": check.Path, "HealthCheckHttpCode": "http_2xx", "HealthCheckMethod": "get"})
	}
	return p
}

// at a port of a load balancer.
func (clb) at(balancer, action string, port uint16, protocol string) call {
	return call{slbAPI, action, params{"LoadBalancerId": balancer, "ListenerPort": strconv.Itoa(int(port)), "ListenerProtocol": strings.ToLower(protocol)}}
}

func (c clb) createListener(t *tree, l provider.Listener, fields params) call {
	make := c.at(t.lb.id, "CreateLoadBalancer"+string(l.Protocol)+"Listener", l.Port, string(l.Protocol))
	delete(make.params, "ListenerProtocol")
	make.params.with(fields).tagged(t.id, t.name)
	if interval, is := make.params["HealthCheckInterval"]; is { // which this call alone spells otherwise
		delete(make.params, "HealthCheckInterval")
		make.params["healthCheckInterval"] = interval
	}
	return make
}

func (c clb) updateListener(t *tree, at *listener, fields params) call {
	set := c.at(t.lb.id, "SetLoadBalancer"+string(at.protocol)+"ListenerAttribute", at.port, at.raw)
	delete(set.params, "ListenerProtocol")
	set.params.with(fields, params{"VServerGroup": "on"})
	return set
}

func (c clb) removeListener(balancer string, at *listener) call {
	return c.at(balancer, "DeleteLoadBalancerListener", at.port, at.raw)
}

func (c clb) startListener(t *tree, at *listener) call {
	return c.at(t.lb.id, "StartLoadBalancerListener", at.port, at.raw)
}

func (c clb) settings(at *listener, _ *group, l provider.Listener) (provider.Settings, int32, bool) {
	f := at.fields
	s := provider.Settings{Mode: provider.ModeTCP, Algorithm: reverse(schedulers, f["Scheduler"]), SendProxy: provider.ProxyNone,
		HealthCheck: provider.HealthCheck{Type: provider.CheckNone}}
	if at.protocol == provider.TCP {
		s.IdleTimeoutMilliseconds = milliseconds(f["EstablishedTimeout"])
		if f["ProxyProtocolV2Enabled"] == "true" {
			s.SendProxy = provider.ProxyV2
		}
	}
	if f["HealthCheckSwitch"] == "on" {
		s.HealthCheck = provider.HealthCheck{Type: reverse(checks, f["HealthCheckType"]), Path: f["HealthCheckURI"],
			IntervalMilliseconds: milliseconds(f["HealthCheckInterval"]), TimeoutMilliseconds: milliseconds(f["HealthCheckConnectTimeout"]),
			Rise: value(f["HealthyThreshold"]), Fall: value(f["UnhealthyThreshold"])}
		if f["HealthCheckConnectPort"] != ownPort {
			s.HealthCheck.Port = uint16(value(f["HealthCheckConnectPort"]))
		}
	}
	// What the contract has no words for is as we make it.
	l.Settings = s
	want := provider.Spec{AffinitySeconds: value(f["PersistenceTimeout"]), Families: []provider.Family{{Sources: nil}}}
	t := &tree{acls: []acl{{id: at.acl}}}
	if at.acl == "" {
		want.Families[0].Sources = append(want.Families[0].Sources, sources.Everybody)
	}
	return s, want.AffinitySeconds, same(f, c.listenerFields(t, at, want, l, at.group))
}

func (o Options) createACL(t *tree) call {
	p := params{"AclName": "external-lb-" + sum(t.id.Cluster, t.id.Service), "AddressIPVersion": "ipv4"}
	return call{slbAPI, "CreateAccessControlList", o.grouped(p.tagged(t.id, t.name))}
}

func removeACL(id string) call {
	return call{slbAPI, "DeleteAccessControlList", params{"AclId": id}}
}

// changeACL never leaves a list without entries, which lets everybody in, nor with more than it may
// have. As far as there is room, what comes is added before anything goes.
func changeACL(list *acl, want []string) (out []call) {
	not := func(all []string) func(string) bool { return func(n string) bool { return slices.Contains(all, n) } }
	come, gone := slices.DeleteFunc(slices.Clone(want), not(list.entries)), slices.DeleteFunc(slices.Clone(list.entries), not(want))
	have := len(list.entries)
	before := max(0, min(have+len(come)-maxEntries, len(gone), have-1))
	first := min(len(come), max(0, maxEntries-(have-before)))
	for _, change := range []struct {
		action  string
		entries []string
	}{{removeEntries, gone[:before]}, {addEntries, come[:first]}, {removeEntries, gone[before:]}, {addEntries, come[first:]}} {
		for part := range chunks(change.entries, perEntries) {
			var entries []params
			for _, n := range part {
				entries = append(entries, params{"entry": n})
			}
			text, err := json.Marshal(entries)
			if err != nil {
				panic(err) // texts alone
			}
			out = append(out, call{slbAPI, change.action, params{"AclId": list.id, "AclEntrys": string(text)}})
		}
	}
	return out
}

const addEntries, removeEntries = "AddAccessControlListEntry", "RemoveAccessControlListEntry"
