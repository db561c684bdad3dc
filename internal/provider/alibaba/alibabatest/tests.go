package alibabatest

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Owned are the IDs of all that has the tags of a Service.
func (c *Cloud) Owned(cluster, service string) (out []string) {
	c.Lock()
	defer c.Unlock()
	c.sweep()
	for _, o := range c.all() {
		if o.tags["external-lb:cluster"] == cluster && o.tags["external-lb:service"] == service {
			out = append(out, o.id)
		}
	}
	slices.Sort(out)
	return out
}

// Servers are those of all groups of a Service, as a text.
func (c *Cloud) Servers(service string) string {
	c.Lock()
	defer c.Unlock()
	var out []string
	for _, g := range c.groups {
		for _, m := range g.servers {
			if g.tags["external-lb:service"] == service {
				out = append(out, m.ip+":"+m.port)
			}
		}
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

// Strangers is what has no tags of ours, as a text.
func (c *Cloud) Strangers() string {
	c.Lock()
	defer c.Unlock()
	c.sweep()
	var out []string
	for _, o := range c.all() {
		if o.tags["external-lb:cluster"] == "" {
			out = append(out, o.id+" "+o.name+fmt.Sprint(o.until.IsZero()))
		}
	}
	slices.Sort(out)
	return strings.Join(out, "\n")
}

func (c *Cloud) all() (out []*common) {
	for _, b := range c.balancers {
		out = append(out, &b.common)
	}
	for _, g := range c.groups {
		out = append(out, &g.common)
	}
	for _, l := range c.listeners {
		out = append(out, &l.common)
	}
	for _, a := range c.acls {
		out = append(out, &a.common)
	}
	return out
}

// Stranger makes a load balancer, a group and a list of somebody else, in both products.
func (c *Cloud) Stranger() {
	c.Lock()
	defer c.Unlock()
	for _, id := range []string{"nlb-theirs", "lb-theirs"} {
		c.balancers[id] = &balancer{common: common{id: id, name: "theirs", created: time.Now()}, classic: id[0] == 'l', address: c.next()}
	}
	c.groups["sgp-theirs"] = &group{common: common{id: "sgp-theirs", name: "external-lb-TCP-80"}, fields: url{}}
	c.acls["acl-theirs"] = &acl{common: common{id: "acl-theirs", name: "theirs"}}
}

// Change something by hand, as a user of the console would: what is one of the changes' names.
func (c *Cloud) Change(service, what string) error {
	c.Lock()
	defer c.Unlock()
	c.sweep()
	of := func(o *common) bool { return o.tags["external-lb:service"] == service }
	var b *balancer
	for _, one := range c.balancers {
		if of(&one.common) {
			b = one
		}
	}
	for _, id := range slices.Sorted(maps.Keys(c.listeners)) {
		l := c.listeners[id]
		if b == nil || l.of != b.id {
			continue
		}
		g := c.groups[l.fields["ServerGroupId"]+l.fields["VServerGroupId"]]
		change, known := map[string]func(){
			"weight":      func() { g.servers[0].weight = strconv.Itoa(number(g.servers[0].weight) + 1) },
			"server less": func() { g.servers = g.servers[1:] },
			"server more": func() {
				g.servers = append(g.servers, server{id: instance("10.9.9.9"), ip: "10.9.9.9", port: g.servers[0].port, weight: "1"})
			},
			"port": func() { g.servers[0].port = "30999" },
			"listener more": func() {
				also := *l
				also.id, also.port, also.fields = strings.Replace(l.id+"-theirs", " "+l.port+"-theirs", " 8080", 1), "8080", maps.Clone(l.fields) // of a CLB, an id has the port
				also.fields["ListenerDescription"], also.fields["Description"] = "theirs", "theirs"
				c.listeners[also.id] = &also
			},
			"listener less":  func() { delete(c.listeners, id) },
			"listener off":   func() { l.stopped = true },
			"group's name":   func() { g.name = "theirs" },
			"another group":  func() { delete(l.fields, "VServerGroupId"); l.fields["ServerGroupId"] = "sgp-theirs" },
			"open":           func() { l.fields["AclStatus"] = "off" },
			"black list":     func() { l.fields["AclType"] = "black" },
			"timeout":        func() { l.fields["IdleTimeout"], l.fields["EstablishedTimeout"] = "77", "77" },
			"algorithm":      func() { g.fields["Scheduler"], l.fields["Scheduler"] = "Rr", "rr" },
			"client address": func() { g.fields["PreserveClientIpEnabled"] = "true" },
			"no check": func() {
				g.fields[check+"HealthCheckEnabled"], l.fields["HealthCheckSwitch"] = "false", "off"
			},
			"description": func() { l.fields["ListenerDescription"], l.fields["Description"] = "mine", "mine" },
			"rate":        func() { l.fields["Cps"] = "1" },
			"bandwidth":   func() { l.fields["Bandwidth"] = "1" },
			"off":         func() { b.off = true },
			"locked":      func() { b.locked = true },
			"list with everybody": func() {
				for _, a := range c.acls {
					if of(&a.common) {
						a.entries = []string{"0.0.0.0/0"}
					}
				}
			},
			"list less": func() {
				for _, a := range c.acls {
					if of(&a.common) {
						a.entries = nil
					}
				}
			},
			"certificates of clients": func() {
				for _, l := range c.listeners {
					l.fields["CaEnabled"] = "true"
				}
			},
			"protection":     func() { b.protected = true },
			"twin":           func() { c.twin(b) },
			"protected twin": func() { c.twin(b).protected = true },
		}[what]
		if !known {
			return fmt.Errorf("there is no %q", what)
		}
		change()
		return nil
	}
	return fmt.Errorf("%s has no listener", service)
}

// twin of a load balancer, with the same listeners.
func (c *Cloud) twin(b *balancer) *balancer {
	twin := *b
	twin.id, twin.created = b.id+"-twin", b.created.Add(time.Hour)
	c.balancers[twin.id] = &twin
	for id, l := range maps.Clone(c.listeners) {
		if l.of == b.id {
			also := *l
			also.of, also.id, also.fields = twin.id, strings.Replace(id, b.id, twin.id, 1), maps.Clone(l.fields)
			if also.id == id {
				also.id += "-twin"
			}
			c.listeners[also.id] = &also
		}
	}
	return &twin
}

// Protect load balancers from being deleted, or not, whose IDs end so.
func (c *Cloud) Protect(is bool, end string) {
	for id, b := range c.balancers {
		if strings.HasSuffix(id, end) {
			b.protected = is
		}
	}
}

// Spec of the load balancer of a Service, and how it is paid.
func (c *Cloud) Spec(service string) string {
	c.Lock()
	defer c.Unlock()
	for _, b := range c.balancers {
		if b.tags["external-lb:service"] == service {
			return b.spec
		}
	}
	return ""
}

// LockBut locks all load balancers, as for bills that are not paid, but those whose IDs end so.
func (c *Cloud) LockBut(end string) {
	for id, b := range c.balancers {
		b.locked = !strings.HasSuffix(id, end)
	}
}

// Open are how many listeners all load balancers of a Service have.
func (c *Cloud) Open(service string) (n int) {
	c.Lock()
	defer c.Unlock()
	c.sweep()
	for _, l := range c.listeners {
		if l.tags["external-lb:service"] == service {
			n++
		}
	}
	return n
}

// Protocols are the listeners of a Service, with their certificates.
func (c *Cloud) Protocols(service string) string {
	c.Lock()
	defer c.Unlock()
	c.sweep()
	var out []string
	for _, l := range c.listeners {
		if l.tags["external-lb:service"] == service {
			out = append(out, strings.Join(append([]string{l.protocol, l.port}, ending(l)...), " "))
		}
	}
	slices.Sort(out)
	return strings.Join(out, ", ")
}

// ending is with what a listener ends TLS.
func ending(l *listener) []string {
	if l.protocol != "TCPSSL" {
		return nil
	}
	return append(texts(l.fields, "CertificateIds"), l.fields["SecurityPolicyId"])
}

// WasOpen reports whether a list of networks was ever without entries while a listener had it.
func (c *Cloud) WasOpen() bool {
	c.Lock()
	defer c.Unlock()
	return c.wasOpen
}
