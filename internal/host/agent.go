package host

import "context"

// Agent is the Host of the machine that it runs on.
type Agent struct {
	settings Settings
}

var _ Host = (*Agent)(nil)

// NewAgent makes the Host of this machine. What an earlier one left unfinished is
// finished or undone at the first call.
func NewAgent(s Settings) (*Agent, error) { return &Agent{settings: s}, nil }

// Status looks at the machine now.
func (a *Agent) Status(ctx context.Context) (Status, error) { return Status{}, ctx.Err() }

// Apply makes a configuration live and proves it, or leaves the one that was.
func (a *Agent) Apply(ctx context.Context, d Delivery) (Outcome, error) { return Outcome{}, ctx.Err() }
