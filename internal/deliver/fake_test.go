package deliver

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-logr/logr"
	"github.com/go-logr/logr/testr"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/host"
	"github.com/external-lb/external-lb/internal/lb"
	"github.com/external-lb/external-lb/internal/wire"
)

// network connects to machines by the name of the host.
type network struct {
	mu       sync.Mutex
	machines map[string]*machine
	down     map[string]error
	dials    map[string]int
	conns    map[*link]bool
	fault    func(op string) error // before (op) and after ("after "+op) each call
}

func newNetwork(machines map[string]*machine) *network {
	return &network{machines: machines, down: map[string]error{}, dials: map[string]int{}, conns: map[*link]bool{}}
}

func (n *network) Dial(_ context.Context, t Target) (Conn, error) {
	if err := n.trouble("dial"); err != nil {
		return nil, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.dials[t.Host.Name]++
	if err := n.down[t.Host.Name]; err != nil {
		return nil, err
	}
	l := &link{machine: n.machines[t.Host.Name], cluster: t.Cluster, network: n, done: make(chan struct{})}
	l.cut = sync.OnceFunc(func() { close(l.done) })
	n.conns[l] = true
	return l, nil
}

func (n *network) dialled(name string) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.dials[name]
}

func (n *network) trouble(op string) error {
	n.mu.Lock()
	fault := n.fault
	n.mu.Unlock()
	if fault == nil {
		return nil
	}
	return fault(op)
}

// cut breaks every connection to a host, and lets no other come; nil heals.
func (n *network) cut(name string, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.down[name] = err
	for l := range n.conns {
		if err != nil && l.machine == n.machines[name] {
			l.cut()
			delete(n.conns, l)
		}
	}
}

var errDown = &Error{Reason: ReasonUnreachable, Message: "192.0.2.1:22 does not answer"}

// link is a connection. What a call does goes on when the link is cut: only its
// answer is lost.
type link struct {
	machine *machine
	cluster string
	network *network
	done    chan struct{}
	cut     func()
}

func (l *link) Done() <-chan struct{} { return l.done }
func (l *link) Close() error          { l.cut(); return nil }
func (l *link) Version() string       { return "v0.3.0" }
func (l *link) Identity() string      { return "" }

func (l *link) Status(ctx context.Context) (host.Status, error) {
	return call(ctx, l, "status", func() (host.Status, error) {
		st, err := l.machine.Status(ctx)
		return st, errors.Join(err, st.Tells(l.cluster))
	})
}

func (l *link) Apply(ctx context.Context, d host.Delivery) (host.Outcome, error) {
	return call(ctx, l, "apply", func() (host.Outcome, error) { return l.machine.Apply(context.WithoutCancel(ctx), d) })
}

func (l *link) Render(ctx context.Context, d host.Delivery) (host.Rendering, error) {
	return call(ctx, l, "render", func() (host.Rendering, error) { return l.machine.Render(ctx, d) })
}

func call[T any](ctx context.Context, l *link, op string, f func() (T, error)) (T, error) {
	var none T
	type answer struct {
		value T
		err   error
	}
	if err := l.network.trouble(op); err != nil {
		l.hangUp(err)
		return none, err
	}
	select {
	case <-l.done:
		return none, wire.ErrLost
	default:
	}
	answers := make(chan answer, 1)
	go func() {
		v, err := f()
		answers <- answer{v, err}
	}()
	select {
	case a := <-answers:
		if err := l.network.trouble("after " + op); err != nil {
			l.hangUp(err)
			return none, err
		}
		return a.value, a.err
	case <-l.done:
		return none, wire.ErrLost
	case <-ctx.Done():
		return none, ctx.Err()
	}
}

func (l *link) hangUp(err error) {
	if errors.Is(err, wire.ErrLost) {
		l.cut()
	}
}

// counts is a Metrics.
type counts struct {
	mu        sync.Mutex
	delivered map[string]int
	reloaded  map[string]int
	proved    []time.Duration
	restarted int
}

func (c *counts) Restarted(_, _ string, times int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.restarted += times
}

func (c *counts) Delivered(_, _, result string, _ time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.delivered[result]++
}

func (c *counts) Reloaded(_, _, cause string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.reloaded[cause]++
}

func (c *counts) Proved(_, _ string, after time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.proved = append(c.proved, after)
}

