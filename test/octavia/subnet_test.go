package octavia

import (
	"context"
	"fmt"
	"testing"

	"github.com/gophercloud/gophercloud/v2/openstack/loadbalancer/v2/loadbalancers"
	"github.com/gophercloud/gophercloud/v2/openstack/loadbalancer/v2/pools"

	"github.com/external-lb/external-lb/internal/provider/openstack"
	"github.com/external-lb/external-lb/internal/provider/providertest"
	"github.com/external-lb/external-lb/provider"
	"github.com/external-lb/external-lb/test/wait"
)

// Members are reached through the subnet that is said, and come to another one where that is said later.
func TestMemberSubnet_IsThatOfMembers(t *testing.T) {
	want, id := specOf(80), provider.ID{Cluster: "subnet", Service: "web"}
	env.answers(t, want)
	var c *openstack.Cloud
	for _, subnet := range []string{"", "0f1e2d3c-6f0e-4f0b-9b1c-7a2f6a3d9c11", "1f1e2d3c-6f0e-4f0b-9b1c-7a2f6a3d9c11", ""} {
		c = env.newCloud(Project, providertest.Same)
		c.MemberSubnet = subnet
		providertest.Reach(t, c, id, want)
		got, address, err := env.memberOf(t.Context(), id)
		if err != nil || got.SubnetID != subnet {
			t.Errorf("the member has the subnet %q, want %q: %v", got.SubnetID, subnet, err)
		}
		wait.For(t, func(context.Context) error { _, err := env.ask(address); return err })
	}
	env.ends(t, c, id)
}

// memberOf is the only member of a Service with one port, and the Service's address.
func (s *scene) memberOf(ctx context.Context, id provider.ID) (m pools.Member, address string, err error) {
	api := s.cloud.API(Project)
	all, err := s.cloud.tagged(ctx, loadbalancers.ListOpts{Tags: []string{serviceTag + id.Service}})
	if err != nil || len(all) != 1 || len(all[0].Pools) != 1 {
		return m, "", fmt.Errorf("%+v: %w", all, err)
	}
	page, err := pools.ListMembers(api, all[0].Pools[0].ID, pools.ListMembersOpts{}).AllPages(ctx)
	if err != nil {
		return m, "", err
	}
	members, err := pools.ExtractMembers(page)
	if err != nil || len(members) != 1 {
		return m, "", fmt.Errorf("%+v: %w", members, err)
	}
	return members[0], all[0].VipAddress, nil
}
