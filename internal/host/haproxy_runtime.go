package host

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/external-lb/external-lb/internal/fileset"
)

// Nodes come and go without a reload: HAProxy takes and drops servers while it
// runs. What it cannot do that way is left to a reload, and so is whatever fails
// half way: the file says the same.

// haproxyServer is a line of a configuration.
type haproxyServer struct{ name, address, parameters string }

var weightText = regexp.MustCompile(` weight (\d+)`)

// weight of a server: what it says, or HAProxy's own.
func (s haproxyServer) weight() string {
	if m := weightText.FindStringSubmatch(s.parameters); m != nil {
		return m[1]
	}
	return "1"
}

// unweighed is the server without what HAProxy changes while it keeps the server.
func (s haproxyServer) unweighed() haproxyServer {
	s.parameters = weightText.ReplaceAllString(s.parameters, "")
	return s
}

// haproxyProxy is a section with servers.
type haproxyProxy struct {
	head    string // "listen name"
	rest    string // all but the servers
	servers []haproxyServer
}

func (p *haproxyProxy) name() string { return p.head[strings.LastIndexByte(p.head, ' ')+1:] }

// checks reports whether the servers of the proxy are there to be asked how they
// are, and carry nothing.
func (p *haproxyProxy) checks() bool { return strings.HasPrefix(p.head, "backend ") }

var serverText = regexp.MustCompile(`^    server (\S+) (\S+)((?: \S+)*)$`)

// parseProxies reads what the renderer writes.
func parseProxies(text []byte) []haproxyProxy {
	all := []haproxyProxy{{}}
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSuffix(line, "\n")
		if line != "" && line[0] != ' ' && line[0] != '#' {
			all = append(all, haproxyProxy{head: line})
		}
		p := &all[len(all)-1]
		if m := serverText.FindStringSubmatch(line); m != nil && p.head != "" {
			p.servers = append(p.servers, haproxyServer{m[1], m[2], m[3]})
		} else {
			p.rest += line + "\n"
		}
	}
	return all
}

// proxyChange is what becomes of the servers of a proxy.
type proxyChange struct {
	proxy    *haproxyProxy
	gone     []haproxyServer
	appeared []haproxyServer
	weighed  []haproxyServer // with another weight than before, and the same otherwise
}

var errReload = errors.New("this takes a reload")

// serverChanges finds how two versions of a file differ, if only in servers.
func serverChanges(before, after []byte) ([]proxyChange, error) {
	old, now := parseProxies(before), parseProxies(after)
	same := slices.EqualFunc(old, now, func(a, b haproxyProxy) bool { return a.head == b.head && a.rest == b.rest })
	if !same {
		return nil, errReload
	}
	var changes []proxyChange
	for i := range now {
		c := proxyChange{proxy: &now[i], gone: without(old[i].servers, now[i].servers)}
		for _, s := range without(now[i].servers, old[i].servers) {
			at := slices.IndexFunc(c.gone, func(was haproxyServer) bool { return was.name == s.name })
			switch {
			case at < 0:
				c.appeared = append(c.appeared, s)
			case c.gone[at].unweighed() == s.unweighed():
				c.gone = slices.Delete(c.gone, at, at+1)
				c.weighed = append(c.weighed, s)
			default:
				return nil, errReload // it would be missing in between
			}
		}
		if len(c.gone)+len(c.appeared)+len(c.weighed) > 0 {
			changes = append(changes, c)
		}
	}
	return changes, nil
}

func without(all, some []haproxyServer) []haproxyServer {
	in := make(map[haproxyServer]bool, len(some))
	for _, s := range some {
		in[s] = true
	}
	var rest []haproxyServer
	for _, s := range all {
		if !in[s] {
			rest = append(rest, s)
		}
	}
	return rest
}

// adjust lets HAProxy change its servers as some files do, by their versions
// before and after, and say that it runs want. An error: a reload must.
func (h *haproxy) adjust(ctx context.Context, files [][2][]byte, want fileset.Digest) error {
	var changes []proxyChange
	for _, f := range files {
		c, err := serverChanges(f[0], f[1])
		if err != nil {
			return err
		}
		changes = append(changes, c...)
	}
	slots := map[string]string{} // where a node is checked, if not under its own name, by proxy/name
	for _, c := range changes {
		if c.proxy.checks() {
			if err := h.startChecks(ctx, c, slots); err != nil {
				return err
			}
		}
	}
	if err := h.changeServers(ctx, changes, slots); err != nil {
		return err
	}
	for _, c := range changes {
		if c.proxy.checks() {
			if err := h.stopChecks(ctx, c); err != nil {
				return err
			}
		}
	}
	if err := h.command(ctx, nil, "experimental-mode on", fmt.Sprintf("set var proc.external_lb str(%s)", want)); err != nil {
		return err
	}
	if !proves(ctx, h, want) {
		return errReload
	}
	return nil
}

// slot is a server of a proxy as HAProxy has it.
type slot struct {
	name  string
	at    netip.AddrPort
	down  bool // by its check
	maint bool
}

// spareMark begins the names of servers that wait for a node to check: HAProxy
// lets nobody follow a server that came while it ran. No node has such a name.
const spareMark = "spare_"

// slotsOf asks HAProxy for the servers of a proxy.
func (h *haproxy) slotsOf(ctx context.Context, proxy string) ([]slot, error) {
	text, err := h.tell(ctx, "show servers state "+proxy)
	if err != nil {
		return nil, err
	}
	return parseSlots(text), nil
}

