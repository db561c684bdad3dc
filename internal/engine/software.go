package engine

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/external-lb/external-lb/internal/fileset"
	"github.com/external-lb/external-lb/internal/lb"
)

// Software is how a host uses an engine, or what moves addresses.
type Software struct {
	// Section is its part of host.yaml, and Settings makes empty ones to read it into.
	Section  string
	Settings func() Settings
	// Service of systemd that runs its daemon, as Debian's package names it; "": none.
	Service string
	// Layouts are those of families other than the first, by name, where they differ.
	Layouts map[string]Layout
	// Open makes the daemon of a place; its settings are those that Settings made.
	Open func(Place) Daemon
	// Moves: its daemon moves addresses, too, and needs no other beside it for that.
	Moves bool
	// BackendBytes is what a backend takes of the host's memory at most, while a reload
	// has the old configuration and the new one there. 0: it is not known.
	BackendBytes int
	// Vacate says what to do about a port that this software, or one whose name is not
	// known (""), holds with its own configuration. nil or "": nothing special.
	Vacate func(process string, held fileset.Socket) string
}

// Place is where a host has a daemon.
type Place struct {
	Dir      string // of the store; what is live and what is tested lies below it
	Settings Settings
	Runner   Runner
	// Carrier is the pid file of the daemon without which a host must not have the
	// addresses that are moved to it. "": it is this one.
	Carrier string
	// Set is the one that LiveLink or BackLink leads to; the zero Set: none.
	Set func(link string) (Set, error)
	// AsRoot does what takes root, which this process may not be: then one that is does what
	// the daemon's EndLeft does. nil: this process may.
	AsRoot func(ctx context.Context) error
}

// Set is a set of files in the store of a place, as far as its daemon must know it.
type Set struct {
	Digest fileset.Digest                    // that the daemon shows while it runs it
	Paths  []string                          // of the files of which it is known what they print, sorted
	Read   func(path string) ([]byte, error) // what one of them prints, as JSON
	Sum    func(path string) lb.Sum          // of what one of them prints; the zero Sum: the set has none
}

// View reads what a file prints. It reports false if the set has no such file.
func (s Set) View(path string, into any) (bool, error) {
	if _, has := slices.BinarySearch(s.Paths, path); !has {
		return false, nil
	}
	data, err := s.Read(path)
	if err == nil {
		err = json.Unmarshal(data, into)
	}
	if err != nil {
		return true, fmt.Errorf("what %s prints: %w", path, err)
	}
	return true, nil
}

// Daemon is the software of one place: how the files of a set become its
// configuration, how that is checked and loaded, and how it says what it runs. It may
// be a WholeChecker, HotReloader, Opener, Repairer, Drainer, Diagnoser, Measurer, Observer, Succeeded or Mover, too.
type Daemon interface {
	Name() string                                  // as people write it
	Version(ctx context.Context) (string, error)   // of the binary, without asking the daemon
	TooOld(version string) string                  // what to do about a version that lacks something; "" if it lacks nothing
	Commands() [][]string                          // those that the account must be allowed
	PIDFile() string                               // of the running daemon
	Processes(current int) (running bool, old int) // old ones carry connections of earlier configurations; current is who answers

	Checker
	Reloader
	Prover
	Explainer
	Installer(Steps) Installer
}

// Checker tests a candidate by itself.
type Checker interface {
	// Check returns words if the daemon refuses the candidate.
	Check(ctx context.Context, c Candidate) (words string, err error)
	// StopsAtFirst: a check says nothing of the files behind the first that is wrong.
	StopsAtFirst() bool
}

// WholeChecker tests the owner's configuration together with what is live: all that the
// daemon reads when it starts.
type WholeChecker interface {
	// Whole is the command, one of Commands.
	Whole() []string
	// CheckWhole runs it, as it is or with something before it. Words: the daemon would not
	// run with that.
	CheckWhole(ctx context.Context, argv []string) (words string, err error)
}

