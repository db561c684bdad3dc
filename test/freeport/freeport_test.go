package freeport

import (
	"net"
	"net/netip"
	"runtime"
	"testing"
)

func TestOn_GivesNoPortTwice(t *testing.T) {
	given := map[uint16]bool{}
	for range 200 {
		at := On(t, "127.0.0.1")
		if given[at.Port()] {
			t.Fatalf("%s was given twice", at)
		}
		given[at.Port()] = true
	}
}

func TestOn_PassesOverWhatIsTaken(t *testing.T) {
	for name, take := range map[string]func(at netip.AddrPort) (interface{ Close() error }, error){
		"by a listener of TCP": func(at netip.AddrPort) (interface{ Close() error }, error) { return net.Listen("tcp", at.String()) },
		"by a socket of UDP": func(at netip.AddrPort) (interface{ Close() error }, error) {
			return net.ListenPacket("udp", at.String())
		},
		"by the claim of another process": func(at netip.AddrPort) (interface{ Close() error }, error) {
			return net.Listen("unix", name(at.Port()))
		},
	} {
		t.Run(name, func(t *testing.T) {
			at, claimed, err := claim("127.0.0.1")
			if err != nil {
				t.Fatal(err)
			}
			claimed.Close()
			taken, err := take(at)
			if err != nil {
				t.Fatal(err)
			}
			defer taken.Close()
			next.Store(uint32(at.Port()) - first - 1) // this one is next
			if again := On(t, "127.0.0.1"); again == at {
				t.Errorf("%s was given though it is taken", at)
			}
		})
	}
}

func TestOn_WhatATestHadIsForTheNext(t *testing.T) {
	var at netip.AddrPort
	t.Run("the first", func(t *testing.T) { at = On(t, "::1") })
	next.Store(uint32(at.Port()) - first - 1)
	if again := On(t, "::1"); again != at {
		t.Errorf("got %s, want %s", again, at)
	}
}

func TestForProcess_HoldsThePort(t *testing.T) {
	at, err := ForProcess("127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // what the first collection finds is closed when the second's has been
		collected := make(chan struct{})
		runtime.SetFinalizer(new([16]*int), func(*[16]*int) { close(collected) })
		runtime.GC()
		<-collected
	}
	if taken, err := net.Listen("unix", name(at.Port())); err == nil {
		taken.Close()
		t.Errorf("%s is free while the process runs", at)
	}
}
