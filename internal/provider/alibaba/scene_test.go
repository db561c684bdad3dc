package alibaba

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"testing"
	"time"

	"github.com/aliyun/credentials-go/credentials"

	"github.com/external-lb/external-lb/internal/provider/alibaba/alibabatest"
	"github.com/external-lb/external-lb/internal/provider/providertest"
	"github.com/external-lb/external-lb/provider"
	"github.com/external-lb/external-lb/test/wait"
)

// scene is a cloud with its double.
type scene struct {
	*Cloud
	double *alibabatest.Cloud
}

func newScene(t *testing.T, kind string) scene {
	t.Helper()
	double := alibabatest.New(t)
	return scene{newCloud(t, double, kinds[kind], providertest.Same), double}
}

func (s scene) with(change func(*alibabatest.Cloud)) {
	s.double.Lock()
	defer s.double.Unlock()
	change(s.double)
}

func eachKind(t *testing.T, test func(*testing.T, scene)) {
	for kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			test(t, newScene(t, kind))
		})
	}
}

var web = provider.ID{Cluster: "c1", Service: "web"}

// full is a Spec with all that a product can do.
func full(c *Cloud) provider.Spec {
	s := *providertest.SpecOf(c, 80, 443)
	s.Families[0].Members = append(s.Families[0].Members, provider.Member{Address: netip.MustParseAddr("192.0.2.11"), Weight: 7})
	can := c.product().capabilities()
	settings := provider.Settings{Algorithm: provider.SourceHash, Mode: provider.ModeTCP, SendProxy: provider.ProxyV2, IdleTimeoutMilliseconds: 300_000,
		HealthCheck: provider.HealthCheck{Type: provider.CheckHTTP, Path: "/healthz", Port: 10256, IntervalMilliseconds: 5000, TimeoutMilliseconds: 2000, Rise: 2, Fall: 3}}
	s.Listeners[1].Settings = can.Prune(provider.TCP, settings)
	s.Listeners = append(s.Listeners, provider.Listener{Port: 443, Protocol: provider.UDP, NodePort: 30444, Settings: can.Prune(provider.UDP, settings)})
	if c.Type == CLB {
		s.Families[0].Sources = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/25"), netip.MustParsePrefix("198.51.100.0/24")}
	}
	return s
}

// puts asks until what comes back is as it should be, for a minute at most.
func (s scene) puts(t *testing.T, want provider.Spec, done func(provider.Observed) bool) (o provider.Observed) {
	t.Helper()
	within(t, func(ctx context.Context) (err error) {
		if o, err = s.Put(ctx, web, want); err == nil && !done(o) {
			err = fmt.Errorf("%+v", o)
		}
		return err
	})
	return o
}

// within a minute, something is so.
func within(t *testing.T, is func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := wait.Until(ctx, is); err != nil {
		t.Fatal(err)
	}
}

// change something by hand.
func (s scene) change(t *testing.T, what string) {
	t.Helper()
	if err := s.double.Change(web.Service, what); err != nil {
		t.Fatal(err)
	}
}

// unprotect all.
func (s scene) unprotect() { s.with(func(c *alibabatest.Cloud) { c.Protect(false, "") }) }

// fails has calls of an action refused.
func (s scene) fails(action, code string) {
	s.with(func(c *alibabatest.Cloud) {
		c.Fault = func(called string, _ map[string]string) *alibabatest.Fault {
			if called == action {
				return &alibabatest.Fault{Status: 400, Code: code, Message: "Because."}
			}
			return nil
		}
	})
}

// kinds of load balancers.
var kinds = map[string]Options{
	"nlb": {Type: NLB, VPC: "vpc-1", Zones: []Zone{{"cn-hangzhou-a", "vsw-a"}, {"cn-hangzhou-b", "vsw-b"}},
		Certificates: map[string]string{"shop": "1234-cn-hangzhou", "admin": "5678-cn-hangzhou"}},
	"clb": {Type: CLB, VPC: "vpc-1"},
	"clb private": {Type: CLB, VPC: "vpc-1", Private: true, Spec: "slb.s1.small", Zones: []Zone{{"cn-hangzhou-a", "vsw-a"}},
		Flavors: map[string]string{"big": "slb.s3.medium", "metered": ByUse}},
}

func newCloud(t testing.TB, double *alibabatest.Cloud, o Options, through func(http.RoundTripper) http.RoundTripper) *Cloud {
	t.Helper()
	key, err := credentials.NewCredential(new(credentials.Config).SetType("access_key").SetAccessKeyId(alibabatest.Key).SetAccessKeySecret("secret"))
	if err != nil {
		t.Fatal(err)
	}
	api, err := NewAPI("cn-hangzhou", double.URL, key, through(http.DefaultTransport))
	if err != nil {
		t.Fatal(err)
	}
	return &Cloud{API: api, Options: o}
}
