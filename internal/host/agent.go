package host

import (
	"context"
	"crypto/rand"
	"errors"
	"io/fs"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/external-lb/external-lb/internal/engine"
	"github.com/external-lb/external-lb/internal/render"
)

// Agent is the Host of the machine that it runs on: it keeps the model that it was
// sent, and makes the machine's daemons carry what its owner admits of it. Several,
// also in different processes, take turns.
type Agent struct {
	settings Settings
	builtIn  *render.Renderer
	beside   *render.Renderer // of what carries datagrams; nil: nothing does
	units    []*unit          // traffic first, then what moves addresses
	identity string

	turn  chan struct{} // who has put something in changes the model, and the machine
	since atomic.Int64  // when somebody did, in seconds since 1970; 0: nobody
	mu    sync.Mutex    // of what follows, and of what in the model is replaced
	model *model        // nil: not read yet
	last  tried         // templates
	look  look
}

var (
	_ Host     = (*Agent)(nil)
	_ Observer = (*Agent)(nil)
)

// NewAgent makes the Host of this machine.
func NewAgent(s Settings) (*Agent, error) { return newAgent(s, engine.Machine{}) }

func newAgent(s Settings, r engine.Runner) (*Agent, error) {
	a := &Agent{settings: s, units: newUnits(s, r), turn: make(chan struct{}, 1), identity: rand.Text()}
	c := s.carriers()
	var err error
	if a.builtIn, err = render.New(c.Main); err != nil {
		return nil, err
	}
	a.builtIn = a.builtIn.Sharing(s.ConnectionsPerService)
	if c.Datagrams != nil {
		if a.beside, err = render.New(c.Datagrams); err != nil {
			return nil, err
		}
	}
	return a, nil
}

// Identity tells an agent from all others that run, for as long as it runs: a machine that
// was copied has what it was copied from in every file.
func (a *Agent) Identity() string { return a.identity }

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

// moves is the unit that moves addresses; nil if there is none.
func (a *Agent) moves() *unit {
	i := slices.IndexFunc(a.units, func(u *unit) bool { return u.use.moves })
	if i < 0 {
		return nil
	}
	return a.units[i]
}

// watchEvery is how often an agent looks after its daemons by itself.
const watchEvery = 30 * time.Second

// Watch finishes what a crash has left, and looks after the daemons until ctx is done.
func (a *Agent) Watch(ctx context.Context) {
	again, soon := time.NewTicker(watchEvery), time.NewTicker(drainEvery)
	defer again.Stop()
	defer soon.Stop()
	a.watch(ctx)
	for {
		select {
		case <-ctx.Done():
			return
		case <-again.C:
			a.watch(ctx)
		case <-soon.C:
			a.drain(ctx)
		}
	}
}

func (a *Agent) watch(ctx context.Context) {
	for _, u := range a.units {
		if s, err := openStore(u.dir); err == nil {
			if _, err := u.recoverIfIdle(ctx, s); err == nil { // the status says what is wrong
				u.startIfDown(ctx, time.Now())
			}
			_ = s.close() // nothing is written to a directory
		}
		u.relieve(ctx)
		u.watchRestarts()
	}
}

// deliveryTime is longer than any delivery takes, on a slow machine, too: its checks and reloads,
// and those of the way back.
const deliveryTime = time.Hour

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
	if err := s.mend(); err != nil {
		return err
	}
	if err := s.root.Mkdir(itemsDir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return s.own(itemsDir)
}

// initialised reports whether there is a model.
func (a *Agent) initialised() bool {
	s, err := openStore(a.settings.modelDir())
	if err != nil {
		return false
	}
	defer s.close() // nothing is written to a directory
	return s.isDir(itemsDir) && s.broken() == ""
}
