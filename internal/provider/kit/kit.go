// Package kit asks a provider whether it keeps to the contract: it makes load balancers for
// three clusters that do not exist, changes them, disturbs them, and takes them away again.
package kit

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/external-lb/external-lb/provider"
)

// Options say which provider is asked, and what there is beside it.
type Options struct {
	URL, Token string
	Roots      []byte // certificates in PEM to trust; nil: those of the system
	// Member is an address of this machine that load balancers reach as a node's. Without
	// it nothing is sent through them.
	Member netip.Addr
	// Address is one that the cloud gives to who wants it. Without it none is asked for.
	Address netip.Addr
	// Drift changes in the cloud what belongs to a load balancer, behind the provider.
	Drift func(context.Context, provider.ID, provider.LoadBalancer) error
	// Strangers are all objects in the cloud that are not ours, as a text.
	Strangers func(context.Context) (string, error)
	// Dial connects to a load balancer; nil: as any client does. Names of a cloud that is none are in no DNS.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Timeout is how long one step may take; 0: two minutes.
	Timeout time.Duration
}

// Result is what became of one check.
type Result struct {
	Name    string
	Promise string // in words
	Err     error
	Skipped string // why it was not tried
	Calls   provider.Calls
}

// skipped is no fault.
type skipped string

func (s skipped) Error() string { return string(s) }

// run is one run of the kit.
type run struct {
	Options
	client    *provider.Client
	able      provider.Capabilities
	clusters  [3]string
	port      uint16
	nodes     [2]*node
	made      []provider.ID
	calls     provider.Calls
	strangers string
}

// checks in their order, each with its promise.
var checks = []struct {
	name, promise string
	do            func(*run, context.Context) error
}{
	{"capabilities", "it states what it can do, setting by setting", (*run).capabilities},
	{"token", "who does not bear the token learns nothing", (*run).token},
	{"bounds", "what is out of the contract is refused, and nothing comes of it", (*run).bounds},
	{"create", "a load balancer becomes Live, with the digest of what is wanted, and carries traffic", (*run).create},
	{"repeat", "the same once more changes nothing in the cloud", (*run).repeat},
	{"change", "listeners, nodePorts and members change, and the address stays", (*run).change},
	{"datagrams", "on one port, connections and datagrams go their own ways", (*run).datagrams},
	{"sources", "only clients of the ranges may connect", (*run).sources},
	{"affinity", "session affinity comes, changes and goes, and what is read back says so", (*run).affinity},
	{"flavor", "a flavor that it offers is what comes, and another one is told before anything is made", (*run).flavor},
	{"certificate", "TLS is terminated with a certificate that it offers, and another one is told before anything is made", (*run).certificate},
	{"unsupported", "what it cannot do is told, and changes nothing", (*run).unsupported},
	{"wanted address", "the wanted address is what comes, and two do not get one", (*run).wanted},
	{"given address", "who wants no address gets one that nobody else has, and keeps it", (*run).given},
	{"cut short", "a request that ends at any line leaves nothing that the next one does not mend", (*run).cut},
	{"at once", "requests for one load balancer at the same time make one", (*run).atOnce},
	{"two clusters", "a cluster does not see or touch what another one has", (*run).twoClusters},
	{"drift", "what is changed in the cloud is seen, and mended by the next request", (*run).drift},
	{"delete", "NotFound comes when nothing is left, and not before", (*run).delete},
	{"strangers", "what is in the cloud beside it is as it was", (*run).foreign},
}

