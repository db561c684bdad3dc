package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/external-lb/external-lb/internal/host"
	"github.com/external-lb/external-lb/internal/render"
	"github.com/external-lb/external-lb/internal/wire"
)

func newHostServe() *cobra.Command {
	return &cobra.Command{
		Use:   "serve",
		Short: "The host's end of a delivery, on stdin and stdout",
		Long: `Speak with the controller on stdin and stdout. sshd runs it for the key that
"external-lb host install" authorizes; there is no need to run it by hand.`,
		Example: `  # in authorized_keys
  restrict,command="external-lb host serve" ssh-ed25519 AAAA…`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			h, err := localHost()
			if err != nil {
				return err
			}
			return wire.Serve(cmd.Context(), stdio{cmd.InOrStdin(), cmd.OutOrStdout()}, h)
		},
	}
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
rights to check and reload it, and the key that may deliver. What is there already
is left as it is, so it can be run again at any time. Run it as root.`,
		Example: `  external-lb host install --authorized-key external-lb.pub --dry-run
  external-lb host install --authorized-key external-lb.pub
  external-lb host install --authorized-key external-lb.pub --engine haproxy
  external-lb host install --authorized-key external-lb.pub --engine lvs
  external-lb host install --authorized-key external-lb.pub --vrrp`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			steps, err := host.Install(cmd.Context(), o)
			w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
			for _, s := range steps {
				fmt.Fprintf(w, "%s\t%s\t%s\n", s.Result, s.Name, s.Detail)
			}
			return errors.Join(w.Flush(), err)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&o.Engine, "engine", "", "what carries the traffic: nginx, haproxy or lvs (default: as in host.yaml, or nginx)")
	flags.StringArrayVar(&o.AuthorizedKeys, "authorized-key", nil, "public key that may deliver, or a file of such; may be repeated")
	flags.BoolVar(&o.VRRP, "vrrp", false, "let keepalived move the addresses between this machine and others: for a Balancer with virtualAddresses.mode VRRP")
	flags.BoolVar(&o.NonlocalBind, "nonlocal-bind", false, "let the daemon listen on addresses that the machine does not have yet")
	flags.BoolVar(&o.DryRun, "dry-run", false, "say what would be done, and do nothing")
	return cmd
}

func newHostStatus() *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "status",
		Short: "What is live on this machine",
		Long: `Ask this machine's daemon which configuration it runs, and compare it with the
files. Run it as root or as the user that deliveries log in as.`,
		Example: `  external-lb host status
  external-lb host status --output json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if output != "text" && output != "json" {
				return fmt.Errorf("--output %q: want text or json", output)
			}
			h, err := localHost()
			if err != nil {
				return err
			}
			status, err := h.Status(cmd.Context())
			if err != nil {
				return err
			}
			if output == "json" {
				return json.NewEncoder(cmd.OutOrStdout()).Encode(status)
			}
			return printHostStatus(cmd.OutOrStdout(), status)
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "text", "text or json")
	return cmd
}

func printHostStatus(out io.Writer, s host.Status) error {
	services := 0
	for path := range s.Files {
		if _, ok := render.ParsePath(path); ok {
			services++
		}
	}
	live := s.Live.Short()
	switch {
	case live == "":
		live = "nothing is proved to be live"
	case s.Live == s.Files.Digest():
		live += " (as on disk)"
	default:
		live += " (on disk: " + s.Files.Digest().Short() + ")"
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "engine\t%s\nrunning\t%t\nlive\t%s\nServices\t%d\nold workers\t%d\nlast epoch\t%s\n",
		s.EngineVersion, s.Running, live, services, s.OldWorkers, s.Epoch)
	if s.Message != "" {
		fmt.Fprintf(w, "problem\t%s\n", s.Message)
	}
	return w.Flush()
}
