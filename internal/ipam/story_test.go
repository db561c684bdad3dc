package ipam

import (
	"net/netip"
	"slices"
	"testing"

	"k8s.io/apimachinery/pkg/types"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/lb"
	"github.com/external-lb/external-lb/test/builder"
)

func TestS33_AnAddressIsFreeOnceItsWithdrawalIsConfirmed(t *testing.T) {
	c := newCluster(t, builder.AddressPool("p", "192.0.2.1"))
	s1 := c.add("s1")
	c.publish()
	c.want(s1, "192.0.2.1")

	// s2 can't grab s1's address
	s2 := c.add("s2")
	c.publish()
	c.want(s1, "192.0.2.1")
	c.wantWaits(s2, "default/s1")

	// s1 is deleted, but its withdrawal is not confirmed
	s1.Withdrawing = true
	c.publish()
	c.wantWaits(s2, "default/s1")

	// the API server cleared its status: our record is enough
	s1.Published = nil
	c.publish()
	c.wantWaits(s2, "default/s1")

	// s1 frees it, now s2 gets it
	c.remove(s1)
	c.publish()
	c.want(s2, "192.0.2.1")

	// s1 is made again with another UID
	s1 = c.add("s1")
	s1.UID = "uid-s1-again"
	c.publish()
	c.want(s2, "192.0.2.1")
	c.wantWaits(s1, "default/s2")
}

func (c *cluster) wantWaits(r *Request, holder string) {
	c.t.Helper()
	c.wantAddresses(r)
	c.wantProblem(r, v1alpha1.ReasonAddressUnavailable, holder)
}

func TestS33_WhoeverChangesTypeAndBackGetsNoAddressThatSomebodyHasByNow(t *testing.T) {
	c := newCluster(t, builder.AddressPool("p", "192.0.2.1", "192.0.2.2"))
	s1 := c.add("s1")
	c.publish()
	// to ClusterIP: withdrawn, and the record goes; s2 gets the address
	c.remove(s1)
	s2 := c.add("s2")
	c.publish()
	c.want(s2, "192.0.2.1")
	// back, with a record that should not be there
	s1.Recorded, s1.Published = addrs("192.0.2.1"), nil
	c.requests = append(c.requests, s1)
	c.publish()
	c.want(s1, "192.0.2.2")
	c.want(s2, "192.0.2.1")
}

func TestS33_AServiceThatLeavesWithoutPortsHoldsAllOfItsAddress(t *testing.T) {
	c := newCluster(t, builder.AddressPool("p", "192.0.2.1").Shared())
	s1, s2 := c.add("s1"), c.add("s2")
	s2.Ports = ports(443)
	c.publish()
	s1.Withdrawing, s1.Ports, s1.Published = true, nil, nil // an ExternalName now
	s3 := c.add("s3")
	s3.Ports = ports(8080)
	c.publish()
	c.want(s2, "192.0.2.1")
	c.wantConflicts(s2)
	c.wantAddresses(s3)
	c.wantProblem(s3, v1alpha1.ReasonAddressUnavailable, "default/s1", "withdrawal is confirmed")
	c.remove(s1)
	c.publish()
	c.want(s3, "192.0.2.1")
}

func TestS16_ProtocolsOfOnePortDoNotCollide(t *testing.T) {
	c := newCluster(t, builder.AddressPool("p", "192.0.2.1").Shared())
	tcp, udp := c.add("tcp"), c.add("udp")
	udp.Ports = []Port{{lb.UDP, 80}}
	c.publish()
	c.want(tcp, "192.0.2.1")
	c.want(udp, "192.0.2.1")
}

func TestS35_ARestartChangesNothing(t *testing.T) {
	c := newCluster(t, builder.AddressPool("p", "192.0.2.1-192.0.2.3"))
	s1, s2, s3 := c.add("s1"), c.add("s2"), c.add("s3")
	// crashed: s3 published, s2 on record, s1 not yet
	s3.Recorded, s3.Published = addrs("192.0.2.1"), addrs("192.0.2.1")
	s2.Recorded = addrs("192.0.2.2")
	for range 3 {
		c.publish()
		c.want(s1, "192.0.2.3")
		c.want(s2, "192.0.2.2")
		c.want(s3, "192.0.2.1")
	}
}

