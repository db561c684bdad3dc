package cluster

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// StatusLine is one line of the tree that `testcluster status` prints.
type StatusLine struct {
	Depth               int
	Name, State, Detail string
}

// Status is what runs, as a tree.
func (c *Cluster) Status() []StatusLine {
	s := c.now()
	lines := []StatusLine{{0, "cluster " + s.ID, "running", "in " + c.dir}}
	add := func(depth int, name string, up bool, detail string) {
		state := "running"
		if !up {
			state = "down"
		}
		if s.Boxes[name].Cut {
			state += ", cut"
		}
		lines = append(lines, StatusLine{depth, name, state, detail})
	}
	daemon := func(name string) bool { return s.Daemons[name].alive() }
	if !s.Options.NetworkOnly {
		add(1, "kube-apiserver", daemon("kube-apiserver"), c.APIServer())
		add(1, "etcd", daemon("etcd"), "")
	}
	if !s.Options.NetworkOnly && !s.Options.ControlPlaneOnly {
		add(1, "kube-controller-manager", daemon("kube-controller-manager"), "")
	}
	for _, name := range c.Hosts() {
		add(1, name, s.Boxes[name].Init.alive(), c.addrList(name)+"  "+s.Options.Engine)
	}
	for _, name := range c.Clients() {
		add(1, name, true, c.addrList(name))
	}
	for _, name := range c.Nodes() {
		add(1, name, s.Options.NetworkOnly || daemon(proxyOf(name)), c.addrList(name))
		for _, key := range slices.Sorted(maps.Keys(s.Pods)) {
			if s.Pods[key].Node == name {
				add(2, key, s.Pods[key].Echo.alive(), c.addrList(key))
			}
		}
	}
	return append(lines, StatusLine{1, "virtual addresses", s.Options.Addresses, strings.Join(s.Options.Pools, ", ")})
}

func (c *Cluster) addrList(name string) string {
	return strings.Trim(fmt.Sprint(c.Addrs(name)), "[]")
}
