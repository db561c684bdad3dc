package main

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net/netip"
)

// signature begins a PROXY header of version 2. No line that a test sends begins like it.
const signature = "\r\n\r\n\x00\r\nQUIT\n"

// families are those of TCP, with the size of an address.
var families = map[byte]struct {
	name string
	size int
}{0x11: {"TCP4", 4}, 0x21: {"TCP6", 16}}

// takeProxyV2 takes a PROXY header of version 2 off a connection, if there is one,
// and writes it as version 1 does: "v2 TCP4 192.0.2.1 203.0.113.1 1234 80".
func takeProxyV2(r *bufio.Reader) string {
	if first, err := r.Peek(1); err != nil || first[0] != signature[0] {
		return ""
	}
	if head, err := r.Peek(len(signature)); err != nil || string(head) != signature {
		return ""
	}
	head := make([]byte, len(signature)+4) // version and command, family, length
	if _, err := io.ReadFull(r, head); err != nil {
		return ""
	}
	body := make([]byte, binary.BigEndian.Uint16(head[len(head)-2:]))
	if _, err := io.ReadFull(r, body); err != nil {
		return ""
	}
	family, ok := families[head[len(signature)+1]]
	if !ok || len(body) < 2*family.size+4 {
		return "v2 UNKNOWN"
	}
	source, _ := netip.AddrFromSlice(body[:family.size])
	target, _ := netip.AddrFromSlice(body[family.size : 2*family.size])
	ports := body[2*family.size:]
	return fmt.Sprintf("v2 %s %s %s %d %d", family.name, source, target, binary.BigEndian.Uint16(ports), binary.BigEndian.Uint16(ports[2:]))
}
