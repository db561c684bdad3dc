package engine

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/external-lb/external-lb/internal/lb"
)

// Observer is a daemon that tells what it sees of the traffic, and of the nodes.
type Observer interface {
	// Observe returns what there is of each listener, in no order. It reads no more than is
	// good for this machine, and fails where there is more. live is what the daemon carries.
	Observe(ctx context.Context, live []Carried) ([]Traffic, error)
}

// Carried is a listener of a Service.
type Carried struct {
	Service  lb.ID
	Listener lb.Listener
}

// Unknown is a number that an engine cannot tell.
const Unknown = -1

// Traffic is what a daemon sees of one listener.
type Traffic struct {
	Carried
	Counts
	Judged
}

// Counts of connections, with UDP of flows. All but Open grow, until the daemon begins
// anew: with a reload, or with a change of the listener.
type Counts struct {
	Open     int64
	Made     int64 // by clients
	Refused  int64 // for a limit, or for where the client is
	Failed   int64 // no node took them
	BytesIn  int64 // from clients
	BytesOut int64 // to clients
}

// Uncounted is all that is known where nobody counts.
var Uncounted = Counts{Unknown, Unknown, Unknown, Unknown, Unknown, Unknown}

// Judged are the nodes behind a listener, as the daemon judges them. None is up or down where
// it does not.
type Judged struct {
	Up, Down int
	Named    []DownNode // some of those that are down, sorted by name
}

// MaxNamed is how many nodes that are down are named of a listener.
const MaxNamed = 8

// DownNode is a node that gets no connections.
type DownNode struct {
	Node string
	For  time.Duration // Unknown: since when is not known
}

// Judge counts a node. To name all of many would cost memory for nothing that anybody reads.
func (j *Judged) Judge(node string, up bool, since time.Duration) {
	if up {
		j.Up++
		return
	}
	j.Down++
	at, _ := slices.BinarySearchFunc(j.Named, node, func(d DownNode, name string) int { return strings.Compare(d.Node, name) })
	j.Named = slices.Insert(j.Named, at, DownNode{node, since})
	j.Named = j.Named[:min(len(j.Named), MaxNamed)]
}
