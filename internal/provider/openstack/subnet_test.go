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

// No member leaves its subnet for one that is not there: before the first of a port does, Octavia is asked for it through
// the new one. It says that there is no such subnet, or that the member is there already.
func TestMembers_StayWhereTheirNewSubnetIsNone(t *testing.T) {
	const ask, move = "POST pools/p0/members", "PUT pools/p0/members"
	noSubnet := map[string]string{}
	for _, call := range []string{"POST pools/p0/members", "POST pools/p1/members", "POST pools/p2/members", "PUT pools/p0/members", "PUT pools/p1/members", "PUT pools/p2/members"} {
		noSubnet[call+` "subnet_id":"b"`] = `404 {"faultstring": "Subnet b not found."}`
	}
	there := map[string]string{ask: `409 {"faultstring": "Another member on this pool is already using ip 10.0.0.2 on protocol_port 30443"}`}
	for what, c := range map[string]struct {
		nodes   int
		to      string
		refuses map[string]string
		begin   func(*pool)
		asked   []string
		refused int
		changed bool
	}{
		"one node, no such subnet":    {1, "b", noSubnet, nil, []string{ask, "POST pools/p1/members", "POST pools/p2/members"}, 3, false},
		"two nodes, no such subnet":   {2, "b", noSubnet, nil, []string{ask, "POST pools/p1/members", "POST pools/p2/members"}, 3, false},
		"one node, the subnet is":     {1, "b", there, nil, []string{ask, move}, 0, true},
		"two nodes, the subnet is":    {2, "b", there, nil, []string{ask, move}, 0, true},
		"members over quota":          {1, "b", map[string]string{ask: quota}, nil, []string{ask, move}, 0, true},
		"the member went meanwhile":   {1, "b", nil, nil, []string{ask}, 0, true},
		"no subnet is wanted":         {1, "", nil, nil, []string{move}, 0, true},
		"one is back, another leaves": {2, "b", there, func(p *pool) { p.members[0].SubnetID = "b" }, []string{ask, move}, 0, true},
		"one is away":                 {2, "b", nil, func(p *pool) { p.members = p.members[1:] }, []string{move}, 0, true},
	} {
		want := spec()
		want.Families[0].Members = want.Families[0].Members[:c.nodes]
		is := madeThrough("a", want)
		if is.subnet = c.to; c.begin != nil {
			c.begin(&is.pools[0])
		}
		s, asked, changed := doing(t, is, want, c.refuses)
		if !slices.Equal(asked, c.asked) || len(s.refused) != c.refused || changed != c.changed || int(s.calls.Writes) != len(asked) {
			t.Errorf("%s: asked %q, refused %v, changed %t, %d writes", what, asked, s.refused, changed, s.calls.Writes)
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
