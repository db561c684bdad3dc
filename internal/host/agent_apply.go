package host

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"maps"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"

	"github.com/external-lb/external-lb/internal/lb"
)

// Apply makes a model live and proves it, or leaves what was.
func (a *Agent) Apply(ctx context.Context, d Delivery) (Outcome, error) {
	release, err := a.take(ctx)
	if err != nil {
		return Outcome{}, err
	}
	defer release()
	for _, u := range a.units { // a reload adds to what there is
		u.relieve(ctx)
	}
	a.units[0].at("take epoch")
	next, err := a.model.take(d, &a.mu)
	if err != nil {
		return Outcome{}, a.units[0].explain(errors.Join(err, a.clean())) // a disk that is full is to have room again
	}
	reloaded, err := a.applyWanted(ctx, next)
	if err != nil {
		return Outcome{}, a.units[0].explain(errors.Join(err, a.clean()))
	}
	out := Outcome{Reloaded: reloaded}
	if out.Report, err = a.report(ctx); err == nil {
		err = a.model.clean(out.Live)
	}
	for _, u := range a.units {
		out.Active = out.Active || u.active()
	}
	if said, err := a.units[0].daemon.Ask(ctx); err == nil {
		out.Old = a.units[0].oldUse(said.PID)
	}
	return out, a.units[0].explain(err)
}

// applyWanted makes the daemons carry what is wanted, which it is for good then.
// Templates that are new are on trial: if they fail, the last good ones make all of it.
func (a *Agent) applyWanted(ctx context.Context, next *wanted) (reloaded bool, err error) {
	c := a.choose(a.model)
	t := a.newTrial(c)
	on, err := a.delivery(next)
	if err != nil {
		return false, err
	}
	reloaded, err = a.applyAll(ctx, on, c, t)
	if t.failed() != nil {
		if on, err = a.delivery(next); err != nil {
			return false, err
		}
		again, failed := a.applyAll(ctx, on, a.lastGood(a.model.templateRecord(), t.why), nil)
		reloaded, err = reloaded || again, failed
	}
	if err == nil {
		err = errors.Join(a.model.commit(next, &a.mu), a.remember(on, c, t))
	}
	return reloaded, err
}

// clean removes Items of a delivery that has failed.
func (a *Agent) clean() error {
	live, err := a.live()
	if err != nil {
		return err
	}
	return a.model.clean(live.Manifest())
}

// remember what was refused, and what became of templates.
func (a *Agent) remember(on *delivery, c chosen, t *trial) error {
	if err := a.model.replaceJSON(outcomeFile, on.all(), privateMode); err != nil {
		return err
	}
	record := a.model.templateRecord()
	_, refusedAnyway := on.refused[refused{key: t.culprit()}]
	switch {
	case c.problem != "":
	case t.failed() == nil && record.Proved != digits(c.Sum()):
		if err := a.model.replaceJSON(templatesFile, templateRecord{Good: c.custom, Proved: digits(c.Sum())}, privateMode); err != nil {
			return err
		}
	case t.failed() != nil && !refusedAnyway:
		record.fail(digits(c.Sum()), t)
		if err := a.model.replaceJSON(templatesFile, record, privateMode); err != nil {
			return err
		}
	}
	return nil
}

// applyAll makes the units apply what they all take: one that refuses something of a
// Service refuses it for those before it, too, and there is less of it each time.
func (a *Agent) applyAll(ctx context.Context, on *delivery, c chosen, t *trial) (reloaded bool, err error) {
	for {
		on.settle()
		before := on.all()
		did, err := a.applyOnce(ctx, on, c, t)
		reloaded = reloaded || did
		if err != nil || a.settings.Datagrams == "" || slices.Equal(before, on.all()) {
			return reloaded, err
		}
	}
}

// applyOnce makes each unit apply its part: traffic first, so that nothing is at an address
// that is not answered there; and an address that goes, before its traffic.
func (a *Agent) applyOnce(ctx context.Context, on *delivery, c chosen, t *trial) (reloaded bool, err error) {
	if a.leaving(on) {
		// For this moment, the addresses that stay: the others are withdrawn before their traffic.
		reloaded, err = a.moves().apply(ctx, a.order(on, a.moves(), c, on.stayed))
		if err != nil {
			return reloaded, err
		}
	}
	for _, u := range a.units {
		o := a.order(on, u, c, everyAddress)
		if u == a.units[0] { // whose templates they are
			o.trial = t
		}
		did, err := u.apply(ctx, o)
		reloaded = reloaded || did
		if errorCode(err) == CodeRolledBack && o.trial.failed() == nil {
			o.trial.blameWhole(err)
		}
		if err != nil {
			return reloaded, err
		}
	}
	return reloaded, nil
}

// leaving reports whether an address goes that a unit beside the traffic's has brought.
func (a *Agent) leaving(on *delivery) bool {
	if len(a.units) < 2 || a.moves() == nil {
		return false
	}
	on.settle()
	brings := map[lb.Key]bool{}
	if on.config.VRRP != nil {
		for _, address := range on.config.Addresses {
			brings[lb.AddressKey(address)] = true
		}
	}
	for key := range on.live {
		if key.IsAddress() && !brings[key] {
			return true
		}
	}
	return false
}

func everyAddress(netip.Addr) bool { return true }

// MaxRendered is how many bytes of files are shown at once: they are Services times
// nodes, and whoever asks must not cost the agent its memory.
const MaxRendered = 64 << 20

var maxRendered = MaxRendered

// Render says what Apply would make of a delivery, and changes nothing.
func (a *Agent) Render(ctx context.Context, d Delivery) (Rendering, error) {
	release, err := a.take(ctx)
	if err != nil {
		return Rendering{}, err
	}
	defer release()
	if err := cmp.Or(a.model.lost, ofCluster(a.model.record.Cluster, d.Cluster)); err != nil {
		return Rendering{}, a.units[0].explain(err)
	}
	next, err := a.model.changed(d)
	if err != nil {
		return Rendering{}, err
	}
	on, err := a.delivery(next)
	if err != nil {
		return Rendering{}, err
	}
	c := a.choose(a.model)
	var out Rendering
	size := 0
	for _, u := range a.units {
		files, _, err := a.order(on, u, c, everyAddress).files()
		if err != nil {
			return Rendering{}, err
		}
		for _, p := range slices.Sorted(maps.Keys(files)) {
			m, err := files[p].make()
			if err != nil {
				return Rendering{}, err
			}
			f := RenderedFile{Path: filepath.Join(filepath.Base(u.dir), p), Sum: sha256.Sum256(m.data)}
			if !files[p].Private {
				f.Data = m.data
			}
			if size += len(f.Data); size > maxRendered {
				return Rendering{}, failed("the files have more than %d bytes together, too many to show: see those that are live on the host itself",
					maxRendered)
			}
			out.Files = append(out.Files, f)
		}
	}
	slices.SortFunc(out.Files, func(a, b RenderedFile) int { return strings.Compare(a.Path, b.Path) })
	out.Refused = on.all()
	return out, nil
}
