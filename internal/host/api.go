package host

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	"github.com/external-lb/external-lb/internal/lb"
)

// Epoch orders deliveries. A host refuses one that is not newer than the last
// that it took, so that a deposed leader cannot overwrite its successor.
type Epoch struct {
	Term int64  // grows with each leader of a cluster
	Seq  uint64 // grows with each delivery of one leader
}

// Compare orders epochs.
func (e Epoch) Compare(o Epoch) int {
	return cmp.Or(cmp.Compare(e.Term, o.Term), cmp.Compare(e.Seq, o.Seq))
}

// String prints an Epoch as term.seq.
func (e Epoch) String() string { return fmt.Sprintf("%d.%d", e.Term, e.Seq) }

// Host is one balancer machine: an *Agent in process, or the same over a stream.
type Host interface {
	// Status looks at the machine now.
	Status(ctx context.Context) (Status, error)
	// Apply makes a model live and proves it, or leaves what was.
	Apply(ctx context.Context, d Delivery) (Outcome, error)
	// Render says what Apply would make of a delivery, and changes nothing.
	Render(ctx context.Context, d Delivery) (Rendering, error)
}

// Delivery is a model to make live, as a change of what the host keeps as wanted.
type Delivery struct {
	Cluster string // whose controller delivers: the UID of its namespace kube-system
	Epoch   Epoch
	// Owner: it is the machine's own owner who delivers, and no controller. It never
	// comes over the wire.
	Owner bool
	// Keep are the Items of Want that are the owner's from now on, and no others: what
	// controllers deliver is carried beside them. With Owner alone.
	Keep   []lb.Key
	Base   lb.Digest // of what the host wants so far: Report.Wanted.Digest()
	Change lb.Change
	Want   lb.Digest // of what it wants after Change
}

// Report is what a machine keeps and carries. Its maps are not changed once made.
type Report struct {
	// Wanted is the last model that was delivered, refused Items included: the base of
	// the next change.
	Wanted lb.Manifest
	// Live are the Items that the daemon carries, by the bytes of each: of one that was
	// refused, those of its older version if that stays. It is proved only if Proved
	// says so. A Service of which some listeners are refused is in it.
	Live lb.Manifest
	// Proved: the daemon shows the Generation that carries Live, and the files of that
	// are as they were made.
	Proved     bool
	Generation string // that the daemon shows now; "" if it shows none
	Refused    []Refusal
	// Renderer is what makes files of the model on this machine: engine, version,
	// templates and settings. Behind a dot is what differs from machine to machine, see
	// Alike. Outdated: another one made what is live; a delivery makes it anew.
	Renderer string
	Outdated bool
}

// Alike is what all hosts of a Balancer should have the same of a Renderer.
func Alike(renderer string) string {
	alike, _, _ := strings.Cut(renderer, ".")
	return alike
}

// Digest is the same for two Reports only if Wanted, Live and Refused are: all of a
// Report that grows.
func (r Report) Digest() string {
	h := sha256.New()
	fmt.Fprintln(h, r.Wanted.Digest(), r.Live.Digest()) // never fails, here and below
	for _, f := range r.Refused {
		fmt.Fprintf(h, "%s %s %s %t %q\n", f.Key, f.Listener, f.Reason, f.OlderStays, f.Message)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// Status is what a machine runs.
type Status struct {
	Report
	Engine        string // as the machine's settings name it, with what carries datagrams beside it
	EngineVersion string // the daemon and its version, as it says
	Running       bool   // the daemon answers
	Active        bool   // the machine has the addresses that move between machines
	Cluster       string // that delivers to the machine; "": none has yet, or the machine does not tell
	Epoch         Epoch  // of the last delivery taken
	OldWorkers    int    // processes of earlier configurations that still carry connections
	Uses          Uses
	Message       string // what is wrong with the machine and what to do; "" if nothing
	Kept          string // where the owner has API servers carried, whatever is delivered; "": nowhere. It does not cross the wire
	Templates     string // why templates of the machine's owner are not in force; "" if they are, or there are none
	Clock         Clock  `json:"-"`
	Restarts      int    `json:"-"` // of daemons, by others, since the agent runs, which alone knows
	Restarted     string `json:"-"` // says so of the last one; "" a while later
}

// Clock is what time it was on a machine when it was asked, and when it answered. The zero Clock:
// it does not say, since it is this machine or an older program.
type Clock struct{ Asked, Answered time.Time }

// Outcome is what became of a Delivery.
type Outcome struct {
	Report
	Reloaded bool
	Active   bool // the machine has the addresses that move between machines
	Old      Use  // as in Uses
}

// Refusal is an Item, or one Listener of a Service, that is left out.
type Refusal = lb.Refusal

// Rendering is what a machine would make of a model.
type Rendering struct {
	Files   []RenderedFile // sorted by path
	Refused []Refusal
}

// RenderedFile is one file that a daemon would read.
type RenderedFile struct {
	Path string // below the engine's own directory
	Data []byte // nil: it holds a key and is not shown
	Sum  [32]byte
}

// Code classifies what went wrong with a Delivery as a whole.
type Code string

// The codes.
const (
	// CodeStaleEpoch: the machine has taken a newer epoch.
	CodeStaleEpoch Code = "StaleEpoch"
	// CodeTermJump: the term is more than MaxTermJump ahead of what the machine has taken.
	CodeTermJump Code = "TermJump"
	// CodeOtherCluster: the machine is delivered to by another cluster.
	CodeOtherCluster Code = "OtherCluster"
	// CodeBaseMismatch: the machine does not want the base that the change starts
	// from. Ask for its Status and try again.
	CodeBaseMismatch Code = "BaseMismatch"
	// CodeRolledBack: the daemon did not take or not prove the configuration;
	// what ran before runs on.
	CodeRolledBack Code = "RolledBack"
	// CodeMachine: the machine could not do it (disk full, daemon not running,
	// no right); what ran before runs on.
	CodeMachine Code = "Machine"
)

// Error is a Delivery that failed as a whole.
type Error struct {
	Code    Code
	Message string // says what to do
	Late    bool   // with CodeRolledBack: the daemon only did not prove it in time. It does not cross the wire
}

func (e *Error) Error() string { return e.Message }
