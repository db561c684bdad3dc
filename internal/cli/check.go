package cli

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/external-lb/external-lb/internal/preflight"
)

func newCheck() *cobra.Command {
	var server apiServer
	var namespace, output string
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Check that a cluster, the manager, the hosts and pools are fit to work",
		Long: `Look at all that external-lb depends on, and say of each whether it is ok, a warning, a
failure, or was skipped, and then what to do: the version of Kubernetes, the kinds, your
rights and the manager's, the manager itself, versions, webhooks, each Balancer with its
hosts, the pools, and who else serves the same Services. It changes nothing. Hosts are
told as the manager reports on them: diff asks them itself.

The exit code is 0 without warnings and failures, 1 with a warning, and 2 with a failure,
or if the API server could not be asked.`,
		Example: `  external-lb check
  external-lb check --output json
  external-lb check --namespace external-lb-system`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkOutput(output, "text", "json", "yaml"); err != nil {
				return exit{2, err}
			}
			ask, err := newAsker(&server, namespace)
			if err != nil {
				return exit{2, err}
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), checkTimeout)
			defer cancel()
			facts, err := ask.facts(ctx)
			if err != nil {
				return exit{2, err}
			}
			return printChecks(cmd.OutOrStdout(), preflight.Run(facts), output)
		},
	}
	exitCode2(cmd)
	server.flags(cmd)
	cmd.Flags().StringVarP(&namespace, "namespace", "n", defaultNamespace, "namespace of the controller")
	server.completeNamespaces(cmd, "namespace")
	outputFlag(cmd, &output, "text", "json", "yaml")
	return cmd
}

// checkTimeout bounds all questions together.
const checkTimeout = time.Minute

func printChecks(w io.Writer, checks preflight.Checks, output string) error {
	worst := checks.Worst()
	var err error
	if output == "text" {
		err = checksAsText(w, checks)
	} else {
		err = encode(w, output, map[string]any{"state": worst, "checks": checks})
	}
	if err != nil {
		return exit{2, err}
	}
	if code := map[preflight.State]int{preflight.Warn: 1, preflight.Fail: 2}[worst]; code != 0 {
		return exit{code, nil}
	}
	return nil
}

func checksAsText(w io.Writer, checks preflight.Checks) error {
	p := newPaint(w)
	colours := map[preflight.State]func(string) string{preflight.OK: p.good, preflight.Skip: p.middle, preflight.Warn: p.middle, preflight.Fail: p.bad}
	wide := 0
	for _, c := range checks {
		wide = max(wide, len(c.Topic))
	}
	counts := map[preflight.State]int{}
	var out strings.Builder
	for _, c := range checks {
		counts[c.State]++
		fmt.Fprintf(&out, "%s  %-*s  %s\n", colours[c.State](fmt.Sprintf("%-4s", c.State)), wide, c.Topic, plain(c.Message))
		if c.Do != "" {
			fmt.Fprintf(&out, "      %-*s  → %s\n", wide, "", plain(c.Do))
		}
	}
	fmt.Fprintf(&out, "\n%d ok, %d skipped, %d to look at, %d failed\n",
		counts[preflight.OK], counts[preflight.Skip], counts[preflight.Warn], counts[preflight.Fail])
	_, err := io.WriteString(w, out.String())
	return err
}
