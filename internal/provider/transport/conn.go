package transport

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/external-lb/external-lb/internal/deliver"
	"github.com/external-lb/external-lb/internal/host"
	"github.com/external-lb/external-lb/internal/lb"
	"github.com/external-lb/external-lb/internal/wire"
	"github.com/external-lb/external-lb/provider"
)

// How long things take.
const (
	listEvery = time.Minute // after which what jobs have seen is not enough
	workFor   = time.Minute // a job, without a step towards what is wanted; with steps, see most
)

// Engine is what the status of a provider calls its engine.
const Engine = "provider"

// Dialer connects to providers. The zero value is what a controller uses.
type Dialer struct {
	// Patience is for how long a delivery waits for what it has begun; zero: two seconds.
	// Other changes wait that long. What the cloud has not done by then goes on by itself.
	Patience time.Duration
	// Asked hears of each request to a provider, of what became of it, OK or why not, and of
	// the calls of the cloud's own API that it took. It does not block. It may be nil.
	Asked func(balancer, request, result string, calls provider.Calls)
}

// Requests to providers. They are labels of metrics, and so are a provider.Code, OK and Lost.
const (
	RequestCapabilities = "capabilities"
	RequestList         = "list"
	RequestPut          = "put"
	RequestDelete       = "delete"

	ResultOK   = "OK"
	ResultLost = "Lost" // no answer of a provider
)

// Dial asks a provider what its cloud can do.
func (d Dialer) Dial(ctx context.Context, t deliver.Target) (deliver.Conn, error) {
	client, err := provider.NewClient(t.Provider.URL, string(t.Provider.Token), t.Provider.Roots)
	if err != nil {
		return nil, &deliver.Error{Reason: deliver.ReasonSecret, Message: "spec.provider: " + err.Error(), Err: err}
	}
	c := d.begin(ctx, client, t)
	if err := c.ask(ctx); err != nil {
		c.stop()
		if e, ok := errors.AsType[*deliver.Error](unread(err)); ok {
			return nil, e
		}
		return nil, &deliver.Error{Reason: deliver.ReasonUnreachable, Err: err, Message: "the provider does not say what its cloud can do: " + err.Error()}
	}
	return c, nil
}

// begin a connection, on which nothing was asked yet.
func (d Dialer) begin(ctx context.Context, client *provider.Client, t deliver.Target) *conn {
	c := &conn{
		client: client, owner: Owner(t.Cluster, t.Balancer), patience: cmp.Or(d.Patience, 2*time.Second), workFor: workFor,
		slots: make(chan struct{}, atOnce), news: make(chan struct{}, 1),
		wanted: lb.NewSet(), wishes: map[string]*wish{}, taken: map[string]provider.Spec{},
		holds: holders{}, waits: map[string]lb.Refusal{}, later: map[string]time.Time{}, jobs: map[string]*job{},
	}
	c.asked = func(string, error, provider.Calls) {}
	if d.Asked != nil {
		c.asked = func(request string, err error, calls provider.Calls) {
			d.Asked(t.Balancer, request, resultOf(err), calls)
		}
	}
	c.ctx, c.stop = context.WithCancel(ctx)
	return c
}

// Owner is the first part of a provider.ID: of one Balancer of one cluster. Two Balancers
// may have one provider, and each takes away what it finds and does not want.
func Owner(cluster, balancer string) string {
	sum := sha256.Sum256([]byte(balancer))
	return cluster + "-" + hex.EncodeToString(sum[:4])
}

// conn is a provider as a host. One worker asks it. Jobs go on beside that, so
// that a load balancer on which the cloud is long at work holds no other one up.
type conn struct {
	client   *provider.Client
	owner    string
	patience time.Duration
	workFor  time.Duration
	ctx      context.Context // of jobs
	stop     context.CancelFunc
	running  sync.WaitGroup
	slots    chan struct{} // of those that ask at a time
	news     chan struct{} // a job has ended
	asked    func(request string, err error, calls provider.Calls)

	mu  sync.Mutex
	can *provider.Capabilities // replaced, not changed

	// What it was told last, as a host has it on its disk.
	epoch   host.Epoch
	wanted  *lb.Set
	wishes  map[string]*wish         // of wanted, by UID
	strange []lb.Refusal             // of wanted, what is no wish
	taken   map[string]provider.Spec // that the provider took last, by UID
	waits   map[string]lb.Refusal    // why a wish is not fulfilled, or something is not gone, by UID
	later   map[string]time.Time     // before which the cloud does not want to be asked again, by UID

	// What the cloud showed last.
	seen    map[string]provider.LoadBalancer // by UID
	listed  time.Time                        // when all of it was read
	changed map[string]bool                  // by jobs since then, by UID
	fresh   bool                             // jobs have ended, and nobody was told yet
	jobs    map[string]*job                  // by UID
	fault   error                            // of the provider itself, that a job has met
	quiet   quiet
	contest contest

	given map[lb.Key][]provider.Address // of the last report
	holds holders
}

