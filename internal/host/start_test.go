package host

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/external-lb/external-lb/internal/engine"
	"github.com/external-lb/external-lb/internal/engine/engines"
	"github.com/external-lb/external-lb/internal/fileset"
)

// What systemd says of a service, and whether it is the agent's to start it.
func TestStart_WhatIsDownByItself(t *testing.T) {
	const (
		atBoot = "InactiveExitTimestampMonotonic=9000000\nActiveEnterTimestampMonotonic=0\n"
		again  = "InactiveExitTimestampMonotonic=90000000\nActiveEnterTimestampMonotonic=9100000\n"
		ran    = "InactiveExitTimestampMonotonic=9000000\nActiveEnterTimestampMonotonic=9100000\n"
	)
	for said, want := range map[string]bool{
		"Result=exit-code\nActiveState=failed\nUnitFileState=enabled\n":        true, // also what did not start at boot
		"Result=signal\nActiveState=failed\nUnitFileState=enabled-runtime\n":   true,
		"Result=core-dump\nActiveState=failed\nUnitFileState=enabled\n":        true,
		"Result=watchdog\nActiveState=failed\nUnitFileState=enabled\n":         true,
		"Result=start-limit-hit\nActiveState=failed\nUnitFileState=enabled\n":  true,
		"Result=resources\nActiveState=failed\nUnitFileState=enabled\n":        true,
		"Result=protocol\nActiveState=failed\nUnitFileState=enabled\n":         true,
		"Result=oom-kill\nActiveState=failed\nUnitFileState=enabled\n":         true,
		"Result=timeout\nActiveState=failed\nUnitFileState=enabled\n" + atBoot: true,  // it took too long to start
		"Result=timeout\nActiveState=failed\nUnitFileState=enabled\n" + again:  true,  // as it did when it was started anew
		"Result=timeout\nActiveState=failed\nUnitFileState=enabled\n" + ran:    false, // stopped, with force in the end
		"Result=timeout\nActiveState=failed\nUnitFileState=enabled\n":          false, // nobody knows which of the two
		"Result=timeout\nActiveState=failed\nUnitFileState=masked\n" + atBoot:  false,
		"Result=success\nActiveState=inactive\nUnitFileState=enabled\n":        false, // stopped
		"Result=exec-condition\nActiveState=failed\nUnitFileState=enabled\n":   false, // not to run now
		"Result=exit-code\nActiveState=failed\nUnitFileState=disabled\n":       false,
		"Result=exit-code\nActiveState=failed\nUnitFileState=masked\n":         false,
		"Result=exit-code\nActiveState=activating\nUnitFileState=enabled\n":    false, // systemd is at it
		"": false,
	} {
		if givenUp(said) != want {
			t.Errorf("%q: want %t", said, want)
		}
	}
}

// A daemon that is down by itself is started, and less and less often if that does not help.
func TestStart_OfADaemonThatIsDown(t *testing.T) {
	b := newBox(t)
	var starts int
	state := "failed"
	b.unit.run = scripted{engine.Machine{}, func(argv []string) (string, error, bool) {
		if !slices.Contains(argv, systemctl) {
			return "", nil, false
		}
		if argv[len(argv)-1] != "nginx.service" {
			t.Errorf("%v", argv)
		}
		if slices.Contains(argv, "show") {
			return "ActiveState=" + state + "\nUnitFileState=enabled\nResult=signal\n", nil, true
		}
		starts++
		return "", exec.Command("false").Run(), true
	}}
	now := time.Now()
	look := func(after time.Duration, want int) {
		t.Helper()
		now = now.Add(after)
		if b.unit.startIfDown(t.Context(), now); starts != want {
			t.Errorf("%d starts, want %d", starts, want)
		}
	}
	look(0, 0) // it runs
	b.stop()
	state = "inactive"
	look(0, 0)
	state = "failed"
	look(0, 1)
	look(startAgain-1, 1)
	look(1, 2)
	look(startAgain, 2)
	look(startAgain, 3)
	for range 20 {
		now = now.Add(startLast)
		b.unit.startIfDown(t.Context(), now)
	}
	look(startLast-1, 23)
	b.start()
	look(0, 23)
	b.stop()
	look(0, 24) // at once again
}

