package nginx

import (
	"context"

	"github.com/external-lb/external-lb/internal/engine"
)

// Uses counts the sockets of the workers' user: no other program has the same one, and the
// workers' own files are nobody's but root's to look at. Old workers have connections of
// their own; those that they hold count as well, so this says too much rather than too
// little.
func (n *Daemon) Uses(_ context.Context, tcpListeners, udpListeners, pid int) engine.Uses {
	_, all := n.workers()
	workers := max(1, len(accepting(all)))
	uid, known := engine.ProcessOwner(pid)
	if !known || uid == 0 {
		return engine.Uses{}
	}
	used := sockets{tcpListeners: tcpListeners, udpListeners: udpListeners}
	used.tcp, used.udp = engine.Sockets(uid)
	each, _ := n.connections()
	files, _ := engine.OpenFiles(pid)
	return used.of(workers, each, files)
}

// sockets that are open, and listeners.
type sockets struct{ tcp, udp, tcpListeners, udpListeners int }

// of so many workers, each of which may have so many connections and files.
func (s sockets) of(workers, connections, files int) engine.Uses {
	// Every worker has the listeners of all workers open (see OneWorkerPerFlow), and uses its own.
	opened := s.tcpListeners + s.udpListeners*workers
	return engine.Uses{
		// nginx counts its listeners as connections, and a client's datagrams as one beside the socket for the answers.
		Connections: engine.Use{Used: s.tcp + 2*s.udp + (s.tcpListeners+s.udpListeners)*workers, Limit: connections * workers},
		Files:       engine.Use{Used: s.tcp + s.udp + opened*workers, Limit: files * workers},
	}
}
