package kit

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/external-lb/external-lb/provider"
)

func (r *run) unsupported(ctx context.Context) error {
	id, s := r.id(), r.spec()
	if _, err := r.settle(ctx, id, s); err != nil {
		return err
	}
	var errs []error
	refused := func(what string, s provider.Spec) {
		if _, err := r.client.Put(ctx, id, s); !provider.Is(err, provider.Unsupported) {
			errs = append(errs, fmt.Errorf("%s: want Unsupported, got %w", what, orNothing(err)))
		}
	}
	for _, p := range []provider.Protocol{provider.TCP, provider.UDP, provider.SCTP} {
		other := r.spec()
		if other.Listeners[0].Protocol = p; !slices.Contains(r.able.Protocols, p) {
			refused(string(p), other)
		}
	}
	for _, setting := range provider.AllSettings() {
		other := r.spec()
		if r.able.Unsupported(setting, other.Listeners[0].Protocol) != "" && use(&other, setting) {
			refused(string(setting), other)
		}
	}
	if b, err := r.client.Get(ctx, id); err != nil || !b.Proves(s) {
		errs = append(errs, fmt.Errorf("it was Live before that: %s", said(b, err)))
	}
	return errors.Join(errs...)
}

// use makes a Spec ask for a setting. It returns false where v1 has no words for it.
func use(s *provider.Spec, setting provider.Setting) bool {
	l, f := &s.Listeners[0].Settings, &s.Families[0]
	name, value, _ := strings.Cut(string(setting), "=")
	fields := map[string]func(){
		"algorithm":               func() { l.Algorithm = value },
		"mode":                    func() { l.Mode = value },
		"proxyProtocol.send":      func() { l.SendProxy = value },
		"proxyProtocol.accept":    func() { l.AcceptProxy = true },
		"timeouts.connect":        func() { l.ConnectTimeoutMilliseconds = 1 },
		"timeouts.idle":           func() { l.IdleTimeoutMilliseconds = 1 },
		"maxConnections":          func() { l.MaxConnections = 1 },
		"maxConnectionsPerNode":   func() { l.MaxConnectionsPerNode = 1 },
		"maxConnectionsPerClient": func() { l.MaxConnectionsPerClient = 1 },
		"retries":                 func() { l.Retries = 1 },
		"healthCheck.type":        func() { l.HealthCheck.Type = value },
		"healthCheck.http":        func() { l.HealthCheck.Type, l.HealthCheck.Path = provider.CheckHTTP, "/" },
		"healthCheck.interval":    func() { l.HealthCheck.Type, l.HealthCheck.IntervalMilliseconds = provider.CheckTCP, 1 },
		"healthCheck.timeout":     func() { l.HealthCheck.Type, l.HealthCheck.TimeoutMilliseconds = provider.CheckTCP, 1 },
		"healthCheck.rise":        func() { l.HealthCheck.Type, l.HealthCheck.Rise = provider.CheckTCP, 1 },
		"healthCheck.fall":        func() { l.HealthCheck.Type, l.HealthCheck.Fall = provider.CheckTCP, 1 },
		"sessionAffinity":         func() { s.AffinitySeconds = 10800 },
		"sourceRanges":            func() { f.Sources = nil },
		"weights":                 func() { f.Members[0].Weight = 2 },
		"wantedAddress":           func() { f.Address = map[bool]netip.Addr{true: v4, false: v6}[f.Family == provider.IPv4] },
		"givenAddress":            func() { f.Address = netip.Addr{} },
		"certificates":            func() { s.Listeners[0].Certificate = unknownName },
		"dualStack":               func() { s.Families = append(s.Families, otherFamily(f.Family)) },
	}
	do, there := fields[name]
	if !there || setting == "healthCheck.type=Auto" {
		return false
	}
	do()
	return true
}

var v4, v6 = netip.MustParseAddr("203.0.113.77"), netip.MustParseAddr("2001:db8::77")

