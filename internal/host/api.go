package host

import (
	"cmp"
	"context"
	"fmt"

	"github.com/external-lb/external-lb/internal/fileset"
)

// Epoch orders deliveries. A host refuses one that is not newer than the last
// that it took, so that a deposed leader cannot overwrite its successor.
type Epoch struct {
	Lease int64  // when the leader election's Lease was made, in seconds since 1970: a Lease made anew is newer
	Term  int64  // transitions of the Lease: grows with each new leader
	Seq   uint64 // grows with each delivery of one leader
}

// Compare orders epochs.
func (e Epoch) Compare(o Epoch) int {
	return cmp.Or(cmp.Compare(e.Lease, o.Lease), cmp.Compare(e.Term, o.Term), cmp.Compare(e.Seq, o.Seq))
}

// String prints an Epoch as lease.term.seq.
func (e Epoch) String() string { return fmt.Sprintf("%d.%d.%d", e.Lease, e.Term, e.Seq) }

// Host is one balancer machine: an *Agent in process, or the same over SSH.
type Host interface {
	// Status looks at the machine now.
	Status(ctx context.Context) (Status, error)
	// Apply makes a configuration live and proves it, or leaves the one that was.
	Apply(ctx context.Context, d Delivery) (Outcome, error)
}

// Status is what a machine runs.
type Status struct {
	Engine        string           // as in the machine's settings: "nginx"
	EngineVersion string           // as the daemon says: "nginx/1.22.1"
	Running       bool             // the daemon answers
	Active        bool             // the machine has the addresses that move between machines
	Epoch         Epoch            // of the last delivery taken
	Live          fileset.Digest   // proved just now by the daemon; "" if it proves nothing
	Files         fileset.Manifest // of the live set as it is on disk now: after tampering its digest differs from Live
	OldWorkers    int              // processes of earlier configurations that still carry connections
	Message       string           // what is wrong with the machine and what to do; "" if nothing
}

// Delivery is a configuration to make live, as a change of what a host has.
type Delivery struct {
	Epoch  Epoch
	Base   fileset.Digest // of the set that Change starts from: Status.Files.Digest(), or Outcome.Live
	Change fileset.Change
	Want   fileset.Digest // of the set after Change
	// Whole: the daemon takes all of it or nothing. A fragment that it refuses is
	// not left out, but makes the delivery fail (CodeWhole), unless it is Spared:
	// one that was left out before. A fragment whose address or port a probe does
	// not find is left out as ever, since that says nothing of the files.
	Whole  bool
	Spared []string // paths
}

// Refusal is a fragment that was left out.
type Refusal struct {
	Path   string
	Reason string // the daemon's own words, or what a probe found and what to do
}

// Outcome is what became of a Delivery.
type Outcome struct {
	// Live is the digest that the daemon proved after the delivery: Want, or
	// that of Want without the refused fragments, or of what ran before.
	Live     fileset.Digest
	Files    fileset.Manifest // of Live
	Refused  []Refusal
	Reloaded bool
	Active   bool // the machine has the addresses that move between machines
}

// Code classifies what went wrong with a Delivery as a whole.
type Code string

// The codes.
const (
	// CodeStaleEpoch: the machine has taken a newer epoch.
	CodeStaleEpoch Code = "StaleEpoch"
	// CodeBaseMismatch: the machine has not the base that the change starts
	// from. Ask for its Status and try again.
	CodeBaseMismatch Code = "BaseMismatch"
	// CodeRolledBack: the daemon did not take or not prove the configuration;
	// what ran before runs on.
	CodeRolledBack Code = "RolledBack"
	// CodeWhole: a fragment of a Delivery that was whole was refused; what ran
	// before runs on.
	CodeWhole Code = "RefusedAsAWhole"
	// CodeMachine: the machine could not do it (disk full, daemon not running,
	// no right); what ran before runs on.
	CodeMachine Code = "Machine"
)

// Error is a Delivery that failed as a whole.
type Error struct {
	Code    Code
	Message string // says what to do
}

func (e *Error) Error() string { return e.Message }
