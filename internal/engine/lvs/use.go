package lvs

import (
	"context"

	"github.com/external-lb/external-lb/internal/engine"
)

// Uses are the connections that the kernel tracks: IPVS has no other limit than memory.
func (k *Daemon) Uses(context.Context, int, int, int) engine.Uses {
	count, countErr := engine.ReadNumber(trackedConnections)
	limit, limitErr := engine.ReadNumber(mostConnections)
	if countErr != nil || limitErr != nil {
		return engine.Uses{}
	}
	return engine.Uses{Connections: engine.Use{Used: count, Limit: limit}}
}
