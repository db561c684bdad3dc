package ui

import (
	"net"
	"net/http"
	"net/netip"
	"sync"
)

// connections are bounded for each address, so that one that opens many leaves room to others.
type connections struct {
	most int
	mu   sync.Mutex
	of   map[netip.Prefix]int
}

// note is http.Server.ConnState. A connection that is too much is closed before anything is
// read of it.
func (c *connections) note(conn net.Conn, state http.ConnState) {
	if state != http.StateNew && state != http.StateClosed {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	from := network(conn.RemoteAddr().String())
	if state == http.StateNew {
		if c.of[from]++; c.of[from] > c.most {
			conn.Close()
		}
		return
	}
	if c.of[from]--; c.of[from] == 0 {
		delete(c.of, from)
	}
}

// network of an address with a port: all that a host with IPv6 has.
func network(remote string) (from netip.Prefix) {
	if at, err := netip.ParseAddrPort(remote); err == nil {
		ip := at.Addr().Unmap().WithZone("")
		from = netip.PrefixFrom(ip, min(ip.BitLen(), 64)).Masked()
	}
	return from
}
