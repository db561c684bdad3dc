package main

import (
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/external-lb/external-lb/test/cluster"
)

// on makes a command that does one thing to one named thing of a running cluster.
func on(open opener, use, short string, do func(*cobra.Command, *cluster.Cluster, string) error) *cobra.Command {
	return &cobra.Command{
		Use: use + " NAME", Short: short, Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := open()
			if err != nil {
				return err
			}
			return do(cmd, c, args[0])
		},
	}
}

func group(use, short string, commands ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{Use: use, Short: short}
	cmd.AddCommand(commands...)
	return cmd
}

func node(open opener) *cobra.Command {
	var labels map[string]string
	add := on(open, "add", "Add a node with its kube-proxy", func(cmd *cobra.Command, c *cluster.Cluster, name string) error {
		return c.AddNode(cmd.Context(), cluster.NodeSpec{Name: name, Labels: labels})
	})
	add.Flags().StringToStringVar(&labels, "labels", nil, "labels, as key=value,…")
	return group("node", "Add, remove and break nodes", add,
		on(open, "remove", "Remove a node with its pods", func(cmd *cobra.Command, c *cluster.Cluster, name string) error {
			return c.RemoveNode(cmd.Context(), name)
		}),
		on(open, "down", "Cut a node off, as a power failure would, and report it as not ready",
			func(cmd *cobra.Command, c *cluster.Cluster, name string) error {
				if err := c.NodeDown(cmd.Context(), name); err != nil {
					return err
				}
				return c.SetNodeReady(cmd.Context(), name, false)
			}),
		on(open, "up", "End `node down`", func(cmd *cobra.Command, c *cluster.Cluster, name string) error {
			if err := c.NodeUp(cmd.Context(), name); err != nil {
				return err
			}
			return c.SetNodeReady(cmd.Context(), name, true)
		}))
}

func pod(open opener) *cobra.Command {
	var spec cluster.PodSpec
	ready, grace := true, false
	add := on(open, "add", "Add a pod that runs the echo server", func(cmd *cobra.Command, c *cluster.Cluster, name string) error {
		spec.Namespace, spec.Name = split(name)
		spec.NotReady = !ready
		_, err := c.AddPod(cmd.Context(), spec)
		return err
	})
	f := add.Flags()
	f.StringVar(&spec.Node, "node", "", "node to run on (default: the one with the fewest pods)")
	f.StringToStringVar(&spec.Labels, "labels", nil, "labels, as key=value,… (default app=NAME)")
	f.BoolVar(&ready, "ready", true, "whether the pod is ready")
	f.IntVar(&spec.HTTP, "http", 8080, "port for HTTP")
	f.IntVar(&spec.TCP, "tcp", 9000, "port for TCP")
	f.IntVar(&spec.UDP, "udp", 9000, "port for UDP")
	remove := on(open, "remove", "Remove a pod at once, or let it terminate", func(cmd *cobra.Command, c *cluster.Cluster, name string) error {
		namespace, name := split(name)
		if grace {
			return c.TerminatePod(cmd.Context(), namespace, name)
		}
		return c.RemovePod(cmd.Context(), namespace, name)
	})
	remove.Flags().BoolVar(&grace, "grace", false, "leave it terminating, and serving, until removed without --grace")
	setReady := func(ready bool) func(*cobra.Command, *cluster.Cluster, string) error {
		return func(cmd *cobra.Command, c *cluster.Cluster, name string) error {
			namespace, name := split(name)
			return c.SetPodReady(cmd.Context(), namespace, name, ready)
		}
	}
	return group("pod", "Add, remove and steer pods; NAME is name or namespace/name", add, remove,
		on(open, "ready", "Make a pod ready", setReady(true)), on(open, "unready", "Make a pod not ready", setReady(false)))
}

func split(name string) (namespace, base string) {
	if namespace, base, ok := strings.Cut(name, "/"); ok {
		return namespace, base
	}
	return "default", name
}

func host(open opener) *cobra.Command {
	steer := func(use, short string, do func(*cobra.Command, *cluster.Host) error) *cobra.Command {
		return on(open, use, short, func(cmd *cobra.Command, c *cluster.Cluster, name string) error {
			h, err := c.Host(name)
			if err != nil {
				return err
			}
			return do(cmd, h)
		})
	}
	return group("host", "Add, steer and reboot balancer hosts",
		on(open, "add", "Add a balancer host", func(cmd *cobra.Command, c *cluster.Cluster, name string) error {
			return c.AddHost(cmd.Context(), name)
		}),
		steer("off", "End all its processes, keep its filesystem", func(cmd *cobra.Command, h *cluster.Host) error { return h.PowerOff(cmd.Context()) }),
		steer("on", "Boot it again", func(cmd *cobra.Command, h *cluster.Host) error { return h.PowerOn(cmd.Context()) }),
		steer("reboot", "Off and on", func(cmd *cobra.Command, h *cluster.Host) error { return h.Reboot(cmd.Context()) }),
		steer("address", "Print where its sshd listens", func(cmd *cobra.Command, h *cluster.Host) error {
			_, err := fmt.Fprintln(cmd.OutOrStdout(), h.Addr())
			return err
		}),
		steer("agent", "Start external-lb's agent after `host install`, as systemd does where it runs", func(cmd *cobra.Command, h *cluster.Host) error {
			if _, err := h.Exec(cmd.Context(), "test", "-f", "/etc/external-lb/host.yaml"); err != nil {
				return fmt.Errorf("%s is not prepared: run `external-lb host install` there first", h.Name)
			}
			return h.StartAgent(cmd.Context())
		}),
		&cobra.Command{
			Use: "route HOST…", Short: "Route the virtual addresses to these hosts only",
			RunE: func(cmd *cobra.Command, args []string) error {
				c, err := open()
				if err != nil {
					return err
				}
				return c.RouteVia(cmd.Context(), args...)
			},
		})
}

func cable(open opener, use, short string) *cobra.Command {
	return on(open, use, short, func(cmd *cobra.Command, c *cluster.Cluster, name string) error {
		if use == "cut" {
			return c.Cut(cmd.Context(), name)
		}
		return c.Heal(cmd.Context(), name)
	})
}

func status(open opener) *cobra.Command {
	return &cobra.Command{
		Use: "status", Short: "Show what runs, with addresses", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := open()
			if err != nil {
				return err
			}
			w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 4, 2, ' ', 0)
			for _, line := range c.Status() {
				fmt.Fprintf(w, "%s%s\t%s\t%s\n", strings.Repeat("  ", line.Depth), line.Name, line.State, line.Detail)
			}
			return w.Flush()
		},
	}
}
