package haproxy

import (
	"context"
	"encoding/json"
	"errors"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/external-lb/external-lb/internal/engine"
	"github.com/external-lb/external-lb/internal/fileset"
	"github.com/external-lb/external-lb/internal/lb"
)

// While its servers change, HAProxy says that it runs what nobody has made: who finds it so knows that
// the change is not whole.
func TestAHotReloadThatIsNotWholeProvesNothing(t *testing.T) {
	after := balanced()
	after.Frontends[0].Backends = after.Frontends[0].Backends[:1]
	change := engine.Change{Path: engine.Path(after.ID)}
	change.Before, _ = views(t, balanced())
	change.After, _ = views(t, after)
	h := daemon(t)
	digest := fileset.Digest(strings.Repeat("a", 64))
	told := heard(t, h.Socket, digest, "")
	if err := h.HotReload(t.Context(), []engine.Change{change}, digest); err != nil {
		t.Fatal(err)
	}
	var order []string
	for len(told) > 0 {
		switch command, _, _ := strings.Cut(<-told, " server "); {
		case strings.HasPrefix(command, "set var"):
			order = append(order, strings.TrimPrefix(command, "set var proc.external_lb "))
		case command == "del":
			order = append(order, command)
		}
	}
	if want := []string{"str(" + strings.Repeat("0", 64) + ")", "del", "str(" + string(digest) + ")"}; !slices.Equal(order, want) {
		t.Errorf("it is told %q, want %q", order, want)
	}
}

// What changes nothing, or takes a reload anyway, leaves what HAProxy says of itself true.
func TestAHotReloadThatChangesNothingIsWhole(t *testing.T) {
	before := balanced()
	drains, more := balanced(), balanced()
	drains.Frontends[0].Settings.Drain = time.Minute
	more.Frontends[0].Backends = append(more.Frontends[0].Backends, engine.Backend{Node: "n3", Address: netip.MustParseAddrPort("10.0.0.3:30080")})
	for name, c := range map[string]struct {
		after *engine.Service
		want  error
	}{
		"another drain":              {drains, nil},
		"a node that nothing checks": {more, errReload},
	} {
		change := engine.Change{Path: engine.Path(before.ID)}
		change.Before, _ = views(t, before)
		change.After, _ = views(t, c.after)
		h := daemon(t)
		digest := fileset.Digest(strings.Repeat("a", 64))
		told := heard(t, h.Socket, digest, "")
		if err := h.HotReload(t.Context(), []engine.Change{change}, digest); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
		for len(told) > 0 {
			if command := <-told; strings.Contains(command, string(unfinished)) {
				t.Errorf("%s: it is told %q", name, command)
			}
		}
	}
}

// A server that HAProxy could delete at once has no connections in that worker, and those of old ones
// end by themselves, unless they have a time of their own.
func TestWhoHasNoConnectionsLeavesNoTrace(t *testing.T) {
	h := daemon(t)
	heard(t, h.Socket, "", "")
	changes := []proxyChange{
		{proxy: &proxy{name: section}, gone: []server{{Name: "n1"}, {Name: "n3"}}},
		{proxy: &proxy{name: section, drain: time.Nanosecond}, gone: []server{{Name: "n2"}}},
	}
	h.changes(t, changes...)
	if got := h.left.Late(1); !slices.Equal(got, []string{section + "/n1", section + "/n2"}) {
		t.Errorf("%q are late", got)
	}
}

// Who came back may go again, since the change is not proved: its time goes on.
func TestWhoComesBackIsForgottenByNoChangeAlone(t *testing.T) {
	h := daemon(t)
	heard(t, h.Socket, "", "")
	h.left.Leave(map[string]time.Duration{section + "/n1": time.Nanosecond})
	back := proxyChange{proxy: &proxy{name: section}, appeared: []server{{Name: "n1"}}}
	h.changes(t, back)
	if got := h.left.Late(1); !slices.Equal(got, []string{section + "/n1"}) {
		t.Errorf("%q are late", got)
	}
}

