package haproxy

import (
	"bytes"
	"context"
	"fmt"
	"regexp"
	"strings"

	"github.com/external-lb/external-lb/internal/engine"
)

// A worker from before a reload listens for nobody, but its master speaks to it.

// master is the socket of HAProxy's master, as its command line has it; "": it has none.
func (h *Daemon) master() string {
	pid, _ := engine.Children(h.Settings.PIDFile, "haproxy", "haproxy")
	words := bytes.Split(engine.CommandLine(pid), []byte{0})
	for i, word := range words[:max(0, len(words)-1)] {
		if string(word) == "-S" {
			path, _, _ := strings.Cut(string(words[i+1]), ",")
			return strings.TrimPrefix(path, "unix@")
		}
	}
	return ""
}

// masterEnds makes a master hang up when it has answered, as a worker does by itself.
const masterEnds = "\nquit\n"

// endIn ends the sessions that an old worker has with some servers.
func (h *Daemon) endIn(ctx context.Context, pid int, servers map[string]bool) error {
	socket := h.master()
	if !strings.HasPrefix(socket, "/") {
		return engine.Failed("old workers of HAProxy have connections to nodes that left, and cannot be told to end them, since its master has no socket: "+
			"add `-S /run/haproxy-master.sock` to %s in %s, and restart it; until then they end after hardStopAfter", h.variable(), h.Environment)
	}
	to := fmt.Sprintf("@!%d ", pid)
	var commands []string
	sessions := sessionReader{each: func(id, server string) {
		if servers[server] {
			commands = append(commands, to+"shutdown session "+id)
		}
	}}
	if err := talk(ctx, socket, to+"show sess"+masterEnds, sessions.line); err != nil {
		return fmt.Errorf("an old worker does not say which connections it has: %w", err)
	}
	for some := range batches(commands) { // of one that has ended, it says that there is none
		if err := talk(ctx, socket, strings.Join(some, ";")+masterEnds, func(string) {}); err != nil {
			return fmt.Errorf("an old worker does not end connections: %w", err)
		}
	}
	return nil
}

// sessionReader reads what HAProxy says to "show sess": a line for each, "0x5581a0:
// proto=tcpv4 src=192.0.2.7:4711 fe=a be=a srv=n1 …", or several lines, with "backend=a
// (id=2 mode=tcp)" and "server=n1 (id=1)" in them. The names are the first such words.
type sessionReader struct {
	each        func(id, server string) // of those that have a server, as SECTION/SERVER
	id, backend string
}

var sessionText = regexp.MustCompile(`^0x[0-9a-f]{1,16}:$`)

func (r *sessionReader) line(text string) {
	for i, word := range strings.Fields(text) {
		if i == 0 && text[0] == '0' && sessionText.MatchString(word) {
			r.id, r.backend = strings.TrimSuffix(word, ":"), ""
			continue
		}
		key, value, _ := strings.Cut(word, "=")
		switch {
		case r.id == "":
			return
		case r.backend == "" && (key == "be" || key == "backend"):
			r.backend = value
		case r.backend != "" && (key == "srv" || key == "server"):
			r.each(r.id, r.backend+"/"+value)
			r.id = ""
		}
	}
}
