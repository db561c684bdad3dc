package ipam

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/test/builder"
)

func TestParsePools(t *testing.T) {
	pools, problems := parse(
		builder.AddressPool("b", "192.0.2.16/28", "2001:db8::/120").Shared().Manual().Priority(7),
		builder.AddressPool("a", "192.0.2.8-192.0.2.15", "192.0.2.0/29", "192.0.2.4"),
	)
	if len(problems) != 0 || len(pools) != 2 {
		t.Fatalf("%d pools, problems %v", len(pools), problems)
	}
	a, b := pools[0], pools[1]
	if a.Name != "a" || !a.AutoAssign || a.SharePorts || a.Balancer != "edge" || fmt.Sprint(a.ranges) != "[[192.0.2.0-192.0.2.15] []]" {
		t.Errorf("a is %+v", a)
	}
	if b.Name != "b" || b.AutoAssign || !b.SharePorts || b.Priority != 7 || b.capacity(ipv4) != 16 || b.capacity(ipv6) != 256 {
		t.Errorf("b is %+v", b)
	}
	for address, want := range map[string]bool{
		"192.0.2.15": false, "192.0.2.16": true, "192.0.2.31": true, "192.0.2.32": false,
		"2001:db8::ff": true, "2001:db8::100": false,
	} {
		if b.Contains(addrs(address)[0]) != want {
			t.Errorf("b contains %s: %t", address, !want)
		}
	}
}

func TestParsePools_OneBadPoolIsLeftOutWhole(t *testing.T) {
	with := func(change func(*v1alpha1.AddressPoolSpec)) *builder.AddressPoolBuilder {
		return builder.AddressPool("bad", "192.0.2.0/28").With(func(p *v1alpha1.AddressPool) { change(&p.Spec) })
	}
	bad := v1alpha1.LabelSelector{MatchExpressions: []v1alpha1.LabelSelectorRequirement{{Key: "a", Operator: "Near"}}}
	for name, test := range map[string]struct {
		pool *builder.AddressPoolBuilder
		want string
	}{
		"range": {builder.AddressPool("bad", "192.0.2.0/28", "192.0.2.9-192.0.2.1"), "192.0.2.1-192.0.2.9"},
		"all bad are named": {builder.AddressPool("bad", "x", "127.0.0.1"), `"x" is no address: write an address (198.51.100.7), ` +
			`a prefix (192.0.2.0/28) or a range (192.0.2.64-192.0.2.80); spec.addresses: "127.0.0.1" has loopback`},
		"no addresses":      {builder.AddressPool("bad"), "spec.addresses is empty"},
		"no balancer":       {builder.AddressPool("bad", "192.0.2.0/28").Balancer(""), "spec.balancer is empty"},
		"sharing":           {with(func(s *v1alpha1.AddressPoolSpec) { s.Sharing = "All" }), "None or Ports"},
		"serviceSelector":   {with(func(s *v1alpha1.AddressPoolSpec) { s.ServiceSelector = bad }), "correct spec.serviceSelector"},
		"namespaceSelector": {with(func(s *v1alpha1.AddressPoolSpec) { s.NamespaceSelector = bad }), "correct spec.namespaceSelector"},
	} {
		pools, problems := parse(test.pool, builder.AddressPool("good", "192.0.2.0/28"))
		if len(pools) != 1 || pools[0].Name != "good" {
			t.Errorf("%s: accepted %v", name, pools)
		}
		if p := problems["bad"]; p == nil || p.Reason != v1alpha1.ReasonInvalid || !strings.Contains(p.Message, test.want) {
			t.Errorf("%s: problem %v, want %q", name, p, test.want)
		}
	}
}

