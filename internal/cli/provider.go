package cli

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/external-lb/external-lb/internal/provider/kit"
	"github.com/external-lb/external-lb/provider"
)

func newProvider() *cobra.Command {
	cmd := &cobra.Command{
		SuggestionsMinimumDistance: 2,

		Use:     "provider",
		Short:   "What makes the load balancers of a public cloud carry Services",
		Example: `  external-lb provider check https://provider.example.net --token-file token`,
		Args:    noSuchCommand,
		RunE:    showHelp,
	}
	cmd.AddCommand(newProviderCheck(), newProviderOpenStack(), newProviderAlibaba())
	return cmd
}

// providerCheck are the flags of the command.
type providerCheck struct {
	tokenFile, ca    string
	member, address  string
	drift, strangers string
	timeout          time.Duration
}

func newProviderCheck() *cobra.Command {
	var f providerCheck
	cmd := &cobra.Command{
		Use:   "check URL",
		Short: "Check that a provider keeps to its contract",
		Long: `Ask a provider for load balancers as a controller would, for three clusters that do not
exist, and say what it does not keep to. All that it makes it takes away again, but each
load balancer costs what the cloud takes for it.

With --member, requests and datagrams go through the load balancers: the address is one of
this machine, which they must reach as they reach nodes. Without it, members are addresses
of nobody.

The exit code is 0 if nothing failed. What was not tried is said.`,
		Example: `  external-lb provider check https://provider.example.net --token-file token --ca ca.pem
  external-lb provider check http://127.0.0.1:8480 --token-file token --member 127.1.0.1`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			o, err := f.options(args[0])
			if err != nil {
				return err
			}
			return kit.Run(cmd.Context(), o, func(r kit.Result) {
				fmt.Fprintln(cmd.OutOrStdout(), resultLine(r))
			})
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.tokenFile, "token-file", "", "what requests bear")
	flags.StringVar(&f.ca, "ca", "", "certificates in PEM to trust (default: those of the system)")
	flags.StringVar(&f.member, "member", "", "an address of this machine that load balancers reach as a node's; requests go through them")
	flags.StringVar(&f.address, "address", "", "an address that the cloud gives to who wants it")
	flags.StringVar(&f.drift, "drift", "", "a command that changes a load balancer in the cloud itself;\n"+
		"the environment has CLUSTER, SERVICE and ADDRESS")
	flags.StringVar(&f.strangers, "strangers", "", "a command that lists what is in the cloud beside what the check makes")
	flags.DurationVar(&f.timeout, "timeout", 2*time.Minute, "how long a load balancer may take to become as is wanted, or to go")
	return cmd
}

func (f providerCheck) options(url string) (kit.Options, error) {
	o := kit.Options{URL: url, Timeout: f.timeout}
	if f.tokenFile != "" {
		token, err := os.ReadFile(f.tokenFile)
		if err != nil {
			return o, err
		}
		o.Token = strings.TrimSpace(string(token))
	}
	if f.ca != "" {
		var err error
		if o.Roots, err = os.ReadFile(f.ca); err != nil {
			return o, err
		}
	}
	for flag, into := range map[string]struct {
		value string
		addr  *netip.Addr
	}{"member": {f.member, &o.Member}, "address": {f.address, &o.Address}} {
		if into.value == "" {
			continue
		}
		var err error
		if *into.addr, err = netip.ParseAddr(into.value); err != nil {
			return o, fmt.Errorf("--%s: %w", flag, err)
		}
	}
	if f.drift != "" {
		o.Drift = func(ctx context.Context, id provider.ID, b provider.LoadBalancer) error {
			env := []string{"CLUSTER=" + id.Cluster, "SERVICE=" + id.Service}
			if len(b.Addresses) > 0 {
				address := b.Addresses[0].Hostname
				if address == "" {
					address = b.Addresses[0].IP.String()
				}
				env = append(env, "ADDRESS="+address)
			}
			_, err := shell(ctx, f.drift, env...)
			return err
		}
	}
	if f.strangers != "" {
		o.Strangers = func(ctx context.Context) (string, error) { return shell(ctx, f.strangers) }
	}
	return o, nil
}

// shell runs a command that the user has given.
func shell(ctx context.Context, command string, env ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "sh", "-c", command)
	cmd.Env = append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s: %w: %.500s", command, err, out)
	}
	return string(out), nil
}

// resultLine is what became of one check.
func resultLine(r kit.Result) string {
	switch {
	case r.Err != nil:
		return words("FAILED", r.Name+":", r.Promise, "\n  ", strings.ReplaceAll(r.Err.Error(), "\n", "\n   "))
	case r.Skipped != "":
		return words("not tried", r.Name+":", r.Skipped)
	}
	calls := ""
	if r.Calls != (provider.Calls{}) {
		calls = "(reads: " + strconv.Itoa(int(r.Calls.Reads)) + ", writes: " + strconv.Itoa(int(r.Calls.Writes)) + ")"
	}
	return words("ok", r.Name+":", r.Promise, calls)
}
