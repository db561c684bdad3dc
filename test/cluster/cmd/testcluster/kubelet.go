package main

import (
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/external-lb/external-lb/test/cluster"
)

func kubelet(open opener) *cobra.Command {
	return &cobra.Command{
		Use:   "kubelet IMAGE=FILE…",
		Short: "Run the pods of Deployments, until Ctrl-C",
		Long: `Run the pods that controllers make, until Ctrl-C: those of an IMAGE, whatever its tag. FILE is
the image as an OCI layout in a .tar, or the program that it starts.

It is as much of a scheduler and of each node's kubelet as a program without a shell
needs: there are no volumes, and no "kubectl logs". What the pods write is in
logs/pods.log of the cluster's directory, and what keeps them from starting in
logs/kubelet.log. The pods outlive it, and the next one goes on with them.`,
		Example: `  testcluster kubelet ghcr.io/external-lb/external-lb=dist/external-lb-image.tar`,
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := open()
			if err != nil {
				return err
			}
			programs, err := programs(c, args)
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "Pods of %s run until Ctrl-C. What they write is in %s.\n",
				strings.Join(slices.Sorted(maps.Keys(programs)), ", "), filepath.Join(filepath.Dir(c.Kubeconfig()), "logs", "pods.log"))
			err = c.RunKubelet(cmd.Context(), programs)
			if errors.Is(err, cluster.ErrNotRunning) {
				fmt.Fprintln(cmd.OutOrStdout(), "The cluster has ended.")
				return nil
			}
			return err
		},
	}
}

// programs of images, by their names.
func programs(c *cluster.Cluster, args []string) (map[string]string, error) {
	out := map[string]string{}
	for _, arg := range args {
		image, file, both := strings.Cut(arg, "=")
		if !both || image == "" || file == "" {
			return nil, fmt.Errorf("%q: want IMAGE=FILE", arg)
		}
		program, err := c.ProgramOf(file)
		if err != nil {
			return nil, err
		}
		out[image] = program
	}
	return out, nil
}
