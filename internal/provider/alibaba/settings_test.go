package alibaba

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/external-lb/external-lb/internal/provider/alibaba/alibabatest"
	"github.com/external-lb/external-lb/internal/provider/providertest"
	"github.com/external-lb/external-lb/internal/provider/sources"
	"github.com/external-lb/external-lb/provider"
)

// TLS is ended with the certificate of a port, also where there was none before.
func TestCertificate_EndsTLS(t *testing.T) {
	s := newScene(t, "nlb")
	want := *providertest.SpecOf(s.Cloud, 80, 443)
	providertest.Reach(t, s, web, &want)
	o := s.Options
	o.Certificates = map[uint16]string{443: "1234-cn-hangzhou"}
	with := newCloud(t, s.double, o, providertest.Same)
	if o, err := with.Get(t.Context(), web); err != nil || len(o.Spec.Listeners) != 2 || o.Spec.Listeners[0].NodePort == 0 || o.Spec.Listeners[1].NodePort != 0 {
		t.Errorf("before: %v, %v", o.Spec.Listeners, err)
	}
	providertest.Reach(t, with, web, &want)
	if got := s.double.Protocols(web.Service); got != "TCP 80, TCPSSL 443 1234-cn-hangzhou tls_cipher_policy_1_2" {
		t.Error(got)
	}
	s.change(t, "certificates of clients")
	if o, err := with.Get(t.Context(), web); err != nil || o.State == provider.Live && o.Spec.Digest() == want.Digest() {
		t.Errorf("not seen: %v, %v", o, err)
	}
	providertest.Reach(t, with, web, &want)
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

// CLB keeps no clients of UDP: such a port is refused, and the others are carried.
func TestAffinity_OfUDPIsRefused(t *testing.T) {
	s := newScene(t, "clb")
	want := full(s.Cloud)
	want.AffinitySeconds = 600
	s.puts(t, want, func(o provider.Observed) bool {
		return o.State == provider.Live && len(o.Refused) == 1 && o.Refused[0].Protocol == provider.UDP && o.Spec.Digest() == want.Without(o.Refused).Digest()
	})
	want.Listeners = want.Listeners[2:]
	if _, err := s.Put(t.Context(), web, want); !provider.Is(err, provider.Unsupported) {
		t.Errorf("UDP alone: %v", err)
	}
}

// All networks of a list are replaced, and it is never empty, nor too long.
func TestSources_AllAreReplaced(t *testing.T) {
	s := newScene(t, "clb")
	want := *providertest.SpecOf(s.Cloud, 80)
	for _, n := range []int{200, 200, maxEntries, maxEntries, 1, maxEntries} {
		sources := want.Families[0].Sources
		first := byte(10)
		if len(sources) > 0 && sources[0].Addr().As4()[0] == first {
			first++
		}
		want.Families = []provider.Family{want.Families[0]}
		want.Families[0].Sources = nil
		for i := range n {
			want.Families[0].Sources = append(want.Families[0].Sources, netip.PrefixFrom(netip.AddrFrom4([4]byte{first, byte(i / 256), byte(i), 1}), 32))
		}
		providertest.Reach(t, s, web, &want)
	}
	if s.double.WasOpen() {
		t.Error("the list had no entry while a listener had it")
	}
}

// One that is public stays so where private ones are to be made, and that is told.
func TestPrivate_IsNotWhatIsPublic(t *testing.T) {
	for _, kind := range []string{"nlb", "clb"} {
		s := newScene(t, kind)
		want := *providertest.SpecOf(s.Cloud, 80)
		providertest.Reach(t, s, web, &want)
		o := kinds["clb private"]
		if kind == "nlb" {
			o = s.Options
			o.Private = true
		}
		private := newCloud(t, s.double, o, providertest.Same)
		all, err := private.List(t.Context(), web.Cluster)
		if err != nil || len(all) != 1 || all[0].State != provider.Failed || !strings.Contains(all[0].Message, "--private") {
			t.Errorf("%s: %+v, %v", kind, all, err)
		}
		more := *providertest.SpecOf(s.Cloud, 80, 443) // what it has is kept right, and nothing is opened
		more.Listeners[0].NodePort = 30999
		within(t, func(ctx context.Context) error {
			o, err := private.Put(ctx, web, more)
			if open := s.double.Protocols(web.Service); err == nil && (o.State != provider.Failed || !strings.Contains(s.double.Servers(web.Service), ":30999")) {
				err = fmt.Errorf("%s: %s, open is %q", o.State, o.Message, open)
			}
			return err
		})
		if open := s.double.Open(web.Service); open != 1 {
			t.Errorf("%s: %d listeners", kind, open)
		}
		for _, change := range map[string][]string{"nlb": {"listener off"}, "clb": {"listener off", "off"}}[kind] { // who switches it off has a reason
			s.change(t, change)
			s.with(func(c *alibabatest.Cloud) { clear(c.Calls) })
			if o, err := private.Put(t.Context(), web, more); err != nil || o.State != provider.Failed {
				t.Errorf("%s, %s: %s, %v", kind, change, o.State, err)
			}
			s.with(func(c *alibabatest.Cloud) {
				for action := range c.Calls {
					if strings.HasPrefix(action, "Start") || strings.HasPrefix(action, "Set") {
						t.Errorf("%s, %s: %v", kind, change, c.Calls)
					}
				}
			})
		}
	}
}

// One of another VPC stays there, and that is told.
func TestVPC_DoesNotChange(t *testing.T) {
	for _, kind := range []string{"nlb", "clb private"} {
		s := newScene(t, kind)
		want := *providertest.SpecOf(s.Cloud, 80)
		providertest.Reach(t, s, web, &want)
		o := s.Options
		o.VPC = "vpc-2"
		if o, err := newCloud(t, s.double, o, providertest.Same).Put(t.Context(), web, want); err != nil || o.State != provider.Failed || !strings.Contains(o.Message, "vpc-1") {
			t.Errorf("%s: %+v, %v", kind, o, err)
		}
	}
}

// A flavor is a Spec of the owner's, and stays what it was when the load balancer was made.
func TestFlavor_IsWhatTheOwnerOffers(t *testing.T) {
	s := newScene(t, "clb private")
	for flavor, spec := range map[string]string{"": "PayBySpec slb.s1.small", "big": "PayBySpec slb.s3.medium", "metered": "PayByCLCU "} {
		want := *providertest.SpecOf(s.Cloud, 80)
		want.Flavor = flavor
		id := provider.ID{Cluster: web.Cluster, Service: "of-" + flavor}
		providertest.Reach(t, s, id, &want)
		if got := s.double.Spec(id.Service); got != spec {
			t.Errorf("%q is %q, want %q", flavor, got, spec)
		}
		for _, other := range []string{"big", "metered", "huge"} { // what is there is kept right, and not made anew
			want.Flavor, want.Listeners[0].NodePort = other, want.Listeners[0].NodePort+1
			within(t, func(ctx context.Context) error {
				o, err := s.Put(ctx, id, want)
				if err == nil && (o.State != provider.Live || o.Spec.Flavor != flavor || o.Spec.Listeners[0].NodePort != want.Listeners[0].NodePort) {
					err = fmt.Errorf("%+v", o)
				}
				if other != flavor && err == nil && (o.Reason != provider.Unsupported || !strings.Contains(o.Message, "make the Service anew")) {
					err = fmt.Errorf("%s: %s", o.Reason, o.Message)
				}
				return err
			})
		}
	}
	want := *providertest.SpecOf(s.Cloud, 80)
	want.Flavor = "huge"
	_, err := s.Put(t.Context(), web, want)
	if e, _ := errors.AsType[*provider.Error](err); e == nil || e.Code != provider.Unsupported || e.Field != "flavor" || !strings.Contains(e.Message, "big, metered") {
		t.Errorf("want Unsupported, got %v", err)
	}
	if made := s.double.Owned(web.Cluster, web.Service); len(made) > 0 {
		t.Errorf("made %v", made)
	}
}
