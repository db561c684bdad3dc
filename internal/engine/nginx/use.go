package nginx

import (
	"context"

	"github.com/external-lb/external-lb/internal/engine"
)

// Uses counts the sockets of the workers' user: no other program has the same one, and the
// workers' own files are nobody's but root's to look at. Old workers have connections of
// their own; those that they hold count as well, so this says too much rather than too
// little.
func (n *Daemon) Uses(_ context.Context, listeners, pid int) engine.Uses {
	_, all := n.workers()
	workers := max(1, len(accepting(all)))
	uid, known := engine.ProcessOwner(pid)
	if !known || uid == 0 {
		return engine.Uses{}
	}
	tcp, udp := engine.Sockets(uid)
	each, _ := n.connections()
	files, _ := engine.OpenFiles(pid)
	return engine.Uses{
		// nginx counts its listeners as connections, and a client's datagrams as one beside the socket for the answers.
		Connections: engine.Use{Used: tcp + 2*udp + listeners*workers, Limit: each * workers},
		Files:       engine.Use{Used: tcp + udp + listeners*workers, Limit: files * workers},
	}
}
