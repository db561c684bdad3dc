package haproxy

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/external-lb/external-lb/internal/engine"
	"github.com/external-lb/external-lb/internal/lb"
)

// Connections to a server that went are served on: by the worker that answers, where that went
// without a reload, or by those from before a reload. They end when the Service's drain is over.
// Where it has none, HAProxy ends what is left in old workers by itself when hardStopAfter is over,
// and connections to a server that went without a reload have as long.

// leavingFile has the servers that went, as SECTION/SERVER.
const leavingFile = "leaving.json"

// goneWithReload are those who go with what is live now, and who had come back.
func (h *Daemon) goneWithReload() (gone map[string]time.Duration, back map[string]bool, err error) {
	live, err := h.set(engine.LiveLink)
	before, beforeErr := h.set(engine.BackLink)
	if err := errors.Join(err, beforeErr); err != nil {
		return nil, nil, err
	}
	return goneServers(before, live, h.left.Names())
}

// leave notes who goes. Who had come back, and is none of them, is forgotten: its connections are not from when
// it left first.
func (h *Daemon) leave(gone map[string]time.Duration, back map[string]bool) {
	h.left.Leave(gone)
	h.left.Forget(func(name string, _ time.Duration) bool {
		_, goes := gone[name]
		return back[name] && !goes
	})
}

// leftBehind notes who has gone with a reload, from now on, and leaves to HAProxy itself what has no
// time of its own.
func (h *Daemon) leftBehind(gone map[string]time.Duration) {
	h.left.Leave(gone)
	h.left.Forget(func(_ string, drain time.Duration) bool { return drain == 0 })
}

// goneServers are those of Services that are in one set and not in the next, each with its drain.
// One that has none is there if it left before: it came back, and leaves anew. They are about twice as many as
// may leave at once at most. All that left and came back, or may have, are in back. What did not change is not
// looked at. A Service that cannot be read is an error, and holds back no other.
func goneServers(before, now engine.Set, left map[string]bool) (gone map[string]time.Duration, back map[string]bool, err error) {
	gone, back = map[string]time.Duration{}, map[string]bool{}
	for _, path := range before.Paths {
		if path == engine.MainPath || now.Sum != nil && now.Sum(path) == before.Sum(path) {
			continue
		}
		var was, is service
		_, wasErr := before.View(path, &was)
		_, isErr := now.View(path, &is)
		if unread := cmp.Or(wasErr, isErr); unread != nil {
			err = cmp.Or(err, unread)
			for full := range left {
				if leftOf(full, path) {
					back[full] = true
				}
			}
			continue
		}
		for _, f := range was.Frontends {
			drain, stay := f.Drain, []server(nil)
			if next := is.frontend(f.Name); next != nil {
				drain, stay = next.Drain, next.Backends
			}
			for _, s := range f.Backends {
				full := f.Name + "/" + s.Name
				if left[full] {
					back[full] = true
				}
				if (drain > 0 || left[full]) && !hasServer(stay, s.Name) {
					gone[full] = time.Duration(drain) * time.Second
				}
			}
		}
		if len(gone) > 2*engine.MaxLeaving { // one more is left than may leave: so it is told that some are missing
			engine.Share(gone, engine.MaxLeaving+1)
		}
	}
	return gone, back, err
}

// ofOurs takes the name of a server that left apart, and returns false for one that we do not give: who wrote the file
// need not be this process, and names are told to HAProxy in commands.
func ofOurs(full string) (id lb.ID, section, server string, ours bool) {
	section, server, _ = strings.Cut(full, "/")
	id, _, _, ours = engine.ParseFrontendName(section)
	return id, section, server, ours && lb.SafeNode(server)
}

