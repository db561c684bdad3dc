package octavia

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gophercloud/gophercloud/v2/openstack/loadbalancer/v2/loadbalancers"

	"github.com/external-lb/external-lb/internal/provider/openstack"
	"github.com/external-lb/external-lb/provider"
	"github.com/external-lb/external-lb/test/wait"
)

// mortal lets some writes through, and then nothing. Of the last one, the answer may be lost.
type mortal struct {
	http.RoundTripper
	writes atomic.Int32
	left   int32 // writes that are done
	lost   bool  // the next one is done, too, but nobody hears of it
}

// over makes it the end of a transport.
func (m *mortal) over(r http.RoundTripper) http.RoundTripper {
	m.RoundTripper = r
	return m
}

var errDead = errors.New("the provider is dead")

func (m *mortal) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Method != http.MethodGet {
		m.writes.Add(1)
	}
	switch n := m.writes.Load(); {
	case n > m.left+1 || n > m.left && !m.lost || n > m.left && r.Method == http.MethodGet:
		return nil, errDead
	case n > m.left:
		answer, err := m.RoundTripper.RoundTrip(r)
		if err != nil {
			return nil, err
		}
		answer.Body.Close()
		return nil, errDead
	}
	return m.RoundTripper.RoundTrip(r)
}

// life of a load balancer, step by step.
var life = [...]struct {
	name string
	want func() *provider.Spec // nil: that it goes
}{
	{"made", func() *provider.Spec { return specOf(80) }},
	{"changed", func() *provider.Spec {
		s := specOf(80, 443)
		s.Listeners[0].NodePort = 30081
		s.Families[0].Members = append(s.Families[0].Members, provider.Member{Address: netip.MustParseAddr("192.0.2.11"), Weight: 2})
		return s
	}},
	{"less", func() *provider.Spec { return specOf(443) }},
	{"gone", func() *provider.Spec { return nil }},
}

func specOf(ports ...uint16) *provider.Spec {
	able, _ := new(openstack.Cloud).Capabilities(context.Background()) // it never fails
	s := &provider.Spec{Namespace: "default", Name: "web", Families: []provider.Family{{
		Family: provider.IPv4, Sources: []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")},
		Members: []provider.Member{{Address: netip.MustParseAddr("192.0.2.10"), Weight: 1}},
	}}}
	for _, port := range ports {
		s.Listeners = append(s.Listeners, provider.Listener{Port: port, Protocol: provider.TCP, NodePort: 30000 + port, Settings: able.Prune(provider.TCP, provider.Settings{
			Algorithm: provider.RoundRobin, Mode: provider.ModeTCP, SendProxy: provider.ProxyNone, ConnectTimeoutMilliseconds: 1000, IdleTimeoutMilliseconds: 600_000,
			HealthCheck: provider.HealthCheck{Type: provider.CheckTCP, IntervalMilliseconds: 5000, TimeoutMilliseconds: 2000, Rise: 2, Fall: 3},
		})})
	}
	return s
}

// cloud is a new provider, whose requests go through a transport.
func (s *scene) newCloud(through func(http.RoundTripper) http.RoundTripper) *openstack.Cloud {
	api := s.cloud.API(project)
	api.HTTPClient.Transport = through(api.HTTPClient.Transport)
	return &openstack.Cloud{API: api, Options: openstack.Options{Subnet: Subnet}}
}

// A provider that dies before or after any write finds all that it has made when it comes back, and nothing twice.
func TestCrash_BetweenAnyTwoCalls(t *testing.T) {
	for step, writes := range env.lifeOf(t) {
		if writes == 0 {
			t.Fatalf("%q took no write", life[step].name)
		}
		for after := range writes {
			for _, lost := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s/%d writes/%t", life[step].name, after, lost), func(t *testing.T) {
					t.Parallel()
					env.dies(t, step, after, lost)
				})
			}
		}
	}
}

// lifeOf a load balancer whose provider does not die: how many writes each step takes.
func (s *scene) lifeOf(t *testing.T) (writes [len(life)]int32) {
	t.Helper()
	m := &mortal{left: math.MaxInt32 - 1}
	c, id := s.newCloud(m.over), provider.ID{Cluster: "crash", Service: "healthy"}
	for i, step := range life {
		before := m.writes.Load()
		s.reach(t, c, id, step.want())
		writes[i] = m.writes.Load() - before
	}
	return writes
}

// dies in a step of a life, and lives it to its end.
func (s *scene) dies(t *testing.T, in int, after int32, lost bool) {
	id := provider.ID{Cluster: "crash", Service: fmt.Sprintf("%d-%d-%t", in, after, lost)}
	healthy := s.newCloud(same)
	for i, step := range life {
		if i == in {
			m := &mortal{left: after, lost: lost}
			dying := s.newCloud(m.over)
			wait.For(t, func(ctx context.Context) error {
				switch done, err := s.towards(ctx, dying, id, step.want()); {
				case errors.Is(err, errDead) || m.writes.Load() > after:
					return nil
				case done:
					return wait.GiveUp(errors.New("it did not die"))
				default:
					return errors.Join(err, errors.New("not yet"))
				}
			})
		}
		s.reach(t, healthy, id, step.want())
		s.alone(t, id, step.want() != nil)
	}
}

// reach asks until it is as wanted.
func (s *scene) reach(t *testing.T, c *openstack.Cloud, id provider.ID, want *provider.Spec) {
	t.Helper()
	wait.For(t, func(ctx context.Context) error {
		done, err := s.towards(ctx, c, id, want)
		if err == nil && !done {
			err = errors.New("not yet")
		}
		return err
	})
}

// towards asks once for what is wanted, and then waits for as long as it is told to.
func (s *scene) towards(ctx context.Context, c *openstack.Cloud, id provider.ID, want *provider.Spec) (done bool, err error) {
	var o provider.Observed
	if want == nil {
		if o, err = c.Delete(ctx, id); provider.Is(err, provider.NotFound) {
			return true, nil
		}
	} else if o, err = c.Put(ctx, id, *want); err == nil && o.State == provider.Live && o.Spec.Digest() == want.Digest() {
		return true, nil
	}
	again := time.NewTimer(time.Duration(o.RetryAfterSeconds) * time.Second)
	defer again.Stop()
	select {
	case <-ctx.Done():
	case <-again.C:
	}
	return false, err
}

// alone wants one load balancer with the tags of a Service, or none.
func (s *scene) alone(t *testing.T, id provider.ID, there bool) {
	t.Helper()
	pages, err := loadbalancers.List(s.cloud.API(project), loadbalancers.ListOpts{Tags: []string{"external-lb:service=" + id.Service}}).AllPages(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	all, err := loadbalancers.ExtractLoadBalancers(pages)
	if err != nil {
		t.Fatal(err)
	}
	if len(all) != map[bool]int{true: 1}[there] {
		t.Errorf("%d load balancers have its tags", len(all))
	}
}
