package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"

	"github.com/spf13/cobra"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/controllers"
	"github.com/external-lb/external-lb/internal/deliver"
	"github.com/external-lb/external-lb/internal/fileset"
	"github.com/external-lb/external-lb/internal/host"
	"github.com/external-lb/external-lb/internal/plan"
)

func newDiff() *cobra.Command {
	var server apiServer
	var namespace string
	cmd := &cobra.Command{
		Use:   "diff BALANCER",
		Short: "What the hosts of a Balancer run against what they should",
		Long: `Compare what the hosts of a Balancer run with what the objects of the cluster ask
for. It logs in to the hosts as the controller does, from this machine and with
the key of the controller's Secret, and changes nothing.

The exit code is 0 if there is no difference, 1 if there is one, and 2 if it could
not be found out.`,
		Example: `  external-lb diff edge
  external-lb diff edge --namespace external-lb-system`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return exit{2, errors.New("say which: external-lb diff BALANCER")}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			kube, err := server.client()
			if err != nil {
				return exit{2, err}
			}
			hosts, err := compare(cmd.Context(), kube, namespace, args[0], dialHost)
			if err != nil {
				return exit{2, err}
			}
			return printDifferences(cmd.OutOrStdout(), hosts)
		},
	}
	cmd.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return exit{2, fmt.Errorf("%w; see %s --help", err, cmd.CommandPath())}
	})
	server.flags(cmd)
	cmd.Flags().StringVarP(&namespace, "namespace", "n", "external-lb-system", "namespace of the Secrets with the hosts' keys")
	return cmd
}

// dialer connects to a host.
type dialer func(context.Context, deliver.Target) (deliver.Conn, error)

func dialHost(ctx context.Context, t deliver.Target) (deliver.Conn, error) {
	switch {
	case t.Problem != nil:
		return nil, t.Problem
	case t.Host.Local != nil:
		return nil, errors.New("it is the machine on which the controller runs: ask there, with external-lb host status")
	default:
		return deliver.SSH{}.Dial(ctx, t)
	}
}

// hostDifference is what one host runs against what it should.
type hostDifference struct {
	host   v1alpha1.Host
	want   *fileset.Set
	status host.Status
	change fileset.Change
	err    error // it could not be asked
}

// compare asks every host of a Balancer.
func compare(ctx context.Context, kube client.Reader, namespace, balancer string, dial dialer) ([]hostDifference, error) {
	o, err := readCluster(ctx, kube)
	if err != nil {
		return nil, err
	}
	b, err := o.balancer(balancer)
	if err != nil {
		return nil, err
	}
	if err := o.readSecrets(ctx, kube); err != nil {
		return nil, err
	}
	templates, err := controllers.LastGoodTemplates(ctx, kube, namespace, b)
	if err != nil {
		return nil, err
	}
	p, err := o.plan(b, templates)
	if err != nil {
		return nil, err
	}
	targets := controllers.Targets(ctx, kube, namespace, b, o.balancers)
	out := make([]hostDifference, len(targets))
	var asked sync.WaitGroup
	for i, t := range targets {
		asked.Go(func() {
			out[i] = hostDifference{host: t.Host, want: p.Sets[t.Host.Name]}
			out[i].status, out[i].err = ask(ctx, t, dial)
			out[i].change = fileset.Diff(out[i].status.Files, out[i].want)
		})
	}
	asked.Wait()
	return out, nil
}

func ask(ctx context.Context, t deliver.Target, dial dialer) (host.Status, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	conn, err := dial(ctx, t)
	if err != nil {
		return host.Status{}, err
	}
	defer conn.Close()
	return conn.Status(ctx)
}

// same reports whether the daemon runs, and the disk holds, what is wanted.
func (d hostDifference) same() bool {
	return d.err == nil && d.change.Empty() && d.status.Live == d.want.Digest()
}

func (d hostDifference) lines() []string {
	name := d.host.Name
	if d.host.Address != "" {
		name += " (" + d.host.Address + ")"
	}
	switch {
	case d.err != nil:
		return []string{name + ": cannot be asked: " + d.err.Error()}
	case d.same():
		return []string{fmt.Sprintf("%s: no difference, %s", name, d.want.Digest().Short())}
	}
	live := d.status.Live.Short()
	if live == "" {
		live = "nothing that it can prove"
	}
	out := []string{fmt.Sprintf("%s: runs %s, should run %s", name, live, d.want.Digest().Short())}
	for _, f := range d.change.Put {
		sign := "+"
		if _, there := d.status.Files[f.Path]; there {
			sign = "~"
		}
		out = append(out, "  "+sign+" "+described(f.Path))
	}
	for _, path := range d.change.Delete {
		out = append(out, "  - "+described(path))
	}
	if d.status.Live != d.status.Files.Digest() {
		out = append(out, fmt.Sprintf("  ! the files on its disk are %s, which is not what runs: they were changed by somebody else", d.status.Files.Digest().Short()))
	}
	if d.status.Message != "" {
		out = append(out, "  ! "+d.status.Message)
	}
	return out
}

// described is a file and the Service that it is for.
func described(path string) string {
	if service := plan.NameOf(path); service != path {
		return path + "  (Service " + service + ")"
	}
	return path
}

// printDifferences of hosts, and say by the exit code whether there are any.
func printDifferences(w io.Writer, hosts []hostDifference) error {
	p := newPaint(w)
	code, paths := 0, 0
	for _, d := range hosts {
		lines := d.lines()
		switch {
		case d.err != nil:
			lines[0], code = p.bad(lines[0]), 2
		case d.same():
			lines[0] = p.good(lines[0])
		default:
			lines[0], code = p.middle(lines[0]), max(code, 1)
			paths += len(d.change.Put) + len(d.change.Delete)
		}
		if _, err := fmt.Fprintln(w, strings.Join(lines, "\n")); err != nil {
			return exit{2, err}
		}
	}
	if paths > 0 {
		fmt.Fprintln(w, "\n+ to be added  ~ to be changed  - to be removed")
	}
	switch code {
	case 0:
		return nil
	case 1:
		return exit{1, nil}
	default:
		return exit{2, errors.New("some hosts could not be asked")}
	}
}
