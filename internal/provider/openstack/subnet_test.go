package openstack

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/gophercloud/gophercloud/v2/openstack/loadbalancer/v2/pools"

	"github.com/external-lb/external-lb/provider"
)

// batch is what Octavia makes of one of its batches: members are added and removed, and those that stay keep their subnet.
func batch(have []pools.Member, asked []pools.BatchUpdateMemberOpts) (out []pools.Member) {
	for _, a := range asked {
		m := pools.Member{Address: a.Address, ProtocolPort: a.ProtocolPort, Weight: *a.Weight, AdminStateUp: true, ProvisioningStatus: active, SubnetID: subnetOf(a)}
		if a.MonitorPort != nil {
			m.MonitorPort = *a.MonitorPort
		}
		for _, h := range have {
			if h.Address == m.Address && h.ProtocolPort == m.ProtocolPort {
				m.SubnetID = h.SubnetID
			}
		}
		out = append(out, m)
	}
	return out
}

// Members come to another subnet one by one: one at most is away at a time, and none is asked to change its subnet.
func TestThroughOneSubnet_KeepsTheOthers(t *testing.T) {
	for _, way := range [][2]string{{"", "a"}, {"a", "b"}, {"a", ""}} {
		for _, n := range []int{1, 2, 4} {
			want := spec()
			want.Families[0].Members = nil
			for i := range n {
				want.Families[0].Members = append(want.Families[0].Members, provider.Member{Address: netip.AddrFrom4([4]byte{10, 0, 0, byte(i + 1)}), Weight: 1})
			}
			l := want.Listeners[0]
			have := madeThrough(way[0], want).pools[0].members
			wanted := Options{MemberSubnet: way[1]}.wanted(want, l)
			steps := 0
			for ; !sameMembers(have, wanted) && steps < 10; steps++ {
				asked := throughOneSubnet(have, wanted)
				for _, a := range asked {
					i := slices.IndexFunc(have, func(h pools.Member) bool { return h.Address == a.Address })
					if i >= 0 && have[i].SubnetID != subnetOf(a) {
						t.Errorf("%q: %s is asked to change its subnet from %q to %q", way, a.Address, have[i].SubnetID, subnetOf(a))
					}
				}
				if have = batch(have, asked); len(have) < n-1 {
					t.Errorf("%q: %d of %d are there", way, len(have), n)
				}
			}
			if steps != n+1 {
				t.Errorf("%q: %d members took %d steps", way, n, steps)
			}
		}
	}
}

// What stays where new members are refused stays as it is reached.
func TestStaying_AreThoseThatAreThere(t *testing.T) {
	want := spec()
	have := madeThrough("a", want).pools[0].members
	have[0].ProtocolPort++
	stay := staying(have, Options{MemberSubnet: "b"}.wanted(want, want.Listeners[0]))
	if len(stay) != 1 || stay[0].Address != have[1].Address || subnetOf(stay[0]) != "a" {
		t.Errorf("%+v", stay)
	}
}

// What is asked of Octavia names the subnet, and what is read back with it is what is wanted.
func TestMemberSubnet_IsAskedForAndSeen(t *testing.T) {
	want := spec()
	is := madeThrough("b", want)
	if o := is.observed(web); o.State != provider.Live || o.Spec.Digest() != want.Digest() {
		t.Errorf("%+v", o)
	}
	is.pools[1].members = nil
	s, asked := session{Cloud: &Cloud{Options: Options{MemberSubnet: "b"}}}, ""
	for _, m := range s.wanted(want, want.Listeners[1]) {
		asked += fmt.Sprintf("%s through %s;", m.Address, subnetOf(m))
	}
	if !strings.Contains(asked, "10.0.0.1 through b;") || sameMembers(is.pools[1].members, s.wanted(want, want.Listeners[1])) {
		t.Errorf("asked for %s", asked)
	}
	is = madeThrough("b", want)
	is.subnet = ""
	if o := is.observed(web); o.Spec.Digest() == want.Digest() {
		t.Error("a subnet that is not wanted is not seen")
	}
}
