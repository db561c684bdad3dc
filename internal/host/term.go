package host

import (
	"context"
	"errors"
	"fmt"
	"os"
)

// MaxTermJump is how far the term of one delivery may be ahead of the last one: whoever
// takes the greatest term there is would shut everybody else out for good.
const MaxTermJump = 1 << 20

// resetTerm tells of the one way out.
const resetTerm = "run `external-lb host reset-term` on it as root"

// errOtherCluster does not tell whose the machine is.
var errOtherCluster = &Error{CodeOtherCluster, "this machine is another cluster's: name a machine of your own. If it is to change hands, " +
	"take it out of the Balancer of the other cluster first, and then " + resetTerm}

// Tells checks that the controller of a cluster may hear what a machine carries.
func (s Status) Tells(cluster string) error { return ofCluster(s.Cluster, cluster) }

func ofCluster(pinned, cluster string) error {
	if pinned != "" && pinned != cluster {
		return errOtherCluster
	}
	return nil
}

// takes checks that a delivery is from the leader of the machine's cluster. The owner's
// need not be.
func (r modelRecord) takes(d Delivery) error {
	switch {
	case d.Owner:
		return nil
	case ofCluster(r.Cluster, d.Cluster) != nil:
		return errOtherCluster
	case d.Epoch.Compare(r.Epoch) <= 0:
		return &Error{CodeStaleEpoch, "this machine has taken epoch " + r.Epoch.String() + ", and " + d.Epoch.String() + " is not newer: somebody else leads"}
	case d.Epoch.Term-r.Epoch.Term > MaxTermJump:
		return &Error{CodeTermJump, fmt.Sprintf("this machine has taken term %d, and %d is too far ahead of that: if it is right, %s", r.Epoch.Term, d.Epoch.Term, resetTerm)}
	}
	return nil
}

// next is the record once a delivery was taken.
func (r modelRecord) next(d Delivery) modelRecord {
	if d.Owner {
		return r
	}
	return modelRecord{Cluster: d.Cluster, Epoch: d.Epoch}
}

// ResetTerm forgets in which term the machine was delivered to, and by which cluster:
// from now on it is that of the given one or, if that is "", of the first that delivers.
func (a *Agent) ResetTerm(ctx context.Context, cluster string) error {
	if os.Geteuid() != 0 {
		return errors.New("only the machine's owner decides who delivers to it: run it with sudo")
	}
	release, err := a.take(ctx)
	if err != nil {
		return err
	}
	defer release()
	return a.units[0].explain(a.model.note(modelRecord{Cluster: cluster}, &a.mu))
}
