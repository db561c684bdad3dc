package alibaba

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/external-lb/external-lb/internal/provider/alibaba/alibabatest"
	"github.com/external-lb/external-lb/internal/provider/providertest"
	"github.com/external-lb/external-lb/provider"
)

// puts asks until what comes back is as it should be.
func (s scene) puts(t *testing.T, want provider.Spec, done func(provider.Observed) bool) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for {
		o, err := s.Put(t.Context(), web, want)
		if err == nil && done(o) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%+v, %v", o, err)
		}
	}
}

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

// Who may not read instances is told of none, by an empty list. Members that are there stay.
func TestFault_NoInstanceIsTold(t *testing.T) {
	s := newScene(t, "clb")
	want := full(s.Cloud)
	providertest.Reach(t, s, web, &want)
	s.with(func(c *alibabatest.Cloud) {
		c.Absent = func(netip.Addr) bool { return true }
		clear(c.Calls)
	})
	again := scene{newCloud(t, s.double, s.Options, providertest.Same), s.double} // which knows no instance yet
	o, err := again.Put(t.Context(), web, want)
	if err != nil || o.State != provider.Pending || !strings.Contains(o.Message, "no instance of the VPC") {
		t.Errorf("%s: %s, %v", o.State, o.Message, err)
	}
	s.with(func(c *alibabatest.Cloud) {
		if n := c.Calls["RemoveVServerGroupBackendServers"]; n > 0 {
			t.Errorf("servers were removed by %d calls", n)
		}
		c.Absent = nil
	})
	providertest.Reach(t, again, web, &want)
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

// A twin that is protected is told, and holds up no nodePort.
func TestTwin_ThatIsProtectedHoldsNothingUp(t *testing.T) {
	eachKind(t, func(t *testing.T, s scene) {
		want := *providertest.SpecOf(s.Cloud, 80)
		providertest.Reach(t, s, web, &want)
		if err := s.double.Change(web.Service, "twin"); err != nil {
			t.Fatal(err)
		}
		s.fails("DeleteLoadBalancer", "OperationDenied.DeletionProtectionEnabled")
		want.Listeners[0].NodePort = 30999
		s.puts(t, want, func(o provider.Observed) bool {
			return strings.Contains(o.Message, "DeletionProtection") && strings.Contains(s.double.Servers(web.Service), ":30999")
		})
		s.with(func(c *alibabatest.Cloud) { c.Fault = nil })
		providertest.Reach(t, s, web, &want)
	})
}

// One that is protected does not go. Nothing of it sends to nodePorts any more.
func TestDelete_OfAProtectedOneClosesIt(t *testing.T) {
	eachKind(t, func(t *testing.T, s scene) {
		want := *providertest.SpecOf(s.Cloud, 80, 443)
		providertest.Reach(t, s, web, &want)
		s.fails("DeleteLoadBalancer", "OperationDenied.DeletionProtectionEnabled")
		deadline := time.Now().Add(time.Minute)
		for {
			_, err := s.Delete(t.Context(), web)
			if !provider.Is(err, provider.Internal) || !strings.Contains(err.Error(), "DeletionProtection") {
				t.Fatalf("%v", err)
			}
			if s.double.Protocols(web.Service) == "" {
				break
			}
			if time.Now().After(deadline) {
				t.Fatal(s.double.Protocols(web.Service))
			}
		}
		s.with(func(c *alibabatest.Cloud) { c.Fault = nil })
		providertest.Reach(t, s, web, nil)
	})
}

// What a port that is there already cannot have is told in the cloud's words.
func TestFault_QuotaOfServers(t *testing.T) {
	for kind, action := range map[string]string{"nlb": "AddServersToServerGroup", "clb": "AddVServerGroupBackendServers"} {
		s := newScene(t, kind)
		want := *providertest.SpecOf(s.Cloud, 80)
		providertest.Reach(t, s, web, &want)
		s.fails(action, "QuotaExceeded.Servers")
		want.Families[0].Members = append(want.Families[0].Members, provider.Member{Address: netip.MustParseAddr("192.0.2.12"), Weight: 1})
		s.puts(t, want, func(o provider.Observed) bool {
			return o.State == provider.Pending && o.Reason == provider.QuotaExceeded && strings.HasPrefix(o.Message, "port 80: ") && strings.Contains(o.Message, "Because.")
		})
	}
}

// One that goes while all are read takes no other one along.
func TestList_WhatGoesMeanwhileIsLeftOut(t *testing.T) {
	s := newScene(t, "clb")
	want := *providertest.SpecOf(s.Cloud, 80)
	for _, name := range []string{"a", "b"} {
		providertest.Reach(t, s, provider.ID{Cluster: "c1", Service: name}, &want)
	}
	for action, code := range map[string]string{"DescribeVServerGroups": "InvalidLoadBalancerId.NotFound", "DescribeVServerGroupAttribute": "InvalidParameter"} {
		first := true
		s.with(func(c *alibabatest.Cloud) {
			c.Fault = func(called string, _ map[string]string) *alibabatest.Fault {
				if called != action || !first {
					return nil
				}
				first = false
				return &alibabatest.Fault{Status: 400, Code: code, Message: "The specified thing does not exist."}
			}
		})
		all, err := s.List(t.Context(), "c1")
		live := 0
		for _, o := range all {
			if o.State == provider.Live {
				live++
			}
		}
		if err != nil || live != 1 {
			t.Errorf("%s: %d of %d are live, %v", action, live, len(all), err)
		}
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
	}
}
