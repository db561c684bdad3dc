package alibaba

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/external-lb/external-lb/internal/provider/alibaba/alibabatest"
	"github.com/external-lb/external-lb/internal/provider/providertest"
	"github.com/external-lb/external-lb/internal/provider/sources"
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

// Whatever somebody changes by hand is seen, and mended.
func TestDrift_IsSeenAndMended(t *testing.T) {
	both := []string{"weight", "server less", "server more", "port", "listener less", "listener off", "another group", "timeout", "algorithm", "no check", "description", "twin", "locked"}
	for kind, changes := range map[string][]string{
		"nlb": append([]string{"client address", "rate"}, both...),
		"clb": append([]string{"open", "black list", "bandwidth", "off", "list less"}, both...),
	} {
		for _, change := range changes {
			t.Run(kind+"/"+change, func(t *testing.T) {
				t.Parallel()
				s := newScene(t, kind)
				want := full(s.Cloud)
				providertest.Reach(t, s, web, &want)
				if err := s.double.Change(web.Service, change); err != nil {
					t.Fatal(err)
				}
				o, err := s.Get(t.Context(), web)
				if err != nil || o.State == provider.Live && o.Spec.Digest() == want.Digest() {
					t.Fatalf("not seen: %v, %v", o, err)
				}
				if change == "locked" {
					if o.State != provider.Failed || !strings.Contains(o.Message, "bills") {
						t.Errorf("%s: %s", o.State, o.Message)
					}
					return
				}
				providertest.Reach(t, s, web, &want)
			})
		}
	}
}

// What is there already takes no write, and a change no more than it must.
func TestPut_CostsWhatItChanges(t *testing.T) {
	eachKind(t, func(t *testing.T, s scene) {
		want := *providertest.SpecOf(s.Cloud, 80)
		count := func(what string) {
			s.with(func(c *alibabatest.Cloud) { clear(c.Calls) })
			providertest.Reach(t, s, web, &want)
			s.with(func(c *alibabatest.Cloud) {
				n := 0
				for action, calls := range c.Calls {
					if !strings.HasPrefix(action, "Describe") && !strings.HasPrefix(action, "List") {
						n += calls
					}
				}
				t.Logf("%s: %d writes, %v", what, n, c.Calls)
				if limit := map[string]int{"made": 6, "again": 0, "a node more": 1, "a port more": 4}[what]; n > limit {
					t.Errorf("%s took %d writes, want %d at most: %v", what, n, limit, c.Calls)
				}
			})
		}
		count("made")
		count("again")
		want.Families[0].Members = append(want.Families[0].Members, provider.Member{Address: netip.MustParseAddr("192.0.2.12"), Weight: 1})
		count("a node more")
		want = provider.Spec{Namespace: want.Namespace, Name: want.Name, Families: want.Families, Listeners: providertest.SpecOf(s.Cloud, 80, 81).Listeners}
		count("a port more")
	})
}

// Reads that are throttled are tried again; a write tells when to ask again.
func TestFault_Throttled(t *testing.T) {
	eachKind(t, func(t *testing.T, s scene) {
		want := *providertest.SpecOf(s.Cloud, 80)
		left := 3
		s.with(func(c *alibabatest.Cloud) {
			c.Fault = func(action string, _ map[string]string) *alibabatest.Fault {
				if left--; left >= 0 || action == "CreateLoadBalancer" {
					return &alibabatest.Fault{Status: 400, Code: "Throttling.User", Message: "Request was denied due to user flow control."}
				}
				return nil
			}
		})
		_, err := s.Put(t.Context(), web, want)
		e, _ := errors.AsType[*provider.Error](err)
		if e == nil || e.Code != provider.Throttled || e.RetryAfterSeconds == 0 {
			t.Errorf("want Throttled with a time, got %v", err)
		}
		if left >= 0 {
			t.Errorf("reads were not tried again: %d faults are left", left)
		}
		s.with(func(c *alibabatest.Cloud) { c.Fault = nil })
		providertest.Reach(t, s, web, &want)
	})
}

