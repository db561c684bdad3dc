package host

import (
	"context"
	"errors"
	"maps"
	"path"
	"slices"

	"github.com/external-lb/external-lb/internal/fileset"
)

// reloads is how many are tried for one delivery: one that fails because of
// fragments is tried again without them.
const reloads = 5

// delivery is one on its way.
type delivery struct {
	store   *store
	state   state
	base    index
	want    map[string]planned
	runs    fileset.Digest    // what the daemon said before
	refused map[string]string // why, by path
	whole   bool              // it must not be made smaller,
	spared  []string          // but by these
}

// refuse leaves out what the daemon does not take, or fails if that may not be
// left out.
func (d *delivery) refuse(culprits map[string]string) error {
	for _, p := range slices.Sorted(maps.Keys(culprits)) {
		if d.whole && !slices.Contains(d.spared, p) {
			return &Error{CodeWhole, p + ": " + culprits[p]}
		}
	}
	maps.Copy(d.refused, culprits)
	return nil
}

// ours tells the ports that the daemon holds for the live set, by the generation's
// own index: files may be missing. While it is not certain what it runs, every
// port may be ours, and the daemon itself finds those that are not.
func (a *Agent) ours(d *delivery) func(fileset.Socket) bool {
	known, err := d.store.readIndex(d.state.Good)
	digest, ok := a.digest(d.store, d.state.Good)
	if err != nil || !ok || digest != d.runs {
		return func(fileset.Socket) bool { return true }
	}
	held := map[fileset.Socket]bool{}
	for _, e := range known {
		for _, s := range e.Listens {
			held[s] = true
		}
	}
	return func(s fileset.Socket) bool { return held[s] }
}

// accepted is what is wanted and not refused.
func (d *delivery) accepted() map[string]planned {
	files := maps.Clone(d.want)
	for p := range d.refused {
		delete(files, p)
	}
	return files
}

// listeners is how many sockets all that is accepted opens.
func (d *delivery) listeners() int {
	n := 0
	for _, f := range d.accepted() {
		n += len(f.Listens)
	}
	return n
}

func (d *delivery) outcome(live index, reloaded bool) Outcome {
	files := live.manifest()
	out := Outcome{Live: files.Digest(), Files: files, Reloaded: reloaded}
	for _, p := range slices.Sorted(maps.Keys(d.refused)) {
		out.Refused = append(out.Refused, Refusal{p, d.refused[p]})
	}
	return out
}

func (a *Agent) deliver(ctx context.Context, d *delivery) (Outcome, error) {
	a.at("probe")
	maps.Copy(d.refused, probeAll(d.want, a.ours(d)))
	for attempt := 1; ; attempt++ {
		out, err := a.attempt(ctx, d)
		var r *refusal
		if err == nil || attempt == reloads || !errors.As(err, &r) {
			return out, err
		}
		culprits := a.daemon.blame(d.suspects(), r.words)
		if len(culprits) == 0 || d.refuse(culprits) != nil {
			return out, err
		}
	}
}

// attempt makes what is not refused live, or leaves things as they were.
func (a *Agent) attempt(ctx context.Context, d *delivery) (Outcome, error) {
	if a.isLive(ctx, d, digestOf(d.accepted())) {
		return d.outcome(d.base, false), nil
	}
	g, err := a.ready(ctx, d)
	if err != nil {
		return Outcome{}, errors.Join(a.withAdvice(d.listeners(), err), d.store.clean(d.state))
	}
	if g == nil {
		return d.outcome(d.base, false), d.store.clean(d.state)
	}
	// From here on the daemon and the disk change together, whoever hangs up.
	ctx = context.WithoutCancel(ctx)
	reloaded, err := a.goLive(ctx, d, g)
	if err != nil {
		return Outcome{}, err
	}
	return d.outcome(g.index, reloaded), nil
}

// isLive reports whether there is nothing to do: the daemon runs that digest,
// and nobody has tampered with its files.
func (a *Agent) isLive(ctx context.Context, d *delivery, digest fileset.Digest) bool {
	return d.base.manifest().Digest() == digest && d.store.linked(liveLink) == d.state.Good && proves(ctx, a.daemon, digest)
}

