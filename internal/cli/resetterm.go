package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/external-lb/external-lb/internal/host"
)

func newHostResetTerm() *cobra.Command {
	var cluster string
	cmd := &cobra.Command{
		Use:   "reset-term",
		Short: "Let another cluster, or another controller, deliver to this machine",
		Long: `Forget which cluster delivers to this machine, and in which term. A machine takes
deliveries of one cluster alone, and of its newest leader: this is for a machine that
changes hands, for one of which the Balancer says Contested or TermJump, and for one
whose record of this is damaged or gone: one that is damaged is kept beside the new one. See to it first that
no other controller goes on to deliver. What is live goes on. Run it as root.

A cluster is known by the UID of its namespace kube-system:
kubectl get namespace kube-system -o jsonpath={.metadata.uid}`,
		Example: `  external-lb host reset-term
  external-lb host reset-term --cluster 0c0c6d4e-5a3f-4d0a-9d7e-1f6a0c9b7a51`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			a, err := thisHost()
			if err != nil {
				return err
			}
			was, err := a.Status(cmd.Context())
			if err != nil {
				return err
			}
			lost, aside, err := a.ResetTerm(cmd.Context(), cluster)
			if err != nil {
				return err
			}
			before := deliveredBy(was)
			switch {
			case aside != "":
				before = "nobody knows: the record was damaged, and is kept as " + aside
			case lost:
				before = "nobody knows: the record was gone"
			}
			now := host.Status{Cluster: cluster}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "delivered before by: %s\ndelivered now by: %s\n", before, deliveredBy(now))
			return err
		},
	}
	cmd.Flags().StringVar(&cluster, "cluster", "", "the cluster that may deliver from now on (default: the first that does)")
	return cmd
}