// A port that the account may not have any more is told, and the others are carried.
func TestFault_QuotaOfListeners(t *testing.T) {
	eachKind(t, func(t *testing.T, s scene) {
		want := *providertest.SpecOf(s.Cloud, 80, 443)
		s.with(func(c *alibabatest.Cloud) { c.Quota = map[string]int{"listeners": 1} })
		deadline := time.Now().Add(time.Minute)
		for {
			o, err := s.Put(t.Context(), web, want)
			if err == nil && o.State == provider.Live && len(o.Refused) == 1 && o.Spec.Digest() == want.Without(o.Refused).Digest() {
				if r := o.Refused[0]; r.Port != 443 || r.Reason != provider.QuotaExceeded || r.Message == "" {
					t.Errorf("refused %+v", r)
				}
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("%+v, %v", o, err)
			}
		}
		s.with(func(c *alibabatest.Cloud) { c.Quota = nil })
		providertest.Reach(t, s, web, &want)
	})
}

func TestFault_QuotaOfLoadBalancers(t *testing.T) {
	eachKind(t, func(t *testing.T, s scene) {
		s.with(func(c *alibabatest.Cloud) { c.Quota = map[string]int{"balancers": 0} })
		if _, err := s.Put(t.Context(), web, *providertest.SpecOf(s.Cloud, 80)); !provider.Is(err, provider.QuotaExceeded) {
			t.Errorf("want QuotaExceeded, got %v", err)
		}
	})
}

// A node that is no instance of the VPC is told, and holds no other up.
func TestFault_ANodeIsNoInstance(t *testing.T) {
	s := newScene(t, "clb")
	want := full(s.Cloud)
	absent := want.Families[0].Members[1].Address
	s.with(func(c *alibabatest.Cloud) { c.Absent = func(a netip.Addr) bool { return a == absent } })
	without := full(s.Cloud)
	without.Families[0].Members = without.Families[0].Members[:1]
	deadline := time.Now().Add(time.Minute)
	for {
		o, err := s.Put(t.Context(), web, want)
		if err == nil && o.Spec.Digest() == without.Digest() {
			if o.State != provider.Pending || !strings.Contains(o.Message, absent.String()) {
				t.Errorf("%s: %s", o.State, o.Message)
			}
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%+v, %v", o, err)
		}
	}
}

// A load balancer that is not listed yet is not made twice.
func TestToken_MakesOneOfTwo(t *testing.T) {
	eachKind(t, func(t *testing.T, s scene) {
		until := time.Now().Add(time.Second)
		s.with(func(c *alibabatest.Cloud) {
			c.Listed = func(action string, _ time.Time) bool {
				return time.Now().After(until) || !strings.Contains(action, "LoadBalancers")
			}
		})
		want := *providertest.SpecOf(s.Cloud, 80)
		for range 3 {
			if _, err := s.Put(t.Context(), web, want); err != nil {
				t.Fatal(err)
			}
		}
		if n := len(s.double.Owned(web.Cluster, web.Service)); n != 1 {
			t.Errorf("%d were made", n)
		}
		providertest.Reach(t, s, web, &want)
	})
}

// Where nothing is listed at once, all is as it is wanted in the end, and nothing is there twice.
func TestLists_MayLag(t *testing.T) {
	eachKind(t, func(t *testing.T, s scene) {
		s.with(func(c *alibabatest.Cloud) {
			c.Listed = func(_ string, created time.Time) bool { return time.Since(created) > 20*time.Millisecond }
		})
		want := full(s.Cloud)
		providertest.Reach(t, s, web, &want)
		wait.For(t, func(ctx context.Context) error { // what was made twice goes
			o, err := s.Put(ctx, web, want)
			if n := len(s.double.Owned(web.Cluster, web.Service)); err == nil && (o.State != provider.Live || n > 8) {
				err = fmt.Errorf("%s, and %d objects: %v", o.State, n, s.double.Owned(web.Cluster, web.Service))
			}
			return err
		})
		providertest.Reach(t, s, web, nil)
		wait.For(t, func(ctx context.Context) error {
			if left := s.double.Owned(web.Cluster, web.Service); len(left) > 0 {
				_, err := s.Delete(ctx, web)
				return fmt.Errorf("left over: %v, %w", left, err)
			}
			return nil
		})
	})
}

