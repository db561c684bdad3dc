package host

import "context"

// InstallOptions say how a machine is to be prepared.
type InstallOptions struct {
	// AuthorizedKeys may deliver: each is a public key, or the name of a file with
	// public keys, one a line.
	AuthorizedKeys []string
	// Command is this program, which the keys run; default /usr/local/bin/external-lb.
	Command string
	// NonlocalBind lets nginx listen on addresses that the machine does not have
	// (yet), with a sysctl.
	NonlocalBind bool
	// DryRun changes nothing and says what would be done.
	DryRun bool
}

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

// Step is one thing that a machine needs.
type Step struct {
	Name   string
	Result StepResult
	Detail string // what it is, or what to do
}

// Install prepares this machine for deliveries; it must run as root. A second
// time it changes nothing. It returns the steps up to the one that failed.
func Install(ctx context.Context, o InstallOptions) ([]Step, error) { return nil, ctx.Err() }
