package engine

import (
	"context"
	"io/fs"
)

// Installer prepares a machine for what is delivered to one daemon.
type Installer interface {
	// Programs that must be installed; the first is the daemon's own.
	Programs() []Program
	// Read reads the owner's configuration, which must be sound, and finds packages
	// that are missing. It is not asked where the daemon's own program is missing.
	Read(ctx context.Context) (missing []string, err error)
	Found() string                     // what Programs and Read have found, in words
	Settings() string                  // lines of the machine's settings that are not the defaults
	Kernel() []KernelSetting           // that the kernel must have
	Files() error                      // makes those that stand between the daemon and the deliveries
	Include(ctx context.Context) error // lets the owner's daemon read what is delivered
	Load(ctx context.Context) error    // lets the daemon read all that once, if it runs, and wants the proof
}

// Thrifty is an Installer of a daemon that the owner's settings may allow too little.
type Thrifty interface {
	// Short says which lines of the owner's to change to what; none: they carry a balancer.
	Short() []string
}

// Bounded is an Installer of a daemon that can hold connections of so many clients.
type Bounded interface {
	// Holds is that number, with settings that carry a balancer.
	Holds() int
}

// Confined is an Installer of a daemon that SELinux or AppArmor keep from what is delivered,
// where a machine has them.
type Confined interface {
	Confinement() Confinement
}

// Confinement is what the daemon must be let do.
type Confinement struct {
	SELinux []string // commands of root's
	PerPort string   // one more for each PORT of the Services; "": none
	Profile string   // of AppArmor: the name of its file; "": there is none
	Rules   []string // that it lacks
}

// Program that a package brings, by its name in Debian.
type Program struct{ Path, Package string }

// StepResult is what became of a Step.
type StepResult string

// The results.
const (
	StepPresent StepResult = "present" // was there already
	StepDone    StepResult = "done"
	StepWould   StepResult = "would do" // in a dry run
	StepWarning StepResult = "warning"  // nothing done; Detail says what the administrator may want to do
	StepFailed  StepResult = "failed"   // and the error says why
)

// Steps is how an Installer changes a machine. Each step is reported; in a dry run
// nothing is done.
type Steps interface {
	Runner
	// Step does one thing, unless it is there already.
	Step(name, detail string, present bool, do func() error) error
	// File makes sure that a file has a content, and that root owns it.
	File(name, path string, data []byte, mode fs.FileMode) error
	// Link makes sure that a link leads somewhere.
	Link(name, path, target string) error
	Report(name string, result StepResult, detail string)
	// Family that the machine is of.
	Family() *Family
	// Account that deliveries are made by.
	Account() (uid, gid int)
	// Change notes that the daemon must load something; Changed reports whether it must.
	Change()
	Changed() bool
	// Reload lets a daemon that runs load what is live, and wants the proof.
	Reload(ctx context.Context, name string) error
}