// Run does all checks and reports each one as it ends. The error says how many failed.
func Run(ctx context.Context, o Options, report func(Result)) error {
	client, err := provider.NewClient(o.URL, o.Token, o.Roots)
	if err != nil {
		return err
	}
	if o.Timeout == 0 {
		o.Timeout = 2 * time.Minute
	}
	if o.Dial == nil {
		o.Dial = (&net.Dialer{Timeout: 2 * time.Second}).DialContext
	}
	r := &run{Options: o, client: client, clusters: [3]string{"kit-" + random(), "kit-" + random(), "kit-" + random()}, port: 18000}
	defer r.close()
	if err := r.listen(); err != nil {
		return err
	}
	if o.Strangers != nil {
		if r.strangers, err = o.Strangers(ctx); err != nil {
			return fmt.Errorf("strangers: %w", err)
		}
	}
	failed := 0
	for _, c := range checks {
		r.calls = provider.Calls{}
		err := c.do(r, ctx)
		result := Result{Name: c.name, Promise: c.promise, Calls: r.calls}
		if why, ok := errors.AsType[skipped](err); ok {
			result.Skipped, err = string(why), nil
		}
		result.Err = errors.Join(err, r.tidyUp(context.WithoutCancel(ctx))) // also of what was cut short
		if report(result); result.Err != nil {
			failed++
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if c.name == "capabilities" && err != nil {
			return fmt.Errorf("without capabilities nothing else can be asked: %w", err)
		}
	}
	if failed > 0 {
		return fmt.Errorf("%d of %d checks failed", failed, len(checks))
	}
	return nil
}

func random() string {
	var b [6]byte
	_, _ = rand.Read(b[:]) // it never fails
	return hex.EncodeToString(b[:])
}

// tidyUp takes away what a check has made.
func (r *run) tidyUp(ctx context.Context) error {
	var errs []error
	for _, id := range r.made {
		errs = append(errs, r.gone(ctx, id))
	}
	r.made = nil
	for i, cluster := range r.clusters {
		left, err := r.client.List(ctx, cluster)
		if i == cutShort {
			for _, late := range left {
				errs = append(errs, r.gone(ctx, provider.ID{Cluster: cluster, Service: late.Service}))
			}
		} else if len(left) > 0 {
			err = fmt.Errorf("%d load balancers are left over: %s", len(left), left[0].Service)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// cutShort is the cluster of requests that are cut. One of them may come through when all
// that it was about is gone, and is nobody else's fault then.
const cutShort = 2

// id of a new Service.
func (r *run) id() provider.ID { return r.of(0, "svc-"+random()) }

func (r *run) of(cluster int, service string) provider.ID {
	id := provider.ID{Cluster: r.clusters[cluster], Service: service}
	r.made = append(r.made, id)
	return id
}

// spec of a load balancer that is open to everybody, with one listener.
func (r *run) spec() provider.Spec {
	everybody, member := netip.MustParsePrefix("0.0.0.0/0"), netip.MustParseAddr("192.0.2.10")
	family := r.able.Families[0]
	if family == provider.IPv6 {
		everybody, member = netip.MustParsePrefix("::/0"), netip.MustParseAddr("2001:db8::10")
	}
	if r.Member.IsValid() {
		member = r.Member
	}
	f := provider.Family{Family: family, Address: r.mustWant(), Sources: []netip.Prefix{everybody}}
	f.Members = []provider.Member{{Address: member, Weight: 1}}
	s := provider.Spec{Namespace: "kit", Name: "web", Families: []provider.Family{f}}
	return r.listener(s, 0)
}

// mustWant is the address of all load balancers where the cloud gives none by itself.
func (r *run) mustWant() (a netip.Addr) {
	if r.able.Settings != nil && r.able.Unsupported(provider.GivenAddress, provider.TCP) != "" {
		return r.Address
	}
	return a
}

// listener adds one, to one of our nodes.
func (r *run) listener(s provider.Spec, node int) provider.Spec {
	p := r.able.Protocols[0]
	if slices.Contains(r.able.Protocols, provider.TCP) {
		p = provider.TCP
	}
	r.port++
	l := provider.Listener{Port: r.port, Protocol: p, NodePort: r.nodePort(node), Settings: r.able.Prune(p, full)}
	s.Listeners = append(slices.Clone(s.Listeners), l)
	return s
}

// full are settings of which each provider does what it can.
var full = provider.Settings{
	Algorithm: provider.RoundRobin, Mode: provider.ModeTCP, SendProxy: provider.ProxyNone,
	ConnectTimeoutMilliseconds: 1000, IdleTimeoutMilliseconds: 600_000,
	HealthCheck: provider.HealthCheck{Type: provider.CheckTCP, IntervalMilliseconds: 5000, TimeoutMilliseconds: 2000, Rise: 2, Fall: 3},
}

// settle asks for the same until it is proved.
func (r *run) settle(ctx context.Context, id provider.ID, s provider.Spec) (provider.LoadBalancer, error) {
	return r.repeatUntil(ctx, func(b provider.LoadBalancer, err error) (bool, error) {
		switch {
		case err != nil && !passes(err):
			return false, err
		case err == nil && b.State == provider.Failed:
			return false, fmt.Errorf("Failed: %s: %s", b.Reason, b.Message)
		case err == nil && b.State == provider.Live && b.Proves(s):
			return true, nil
		}
		return false, nil
	}, func() (provider.LoadBalancer, error) { return r.client.Put(ctx, id, s) })
}

// gone asks for absence until it is there.
func (r *run) gone(ctx context.Context, id provider.ID) error {
	_, err := r.repeatUntil(ctx, func(_ provider.LoadBalancer, err error) (bool, error) {
		if provider.Is(err, provider.NotFound) {
			return true, nil
		}
		if err != nil && !passes(err) {
			return false, err
		}
		return false, nil
	}, func() (provider.LoadBalancer, error) { return r.client.Delete(ctx, id) })
	return err
}

func passes(err error) bool {
	e, ok := errors.AsType[*provider.Error](err)
	return ok && e.Code.Passes()
}

// repeatUntil asks again and again, as late as the provider wants.
func (r *run) repeatUntil(ctx context.Context, enough func(provider.LoadBalancer, error) (bool, error),
	ask func() (provider.LoadBalancer, error),
) (provider.LoadBalancer, error) {
	ctx, cancel := context.WithTimeout(ctx, r.Timeout)
	defer cancel()
	for wait := 20 * time.Millisecond; ; wait = min(2*wait, 2*time.Second) {
		b, err := ask()
		r.calls.Reads, r.calls.Writes = r.calls.Reads+b.Calls.Reads, r.calls.Writes+b.Calls.Writes
		done, fault := enough(b, err)
		if done || fault != nil {
			return b, fault
		}
		after := time.Duration(b.RetryAfterSeconds) * time.Second
		if e, ok := errors.AsType[*provider.Error](err); ok {
			after = time.Duration(e.RetryAfterSeconds) * time.Second
		}
		if !pause(ctx, max(wait, after)) {
			return b, fmt.Errorf("not after %v: %s", r.Timeout, said(b, err))
		}
	}
}

func said(b provider.LoadBalancer, err error) string {
	if err != nil {
		return err.Error()
	}
	return fmt.Sprintf("it said %s with the digest %.12q, addresses %v, %d ports refused %s",
		b.State, b.Digest, b.Addresses, len(b.Refused), b.Message)
}

// pause returns false when the time is up.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
