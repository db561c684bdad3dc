// Command testcluster runs a Kubernetes cluster with balancer hosts on one Linux machine, without containers.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/external-lb/external-lb/test/cluster"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := root().ExecuteContext(ctx); err != nil {
		var command commandError
		if exit := (*exec.ExitError)(nil); errors.As(err, &command) && errors.As(err, &exit) {
			os.Exit(max(exit.ExitCode(), 1)) // the command has said why
		}
		fmt.Fprintln(os.Stderr, "testcluster:", err)
		os.Exit(1)
	}
}

// commandError is the end of what `testcluster exec` ran.
type commandError struct{ error }

func (e commandError) Unwrap() error { return e.error }

func root() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "testcluster",
		Short: "A Kubernetes cluster with balancer hosts on one Linux machine, without containers",
		Example: `  testcluster up --nodes 3 --hosts 2      # start it
  eval "$(testcluster env)"               # kubectl and KUBECONFIG for it
  testcluster pod add web-1 --labels app=web
  testcluster exec lb1 -- nginx -T        # inside a balancer host
  testcluster exec client -- curl -s http://203.0.113.1/
  testcluster cut lb1                     # pull its cable
  testcluster status
  testcluster down`,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	dir := cmd.PersistentFlags().String("dir", cluster.DefaultDir(), "directory of the cluster's state; one cluster per directory")
	open := func() (*cluster.Cluster, error) { return cluster.Open(*dir) }
	cmd.AddCommand(up(dir), down(dir), env(open), execute(open), cp(open), node(open), pod(open), kubelet(open), host(open),
		cable(open, "cut", "Pull the cable of a host, node or client"),
		cable(open, "heal", "Plug the cable in again"), status(open))
	return cmd
}

type opener func() (*cluster.Cluster, error)

func up(dir *string) *cobra.Command {
	var o cluster.Options
	cmd := &cobra.Command{
		Use:   "up",
		Short: "Start a cluster; it runs until `testcluster down`",
		Long: `Start a cluster; it runs until "testcluster down".

The first time on a machine this builds etcd and Kubernetes from source, which takes minutes; later
it takes seconds.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.Dir, o.Log = *dir, cmd.ErrOrStderr()
			c, err := cluster.Start(cmd.Context(), o)
			if err != nil {
				return err
			}
			if err := c.Detach(); err != nil {
				return errors.Join(err, c.Stop())
			}
			fmt.Fprintln(cmd.OutOrStdout(), `To use it:  eval "$(testcluster env --dir `+*dir+`)"`)
			return nil
		},
	}
	f := cmd.Flags()
	f.IntVar(&o.Nodes, "nodes", 3, "number of nodes")
	f.IntVar(&o.Hosts, "hosts", 2, "number of balancer hosts")
	f.BoolVar(&o.DualStack, "dual-stack", false, "IPv6 besides IPv4")
	f.BoolVar(&o.ControlPlaneOnly, "control-plane-only", false, "etcd and the API server, nothing else")
	f.StringVar(&o.Kubernetes, "kubernetes", "", "a minor release, such as 1.34 (default the newest)")
	f.StringVar(&o.Binary, "binary", "", "external-lb to show in each host as /usr/local/bin/external-lb")
	f.StringVar(&o.Engine, "engine", "nginx", "daemon that hosts start at boot: nginx, haproxy, lvs or none")
	f.StringVar(&o.ProxyMode, "proxy-mode", "nftables", "mode of kube-proxy: nftables or iptables")
	f.StringVar(&o.Addresses, "addresses", "static", "virtual addresses: static (local on every host) or vrrp (keepalived's)")
	f.StringSliceVar(&o.Pools, "pool", nil, "ranges of virtual addresses (default 203.0.113.0/24, 10.64.0.0/20 and, in dual stack, 2001:db8:0:1::/112)")
	f.StringVar(&o.HostDisk, "host-disk", "512m", "what a host can write to its filesystem")
	f.StringVar(&o.NodePorts, "node-ports", "30000-32767", "range of node ports")
	f.BoolVar(&o.KeepDefaultSite, "keep-default-site", false, "leave nginx's default site on port 80")
	return cmd
}

func down(dir *string) *cobra.Command {
	return &cobra.Command{
		Use:   "down",
		Short: "End the cluster and remove everything it left, after a crash too",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cluster.Down(cmd.Context(), *dir) },
	}
}

func env(open opener) *cobra.Command {
	return &cobra.Command{
		Use:   "env",
		Short: "Print shell settings: KUBECONFIG, and a PATH with this cluster's kubectl",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := open()
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "export KUBECONFIG=%q\nexport PATH=%q:\"$PATH\"\n", c.Kubeconfig(), c.Bin(""))
			return nil
		},
	}
}

func execute(open opener) *cobra.Command {
	return &cobra.Command{
		Use:   "exec WHERE -- COMMAND [ARG…]",
		Short: "Run a command in a host, node, client, pod (namespace/name), control-plane or router",
		Example: `  testcluster exec lb1 -- bash
  testcluster exec node1 -- nft list table ip kube-proxy
  testcluster exec default/web-1 -- ip addr
  testcluster exec client -- curl -s http://203.0.113.1/`,
		Args: cobra.MinimumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := open()
			if err != nil {
				return err
			}
			argv := args[1:]
			if _, err := unix.IoctlGetTermios(int(os.Stdin.Fd()), unix.TCGETS); err == nil {
				// A shell wants a terminal of its own PID namespace to control jobs.
				argv = []string{"script", "-qec", quote(argv), "/dev/null"}
			}
			run, err := c.Command(cmd.Context(), args[0], argv...)
			if err != nil {
				return err
			}
			run.Stdin, run.Stdout, run.Stderr = os.Stdin, cmd.OutOrStdout(), cmd.ErrOrStderr()
			if err := run.Run(); err != nil {
				return fmt.Errorf("%s: %w", args[0], commandError{err})
			}
			return nil
		},
	}
}

func cp(open opener) *cobra.Command {
	return &cobra.Command{
		Use:     "cp FILE… HOST:DIRECTORY",
		Short:   "Copy files into a balancer host, as scp does",
		Example: `  testcluster cp edge-key.pub lb1:/root`,
		Args:    cobra.MinimumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			files, to := args[:len(args)-1], args[len(args)-1]
			name, directory, both := strings.Cut(to, ":")
			if !both || !filepath.IsAbs(directory) {
				return fmt.Errorf("%q: want HOST:DIRECTORY, as lb1:/root", to)
			}
			c, err := open()
			if err != nil {
				return err
			}
			h, err := c.Host(name)
			if err != nil {
				return err
			}
			for _, file := range files {
				data, err := os.ReadFile(file)
				if err != nil {
					return err
				}
				if err := h.WriteFile(cmd.Context(), filepath.Join(directory, filepath.Base(file)), data); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

// quote makes one line for a shell out of a command.
func quote(argv []string) string {
	words := make([]string, len(argv))
	for i, arg := range argv {
		words[i] = "'" + strings.ReplaceAll(arg, "'", `'\''`) + "'"
	}
	return strings.Join(words, " ")
}
