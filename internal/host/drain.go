package host

import (
	"context"
	"errors"
	"time"

	"github.com/external-lb/external-lb/internal/engine"
)

// drainEvery is how often an agent looks whether connections have had their time.
const drainEvery = time.Second

// drain ends the connections that have had their time, unless a delivery is under way: then
// they have a second more. What an earlier process has left undone comes first: where that fails,
// it is not tried again each second.
func (a *Agent) drain(ctx context.Context) {
	for _, u := range a.units {
		d, drains := u.daemon.(engine.Drainer)
		if over, _ := u.recovers.Over(); !drains || !over || !d.Late() {
			continue
		}
		if s, err := openStore(u.dir); err == nil {
			_, err := u.recoverIfIdle(ctx, s)
			_ = u.recovers.After(ctx, err) // the status says what is wrong
			_ = s.close()                  // nothing is written to a directory
		}
	}
}

// endLeftCommand is what the account must be allowed, since what its daemon listens on may be root's.
// nil: this user is root, or there is nothing to end.
func (u *unit) endLeftCommand() []string {
	if _, ok := u.daemon.(engine.RootDrainer); !ok || !u.settings.sudo {
		return nil
	}
	return []string{"sudo", "-n", u.settings.program, "host", "end-drained"}
}

// endLeft ends connections as root.
func (u *unit) endLeft(ctx context.Context) error {
	if argv := u.endLeftCommand(); argv != nil {
		words, err := engine.Verdict(ctx, u.run, argv, "sudo", engine.OneLine)
		if err == nil && words != "" {
			err = engine.Failed("%s", words)
		}
		return err
	}
	return u.daemon.(engine.RootDrainer).EndLeft(ctx) // who else would ask
}

// EndLeftConnections ends those that have had their time. It takes root.
func (a *Agent) EndLeftConnections(ctx context.Context) error {
	var errs []error
	for _, u := range a.units {
		if d, ok := u.daemon.(engine.RootDrainer); ok {
			errs = append(errs, d.EndLeft(ctx))
		}
	}
	return errors.Join(errs...)
}