// parseSlots reads "be_id be_name srv_id srv_name srv_addr srv_op_state
// srv_admin_state …"; the port is the 19th field.
func parseSlots(text string) (all []slot) {
	const nameAt, addressAt, stateAt, adminAt, portAt = 3, 4, 5, 6, 18
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) <= portAt || f[0] == "#" {
			continue
		}
		address, err := netip.ParseAddr(f[addressAt])
		port, portErr := strconv.ParseUint(f[portAt], 10, 16)
		admin, adminErr := strconv.ParseUint(f[adminAt], 10, 32)
		if err != nil || portErr != nil || adminErr != nil {
			continue
		}
		const forced = 1
		all = append(all, slot{f[nameAt], netip.AddrPortFrom(address, uint16(port)), f[stateAt] == "0", admin&forced != 0})
	}
	return all
}

// startChecks gives each node that appeared a server that asks it: the one that
// did before, or a spare one.
func (h *haproxy) startChecks(ctx context.Context, c proxyChange, slots map[string]string) error {
	if len(c.appeared) == 0 {
		return nil
	}
	have, err := h.slotsOf(ctx, c.proxy.name())
	if err != nil {
		return err
	}
	var commands []string
	for _, s := range c.appeared {
		at, err := netip.ParseAddrPort(s.address)
		if err != nil {
			return err
		}
		i := slices.IndexFunc(have, func(sl slot) bool { return sl.maint && (sl.at == at || strings.HasPrefix(sl.name, spareMark)) })
		// Who has the name of a slot that asks somebody else could be followed there, and
		// stopChecks, which goes by addresses, would stop both of two that ask one node.
		if i < 0 || slices.ContainsFunc(have, func(sl slot) bool { return sl.name == s.name && sl.at != at || sl.at == at && !sl.maint }) {
			return errReload
		}
		have[i].maint = false
		full := c.proxy.name() + "/" + have[i].name
		if have[i].at != at {
			commands = append(commands, fmt.Sprintf("set server %s addr %s port %d", full, at.Addr(), at.Port()))
		}
		commands = append(commands, fmt.Sprintf("set server %s state ready", full))
		slots[c.proxy.name()+"/"+s.name] = full
	}
	return h.command(ctx, regexp.MustCompile(`^(IP changed from|port changed from|no need to change)`), commands...)
}

// stopChecks of nodes that are gone. The servers stay: they were there when
// HAProxy read its files, and others may follow them still.
func (h *haproxy) stopChecks(ctx context.Context, c proxyChange) error {
	if len(c.gone) == 0 {
		return nil
	}
	have, err := h.slotsOf(ctx, c.proxy.name())
	if err != nil {
		return err
	}
	var commands []string
	for _, s := range c.gone {
		at, err := netip.ParseAddrPort(s.address)
		if err != nil {
			return err
		}
		for _, sl := range have {
			if sl.at == at && !sl.maint {
				commands = append(commands, fmt.Sprintf("set server %s/%s state maint", c.proxy.name(), sl.name))
			}
		}
	}
	return h.command(ctx, nil, commands...)
}

// changeServers of the proxies that carry something: those that appear first, so
// that there is always one. A server that still has
// connections gets no new ones and stays until the next reload.
func (h *haproxy) changeServers(ctx context.Context, changes []proxyChange, slots map[string]string) error {
	var gone, appeared, enabled, weighed []string
	for _, c := range changes {
		if c.proxy.checks() {
			continue
		}
		for _, s := range c.gone {
			full := c.proxy.name() + "/" + s.name
			gone = append(gone, fmt.Sprintf("set server %s state maint", full), "del server "+full)
		}
		for _, s := range c.weighed {
			weighed = append(weighed, fmt.Sprintf("set server %s/%s weight %s", c.proxy.name(), s.name, s.weight()))
		}
		for _, s := range c.appeared {
			full := c.proxy.name() + "/" + s.name
			appeared = append(appeared, "add server "+full+" "+s.address+follow(s.parameters, slots))
			enabled = append(enabled, "enable server "+full)
			if strings.Contains(s.parameters, " check ") {
				enabled = append(enabled, "enable health "+full)
			}
		}
	}
	if err := h.command(ctx, regexp.MustCompile(`^New server registered\.`), appeared...); err != nil {
		return err
	}
	if err := h.command(ctx, nil, append(enabled, weighed...)...); err != nil {
		return err
	}
	return h.command(ctx, regexp.MustCompile(`^(Server deleted\.|Server still has connections attached to it)`), gone...)
}

var trackText = regexp.MustCompile(` track (\S+)`)

// follow names the server that checks a node where it has another name.
func follow(parameters string, slots map[string]string) string {
	return trackText.ReplaceAllStringFunc(parameters, func(m string) string {
		if full, ok := slots[strings.TrimPrefix(m, " track ")]; ok {
			return " track " + full
		}
		return m
	})
}

// commandBytes is how much HAProxy reads at once: half of its buffer.
const commandBytes = 8 << 10

// command runs commands, many at a time, and wants no other answer than good ones.
func (h *haproxy) command(ctx context.Context, good *regexp.Regexp, commands ...string) error {
	for len(commands) > 0 {
		n, size := 0, 0
		for n < len(commands) && (n == 0 || size+len(commands[n]) < commandBytes) {
			size += len(commands[n]) + 1
			n++
		}
		text, err := h.tell(ctx, commands[:n]...)
		if err != nil {
			return err
		}
		for line := range bytes.Lines([]byte(text)) {
			if line = bytes.TrimSpace(line); len(line) > 0 && (good == nil || !good.Match(line)) {
				return fmt.Errorf("HAProxy says %q", line)
			}
		}
		commands = commands[n:]
	}
	return nil
}