var _ deliver.Cloud = (*conn)(nil)

// Close ends what is under way. Each request is one by itself.
func (c *conn) Close() error {
	c.stop()
	c.running.Wait()
	return nil
}

// Done never comes.
func (c *conn) Done() <-chan struct{} { return nil }

// News tells that Status says more than the last answer did.
func (c *conn) News() <-chan struct{} { return c.news }

// Version of the provider.
func (c *conn) Version() string { return c.Offers().Version }

// Identity has nothing to say: no agent is there.
func (c *conn) Identity() string { return "" }

// Offers are what the cloud can do.
func (c *conn) Offers() *provider.Capabilities {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.can
}

// Contested is why nothing more is to be delivered: somebody else has the same load balancers.
// "": nobody has. It stays for as long as the connection does.
func (c *conn) Contested() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.contest.why
}

// Given are the addresses of what the last answer called live.
func (c *conn) Given() map[lb.Key][]provider.Address {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.given
}

// Render has nothing to show: a provider makes no files.
func (c *conn) Render(context.Context, host.Delivery) (host.Rendering, error) {
	return host.Rendering{}, nil
}

// ask what the cloud can do. What is wanted of it may change with that.
func (c *conn) ask(ctx context.Context) error {
	if err := c.resting(); err != nil {
		return err
	}
	can, err := c.client.Capabilities(ctx)
	c.asked(RequestCapabilities, err, provider.Calls{})
	if err != nil {
		return c.rests(err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.can == nil || !reflect.DeepEqual(*c.can, can) {
		c.can = &can
		c.want(c.wanted)
	}
	return nil
}

// Status reads back what is in the cloud. Where jobs have ended since a moment ago, what they
// saw is enough: each answer is read back, and a cloud with many load balancers is long at
// listing them.
func (c *conn) Status(ctx context.Context) (host.Status, error) {
	c.mu.Lock()
	known, err := c.fresh && time.Since(c.listed) < listEvery, c.fault
	c.mu.Unlock()
	if err == nil && !known {
		err = c.read(ctx)
	}
	if err != nil {
		return host.Status{}, unread(err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return host.Status{
		Report: c.report(), Engine: Engine, EngineVersion: c.can.Name + " " + c.can.Version, Running: true, Epoch: c.epoch,
		Message: c.quiet.words(time.Now()),
	}, nil
}

// list reads all load balancers of the Balancer back. What jobs have changed meanwhile they
// know better.
func (c *conn) list(ctx context.Context) error {
	if err := c.resting(); err != nil {
		return err
	}
	c.mu.Lock()
	c.changed = map[string]bool{}
	c.mu.Unlock()
	all, err := c.client.List(ctx, c.owner)
	c.asked(RequestList, err, callsOf(all...))
	if err != nil {
		return c.rests(err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	seen := make(map[string]provider.LoadBalancer, len(all))
	for _, b := range all {
		seen[b.Service] = b
	}
	for uid := range c.changed {
		delete(seen, uid)
		if b, there := c.seen[uid]; there {
			seen[uid] = b
		}
	}
	for uid, was := range c.seen {
		if c.changed[uid] {
			continue
		}
		now, there := seen[uid]
		if len(was.Refused) > 0 { // which a list may leave out: it is no drift
			if w := c.wishes[uid]; there && w != nil && len(now.Refused) == 0 && !w.fulfilled(now) {
				if now.Refused = was.Refused; w.fulfilled(now) {
					seen[uid] = now
				}
			}
			continue
		}
		if c.shows(uid, was) && (!there || now.State == provider.Live && !c.shows(uid, now)) {
			c.contest.overwritten(time.Now(), was)
		}
	}
	c.seen, c.listed, c.quiet = seen, time.Now(), quiet{}
	return nil
}

// report says what of that is as it was wanted. A load balancer that is not, or on which a
// job is at work, is live, too, with a Sum that is of nothing. The rest of a model is for
// hosts, or in the Specs: it is live as it is wanted. The mu is held.
func (c *conn) report() host.Report {
	c.told()
	c.hold()
	out := host.Report{
		Wanted: c.wanted.Manifest(), Proved: true, Generation: string(c.wanted.Digest()), Refused: slices.Clone(c.strange),
	}
	live := lb.Sums{}
	for key, sum := range out.Wanted.All() {
		if _, service := key.ServiceID(); !service {
			live[key] = sum
		}
	}
	c.given = map[lb.Key][]provider.Address{}
	for uid, b := range c.seen {
		key := c.key(uid)
		if live[key] = (lb.Sum{}); c.shows(uid, b) && c.rival(uid) == "" {
			live[key], c.given[key] = c.wishes[uid].sum, b.Addresses
			delete(c.waits, uid)
		}
	}
	for uid, j := range c.jobs {
		live[j.key] = lb.Sum{}
		if c.wishes[uid] == nil {
			out.Refused = append(out.Refused, c.atWork(uid, j.key))
		}
	}
	out.Live = live.Manifest()
	for it := range c.wanted.All() { // in one order
		id, service := it.Key.ServiceID()
		if w := c.wishes[id.UID]; service && w != nil {
			out.Refused = append(out.Refused, c.refusals(w)...)
		}
	}
	return out
}

// key of the item that a load balancer is of.
func (c *conn) key(uid string) lb.Key {
	if w := c.wishes[uid]; w != nil {
		return w.key
	}
	b := c.seen[uid]
	return lb.ServiceKey(lb.ID{Namespace: b.Namespace, Name: b.Name, UID: uid})
}

// shows reports whether an answer shows what is wanted, and nothing is about to change it.
func (c *conn) shows(uid string, b provider.LoadBalancer) bool {
	w, j := c.wishes[uid], c.jobs[uid]
	return w != nil && (j == nil || j.forMore) && w.fulfilled(b)
}

// fulfilled reports whether an answer shows all that a provider is asked for.
func (w *wish) fulfilled(b provider.LoadBalancer) bool {
	return len(w.spec.Listeners) > 0 && b.Proves(w.spec) && !slices.ContainsFunc(b.Addresses, ofNoClient)
}

// ofNoClient are addresses to which nobody can be sent. Others of that kind are out of the contract.
func ofNoClient(a provider.Address) bool {
	return a.IP.IsLoopback() || a.Hostname == "localhost" || strings.HasSuffix(a.Hostname, ".localhost")
}

// refusals of a wish: what it cannot be asked for, and what the cloud does not do.
func (c *conn) refusals(w *wish) []lb.Refusal {
	uid := w.service.ID.UID
	b, there := c.seen[uid]
	out := slices.Clip(w.refused)
	if there && c.shows(uid, b) {
		if rival := c.rival(uid); rival != "" {
			return append(out, lb.Refusal{Key: w.key, Reason: lb.RefusedUnavailable, Message: rival})
		}
		for _, r := range b.Refused {
			for _, l := range w.listeners(r.Port, r.Protocol) {
				out = append(out, lb.Refusal{Key: w.key, Listener: l, Reason: reasonOf(r.Reason), Message: said(r.Reason, r.Message)})
			}
		}
		return out
	}
	why, waits := c.waits[uid]
	if !waits && c.jobs[uid] != nil {
		why, waits = c.atWork(uid, w.key), true
	}
	if waits {
		why.OlderStays = there && b.State == provider.Live
		out = append(out, why)
	}
	return out
}

// atWork is what a job waits for.
func (c *conn) atWork(uid string, key lb.Key) lb.Refusal {
	if why, waits := c.waits[uid]; waits {
		return why
	}
	return lb.Refusal{Key: key, Reason: lb.RefusedPending, Message: atWork}
}

// said is why the cloud does not do something.
func said(code provider.Code, message string) string {
	if code == "" {
		return message
	}
	return fmt.Sprintf("%s: %s", code, message)
}

// resultOf is what became of a request.
func resultOf(err error) string {
	if e, told := errors.AsType[*provider.Error](err); told {
		return string(e.Code)
	}
	if err != nil {
		return ResultLost
	}
	return ResultOK
}

// callsOf the cloud's own API that answers took. A provider can say any number, and the sum
// is to be one.
func callsOf(answers ...provider.LoadBalancer) (sum provider.Calls) {
	const most = 1 << 30
	likely := func(n int32) int32 { return min(max(n, 0), 1<<16) }
	for _, b := range answers {
		sum.Reads, sum.Writes = min(sum.Reads+likely(b.Calls.Reads), most), min(sum.Writes+likely(b.Calls.Writes), most)
	}
	return sum
}

func reasonOf(code provider.Code) lb.RefusalReason {
	switch code {
	case provider.Unsupported:
		return lb.RefusedByEngine
	case provider.Invalid, provider.TooLarge:
		return lb.RefusedNotAdmitted
	}
	return lb.RefusedUnavailable
}

// trouble is an error that ends the connection where the provider itself is what is wrong.
func trouble(err error) error {
	e, told := errors.AsType[*provider.Error](err)
	switch {
	case err == nil:
		return nil
	case !told:
		return &deliver.Error{Reason: deliver.ReasonUnreachable, Message: err.Error(), Err: fmt.Errorf("%w: %w", wire.ErrLost, err)}
	case e.Code == provider.Unauthorized:
		return &deliver.Error{Reason: deliver.ReasonKeyRefused, Err: fmt.Errorf("%w: %w", wire.ErrLost, err),
			Message: "the provider refuses the token: the Secret has another one than the provider was started with"}
	}
	return err
}