// leads is a Leader.
type leads struct {
	cluster string

	mu     sync.Mutex
	term   int64
	raised int
	err    error // another one leads
}

func (l *leads) Cluster() string { return l.cluster }

func (l *leads) Term() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.term
}

func (l *leads) Raise(_ context.Context, seen int64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.term > seen {
		return nil
	}
	l.raised++
	if l.err == nil {
		l.term = seen + 1
	}
	return l.err
}

// fixture is a Fleet with hosts in memory.
type fixture struct {
	*Fleet
	net      *network
	leads    *leads
	counts   *counts
	machines []*machine
	targets  []Target

	mu      sync.Mutex
	changes int
	changed func()             // besides
	proved  map[lb.Digest]bool // on the first host
}

// newFixture makes a Fleet with n hosts, lb1 and so on, of the Balancer edge. It
// is for a synctest bubble.
func newFixture(t *testing.T, n int) *fixture {
	t.Helper()
	fx := &fixture{counts: &counts{delivered: map[string]int{}, reloaded: map[string]int{}}, proved: map[lb.Digest]bool{}}
	byName := map[string]*machine{}
	for i := range n {
		m := newMachine()
		name := fmt.Sprintf("lb%d", i+1)
		byName[name] = m
		fx.machines = append(fx.machines, m)
		fx.targets = append(fx.targets, Target{
			Balancer: "edge", MinInterval: time.Second,
			Host: v1alpha1.Host{Name: name, Address: fmt.Sprintf("192.0.2.%d", i+1)},
		})
	}
	fx.net = newNetwork(byName)
	fx.Fleet = fx.newFleet(t, 1)
	return fx
}

func (fx *fixture) newFleet(t *testing.T, term int64) *Fleet {
	fx.leads = &leads{term: term}
	return fx.fleetOf(t, fx.leads)
}

func (fx *fixture) fleetOf(t *testing.T, l Leader) *Fleet {
	f := NewFleet(Options{
		Leader: l, Dialer: fx.net, Metrics: fx.counts, Log: quiet(t),
		Changed: func(string) {
			fx.mu.Lock()
			fx.changes++
			changed := fx.changed
			fx.mu.Unlock()
			if changed != nil {
				changed()
			}
		},
	})
	t.Cleanup(f.Close)
	return f
}

func quiet(t *testing.T) logr.Logger {
	if testing.Verbose() {
		return testr.New(t)
	}
	return logr.Discard()
}

// set makes a set of items: "a=1" is the item a with the content 1.
func set(items ...string) *lb.Set {
	var out []lb.Item
	for _, s := range items {
		key, content, _ := strings.Cut(s, "=")
		out = append(out, lb.NewItem(lb.Key(key), []byte(content)))
	}
	return lb.NewSet(out...)
}

func sum(content string) lb.Sum { return lb.NewItem("x", []byte(content)).Sum }

// state of the first host, once nothing moves.
func (fx *fixture) state() State {
	synctest.Wait()
	return fx.States("edge")[0]
}

// onLB1 is what one host of that name should run.
func onLB1(want *lb.Set) map[string]*lb.Set {
	return map[string]*lb.Set{"lb1": want}
}

// Deliver one set to all hosts.
func (fx *fixture) Deliver(name string, want *lb.Set, cause string) {
	sets := map[string]*lb.Set{}
	for _, t := range fx.targets {
		sets[t.Host.Name] = want
	}
	fx.Fleet.Deliver(name, sets, cause)
}

// wait lets the bubble's clock go on until a condition holds, and returns how long
// that took. The resolution is 10 ms.
func (fx *fixture) wait(t *testing.T, limit time.Duration, what string, ok func() bool) time.Duration {
	t.Helper()
	start := time.Now()
	for synctest.Wait(); !ok(); synctest.Wait() {
		if time.Since(start) > limit {
			t.Fatalf("not within %v: %s\n%+v", limit, what, fx.States("edge"))
		}
		time.Sleep(10 * time.Millisecond)
	}
	return time.Since(start)
}

func (fx *fixture) waitState(t *testing.T, limit time.Duration, want v1alpha1.HostState) time.Duration {
	t.Helper()
	return fx.wait(t, limit, string(want), func() bool { return fx.States("edge")[0].State == want })
}
