package host

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// MaxTermJump is how far the term of one delivery may be ahead of the last one: whoever
// takes the greatest term there is would shut everybody else out for good.
const MaxTermJump = 1 << 20

// resetTerm tells of the one way out.
const resetTerm = "run `external-lb host reset-term` on it as root"

// errOtherCluster does not tell whose the machine is.
var errOtherCluster = &Error{Code: CodeOtherCluster, Message: "this machine is another cluster's: name a machine of your own. If it is to change hands, " +
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
		return &Error{Code: CodeStaleEpoch, Message: "this machine has taken epoch " + r.Epoch.String() + ", and " + d.Epoch.String() + " is not newer: somebody else leads"}
	case d.Epoch.Term-r.Epoch.Term > MaxTermJump:
		return &Error{Code: CodeTermJump, Message: fmt.Sprintf("this machine has taken term %d, and %d is too far ahead of that: if it is right, %s", r.Epoch.Term, d.Epoch.Term, resetTerm)}
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

// lost is why a model's record cannot be read; nil: it can.
func (a *Agent) lost(m *model) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return m.lost
}

// ResetTerm forgets in which term the machine was delivered to, and by which cluster:
// from now on it is that of the given one or, if that is "", of the first that delivers.
// lost: it was not known any more. aside is where the record is kept that was damaged; "": there is none.
func (a *Agent) ResetTerm(ctx context.Context, cluster string) (lost bool, aside string, err error) {
	if os.Geteuid() != 0 {
		return false, "", errors.New("only the machine's owner decides who delivers to it: run it with sudo")
	}
	release, err := a.take(ctx)
	if err != nil {
		return false, "", err
	}
	defer release()
	if lost = a.model.lost != nil; lost && a.model.exists(modelState) {
		if err := a.model.setAside(modelState); err != nil {
			return false, "", a.units[0].explain(err)
		}
		aside = filepath.Join(a.model.dir, modelState+damagedSuffix)
	}
	return lost, aside, a.units[0].explain(a.model.note(modelRecord{Cluster: cluster}, &a.mu))
}

// knowsWhoDelivers reports whether the machine's record can be read.
func (a *Agent) knowsWhoDelivers() bool {
	m, err := a.read()
	return err != nil || a.lost(m) == nil // another error is told by who delivers
}

// whoDelivers puts a good record in the place of one that is damaged or gone, and says what is lost by that.
func (in *installer) whoDelivers(ctx context.Context) error {
	a := &Agent{settings: in.settings, units: newUnits(in.settings, in.Runner), turn: make(chan struct{}, 1)}
	if a.knowsWhoDelivers() {
		return nil
	}
	path := filepath.Join(in.settings.modelDir(), modelState)
	what := path + " is gone"
	if _, err := os.Lstat(path); err == nil {
		what = path + " is damaged, and kept as " + path + damagedSuffix
	}
	return in.Step("who delivers", what+": which cluster delivered to this machine, and in which term, is lost. "+
		"The first cluster that delivers now stays; `external-lb host reset-term --cluster UID` names another", false, func() error {
		_, _, err := a.ResetTerm(ctx, "")
		return err
	})
}
