package haproxy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/external-lb/external-lb/internal/engine"
	"github.com/external-lb/external-lb/internal/fileset"
)

// Nodes come and go without a reload: HAProxy takes and drops servers while it
// runs. What it cannot do that way is left to a reload, and so is whatever fails
// half way: the file says the same.

// weight of a server: what it says, or HAProxy's own.
func (s server) weight() string {
	if s.Weight == 0 {
		return "1"
	}
	return strconv.Itoa(int(s.Weight))
}

// unweighed is the server without what HAProxy changes while it keeps the server.
func (s server) unweighed() server {
	s.Weight = 0
	return s
}

// proxy is a section with servers.
type proxy struct {
	name    string
	spares  []string // servers that wait for a node to check; none: the proxy carries something
	servers []server
	drain   time.Duration // for which connections to one that goes are served; 0: see Repair
	// What follows the servers' own parameters, and whether they are checked themselves.
	parameters string
	checked    bool
}

// checks reports whether the servers of the proxy are there to be asked how they
// are, and carry nothing.
func (p *proxy) checks() bool { return len(p.spares) > 0 }

// printed is what a file prints: for a Service or, without Frontends, for all.
func printed(path string, view []byte) (s service, err error) {
	if path == engine.MainPath {
		return s, json.Unmarshal(view, &s.Checks)
	}
	return s, json.Unmarshal(view, &s)
}

// takeServers takes them out of what is printed. What is left takes a reload if it
// changes, which is also so where a port gets its first node or loses its last; of pods it
// is not.
func (s *service) takeServers() (all []proxy) {
	for i := range s.Checks {
		c := &s.Checks[i]
		p := proxy{name: c.Name, servers: c.Servers}
		for _, spare := range c.Spares() {
			p.spares = append(p.spares, spare.Name)
		}
		all = append(all, p)
		c.Servers = nil
	}
	for i := range s.Frontends {
		f := &s.Frontends[i]
		all = append(all, proxy{
			name: f.Name, servers: f.Backends, drain: time.Duration(f.Drain) * time.Second, parameters: f.ServerParameters, checked: f.CheckTimeout != "",
		})
		f.Drain = 0 // no word of it is HAProxy's
		if f.Sends() {
			f.Backends = []server{}
		}
	}
	return all
}

// proxyChange is what becomes of the servers of a proxy.
type proxyChange struct {
	*proxy
	gone     []server
	appeared []server
	weighed  []server // with another weight than before, and the same otherwise
}

var errReload = errors.New("this takes a reload")

