package cli

import (
	"context"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// version is set by the linker: make build.
var version = "devel"

// Main runs the command that args name and returns its exit code.
func Main(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	root := newRoot()
	root.SetArgs(args[1:])
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	if err := root.ExecuteContext(ctx); err != nil {
		fmt.Fprintln(stderr, "error:", err)
		return 1
	}
	return 0
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "external-lb",
		Short: "type: LoadBalancer with the balancers that you already trust",
		Long: `external-lb makes Services of type LoadBalancer work on bare metal, with nginx on
hosts outside the cluster. It renders their configuration with every
NodeIP:NodePort, delivers it over SSH, proves that it is live, and then writes
the address into the Service's status.`,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	host := &cobra.Command{
		Use:   "host",
		Short: "On a balancer host: prepare it, look at it, and the host's end of a delivery",
	}
	host.AddCommand(newHostServe(), newHostInstall(), newHostStatus())
	root.AddCommand(newManager(), host, newRender(), newStatus(), newVersion())
	return root
}

func newVersion() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			revision := ""
			if info, ok := debug.ReadBuildInfo(); ok {
				for _, s := range info.Settings {
					if s.Key == "vcs.revision" {
						revision = " " + s.Value
					}
				}
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "external-lb %s%s %s\n", version, revision, runtime.Version())
			return err
		},
	}
}
