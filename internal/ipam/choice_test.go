package ipam

import (
	"testing"

	"k8s.io/apimachinery/pkg/labels"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/lb"
	"github.com/external-lb/external-lb/test/builder"
)

func TestS10_OneAddressPerFamilyInOrder(t *testing.T) {
	c := newCluster(t, builder.AddressPool("p", "192.0.2.0/28", "2001:db8::/120"))
	s1, s2 := c.add("s1"), c.add("s2")
	s1.Families, s2.Families = dual(v4, v6), dual(v6, v4)
	c.publish()
	c.want(s1, "192.0.2.0", "2001:db8::")
	c.want(s2, "2001:db8::1", "192.0.2.1")
}

func TestS10_TheSecondaryFamilyComesAndGoesTheFirstAddressStays(t *testing.T) {
	c := newCluster(t, builder.AddressPool("p", "192.0.2.0/28", "2001:db8::/120"))
	c.add("before")
	s := c.add("s")
	c.publish()
	c.want(s, "192.0.2.1")
	s.Families = dual(v4, v6)
	c.publish()
	c.want(s, "192.0.2.1", "2001:db8::")
	s.Families = s.Families[:1]
	// held until users were told that it is gone
	other := c.add("other")
	other.Families = dual(v6, v4)
	c.publish()
	c.want(s, "192.0.2.1")
	c.want(other, "2001:db8::1", "192.0.2.2")
	last := c.add("last")
	last.Families = dual(v6, v4)
	c.publish()
	c.want(last, "2001:db8::", "192.0.2.3")
}

func TestS10_PreferDualStackTakesWhatThereIs(t *testing.T) {
	c := newCluster(t, builder.AddressPool("p", "192.0.2.0/28"))
	s := c.add("s")
	s.Families = dual(v6, v4)
	c.publish()
	c.wantAddresses(s, "192.0.2.0")
	c.wantProblem(s, v1alpha1.ReasonNoPool, "IPv6")
	c.setPools(builder.AddressPool("p", "192.0.2.0/28", "2001:db8::/120"))
	c.publish()
	c.want(s, "2001:db8::", "192.0.2.0")
}

func TestS10_RequireDualStackTakesAllOrNothing(t *testing.T) {
	c := newCluster(t, builder.AddressPool("p", "192.0.2.0/30"))
	s := c.add("s")
	s.Families, s.RequireAll = dual(v4, v6), true
	c.publish()
	c.wantAddresses(s)
	c.wantProblem(s, v1alpha1.ReasonNoPool, "IPv6", "RequireDualStack")
	if c.usage["p"].IPv4.Assigned != 0 {
		t.Error("holds an address that it did not get")
	}

	// what is on record only is not published alone
	s.Recorded = addrs("192.0.2.1")
	c.assign()
	c.wantAddresses(s)

	// what is published is never taken away
	s.Recorded, s.Published = addrs("192.0.2.1"), addrs("192.0.2.1")
	c.publish()
	c.wantAddresses(s, "192.0.2.1")
	c.wantProblem(s, v1alpha1.ReasonNoPool, "IPv6")

	// nor does it finish a move
	s.Recorded = addrs("192.0.2.2", "192.0.2.1")
	c.publish()
	c.wantAddresses(s, "192.0.2.1")

	c.setPools(builder.AddressPool("p", "192.0.2.0/30", "2001:db8::1"))
	c.publish()
	c.want(s, "192.0.2.1", "2001:db8::1")
}

func TestPoolsInTheOrderOfTheirPriority(t *testing.T) {
	c := newCluster(t,
		builder.AddressPool("a", "192.0.2.1"),
		builder.AddressPool("c", "192.0.2.3").Priority(5), builder.AddressPool("b", "192.0.2.2").Priority(5),
		builder.AddressPool("manual", "192.0.2.9").Manual().Priority(9))
	for _, want := range []string{"192.0.2.2", "192.0.2.3", "192.0.2.1"} {
		s := c.add("s" + want)
		c.publish()
		c.want(s, want)
	}
	last := c.add("last")
	c.publish()
	c.wantAddresses(last)
	c.wantProblem(last, v1alpha1.ReasonPoolExhausted, "AddressPool b, c, a", "192.0.2.2 is held by Service")
}

func TestPoolsWhoseSelectorsMatch(t *testing.T) {
	c := newCluster(t,
		builder.AddressPool("gold", "192.0.2.1").Services("tier", "gold").Priority(1),
		builder.AddressPool("team", "192.0.2.2").Namespaces("team", "a"))
	gold, team, none := c.add("gold"), c.add("team"), c.add("none")
	gold.Labels = labels.Set{"tier": "gold"}
	team.NamespaceLabels = labels.Set{"team": "a"}
	c.publish()
	c.want(gold, "192.0.2.1")
	c.want(team, "192.0.2.2")
	c.wantProblem(none, v1alpha1.ReasonNoPool, "selectors")

	// labels change, addresses do not; it says so
	gold.Labels = nil
	c.publish()
	c.want(gold, "192.0.2.1")
	c.wantNotice(gold, "serviceSelector of AddressPool gold")
	c.wantNotice(team, "")
}

func TestNoPools(t *testing.T) {
	c := newCluster(t)
	s := c.add("s")
	c.publish()
	c.wantProblem(s, v1alpha1.ReasonNoPool, "create one")
}