// serverChanges finds how two versions of a file differ, if only in servers.
func serverChanges(of engine.Change) ([]proxyChange, error) {
	before, beforeErr := printed(of.Path, of.Before)
	after, afterErr := printed(of.Path, of.After)
	if err := errors.Join(beforeErr, afterErr); err != nil {
		return nil, err
	}
	old, now := before.takeServers(), after.takeServers()
	if !reflect.DeepEqual(before, after) {
		return nil, errReload
	}
	var changes []proxyChange
	for i := range now {
		c := proxyChange{proxy: &now[i], gone: without(old[i].servers, now[i].servers)}
		for _, s := range without(now[i].servers, old[i].servers) {
			at := slices.IndexFunc(c.gone, func(was server) bool { return was.Name == s.Name })
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

func without(all, some []server) []server {
	in := make(map[server]bool, len(some))
	for _, s := range some {
		in[s] = true
	}
	var rest []server
	for _, s := range all {
		if !in[s] {
			rest = append(rest, s)
		}
	}
	return rest
}

// unfinished is what HAProxy says that it runs while a change is not whole: nobody's digest. An agent
// may die, and its successor must not take that for what was there before.
var unfinished = fileset.Digest(strings.Repeat("0", 64))

// says makes HAProxy say what it runs.
func (h *Daemon) says(ctx context.Context, runs fileset.Digest) error {
	return h.command(ctx, nil, "experimental-mode on", fmt.Sprintf("set var proc.external_lb str(%s)", runs))
}

// HotReload lets HAProxy change its servers as some files do, and say that it runs
// want. An error: a reload must.
func (h *Daemon) HotReload(ctx context.Context, files []engine.Change, want fileset.Digest) error {
	var changes []proxyChange
	for _, f := range files {
		c, err := serverChanges(f)
		if err != nil {
			return err
		}
		changes = append(changes, c...)
	}
	known := slots{}
	starts, err := eachCheck(ctx, changes, known, h.startChecks)
	if err != nil {
		return err
	}
	servers, err := h.serverCommands(ctx, changes, known)
	if err != nil {
		return err
	}
	stops, err := eachCheck(ctx, changes, known, h.stopChecks)
	if err != nil {
		return err
	}
	if len(changes) > 0 { // else what it says is true until it says want
		if err := h.says(ctx, unfinished); err != nil {
			return err
		}
	}
	if err := h.command(ctx, moved, starts...); err != nil {
		return err
	}
	if err := h.changeServers(ctx, servers); err != nil {
		return err
	}
	if err := h.command(ctx, nil, stops...); err != nil {
		return err
	}
	if err := h.says(ctx, want); err != nil {
		return err
	}
	if !engine.Proves(ctx, h, want) {
		return errReload
	}
	return nil
}

// eachCheck collects the commands for what changes among the servers that are there to be asked.
func eachCheck(ctx context.Context, changes []proxyChange, known slots, of func(context.Context, proxyChange, slots) ([]string, error)) (all []string, err error) {
	for _, c := range changes {
		if c.checks() {
			commands, err := of(ctx, c, known)
			if err != nil {
				return nil, err
			}
			all = append(all, commands...)
		}
	}
	return all, nil
}

// moved is what HAProxy says of a server that gets another address.
var moved = regexp.MustCompile(`^(IP changed from|port changed from|no need to change)`)

// startChecks gives each node that appeared a server that asks it: the one that
// did before, or a spare one.
func (h *Daemon) startChecks(ctx context.Context, c proxyChange, known slots) (commands []string, err error) {
	if len(c.appeared) == 0 {
		return nil, nil
	}
	have, err := known.of(ctx, c.name, h)
	if err != nil {
		return nil, err
	}
	for _, s := range c.appeared {
		at := s.Address
		i := slices.IndexFunc(have, func(sl slot) bool { return sl.maint && (sl.at == at || slices.Contains(c.spares, sl.name)) })
		// Who has the name of a slot that asks somebody else could be followed there, and
		// stopChecks, which goes by addresses, would stop both of two that ask one node.
		if i < 0 || slices.ContainsFunc(have, func(sl slot) bool { return sl.name == s.Name && sl.at != at || sl.at == at && !sl.maint }) {
			return nil, errReload
		}
		full := c.name + "/" + have[i].name
		if have[i].at != at {
			commands = append(commands, fmt.Sprintf("set server %s addr %s port %d", full, at.Addr(), at.Port()))
		}
		commands = append(commands, fmt.Sprintf("set server %s state ready", full), allUp(full))
		have[i].maint, have[i].at = false, at
	}
	return commands, nil
}

// followed is the slot that asks the node of a server: one of its own name, or the spare
// one that the node got when it came, maybe long ago.
func (h *Daemon) followed(ctx context.Context, s server, known slots) (full string, err error) {
	proxy, _, _ := strings.Cut(s.Track, "/")
	have, err := known.of(ctx, proxy, h)
	if err != nil {
		return "", err
	}
	i := slices.IndexFunc(have, func(sl slot) bool { return !sl.maint && sl.at.Addr() == s.Address.Addr() })
	if i < 0 {
		return "", errReload
	}
	return proxy + "/" + have[i].name, nil
}

// stopChecks of nodes that are gone. The servers stay: they were there when
// HAProxy read its files, and others may follow them still.
func (h *Daemon) stopChecks(ctx context.Context, c proxyChange, known slots) (commands []string, err error) {
	if len(c.gone) == 0 {
		return nil, nil
	}
	have, err := known.of(ctx, c.name, h)
	if err != nil {
		return nil, err
	}
	for _, s := range c.gone {
		for _, sl := range have {
			if sl.at == s.Address && !sl.maint {
				commands = append(commands, fmt.Sprintf("set server %s/%s state maint", c.name, sl.name))
			}
		}
	}
	return commands, nil
}

// serverCommands change the servers of the proxies that carry something.
type serverCommands struct {
	appeared, enabled, weighed, gone []string
	names                            []string                 // of those that are gone, in their order
	leave                            map[string]time.Duration // the same, each with its drain
}

// serverCommands asks HAProxy what it must know of it, and changes nothing.
func (h *Daemon) serverCommands(ctx context.Context, changes []proxyChange, known slots) (to serverCommands, err error) {
	to.leave = map[string]time.Duration{}
	for _, c := range changes {
		if c.checks() {
			continue
		}
		for _, s := range c.gone {
			full := c.name + "/" + s.Name
			to.names = append(to.names, full)
			to.gone = append(to.gone, fmt.Sprintf("set server %s state maint", full), "del server "+full)
			to.leave[full] = c.drain
		}
		for _, s := range c.weighed {
			to.weighed = append(to.weighed, fmt.Sprintf("set server %s/%s weight %s", c.name, s.Name, s.weight()))
		}
		for _, s := range c.appeared {
			full := c.name + "/" + s.Name
			if s.Track != "" {
				if s.Track, err = h.followed(ctx, s, known); err != nil {
					return to, err
				}
			}
			to.appeared = append(to.appeared, fmt.Sprint("add server ", full, " ", s.Address, s.Parameters(), c.parameters))
			to.enabled = append(to.enabled, "enable server "+full)
			if c.checked {
				to.enabled = append(to.enabled, "enable health "+full, allUp(full))
			}
		}
	}
	return to, nil
}

// changeServers changes them: those that appear first, so that there is always one. A server that still
// has connections gets no new ones and stays until the next reload, and its connections as long as Repair
// lets them.
func (h *Daemon) changeServers(ctx context.Context, to serverCommands) error {
	if err := h.command(ctx, regexp.MustCompile(`^New server registered\.`), to.appeared...); err != nil {
		return err
	}
	if err := h.command(ctx, nil, append(to.enabled, to.weighed...)...); err != nil {
		return err
	}
	said, err := h.answers(ctx, regexp.MustCompile(`^(Server deleted\.|Server still has connections attached to it)`), to.gone...)
	if err != nil {
		return err // who left with the reload that follows is noted there
	}
	ended := map[string]bool{} // what no worker has connections to, but old ones, which end by themselves, is not noted
	for i, full := range to.names {
		if to.leave[full] == 0 && i < len(said) && said[i] == "Server deleted." {
			delete(to.leave, full)
			ended[full] = true
		}
	}
	h.left.Leave(to.leave)
	h.left.Forget(func(name string, _ time.Duration) bool { return ended[name] }) // nor is that it left before, and came back
	return nil
}

// commandBytes is how much HAProxy reads at once: half of its buffer.
const commandBytes = 8 << 10

// batches are commands, as many at a time as HAProxy reads at once.
func batches(commands []string) iter.Seq[[]string] {
	return func(yield func([]string) bool) {
		for len(commands) > 0 {
			n, size := 0, 0
			for n < len(commands) && (n == 0 || size+len(commands[n]) < commandBytes) {
				size += len(commands[n]) + 1
				n++
			}
			if !yield(commands[:n]) {
				return
			}
			commands = commands[n:]
		}
	}
}

// command runs commands, and wants no other answer than good ones.
func (h *Daemon) command(ctx context.Context, good *regexp.Regexp, commands ...string) error {
	_, err := h.answers(ctx, good, commands...)
	return err
}

// answers are the good ones to commands, of those that say anything.
func (h *Daemon) answers(ctx context.Context, good *regexp.Regexp, commands ...string) (all []string, err error) {
	for some := range batches(commands) {
		text, err := h.tell(ctx, some...)
		if err != nil {
			return nil, err
		}
		for line := range strings.Lines(text) {
			if line = strings.TrimSpace(line); line == "" {
				continue
			}
			if good == nil || !good.MatchString(line) {
				return nil, fmt.Errorf("HAProxy says %q", line)
			}
			all = append(all, line)
		}
	}
	return all, nil
}
