package openstack

import (
	"context"
	"errors"
	"slices"

	"github.com/gophercloud/gophercloud/v2/openstack/loadbalancer/v2/pools"

	"github.com/external-lb/external-lb/provider"
)

// members of pools that are there become those that are wanted, with their nodePorts.
func (s *session) members(ctx context.Context, t *tree, want provider.Spec) (bool, error) {
	for _, l := range want.Listeners {
		p := t.pool(l)
		if p == nil || !p.works() { // what is in ERROR takes no change: see mend
			continue
		}
		wanted, d := s.wanted(want, l), describe(want, l)
		var change func() error
		switch {
		case !sameMembers(p.members, wanted):
			change = func() error {
				if done, err := s.takesSubnet(ctx, p, wanted); done || err != nil {
					return err
				}
				return pools.BatchUpdateMembers(ctx, s.API, p.ID, throughOneSubnet(p.members, wanted)).ExtractErr()
			}
		case p.Description != d:
			change = func() error {
				return pools.Update(ctx, s.API, p.ID, pools.UpdateOpts{Description: &d, LBMethod: pools.LBMethod(method(want, l))}).Err
			}
		default:
			continue
		}
		if changed, err := s.forPort(l, change); changed || err != nil {
			return changed, err
		}
		// Where new members are refused, old ones go nevertheless: their nodePort may be somebody else's.
		if stay := staying(p.members, wanted); len(stay) < len(p.members) {
			return true, pools.BatchUpdateMembers(ctx, s.API, p.ID, stay).ExtractErr()
		}
	}
	return false, nil
}

// wanted members of a port's pool.
func (o Options) wanted(want provider.Spec, l provider.Listener) []pools.BatchUpdateMemberOpts {
	out := []pools.BatchUpdateMemberOpts{}
	for _, m := range want.Families[0].Members {
		member := pools.BatchUpdateMemberOpts{Address: m.Address.String(), ProtocolPort: int(l.NodePort), Weight: new(int(m.Weight))}
		if port := l.Settings.HealthCheck.Port; port != 0 {
			member.MonitorPort = new(int(port))
		}
		out = append(out, through(o.MemberSubnet, member))
	}
	return out
}

// throughOneSubnet is what to ask for next, so that members which are reached through another subnet than is wanted come
// to that one. Octavia does not change the subnet of a member: it is removed, and made anew. One goes at a time, when
// the last one is back, so that the others carry on.
func throughOneSubnet(have []pools.Member, wanted []pools.BatchUpdateMemberOpts) []pools.BatchUpdateMemberOpts {
	out := []pools.BatchUpdateMemberOpts{}
	gone := false
	for _, w := range wanted {
		h := memberAt(have, w)
		if h == nil || h.SubnetID == subnetOf(w) {
			out = append(out, w)
		} else if gone {
			out = append(out, through(h.SubnetID, w))
		}
		gone = gone || h != nil && h.SubnetID != subnetOf(w)
	}
	return out
}

// takesSubnet is an error where members of a pool are to come to another subnet, and Octavia does not know that one: else
// each would leave, and not come back. Before the first one leaves, Octavia is asked for it once more, through the new
// subnet. It looks for the subnet first, and then says that the member is there. Where it is not any more, it is made:
// then this is the change.
func (s *session) takesSubnet(ctx context.Context, p *pool, wanted []pools.BatchUpdateMemberOpts) (changed bool, _ error) {
	var leaves *pools.BatchUpdateMemberOpts
	for i := range wanted {
		switch h := memberAt(p.members, wanted[i]); {
		case h == nil: // it comes through the new subnet, with the same request that removes the next one
			return false, nil
		case leaves == nil && h.SubnetID != subnetOf(wanted[i]):
			leaves = &wanted[i]
		}
	}
	if leaves == nil || subnetOf(*leaves) == "" {
		return false, nil
	}
	err := said(pools.CreateMember(ctx, s.API, p.ID, pools.CreateMemberOpts{
		Address: leaves.Address, ProtocolPort: leaves.ProtocolPort, Weight: leaves.Weight, MonitorPort: leaves.MonitorPort, SubnetID: *leaves.SubnetID,
	}).Err)
	e, _ := errors.AsType[*provider.Error](err)
	if e != nil && (e.Code == provider.AddressTaken || e.Code == provider.QuotaExceeded || e.Code == provider.Internal) { // Octavia has seen the subnet by then
		s.calls.Writes++
		return false, nil
	}
	return err == nil, err
}

// staying are those members of the wanted ones that are there, through which subnet they may be.
func staying(have []pools.Member, wanted []pools.BatchUpdateMemberOpts) []pools.BatchUpdateMemberOpts {
	out := []pools.BatchUpdateMemberOpts{}
	for _, w := range wanted {
		if h := memberAt(have, w); h != nil {
			out = append(out, through(h.SubnetID, w))
		}
	}
	return out
}

// memberAt is who gets traffic at an address and port, or nil.
func memberAt(have []pools.Member, at pools.BatchUpdateMemberOpts) *pools.Member {
	for i := range have {
		if have[i].Address == at.Address && have[i].ProtocolPort == at.ProtocolPort {
			return &have[i]
		}
	}
	return nil
}

func through(subnet string, m pools.BatchUpdateMemberOpts) pools.BatchUpdateMemberOpts {
	if m.SubnetID = nil; subnet != "" {
		m.SubnetID = &subnet
	}
	return m
}

func subnetOf(m pools.BatchUpdateMemberOpts) string {
	if m.SubnetID == nil {
		return ""
	}
	return *m.SubnetID
}

func sameMembers(have []pools.Member, want []pools.BatchUpdateMemberOpts) bool {
	return len(have) == len(want) && !slices.ContainsFunc(want, func(w pools.BatchUpdateMemberOpts) bool { return !hasMember(have, w) })
}

// hasMember reports whether a member is there as it is wanted.
func hasMember(have []pools.Member, want pools.BatchUpdateMemberOpts) bool {
	port := 0
	if want.MonitorPort != nil {
		port = *want.MonitorPort
	}
	h := memberAt(have, want)
	return h != nil && h.Weight == *want.Weight && h.MonitorPort == port &&
		h.AdminStateUp && !h.Backup && h.MonitorAddress == "" && h.SubnetID == subnetOf(want)
}