// Long lists are read page by page, and many members go in several calls.
func TestList_ReadsEveryPage(t *testing.T) {
	eachKind(t, func(t *testing.T, s scene) {
		s.with(func(c *alibabatest.Cloud) { c.PageSize = 2 })
		want := *providertest.SpecOf(s.Cloud, 80, 443, 8443)
		want.Families[0].Members = nil
		for i := range 45 {
			want.Families[0].Members = append(want.Families[0].Members, provider.Member{Address: netip.AddrFrom4([4]byte{192, 0, 2, byte(i + 1)}), Weight: 1})
		}
		if s.Type == CLB {
			want.Families[0].Sources = nil
			for i := range 120 {
				want.Families[0].Sources = append(want.Families[0].Sources, netip.PrefixFrom(netip.AddrFrom4([4]byte{203, 0, 113, byte(i)}), 32))
			}
		}
		for i := range 5 {
			providertest.Reach(t, s, provider.ID{Cluster: "c1", Service: fmt.Sprint("s", i)}, &want)
		}
		all, err := s.List(t.Context(), "c1")
		if err != nil || len(all) != 5 {
			t.Fatalf("%d are listed, %v", len(all), err)
		}
		for _, o := range all {
			if o.State != provider.Live || o.Spec.Digest() != want.Digest() {
				t.Errorf("%s is %s", o.Service, o.State)
			}
		}
	})
}

// TLS is ended with the certificate of a port, also where there was none before.
func TestCertificate_EndsTLS(t *testing.T) {
	s := newScene(t, "nlb")
	want := *providertest.SpecOf(s.Cloud, 80, 443)
	providertest.Reach(t, s, web, &want)
	o := s.Options
	o.Certificates = map[uint16]string{443: "1234-cn-hangzhou"}
	with := newCloud(t, s.double, o, providertest.Same)
	if o, err := with.Get(t.Context(), web); err != nil || len(o.Spec.Listeners) != 1 {
		t.Errorf("before: %v, %v", o.Spec.Listeners, err)
	}
	providertest.Reach(t, with, web, &want)
	if got := s.double.Protocols(web.Service); got != "TCP 80, TCPSSL 443 1234-cn-hangzhou tls_cipher_policy_1_2" {
		t.Error(got)
	}
}

// A list of networks is in force from the first moment, and is never empty in between.
func TestSources_AreNeverOpenInBetween(t *testing.T) {
	s := newScene(t, "clb")
	s.with(func(c *alibabatest.Cloud) {
		c.Fault = func(action string, p map[string]string) *alibabatest.Fault {
			if strings.HasPrefix(action, "CreateLoadBalancerTCP") && p["AclStatus"] != "on" {
				t.Error("a listener is open to everybody")
			}
			return nil
		}
	})
	want := *providertest.SpecOf(s.Cloud, 80)
	for _, text := range []string{"198.51.100.0/24", "192.0.2.0/24", sources.Nobody.String()} {
		want.Families = []provider.Family{want.Families[0]}
		if want.Families[0].Sources = []netip.Prefix{netip.MustParsePrefix(text)}; text == sources.Nobody.String() {
			want.Families[0].Sources = nil
		}
		providertest.Reach(t, s, web, &want)
	}
	if s.double.WasOpen() {
		t.Error("the list had no entry while a listener had it")
	}
}

