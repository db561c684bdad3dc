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

// offered is what Services may ask for, by name, of the values of a flag.
func offered(flag string, all []string, most int) (map[string]string, error) {
	out := map[string]string{}
	for _, one := range all {
		name, of, err := pair(flag, one, "NAME")
		switch _, twice := out[name]; {
		case err != nil:
			return nil, err
		case !lb.SafeOffer(name):
			return nil, fmt.Errorf("%s: %q is no name: want small letters, digits and hyphens, 63 at most", flag, name)
		case twice:
			return nil, fmt.Errorf("%s: there are two of the name %s", flag, name)
		}
		out[name] = of
	}
	if len(out) > most {
		return nil, fmt.Errorf("%s: there are %d, and %d may be offered", flag, len(out), most)
	}
	return out, nil
}

// serve answers for the cloud that login leads to. It logs in when the flags are known to be good.
func (f *providerServe) serve(ctx context.Context, out io.Writer, login func(context.Context) (provider.Cloud, error)) error {
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
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	cloud := &lateCloud{tried: make(chan struct{})}
	go cloud.logIn(ctx, out, login)
	s := provider.Server{Token: strings.TrimSpace(string(token)), Admit: rules, Cloud: cloud}
	return s.ListenAndServe(ctx, f.listen, f.cert, f.key, out)
}
