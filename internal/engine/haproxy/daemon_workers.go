package haproxy

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/external-lb/external-lb/internal/engine"
)

// A worker from before a reload listens for nobody, but its master speaks to it.

// master is the socket of HAProxy's master, as its command line has it; "": it has none.
func (h *Daemon) master() string {
	words := h.commandLine()
	for i, word := range words[:max(0, len(words)-1)] {
		if word == "-S" {
			path, _, _ := strings.Cut(words[i+1], ",")
			return strings.TrimPrefix(path, "unix@")
		}
	}
	return ""
}

// commandLine of the master.
func (h *Daemon) commandLine() []string {
	pid, _ := engine.Children(h.Settings.PIDFile, "haproxy", "haproxy")
	return strings.Split(string(engine.CommandLine(pid)), "\x00")
}

// masterEnds makes a master hang up when it has answered, as a worker does by itself.
const masterEnds = "\nquit\n"

// atOnce is how many old workers are spoken to at the same time, twice each: a master takes ten
// connections.
const atOnce = 4

// endInAll ends the sessions that old workers have with some servers. One that says nothing holds back
// none of the others: they have turns of their own, and another order each time.
func endInAll(ctx context.Context, socket string, workers []int, servers map[string]bool) error {
	errs, turns := make([]error, len(workers)), make(chan struct{}, atOnce)
	var all sync.WaitGroup
	for _, i := range rand.Perm(len(workers)) {
		turns <- struct{}{}
		all.Go(func() {
			defer func() { <-turns }()
			errs[i] = endIn(ctx, socket, workers[i], servers)
		})
	}
	all.Wait()
	return cmp.Or(errs...)
}

// endIn ends those of one worker, while it still says which it has: what was ended is not said again
// the next time, whenever the time of this one is over.
func endIn(ctx context.Context, socket string, pid int, servers map[string]bool) error {
	const rest = time.Second // to end what was heard last
	hears, cancel := ctx, context.CancelFunc(func() {})
	if deadline, ok := ctx.Deadline(); ok {
		hears, cancel = context.WithDeadline(ctx, deadline.Add(-rest))
	}
	defer cancel()
	to := fmt.Sprintf("@!%d ", pid)
	commands, deaf := make(chan string, 1000), make(chan error)
	go func() { deaf <- tellSoon(ctx, socket, commands) }()
	sessions := sessionReader{each: func(id, server string) {
		if servers[server] {
			commands <- to + "shutdown session " + id
		}
	}}
	mute := talk(hears, socket, to+"show sess"+masterEnds, maxSessions, sessions.line)
	close(commands)
	switch err := <-deaf; {
	case mute != nil:
		return fmt.Errorf("an old worker does not say which connections it has: %w", mute)
	case err != nil:
		return fmt.Errorf("an old worker does not end connections: %w", err)
	}
	return nil
}

// soon is how long a session that is to end may wait for others. A request that follows on another
// connection may have its place in memory, and so its id, when it has ended by itself.
const soon = 100 * time.Millisecond

// tellSoon tells a master some commands as they come. Of a session that has ended it says that there is
// none. After an error the rest is not told.
func tellSoon(ctx context.Context, socket string, commands <-chan string) (err error) {
	for first := range commands {
		some, size, late := []string{first}, len(first), time.After(soon)
		for more := true; more && size < commandBytes/2; {
			var next string
			select {
			case next, more = <-commands:
				if more {
					some, size = append(some, next), size+len(next)+1
				}
			case <-late:
				more = false
			}
		}
		if err == nil {
			err = talk(ctx, socket, strings.Join(some, ";")+masterEnds, maxStatistics, func(string) {})
		}
	}
	return err
}

// maxSessions is how many bytes are read of sessions, some 250 for each. They are not kept.
const maxSessions = 1 << 30

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
