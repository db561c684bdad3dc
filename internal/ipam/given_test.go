package ipam

import (
	"net/netip"
	"testing"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/test/builder"
)

// Where a cloud gives the addresses, each Service has one of its own, whatever its ports, and
// none of the numbers is ours.
func TestAddressesOfACloud(t *testing.T) {
	c := newCluster(t, builder.AddressPool("cloud", v1alpha1.AddressesOfProvider), builder.AddressPool("named", "192.0.2.0/30").Manual())
	one, two, both, pinned, elsewhere := c.add("one"), c.add("two"), c.add("both"), c.add("pinned"), c.add("else")
	both.Families, both.RequireAll = dual(v4, v6), true
	pinned.Requested, elsewhere.Requested = addrs("192.0.2.1"), addrs("198.51.100.1")
	c.publish()
	c.want(one, "0.0.0.0")
	c.want(two, "0.0.0.0")
	c.want(both, "0.0.0.0", "::")
	c.want(pinned, "192.0.2.1")
	c.wantAddresses(elsewhere)
	c.wantProblem(elsewhere, v1alpha1.ReasonAddressUnavailable, "no AddressPool of this Balancer has 198.51.100.1", "of AddressPool cloud the cloud chooses the addresses")
	if u := c.usage["cloud"]; u != (Usage{}) {
		t.Errorf("usage %+v", u)
	}

	one.Requested = addrs("198.51.100.1")
	c.assign()
	c.wantAddresses(one, "0.0.0.0")
	c.wantProblem(one, v1alpha1.ReasonAddressUnavailable, "until then the Service keeps the IPv4 address that the cloud gives")

	// Who was told of an address keeps it when the pool goes; who was not does not.
	one.Requested, two.Published = nil, nil
	c.setPools(builder.AddressPool("named", "192.0.2.0/30").Manual())
	late := c.add("late")
	c.assign()
	c.want(one, "0.0.0.0")
	c.wantNotice(one, "keeps the IPv4 address that the cloud gives")
	c.wantAddresses(two)
	c.wantAddresses(late)
	c.wantProblem(late, v1alpha1.ReasonNoPool)
}

// Of a family that the cloud does not give, nobody has an address.
func TestAddressesOfACloud_OfOneFamily(t *testing.T) {
	c := newCluster(t, builder.AddressPool("cloud", v1alpha1.AddressesOfProvider))
	s := c.add("s")
	s.Families = dual(v6, v4)
	c.assign()
	c.want(s, "::", "0.0.0.0")
	s.Recorded = c.got[s.UID].Addresses // before the cloud was asked what it can do
	c.pools[0] = c.pools[0].Giving([]string{"IPv4"})
	c.assign()
	c.wantAddresses(s, "0.0.0.0")
	c.wantProblem(s, v1alpha1.ReasonNoPool, "has IPv6 addresses")
}

// A record that was lost is made again from what the Service shows: by the cloud, not by number.
func TestAddressesOfACloud_AfterTheRecordIsLost(t *testing.T) {
	c := newCluster(t, builder.AddressPool("cloud", v1alpha1.AddressesOfProvider))
	s, other := c.add("s"), c.add("other")
	s.Shown, s.ShownByUs = []netip.Addr{netip.MustParseAddr("203.0.113.7")}, true
	other.Shown = s.Shown // another provider's
	c.assign()
	c.want(s, "0.0.0.0")
	c.want(other, "0.0.0.0")
}

func TestAddressesOfACloud_StandAlone(t *testing.T) {
	for name, b := range map[string]*builder.AddressPoolBuilder{
		"beside others": builder.AddressPool("p", v1alpha1.AddressesOfProvider, "192.0.2.1"),
		"shared":        builder.AddressPool("p", v1alpha1.AddressesOfProvider).Shared(),
	} {
		if _, problems := parse(b); problems["p"] == nil || problems["p"].Reason != v1alpha1.ReasonInvalid {
			t.Errorf("%s: %+v", name, problems)
		}
	}
}
