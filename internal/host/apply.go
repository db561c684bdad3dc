package host

import (
	"context"
	"crypto/sha256"
	"errors"
	"maps"
	"path"
	"slices"
	"time"

	"github.com/external-lb/external-lb/internal/engine"
	"github.com/external-lb/external-lb/internal/fileset"
	"github.com/external-lb/external-lb/internal/lb"
)

// reloads is how many are tried for one delivery: one that fails because of
// fragments is tried again without them.
const reloads = 5

// order is what a unit is told to carry.
type order interface {
	// files that are wanted and not refused, and the items that are carried without
	// a file of their own.
	files() (files map[string]planned, items lb.Sums, err error)
	// refuse some of them. changed: what is wanted now differs by more than that these
	// are missing, since an older version or fewer sockets stay.
	refuse(culprits map[string]engine.Culprit) (changed bool)
	// refuseNodes that are too many for the files of Services.
	refuseNodes(keys []lb.Key)
	// renderer says what makes the files.
	renderer() string
	// custom: some templates are the owner's.
	custom() bool
}

// job is one order on its way.
type job struct {
	order
	store  *store
	state  state
	base   *base
	runs   fileset.Digest // what the daemon said before
	wanted map[string]planned
	items  lb.Sums
}

// listeners is how many sockets all that is wanted opens.
func (j *job) listeners() int {
	n := 0
	for _, f := range j.wanted {
		n += len(f.Listens)
	}
	return n
}

// leaveOut what some files carry.
func (j *job) leaveOut(culprits map[string]engine.Culprit) {
	keys := map[lb.Key]bool{}
	for p := range culprits {
		keys[j.wanted[p].Key] = true
		delete(j.wanted, p)
	}
	maps.DeleteFunc(j.wanted, func(_ string, f planned) bool { return f.Key != "" && keys[f.Key] })
}

// apply makes an order live and proves it, or leaves what was.
func (u *unit) apply(ctx context.Context, o order) (reloaded bool, err error) {
	s, err := openStore(u.dir)
	if err != nil {
		return false, u.explain(err)
	}
	defer s.close() // nothing is written to a directory
	unlock, err := s.lock(ctx, true)
	if err != nil {
		return false, u.explain(err)
	}
	defer unlock()
	j, err := u.begin(ctx, s, o)
	if err == nil {
		reloaded, err = u.deliver(ctx, j)
	}
	return reloaded, u.explain(err)
}

// begin finishes what was interrupted, and looks at what is there.
func (u *unit) begin(ctx context.Context, s *store, o order) (*job, error) {
	st, err := u.recover(ctx, s)
	if err != nil {
		return nil, err
	}
	j := &job{order: o, store: s, state: st}
	if j.base, err = u.look(s, st.Good); err != nil {
		return nil, err
	}
	said, err := u.daemon.Ask(ctx)
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, failed("%s", u.silence(j.base.Files, err))
	}
	if old := u.daemon.TooOld(said.Version); old != "" {
		return nil, failed("%s", old)
	}
	j.runs = said.Digest
	return j, nil
}

// ours tells the ports that the daemon holds for the live set, by the generation's
// own index: files may be missing. While it is not certain what it runs, every
// port may be ours, and the daemon itself finds those that are not.
func (u *unit) ours(j *job) func(fileset.Socket) bool {
	digest, ok := u.digest(j.store, j.state.Good)
	if j.base.Files == nil || !ok || digest != j.runs { // nil: the index cannot be read
		return func(fileset.Socket) bool { return true }
	}
	held := map[fileset.Socket]bool{}
	for _, e := range j.base.Files {
		for _, s := range e.Listens {
			held[s] = true
		}
	}
	return func(s fileset.Socket) bool { return held[s] }
}

// errChanged starts over with what is wanted now.
var errChanged = errors.New("something else is wanted now")

