package cli

import (
	"context"
	"errors"
	"io"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/spf13/cobra"

	cloud "github.com/external-lb/external-lb/internal/provider/openstack"
	"github.com/external-lb/external-lb/provider"
)

// providerOpenStack are the flags of the command.
type providerOpenStack struct {
	providerServe
	endpoint, project string
	flavors           []string
	cloud.Options
}

func newProviderOpenStack() *cobra.Command {
	var f providerOpenStack
	cmd := &cobra.Command{
		Use:   "openstack",
		Short: "Answer for the load balancers of an OpenStack project",
		Long: `Answer for Octavia, OpenStack's load balancers. Credentials are those of the environment,
as OpenStack's own commands have them: OS_CLOUD and a clouds.yaml, or OS_AUTH_URL and the
others. Give them the role load-balancer_member in one project, and nothing else.

What it makes bears tags with the UIDs of cluster and Service. It touches nothing else.`,
		Example: `  external-lb provider openstack --token-file token --cert tls.crt --key tls.key --listen :8480 \
    --subnet 2b7c8d0a-6f0e-4f0b-9b1c-7a2f6a3d9c11 --nodes 10.0.0.0/16
  external-lb provider openstack --token-file token --subnet 2b7c8d0a-6f0e-4f0b-9b1c-7a2f6a3d9c11 \
    --flavors big=7c2f0b4e-1d5a-4e1f-8f55-0d8e6c2d7a11`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return f.serve(cmd.Context(), cmd.OutOrStdout()) },
	}
	flags := cmd.Flags()
	f.add(cmd)
	flags.StringVar(&f.Subnet, "subnet", "", "ID of the subnet of addresses")
	flags.StringVar(&f.Network, "network", "", "ID of the network of addresses, in place of a subnet")
	flags.StringVar(&f.MemberSubnet, "member-subnet", "", "ID of the subnet through which nodes are reached (default: that of addresses, or what it routes to)")
	flags.StringVar(&f.Flavor, "flavor", "", "ID of the flavor of load balancers (default: Octavia's own)")
	flags.StringSliceVar(&f.flavors, "flavors", nil, "NAME=ID of a flavor that Services may ask for (default: none)")
	flags.StringVar(&f.endpoint, "endpoint", "", "URL of an Octavia that asks for no credentials, as those of tests")
	flags.StringVar(&f.project, "project", "", "ID of the project there")
	return cmd
}

func (f *providerOpenStack) serve(ctx context.Context, out io.Writer) error {
	if (f.Subnet == "") == (f.Network == "") {
		return errors.New("say either --subnet or --network: where load balancers have their addresses")
	}
	var err error
	if f.Flavors, err = offered("--flavors", f.flavors, provider.MaxFlavors); err != nil {
		return err
	}
	return f.providerServe.serve(ctx, out, func(ctx context.Context) (provider.Cloud, error) {
		api, err := f.api(ctx)
		if err == nil {
			err = cloud.CheckVersion(ctx, api)
		}
		return &cloud.Cloud{API: api, Options: f.Options}, err
	})
}

// api of the load-balancer service.
func (f *providerOpenStack) api(ctx context.Context) (*gophercloud.ServiceClient, error) {
	if f.endpoint != "" {
		return cloud.WithoutCredentials(f.endpoint, f.project), nil
	}
	return cloud.Login(ctx)
}
