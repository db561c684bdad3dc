package transport

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"time"

	"github.com/external-lb/external-lb/internal/deliver"
	"github.com/external-lb/external-lb/internal/host"
	"github.com/external-lb/external-lb/internal/lb"
	"github.com/external-lb/external-lb/internal/wire"
	"github.com/external-lb/external-lb/provider"
)

// Engine is what the status of a provider calls its engine.
const Engine = "provider"

// Dialer connects to providers. The zero value is what a controller uses.
type Dialer struct {
	// Patience is for how long one delivery asks again for what the cloud has not done yet;
	// zero: a minute. Other changes wait that long.
	Patience time.Duration
}

// Dial asks a provider what its cloud can do.
func (d Dialer) Dial(ctx context.Context, t deliver.Target) (deliver.Conn, error) {
	client, err := provider.NewClient(t.Provider.URL, string(t.Provider.Token), t.Provider.Roots)
	if err != nil {
		return nil, &deliver.Error{Reason: deliver.ReasonSecret, Message: "spec.provider: " + err.Error(), Err: err}
	}
	c := &conn{
		client: client, owner: Owner(t.Cluster, t.Balancer), patience: d.Patience,
		wanted: lb.NewSet(), wishes: map[string]*wish{}, taken: map[string]provider.Spec{}, waits: map[string]lb.Refusal{}, later: map[string]time.Time{},
	}
	if c.patience == 0 {
		c.patience = time.Minute
	}
	if err := c.ask(ctx); err != nil {
		if e, ok := errors.AsType[*deliver.Error](trouble(err)); ok {
			return nil, e
		}
		return nil, &deliver.Error{Reason: deliver.ReasonUnreachable, Err: err, Message: "the provider does not say what its cloud can do: " + err.Error()}
	}
	return c, nil
}

// Owner is the first part of a provider.ID: of one Balancer of one cluster. Two Balancers
// may have one provider, and each takes away what it finds and does not want.
func Owner(cluster, balancer string) string {
	sum := sha256.Sum256([]byte(balancer))
	return cluster + "-" + hex.EncodeToString(sum[:4])
}

// conn is a provider as a host: a deliver.Conn. It is for one worker alone.
type conn struct {
	client   *provider.Client
	owner    string
	patience time.Duration
	can      *provider.Capabilities // replaced, not changed

	// What it was told last, as a host has it on its disk.
	epoch   host.Epoch
	wanted  *lb.Set
	wishes  map[string]*wish         // of wanted, by UID
	strange []lb.Refusal             // of wanted, what is no wish
	taken   map[string]provider.Spec // that the provider took last, by UID
	waits   map[string]lb.Refusal    // why a wish is not fulfilled, by UID
	later   map[string]time.Time     // before which the cloud does not want to be asked again, by UID
}

// Close ends nothing: each request is one by itself.
func (c *conn) Close() error { return nil }

// Done never comes.
func (c *conn) Done() <-chan struct{} { return nil }

// Version of the provider.
func (c *conn) Version() string { return c.can.Version }

// Offers are what the cloud can do.
func (c *conn) Offers() *provider.Capabilities { return c.can }

// Render has nothing to show: a provider makes no files.
func (c *conn) Render(context.Context, host.Delivery) (host.Rendering, error) {
	return host.Rendering{}, nil
}

// ask what the cloud can do. What is wanted of it may change with that.
func (c *conn) ask(ctx context.Context) error {
	can, err := c.client.Capabilities(ctx)
	if err != nil {
		return err
	}
	if c.can == nil || !reflect.DeepEqual(*c.can, can) {
		c.can = &can
		c.wishes, c.strange = wishes(c.wanted, can)
	}
	return nil
}

// Status reads back what is in the cloud.
func (c *conn) Status(ctx context.Context) (host.Status, error) {
	if err := c.ask(ctx); err != nil {
		return host.Status{}, trouble(err)
	}
	seen, err := c.list(ctx)
	if err != nil {
		return host.Status{}, trouble(err)
	}
	return host.Status{
		Report: c.report(seen), Engine: Engine, EngineVersion: c.can.Name + " " + c.can.Version, Running: true, Epoch: c.epoch,
	}, nil
}

// list reads all load balancers of the Balancer back, by UID.
func (c *conn) list(ctx context.Context) (map[string]provider.LoadBalancer, error) {
	all, err := c.client.List(ctx, c.owner)
	if err != nil {
		return nil, err
	}
	seen := make(map[string]provider.LoadBalancer, len(all))
	for _, b := range all {
		seen[b.Service] = b
	}
	return seen, nil
}

// report says what of that is as it was wanted. A load balancer that is not is live, too,
// with a Sum that is of nothing. The rest of a model is for hosts, or in the Specs: it is
// live as it is wanted.
func (c *conn) report(seen map[string]provider.LoadBalancer) host.Report {
	out := host.Report{
		Wanted: c.wanted.Manifest(), Live: lb.Manifest{}, Proved: true, Generation: string(c.wanted.Digest()), Refused: slices.Clone(c.strange),
	}
	for key, sum := range out.Wanted {
		if _, service := key.ServiceID(); !service {
			out.Live[key] = sum
		}
	}
	for uid, b := range seen {
		if w := c.wishes[uid]; w == nil {
			out.Live[lb.ServiceKey(lb.ID{Namespace: b.Namespace, Name: b.Name, UID: uid})] = lb.Sum{}
		} else if out.Live[w.key] = (lb.Sum{}); w.fulfilled(b) {
			out.Live[w.key] = w.sum
			delete(c.waits, uid)
		}
	}
	for it := range c.wanted.All() { // in one order
		id, service := it.Key.ServiceID()
		if w := c.wishes[id.UID]; service && w != nil {
			b, there := seen[id.UID]
			out.Refused = append(out.Refused, c.refusals(w, b, there)...)
		}
	}
	return out
}

// fulfilled reports whether an answer shows all that a provider is asked for.
func (w *wish) fulfilled(b provider.LoadBalancer) bool {
	return len(w.spec.Listeners) > 0 && b.Proves(w.spec)
}

// refusals of a wish: what it cannot be asked for, and what the cloud does not do.
func (c *conn) refusals(w *wish, b provider.LoadBalancer, there bool) []lb.Refusal {
	if there && w.fulfilled(b) {
		out := slices.Clip(w.refused)
		for _, r := range b.Refused {
			for _, l := range w.listeners(r.Port, r.Protocol) {
				out = append(out, lb.Refusal{Key: w.key, Listener: l, Reason: reasonOf(r.Reason), Message: said(r.Reason, r.Message)})
			}
		}
		return out
	}
	if why, waits := c.waits[w.service.ID.UID]; waits {
		why.OlderStays = there && b.State == provider.Live
		return append(slices.Clip(w.refused), why)
	}
	return w.refused
}

// said is why the cloud does not do something.
func said(code provider.Code, message string) string {
	if code == "" {
		return message
	}
	return fmt.Sprintf("%s: %s", code, message)
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
