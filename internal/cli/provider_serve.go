package cli

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/external-lb/external-lb/internal/admit"
	"github.com/external-lb/external-lb/internal/lb"
	"github.com/external-lb/external-lb/provider"
)

// providerServe are the flags of each command that answers for a cloud.
type providerServe struct {
	listen, cert, key, tokenFile string
	nodes                        []string
	nodePorts                    string
}

func (f *providerServe) add(to *cobra.Command) {
	flags := to.Flags()
	flags.StringVar(&f.listen, "listen", "127.0.0.1:8480", "where to answer; anywhere but on loopback with --cert and --key")
	flags.StringVar(&f.cert, "cert", "", "certificate in PEM")
	flags.StringVar(&f.key, "key", "", "its key")
	flags.StringVar(&f.tokenFile, "token-file", "", "what requests have to bear")
	flags.StringSliceVar(&f.nodes, "nodes", nil, "networks in which nodes are (default: all but loopback and link-local)")
	flags.StringVar(&f.nodePorts, "node-ports", "30000-32767", "nodePorts of the cluster")
}

// offered flavors, of the values of --flavors.
func offered(all []string) (map[string]string, error) {
	out := map[string]string{}
	for _, one := range all {
		name, of, err := pair("--flavors", one, "NAME")
		switch _, twice := out[name]; {
		case err != nil:
			return nil, err
		case !lb.SafeFlavor(name):
			return nil, fmt.Errorf("--flavors: %q is no name: want small letters, digits and hyphens, 63 at most", name)
		case twice:
			return nil, fmt.Errorf("--flavors: there are two of the name %s", name)
		}
		out[name] = of
	}
	if len(out) > provider.MaxFlavors {
		return nil, fmt.Errorf("--flavors: there are %d, and %d may be offered", len(out), provider.MaxFlavors)
	}
	return out, nil
}

// serve answers for a cloud, which is made when the flags are known to be good.
func (f *providerServe) serve(ctx context.Context, out io.Writer, cloud func() (provider.Cloud, error)) error {
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
	s := provider.Server{Token: strings.TrimSpace(string(token)), Admit: rules}
	if s.Cloud, err = cloud(); err != nil {
		return err
	}
	return s.ListenAndServe(ctx, f.listen, f.cert, f.key, out)
}
