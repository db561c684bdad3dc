package main

import (
	"context"
	"io"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/external-lb/external-lb/provider"
)

// balancer is one load balancer of this small cloud.
type balancer struct {
	address         netip.Addr
	namespace, name string
	family          atomic.Pointer[provider.Family] // connections read it at their start
	ports           map[uint16]*port
}

// port carries what arrives at it to the members, one after the other.
type port struct {
	net.Listener
	as   atomic.Pointer[provider.Listener]
	next atomic.Uint32
	end  context.CancelFunc // of it and all its connections
}

// observed is what the running ports do, not what somebody once asked for.
func (b *balancer) observed(id provider.ID) provider.Observed {
	var o provider.Observed
	o.Service, o.State = id.Service, provider.Live
	o.Spec.Namespace, o.Spec.Name = b.namespace, b.name
	o.Addresses = []provider.Address{{Family: provider.IPv4, IP: b.address}}
	if f := b.family.Load(); f != nil {
		o.Spec.Families = []provider.Family{*f}
	}
	for _, p := range b.ports {
		o.Spec.Listeners = append(o.Spec.Listeners, *p.as.Load())
	}
	if len(o.Spec.Listeners) == 0 {
		o.State, o.Reason, o.Message = provider.Failed, provider.Internal, "no port of it can be opened"
	}
	return o
}

// carry what is wanted, and nothing else.
func (b *balancer) carry(want provider.Spec) (refused []provider.Refusal, writes int32) {
	f := want.Families[0]
	b.family.Store(&f)
	for number, p := range b.ports {
		if !slices.ContainsFunc(want.Listeners, func(l provider.Listener) bool { return l.Port == number }) {
			p.end()
			delete(b.ports, number)
			writes++
		}
	}
	for _, l := range want.Listeners {
		writes++
		if p, there := b.ports[l.Port]; there {
			p.as.Store(&l)
		} else if err := b.open(l); err != nil {
			refused = append(refused, provider.Refusal{Port: l.Port, Protocol: l.Protocol, Reason: provider.Unavailable, Message: err.Error()})
		}
	}
	return refused, writes
}

func (b *balancer) open(l provider.Listener) error {
	at, err := net.Listen("tcp", net.JoinHostPort(b.address.String(), strconv.Itoa(int(l.Port))))
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	p := &port{Listener: at, end: func() { cancel(); at.Close() }}
	p.as.Store(&l)
	b.ports[l.Port] = p
	go func() {
		for {
			client, err := p.Accept()
			if err != nil {
				return // closed
			}
			go p.pass(ctx, client.(*net.TCPConn), b.family.Load())
		}
	}()
	return nil
}

// pass one connection on to a member.
func (p *port) pass(ctx context.Context, client *net.TCPConn, f *provider.Family) {
	defer client.Close()
	from := client.RemoteAddr().(*net.TCPAddr).AddrPort().Addr().Unmap()
	if len(f.Members) == 0 || !slices.ContainsFunc(f.Sources, func(s netip.Prefix) bool { return s.Contains(from) }) {
		return
	}
	l, to := p.as.Load(), f.Members[int(p.next.Add(1))%len(f.Members)]
	dialer := net.Dialer{Timeout: time.Duration(l.Settings.ConnectTimeoutMilliseconds) * time.Millisecond}
	node, err := dialer.DialContext(ctx, "tcp", netip.AddrPortFrom(to.Address, l.NodePort).String())
	if err != nil {
		return
	}
	defer node.Close()
	defer context.AfterFunc(ctx, func() { client.Close(); node.Close() })()
	go func() {
		_, _ = io.Copy(node, client)
		_ = node.(*net.TCPConn).CloseWrite()
	}()
	_, _ = io.Copy(client, node)
}
