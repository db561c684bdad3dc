package cluster

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
)

// Where boxes stand in the cluster's /20: the router, the root namespace of this machine, the control
// plane, then balancer hosts, clients and nodes from these numbers on.
const (
	routerAt       = 1
	rootAt         = 2
	controlPlaneAt = 3
	hostsAt        = 16  // lb1 is 17
	clientsAt      = 128 // the first client is 129
	nodesAt        = 256 // node1 is 257
)

// gateway4 is the way out of every pod; the same link-local address on each node's end of a pod's link.
const gateway4, gateway6 = "169.254.1.1", "fe80::1"

// plan computes the addresses of a cluster. Index 0 to 31 is its slice of 198.18.0.0/15, the range for
// benchmarks (RFC 2544), and of fd65:6c62::/32; only the slice is visible outside of its namespaces.
type plan struct {
	Index int
	Dual  bool
}

func (p plan) slice() netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{198, byte(18 + p.Index>>4), byte(p.Index << 4), 0}), 20)
}

func (p plan) addr4(n int) netip.Addr {
	b := p.slice().Addr().As4()
	b[2], b[3] = b[2]+byte(n>>8), byte(n)
	return netip.AddrFrom4(b)
}

func (p plan) addr6(n int) netip.Addr {
	return netip.MustParseAddr(fmt.Sprintf("fd65:6c62:%x::%x", p.Index, n))
}

// addrs are the addresses of the box at n, IPv4 first.
func (p plan) addrs(n int) []netip.Addr {
	if p.Dual {
		return []netip.Addr{p.addr4(n), p.addr6(n)}
	}
	return []netip.Addr{p.addr4(n)}
}

func (p plan) bits(a netip.Addr) int {
	if a.Is4() {
		return 20
	}
	return 64
}

// podCIDRs are the pod ranges of a node, by the node's index from 1.
func (p plan) podCIDRs(node int) []netip.Prefix {
	v4 := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(240 + node>>8), byte(node), 0}), 24)
	if !p.Dual {
		return []netip.Prefix{v4}
	}
	v6 := netip.MustParsePrefix(fmt.Sprintf("fd65:6c62:%x:%x::/64", p.Index, 0x1000+node))
	return []netip.Prefix{v4, v6}
}

func (p plan) podIPs(node, pod int) []netip.Addr {
	var ips []netip.Addr
	for _, cidr := range p.podCIDRs(node) {
		b := cidr.Addr().AsSlice()
		b[len(b)-1] = byte(pod)
		ip, _ := netip.AddrFromSlice(b)
		ips = append(ips, ip)
	}
	return ips
}

func (p plan) clusterCIDR() string {
	if p.Dual {
		return fmt.Sprintf("10.240.0.0/12,fd65:6c62:%x:1000::/52", p.Index)
	}
	return "10.240.0.0/12"
}

func (p plan) serviceCIDR() string {
	if p.Dual {
		return fmt.Sprintf("10.96.0.0/14,fd65:6c62:%x:f000::/112", p.Index)
	}
	return "10.96.0.0/14"
}

// freeIndex is the first slice that no interface of this machine uses.
func freeIndex() (int, error) {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return 0, err
	}
	used := make(map[int]bool)
	for _, a := range addrs {
		if prefix, err := netip.ParsePrefix(a.String()); err == nil {
			for i := range 32 {
				used[i] = used[i] || (plan{Index: i}).slice().Contains(prefix.Addr().Unmap())
			}
		}
	}
	for i := range 32 {
		if !used[i] {
			return i, nil
		}
	}
	return 0, fmt.Errorf("all of 198.18.0.0/15 is in use on this machine: stop another test cluster")
}

// ip runs lines of `ip -batch` in a place.
func ip(ctx context.Context, where place, lines ...string) error {
	cmd := where.command(ctx, "ip", "-batch", "-")
	cmd.Stdin = strings.NewReader(strings.Join(lines, "\n") + "\n")
	if _, err := cmd.Output(); err != nil {
		return fmt.Errorf("%w\nwhile running\n%s", err, strings.Join(lines, "\n"))
	}
	return nil
}

// sysctl writes settings of the form net/ipv4/x=1 in a place's network namespace.
func sysctl(where place, settings ...string) error {
	return where.do(func() error {
		for _, s := range settings {
			key, value, _ := strings.Cut(s, "=")
			if err := os.WriteFile("/proc/sys/"+key, []byte(value), 0o644); err != nil {
				return err
			}
		}
		return nil
	})
}

var (
	quietSettings = []string{
		// Addresses are usable at once, and nobody learns routes that the cluster did not give.
		"net/ipv6/conf/all/accept_dad=0", "net/ipv6/conf/default/accept_dad=0",
		"net/ipv6/conf/all/accept_redirects=0", "net/ipv6/conf/default/accept_redirects=0",
		"net/ipv4/conf/all/accept_redirects=0", "net/ipv4/conf/default/accept_redirects=0",
		"net/ipv4/conf/all/rp_filter=0", "net/ipv4/conf/default/rp_filter=0",
	}
	forwardSettings = []string{
		"net/ipv4/ip_forward=1", "net/ipv6/conf/all/forwarding=1",
		"net/ipv4/conf/all/send_redirects=0", "net/ipv4/conf/default/send_redirects=0",
	}
)

