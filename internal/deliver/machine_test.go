package deliver

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/external-lb/external-lb/internal/host"
	"github.com/external-lb/external-lb/internal/lb"
)

// machine is a balancer host in memory. It behaves as host.Host promises.
type machine struct {
	turn chan struct{} // one delivery at a time, whoever makes it

	mu        sync.Mutex
	cluster   string
	epoch     host.Epoch
	wanted    lb.Sums
	live      lb.Sums               // nil: no daemon proves anything
	renderer  string                // what would make files now
	madeBy    string                // the one that made what is live
	outdated  bool                  // whatever is delivered
	tampered  bool                  // files are not as they were made
	refuse    map[lb.Key]lb.Refusal // what is delivered from now on
	refused   []lb.Refusal          // of what was delivered
	only      map[lb.Key]lb.Sum     // of what is refused: these bytes alone
	going     []lb.Refusal          // besides, of what is not wanted
	applies   []host.Delivery
	reloads   int
	before    func(context.Context) error // of each delivery, before it does anything
	after     func() error                // of each delivery, after it did everything
	fail      error                       // of each delivery, once the epoch is taken
	rejects   func(wanted lb.Sums) error  // a delivery, by what would be wanted
	makeLive  func(lb.Sums)               // of what is about to be live
	status    error
	takes     time.Duration // a reload
	active    bool
	says      string // in each status
	old       host.Use
	templates string
	ahead     time.Duration // its clock
	restarts  int
}

func newMachine() *machine {
	return &machine{turn: make(chan struct{}, 1), wanted: lb.Sums{}, refuse: map[lb.Key]lb.Refusal{}, renderer: "one", madeBy: "one"}
}

// refuses an item from now on.
func (m *machine) refuses(key lb.Key, message string) {
	m.refuse[key] = lb.Refusal{Key: key, Reason: lb.RefusedUnavailable, Message: message}
}

func (m *machine) do(f func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f()
}

// runs returns what is live.
func (m *machine) runs() lb.Sums {
	m.mu.Lock()
	defer m.mu.Unlock()
	return maps.Clone(m.live)
}

// asked returns the number of deliveries so far.
func (m *machine) asked() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.applies)
}

// given returns how often a set was delivered so far.
func (m *machine) given(want *lb.Set) (times int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, d := range m.applies {
		if d.Want == want.Digest() {
			times++
		}
	}
	return times
}

// hangs from now on in each delivery, until it is mended. takes: once it has taken the epoch.
func (m *machine) hangs(t *testing.T, takes bool) (mend func()) {
	mended := make(chan struct{})
	m.do(func() {
		m.before = func(context.Context) error {
			if takes {
				m.do(func() { m.epoch = m.applies[len(m.applies)-1].Epoch })
			}
			<-mended
			if takes {
				return &host.Error{Code: host.CodeMachine, Message: "it was killed"}
			}
			return nil
		}
	})
	mend = sync.OnceFunc(func() {
		m.do(func() { m.before = nil })
		close(mended)
	})
	t.Cleanup(mend)
	return mend
}

func (m *machine) Status(context.Context) (host.Status, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now().Add(m.ahead)
	return host.Status{
		Clock: host.Clock{Asked: now, Answered: now}, Restarts: m.restarts,
		Report: m.report(), Engine: "nginx", EngineVersion: "nginx/1.22.1", Cluster: m.cluster, Epoch: m.epoch, Active: m.active, Running: m.live != nil,
		Message: m.says, Uses: host.Uses{Old: m.old}, Templates: m.templates,
	}, m.status
}

// generation that the daemon shows.
func (m *machine) generation() string {
	if m.live == nil {
		return ""
	}
	return m.live.Manifest().Digest().Short() + " by " + m.madeBy
}

func (m *machine) report() host.Report {
	return host.Report{
		Wanted: m.wanted.Manifest(), Live: m.live.Manifest(), Generation: m.generation(), Proved: m.live != nil && !m.tampered,
		Refused: slices.Clone(m.refused), Renderer: m.renderer, Outdated: m.live != nil && m.madeBy != m.renderer || m.outdated,
	}
}

func (m *machine) Render(context.Context, host.Delivery) (host.Rendering, error) {
	return host.Rendering{}, errors.New("nothing is rendered here")
}

func (m *machine) Apply(ctx context.Context, d host.Delivery) (host.Outcome, error) {
	m.turn <- struct{}{}
	defer func() { <-m.turn }()
	m.mu.Lock()
	before, after := m.before, m.after
	m.applies = append(m.applies, d)
	m.mu.Unlock()
	if before != nil {
		if err := before(ctx); err != nil {
			return host.Outcome{}, err
		}
	}
	out, err := m.make(d)
	if err == nil && after != nil {
		err = after()
	}
	return out, err
}

func (m *machine) make(d host.Delivery) (host.Outcome, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if d.Epoch.Compare(m.epoch) <= 0 {
		return host.Outcome{}, &host.Error{Code: host.CodeStaleEpoch, Message: "a newer leader delivers here: " + m.epoch.String()}
	}
	if d.Epoch.Term-m.epoch.Term > host.MaxTermJump {
		return host.Outcome{}, &host.Error{Code: host.CodeTermJump, Message: "too far ahead of " + m.epoch.String()}
	}
	if d.Base != m.wanted.Manifest().Digest() {
		return host.Outcome{}, &host.Error{Code: host.CodeBaseMismatch, Message: "not the base"}
	}
	m.cluster, m.epoch = d.Cluster, d.Epoch
	if m.fail != nil {
		return host.Outcome{}, m.fail
	}
	next := maps.Clone(m.wanted)
	for _, key := range d.Change.Delete {
		delete(next, key)
	}
	for _, it := range d.Change.Put {
		next[it.Key] = it.Sum
	}
	if next.Manifest().Digest() != d.Want {
		return host.Outcome{}, &host.Error{Code: host.CodeMachine, Message: "the change does not lead to what is wanted"}
	}
	if m.rejects != nil {
		if err := m.rejects(next); err != nil {
			return host.Outcome{}, err
		}
	}
	reloaded := m.swap(next)
	return host.Outcome{Report: m.report(), Reloaded: reloaded, Active: m.active, Old: m.old}, nil
}

// swap makes live what is wanted and not refused.
func (m *machine) swap(wanted lb.Sums) (reloaded bool) {
	next := maps.Clone(wanted)
	refused := slices.Clone(m.going)
	for _, key := range slices.Sorted(maps.Keys(m.refuse)) {
		r := m.refuse[key]
		only, picky := m.only[key]
		if sum, has := wanted[key]; !has || picky && sum != only {
			continue
		}
		refused = append(refused, r)
		if older, has := m.live[key]; r.OlderStays && has {
			next[key] = older
		} else if r.OfItem() {
			delete(next, key)
		}
	}
	if m.makeLive != nil {
		m.makeLive(next)
	}
	reloaded = m.live == nil || !maps.Equal(next, m.live) || m.madeBy != m.renderer || m.tampered
	if reloaded {
		m.reloads++
		if m.takes > 0 {
			m.mu.Unlock()
			time.Sleep(m.takes) // of the bubble's clock
			m.mu.Lock()
		}
	}
	m.wanted, m.live, m.refused, m.madeBy, m.tampered = wanted, next, refused, m.renderer, false
	return reloaded
}
