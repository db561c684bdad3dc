package engine

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"strconv"
	"strings"

	"github.com/external-lb/external-lb/internal/lb"
)

// openConnections counts the TCP connections of this machine that came to each address
// and port.
func openConnections() (map[netip.AddrPort]int64, error) {
	all := map[netip.AddrPort]int64{}
	for _, table := range []string{"tcp", "tcp6"} {
		f, err := os.Open("/proc/self/net/" + table)
		if errors.Is(err, fs.ErrNotExist) {
			continue // a kernel without that family
		}
		if err != nil {
			return nil, err
		}
		err = countConnections(f, all)
		f.Close() // only read
		if err != nil {
			return nil, err
		}
	}
	return all, nil
}

// ConnectionsOf are the open connections of what a daemon carries that does not count them
// itself. Of datagrams nothing is known.
func ConnectionsOf(live []Carried) ([]Traffic, error) {
	open, err := openConnections()
	if err != nil {
		return nil, err
	}
	all := make([]Traffic, len(live))
	for i, c := range live {
		all[i] = Traffic{Carried: c, Counts: Uncounted}
		if c.Listener.Protocol == lb.TCP {
			all[i].Open = open[netip.AddrPortFrom(c.Listener.Address, c.Listener.Port)]
		}
	}
	return all, nil
}

// countConnections reads "0: LOCAL REMOTE STATE …", with addresses in hexadecimal digits.
func countConnections(from io.Reader, into map[netip.AddrPort]int64) error {
	lines := bufio.NewScanner(from)
	for lines.Scan() {
		fields := bytes.Fields(lines.Bytes())
		if len(fields) < 4 {
			continue
		}
		// ESTABLISHED and CLOSE_WAIT: those that a program has at both ends, or here.
		if state := string(fields[3]); state != "01" && state != "08" {
			continue
		}
		if at, ok := kernelAddress(string(fields[1])); ok {
			into[at]++
		}
	}
	return lines.Err()
}

// kernelAddress reads what the kernel prints: each four bytes as a number of this machine's.
func kernelAddress(text string) (netip.AddrPort, bool) {
	digits, number, _ := strings.Cut(text, ":")
	raw, err := hex.DecodeString(digits)
	port, portErr := strconv.ParseUint(number, 16, 16)
	if err != nil || portErr != nil || len(raw)%4 != 0 {
		return netip.AddrPort{}, false
	}
	for i := 0; i < len(raw); i += 4 {
		binary.NativeEndian.PutUint32(raw[i:], binary.BigEndian.Uint32(raw[i:]))
	}
	a, ok := netip.AddrFromSlice(raw)
	return netip.AddrPortFrom(a.Unmap(), uint16(port)), ok
}
