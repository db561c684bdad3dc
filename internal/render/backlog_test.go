package render_test

import (
	"net/netip"
	"os"
	"syscall"
	"testing"
)

// listenWithoutQueue listens with a queue of no connections, which package net cannot.
func listenWithoutQueue(t testing.TB) (*os.File, string) {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	file := os.NewFile(uintptr(fd), "listener")
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 8}}); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	name, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	at := name.(*syscall.SockaddrInet4)
	return file, netip.AddrPortFrom(netip.AddrFrom4(at.Addr), uint16(at.Port)).String()
}