// Candidate is a set of files that is to go live.
type Candidate interface {
	Digest() fileset.Digest
	Root() string               // where its files are for the daemon, also once they are live
	Sources() ([]Source, error) // its files but for the private ones, in the order in which they are read
	Paths() []string            // of its files, sorted
	Write(path string, data []byte) error
}

// Source is a file from which a configuration is put together.
type Source struct {
	Path string
	Data []byte
}

// Reloader makes the daemon load what is live.
type Reloader interface {
	// Reload waits until nothing but want accepts connections, for as long as the settings
	// say, and for least at least. An error of type *Refusal: it did not take it.
	Reload(ctx context.Context, want fileset.Digest, least time.Duration) error
}

// HotReloader can take some changes without a reload.
type HotReloader interface {
	// HotReload makes the daemon do as the new versions of some files say, and proves
	// it. Templates are the built-in ones. An error: it may have done so in part, and a
	// reload must follow.
	HotReload(ctx context.Context, changes []Change, want fileset.Digest) error
}

// Change is what a file printed before and what it prints now, as JSON.
type Change struct {
	Path          string
	Before, After []byte
}

// Roomy is a daemon whose owner has set how many sockets it can listen on. Beyond that it
// ends, or takes nothing any more, whatever its check has said.
type Roomy interface {
	// Room reads what the owner has set. What it returns says what to do where there is no
	// room to listen on so many addresses; "" where there is, or where that is not known.
	Room() (lacks func(tcp, udp int) (advice string))
}

// Opener is a daemon that reads some files elsewhere than what answers for it: an answer does
// not prove these, but that it listens for them does.
type Opener interface {
	Apart(path string) bool // such a file
	Prepared() bool         // the machine is prepared for such files
	Unopened() string       // what to do where the daemon does not listen for one
}

// Prover says what the daemon runs.
type Prover interface {
	Ask(ctx context.Context) (Answer, error)
	// ProvesWithin reports whether the daemon runs a configuration, or will soon.
	ProvesWithin(ctx context.Context, want fileset.Digest, limit time.Duration) bool
	// OwnFile is the host's own file in a set's directory, which lets the daemon say
	// what it runs; Own makes it, and Announced reads what the daemon will say.
	OwnFile() string
	Own(c Candidate) ([]byte, error)
	Announced(own []byte) (fileset.Digest, bool)
}

// Explainer puts what goes wrong into words for people.
type Explainer interface {
	// Blame finds the fragments that the daemon's words are about, and why each is
	// refused; Lacks reports whether they are about the machine instead, and Advise
	// says then what to do about it, or nil.
	Blame(s Suspects, words string) map[string]Culprit
	Lacks(words string) bool
	Advise(words string, listeners int) error
	Limits(listeners, pid int) string // what stands in the way of so many listeners; "" if nothing
	Unincluded() string               // what to do when it runs without this configuration
	Stopped() string                  // what to do when it does not run
}

// Diagnoser can tell when what it runs cannot work.
type Diagnoser interface {
	Diagnose(ctx context.Context) string // "" if nothing
}

// Repairer has something to look after, from time to time: what others may take away from
// beside the daemon, or what has had its time.
type Repairer interface {
	Repair(ctx context.Context) error
}

// Drainer is a Repairer that lets connections go on for some time, through what gets no new ones.
type Drainer interface {
	// Late reports whether such a time is over: Repair is to be called soon.
	Late() bool
	// Missed says for a while why not all are known whose time ends: nobody can mend that any more.
	Missed() error
}

// RootDrainer is one that takes root to end connections.
type RootDrainer interface {
	// EndLeft ends those whose time is over. It writes nothing: where it runs belongs to others.
	EndLeft(ctx context.Context) error
}

// Succeeded is a daemon whose processes of earlier configurations stay while they carry
// connections.
type Succeeded interface {
	// Old are their ids, where current is who answers. SIGTERM ends one at once.
	Old(current int) []int
}

// Mover brings addresses to this machine while it is the one that has them.
type Mover interface {
	Active() bool
}
