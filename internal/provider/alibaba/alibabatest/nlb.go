package alibabatest

import (
	"cmp"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// domain of the names of load balancers.
const domain = ".cn-hangzhou.nlb.aliyuncsslb.com"

// nlb are the actions of the Network Load Balancer that the double has.
var nlb = map[string]func(*Cloud, url) (object, *Fault){
	"CreateLoadBalancer": (*Cloud).createNLB, "DeleteLoadBalancer": (*Cloud).deleteNLB, "ListLoadBalancers": (*Cloud).listNLBs,
	"CreateServerGroup": (*Cloud).createGroup, "UpdateServerGroupAttribute": (*Cloud).updateGroup, "DeleteServerGroup": (*Cloud).deleteGroup,
	"ListServerGroups": (*Cloud).listGroups, "ListServerGroupServers": (*Cloud).listServers, "AddServersToServerGroup": (*Cloud).addServers,
	"RemoveServersFromServerGroup": (*Cloud).removeServers, "UpdateServerGroupServersAttribute": (*Cloud).updateServers,
	"CreateListener": (*Cloud).createListener, "UpdateListenerAttribute": (*Cloud).updateListener, "DeleteListener": (*Cloud).deleteListener,
	"StartListener": (*Cloud).startListener, "ListListeners": (*Cloud).listListeners,
}

func (c *Cloud) full(what string, have int) *Fault {
	if limit, is := c.Quota[what]; is && have >= limit {
		return refuse(400, "QuotaExceeded.QuotaInsufficient", "The quota of %s is exceeded, usage %d/%d.", what, have, limit)
	}
	return nil
}

func (c *Cloud) createNLB(p url) (object, *Fault) {
	zones := list(p, "ZoneMappings", "ZoneId")
	fault := first(must(p, "AddressType", "VpcId"), c.full("balancers", len(c.balancers)))
	switch {
	case fault != nil:
		return nil, fault
	case len(zones) < 2:
		return nil, refuse(400, "InvalidZones", "The current zone list is illegal.")
	case p["AddressType"] != "Internet" && p["AddressType"] != "Intranet":
		return nil, illegal("AddressType")
	}
	b := &balancer{common: c.make("nlb", p["LoadBalancerName"], p), kind: p["AddressType"], vpc: p["VpcId"], new: true}
	b.address = c.next()
	c.balancers[b.id] = b
	return object{"LoadbalancerId": b.id, "OrderId": 1}, nil
}

func (c *Cloud) nlbOf(id string) (*balancer, *Fault) {
	b := c.balancers[id]
	switch {
	case b == nil || b.classic || b.leaves:
		return nil, refuse(404, "ResourceNotFound.loadBalancer", "The specified resource of loadbalancer is not found.")
	case b.busy() && b.new:
		return nil, refuse(400, "ResourceInCreating.loadbalancer", "The specified resource of loadbalancer is creating, please try again later.")
	case b.busy():
		return nil, refuse(400, "IncorrectStatus.loadbalancer", "The status of loadbalancer [%s] is incorrect.", id)
	}
	return b, nil
}

func (c *Cloud) deleteNLB(p url) (object, *Fault) {
	b, fault := c.nlbOf(p["LoadBalancerId"])
	if fault = first(fault, b.protects()); fault != nil {
		return nil, fault
	}
	b.leaves, b.until = true, time.Now().Add(c.Delay)
	return object{"JobId": "job"}, nil
}

func (b *balancer) protects() *Fault {
	if b != nil && b.protected {
		return refuse(400, "OperationDenied.DeletionProtectionEnabled", "The operation is not allowed because of DeletionProtection.")
	}
	return nil
}

func (c *Cloud) listNLBs(p url) (object, *Fault) {
	all := listed(c, "ListLoadBalancers", p, c.balancers, func(b *balancer) *common { return &b.common }, func(b *balancer) bool { return !b.classic })
	page, next, fault := paged(c, p, all)
	out := []object{}
	for _, b := range page {
		status, business := "Active", "Normal"
		switch {
		case b.leaves:
			status = "Deleting"
		case b.busy() && b.new:
			status = "Provisioning"
		case b.busy():
			status = "Configuring"
		}
		if b.locked {
			business = "FinancialLocked"
		}
		out = append(out, object{"LoadBalancerId": b.id, "LoadBalancerName": b.name, "LoadBalancerStatus": status, "LoadBalancerBusinessStatus": business,
			"DNSName": b.id + domain, "AddressType": b.kind, "VpcId": b.vpc, "CreateTime": b.created.UTC().Format("2006-01-02T15:04:05Z"), "Tags": keyed(b.tags)})
	}
	return object{"LoadBalancers": out, "NextToken": next, "TotalCount": len(all)}, fault
}

func keyed(tags map[string]string) (out []object) {
	for _, key := range slices.Sorted(maps.Keys(tags)) {
		out = append(out, object{"Key": key, "Value": tags[key]})
	}
	return out
}

const check = "HealthCheckConfig."

func groupParams(p url) *Fault {
	fault := first(between(p, check+"HealthCheckInterval", 5, 50), between(p, check+"HealthCheckConnectTimeout", 1, 300),
		between(p, check+"HealthyThreshold", 2, 10), between(p, check+"UnhealthyThreshold", 2, 10), between(p, check+"HealthCheckConnectPort", 0, 65535))
	if s := p["Scheduler"]; fault == nil && s != "" && !slices.Contains([]string{"wrr", "wlc", "rr", "sch", "tch"}, strings.ToLower(s)) {
		fault = illegal("Scheduler")
	}
	return fault
}

func (c *Cloud) createGroup(p url) (object, *Fault) {
	if fault := first(must(p, "ServerGroupName", "VpcId"), groupParams(p)); fault != nil {
		return nil, fault
	}
	g := &group{common: c.make("sgp", p["ServerGroupName"], p), fields: url{"Protocol": "TCP", "Scheduler": "Wrr", "PreserveClientIpEnabled": "true"}}
	maps.Copy(g.fields, p)
	c.groups[g.id] = g
	return object{"ServerGroupId": g.id, "JobId": "job"}, nil
}

func (c *Cloud) groupOf(id string) (*group, *Fault) {
	g := c.groups[id]
	switch {
	case g == nil || g.of != "":
		return nil, refuse(404, "ResourceNotFound.serverGroup", "The specified resource of serverGroup is not found.")
	case g.busy():
		return nil, refuse(400, "IncorrectStatus.serverGroup", "The status of servergroup [%s] is incorrect.", id)
	}
	return g, nil
}

func (c *Cloud) updateGroup(p url) (object, *Fault) {
	g, fault := c.groupOf(p["ServerGroupId"])
	if fault = first(fault, groupParams(p)); fault != nil {
		return nil, fault
	}
	if p[check+"HealthCheckEnabled"] == "false" {
		maps.DeleteFunc(g.fields, func(name, _ string) bool { return strings.HasPrefix(name, check) })
	}
	maps.Copy(g.fields, p)
	g.until = time.Now().Add(c.Delay)
	return object{"JobId": "job"}, nil
}

func (c *Cloud) deleteGroup(p url) (object, *Fault) {
	g, fault := c.groupOf(p["ServerGroupId"])
	if fault != nil {
		return nil, fault
	}
	for _, l := range c.listeners {
		if l.fields["ServerGroupId"] == g.id {
			return nil, refuse(400, "ResourceInUse.ServerGroup", "The specified resource of ServerGroup is in use.")
		}
	}
	g.leaves, g.until = true, time.Now().Add(c.Delay)
	return object{"ServerGroupId": g.id, "JobId": "job"}, nil
}

func (c *Cloud) listGroups(p url) (object, *Fault) {
	all := listed(c, "ListServerGroups", p, c.groups, func(g *group) *common { return &g.common }, func(g *group) bool { return g.of == "" })
	page, next, fault := paged(c, p, all)
	out := []object{}
	for _, g := range page {
		status := "Available"
		switch {
		case g.leaves:
			status = "Deleting"
		case g.busy():
			status = "Configuring"
		}
		f := g.fields
		health := object{"HealthCheckEnabled": f[check+"HealthCheckEnabled"] != "false"}
		if f[check+"HealthCheckEnabled"] != "false" {
			maps.Copy(health, object{"HealthCheckType": cmp.Or(f[check+"HealthCheckType"], "TCP"), "HealthCheckConnectPort": number(f[check+"HealthCheckConnectPort"]),
				"HealthCheckInterval": number(cmp.Or(f[check+"HealthCheckInterval"], "10")), "HealthCheckConnectTimeout": number(cmp.Or(f[check+"HealthCheckConnectTimeout"], "5")),
				"HealthyThreshold": number(cmp.Or(f[check+"HealthyThreshold"], "2")), "UnhealthyThreshold": number(cmp.Or(f[check+"UnhealthyThreshold"], "2")),
				"HealthCheckUrl": f[check+"HealthCheckUrl"], "HttpCheckMethod": f[check+"HttpCheckMethod"], "HealthCheckHttpCode": texts(f, check+"HealthCheckHttpCode")})
		}
		out = append(out, object{"ServerGroupId": g.id, "ServerGroupName": g.name, "ServerGroupType": f["ServerGroupType"], "ServerGroupStatus": status,
			"Scheduler": f["Scheduler"], "Protocol": f["Protocol"], "PreserveClientIpEnabled": f["PreserveClientIpEnabled"] == "true",
			"ConnectionDrainEnabled": f["ConnectionDrainEnabled"] == "true", "HealthCheck": health, "ServerCount": len(g.servers), "Tags": keyed(g.tags)})
	}
	return object{"ServerGroups": out, "NextToken": next}, fault
}

func (c *Cloud) listServers(p url) (object, *Fault) {
	g := c.groups[p["ServerGroupId"]]
	if g == nil || g.of != "" {
		return object{"Servers": []object{}}, nil
	}
	page, next, fault := paged(c, p, g.servers)
	out := []object{}
	for _, m := range page {
		status := "Available"
		if time.Now().Before(m.until) {
			status = "Adding"
		}
		out = append(out, object{"ServerId": m.id, "ServerIp": m.ip, "ServerType": "Ip", "Port": number(m.port), "Weight": number(m.weight), "Status": status})
	}
	return object{"Servers": out, "NextToken": next}, fault
}

// servers of a call, and the group that it changes.
func (c *Cloud) servers(p url) (*group, []server, *Fault) {
	g, fault := c.groupOf(p["ServerGroupId"])
	if fault != nil {
		return nil, nil, fault
	}
	all := list(p, "Servers", "ServerId")
	if len(all) == 0 || len(all) > 40 {
		return nil, nil, illegal("Servers")
	}
	var out []server
	for _, m := range all {
		fault := first(must(m, "ServerId", "ServerType", "ServerIp", "Port"), between(m, "Port", 1, 65535), between(m, "Weight", 0, 100))
		if fault == nil && m["ServerType"] != g.fields["ServerGroupType"] {
			fault = refuse(400, "Mismatch.ServerType", "The ServerType is mismatched for %s and %s.", m["ServerType"], g.fields["ServerGroupType"])
		}
		if fault != nil {
			return nil, nil, fault
		}
		out = append(out, server{id: m["ServerId"], ip: m["ServerIp"], port: m["Port"], weight: cmp.Or(m["Weight"], "100"), until: time.Now().Add(c.Delay)})
	}
	g.until = time.Now().Add(c.Delay)
	return g, out, nil
}

func (g *group) at(s server) int {
	return slices.IndexFunc(g.servers, func(m server) bool { return m.id == s.id && m.port == s.port })
}

func (c *Cloud) addServers(p url) (object, *Fault) {
	g, all, fault := c.servers(p)
	if fault != nil {
		return nil, fault
	}
	for _, m := range all {
		if g.at(m) >= 0 {
			return nil, refuse(400, "DuplicatedParam.Server", "The param of Server is duplicated.")
		}
	}
	g.servers = append(g.servers, all...)
	return object{"ServerGroupId": g.id, "JobId": "job"}, nil
}

func (c *Cloud) removeServers(p url) (object, *Fault) {
	g, all, fault := c.servers(p)
	if fault != nil {
		return nil, fault
	}
	for _, m := range all {
		if i := g.at(m); i >= 0 {
			g.servers = slices.Delete(g.servers, i, i+1)
		}
	}
	return object{"ServerGroupId": g.id, "JobId": "job"}, nil
}

func (c *Cloud) updateServers(p url) (object, *Fault) {
	g, all, fault := c.servers(p)
	if fault != nil {
		return nil, fault
	}
	for _, m := range all {
		i := g.at(m)
		if i < 0 {
			return nil, refuse(404, "ResourceNotFound.BackendServer", "The specified resource of BackendServer is not found.")
		}
		g.servers[i] = m
	}
	return object{"ServerGroupId": g.id, "JobId": "job"}, nil
}

// described is what the API takes for the description of a listener.
var described = regexp.MustCompile(`^[\pL\pN,.;/@_-]{2,256}$`)

func listenerParams(p url) *Fault {
	return first(between(p, "IdleTimeout", 1, 900), between(p, "Cps", 0, 1000000), between(p, "ListenerPort", 0, 65535))
}

func (c *Cloud) createListener(p url) (object, *Fault) {
	if fault := first(must(p, "ListenerProtocol", "ListenerPort", "LoadBalancerId", "ServerGroupId"), listenerParams(p)); fault != nil {
		return nil, fault
	}
	b, fault := c.nlbOf(p["LoadBalancerId"])
	g, also := c.groupOf(p["ServerGroupId"])
	if fault = first(fault, also); fault != nil {
		return nil, fault
	}
	tcp := func(protocol string) bool { return protocol != "UDP" }
	count := 0
	for _, l := range c.listeners {
		if l.of != b.id {
			continue
		}
		if count++; l.port == p["ListenerPort"] && tcp(l.protocol) == tcp(p["ListenerProtocol"]) {
			return nil, refuse(400, "ResourceAlreadyExist.listener", "The specified resource of listener is already exist.")
		}
	}
	switch {
	case tcp(g.fields["Protocol"]) != tcp(p["ListenerProtocol"]):
		return nil, refuse(400, "Mismatch.Protocol", "The Protocol is mismatched.")
	case p["ListenerProtocol"] == "TCPSSL" && len(texts(p, "CertificateIds")) == 0:
		return nil, missing("CertificateIds")
	case p["ListenerProtocol"] != "TCPSSL" && len(texts(p, "CertificateIds")) > 0:
		return nil, refuse(400, "Mismatch.Protocol", "The Protocol is mismatched.")
	case !described.MatchString(p["ListenerDescription"]):
		return nil, illegal("ListenerDescription")
	}
	if fault := c.full("listeners", count); fault != nil {
		return nil, fault
	}
	l := &listener{common: c.make("lsn", "", p), of: b.id, protocol: p["ListenerProtocol"], port: p["ListenerPort"], fields: url{"IdleTimeout": "900", "Cps": "0", "SecurityPolicyId": "tls_cipher_policy_1_0"}}
	maps.Copy(l.fields, p)
	c.listeners[l.id] = l
	b.until, b.new = time.Now().Add(c.Delay), false
	return object{"ListenerId": l.id, "JobId": "job"}, nil
}

func (c *Cloud) listenerOf(id string) (*listener, *Fault) {
	l := c.listeners[id]
	switch {
	case l == nil:
		return nil, refuse(404, "ResourceNotFound.listener", "The specified resource of listener is not found.")
	case l.busy():
		return nil, refuse(400, "IncorrectStatus.listener", "The status of listener [%s] is incorrect.", id)
	}
	return l, nil
}

func (c *Cloud) changeListener(p url, change func(*listener)) (object, *Fault) {
	l, fault := c.listenerOf(p["ListenerId"])
	if fault = first(fault, listenerParams(p)); fault != nil {
		return nil, fault
	}
	change(l)
	l.until = time.Now().Add(c.Delay)
	return object{"JobId": "job"}, nil
}

func (c *Cloud) updateListener(p url) (object, *Fault) {
	return c.changeListener(p, func(l *listener) { maps.Copy(l.fields, p) })
}

func (c *Cloud) deleteListener(p url) (object, *Fault) {
	return c.changeListener(p, func(l *listener) { l.leaves = true })
}

func (c *Cloud) startListener(p url) (object, *Fault) {
	return c.changeListener(p, func(l *listener) { l.stopped = false })
}

func (c *Cloud) listListeners(p url) (object, *Fault) {
	of := texts(p, "LoadBalancerIds")
	if len(of) > 20 {
		return nil, illegal("LoadBalancerIds")
	}
	all := listed(c, "ListListeners", p, c.listeners, func(l *listener) *common { return &l.common }, func(l *listener) bool {
		return strings.HasPrefix(l.id, "lsn") && (len(of) == 0 || slices.Contains(of, l.of))
	})
	page, next, fault := paged(c, p, all)
	out := []object{}
	for _, l := range page {
		status := "Running"
		switch {
		case l.leaves:
			status = "Deleting"
		case l.busy():
			status = "Configuring"
		case l.stopped:
			status = "Stopped"
		}
		port, _ := strconv.Atoi(l.port)
		out = append(out, object{"ListenerId": l.id, "LoadBalancerId": l.of, "ListenerPort": port, "ListenerProtocol": l.protocol, "ListenerStatus": status,
			"ListenerDescription": l.fields["ListenerDescription"], "ServerGroupId": l.fields["ServerGroupId"], "IdleTimeout": number(l.fields["IdleTimeout"]),
			"ProxyProtocolEnabled": l.fields["ProxyProtocolEnabled"] == "true", "CertificateIds": texts(l.fields, "CertificateIds"),
			"Cps": number(l.fields["Cps"]), "SecurityPolicyId": l.fields["SecurityPolicyId"], "CaEnabled": l.fields["CaEnabled"] == "true", "Tags": keyed(l.tags)})
	}
	return object{"Listeners": out, "NextToken": next}, fault
}