// irreparable is a daemon beside which something cannot be repaired.
type irreparable struct{ engine.Daemon }

func (irreparable) Repair(context.Context) error { return errors.New("no luck") }

// What cannot be repaired beside a daemon is said, and does not leave it down.
func TestStart_OfADaemonBesideWhichSomethingIsWrong(t *testing.T) {
	b := newBox(t)
	starts := 0
	b.unit.daemon = irreparable{b.unit.daemon}
	b.unit.run = scripted{engine.Machine{}, func(argv []string) (string, error, bool) {
		if !slices.Contains(argv, systemctl) {
			return "", nil, false
		}
		if slices.Contains(argv, "start") {
			starts++
		}
		return "ActiveState=failed\nUnitFileState=enabled\nResult=signal\n", nil, true
	}}
	if words := b.status().message; words != "no luck" {
		t.Errorf("it says %q", words)
	}
	b.stop()
	if b.agent.watch(t.Context()); starts != 1 {
		t.Errorf("%d starts", starts)
	}
}

// unproved is a daemon whose connections have had their time, and that does not say what it runs.
type unproved struct {
	engine.Daemon
	asked int
}

func (d *unproved) Late() bool    { return true }
func (d *unproved) Missed() error { return nil }

func (d *unproved) ProvesWithin(context.Context, fileset.Digest, time.Duration) bool {
	d.asked++
	return false
}

// What an earlier process has left undone may fail, and takes a while. It is not tried each second.
func TestDrain_WaitsAfterARecoveryThatFailed(t *testing.T) {
	b := newBox(t)
	d := &unproved{Daemon: b.unit.daemon}
	b.unit.daemon = d
	if err := os.WriteFile(filepath.Join(b.unit.dir, stateFile), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	b.agent.drain(t.Context())
	asked := d.asked
	for range 3 {
		b.agent.drain(t.Context())
	}
	if asked == 0 || d.asked != asked {
		t.Errorf("it was asked %d times, and %d times at once", d.asked, asked)
	}
}

// The account may start the daemons of its machine, and look at nothing but that first.
func TestStart_IsAmongTheRights(t *testing.T) {
	for _, settings := range []string{"engine: nginx", "engine: haproxy\nvrrp: true", "engine: lvs"} {
		s, err := parseSettings([]byte(settings), &engines.Table, true)
		if err != nil {
			t.Fatal(err)
		}
		for _, u := range newUnits(s, engine.Machine{}) {
			var all []string
			for _, argv := range u.commands() {
				all = append(all, strings.Join(argv, " "))
			}
			if !slices.Contains(all, "sudo -n /usr/bin/systemctl start "+u.Service) || !slices.ContainsFunc(all, func(c string) bool {
				return strings.HasPrefix(c, "sudo -n "+s.program+" host preview "+u.dir+" /usr/")
			}) {
				t.Errorf("%s: %q", settings, all)
			}
		}
	}
}

// missing is a daemon that does not know all that left.
type missing struct{ unproved }

func (*missing) Missed() error { return errors.New("not all are known") }

// What nobody can mend any more is said where nothing else is wrong.
func TestStatus_WhatWasMissedComesLast(t *testing.T) {
	b := newBox(t)
	web := b.web("web", "one", public(t))
	b.send(wants(b.node(), web))
	b.unit.daemon = &missing{unproved{Daemon: b.unit.daemon}}
	if words := b.status().message; words != "not all are known" {
		t.Errorf("it says %q", words)
	}
	put(t, b.file(web), "# nothing\n")
	if words := b.status().message; !strings.Contains(words, "somebody else has changed") {
		t.Errorf("it says %q", words)
	}
}
