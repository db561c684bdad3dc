package nginx

import (
	"context"

	"github.com/external-lb/external-lb/internal/engine"
)

// Observe counts the connections that are open: nginx itself counts nothing by server, but
// in modules of others.
func (n *Daemon) Observe(_ context.Context, live []engine.Carried) ([]engine.Traffic, error) {
	return engine.ConnectionsOf(live)
}