// Who came back and leaves again without a drain has no time of before: HAProxy itself ends what it has
// in old workers.
func TestWhoLeavesAgainWithoutADrainLeavesAnew(t *testing.T) {
	for name, again := range map[string]func(h *Daemon){
		"without a reload": func(h *Daemon) {
			h.changes(t, proxyChange{proxy: &proxy{name: section}, gone: []server{{Name: "n2"}}})
		},
		"with a reload": func(h *Daemon) {
			h.set = func(link string) (engine.Set, error) {
				if link == engine.BackLink {
					return setOf(t, balanced()), nil
				}
				return setOf(t), nil
			}
			gone, _, err := h.goneWithReload()
			if err != nil {
				t.Fatal(err)
			}
			h.left.Leave(gone)
			if got := h.left.Late(0); len(got) > 0 {
				t.Errorf("before it is proved, %q are late", got)
			}
			h.leftBehind(gone)
		},
	} {
		h := daemon(t)
		heard(t, h.Socket, "", "")
		h.left.Leave(map[string]time.Duration{section + "/n2": time.Nanosecond})
		again(h)
		if got := h.left.Late(1); len(got) > 0 {
			t.Errorf("%s: %q are late", name, got)
		}
	}
}

// broken is a set of which a Service cannot be read.
func broken(s engine.Set, bad *engine.Service) engine.Set {
	read := s.Read
	s.Read = func(path string) ([]byte, error) {
		if path == engine.Path(bad.ID) {
			return nil, errors.New("somebody else has changed it")
		}
		return read(path)
	}
	return s
}

// named is a Service like balanced with another name, and its section.
func named(name string, drain time.Duration) (*engine.Service, string) {
	s := balanced()
	s.ID = lb.ID{Namespace: "default", Name: name, UID: "1"}
	s.Frontends[0].Settings.Drain = drain
	return s, strings.Replace(section, "web", name, 1)
}

// A Service of which nobody knows what it carries holds back no other.
func TestAServiceThatCannotBeReadHoldsBackNoOther(t *testing.T) {
	bad, badSection := named("bad", time.Minute)
	web, webSection := named("web", time.Minute)
	gone, _, err := goneServers(broken(setOf(t, bad, web), bad), setOf(t), nil)
	if gone[webSection+"/n1"] != time.Minute || err == nil {
		t.Errorf("gone are %v, %v", gone, err)
	}
	h := daemon(t)
	told := heard(t, h.Socket, "", "")
	h.set = func(string) (engine.Set, error) { return broken(setOf(t, bad), bad), nil }
	h.left.Leave(map[string]time.Duration{badSection + "/n3": time.Nanosecond, webSection + "/n1": time.Nanosecond})
	if err := h.Repair(t.Context()); err == nil || !strings.Contains(err.Error(), "somebody else has changed it") {
		t.Errorf("it says %v", err)
	}
	said := map[string]bool{}
	for len(told) > 0 {
		said[<-told] = true
	}
	if !said["shutdown sessions server "+webSection+"/n1"] || said["shutdown sessions server "+badSection+"/n3"] {
		t.Errorf("it is told %v", said)
	}
}

// Who left, came back and leaves again has no time that began before, though nobody knows that it leaves.
func TestWhoLeavesUnseenIsNotEndedByItsFirstTime(t *testing.T) {
	bad, badSection := named("bad", time.Minute)
	web, webSection := named("web", time.Minute)
	h := daemon(t)
	h.left.Leave(map[string]time.Duration{badSection + "/n1": 1, webSection + "/n1": 1, webSection + "/n9": 1})
	_, back, err := goneServers(broken(setOf(t, bad, web), bad), setOf(t), h.left.Names())
	if err == nil {
		t.Error("all can be read")
	}
	h.leave(nil, back) // no other has room
	if late := h.left.Late(0); !slices.Equal(late, []string{webSection + "/n9"}) {
		t.Errorf("late are %q", late)
	}
}

// Who leaves a Service that can be read is ended at once, though another cannot be: that is said, and tried again later.
func TestAServiceThatCannotBeReadDelaysNoOther(t *testing.T) {
	bad, badSection := named("bad", time.Minute)
	_, webSection := named("web", time.Minute)
	h := daemon(t)
	told := heard(t, h.Socket, "", "")
	h.set = func(string) (engine.Set, error) { return broken(setOf(t, bad), bad), nil }
	h.left.Leave(map[string]time.Duration{badSection + "/n3": time.Nanosecond})
	for _, name := range []string{"n1", "n2"} {
		h.left.Leave(map[string]time.Duration{webSection + "/" + name: time.Nanosecond})
		if !h.Late() {
			t.Errorf("%s is not late", name)
		}
		if err := h.Repair(t.Context()); err == nil || !strings.Contains(err.Error(), "somebody else has changed it") {
			t.Errorf("it says %v", err)
		}
		var said []string
		for len(told) > 0 {
			said = append(said, <-told)
		}
		if !slices.Contains(said, "shutdown sessions server "+webSection+"/"+name) {
			t.Errorf("it is told %q", said)
		}
	}
	if late := h.left.Late(0); h.Late() || !slices.Equal(late, []string{badSection + "/n3"}) {
		t.Errorf("tried again at once: %t; late are %q", h.Late(), late)
	}
}

