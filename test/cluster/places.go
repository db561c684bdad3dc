package cluster

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
)

// router is the network namespace of the cluster's first process, which holds the bridge.
func (c *Cluster) router() place {
	var p place
	p.add(c.now().Init.PID, "net", "pid", "mnt")
	return p
}

// netns is a named network namespace, with the cluster's own processes and mounts.
func (c *Cluster) netns(name string) place {
	var p place
	p.addNet(fmt.Sprintf("/proc/%d/root/run/netns/%s", c.now().Init.PID, name))
	p.add(c.now().Init.PID, "pid", "mnt")
	return p
}

// network is the network namespace alone of what a user calls where.
func (c *Cluster) network(where string) (place, error) {
	s := c.now()
	if _, ok := s.Pods[where]; ok {
		return c.netns(podNetns(where))[:1], nil
	}
	if where == "router" {
		return c.router()[:1], nil
	}
	b, ok := s.Boxes[where]
	if !ok {
		return nil, fmt.Errorf("nothing is called %q", where)
	}
	if b.Virtual {
		return nil, fmt.Errorf("%s is a virtual machine: no socket of this one can be in its network", where)
	}
	return c.netns(where)[:1], nil // of a host, too: it is there while the host reboots
}

// place finds what a user calls lb1, node1, client, router, control-plane or default/web-1.
func (c *Cluster) place(name string) (place, error) {
	s := c.now()
	if _, ok := s.Pods[name]; ok {
		return c.netns(podNetns(name)), nil
	}
	b, ok := s.Boxes[name]
	switch {
	case name == "router":
		return c.router(), nil
	case !ok:
		return nil, fmt.Errorf("nothing is called %q; there are router, %s and the pods", name,
			strings.Join(append(append(append(c.names("control-plane"), c.Hosts()...), c.Nodes()...), c.Clients()...), ", "))
	case b.Kind == "host":
		if !b.Init.alive() {
			return nil, fmt.Errorf("host %s is not running", name)
		}
		var p place
		p.add(b.Init.PID, "net", "uts", "ipc", "pid", "mnt")
		return p, nil
	default:
		return c.netns(name), nil
	}
}

// Command is a command inside a host, node, client, pod (namespace/name) or the router. A host has a
// filesystem and processes of its own; the others see this machine's files.
func (c *Cluster) Command(ctx context.Context, where string, argv ...string) (*Cmd, error) {
	p, err := c.place(where)
	if err != nil {
		return nil, err
	}
	if b := c.now().Boxes[where]; b.Virtual {
		return c.inMachine(ctx, b.At, argv...), nil
	}
	return p.command(ctx, argv...), nil
}

// Exec runs a command to its end and returns what it wrote to stdout; the error holds its stderr.
func (c *Cluster) Exec(ctx context.Context, where string, argv ...string) (string, error) {
	cmd, err := c.Command(ctx, where, argv...)
	if err != nil {
		return "", err
	}
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("%s: %w", where, err)
	}
	return string(out), err
}

// DialFrom opens a connection whose socket lives in the network of where, for the caller to use like any
// other. The address must be an IP address and a port: names are not resolved.
func (c *Cluster) DialFrom(ctx context.Context, where, network, address string) (net.Conn, error) {
	if _, err := netip.ParseAddrPort(address); err != nil {
		return nil, err
	}
	p, err := c.network(where)
	if err != nil {
		return nil, err
	}
	var conn net.Conn
	err = p.visit(func() (err error) {
		conn, err = (&net.Dialer{}).DialContext(ctx, network, address)
		return err
	})
	return conn, err
}

// ListenIn opens a socket of TCP that listens in the network of where, for the caller to use like any other.
func (c *Cluster) ListenIn(ctx context.Context, where, address string) (net.Listener, error) {
	p, err := c.network(where)
	if err != nil {
		return nil, err
	}
	var l net.Listener
	err = p.visit(func() (err error) {
		l, err = (&net.ListenConfig{}).Listen(ctx, "tcp", address)
		return err
	})
	return l, err
}

// HTTPClientFrom is a client whose connections start in the network of where. It keeps connections alive;
// CloseIdleConnections on the client ends them.
func (c *Cluster) HTTPClientFrom(where string) *http.Client {
	return &http.Client{Transport: &http.Transport{
		MaxIdleConnsPerHost: 1024,
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			return c.DialFrom(ctx, where, network, address)
		},
	}}
}

// AskSCTP asks a server for an Answer over SCTP, from the network of where: a client or a pod. The
// kernel's part is played in user space, for IPv4: see the helper.
func (c *Cluster) AskSCTP(ctx context.Context, where string, address netip.AddrPort, text string) (answer Answer, err error) {
	out, err := c.Exec(ctx, where, c.now().Helper, "ask-sctp", address.Addr().String(), fmt.Sprint(address.Port()), text)
	if err != nil {
		return answer, err
	}
	return answer, json.Unmarshal([]byte(out), &answer)
}

// Addrs are the addresses of a host, node, client, pod, router or control-plane, IPv4 first.
func (c *Cluster) Addrs(name string) []netip.Addr {
	s := c.now()
	if p, ok := s.Pods[name]; ok {
		return s.Plan.podIPs(s.Boxes[p.Node].At-nodesAt, p.Slot)
	}
	if name == "router" {
		return s.Plan.addrs(routerAt)
	}
	return s.Plan.addrs(s.Boxes[name].At)
}
