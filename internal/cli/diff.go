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
	"github.com/external-lb/external-lb/internal/host"
	"github.com/external-lb/external-lb/internal/lb"
)

func newDiff() *cobra.Command {
	var server apiServer
	var namespace string
	var text bool
	cmd := &cobra.Command{
		Use:   "diff BALANCER",
		Short: "Compare what the hosts of a Balancer carry with what they should",
		Long: `Compare what the hosts of a Balancer carry with what the objects of the cluster ask
for, item by item. It logs in to the hosts as the controller does, from this machine
and with the key of the controller's Secret, and changes nothing. With --text it asks
each host for the files that it would make of what it should carry, with its own
templates; keys are not shown.

The exit code is 0 if there is no difference, 1 if there is one, and 2 if it could
not be found out.`,
		Example: `  external-lb diff edge
  external-lb diff edge --text
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
			hosts, err := compare(cmd.Context(), kube, namespace, args[0], asking{dialHost, text})
			if err != nil {
				return exit{2, err}
			}
			return printDifferences(cmd.OutOrStdout(), hosts)
		},
		ValidArgsFunction: server.completeFirst(balancerKind),
	}
	exitCode2(cmd)
	server.flags(cmd)
	cmd.Flags().StringVarP(&namespace, "namespace", "n", defaultNamespace, "namespace of the Secrets with the hosts' keys")
	server.completeNamespaces(cmd, "namespace")
	cmd.Flags().BoolVar(&text, "text", false, "ask each host for the files that it would make of what it should carry")
	return cmd
}

// asking is how hosts are asked.
type asking struct {
	dial func(context.Context, deliver.Target) (deliver.Conn, error)
	text bool // for files, too
}

func dialHost(ctx context.Context, t deliver.Target) (deliver.Conn, error) {
	switch {
	case t.Problem != nil:
		return nil, t.Problem
	case t.Provider != nil:
		return nil, errors.New("it is a provider: the Balancer's status and the events of Services say what its cloud has")
	case t.Host.Local != nil:
		return nil, errors.New("it is the machine on which the controller runs: ask there, with external-lb host status")
	default:
		return deliver.SSH{}.Dial(ctx, t)
	}
}

// hostDifference is what one host carries against what it should.
type hostDifference struct {
	host   v1alpha1.Host
	want   *lb.Set
	status host.Status
	files  *host.Rendering // that it would make; nil: not asked for
	err    error           // it could not be asked
}

// compare asks every host of a Balancer.
func compare(ctx context.Context, kube client.Reader, namespace, balancer string, asks asking) ([]hostDifference, error) {
	o, err := readCluster(ctx, kube)
	if err != nil {
		return nil, err
	}
	b, err := o.balancer(balancer)
	if err != nil {
		return nil, err
	}
	if o.podsUnread != "" && b.Spec.ToPods() {
		return nil, fmt.Errorf("Balancer %s sends to pods: %s", b.Name, o.podsUnread)
	}
	if err := o.readSecrets(ctx, kube); err != nil {
		return nil, err
	}
	p, err := o.plan(b)
	if err != nil {
		return nil, err
	}
	targets := controllers.Targets(ctx, kube, namespace, b, o.balancers)
	out := make([]hostDifference, len(targets))
	var asked sync.WaitGroup
	for i, t := range targets {
		t.Cluster = o.cluster
		asked.Go(func() {
			out[i] = hostDifference{host: t.Host, want: p.Sets[t.Host.Name]}
			out[i].err = out[i].ask(ctx, t, asks)
		})
	}
	asked.Wait()
	return out, nil
}

func (d *hostDifference) ask(ctx context.Context, t deliver.Target, asks asking) error {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	conn, err := asks.dial(ctx, t)
	if err != nil {
		return err
	}
	defer conn.Close()
	if d.status, err = conn.Status(ctx); err != nil || !asks.text {
		return err
	}
	files, err := conn.Render(ctx, host.Delivery{
		Cluster: t.Cluster, Base: d.status.Wanted.Digest(), Change: lb.Diff(d.status.Wanted, d.want), Want: d.want.Digest(),
	})
	d.files = &files
	return err
}

// changes are what a host does not carry as it should, a line each.
func (d *hostDifference) changes() []string {
	refused := map[lb.Key]string{}
	for _, r := range d.status.Refused {
		if _, whole := refused[r.Key]; !whole { // it comes first
			refused[r.Key] = strings.TrimPrefix(r.Listener.String()+": ", lb.Listener{}.String()+": ") + r.Message
		}
	}
	var out []string
	change := lb.Diff(d.status.Live, d.want)
	for _, it := range change.Put {
		sign := "+"
		if d.status.Live.Has(it.Key) {
			sign = "~"
		}
		line := "  " + sign + " " + it.Key.Describe()
		if why, ok := refused[it.Key]; ok {
			line += "  (refused: " + why + ")"
		}
		out = append(out, line)
	}
	for _, key := range change.Delete {
		out = append(out, "  - "+key.Describe())
	}
	for _, r := range d.status.Refused {
		if !r.OfItem() {
			out = append(out, fmt.Sprintf("  ! %s lacks %s: %s", r.Key.Describe(), r.Listener, r.Message))
		}
	}
	return out
}

// same reports whether the daemons run, and the disk holds, what is wanted.
func (d *hostDifference) same() bool { return d.err == nil && d.status.Proved && len(d.changes()) == 0 }

func (d *hostDifference) lines() []string {
	name := d.host.Name
	if d.host.Address != "" {
		name += " (" + d.host.Address + ")"
	}
	switch {
	case d.err != nil:
		return []string{name + ": cannot be asked: " + d.err.Error()}
	case d.same():
		return append([]string{fmt.Sprintf("%s: no difference, %s", name, d.want.Digest().Short())}, d.text()...)
	}
	live := "nothing that it can prove"
	if d.status.Proved {
		live = d.status.Live.Digest().Short()
	}
	out := []string{fmt.Sprintf("%s: carries %s, should carry %s", name, live, d.want.Digest().Short())}
	out = append(out, d.changes()...)
	for _, problem := range []string{d.status.Message, d.status.Templates} {
		if problem != "" {
			out = append(out, "  ! "+problem)
		}
	}
	return append(out, d.text()...)
}

// text of the files that the host would make.
func (d *hostDifference) text() []string {
	if d.files == nil {
		return nil
	}
	var out []string
	for _, f := range d.files.Files {
		content := string(f.Data)
		if f.Data == nil {
			content = fmt.Sprintf("# Not shown: it contains a key. Its SHA-256 is %x.\n", f.Sum)
		}
		out = append(out, fmt.Sprintf("==> %s:%s <==", d.host.Name, f.Path), strings.TrimSuffix(content, "\n"))
	}
	return out
}

// printDifferences of hosts, and say by the exit code whether there are any.
func printDifferences(w io.Writer, hosts []hostDifference) error {
	p := newPaint(w)
	code, items := 0, 0
	for _, d := range hosts {
		lines := d.lines()
		switch {
		case d.err != nil:
			lines[0], code = p.bad(lines[0]), 2
		case d.same():
			lines[0] = p.good(lines[0])
		default:
			lines[0], code = p.middle(lines[0]), max(code, 1)
			items += len(d.changes())
		}
		if _, err := fmt.Fprintln(w, strings.Join(lines, "\n")); err != nil {
			return exit{2, err}
		}
	}
	if items > 0 {
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