// leftOf reports whether a server is of the Service that has a file.
func leftOf(full, path string) bool {
	id, _, _, ours := ofOurs(full)
	return ours && engine.Path(id) == path
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

// stillGone are those of some servers, in order, that do not carry again, nor still, since a change was
// taken back. The others are dropped. A Service that cannot be read, of which nobody knows, is in h.unread alone,
// and holds back no other. Those for which there is no time are neither: they have their turn.
func (h *Daemon) stillGone(ctx context.Context, names []string) (gone, dropped map[string]bool, err error) {
	live, err := h.set(engine.LiveLink)
	if err != nil {
		return nil, nil, err
	}
	look, cancel := context.WithTimeout(ctx, lookTime)
	defer cancel()
	gone, dropped = map[string]bool{}, map[string]bool{}
	unread, why := map[string]bool{}, error(nil)
	var at string
	var carried *service // by the file at; nil: nobody knows
	for _, full := range names {
		id, section, name, ours := ofOurs(full)
		if !ours {
			dropped[full] = true
			continue
		}
		if path := engine.Path(id); path != at {
			if look.Err() != nil {
				break
			}
			at, carried = path, &service{}
			if _, err := live.View(path, carried); err != nil {
				carried, why = nil, cmp.Or(why, err)
			}
		}
		if carried == nil {
			unread[full] = true
			continue
		}
		if f := carried.frontend(section); f != nil && hasServer(f.Backends, name) {
			dropped[full] = true
		} else {
			gone[full] = true
		}
	}
	if why != nil {
		h.left.Rest(unread)
		_ = h.unread.After(ctx, why) // Repair says it
	}
	return gone, dropped, nil
}

// endTime is how long it may take to end connections: a delivery waits for that. It has lookTime to see whose,
// and tellTime for the worker that answers; root has the rest, and never more than rootsTime. What fails is
// tried again after a pause, and what is left after endRest.
const (
	endTime   = 5 * time.Second
	lookTime  = time.Second
	tellTime  = 2 * time.Second
	rootsTime = 4 * time.Second
	endRest   = 3 * time.Second
)

// endAtOnce is how many servers' connections are ended in that time.
const endAtOnce = 10_000

// turned are some names, in order, beginning elsewhere each time: neither what fails nor what takes long
// holds back the others for ever.
func turned(names []string) []string {
	if len(names) == 0 {
		return nil
	}
	at := rand.IntN(len(names))
	return slices.Concat(names[at:], names[:at])
}

// due are those to end now, and first those that were not told. While old workers are left alone, those are not
// whom only these may have still; nor are those of a Service that could not be read a moment ago.
func (h *Daemon) due(late []string) []string {
	untold, told := h.left.Untold(late)
	old, _ := h.old.Over()
	unread, _ := h.unread.Over()
	if !old || !unread {
		told = nil
	}
	due := slices.Concat(turned(untold), turned(told))
	return due[:min(len(due), endAtOnce)]
}

func (h *Daemon) late() []string { return h.left.Late(time.Duration(h.HardStopAfter)) }

// Late reports whether connections have had their time.
func (h *Daemon) Late() bool {
	over, _ := h.pause.Over()
	return over && len(h.due(h.late())) > 0
}

// Repair ends the connections of servers that have had their time.
func (h *Daemon) Repair(ctx context.Context) error {
	h.left.ForgetTold(time.Duration(h.HardStopAfter)) // whatever worker they were in has ended, though root could not be asked
	var why, old, unread error
	if late := h.late(); len(late) > 0 {
		var over bool
		over, why = h.pause.Over()
		if due := h.due(late); over && len(due) > 0 { // deliveries wait for that, however often somebody asks how it is
			why = h.pause.After(ctx, h.endLeft(ctx, due))
		}
		_, unread = h.unread.Over()
		_, old = h.old.Over()
	}
	return cmp.Or(why, unread, old, h.left.Kept())
}

// Missed says why not all are known whose connections are to end.
func (h *Daemon) Missed() error { return h.left.Missed() }

// endLeft ends those of some servers: in the worker that answers, and then in old ones, whose master is
// root's. What is not told to the end is late still. How it went with old ones is in h.old alone: they
// hold back nothing in the worker that answers.
func (h *Daemon) endLeft(asked context.Context, late []string) error {
	ctx, cancel := context.WithTimeout(asked, endTime)
	defer cancel()
	gone, dropped, err := h.stillGone(ctx, late)
	if err != nil {
		return err
	}
	master, workers := engine.Children(h.Settings.PIDFile, "haproxy", "haproxy")
	late = slices.DeleteFunc(late, func(full string) bool { return !gone[full] })
	told, err := h.tellEnd(ctx, late)
	if err != nil && master != 0 {
		return err
	} else if err == nil { // else it does not run, which others tell, and so has no connections
		for _, full := range late[told:] {
			delete(gone, full)
		}
	}
	// Old workers end by themselves when hardStopAfter is over.
	alone := len(workers) < 2
	h.left.Forget(func(name string, drain time.Duration) bool {
		return dropped[name] || gone[name] && (alone || drain == 0)
	})
	if alone {
		return nil
	}
	h.left.Told(gone)
	if over, _ := h.old.Over(); over {
		_ = h.old.After(asked, h.endMarked(ctx, gone)) // Repair says it
	}
	return nil
}

// tellEnd tells the worker that answers whose connections end, in their order, and says how many it was told:
// what there is no time for has its turn soon. Only where it was told none, that is an error.
func (h *Daemon) tellEnd(ctx context.Context, names []string) (told int, err error) {
	ctx, cancel := context.WithTimeout(ctx, tellTime)
	defer cancel()
	var commands []string
	for _, full := range names {
		// Of a server that has gone meanwhile HAProxy says that there is none.
		commands = append(commands, "shutdown sessions server "+full, "del server "+full)
	}
	answered := 0
	for batch := range batches(commands) {
		if _, err := h.tell(ctx, batch...); err != nil && answered == 0 {
			return 0, engine.Failed("HAProxy is not told to end connections to nodes that left: %v", err)
		} else if err != nil {
			break
		}
		answered += len(batch)
	}
	return answered / 2, nil
}

// endMarked ends in old workers what some servers have, and that have a time of their own.
func (h *Daemon) endMarked(ctx context.Context, gone map[string]bool) error {
	if h.left.Mark(gone) == 0 {
		return nil
	}
	if err := h.left.Kept(); err != nil { // root knows what is in the file alone
		return err
	}
	if err := h.endInOld(ctx); err != nil {
		return err
	}
	h.left.Forget(func(name string, _ time.Duration) bool { return gone[name] })
	return nil
}

var errEndTime = engine.Failed("connections to nodes that left, in old workers of HAProxy, did not all end within %s: that is tried again", endTime)

// endInOld has root end them, if this process is not.
func (h *Daemon) endInOld(ctx context.Context) error {
	if h.asRoot == nil {
		return h.EndLeft(ctx)
	}
	err := h.asRoot(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		return errEndTime
	}
	return err
}

// EndLeft ends connections in old workers, of those that the file says are over. They know their sections
// for disabled, and so end single sessions alone.
func (h *Daemon) EndLeft(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, rootsTime)
	defer cancel()
	over, err := h.left.Marked()
	if err != nil {
		return err
	}
	maps.DeleteFunc(over, func(full string, _ bool) bool { // the file is the account's: none of the owner's
		_, _, _, ours := ofOurs(full)
		return !ours
	})
	if len(over) == 0 {
		return nil
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
	return endInAll(ctx, socket, old, over)
}