func TestSaid_HasTheCodeOfTheContract(t *testing.T) {
	s := newScene(t, "nlb")
	for code, want := range map[string]provider.Code{
		"Throttling": provider.Throttled, "Throttling.Api": provider.Throttled, "SystemBusy": provider.Throttled, "ServiceUnavailable": provider.Throttled,
		"QuotaExceeded.QuotaInsufficient": provider.QuotaExceeded, "OverQuota": provider.QuotaExceeded, "OperationForbidden.QuotaLimit": provider.QuotaExceeded,
		"ResourceInUse.IP": provider.AddressTaken, "Conflict.Lock": provider.Immutable, "IncorrectStatus.serverGroup": provider.Immutable,
		"ResourceInConfiguring.loadbalancer": provider.Immutable, "ServiceIsConfiguring": provider.Immutable, "OperationFailed.TokenIsProcessing": provider.Immutable,
		"IllegalParam.HealthCheckInterval": provider.Unsupported, "Forbidden.NoPermission": provider.Internal, "InsufficientBalance": provider.Internal,
		"OperationDenied.DeletionProtectionEnabled": provider.Internal, "ResourceAlreadyExist.listener": provider.Immutable,
	} {
		s.with(func(c *alibabatest.Cloud) {
			c.Fault = func(action string, _ map[string]string) *alibabatest.Fault {
				if action == "CreateLoadBalancer" {
					return &alibabatest.Fault{Status: 400, Code: code, Message: "Because."}
				}
				return nil
			}
		})
		o, err := s.Put(t.Context(), web, *providertest.SpecOf(s.Cloud, 80))
		if want == provider.Immutable { // it passes
			if err != nil || o.State != provider.Pending || o.Reason != want || !strings.Contains(o.Message, code) {
				t.Errorf("%s: %+v, %v", code, o.LoadBalancer, err)
			}
		} else if !provider.Is(err, want) || !strings.Contains(err.Error(), "CreateLoadBalancer: "+code+": Because.") {
			t.Errorf("%s: want %s, got %v", code, want, err)
		}
	}
	nobody, err := NewAPI("cn-hangzhou", "http://127.0.0.1:1", s.API.clients[nlbAPI].Credential, http.DefaultTransport)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := (&Cloud{API: nobody, Options: kinds["nlb"]}).Get(t.Context(), web); !provider.Is(err, provider.Unavailable) {
		t.Errorf("want Unavailable, got %v", err)
	}
}

func TestHost_IsThatOfTheRegion(t *testing.T) {
	for _, c := range []struct {
		service
		region, want string
	}{
		{nlbAPI, "cn-hangzhou", "nlb.cn-hangzhou.aliyuncs.com"}, {ecsAPI, "us-west-1", "ecs.us-west-1.aliyuncs.com"},
		{slbAPI, "cn-hangzhou", "slb.aliyuncs.com"}, {slbAPI, "eu-central-1", "slb.eu-central-1.aliyuncs.com"},
	} {
		if got := host(c.service, c.region); got != c.want {
			t.Errorf("%s in %s: %s", c.name, c.region, got)
		}
	}
}

func TestPossible_SaysWhatTheCloudCannotHold(t *testing.T) {
	for kind := range kinds {
		s := newScene(t, kind)
		can, err := s.Capabilities(t.Context())
		if err != nil || can.Check() != nil {
			t.Error(err, can.Check())
		}
		for what, change := range map[string]func(*provider.Spec){
			"half a second":  func(s *provider.Spec) { s.Listeners[0].Settings.HealthCheck.TimeoutMilliseconds = 2500 },
			"a long timeout": func(s *provider.Spec) { s.Listeners[0].Settings.IdleTimeoutMilliseconds = 901_000 },
			"once":           func(s *provider.Spec) { s.Listeners[0].Settings.HealthCheck.Rise = 1 },
			"a heavy node":   func(s *provider.Spec) { s.Families[0].Members[0].Weight = 101 },
		} {
			want := full(s.Cloud)
			change(&want)
			if _, err := s.Put(t.Context(), web, want); !provider.Is(err, provider.Unsupported) {
				t.Errorf("%s: %s: want Unsupported, got %v", kind, what, err)
			}
		}
	}
}
