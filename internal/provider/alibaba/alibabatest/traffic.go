package alibabatest

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"
	"time"
)

// port where a listener is open.
type port struct {
	io.Closer
	of string
}

// next address of a load balancer.
func (c *Cloud) next() string {
	c.last++
	return fmt.Sprintf("127.%d.%d.%d", c.network, c.last/250, 1+c.last%250)
}

// Dial a load balancer, by its name or address.
func (c *Cloud) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	c.Lock()
	if b := c.balancers[strings.TrimSuffix(host, domain)]; b != nil {
		host = b.address
	}
	c.Unlock()
	return (&net.Dialer{Timeout: 2 * time.Second}).DialContext(ctx, network, net.JoinHostPort(host, port))
}

// carry traffic until the end: what is running is open, and nothing else.
func (c *Cloud) carry(stop chan struct{}) {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-stop:
			c.Lock()
			defer c.Unlock()
			for _, p := range c.open {
				p.Close()
			}
			return
		case <-tick.C:
			c.reopen()
		}
	}
}

func (c *Cloud) reopen() {
	c.Lock()
	defer c.Unlock()
	if !c.Carry {
		return
	}
	c.sweep()
	wanted := map[string]string{}
	for id, l := range c.listeners {
		if b := c.balancers[l.of]; b != nil && !b.leaves && !b.off && !l.stopped && !l.leaves {
			network := "tcp"
			if strings.EqualFold(l.protocol, "udp") {
				network = "udp"
			}
			wanted[network+" "+net.JoinHostPort(b.address, l.port)] = id
		}
	}
	for at, p := range c.open {
		if wanted[at] != p.of {
			p.Close()
			delete(c.open, at)
		}
	}
	for at, id := range wanted {
		if c.open[at] != nil {
			continue
		}
		if p, err := c.listen(id, at); err == nil { // or it is tried again
			c.open[at] = &port{p, id}
		}
	}
}

func (c *Cloud) listen(id, at string) (io.Closer, error) {
	network, address, _ := strings.Cut(at, " ")
	if network == "udp" {
		p, err := net.ListenPacket(network, address)
		if err == nil {
			go c.receive(id, p)
		}
		return p, err
	}
	l, err := net.Listen(network, address)
	if err == nil {
		go c.accept(id, l)
	}
	return l, err
}

func (c *Cloud) receive(id string, p net.PacketConn) {
	for {
		datagram := make([]byte, 1500)
		n, from, err := p.ReadFrom(datagram)
		if err != nil {
			return // closed
		}
		go c.pass(id, p, from, datagram[:n])
	}
}

// pass a datagram on, and one answer back.
func (c *Cloud) pass(id string, p net.PacketConn, from net.Addr, datagram []byte) {
	to := c.server(id, from.(*net.UDPAddr).AddrPort().Addr().Unmap())
	if to == "" {
		return
	}
	node, err := net.Dial("udp", to)
	if err != nil {
		return
	}
	defer node.Close()
	_ = node.SetDeadline(time.Now().Add(time.Second))
	if _, err := node.Write(datagram); err != nil {
		return
	}
	answer := make([]byte, 1500)
	if n, err := node.Read(answer); err == nil {
		_, _ = p.WriteTo(answer[:n], from) // either end may go
	}
}

func (c *Cloud) accept(id string, l net.Listener) {
	for {
		client, err := l.Accept()
		if err != nil {
			return // closed
		}
		go c.forward(id, client)
	}
}

func (c *Cloud) forward(id string, client net.Conn) {
	defer client.Close()
	from, err := netip.ParseAddrPort(client.RemoteAddr().String())
	to := c.server(id, from.Addr())
	if err != nil || to == "" {
		return
	}
	node, err := net.DialTimeout("tcp", to, time.Second)
	if err != nil {
		return
	}
	defer node.Close()
	if c.ends(id) {
		client = tls.Server(client, &tls.Config{Certificates: c.own})
		defer client.Close()
	}
	go func() { _, _ = io.Copy(node, client) }()
	_, _ = io.Copy(client, node) // either end may go
}

// ends reports whether TLS is ended at a listener.
func (c *Cloud) ends(id string) bool {
	c.Lock()
	defer c.Unlock()
	return c.listeners[id] != nil && c.listeners[id].protocol == "TCPSSL"
}

// server that gets what comes from an address, or "".
func (c *Cloud) server(id string, from netip.Addr) string {
	c.Lock()
	defer c.Unlock()
	l := c.listeners[id]
	if l == nil {
		return ""
	}
	if l.fields["AclStatus"] == "on" {
		list, in := c.acls[l.fields["AclId"]], false
		if list == nil {
			return ""
		}
		for _, e := range list.entries {
			n, err := netip.ParsePrefix(e)
			in = in || err == nil && n.Contains(from)
		}
		if !in && len(list.entries) > 0 {
			return ""
		}
	}
	g := c.groups[l.fields["ServerGroupId"]+l.fields["VServerGroupId"]]
	if g == nil || len(g.servers) == 0 {
		return ""
	}
	m := g.servers[rand.IntN(len(g.servers))]
	return net.JoinHostPort(m.ip, m.port)
}
