package kit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"time"

	"github.com/external-lb/external-lb/provider"
)

// node answers on a nodePort as pods behind it would: it says its name.
type node struct {
	net.Listener
	name string
}

// nodePort of one of our two nodes.
func (r *run) nodePort(i int) uint16 {
	if r.nodes[i] == nil {
		return 30100 + uint16(i)
	}
	return uint16(r.nodes[i].Addr().(*net.TCPAddr).Port)
}

// listen on two free nodePorts of the member.
func (r *run) listen() error {
	if !r.Member.IsValid() {
		return nil
	}
	var last error
	for port, i := uint16(30100), 0; port < 32768; port++ {
		at, err := net.Listen("tcp", netip.AddrPortFrom(r.Member, port).String())
		if err != nil {
			last = err
			continue
		}
		r.nodes[i] = &node{at, "node " + strconv.Itoa(i)}
		go r.nodes[i].serve()
		if i++; i == len(r.nodes) {
			return nil
		}
	}
	return fmt.Errorf("no nodePort of %s is free: %w", r.Member, last)
}

func (n *node) serve() {
	for {
		c, err := n.Accept()
		if err != nil {
			return // closed
		}
		_, _ = io.WriteString(c, n.name) // a health check may be gone already
		c.Close()
	}
}

func (r *run) close() {
	for _, n := range r.nodes {
		if n != nil {
			n.Close()
		}
	}
}

// settling is how long traffic may lag behind what is Live: a load balancer's first health
// checks.
const settling = 15 * time.Second

// answers wants one of our nodes to answer on every listener.
func (r *run) answers(ctx context.Context, b provider.LoadBalancer, s provider.Spec, node int) error {
	return r.traffic(ctx, b, s, func(got string, err error) bool { return err == nil && got == r.nodes[node].name })
}

// silent wants nobody to answer on any listener.
func (r *run) silent(ctx context.Context, b provider.LoadBalancer, s provider.Spec) error {
	return r.traffic(ctx, b, s, func(got string, _ error) bool { return got == "" })
}

func (r *run) traffic(ctx context.Context, b provider.LoadBalancer, s provider.Spec, good func(string, error) bool) error {
	if !r.Member.IsValid() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, min(settling, r.Timeout))
	defer cancel()
	for _, l := range s.Listeners {
		if l.Protocol != provider.TCP {
			continue
		}
		for {
			got, err := r.ask(ctx, b, l.Port)
			if good(got, err) {
				break
			}
			if !pause(ctx, 50*time.Millisecond) {
				return fmt.Errorf("port %s: the answer %q, %w", l, got, orNothing(err))
			}
		}
	}
	return nil
}

// ask who answers on a port.
func (r *run) ask(ctx context.Context, b provider.LoadBalancer, port uint16) (string, error) {
	if len(b.Addresses) == 0 {
		return "", errors.New("there is no address")
	}
	host := b.Addresses[0].Hostname
	if host == "" {
		host = b.Addresses[0].IP.String()
	}
	c, err := r.Dial(ctx, "tcp", net.JoinHostPort(host, strconv.Itoa(int(port))))
	if err != nil {
		return "", err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(2 * time.Second)); err != nil {
		return "", err
	}
	got, err := io.ReadAll(io.LimitReader(c, 64))
	return string(got), err
}