func otherFamily(f provider.IPFamily) provider.Family {
	if f == provider.IPv4 {
		return provider.Family{Family: provider.IPv6, Sources: []netip.Prefix{netip.MustParsePrefix("::/0")}}
	}
	return provider.Family{Family: provider.IPv4, Sources: []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")}}
}

func (r *run) wanted(ctx context.Context) error {
	if why := r.able.Unsupported(provider.WantedAddress, provider.TCP); why != "" {
		return skipped("it cannot: " + why)
	}
	if !r.Address.IsValid() {
		return skipped("say an address that the cloud gives to who wants it")
	}
	first, second, s := r.id(), r.id(), r.spec()
	s.Families[0].Address = r.Address
	b, err := r.settle(ctx, first, s)
	if err != nil {
		return err
	}
	if _, err := r.client.Put(ctx, second, s); !provider.Is(err, provider.AddressTaken) {
		return fmt.Errorf("a second one with the address: want AddressTaken, got %w", orNothing(err))
	}
	return r.answers(ctx, b, s, 0)
}

// given asks for two load balancers without an address, and changes one while the other goes.
func (r *run) given(ctx context.Context) error {
	if why := r.able.Unsupported(provider.GivenAddress, provider.TCP); why != "" {
		return skipped("it cannot: " + why)
	}
	first, second, s := r.id(), r.id(), r.spec()
	a, err := r.settle(ctx, first, s)
	if err != nil {
		return err
	}
	b, err := r.settle(ctx, second, s)
	if err != nil {
		return err
	}
	for _, mine := range a.Addresses {
		if slices.Contains(b.Addresses, mine) {
			return fmt.Errorf("two have the address %v", mine)
		}
	}
	if err := r.gone(ctx, second); err != nil {
		return err
	}
	s = r.listener(s, 1)
	for _, ask := range []func() (provider.LoadBalancer, error){
		func() (provider.LoadBalancer, error) { return r.settle(ctx, first, s) },
		func() (provider.LoadBalancer, error) { return r.client.Get(ctx, first) },
	} {
		now, err := ask()
		if err != nil || !slices.Equal(now.Addresses, a.Addresses) {
			return fmt.Errorf("the address was %v and is %v, %w", a.Addresses, now.Addresses, orNothing(err))
		}
	}
	return nil
}

// cut ends requests after ever longer times, as a crash of either end would.
func (r *run) cut(ctx context.Context) error {
	id, s := r.of(cutShort, "svc-"+random()), r.spec()
	cut := func(ask func(context.Context)) {
		for after := 200 * time.Microsecond; after < 200*time.Millisecond; after *= 2 {
			short, cancel := context.WithTimeout(ctx, after)
			ask(short)
			cancel()
		}
	}
	put := func(ctx context.Context) { _, _ = r.client.Put(ctx, id, s) }
	cut(put)
	first, err := r.settle(ctx, id, s)
	if err != nil {
		return fmt.Errorf("after requests that were cut: %w", err)
	}
	s = r.listener(s, 1)
	s.Listeners[0].NodePort = r.nodePort(1)
	cut(put)
	b, err := r.settle(ctx, id, s)
	if err == nil && !slices.Equal(b.Addresses, first.Addresses) {
		err = fmt.Errorf("the address was %v and is %v", first.Addresses, b.Addresses)
	}
	if err == nil {
		err = r.answers(ctx, b, s, 1)
	}
	if err == nil {
		err = r.only(ctx, id)
	}
	if err != nil {
		return fmt.Errorf("after changes that were cut: %w", err)
	}
	cut(func(ctx context.Context) { _, _ = r.client.Delete(ctx, id) })
	if err := r.gone(ctx, id); err != nil {
		return fmt.Errorf("after deletions that were cut: %w", err)
	}
	return r.silent(ctx, b, s)
}

// only wants one load balancer in a cluster.
func (r *run) only(ctx context.Context, id provider.ID) error {
	all, err := r.client.List(ctx, id.Cluster)
	if err == nil && (len(all) != 1 || all[0].Service != id.Service) {
		err = fmt.Errorf("the cluster has %d load balancers, and not this one", len(all))
	}
	return err
}

func (r *run) atOnce(ctx context.Context) error {
	id, s := r.id(), r.spec()
	var wg sync.WaitGroup
	answers := make([]error, 6)
	for i := range answers {
		wg.Go(func() { _, answers[i] = r.client.Put(ctx, id, s) })
	}
	wg.Wait()
	for _, err := range answers {
		if err != nil && !passes(err) {
			return err
		}
	}
	b, err := r.settle(ctx, id, s)
	if err != nil {
		return err
	}
	return errors.Join(r.only(ctx, id), r.answers(ctx, b, s, 0))
}

func (r *run) twoClusters(ctx context.Context) error {
	if why := r.able.Unsupported(provider.GivenAddress, provider.TCP); why != "" {
		return skipped("there is one address for two load balancers: " + why)
	}
	ours, s := r.id(), r.spec()
	theirs, t := r.of(1, ours.Service), r.listener(r.spec(), 1) // a cluster from a backup may have the same UIDs
	b, err := r.settle(ctx, ours, s)
	if err != nil {
		return err
	}
	if _, err := r.client.Get(ctx, theirs); !provider.Is(err, provider.NotFound) {
		return fmt.Errorf("the other cluster sees it: want NotFound, got %w", orNothing(err))
	}
	if all, err := r.client.List(ctx, theirs.Cluster); err != nil || len(all) > 0 {
		return fmt.Errorf("the other cluster has %d in its list, %w", len(all), orNothing(err))
	}
	if _, err := r.client.Delete(ctx, theirs); !provider.Is(err, provider.NotFound) {
		return fmt.Errorf("the other cluster deletes it: want NotFound, got %w", orNothing(err))
	}
	if _, err := r.settle(ctx, theirs, t); err != nil {
		return err
	}
	if err := errors.Join(r.only(ctx, ours), r.only(ctx, theirs)); err != nil {
		return err
	}
	if err := r.gone(ctx, theirs); err != nil {
		return err
	}
	again, err := r.client.Get(ctx, ours)
	if err != nil || !again.Proves(s) || !slices.Equal(again.Addresses, b.Addresses) {
		return fmt.Errorf("it was Live before the other cluster deleted its own: %s", said(again, err))
	}
	return r.answers(ctx, b, s, 0)
}

func (r *run) drift(ctx context.Context) error {
	if r.Drift == nil {
		return skipped("say how to change something in the cloud")
	}
	id, s := r.id(), r.spec()
	b, err := r.settle(ctx, id, s)
	if err != nil {
		return err
	}
	if err := r.Drift(ctx, id, b); err != nil {
		return fmt.Errorf("the change in the cloud itself: %w", err)
	}
	_, err = r.repeatUntil(ctx, func(b provider.LoadBalancer, err error) (bool, error) {
		return err == nil && !b.Proves(s) || provider.Is(err, provider.NotFound), nil
	}, func() (provider.LoadBalancer, error) { return r.client.Get(ctx, id) })
	if err != nil {
		return fmt.Errorf("it is not seen: %w", err)
	}
	if b, err = r.settle(ctx, id, s); err != nil {
		return fmt.Errorf("it is not mended: %w", err)
	}
	return r.answers(ctx, b, s, 0)
}

func (r *run) delete(ctx context.Context) error {
	id, s := r.id(), r.spec()
	if _, err := r.client.Get(ctx, id); !provider.Is(err, provider.NotFound) {
		return fmt.Errorf("before anything was made: want NotFound, got %w", orNothing(err))
	}
	b, err := r.settle(ctx, id, s)
	if err != nil {
		return err
	}
	if err := r.gone(ctx, id); err != nil {
		return err
	}
	if _, err := r.client.Get(ctx, id); !provider.Is(err, provider.NotFound) {
		return fmt.Errorf("asked after that: want NotFound, got %w", orNothing(err))
	}
	if all, err := r.client.List(ctx, id.Cluster); err != nil || len(all) > 0 {
		return fmt.Errorf("the list still has %d, %w", len(all), orNothing(err))
	}
	return r.silent(ctx, b, s)
}

func (r *run) foreign(ctx context.Context) error {
	if r.Strangers == nil {
		return skipped("say how to list what is in the cloud beside it")
	}
	now, err := r.Strangers(ctx)
	if err != nil {
		return err
	}
	if now != r.strangers {
		return fmt.Errorf("before:\n%s\nnow:\n%s", r.strangers, now)
	}
	return nil
}