// However long it takes to see who is still gone: those of whom that is known are ended, and the others
// have their turn.
func TestASlowLookEndsWhatItHasSeen(t *testing.T) {
	h := daemon(t)
	told := heard(t, h.Socket, "", "")
	left, all := map[string]time.Duration{}, []*engine.Service(nil)
	for i := range 12 {
		s, name := named("s"+strconv.Itoa(i), time.Minute)
		left[name+"/n9"], all = time.Nanosecond, append(all, s)
	}
	live, looked := setOf(t, all...), 0
	read := live.Read
	live.Read = func(path string) ([]byte, error) {
		if looked++; looked > 3 {
			time.Sleep(lookTime)
		}
		return read(path)
	}
	h.set = func(string) (engine.Set, error) { return live, nil }
	h.left.Leave(left)
	if err := h.Repair(t.Context()); err != nil || len(told) == 0 {
		t.Errorf("%d are told, %v", len(told), err)
	}
	if n := len(h.left.Late(0)); n == 0 || n == len(left) {
		t.Errorf("%d of %d are late still", n, len(left))
	}
}

// What was heard of a worker is ended at once, and not when it has said everything: by then that
// session may be another one.
func TestSessionsAreEndedWhileTheyAreTheSame(t *testing.T) {
	first := make(chan string)
	socket, ended := master(t, map[string]func(func(string) error){"@!1": func(say func(string) error) {
		_ = say("0x1: be=a srv=n1\n") // who asked has gone otherwise
		<-first
	}})
	go func() { first <- <-ended }()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	if err := endInAll(ctx, socket, []int{1}, map[string]bool{"a/n1": true}); err != nil {
		t.Error(err)
	}
}

// Root knows who is over by the file alone: what it cannot read is not done, and the agent keeps it.
func TestRootThatReadsNothingHasNotEndedAnything(t *testing.T) {
	h := daemon(t)
	if err := h.EndLeft(t.Context()); err == nil || !strings.Contains(err.Error(), "who left is not known") {
		t.Errorf("it says %v", err)
	}
}

// Of very many that are late, other ones are told each time.
func TestManyThatAreLateHaveTheirTurns(t *testing.T) {
	late := make([]string, 3*endAtOnce)
	for i := range late {
		late[i] = strconv.Itoa(i)
	}
	h, seen := daemon(t), map[string]bool{}
	for range 100 {
		now := h.due(late)
		if len(now) != endAtOnce {
			t.Fatalf("%d at once", len(now))
		}
		for _, name := range now {
			seen[name] = true
		}
	}
	if len(seen) != len(late) {
		t.Errorf("%d of %d had a turn", len(seen), len(late))
	}
	first := map[string]bool{}
	for range 100 {
		first[h.due(late[:2])[0]] = true
	}
	if len(first) != 2 {
		t.Errorf("of two, %v is first each time", first)
	}
}

// However many nodes of one tenant go with a reload: those of others have their drain.
func TestOneTenantsManyHideNobodyElses(t *testing.T) {
	many := service{Frontends: []frontend{{Name: "a-greedy.web.1.192-0-2-1.80.tcp", Drain: 60}}}
	for i := range 3 * engine.MaxLeaving {
		many.Frontends[0].Backends = append(many.Frontends[0].Backends, server{Name: strconv.Itoa(i)})
	}
	greedy, err := json.Marshal(many)
	if err != nil {
		t.Fatal(err)
	}
	const path = engine.ServicesPrefix + "a-greedy.web.1.conf"
	web, webSection := named("web", time.Minute)
	before := setOf(t, web)
	before.Paths = slices.Insert(before.Paths, 1, path) // after main.conf
	read := before.Read
	before.Read = func(p string) ([]byte, error) {
		if p == path {
			return greedy, nil
		}
		return read(p)
	}
	before.Sum = func(string) lb.Sum { return lb.Sum{1} } // all of it goes
	gone, _, err := goneServers(before, setOf(t), nil)
	if n := len(gone); err != nil || gone[webSection+"/n1"] != time.Minute || n <= engine.MaxLeaving || n > 2*engine.MaxLeaving {
		t.Errorf("%d are gone, of them n1 for %s; %v", n, gone[webSection+"/n1"], err)
	}
}