// ready stages a generation, has it checked and makes sure that from now on
// nothing needs room on the disk. It is nil if what is left is live already.
func (a *Agent) ready(ctx context.Context, d *delivery) (*staged, error) {
	a.at("stage")
	g, err := d.store.stage(d.state.Good, d.accepted())
	if err != nil {
		return nil, err
	}
	a.at("check")
	if err := d.store.link(candidateLink, g.name); err != nil {
		return nil, err
	}
	if err := (&checker{a, d, g, 0}).run(ctx); err != nil {
		return nil, err
	}
	digest := g.digest()
	if a.isLive(ctx, d, digest) {
		return nil, nil
	}
	a.at("seal")
	if err := a.seal(g); err != nil {
		return nil, err
	}
	a.at("prepare")
	next := state{Epoch: d.state.Epoch, Good: g.name, Previous: d.state.Good}
	return g, errors.Join(
		d.store.link(nextLink, g.name),
		d.store.link(backLink, d.state.Good),
		d.store.writeJSON(nextStateFile, next),
		d.store.syncDir("."),
	)
}

// goLive swaps, reloads and waits for the proof, or undoes that.
func (a *Agent) goLive(ctx context.Context, d *delivery, g *staged) (reloaded bool, err error) {
	a.at("swap")
	if err := d.store.rename(nextLink, liveLink); err != nil {
		return false, errors.Join(err, d.store.clean(d.state))
	}
	a.at("reload")
	if !a.adjusts(ctx, d, g) {
		reloaded = true
		if err := a.daemon.reload(ctx, g.digest()); err != nil {
			return reloaded, a.rollBack(ctx, d, err)
		}
	}
	a.at("commit")
	if err := d.store.rename(nextStateFile, stateFile); err != nil {
		return reloaded, err
	}
	d.state.Previous, d.state.Good = d.state.Good, g.name
	a.at("clean")
	_ = d.store.clean(d.state) // it is live and proved; the next delivery removes what is left
	return reloaded, nil
}

// adjuster is a daemon that can take some changes without a reload.
type adjuster interface {
	// adjust makes the daemon do as the new versions of some files say, and prove
	// it. An error: it may have done so in part, and a reload must follow.
	adjust(ctx context.Context, files [][2][]byte, want fileset.Digest) error
}

// adjusts reports whether the daemon has taken a change without a reload.
func (a *Agent) adjusts(ctx context.Context, d *delivery, g *staged) bool {
	daemon, can := a.daemon.(adjuster)
	if runs, ok := a.digest(d.store, d.state.Good); !can || !ok || runs != d.runs {
		return false
	}
	var files [][2][]byte
	for p, e := range g.index {
		was, known := d.base[p]
		if !known {
			return false
		}
		if was.Sum == e.Sum {
			continue
		}
		before, err := d.store.root.ReadFile(path.Join(genDir, d.state.Good, filesDir, p))
		after, afterErr := d.store.root.ReadFile(g.path(filesDir, p))
		if err != nil || afterErr != nil {
			return false
		}
		files = append(files, [2][]byte{before, after})
	}
	return len(files) > 0 && len(g.index) == len(d.base) && daemon.adjust(ctx, files, g.digest()) == nil
}

// seal completes a generation with the host's own file.
func (a *Agent) seal(g *staged) error {
	own, err := a.daemon.own(g)
	if err != nil {
		return err
	}
	return g.seal(a.daemon.ownFile(), own)
}

// rollBack returns the cause, and what else goes wrong.
func (a *Agent) rollBack(ctx context.Context, d *delivery, cause error) error {
	a.at("swap back")
	if err := d.store.rename(backLink, liveLink); err != nil {
		return errors.Join(cause, err)
	}
	a.at("reload back")
	if err := a.reloadGood(ctx, d.store, d.state.Good); err != nil {
		return errors.Join(cause, err)
	}
	a.at("clean back")
	return errors.Join(a.withAdvice(d.listeners(), cause), d.store.clean(d.state))
}