// buildRouter makes the bridge that everything hangs on, in the network namespace of the cluster's
// first process, and the link to this machine's root namespace.
func (c *Cluster) buildRouter(ctx context.Context) error {
	root, err := cacheRoot()
	if err != nil {
		return err
	}
	unlock, err := lockFile(filepath.Join(root, "network.lock")) // others look for a free slice, too
	if err != nil {
		return err
	}
	defer unlock()
	index, err := freeIndex()
	if err != nil {
		return err
	}
	if err := c.update(func(s *state) { s.Plan = plan{Index: index, Dual: s.Options.DualStack} }); err != nil {
		return err
	}

	router, p := c.router(), c.now().Plan
	settings := append(append(pathSettings(), quietSettings...), forwardSettings...)
	if err := sysctl(router, settings...); err != nil {
		return err
	}
	outside := []string{fmt.Sprintf("link add %s type veth peer name root netns %d", c.linkName(), c.now().Init.PID)}
	// With an address of its own: a bridge without one takes the lowest of its ports', and all neighbours
	// lose it for half a minute when that port goes.
	bridge := []string{"link set lo up", "link add br0 address " + mac(routerAt) + " type bridge forward_delay 0 mcast_snooping 0"}
	for _, a := range p.addrs(routerAt) {
		bridge = append(bridge, addrAdd(a, p.bits(a), "br0"))
	}
	for _, a := range p.addrs(rootAt) {
		outside = append(outside, addrAdd(a, p.bits(a), c.linkName()))
	}
	if err := ip(ctx, nil, append(outside, "link set "+c.linkName()+" up")...); err != nil {
		return err
	}
	return ip(ctx, router, append(bridge, "link set br0 up", "link set root master br0 up")...)
}

func addrAdd(a netip.Addr, bits int, dev string) string {
	line := fmt.Sprintf("addr add %s/%d dev %s", a, bits, dev)
	if a.Is6() {
		line += " nodad"
	}
	return line
}

// mac stays the same over a reboot, as neighbours expect.
func mac(at int) string { return fmt.Sprintf("02:65:6c:62:%02x:%02x", at>>8, at&0xff) }

// addBox makes a network namespace with a link to the bridge, addresses, and a way out by the router.
func (c *Cluster) addBox(ctx context.Context, name string, at int, settings ...string) error {
	if err := ip(ctx, c.router(), "netns add "+name,
		fmt.Sprintf("link add p%d type veth peer name eth0 address %s netns %s", at, mac(at), name),
		fmt.Sprintf("link set p%d master br0 up", at)); err != nil {
		return err
	}
	box := c.netns(name)
	if err := sysctl(box, append(boxSettings(), settings...)...); err != nil {
		return err
	}
	return ip(ctx, box, c.boxLines(at)...)
}

func boxSettings() []string {
	return append([]string{"net/ipv6/conf/eth0/accept_dad=0"}, quietSettings...)
}

// boxLines give a box its addresses, and the way out by the router.
func (c *Cluster) boxLines(at int) []string {
	p := c.now().Plan
	lines := []string{"link set lo up", "link set eth0 up"}
	for _, a := range p.addrs(at) {
		lines = append(lines, addrAdd(a, p.bits(a), "eth0"))
	}
	for _, gw := range p.addrs(routerAt) {
		lines = append(lines, "route add default via "+gw.String())
	}
	return lines
}

func (c *Cluster) removeBox(ctx context.Context, name string, at int) error {
	// The link goes first: the namespace itself ends only when its last socket is closed.
	return ip(ctx, c.router(), fmt.Sprintf("link del p%d", at), "netns del "+name)
}

// pathSettings have a router choose a host by the addresses, ports and protocol of a packet. With policy 1 the
// kernel would take the hash that the client's socket has left on it, since both are on this machine: it is
// another one when TCP sends something again, and so would be the host.
func pathSettings() []string {
	const custom, fields = 3, 0x37
	var all []string
	for _, family := range []string{"ipv4", "ipv6"} {
		all = append(all, fmt.Sprintf("net/%s/fib_multipath_hash_policy=%d", family, custom), fmt.Sprintf("net/%s/fib_multipath_hash_fields=%d", family, fields))
	}
	return all
}

// RouteVia points the routes to the virtual addresses at these hosts, several of them as equal paths
// chosen by a hash of each connection, as a router in front of the balancer hosts would.
func (c *Cluster) RouteVia(ctx context.Context, hosts ...string) error {
	var lines []string
	for _, pool := range c.now().Options.Pools {
		prefix, err := netip.ParsePrefix(pool)
		if err != nil {
			return err
		}
		line := "route replace " + pool
		if c.now().Options.Addresses == "vrrp" {
			lines = append(lines, line+" dev br0") // whoever answers for an address has it
			continue
		}
		for _, name := range hosts {
			box, ok := c.now().Boxes[name]
			if !ok {
				return fmt.Errorf("no host %q", name)
			}
			for _, a := range c.now().Plan.addrs(box.At) {
				if a.Is4() == prefix.Addr().Is4() {
					line += " nexthop via " + a.String()
				}
			}
		}
		if len(hosts) == 0 {
			line = "route replace unreachable " + pool
		}
		lines = append(lines, line)
	}
	return ip(ctx, c.router(), lines...)
}
