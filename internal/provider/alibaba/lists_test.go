package alibaba

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/external-lb/external-lb/internal/provider/alibaba/alibabatest"
	"github.com/external-lb/external-lb/internal/provider/providertest"
	"github.com/external-lb/external-lb/provider"
	"github.com/external-lb/external-lb/test/wait"
)

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

// One that goes while all are read takes no other one along.
func TestList_WhatGoesMeanwhileIsLeftOut(t *testing.T) {
	s := newScene(t, "clb")
	want := *providertest.SpecOf(s.Cloud, 80)
	want.Families[0].Sources = []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")}
	for _, name := range []string{"a", "b"} {
		providertest.Reach(t, s, provider.ID{Cluster: "c1", Service: name}, &want)
	}
	for action, code := range map[string]string{"DescribeVServerGroups": "InvalidLoadBalancerId.NotFound", "DescribeVServerGroupAttribute": "InvalidParameter",
		"DescribeAccessControlListAttribute": "AclNotExist"} {
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
