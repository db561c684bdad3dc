package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strings"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack"
	"github.com/spf13/cobra"

	"github.com/external-lb/external-lb/internal/admit"
	cloud "github.com/external-lb/external-lb/internal/provider/openstack"
	"github.com/external-lb/external-lb/provider"
)

// providerOpenStack are the flags of the command.
type providerOpenStack struct {
	listen, cert, key, tokenFile string
	nodes                        []string
	nodePorts, endpoint, project string
	cloud.Options
}

func newProviderOpenStack() *cobra.Command {
	var f providerOpenStack
	cmd := &cobra.Command{
		Use:   "openstack",
		Short: "Answer for the load balancers of an OpenStack project",
		Long: `Answer for Octavia, OpenStack's load balancers. Credentials are those of the environment,
as OpenStack's own commands have them: OS_AUTH_URL and the others. Give them the role
load-balancer_member in one project, and nothing else.

What it makes bears tags with the UIDs of cluster and Service. It touches nothing else.`,
		Example: `  external-lb provider openstack --token-file token --cert tls.crt --key tls.key --listen :8480 \
    --subnet 2b7c8d0a-6f0e-4f0b-9b1c-7a2f6a3d9c11 --nodes 10.0.0.0/16`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return f.serve(cmd.Context(), cmd.OutOrStdout()) },
	}
	flags := cmd.Flags()
	flags.StringVar(&f.listen, "listen", "127.0.0.1:8480", "where to answer; anywhere but on loopback with --cert and --key")
	flags.StringVar(&f.cert, "cert", "", "certificate in PEM")
	flags.StringVar(&f.key, "key", "", "its key")
	flags.StringVar(&f.tokenFile, "token-file", "", "what requests have to bear")
	flags.StringSliceVar(&f.nodes, "nodes", nil, "networks in which nodes are (default: all but loopback and link-local)")
	flags.StringVar(&f.nodePorts, "node-ports", "30000-32767", "nodePorts of the cluster")
	flags.StringVar(&f.Subnet, "subnet", "", "ID of the subnet of addresses")
	flags.StringVar(&f.Network, "network", "", "ID of the network of addresses, in place of a subnet")
	flags.StringVar(&f.Flavor, "flavor", "", "ID of the flavor of load balancers (default: Octavia's own)")
	flags.StringVar(&f.endpoint, "endpoint", "", "URL of an Octavia that asks for no credentials, as those of tests")
	flags.StringVar(&f.project, "project", "", "ID of the project there")
	return cmd
}

func (f *providerOpenStack) serve(ctx context.Context, out io.Writer) error {
	if (f.Subnet == "") == (f.Network == "") {
		return errors.New("say either --subnet or --network: where load balancers have their addresses")
	}
	token, err := os.ReadFile(f.tokenFile)
	if err != nil {
		return fmt.Errorf("--token-file: %w", err)
	}
	ports, err := admit.ParsePortRange(f.nodePorts)
	if err != nil {
		return fmt.Errorf("--node-ports: %w", err)
	}
	rules := provider.Admit{FirstPort: ports.First, LastPort: ports.Last}
	for _, n := range f.nodes {
		p, err := netip.ParsePrefix(n)
		if err != nil {
			return fmt.Errorf("--nodes: %w", err)
		}
		rules.Nodes = append(rules.Nodes, p)
	}
	api, err := f.api(ctx)
	if err != nil {
		return err
	}
	s := provider.Server{Cloud: &cloud.Cloud{API: api, Options: f.Options}, Token: strings.TrimSpace(string(token)), Admit: rules}
	return s.ListenAndServe(ctx, f.listen, f.cert, f.key, out)
}

// api of the load-balancer service.
func (f *providerOpenStack) api(ctx context.Context) (*gophercloud.ServiceClient, error) {
	if f.endpoint != "" {
		return cloud.WithoutCredentials(f.endpoint, f.project), nil
	}
	auth, err := openstack.AuthOptionsFromEnv()
	if err != nil {
		return nil, err
	}
	auth.AllowReauth = true
	client, err := openstack.AuthenticatedClient(ctx, auth)
	if err != nil {
		return nil, err
	}
	return openstack.NewLoadBalancerV2(client, gophercloud.EndpointOpts{Region: os.Getenv("OS_REGION_NAME")})
}
