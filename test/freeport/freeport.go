// Package freeport finds ports that stay free until a test listens on them.
package freeport

import (
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
)

// Below those that the kernel gives to clients and to listeners on port 0, and below nodePorts.
const first, count = 20000, 10000

var next atomic.Uint32

func init() { next.Store(rand.Uint32N(count)) }

// On is an address with a port on which nothing listens, for TCP nor UDP. No other test
// of this machine is given the port before this one ends.
func On(t testing.TB, ip string) netip.AddrPort {
	t.Helper()
	at, claimed, err := claim(ip)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { claimed.Close() })
	return at
}

// ForProcess is On without a test: the port is the caller's until the process ends.
func ForProcess(ip string) (netip.AddrPort, error) {
	at, claimed, err := claim(ip)
	if err == nil {
		held.Store(at.Port(), claimed)
	}
	return at, err
}

// held are claims that nothing else refers to: the garbage collector closes such sockets.
var held sync.Map

// claim holds a socket of the port's name: the kernel closes it with the process, and no
// file of it is left.
func claim(ip string) (netip.AddrPort, net.Listener, error) {
	address, err := netip.ParseAddr(ip)
	if err != nil {
		return netip.AddrPort{}, nil, err
	}
	for range count {
		at := netip.AddrPortFrom(address, uint16(first+next.Add(1)%count))
		claimed, err := net.Listen("unix", name(at.Port()))
		if err != nil {
			continue
		}
		if isFree(at) {
			return at, claimed, nil
		}
		claimed.Close()
	}
	return netip.AddrPort{}, nil, fmt.Errorf("no port of %s from %d on is free for TCP and UDP", ip, first)
}

func name(port uint16) string { return fmt.Sprintf("@external-lb/test/port/%d", port) }

func isFree(at netip.AddrPort) bool {
	stream, err := net.Listen("tcp", at.String())
	if err != nil {
		return false
	}
	defer stream.Close()
	datagrams, err := net.ListenPacket("udp", at.String())
	if err != nil {
		return false
	}
	datagrams.Close()
	return true
}