func TestNamedPool(t *testing.T) {
	c := newCluster(t,
		builder.AddressPool("a", "192.0.2.0/28"), builder.AddressPool("manual", "198.51.100.0/28").Manual(),
		builder.AddressPool("gold", "192.0.2.64").Services("tier", "gold"))
	s1, s2, s3, s4 := c.add("s1"), c.add("s2"), c.add("s3"), c.add("s4")
	s1.Pool, s2.Pool, s3.Pool, s4.Pool = "manual", "nowhere", "gold", "a"
	s4.Families = dual(v6, v4)
	c.publish()
	c.want(s1, "198.51.100.0")
	c.wantProblem(s2, v1alpha1.ReasonNoPool, `"nowhere"`)
	c.wantProblem(s3, v1alpha1.ReasonNoPool, "serviceSelector of AddressPool gold")
	c.wantProblem(s4, v1alpha1.ReasonNoPool, "AddressPool a does not have IPv6 addresses")

	// another name does not move what is published
	s1.Pool = "a"
	c.publish()
	c.want(s1, "198.51.100.0")
	c.wantNotice(s1, "keeps 198.51.100.0 of AddressPool manual")
}

func TestAnEditOfAPoolMovesNobody(t *testing.T) {
	c := newCluster(t, builder.AddressPool("p", "192.0.2.0/28"))
	s := c.add("s")
	c.publish()
	c.setPools(builder.AddressPool("p", "198.51.100.0/28"))
	s.Ports = ports(80, 443)
	c.publish()
	c.want(s, "192.0.2.0")
	c.wantNotice(s, "no AddressPool of this Balancer has 192.0.2.0 any more")
	c.setPools()
	c.publish()
	c.want(s, "192.0.2.0")
}

func TestFreeAddressesBeforeSharedOnes(t *testing.T) {
	c := newCluster(t, builder.AddressPool("p", "192.0.2.1-192.0.2.2").Shared())
	for _, step := range []struct {
		name  string
		ports []Port
		want  string
	}{
		{"a", ports(80), "192.0.2.1"},
		{"b", ports(443), "192.0.2.2"},
		{"c", ports(443), "192.0.2.1"},
		{"d", ports(80, 81), "192.0.2.2"},
		{"e", ports(81), "192.0.2.1"},
		{"f", []Port{{lb.UDP, 80}}, "192.0.2.1"},
		{"g", ports(82, 443), ""},
		{"h", ports(82), "192.0.2.1"},
	} {
		s := c.add(step.name)
		s.Ports = step.ports
		c.publish()
		if step.want == "" {
			c.wantAddresses(s)
			c.wantProblem(s, v1alpha1.ReasonPoolExhausted, "192.0.2.1:443/TCP is held by Service default/c")
			c.remove(s)
			continue
		}
		c.want(s, step.want)
	}
}

func TestSharingThatEndsMovesNobody(t *testing.T) {
	c := newCluster(t, builder.AddressPool("p", "192.0.2.1").Shared())
	s1, s2 := c.add("s1"), c.add("s2")
	s2.Ports = ports(81)
	c.publish()
	c.setPools(builder.AddressPool("p", "192.0.2.1"))
	c.publish()
	c.want(s1, "192.0.2.1")
	c.want(s2, "192.0.2.1")
}

func TestHugeRanges(t *testing.T) {
	c := newCluster(t, builder.AddressPool("p", "2001:db8::/32"))
	for _, want := range []string{"2001:db8::", "2001:db8::1", "2001:db8::2"} {
		s := c.add("s" + want)
		s.Families = dual(v6, v6)
		c.publish()
		c.want(s, want)
	}
}

func TestRangesAreFilledInOrder(t *testing.T) {
	c := newCluster(t, builder.AddressPool("p", "192.0.2.9", "255.255.255.254", "192.0.2.1-192.0.2.2"))
	for _, want := range []string{"192.0.2.1", "192.0.2.2", "192.0.2.9", "255.255.255.254"} {
		s := c.add("s" + want)
		c.publish()
		c.want(s, want)
	}
}

func TestManyAtOnceFillSharedAddressesInOrder(t *testing.T) {
	c := newCluster(t, builder.AddressPool("p", "192.0.2.1-192.0.2.3").Shared())
	leaving := c.add("leaving")
	leaving.Ports, leaving.Withdrawing, leaving.Recorded = nil, true, addrs("192.0.2.2") // nothing is known of its ports
	for i, want := range []struct {
		ports   []Port
		address string
	}{
		{ports(80), "192.0.2.1"},
		{ports(80, 443), "192.0.2.3"},
		{ports(443), "192.0.2.1"},
		{ports(80), ""},
		{ports(80, 81), ""},
		{ports(81), "192.0.2.1"},
		{ports(81), "192.0.2.3"},
		{ports(81, 82), ""},
		{ports(82), "192.0.2.1"},
	} {
		s := c.add(string(rune('a' + i)))
		s.Ports = want.ports
		defer func() {
			if want.address == "" {
				c.wantAddresses(s)
				c.wantProblem(s, v1alpha1.ReasonPoolExhausted, "192.0.2.1:")
				return
			}
			c.want(s, want.address)
		}()
	}
	c.assign()
}

func TestOneProblemTellsAll(t *testing.T) {
	c := newCluster(t, builder.AddressPool("p", "192.0.2.1").Shared())
	s1, s2 := c.add("s1"), c.add("s2")
	s1.Ports = ports(1, 2, 3, 4, 5, 6)
	s2.Ports = ports(7)
	c.publish()
	s2.Ports = ports(1, 2, 3, 4, 5, 6, 7)
	s2.Families = dual(v4, v6)
	c.publish()
	c.wantAddresses(s2, "192.0.2.1")
	c.wantProblem(s2, v1alpha1.ReasonNoPool, "IPv6", "192.0.2.1:1/TCP", "192.0.2.1:4/TCP", "2 more listeners")
}