// Of a pool that is not in force, what can be read is still known, but for what is in
// one that is, or in an older one that is not.
func TestParsePools_WhatIsLeftOfThoseThatAreNotInForce(t *testing.T) {
	near := []v1alpha1.LabelSelectorRequirement{{Key: "a", Operator: "Near"}}
	selective := builder.AddressPool("d-selective", "198.51.100.0/30").Services("tier", "gold").
		With(func(p *v1alpha1.AddressPool) { p.Spec.NamespaceSelector.MatchExpressions = near })
	_, rejected, _ := ParsePools([]v1alpha1.AddressPool{
		*builder.AddressPool("a", "192.0.2.4/30", "192.0.2.12-192.0.2.14", "2001:db8::/126").Obj(),
		*builder.AddressPool("b-overlaps", "192.0.2.0-192.0.2.13", "192.0.2.20", "2001:db8::2-2001:db8::5").Obj(),
		*builder.AddressPool("c-typo", "192.0.2.0/28", "192.0.2.20-192.0.2.21", "192.0.2.33/28").Obj(),
		*selective.Obj(),
	})
	want := []string{
		"b-overlaps [[192.0.2.0-192.0.2.3 192.0.2.8-192.0.2.11 192.0.2.20] [2001:db8::4-2001:db8::5]]",
		"c-typo [[192.0.2.15 192.0.2.21] []]",
		"d-selective [[198.51.100.0-198.51.100.3] []]",
	}
	var got []string
	for _, p := range rejected {
		got = append(got, fmt.Sprint(p.Name, " ", p.ranges))
		if !p.Foreign {
			t.Errorf("%s would give addresses", p.Name)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	gold := &Request{Labels: labels.Set{"tier": "gold"}}
	if p := rejected[2]; p.forbids(&Request{}) == "" || p.forbids(gold) != "" {
		t.Error("the selector that can be read does not count")
	}
}

func TestParsePools_TheOlderOfTwoThatOverlapStays(t *testing.T) {
	type pools []*builder.AddressPoolBuilder
	olderHas := func(older, overlapping, its string) string {
		return fmt.Sprintf("AddressPool %s, which is older, has addresses of %s (%s): take them out of one of the two", older, overlapping, its)
	}
	for name, test := range map[string]struct {
		pools pools
		want  map[string]string // problem, by pool
	}{
		"older by age": {
			pools{builder.AddressPool("a", "192.0.2.0/28"), builder.AddressPool("b", "192.0.2.15").Age(1)},
			map[string]string{"a": olderHas("b", "192.0.2.0-192.0.2.15", "192.0.2.15")},
		},
		"of one age: by name": {
			pools{builder.AddressPool("b", "192.0.2.0/28"), builder.AddressPool("a", "192.0.2.15")},
			map[string]string{"b": olderHas("a", "192.0.2.0-192.0.2.15", "192.0.2.15")},
		},
		"one that is left out blocks nobody": {
			pools{
				builder.AddressPool("a", "192.0.2.0/28").Age(3), builder.AddressPool("b", "192.0.2.8-192.0.2.40").Age(2),
				builder.AddressPool("c", "192.0.2.32/28").Age(1),
			},
			map[string]string{"b": olderHas("a", "192.0.2.8-192.0.2.40", "192.0.2.0-192.0.2.15")},
		},
		"IPv6": {
			pools{builder.AddressPool("a", "192.0.2.0/28", "2001:db8::/64"), builder.AddressPool("b", "192.0.3.0/28", "2001:db8::1")},
			map[string]string{"b": olderHas("a", "2001:db8::1", "2001:db8::-2001:db8::ffff:ffff:ffff:ffff")},
		},
		"neighbours": {
			pools{builder.AddressPool("a", "192.0.2.0/28"), builder.AddressPool("b", "192.0.2.16/28")},
			map[string]string{},
		},
	} {
		for range 2 {
			_, problems := parse(test.pools...)
			got := map[string]string{}
			for pool, p := range problems {
				got[pool] = p.Message
				if p.Reason != v1alpha1.ReasonOverlap {
					t.Errorf("%s: reason %s", name, p.Reason)
				}
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("%s:\n%s", name, diff)
			}
			slices.Reverse(test.pools)
		}
	}
}

func TestParsePools_OverlapsAcrossBalancers(t *testing.T) {
	a, b := builder.AddressPool("a", "192.0.2.0/28"), builder.AddressPool("b", "192.0.2.0/28").Balancer("other")
	if _, problems := parse(a, b); problems["b"] == nil {
		t.Error("two Balancers have one address")
	}
}
