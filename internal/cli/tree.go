package cli

import (
	"fmt"
	"io"
	"strings"

	"github.com/external-lb/external-lb/api/v1alpha1"
)

// tree is a line with lines below it.
type tree struct {
	line string
	sub  []tree
}

func (t tree) print(w io.Writer) error {
	_, err := io.WriteString(w, t.line+"\n"+strings.Join(t.below(""), ""))
	return err
}

func (t tree) below(indent string) []string {
	var out []string
	for i, s := range t.sub {
		branch, more := "├─ ", "│  "
		if i == len(t.sub)-1 {
			branch, more = "└─ ", "   "
		}
		out = append(out, indent+branch+s.line+"\n")
		out = append(out, s.below(indent+more)...)
	}
	return out
}

// tree of a Balancer. A wide one leaves nothing out.
func (b balancerView) tree(p paint, wide bool) tree {
	class := "class " + b.Class
	if b.Default {
		class += ", default"
	}
	t := tree{line: words("Balancer "+p.bold(b.Name), b.Engine, class, p.warn(b.Problem))}
	hosts := tree{line: "hosts"}
	for _, h := range b.Hosts {
		digest, proved := short(h.Digest), ""
		if wide {
			digest = h.Digest
		}
		if wide && h.LastAppliedTime != nil {
			proved = "proved " + stamp(h.LastAppliedTime.Time)
		}
		role := ""
		switch {
		case h.Draining:
			role = p.middle("drained")
		case h.Active:
			role = "has the addresses"
		}
		one := tree{line: words(p.bold(h.Name), p.state(h.State), role, plain(h.EngineVersion), plain(digest), proved, plain(h.Message))}
		for _, n := range h.Notes {
			one.sub = append(one.sub, tree{line: p.warn(plain(n.Message))})
		}
		hosts.sub = append(hosts.sub, one)
	}
	most := 10
	if wide {
		most = len(b.Nodes)
	}
	nodes := tree{line: "nodes: " + some(b.Nodes, most)}
	switch {
	case b.Pods:
		nodes.line = "nodes: none, the hosts send to pods themselves"
	case len(b.Nodes) == 0:
		nodes.line = p.bad("nodes: none that may carry traffic")
	}
	pools := tree{line: "pools"}
	if len(b.Pools) == 0 {
		pools.line = p.bad("pools: none, so no Service gets an address")
	}
	for _, pool := range b.Pools {
		pools.sub = append(pools.sub, tree{line: words(p.bold(pool.Name), usage("IPv4", pool.IPv4), usage("IPv6", pool.IPv6), p.warn(pool.Problem))})
	}
	services, behind := tree{line: "services"}, "nodes: "
	if b.Pods {
		behind = "pods: "
	}
	if len(b.Services) == 0 {
		services.line = "services: none"
	}
	for _, svc := range b.Services {
		ports := svc.Ports
		if wide {
			ports = svc.nodePorts
		}
		services.sub = append(services.sub, tree{line: words(p.bold(svc.Namespace+"/"+svc.Name), svc.addresses(p), strings.Join(ports, " "), p.warn(svc.Problem))})
		if svc.Backends != "" {
			last := &services.sub[len(services.sub)-1]
			last.sub = append(last.sub, tree{line: behind + plain(svc.Backends)})
		}
	}
	t.sub = []tree{hosts, nodes, pools, services}
	return t
}

func (s serviceView) addresses(p paint) string {
	if len(s.Addresses) == 0 {
		return p.middle("no address")
	}
	return p.good(strings.Join(s.Addresses, " "))
}

// state of a host in its colour.
func (p paint) state(s v1alpha1.HostState) string {
	switch s {
	case v1alpha1.HostInSync:
		return p.good(string(s))
	case v1alpha1.HostConnecting, v1alpha1.HostDelivering, v1alpha1.HostPartial:
		return p.middle(string(s))
	default:
		return p.bad(string(s))
	}
}

// warn marks what is wrong.
func (p paint) warn(s string) string {
	if s == "" {
		return ""
	}
	return p.bad("! " + plain(s))
}

func usage(family string, u *v1alpha1.AddressUsage) string {
	if u == nil {
		return ""
	}
	return fmt.Sprintf("%s %d of %d", family, u.Assigned, u.Capacity)
}

func short(digest string) string { return digest[:min(12, len(digest))] }

// some of a list, if it is long.
func some(list []string, n int) string {
	if len(list) <= n {
		return strings.Join(list, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(list[:n], ", "), len(list)-n)
}

// words that are not empty, in columns that need not align.
func words(list ...string) string {
	var out []string
	for _, w := range list {
		if w != "" {
			out = append(out, w)
		}
	}
	return strings.Join(out, "  ")
}
