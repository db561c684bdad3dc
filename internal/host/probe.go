package host

import (
	"bufio"
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/external-lb/external-lb/internal/engine"
	"github.com/external-lb/external-lb/internal/fileset"
)

// listener is a socket of this machine that takes connections or datagrams.
type listener struct {
	fileset.Socket
	inode string
}

// probeAll finds the fragments that this machine cannot serve, and which of their
// sockets: the addresses are not here, or the ports are taken. It is not asked about
// ports that are ours.
func (u *unit) probeAll(files map[string]planned, ours func(fileset.Socket) bool) map[string]engine.Culprit {
	refused := map[string]engine.Culprit{}
	absent := map[netip.Addr]error{}
	taken, owners := sync.OnceValue(listeners), sync.OnceValue(processes)
	for p, f := range files {
		if !f.Fragment {
			continue
		}
		for _, s := range f.Listens {
			err, known := absent[s.Address.Addr()]
			if !known {
				err = bindable(s.Address.Addr())
				absent[s.Address.Addr()] = err
			}
			why := ""
			if err != nil {
				why = err.Error()
			} else if !ours(s) {
				if l, ok := holder(taken(), s); ok {
					why = describe(l, s, owners()[l.inode], u.settings.table)
				}
			}
			if why != "" {
				refused[p] = refused[p].And(s, why)
			}
		}
	}
	return refused
}

// unprepared finds the files for which this machine is not prepared: a reload would show
// that, too, but with every attempt.
func (u *unit) unprepared(files map[string]planned) map[string]engine.Culprit {
	d, ok := u.daemon.(engine.Opener)
	if !ok || d.Prepared() {
		return nil
	}
	culprits := map[string]engine.Culprit{}
	for p, f := range files {
		for _, s := range f.Listens {
			if d.Apart(p) {
				culprits[p] = culprits[p].And(s, d.Unopened())
			}
		}
	}
	return culprits
}

// unopened finds the files that the daemon has not read, though it answers for all.
func (u *unit) unopened(files index) map[string]engine.Culprit {
	d, ok := u.daemon.(engine.Opener)
	if !ok {
		return nil
	}
	held, missing := sync.OnceValue(listeners), map[string]engine.Culprit{}
	for p, e := range files {
		if !d.Apart(p) {
			continue
		}
		for _, s := range e.Listens {
			if _, ok := holder(held(), s); !ok {
				missing[p] = missing[p].And(s, d.Unopened())
			}
		}
	}
	return missing
}

// crowding finds the fragments for whose sockets the daemon has no room: of those that
// are new or listen elsewhere than before, the largest. What is live stays.
func (u *unit) crowding(j *job) map[string]engine.Culprit {
	d, ok := u.daemon.(engine.Roomy)
	if !ok {
		return nil
	}
	tcp, udp := 0, 0
	for _, f := range j.wanted {
		t, u := byNetwork(f.Listens)
		tcp, udp = tcp+t, udp+u
	}
	lacks := d.Room()
	advice := lacks(tcp, udp)
	if advice == "" {
		return nil
	}
	var fresh []string
	for p, f := range j.wanted {
		if was, there := j.base.Files[p]; f.Fragment && !(there && slices.Equal(was.Listens, f.Listens)) {
			fresh = append(fresh, p)
		}
	}
	slices.SortFunc(fresh, func(a, b string) int {
		return cmp.Or(cmp.Compare(len(j.wanted[b].Listens), len(j.wanted[a].Listens)), strings.Compare(a, b))
	})
	culprits, name := map[string]engine.Culprit{}, u.daemon.Name()
	for _, p := range fresh {
		if lacks(tcp, udp) == "" {
			break
		}
		t, u := byNetwork(j.wanted[p].Listens)
		culprits[p] = engine.Culprit{Reason: fmt.Sprintf("%s has no room for %d ports more: %s", name, t+u, advice)}
		tcp, udp = tcp-t, udp-u
	}
	return culprits
}

// byNetwork counts sockets.
func byNetwork(sockets []fileset.Socket) (tcp, udp int) {
	for _, s := range sockets {
		if s.Network == "udp" {
			udp++
		}
	}
	return len(sockets) - udp, udp
}

// bindable reports whether this machine has an address, or may bind it anyway.
func bindable(a netip.Addr) error {
	family, sa := unix.AF_INET6, unix.Sockaddr(&unix.SockaddrInet6{Addr: a.As16()})
	if a.Is4() {
		family, sa = unix.AF_INET, &unix.SockaddrInet4{Addr: a.As4()}
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("address %s cannot be tried: %w", a, err)
	}
	defer unix.Close(fd)
	err = unix.Bind(fd, sa)
	if errors.Is(err, unix.EADDRNOTAVAIL) {
		return errors.New(absence(a))
	}
	if err != nil {
		return fmt.Errorf("address %s cannot be bound on this host: %w", a, err)
	}
	return nil
}