func TestS35_WhatIsPublishedGoesBeforeWhatIsRecorded(t *testing.T) {
	c := newCluster(t, builder.AddressPool("p", "192.0.2.1-192.0.2.2"))
	s1, s2 := c.add("s1"), c.add("s2")
	s1.Recorded = addrs("192.0.2.2") // as it should not be: s2 has it
	s2.Recorded, s2.Published = addrs("192.0.2.2"), addrs("192.0.2.2")
	c.publish()
	c.want(s1, "192.0.2.1")
	c.want(s2, "192.0.2.2")
}

func TestS35_WhatIsNotPublishedIsKeptOnlyWhereTheServiceMayBe(t *testing.T) {
	for name, test := range map[string]struct{ recorded, pool, want string }{
		"in no pool":           {"203.0.113.1", "", "192.0.2.0"},
		"selectors forbid it":  {"192.0.2.65", "", "192.0.2.0"},
		"not the named pool's": {"192.0.2.1", "named", "192.0.2.32"},
		"an IPv4-mapped one":   {"::ffff:192.0.2.33", "named", "192.0.2.32"},
		"kept":                 {"192.0.2.33", "named", "192.0.2.33"},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t,
				builder.AddressPool("any", "192.0.2.0/28"), builder.AddressPool("named", "192.0.2.32/28"),
				builder.AddressPool("gold", "192.0.2.64/28").Services("tier", "gold"))
			s := c.add("s")
			s.Pool, s.Recorded = test.pool, addrs(test.recorded)
			c.publish()
			c.want(s, test.want)
			c.assign() // a host may have what was on record, until it is not
			if left := c.got[s.UID].Leaving; len(left) > 0 {
				t.Errorf("it leaves %v though that is not on record any more", left)
			}
			s.Recorded = addrs(test.recorded)
			c.assign()
			if a := addrs(test.recorded)[0]; plain(a) && a != addrs(test.want)[0] && !slices.Contains(c.got[s.UID].Leaving, a) {
				t.Errorf("%s is not held", a)
			}
		})
	}
}

func TestS35_NobodyGetsWhatIsBeingLeft(t *testing.T) {
	c := newCluster(t, builder.AddressPool("p", "192.0.2.1-192.0.2.3"))
	s1, s2 := c.add("s1"), c.add("s2")
	s1.Recorded = addrs("192.0.2.1") // as it should not be: s2 is still published there
	s2.Published, s2.Recorded = addrs("192.0.2.1"), addrs("192.0.2.2", "192.0.2.1")
	c.publish()
	c.want(s1, "192.0.2.3")
	c.want(s2, "192.0.2.2")
}

// s2 was assigned what is on its record, and nothing is published yet.
func TestS35_NobodyTakesAnAddressByTheEndOfTheirRecord(t *testing.T) {
	for name, write := range map[string]func(older *Request){
		"behind its own":          func(r *Request) { r.Recorded = append(r.Recorded, addrs("192.0.2.2")...) },
		"of another family":       func(r *Request) { r.Families, r.Recorded = dual(v6, v6)[:1], addrs("192.0.2.2") },
		"while it is withdrawing": func(r *Request) { r.Recorded, r.Withdrawing = append(r.Recorded, addrs("192.0.2.2")...), true },
	} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t, builder.AddressPool("p", "192.0.2.1-192.0.2.3"))
			s1, s2 := c.add("s1"), c.add("s2")
			s1.Recorded, s1.Published = addrs("192.0.2.1"), addrs("192.0.2.1")
			s2.Recorded = addrs("192.0.2.2")
			write(s1)
			c.assign()
			c.want(s2, "192.0.2.2")
		})
	}
}

// Whoever asks for one address after the other, while no host lets go of any, holds a few.
func TestS35_NobodyHoldsAWholePool(t *testing.T) {
	c := newCluster(t, builder.AddressPool("p", "192.0.2.0/24"))
	greedy := c.add("greedy")
	for a := addrs("192.0.2.0")[0]; a != addrs("192.0.2.99")[0]; a = a.Next() {
		greedy.Requested = []netip.Addr{a}
		c.assign()
		greedy.Recorded = slices.Concat(c.got[greedy.UID].Addresses, c.got[greedy.UID].Leaving)
	}
	if n := c.usage["p"].IPv4.Assigned; n != maxHeld {
		t.Errorf("holds %d addresses", n)
	}
	c.wantProblem(greedy, v1alpha1.ReasonAddressUnavailable, "holds 16 addresses")
	greedy.Recorded = c.got[greedy.UID].Addresses // the hosts have let go
	c.assign()
	c.want(greedy, "192.0.2.98")
}

