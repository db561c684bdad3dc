package alibabatest

import (
	"encoding/json"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// slb are the actions of the classic load balancer that the double has.
var slb = map[string]func(*Cloud, url) (object, *Fault){
	"CreateLoadBalancer": (*Cloud).createCLB, "DeleteLoadBalancer": (*Cloud).deleteCLB, "DescribeLoadBalancers": (*Cloud).listCLBs, "SetLoadBalancerStatus": (*Cloud).switchCLB,
	"CreateVServerGroup": (*Cloud).createVGroup, "DeleteVServerGroup": (*Cloud).deleteVGroup, "DescribeVServerGroups": (*Cloud).listVGroups,
	"DescribeVServerGroupAttribute": (*Cloud).readVGroup, "AddVServerGroupBackendServers": (*Cloud).addVServers,
	"RemoveVServerGroupBackendServers": (*Cloud).removeVServers, "SetVServerGroupAttribute": (*Cloud).setVServers,
	"CreateLoadBalancerTCPListener": (*Cloud).createTCP, "CreateLoadBalancerUDPListener": (*Cloud).createUDP,
	"SetLoadBalancerTCPListenerAttribute": (*Cloud).setTCP, "SetLoadBalancerUDPListenerAttribute": (*Cloud).setUDP,
	"StartLoadBalancerListener": (*Cloud).startCLB, "DeleteLoadBalancerListener": (*Cloud).deletePort, "DescribeLoadBalancerListeners": (*Cloud).listPorts,
	"CreateAccessControlList": (*Cloud).createACL, "DeleteAccessControlList": (*Cloud).deleteACL, "DescribeAccessControlLists": (*Cloud).listACLs,
	"DescribeAccessControlListAttribute": (*Cloud).readACL, "AddAccessControlListEntry": (*Cloud).addEntries, "RemoveAccessControlListEntry": (*Cloud).removeEntries,
}

func (c *Cloud) createCLB(p url) (object, *Fault) {
	charge := p["InstanceChargeType"]
	switch {
	case charge != "PayByCLCU" && p["LoadBalancerSpec"] == "":
		return nil, refuse(400, "ShareSlbHaltSales", "The share instance has been discontinued.")
	case p["AddressType"] == "intranet" && p["VSwitchId"] == "":
		return nil, missing("VSwitchId")
	case p["AddressType"] == "internet" && (p["VSwitchId"] != "" || p["Address"] != ""):
		return nil, refuse(400, "InvalidParameter.Mismatch", "AddressType and VSwitchId is conflict.")
	case p["Address"] != "" && c.taken[p["Address"]]:
		return nil, refuse(400, "AllocateVpcInstanceFailed", "Failed to allocate vpc instance.")
	}
	if fault := c.full("balancers", len(c.balancers)); fault != nil {
		return nil, refuse(400, "OverQuota", "The Total is over the quota")
	}
	b := &balancer{common: c.make("lb", p["LoadBalancerName"], p), classic: true, kind: p["AddressType"], vpc: p["VpcId"], spec: charge + " " + p["LoadBalancerSpec"], address: p["Address"]}
	b.until = time.Time{} // it is there at once
	if b.address == "" {
		b.address = c.next()
	}
	c.taken[b.address] = true
	c.balancers[b.id] = b
	return object{"LoadBalancerId": b.id, "Address": b.address, "NetworkType": "vpc"}, nil
}

// clbOf a request. A change of a listener ends when the one before it is done.
func (c *Cloud) clbOf(p url) (*balancer, *Fault) {
	b := c.balancers[p["LoadBalancerId"]]
	if b == nil || !b.classic || b.leaves {
		return nil, refuse(404, "InvalidLoadBalancerId.NotFound", "The specified LoadBalancerId does not exist.")
	}
	return b, nil
}

func (c *Cloud) deleteCLB(p url) (object, *Fault) {
	b, fault := c.clbOf(p)
	if fault = first(fault, b.protects()); fault == nil {
		b.leaves, b.until = true, time.Now()
	}
	return object{}, fault
}

func (c *Cloud) switchCLB(p url) (object, *Fault) {
	b, fault := c.clbOf(p)
	if fault == nil {
		b.off = p["LoadBalancerStatus"] != "active"
	}
	return object{}, fault
}

func named(tags map[string]string) object {
	out := []object{}
	for _, key := range slices.Sorted(maps.Keys(tags)) {
		out = append(out, object{"TagKey": key, "TagValue": tags[key]})
	}
	return object{"Tag": out}
}

func (c *Cloud) listCLBs(p url) (object, *Fault) {
	all := listed(c, "DescribeLoadBalancers", p, c.balancers, func(b *balancer) *common { return &b.common }, func(b *balancer) bool { return b.classic })
	page, fault := numbered(c, p, "PageNumber", 100, all)
	out := []object{}
	for _, b := range page {
		status := "active"
		switch {
		case b.locked:
			status = "locked"
		case b.off:
			status = "inactive"
		}
		out = append(out, object{"LoadBalancerId": b.id, "LoadBalancerName": b.name, "LoadBalancerStatus": status, "Address": b.address, "AddressType": b.kind, "VpcId": b.vpc,
			"CreateTime": b.created.UTC().Format("2006-01-02T15:04Z"), "Tags": named(b.tags)})
	}
	return object{"LoadBalancers": object{"LoadBalancer": out}, "TotalCount": len(all), "PageNumber": number(p["PageNumber"])}, fault
}

func (c *Cloud) createVGroup(p url) (object, *Fault) {
	b, fault := c.clbOf(p)
	if fault != nil {
		return nil, fault
	}
	g := &group{common: c.make("rsp", p["VServerGroupName"], p), of: b.id, fields: url{}}
	g.until = time.Time{}
	c.groups[g.id] = g
	return object{"VServerGroupId": g.id, "BackendServers": object{"BackendServer": []object{}}}, nil
}

func (c *Cloud) vgroupOf(p url) (*group, *Fault) {
	g := c.groups[p["VServerGroupId"]]
	switch {
	case g == nil || g.of == "":
		return nil, refuse(400, "InvalidParameter", "The specified VServerGroupId does not exist.")
	case g.busy():
		return nil, refuse(400, "VServerGroupProcessing", "A previous configuration of the VServer group is pending; please try again later.")
	}
	return g, nil
}

func (c *Cloud) deleteVGroup(p url) (object, *Fault) {
	g, fault := c.vgroupOf(p)
	if fault != nil {
		return nil, fault
	}
	for _, l := range c.listeners {
		if l.fields["VServerGroupId"] == g.id {
			return nil, refuse(400, "RspoolVipExist", "There are vips associate with this vServer group.")
		}
	}
	delete(c.groups, g.id)
	return object{}, nil
}

func (c *Cloud) listVGroups(p url) (object, *Fault) {
	b, fault := c.clbOf(p)
	if fault != nil {
		return nil, fault
	}
	out := []object{}
	for _, g := range listed(c, "DescribeVServerGroups", p, c.groups, func(g *group) *common { return &g.common }, func(g *group) bool { return g.of == b.id }) {
		out = append(out, object{"VServerGroupId": g.id, "VServerGroupName": g.name, "ServerCount": len(g.servers), "Tags": named(g.tags)})
	}
	return object{"VServerGroups": object{"VServerGroup": out}}, nil
}

func (c *Cloud) readVGroup(p url) (object, *Fault) {
	g := c.groups[p["VServerGroupId"]]
	if g == nil {
		return nil, refuse(400, "InvalidParameter", "The specified VServerGroupId does not exist.")
	}
	out := []object{}
	for _, m := range g.servers {
		out = append(out, object{"ServerId": m.id, "Type": "ecs", "Port": number(m.port), "Weight": number(m.weight)})
	}
	return object{"VServerGroupId": g.id, "VServerGroupName": g.name, "LoadBalancerId": g.of, "BackendServers": object{"BackendServer": out}}, nil
}

// vservers of a call, and the group that it changes.
func (c *Cloud) vservers(p url) (*group, []server, *Fault) {
	g, fault := c.vgroupOf(p)
	if fault != nil {
		return nil, nil, fault
	}
	var all []url
	if err := json.Unmarshal([]byte(p["BackendServers"]), &all); err != nil || len(all) == 0 || len(all) > 20 {
		return nil, nil, refuse(400, "InvalidParameter", "The specified parameter BackendServers is invalid.")
	}
	var out []server
	for _, m := range all {
		fault := first(must(m, "ServerId", "Port"), between(m, "Port", 1, 65535), between(m, "Weight", 0, 100))
		if fault == nil && (m["Type"] != "ecs" || !strings.HasPrefix(m["ServerId"], "i-")) {
			fault = refuse(400, "ObtainIpFail", "Failed to obtain the IP address of the backend server.")
		}
		if fault != nil {
			return nil, nil, fault
		}
		if m["Weight"] == "" {
			m["Weight"] = "100"
		}
		out = append(out, server{id: m["ServerId"], ip: strings.ReplaceAll(strings.TrimPrefix(m["ServerId"], "i-"), "-", "."), port: m["Port"], weight: m["Weight"]})
	}
	return g, out, nil
}

func (c *Cloud) addVServers(p url) (object, *Fault) {
	g, all, fault := c.vservers(p)
	if fault != nil {
		return nil, fault
	}
	for _, m := range all {
		if g.at(m) < 0 {
			g.servers = append(g.servers, m)
		}
	}
	return object{"VServerGroupId": g.id}, nil
}

func (c *Cloud) removeVServers(p url) (object, *Fault) {
	g, all, fault := c.vservers(p)
	if fault != nil {
		return nil, fault
	}
	for _, m := range all {
		if i := g.at(m); i >= 0 {
			g.servers = slices.Delete(g.servers, i, i+1)
		}
	}
	return object{"VServerGroupId": g.id}, nil
}

func (c *Cloud) setVServers(p url) (object, *Fault) {
	g, all, fault := c.vservers(p)
	if fault != nil {
		return nil, fault
	}
	for _, m := range all {
		if i := g.at(m); i >= 0 {
			g.servers[i].weight = m.weight
		}
	}
	return object{"VServerGroupId": g.id}, nil
}

func portID(p url, protocol string) string {
	return p["LoadBalancerId"] + " " + strings.ToLower(protocol) + " " + p["ListenerPort"]
}

// shortly is what the API takes for the description of a listener.
var shortly = regexp.MustCompile(`^[\pL\pN/._-]{1,80}$`)

func portParams(p url, protocol string) *Fault {
	if _, there := p["PersistenceTimeout"]; there && protocol == "udp" {
		return refuse(400, "InvalidParameter", "PersistenceTimeout is none of UDP.")
	}
	fault := first(between(p, "ListenerPort", 1, 65535), between(p, "EstablishedTimeout", 10, 900), between(p, "PersistenceTimeout", 0, 3600),
		between(p, "HealthCheckInterval", 1, 50), between(p, "healthCheckInterval", 1, 50), between(p, "HealthCheckConnectTimeout", 1, 300),
		between(p, "HealthyThreshold", 2, 10), between(p, "UnhealthyThreshold", 2, 10))
	switch {
	case fault != nil:
		return refuse(400, "InvalidParameter", "%s", fault.Message)
	case !slices.Contains([]string{"", "wrr", "rr", "sch", "tch", "qch"}, p["Scheduler"]):
		return refuse(400, "InvalidParameter", "The specified Scheduler is invalid.")
	case p["Description"] != "" && !shortly.MatchString(p["Description"]):
		return refuse(400, "InvalidParameter", "The specified Description is invalid.")
	case p["AclStatus"] == "on" && (p["AclId"] == "" || p["AclType"] == ""):
		return refuse(400, "MissingParam", "The parameter AclId is required.")
	}
	return nil
}

func (c *Cloud) createTCP(p url) (object, *Fault) { return c.createPort(p, "tcp") }
func (c *Cloud) createUDP(p url) (object, *Fault) { return c.createPort(p, "udp") }

func (c *Cloud) createPort(p url, protocol string) (object, *Fault) {
	b, fault := c.clbOf(p)
	if fault = first(fault, must(p, "ListenerPort", "Bandwidth", "VServerGroupId"), portParams(p, protocol)); fault != nil {
		return nil, fault
	}
	if b.busy() {
		return nil, refuse(400, "ServiceIsConfiguring", "A previous configuration is pending; please try again later.")
	}
	if c.listeners[portID(p, protocol)] != nil {
		return nil, refuse(400, "ListenerAlreadyExists", "There is already a listener bound to the port on the specified load balancer.")
	}
	count := 0
	for _, l := range c.listeners {
		if l.of == b.id {
			count++
		}
	}
	if fault := c.full("listeners", count); fault != nil {
		return nil, refuse(400, "ListenerNumberOverLimit", "The maximum number of listeners is exceeded.")
	}
	l := &listener{common: c.make("", "", p), of: b.id, protocol: protocol, port: p["ListenerPort"], fields: url{"Scheduler": "wrr", "AclStatus": "off", "HealthCheckSwitch": "on"}, stopped: true}
	l.id = portID(p, protocol)
	maps.Copy(l.fields, p)
	if interval, is := p["healthCheckInterval"]; is {
		l.fields["HealthCheckInterval"] = interval
	}
	l.until, b.until = time.Time{}, time.Now().Add(c.Delay)
	c.listeners[l.id] = l
	return object{}, nil
}

func (c *Cloud) setTCP(p url) (object, *Fault) { return c.changePort(p, "tcp", set(p)) }
func (c *Cloud) setUDP(p url) (object, *Fault) { return c.changePort(p, "udp", set(p)) }

func set(p url) func(*listener) { return func(l *listener) { maps.Copy(l.fields, p) } }

func (c *Cloud) startCLB(p url) (object, *Fault) {
	return c.changePort(p, p["ListenerProtocol"], func(l *listener) { l.stopped = false })
}

func (c *Cloud) deletePort(p url) (object, *Fault) {
	return c.changePort(p, p["ListenerProtocol"], func(l *listener) { delete(c.listeners, l.id) })
}

func (c *Cloud) changePort(p url, protocol string, change func(*listener)) (object, *Fault) {
	b, fault := c.clbOf(p)
	if fault = first(fault, portParams(p, protocol)); fault != nil {
		return nil, fault
	}
	l := c.listeners[portID(p, protocol)]
	switch {
	case l == nil:
		return nil, refuse(400, "InvalidParameter", "The specified resource does not exist.")
	case b.busy() || l.busy():
		return nil, refuse(400, "ServiceIsConfiguring", "A previous configuration is pending; please try again later.")
	}
	change(l)
	l.until, b.until = time.Now().Add(c.Delay), time.Now().Add(c.Delay)
	return object{}, nil
}

func (c *Cloud) listPorts(p url) (object, *Fault) {
	of := texts(p, "LoadBalancerId")
	if len(of) > 10 {
		return nil, refuse(400, "InvalidParameter", "more than 10")
	}
	all := listed(c, "DescribeLoadBalancerListeners", p, c.listeners, func(l *listener) *common { return &l.common }, func(l *listener) bool { return slices.Contains(of, l.of) })
	page, next, fault := paged(c, p, all)
	out := []object{}
	for _, l := range page {
		status := "running"
		switch {
		case l.busy():
			status = "configuring"
		case l.stopped:
			status = "stopped"
		}
		f := l.fields
		port, _ := strconv.Atoi(l.port)
		config := object{"HealthCheck": f["HealthCheckSwitch"], "HealthCheckSwitch": f["HealthCheckSwitch"], "HealthCheckType": f["HealthCheckType"],
			"HealthCheckConnectPort": number(f["HealthCheckConnectPort"]), "HealthCheckInterval": number(f["HealthCheckInterval"]),
			"HealthCheckConnectTimeout": number(f["HealthCheckConnectTimeout"]), "HealthyThreshold": number(f["HealthyThreshold"]), "UnhealthyThreshold": number(f["UnhealthyThreshold"]),
			"HealthCheckURI": f["HealthCheckURI"], "HealthCheckHttpCode": f["HealthCheckHttpCode"], "HealthCheckMethod": f["HealthCheckMethod"], "ProxyProtocolV2Enabled": f["ProxyProtocolV2Enabled"]}
		if l.protocol == "tcp" {
			config["EstablishedTimeout"], config["PersistenceTimeout"] = number(f["EstablishedTimeout"]), number(f["PersistenceTimeout"])
		}
		out = append(out, object{"LoadBalancerId": l.of, "ListenerPort": port, "ListenerProtocol": l.protocol, "Status": status, "VServerGroupId": f["VServerGroupId"],
			"Description": f["Description"], "Scheduler": f["Scheduler"], "Bandwidth": number(f["Bandwidth"]), "AclStatus": f["AclStatus"], "AclType": f["AclType"], "AclId": f["AclId"],
			strings.ToUpper(l.protocol) + "ListenerConfig": config, "Tags": []object{}})
	}
	return object{"Listeners": out, "NextToken": next, "TotalCount": len(all)}, fault
}
