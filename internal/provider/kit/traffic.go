package kit

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"time"

	"github.com/external-lb/external-lb/provider"
)

// node answers on a nodePort as pods behind it would, to connections and to datagrams: it says its name.
type node struct {
	net.Listener
	datagrams net.PacketConn
	name      string
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
		n, err := newNode(netip.AddrPortFrom(r.Member, port).String(), "node "+strconv.Itoa(i))
		if err != nil {
			last = err
			continue
		}
		r.nodes[i] = n
		if i++; i == len(r.nodes) {
			return nil
		}
	}
	return fmt.Errorf("no nodePort of %s is free: %w", r.Member, last)
}

func newNode(at, name string) (*node, error) {
	connections, err := net.Listen("tcp", at)
	if err != nil {
		return nil, err
	}
	datagrams, err := net.ListenPacket("udp", at)
	if err != nil {
		connections.Close()
		return nil, err
	}
	n := &node{connections, datagrams, name}
	go n.serve()
	go n.reply()
	return n, nil
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

func (n *node) reply() {
	for {
		_, from, err := n.datagrams.ReadFrom(make([]byte, 64))
		if err != nil {
			return // closed
		}
		_, _ = n.datagrams.WriteTo([]byte(n.name), from) // who gets none asks again
	}
}

func (r *run) close() {
	for _, n := range r.nodes {
		if n != nil {
			n.Close()
			n.datagrams.Close()
		}
	}
}

// settling is how long traffic may lag behind what is Live: a load balancer's first health
// checks.
const settling = 15 * time.Second

// carries wants a Spec to be live, and the first of our nodes to answer on every listener.
func (r *run) carries(ctx context.Context, id provider.ID, s provider.Spec) error {
	b, err := r.settle(ctx, id, s)
	if err == nil {
		err = r.answers(ctx, b, s, 0)
	}
	return err
}

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
		if l.Protocol == provider.SCTP {
			continue
		}
		for inARow := 0; inARow < 2; { // one of two may be chance, where an old nodePort has its turn, too
			got, err := r.ask(ctx, b, l)
			if good(got, err) {
				inARow++
				continue
			}
			if inARow = 0; !pause(ctx, 50*time.Millisecond) {
				return fmt.Errorf("port %s: the answer %q, %w", l, got, orNothing(err))
			}
		}
	}
	return nil
}

// ask who answers on a port.
func (r *run) ask(ctx context.Context, b provider.LoadBalancer, l provider.Listener) (string, error) {
	if len(b.Addresses) == 0 {
		return "", errors.New("there is no address")
	}
	host := b.Addresses[0].Hostname
	if host == "" {
		host = b.Addresses[0].IP.String()
	}
	network, patience := "tcp", 2*time.Second
	if l.Protocol == provider.UDP {
		network, patience = "udp", time.Second // it may be lost, and is asked again
	}
	c, err := r.Dial(ctx, network, net.JoinHostPort(host, strconv.Itoa(int(l.Port))))
	if err != nil {
		return "", err
	}
	defer c.Close()
	if l.Certificate != "" {
		c = tls.Client(c, &tls.Config{InsecureSkipVerify: true}) // what names it has is its owner's business
	}
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		return "", err
	}
	if l.Protocol != provider.UDP {
		got, err := io.ReadAll(io.LimitReader(c, 64))
		return string(got), err
	}
	if _, err := io.WriteString(c, "who is there?"); err != nil {
		return "", err
	}
	var got [64]byte
	n, err := c.Read(got[:])
	return string(got[:n]), err
}