func TestS09_WhatSomebodyElseWritesIntoAStatusIsNotAdopted(t *testing.T) {
	for _, written := range []string{"203.0.113.9", "192.0.2.9", "fe80::1%eth0"} {
		c := newCluster(t, builder.AddressPool("p", "192.0.2.0/28"))
		s := c.add("s")
		c.publish()
		s.Published = addrs(written)
		c.publish()
		c.want(s, "192.0.2.0")
		// wiped
		s.Published = nil
		c.publish()
		c.want(s, "192.0.2.0")
	}
}

func TestS09_WhatWeHaveShownOutlivesItsRecord(t *testing.T) {
	c := newCluster(t, builder.AddressPool("p", "192.0.2.0/28"), builder.AddressPool("gold", "192.0.2.64/28").Services("tier", "gold"))
	older, s1, s2, s3, s4, s5 := c.add("older"), c.add("s1"), c.add("s2"), c.add("s3"), c.add("s4"), c.add("s5")
	s1.Shown, s1.ShownByUs = addrs("192.0.2.0"), true
	s2.Shown, s2.ShownByUs = addrs("192.0.2.64"), true // its pool would not give it now
	s3.Shown, s3.ShownByUs = addrs("192.0.2.8"), true  // somebody else has it
	s4.Published, s4.Recorded = addrs("192.0.2.8"), addrs("192.0.2.8")
	s5.Requested = addrs("192.0.2.64")
	c.publish()
	c.want(older, "192.0.2.1")
	c.want(s1, "192.0.2.0")
	c.wantAddresses(s2, "192.0.2.64")
	c.want(s3, "192.0.2.2")
	c.want(s4, "192.0.2.8")
	c.wantAddresses(s5)
}

// It stays too where its Service requires an address of another family, which there is not.
func TestS09_WhatIsShownOutlivesItsRecordWithoutTheOtherFamily(t *testing.T) {
	c := newCluster(t, builder.AddressPool("p", "192.0.2.0/28"))
	ours, anothers, new := c.add("ours"), c.add("anothers"), c.add("new")
	for _, r := range []*Request{ours, anothers, new} {
		r.Families, r.RequireAll = dual(v4, v6), true
	}
	ours.Shown, ours.ShownByUs = addrs("192.0.2.4"), true
	anothers.Shown = addrs("192.0.2.5")
	c.publish()
	c.wantAddresses(ours, "192.0.2.4")
	c.wantAddresses(anothers, "192.0.2.5")
	c.wantAddresses(new)
}

func TestS30_WhatAnotherProviderShowsIsAWish(t *testing.T) {
	c := newCluster(t, builder.AddressPool("p", "192.0.2.0/28"), builder.AddressPool("gold", "192.0.2.64/28").Services("tier", "gold"))
	s1, s2, s3, s4 := c.add("s1"), c.add("s2"), c.add("s3"), c.add("s4")
	s1.Shown, s2.Shown, s3.Shown, s4.Shown = addrs("192.0.2.9"), addrs("192.0.2.64"), addrs("203.0.113.1"), addrs("192.0.2.9")
	c.publish()
	c.want(s1, "192.0.2.9")
	c.want(s2, "192.0.2.0")
	c.want(s3, "192.0.2.1")
	c.want(s4, "192.0.2.2")
}

func TestS33_UsageCountsWhatIsHeld(t *testing.T) {
	c := newCluster(t, builder.AddressPool("p", "192.0.2.0/30", "2001:db8::/64").Shared(), builder.AddressPool("q", "198.51.100.1"))
	s1, s2, s3 := c.add("s1"), c.add("s2"), c.add("s3")
	s1.Families = dual(v4, v6)
	s2.Requested, s2.Ports = addrs("192.0.2.0"), ports(81)
	s3.Recorded, s3.Published, s3.Withdrawing = addrs("192.0.2.2"), addrs("192.0.2.2"), true
	c.assign()
	want := map[string]Usage{
		"p": {IPv4: FamilyUsage{4, 2}, IPv6: FamilyUsage{maxCapacity, 1}},
		"q": {IPv4: FamilyUsage{1, 0}},
	}
	for name, u := range want {
		if c.usage[name] != u {
			t.Errorf("usage of %s is %+v, want %+v", name, c.usage[name], u)
		}
	}
	if len(c.got) != 3 || len(c.got[types.UID("uid-s3")].Addresses) != 1 {
		t.Errorf("got %v", c.got)
	}
}
