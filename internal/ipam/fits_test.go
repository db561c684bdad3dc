package ipam

import (
	"net/netip"
	"testing"

	"k8s.io/apimachinery/pkg/labels"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/test/builder"
)

func TestFits(t *testing.T) {
	pools, _ := parse( // by name
		builder.AddressPool("auto", "192.0.2.0/28").Namespaces("team", "red"),
		builder.AddressPool("manual", "198.51.100.0/28").Manual())
	for name, c := range map[string]struct {
		request Request
		want    [2]bool
	}{
		"nothing requested": {Request{NamespaceLabels: labels.Set{"team": "red"}}, [2]bool{true, false}},
		"another namespace": {Request{}, [2]bool{false, false}},
		"a pool":            {Request{Pool: "manual"}, [2]bool{false, true}},
		"an address":        {Request{Requested: []netip.Addr{netip.MustParseAddr("198.51.100.3")}}, [2]bool{false, true}},
	} {
		if got := [2]bool{pools[0].Fits(&c.request), pools[1].Fits(&c.request)}; got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

// Of a pool that is another Balancer's by now, who has an address keeps it,
// published or not, and nobody gets one, by name or without.
func TestForeignPool(t *testing.T) {
	c := newCluster(t, builder.AddressPool("gone", "192.0.2.0/30"), builder.AddressPool("here", "198.51.100.0/30"))
	s1 := c.add("s1")
	s1.Pool = "gone"
	c.publish()
	c.want(s1, "192.0.2.0")
	s1.Published = nil
	c.pools[0].Foreign = true
	anywhere, address, named := c.add("anywhere"), c.add("address"), c.add("named")
	address.Requested, named.Pool = addrs("192.0.2.1"), "gone"
	c.assign()
	c.want(s1, "192.0.2.0")
	c.wantNotice(s1, "no AddressPool of this Balancer has 192.0.2.0 any more")
	c.want(anywhere, "198.51.100.0")
	c.wantProblem(address, v1alpha1.ReasonAddressUnavailable, "no AddressPool of this Balancer has 192.0.2.1")
	c.wantProblem(named, v1alpha1.ReasonNoPool, "not in force for this Balancer")
}