func absence(a netip.Addr) string {
	return fmt.Sprintf("address %s is not on this host: add it to an interface (ip addr add %s/%d dev …) or set net.ipv%d.ip_nonlocal_bind=1",
		a, a, a.BitLen(), map[bool]int{true: 4, false: 6}[a.Is4()])
}

// holder finds who prevents a socket from being opened. A wildcard of IPv6 is
// taken to hold IPv4 as well: that is what it does unless it was told not to.
func holder(all []listener, s fileset.Socket) (listener, bool) {
	for _, l := range all {
		have := l.Address.Addr()
		if l.Network != s.Network || l.Address.Port() != s.Address.Port() {
			continue
		}
		if have == s.Address.Addr() || have.IsUnspecified() && (have.Is6() || s.Address.Addr().Is4()) {
			return l, true
		}
	}
	return listener{}, false
}

// describe says who holds a socket, if his name is known, and what to do.
func describe(l listener, wanted fileset.Socket, name string, t *engine.Table) string {
	who := "by another program (ss -lnp as root says which)"
	if name != "" {
		who = "by " + name
	}
	advice := "stop it or let it listen elsewhere"
	for _, e := range t.Engines {
		if e.Vacate != nil {
			advice = cmp.Or(e.Vacate(name, l.Socket), advice)
		}
	}
	return fmt.Sprintf("%s is taken %s, which listens on %s: %s", wanted, who, l.Address, advice)
}

// standsInTheWay says why a socket cannot be opened now; "" if nothing shows.
func (u *unit) standsInTheWay(s fileset.Socket) string {
	if err := bindable(s.Address.Addr()); err != nil {
		return err.Error()
	}
	if l, ok := holder(listeners(), s); ok {
		return describe(l, s, processes()[l.inode], u.settings.table)
	}
	return ""
}

// listeners of this machine. What cannot be read is left to the daemon to find.
func listeners() []listener {
	var all []listener
	for _, table := range []struct{ file, network, state string }{
		{"tcp", "tcp", "0A"}, {"tcp6", "tcp", "0A"}, {"udp", "udp", "07"}, {"udp6", "udp", "07"},
	} {
		f, err := os.Open("/proc/self/net/" + table.file)
		if err != nil {
			continue
		}
		for lines := bufio.NewScanner(f); lines.Scan(); {
			if l, ok := parseListener(lines.Text(), table.network, table.state); ok {
				all = append(all, l)
			}
		}
		f.Close() // only read
	}
	return all
}

// parseListener reads a line of /proc/net/tcp: "0: 0100007F:1F90 00000000:0000 0A … inode".
func parseListener(line, network, state string) (listener, bool) {
	fields := strings.Fields(line)
	if len(fields) < 10 || fields[3] != state {
		return listener{}, false
	}
	host, port, _ := strings.Cut(fields[1], ":")
	raw, err := hex.DecodeString(host)
	number, portErr := strconv.ParseUint(port, 16, 16)
	if err != nil || portErr != nil || len(raw)%4 != 0 {
		return listener{}, false
	}
	for word := range slices.Chunk(raw, 4) { // words in the machine's order, which is little-endian
		slices.Reverse(word)
	}
	addr, ok := netip.AddrFromSlice(raw)
	if !ok {
		return listener{}, false
	}
	return listener{fileset.Socket{Network: network, Address: netip.AddrPortFrom(addr.Unmap(), uint16(number))}, fields[9]}, true
}

// processes names those that have sockets, by inode: as far as it is this user's
// to know. Of others' processes, that is the service of systemd which they belong to.
func processes() map[string]string {
	names := services()
	links, err := filepath.Glob("/proc/[0-9]*/fd/*")
	if err != nil {
		return names
	}
	for _, link := range links {
		target, err := os.Readlink(link)
		inode, isSocket := strings.CutPrefix(target, "socket:[")
		if err != nil || !isSocket {
			continue
		}
		name, _ := os.ReadFile(filepath.Join(filepath.Dir(filepath.Dir(link)), "comm")) // it may have gone
		names[strings.TrimSuffix(inode, "]")] = strings.Map(printable, strings.TrimSpace(string(name)))
	}
	return names
}

func printable(r rune) rune {
	if r < ' ' || r > '~' {
		return -1
	}
	return r
}

// services are those of systemd that have sockets, by inode. Everybody may ask the kernel
// in which control group a socket was made; ss does.
func services() map[string]string {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, "ss", "-Hlntu", "--extended", "--cgroup").Output()
	if err != nil {
		return map[string]string{} // it is not there, or too old to say
	}
	return parseServices(string(out))
}

// ofService is a line of ss: "tcp LISTEN 0 128 0.0.0.0:22 0.0.0.0:* ino:7093 sk:1 cgroup:/system.slice/ssh.service <->".
var ofService = regexp.MustCompile(`(?m)\bino:(\d+) .*\bcgroup:/(?:\S*/)?([A-Za-z0-9@_.:-]{1,100})\.service(?:\s|/|$)`)

func parseServices(lines string) map[string]string {
	names := map[string]string{}
	for _, m := range ofService.FindAllStringSubmatch(lines, -1) {
		names[m[1]] = m[2]
	}
	return names
}
