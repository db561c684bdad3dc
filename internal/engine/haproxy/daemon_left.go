package haproxy

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/external-lb/external-lb/internal/engine"
)

// Connections to a server that went are served on: by the worker that answers, where that went
// without a reload, or by those from before a reload. They end when the Service's drain is over.
// Where it has none, HAProxy ends what is left in old workers by itself when hardStopAfter is over,
// and connections to a server that went without a reload have as long.

// leavingFile has the servers that went, as SECTION/SERVER.
const leavingFile = "leaving.json"

// goneWithReload are those who go with what is live now.
func (h *Daemon) goneWithReload() (map[string]time.Duration, error) {
	live, err := h.set(engine.LiveLink)
	before, beforeErr := h.set(engine.BackLink)
	if err := errors.Join(err, beforeErr); err != nil {
		return nil, err
	}
	return goneServers(before, live)
}

// leftBehind notes who has gone with a reload, from now on, and leaves to HAProxy itself what has no
// time of its own.
func (h *Daemon) leftBehind(gone map[string]time.Duration) {
	h.left.Forget(func(_ string, drain time.Duration) bool { return drain == 0 })
	h.left.Leave(gone)
}

// goneServers are those of Services that are in one set and not in the next, each with its drain,
// if it has one. What did not change is not looked at.
func goneServers(before, now engine.Set) (map[string]time.Duration, error) {
	gone := map[string]time.Duration{}
	for _, path := range before.Paths {
		if path == engine.MainPath || now.Sum != nil && now.Sum(path) == before.Sum(path) {
			continue
		}
		var was, is service
		if _, err := before.View(path, &was); err != nil {
			return gone, err
		}
		if _, err := now.View(path, &is); err != nil {
			return gone, err
		}
		for _, f := range was.Frontends {
			drain, stay := f.Drain, []server(nil)
			if next := is.frontend(f.Name); next != nil {
				drain, stay = next.Drain, next.Backends
			}
			for _, s := range f.Backends {
				if drain > 0 && !hasServer(stay, s.Name) {
					gone[f.Name+"/"+s.Name] = time.Duration(drain) * time.Second
				}
			}
		}
	}
	return gone, nil
}

func (s *service) frontend(name string) *frontend {
	i := slices.IndexFunc(s.Frontends, func(f frontend) bool { return f.Name == name })
	if i < 0 {
		return nil
	}
	return &s.Frontends[i]
}

func hasServer(all []server, name string) bool {
	return slices.ContainsFunc(all, func(s server) bool { return s.Name == name })
}

// back are those of some servers that carry again, or still, since a change was taken back.
func (h *Daemon) back(names []string) (map[string]bool, error) {
	live, err := h.set(engine.LiveLink)
	if err != nil {
		return nil, err
	}
	known, back := map[string]*service{}, map[string]bool{}
	for _, full := range names {
		section, name, _ := strings.Cut(full, "/")
		id, _, _, ours := engine.ParseFrontendName(section)
		if !ours {
			continue
		}
		path := engine.Path(id)
		if known[path] == nil {
			known[path] = &service{}
			if _, err := live.View(path, known[path]); err != nil {
				return nil, err
			}
		}
		if f := known[path].frontend(section); f != nil && hasServer(f.Backends, name) {
			back[full] = true
		}
	}
	return back, nil
}

// late are the servers whose connections are to end now. A file says so, which this process need
// not have written: none is anybody else's.
func (h *Daemon) late() (map[string]bool, error) {
	names := h.left.Late(time.Duration(h.HardStopAfter))
	if len(names) == 0 {
		return nil, nil
	}
	back, err := h.back(names)
	if err != nil {
		return nil, err
	}
	late := map[string]bool{}
	for _, full := range names {
		section, _, _ := strings.Cut(full, "/")
		if _, _, _, ours := engine.ParseFrontendName(section); ours && !back[full] {
			late[full] = true
		}
	}
	return late, nil
}

// endTime is how long it may take to end connections, and rootsTime what root has of it: a delivery
// waits for that. What is left is ended after a pause.
const endTime, rootsTime = 5 * time.Second, 4 * time.Second

// Late reports whether connections have had their time.
func (h *Daemon) Late() bool {
	return h.pause.Over() == nil && len(h.left.Late(time.Duration(h.HardStopAfter))) > 0
}

// Repair ends the connections of servers that have had their time.
func (h *Daemon) Repair(ctx context.Context) error {
	kept := h.left.Kept()
	over := h.left.Late(time.Duration(h.HardStopAfter))
	if len(over) == 0 {
		return nil
	}
	if err := h.pause.Over(); err != nil { // deliveries would wait for that, however often somebody asks how it is
		return err
	}
	if err := h.pause.After(ctx, h.endLeft(ctx, kept)); err != nil {
		return err
	}
	done := map[string]bool{}
	for _, full := range over {
		done[full] = true
	}
	h.left.Forget(func(name string, _ time.Duration) bool { return done[name] })
	return nil
}

// endLeft ends them in the worker that answers, and in old ones, whose master is root's: who they are,
// root reads in the file.
func (h *Daemon) endLeft(ctx context.Context, kept error) error {
	ctx, cancel := context.WithTimeout(ctx, endTime)
	defer cancel()
	late, err := h.late()
	if err != nil {
		return err
	}
	master, workers := engine.Children(h.Settings.PIDFile, "haproxy", "haproxy")
	var commands []string
	for _, full := range slices.Sorted(maps.Keys(late)) {
		// Of a server that has gone meanwhile HAProxy says that there is none.
		commands = append(commands, "shutdown sessions server "+full, "del server "+full)
	}
	for some := range batches(commands) {
		switch _, err := h.tell(ctx, some...); {
		case err != nil && master == 0:
			return nil // it does not run, which others tell, and so has no connections
		case err != nil:
			return engine.Failed("HAProxy is not told to end connections to nodes that left: %v", err)
		}
	}
	if len(late) == 0 || len(workers) < 2 {
		return nil
	}
	if h.asRoot == nil {
		return h.EndLeft(ctx)
	}
	err = h.asRoot(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		err = engine.Failed("connections to nodes that left, in old workers of HAProxy, did not all end within %s: that is tried again", endTime)
	}
	return cmp.Or(err, kept)
}

// EndLeft ends connections in old workers. They know their sections for disabled, and so end single
// sessions alone.
func (h *Daemon) EndLeft(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, rootsTime)
	defer cancel()
	late, err := h.late()
	if err != nil || len(late) == 0 {
		return err
	}
	said, err := h.Ask(ctx)
	if err != nil {
		return err
	}
	old := h.Old(said.PID)
	if len(old) == 0 {
		return nil
	}
	socket := h.master()
	if !strings.HasPrefix(socket, "/") {
		return engine.Failed("old workers of HAProxy have connections to nodes that left, and cannot be told to end them, since its master has no socket: "+
			"add `-S /run/haproxy-master.sock` to %s in %s, and restart it; until then they end after hardStopAfter", h.variable(), h.Environment)
	}
	return endInAll(ctx, socket, old, late)
}
