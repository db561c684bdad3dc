package host

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/external-lb/external-lb/internal/admit"
	"github.com/external-lb/external-lb/internal/engine"
	"github.com/external-lb/external-lb/internal/lb"
	"github.com/external-lb/external-lb/internal/render"
)

// Agent is the Host of the machine that it runs on: it keeps the model that it was
// sent, and makes the machine's daemons carry what its owner admits of it. Several,
// also in different processes, take turns.
type Agent struct {
	settings Settings
	builtIn  *render.Renderer
	units    []*unit // traffic first, then what moves addresses

	turn  chan struct{} // who has put something in changes the model, and the machine
	since atomic.Int64  // when somebody did, in seconds since 1970; 0: nobody
	mu    sync.Mutex    // of what follows, and of what in the model is replaced
	model *model        // nil: not read yet
	last  tried         // templates
}

var _ Host = (*Agent)(nil)

// NewAgent makes the Host of this machine.
func NewAgent(s Settings) (*Agent, error) { return newAgent(s, engine.Machine{}) }

func newAgent(s Settings, r engine.Runner) (*Agent, error) {
	builtIn, err := render.New(s.table.Find(s.Engine))
	if err != nil {
		return nil, err
	}
	return &Agent{settings: s, builtIn: builtIn, units: newUnits(s, r), turn: make(chan struct{}, 1)}, nil
}

// modelDir is where the model is kept.
func (s *Settings) modelDir() string { return filepath.Join(s.Root, "model") }

// read reads the model, unless that was done.
func (a *Agent) read() (m *model, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.model == nil {
		a.model, err = openModel(a.settings.modelDir())
	}
	return a.model, err
}

// take waits for its turn among all that change this machine. The model is as it is
// on the disk then.
func (a *Agent) take(ctx context.Context) (release func(), err error) {
	select {
	case a.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	a.since.Store(time.Now().Unix())
	end := func() { a.since.Store(0); <-a.turn }
	unlock, err := a.lockModel(ctx)
	if err != nil {
		end()
		return nil, a.units[0].explain(err)
	}
	return func() { unlock(); end() }, nil
}

// lockModel keeps other processes from changing the model.
func (a *Agent) lockModel(ctx context.Context) (unlock func(), err error) {
	m, err := a.read()
	if err != nil {
		return nil, err
	}
	if unlock, err = m.lock(ctx, true); err != nil {
		return nil, err
	}
	if err := a.readAgain(m); err != nil {
		unlock()
		return nil, err
	}
	return unlock, nil
}

// readAgain reads the model if another process was at work. It is this goroutine's turn.
func (a *Agent) readAgain(m *model) error {
	if m.current() {
		return nil
	}
	next, err := openModel(a.settings.modelDir())
	if err != nil {
		return err
	}
	a.mu.Lock()
	a.model = next // somebody may read the one that was: it is closed once nobody does
	a.mu.Unlock()
	return nil
}

// latest is the model as it is on the disk, unless a delivery is under way.
func (a *Agent) latest() (*model, error) {
	select {
	case a.turn <- struct{}{}:
		defer func() { <-a.turn }()
	default:
		return a.read()
	}
	m, err := a.read()
	if err != nil {
		return nil, err
	}
	if err := a.readAgain(m); err != nil {
		return nil, err
	}
	return a.read()
}

// Apply makes a model live and proves it, or leaves what was.
func (a *Agent) Apply(ctx context.Context, d Delivery) (Outcome, error) {
	release, err := a.take(ctx)
	if err != nil {
		return Outcome{}, err
	}
	defer release()
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
	return a.model.clean(live)
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
		record.Refused, record.Why = digits(c.Sum()), t.why
		if err := a.model.replaceJSON(templatesFile, record, privateMode); err != nil {
			return err
		}
	}
	return nil
}

// delivery of a model.
func (a *Agent) delivery(of *wanted) (*delivery, error) {
	live, err := a.live()
	if err != nil {
		return nil, err
	}
	addresses, err := ownAddresses(live)
	if err != nil {
		return nil, failed("the addresses of this machine cannot be read: %v", err)
	}
	on := &delivery{
		rules: &a.settings.Admit, machine: admit.Machine{Addresses: addresses},
		parts: maps.Clone(of.parts), sums: maps.Clone(of.sums), live: live, older: a.model.older,
		refused: map[refused]lb.Refusal{}, stays: map[lb.Key]bool{},
	}
	if a.moves() == nil {
		on.refuseAddresses()
	}
	return on, nil
}

// older is what was sent once; nil if it cannot be read.
func (m *model) older(key lb.Key, sum lb.Sum) any {
	it, err := m.item(key, sum)
	if err != nil {
		return nil
	}
	return decoded(it)
}

// ownAddresses are those of this machine, but for those that are brought to it.
func ownAddresses(live lb.Manifest) (map[netip.Addr]bool, error) {
	all, err := net.InterfaceAddrs()
	if err != nil {
		return nil, err
	}
	own := map[netip.Addr]bool{}
	for _, a := range all {
		prefix, err := netip.ParsePrefix(a.String())
		if err != nil {
			continue
		}
		address := prefix.Addr().Unmap()
		if _, brought := live[lb.AddressKey(address)]; !brought {
			own[address] = true
		}
	}
	return own, nil
}