func (u *unit) deliver(ctx context.Context, j *job) (reloaded bool, err error) {
	ours := u.ours(j)
	for attempt := 1; ; {
		if j.wanted, j.items, err = j.files(); err != nil {
			return false, err
		}
		u.at("probe")
		culprits := u.probeAll(j.wanted, ours)
		if len(culprits) == 0 {
			culprits = u.unprepared(j.wanted)
		}
		if len(culprits) == 0 {
			culprits = u.crowding(j)
		}
		if len(culprits) > 0 {
			if j.refuse(culprits) {
				continue
			}
			j.leaveOut(culprits)
		}
		reloaded, culprits, err := u.attempt(ctx, j)
		switch {
		case errors.Is(err, errChanged):
			continue // there is less each time
		case err == nil || attempt == reloads || len(culprits) == 0:
			return reloaded, err
		}
		attempt++
		j.refuse(culprits)
	}
}

// attempt makes what is wanted live, or leaves things as they were; the culprits
// are those that the daemon named when it did not take the rest.
func (u *unit) attempt(ctx context.Context, j *job) (reloaded bool, culprits map[string]engine.Culprit, err error) {
	if u.isLive(ctx, j) {
		return false, nil, u.relabel(j, nil)
	}
	g, err := u.ready(ctx, j)
	if err != nil {
		culprits := u.blamed(g, err)
		err = u.withAdvice(j.listeners(), err)
		if g != nil && len(culprits) == 0 && refusal(err) != nil && ctx.Err() == nil {
			err = u.ownersFault(err, u.checkWhole(ctx, asItIs))
		}
		return false, culprits, errors.Join(err, j.store.clean(j.state))
	}
	if g == nil {
		return false, nil, j.store.clean(j.state)
	}
	// From here on the daemon and the disk change together, whoever hangs up.
	return u.goLive(context.WithoutCancel(ctx), j, g)
}

// isLive reports whether there is nothing to do: all that is wanted is there, the
// daemon runs it, and nobody has tampered with its files.
func (u *unit) isLive(ctx context.Context, j *job) bool {
	if len(j.wanted) != len(j.base.Files) {
		return false
	}
	for p, f := range j.wanted {
		if !j.base.has(p, f, j.renderer()) {
			return false
		}
	}
	return u.proves(ctx, j.store, j.base)
}

// relabel notes that what is live carries other items than was noted, where all
// files are the same. g, if there is one, has them.
func (u *unit) relabel(j *job, g *staged) error {
	now := contents{Files: index{}, Items: j.items, Renderer: j.renderer()}
	same := now.Renderer == j.base.Renderer && maps.Equal(now.Items, j.base.Items)
	for p, e := range j.base.Files {
		f := j.wanted[p].entry
		f.Sum, f.View, f.Problem = e.Sum, e.View, e.Problem
		if g != nil {
			f = g.Files[p]
		}
		now.Files[p] = f
		same = same && f.Key == e.Key && f.Item == e.Item && f.From == e.From && f.Problem == e.Problem
	}
	if same {
		return nil
	}
	all, err := j.store.readContents(j.state.Good)
	if err != nil {
		return err
	}
	now.Files[u.daemon.OwnFile()] = all.Files[u.daemon.OwnFile()]
	return j.store.replaceJSON(path.Join(engine.GenerationsDir, j.state.Good, indexFile), now, publicMode)
}

// ready stages a generation, has it checked as a part of all that the daemon reads, and makes
// sure that from now on nothing needs room on the disk. It is nil if what is left is live already.
func (u *unit) ready(ctx context.Context, j *job) (*staged, error) {
	u.at("stage")
	g, err := j.store.stage(j.base, j.wanted, j.renderer(), &u.sums)
	if err != nil {
		return nil, err
	}
	g.Items = j.items
	if err := j.store.link(engine.CandidateLink, g.name); err != nil {
		return nil, err
	}
	if u.same(ctx, j, g) {
		return nil, u.relabel(j, g)
	}
	u.at("check")
	own, err := u.checkAll(ctx, g)
	if g.beyond || refusal(err) != nil {
		found, blameErr := u.leaveOutCulprits(ctx, j, g)
		switch {
		case blameErr != nil:
			return nil, blameErr
		case !found:
			return g, err
		case u.same(ctx, j, g):
			return nil, u.relabel(j, g)
		}
		own, err = u.checkAll(ctx, g)
	}
	if err != nil {
		return g, err
	}
	u.at("seal")
	if err := u.seal(g, own); err != nil {
		return nil, err
	}
	u.at("prepare")
	next := state{Good: g.name, Previous: j.state.Good}
	return g, errors.Join(
		j.store.link(nextLink, g.name),
		j.store.link(engine.BackLink, j.state.Good),
		j.store.writeJSON(nextStateFile, next),
		j.store.syncDir("."),
	)
}

