package cluster

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// Options say what Start makes. The zero value is a cluster with no nodes and no hosts.
type Options struct {
	// Dir holds the state, the logs, the kubeconfig and the data of etcd. Default: DefaultDir.
	Dir string `json:"dir"`
	// Nodes and Hosts are how many nodes (node1…) and balancer hosts (lb1…) to start with.
	Nodes int `json:"nodes"`
	Hosts int `json:"hosts"`
	// DualStack gives everything IPv6 addresses too.
	DualStack bool `json:"dualStack"`
	// ControlPlaneOnly starts etcd and kube-apiserver and nothing else: for tests of controllers.
	ControlPlaneOnly bool `json:"controlPlaneOnly"`
	// NetworkOnly starts nodes, hosts and a client without Kubernetes: nodes are machines on which Serve
	// starts servers.
	NetworkOnly bool `json:"networkOnly,omitempty"`
	// Kubernetes is a minor release, such as 1.34, one of those in kube/*.mod. Default: that of kube/go.mod.
	Kubernetes string `json:"kubernetes,omitempty"`
	// Binary is the external-lb to show in each host as /usr/local/bin/external-lb.
	Binary string `json:"binary,omitempty"`
	// Engine is the daemon that a host starts at boot: nginx (default), or haproxy, or none. With lvs,
	// which is keepalived, hosts are virtual machines with a kernel that has IPVS.
	Engine string `json:"engine"`
	// Datagrams lets hosts carry datagrams in their kernel beside the engine: they are virtual machines, too.
	Datagrams bool `json:"datagrams,omitempty"`
	// ProxyMode is the mode of kube-proxy: nftables (default) or iptables.
	ProxyMode string `json:"proxyMode"`
	// Pools are the ranges of virtual addresses. Default: DefaultPools.
	Pools []string `json:"pools"`
	// Addresses says how hosts get virtual addresses: "static" (default) makes all of Pools local on
	// every host and routes them there; "vrrp" leaves them to keepalived, on the hosts' own link. Static
	// sets net.ipv6.ip_nonlocal_bind, without which such an IPv6 address cannot be bound.
	Addresses string `json:"addresses"`
	// HostDisk bounds what a host can write to its filesystem, as a size for tmpfs. Default: 512m.
	HostDisk string `json:"hostDisk"`
	// KeepDefaultSite leaves Debian's default site of nginx, on port 80, in place.
	KeepDefaultSite bool `json:"keepDefaultSite,omitempty"`
	// NodePorts is the range of node ports. Default: 30000-32767.
	NodePorts string `json:"nodePorts"`
	// APIServerArgs are added to the command line of kube-apiserver.
	APIServerArgs []string `json:"apiServerArgs,omitempty"`
	// Log gets progress lines. Default: nothing.
	Log io.Writer `json:"-"`
}

// DefaultPools are the virtual addresses: a documentation range, a large one for benchmarks, and, in
// dual stack, one for IPv6.
func DefaultPools(dualStack bool) []string {
	pools := []string{"203.0.113.0/24", "10.64.0.0/20"}
	if dualStack {
		pools = append(pools, "2001:db8:0:1::/112")
	}
	return pools
}

// DefaultDir is where the cluster lives when no other directory is given.
func DefaultDir() string {
	base := os.Getenv("XDG_RUNTIME_DIR")
	if base == "" {
		base = os.TempDir()
	}
	return filepath.Join(base, "external-lb-cluster")
}

func (o Options) withDefaults() (Options, error) {
	set := func(field *string, value string) {
		if *field == "" {
			*field = value
		}
	}
	set(&o.Dir, DefaultDir())
	set(&o.Engine, "nginx")
	set(&o.ProxyMode, "nftables")
	set(&o.Addresses, "static")
	set(&o.HostDisk, "512m")
	set(&o.NodePorts, "30000-32767")
	if o.Pools == nil {
		o.Pools = DefaultPools(o.DualStack)
	}
	if o.Log == nil {
		o.Log = io.Discard
	}
	if o.ControlPlaneOnly {
		o.Nodes, o.Hosts = 0, 0
	}
	for _, choice := range []struct{ name, value, allowed string }{
		{"engine", o.Engine, "nginx haproxy lvs none"},
		{"proxy mode", o.ProxyMode, "nftables iptables"},
		{"addresses", o.Addresses, "static vrrp"},
	} {
		if !strings.Contains(" "+choice.allowed+" ", " "+choice.value+" ") {
			return o, fmt.Errorf("%s %q: want one of %s", choice.name, choice.value, choice.allowed)
		}
	}
	if o.Nodes > maxNodes || o.Hosts > maxHosts {
		return o, fmt.Errorf("want at most %d nodes and %d hosts", maxNodes, maxHosts)
	}
	for _, path := range []*string{&o.Dir, &o.Binary} {
		if *path == "" {
			continue
		}
		abs, err := filepath.Abs(*path)
		if err != nil {
			return o, err
		}
		*path = abs
	}
	return o, nil
}
