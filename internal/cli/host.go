package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/external-lb/external-lb/internal/admit"
	"github.com/external-lb/external-lb/internal/engine"
	"github.com/external-lb/external-lb/internal/engine/engines"
	"github.com/external-lb/external-lb/internal/host"
	"github.com/external-lb/external-lb/internal/wire"
)

func newHostServe() *cobra.Command {
	return &cobra.Command{
		Use:   "serve",
		Short: "Join stdin and stdout with this machine's agent, for the controller",
		Long: `Join stdin and stdout with the agent of this machine. sshd runs it for the key that
"external-lb host install" authorizes; there is no need to run it by hand.`,
		Example: `  # in authorized_keys
  restrict,command="external-lb host serve" ssh-ed25519 AAAA…`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			settings, err := hostSettings()
			if err != nil {
				return err
			}
			// Whoever logs in again and again takes memory from nobody who carries traffic.
			_ = os.WriteFile("/proc/self/oom_score_adj", []byte("500"), 0) // where it cannot be said, it goes without
			return wire.Pipe(cmd.Context(), stdio{cmd.InOrStdin(), cmd.OutOrStdout()}, settings.Socket, func(words string) {
				cmd.PrintErrln("error: " + words)
			})
		},
	}
}

// hostSettings are those of this machine.
func hostSettings() (host.Settings, error) {
	return host.LoadSettings(host.SettingsPath, &engines.Table)
}

// thisHost is the machine that this program runs on.
func thisHost() (*host.Agent, error) {
	settings, err := hostSettings()
	if err != nil {
		return nil, err
	}
	return host.NewAgent(settings)
}

// stdio is the two streams that sshd gives a command, as one.
type stdio struct {
	io.Reader
	io.Writer
}

// Close ends the stream in both directions, as far as that can be said.
func (s stdio) Close() error {
	var errs []error
	for _, end := range []any{s.Reader, s.Writer} {
		if c, ok := end.(io.Closer); ok {
			errs = append(errs, c.Close())
		}
	}
	return errors.Join(errs...)
}

func newHostInstall() *cobra.Command {
	var o host.InstallOptions
	cmd := &cobra.Command{
		Use:   "install",
		Short: "Prepare this machine for deliveries",
		Long: `Prepare this machine for deliveries: a user, directories, the settings in
/etc/external-lb/host.yaml, one include for nginx or keepalived or one more file for HAProxy, the
rights to check and reload it, the agent as a service, and the key that may deliver.
What is there already is left as it is, so it can be run again at any time. Run it as
root. A host whose own limits do not carry a balancer is not called ready: the last step
says which line to change.

What the key may make this machine carry is said by --addresses, --ports, --backends
and --pods, or later under admit in the settings.`,
		Example: `  external-lb host install --authorized-key external-lb.pub --dry-run
  external-lb host install --authorized-key external-lb.pub
  external-lb host install --authorized-key external-lb.pub --addresses 203.0.113.0/24 --backends 10.0.0.0/8
  external-lb host install --authorized-key external-lb.pub --engine haproxy
  external-lb host install --authorized-key external-lb.pub --engine lvs
  external-lb host install --authorized-key external-lb.pub --engine haproxy --datagrams lvs
  external-lb host install --authorized-key external-lb.pub --vrrp`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			steps, err := host.Install(cmd.Context(), o, &engines.Table)
			w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
			for _, s := range steps {
				fmt.Fprintf(w, "%s\t%s\t%s\n", s.Result, s.Name, s.Detail)
			}
			return errors.Join(w.Flush(), err)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&o.Engine, "engine", "", fmt.Sprintf("what carries the traffic: %s (default: as in host.yaml, or %s)", engines.Table.List(), engines.Table.Default()))
	flags.StringVar(&o.Family, "family", "", fmt.Sprintf("whose layout this machine has: %s (default: as /etc/os-release says)", strings.Join(engine.FamilyNames(), ", ")))
	flags.StringVar(&o.Datagrams, "datagrams", "", fmt.Sprintf(
		"what carries all that is not TCP beside the engine: %s, for a Balancer with spec.datagrams: %s (default: as in host.yaml)",
		engines.Table.Datagrams.Name, strings.ToUpper(engines.Table.Datagrams.Name)))
	flags.StringArrayVar(&o.AuthorizedKeys, "authorized-key", nil, "public key that may deliver, or a file of such; may be repeated")
	flags.BoolVar(&o.VRRP, "vrrp", false, "let keepalived move the addresses between this machine and others: for a Balancer with virtualAddresses.mode VRRP")
	flags.BoolVar(&o.NonlocalBind, "nonlocal-bind", false, "let the daemon listen on addresses that the machine does not have yet")
	flags.Func("addresses", "`network` that may be listened on, as 203.0.113.0/24; may be repeated (default: every one)", func(text string) error {
		p, err := host.ParseNetwork(text)
		o.Admit.Addresses = append(o.Admit.Addresses, p)
		return err
	})
	flags.Func("ports", "`ports` that may be listened on, as 80 or 8000-8999; may be repeated (default: all that this host's own daemons do not hold)", func(text string) error {
		r, err := admit.ParsePortRange(text)
		o.Admit.Ports = append(o.Admit.Ports, r)
		return err
	})
	flags.Func("backends", "`networks` that traffic may be sent to, with a colon before their ports, as 10.0.0.0/8:30000-32767; may be repeated (default: 30000-32767 of every network)", func(text string) error {
		b, err := host.ParseBackends(text)
		o.Admit.Backends = append(o.Admit.Backends, b)
		return err
	})
	flags.Func("pods", "`network` of pods that traffic may be sent to, as 10.244.0.0/16, for a Balancer with nodes.backends: Pods; may be repeated (default: none)", func(text string) error {
		p, err := host.ParseNetwork(text)
		o.Admit.Pods = append(o.Admit.Pods, p)
		return err
	})
	flags.BoolVar(&o.DryRun, "dry-run", false, "say what would be done, and do nothing")
	return cmd
}
