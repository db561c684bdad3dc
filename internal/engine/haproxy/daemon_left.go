package haproxy

import (
	"context"
	"maps"
	"sync"
	"time"
)

// After a reload HAProxy ends what is left of the earlier configuration by itself, when
// hardStopAfter is over. Where a node went without a reload, nobody would: its connections
// have as long, and are ended then.

// leavers are servers that were told to go, and may have connections still: since when.
// They are those of the worker that answers, and known to this process alone: a new agent
// leaves them to the next reload.
type leavers struct {
	mu    sync.Mutex
	since map[string]time.Time
}

// leave from now on. Who comes under the name of one stays.
func (l *leavers) leave(gone, came []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, server := range came {
		delete(l.since, server)
	}
	if l.since == nil {
		l.since = map[string]time.Time{}
	}
	for _, server := range gone {
		l.since[server] = time.Now()
	}
}

// forget all: another worker answers.
func (l *leavers) forget() {
	l.mu.Lock()
	defer l.mu.Unlock()
	clear(l.since)
}

// late are those whose time is over. They are told once.
func (l *leavers) late(after time.Duration) (servers []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	maps.DeleteFunc(l.since, func(server string, since time.Time) bool {
		over := time.Since(since) >= after
		if over {
			servers = append(servers, server)
		}
		return over
	})
	return servers
}

// Repair ends the connections of servers that have left long ago. Of a server that has gone
// meanwhile HAProxy says that there is none.
func (h *Daemon) Repair(ctx context.Context) error {
	var commands []string
	for _, server := range h.left.late(time.Duration(h.HardStopAfter)) {
		commands = append(commands, "shutdown sessions server "+server, "del server "+server)
	}
	for some := range batches(commands) {
		if _, err := h.tell(ctx, some...); err != nil {
			return nil // it does not run, which others tell, and so has no connections
		}
	}
	return nil
}