// applyAll makes each unit apply its part: traffic first, so that nothing is at an address
// that is not answered there; and an address that goes, before its traffic.
func (a *Agent) applyAll(ctx context.Context, on *delivery, c chosen, t *trial) (reloaded bool, err error) {
	if a.leaving(on) {
		// For this moment, the addresses that stay: the others are withdrawn before their traffic.
		reloaded, err = a.moves().apply(ctx, a.order(on, a.moves(), c, on.stayed))
		if err != nil {
			return reloaded, err
		}
	}
	for _, u := range a.units {
		o := a.order(on, u, c, everyAddress)
		if o.render != nil {
			o.trial = t
		}
		did, err := u.apply(ctx, o)
		reloaded = reloaded || did
		if errorCode(err) == CodeRolledBack && o.trial.failed() == nil {
			o.trial.blame("", err.Error())
		}
		if err != nil {
			return reloaded, err
		}
	}
	return reloaded, nil
}

// moves is the unit that moves addresses by itself, beside the one that carries
// traffic; nil if there is none.
func (a *Agent) moves() *unit {
	i := slices.IndexFunc(a.units, func(u *unit) bool { return u.use.moves })
	if i < 0 {
		return nil
	}
	return a.units[i]
}

func everyAddress(netip.Addr) bool { return true }

// order is a delivery as a unit has to carry it.
func (a *Agent) order(on *delivery, u *unit, c chosen, only func(netip.Addr) bool) *unitOrder {
	o := &unitOrder{delivery: on, unit: u, made: a.made(c.Renderer), only: only}
	if u == a.units[0] {
		o.render = c.Renderer
	}
	return o
}

// made says what makes files: another version, engine, templates or settings make
// others. What stands behind the dot is of this machine alone: which ports its own
// daemons hold.
func (a *Agent) made(r *render.Renderer) string {
	rules := a.settings.Admit
	held, _ := json.Marshal(rules.Held) // values that were read from YAML, here and below
	rules.Held = nil
	others, _ := json.Marshal(rules)
	templates := r.Sum()
	sum := sha256.Sum256(fmt.Appendf(nil, "%s\n%s\n%x\n%s", Version(), a.settings.Engine, templates[:], others))
	own := sha256.Sum256(held)
	return hex.EncodeToString(sum[:8]) + "." + hex.EncodeToString(own[:4])
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

// stayed reports whether an address was brought before.
func (d *delivery) stayed(a netip.Addr) bool {
	_, stays := d.live[lb.AddressKey(a)]
	return stays
}

// refuseAddresses where no daemon moves any.
func (d *delivery) refuseAddresses() {
	for key, part := range d.parts {
		switch part.(type) {
		case netip.Addr, *lb.VRRP:
			d.parts[key] = errNoVRRP
		}
	}
}

// maxRendered is how many bytes of files are shown at once: they are Services times
// nodes, and whoever asks must not cost the agent its memory.
var maxRendered = 64 << 20

// Render says what Apply would make of a delivery, and changes nothing.
func (a *Agent) Render(ctx context.Context, d Delivery) (Rendering, error) {
	release, err := a.take(ctx)
	if err != nil {
		return Rendering{}, err
	}
	defer release()
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
				return Rendering{}, failed("the files have more than %d bytes together, too many to show: see those that are live on the host itself", maxRendered)
			}
			out.Files = append(out.Files, f)
		}
	}
	out.Refused = on.all()
	return out, nil
}

// watchEvery is how often an agent looks after its daemons by itself.
const watchEvery = 30 * time.Second

// Watch finishes what a crash has left, and looks after the daemons until ctx is done.
func (a *Agent) Watch(ctx context.Context) {
	for again := time.NewTicker(watchEvery); ; {
		for _, u := range a.units {
			if s, err := openStore(u.dir); err == nil {
				_ = u.recoverIfIdle(ctx, s) // the status says what is wrong
				_ = s.close()               // nothing is written to a directory
			}
		}
		select {
		case <-ctx.Done():
			again.Stop()
			return
		case <-again.C:
		}
	}
}

// deliveryTime is longer than any delivery takes.
const deliveryTime = 10 * time.Minute

// Answers reports whether the agent gets anything done: no delivery is under way for
// longer than any takes.
func (a *Agent) Answers() bool {
	since := a.since.Load()
	return since == 0 || time.Since(time.Unix(since, 0)) < deliveryTime
}

// initialise gives a machine an empty model, unless it has one.
func (a *Agent) initialise() error {
	s, err := openStore(a.settings.modelDir())
	if err != nil {
		return err
	}
	defer s.close() // nothing is written to a directory
	if err := s.root.Mkdir(itemsDir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return s.own(itemsDir)
}

// initialised reports whether there is a model.
func (a *Agent) initialised() bool {
	info, err := os.Stat(filepath.Join(a.settings.modelDir(), itemsDir))
	return err == nil && info.IsDir()
}