// same reports whether what is staged is live.
func (u *unit) same(ctx context.Context, j *job, g *staged) bool {
	return g.Digest() == j.base.digest() && u.proves(ctx, j.store, j.base)
}

// leaveOutCulprits of a set that is refused as a part of all that the daemon reads: by itself,
// it shows who they are. It finds none where the set is not to blame.
func (u *unit) leaveOutCulprits(ctx context.Context, j *job, g *staged) (found bool, err error) {
	u.at("check by itself")
	c := &checker{unit: u, staged: g, base: j.base, culprits: map[string]engine.Culprit{}}
	switch err := c.run(ctx); {
	case err != nil:
		return false, err
	case len(c.nodes) > 0:
		j.refuseNodes(c.nodes)
		return true, errChanged
	case len(c.culprits) > 0 && j.refuse(c.culprits):
		return true, errChanged
	}
	return len(c.culprits) > 0, nil
}

// goLive swaps, reloads and waits for the proof, or undoes that.
func (u *unit) goLive(ctx context.Context, j *job, g *staged) (reloaded bool, culprits map[string]engine.Culprit, err error) {
	u.at("swap")
	if err := j.store.rename(nextLink, engine.LiveLink); err != nil {
		return false, nil, err // the link may lead to either: recover finds out, and cleans
	}
	u.at("reload")
	if !u.hotReloads(ctx, j, g) {
		reloaded = true
		began := time.Now()
		if err := u.reload(ctx, g.Digest()); err != nil {
			return reloaded, u.blamed(g, err), u.rollBack(ctx, j, err)
		}
		u.patience.learn(time.Since(began))
	}
	if missing := u.unopened(g.Files); len(missing) > 0 {
		return reloaded, missing, u.rollBack(ctx, j, failed("%s", missing[slices.Min(slices.Collect(maps.Keys(missing)))].Reason))
	}
	u.at("commit")
	if err := j.store.rename(nextStateFile, stateFile); err != nil {
		return reloaded, nil, err
	}
	j.state.Previous, j.state.Good = j.state.Good, g.name
	u.at("clean")
	_ = u.dropOld(j.store, j.state) // it is live and proved; the next delivery removes what is left
	return reloaded, nil, nil
}

// hotReloads reports whether the daemon has taken a change without a reload. What the
// owner's templates make of a change, nobody knows.
func (u *unit) hotReloads(ctx context.Context, j *job, g *staged) bool {
	daemon, can := u.daemon.(engine.HotReloader)
	if !can || j.custom() || j.base.Renderer != j.renderer() || len(g.Files) != len(j.base.Files) {
		return false
	}
	if runs, ok := u.digest(j.store, j.state.Good); !ok || runs != j.runs || !j.base.intact() {
		return false
	}
	changes, ok := g.changes(j.base)
	return ok && len(changes) > 0 && daemon.HotReload(ctx, changes, g.Digest()) == nil
}

// seal completes a generation with the host's own file.
func (u *unit) seal(g *staged, own []byte) error {
	if err := g.seal(u.daemon.OwnFile(), own); err != nil {
		return err
	}
	return u.indexes.keep(g.store, g.name, newKnown(g.contents).with(entry{Sum: sha256.Sum256(own)}))
}

// rollBack returns the cause, and what else goes wrong.
func (u *unit) rollBack(ctx context.Context, j *job, cause error) error {
	u.at("swap back")
	if err := j.store.rename(engine.BackLink, engine.LiveLink); err != nil {
		return errors.Join(cause, err)
	}
	u.at("reload back")
	refused, err := u.reloadGood(ctx, j.store, j.state.Good)
	if err != nil {
		return errors.Join(cause, err)
	}
	u.at("clean back")
	return errors.Join(u.ownersFault(u.withAdvice(j.listeners(), cause), refused), j.store.clean(j.state))
}
