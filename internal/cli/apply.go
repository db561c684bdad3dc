package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"

	"github.com/external-lb/external-lb/internal/explain"
	"github.com/external-lb/external-lb/internal/host"
	"github.com/external-lb/external-lb/internal/lb"
)

// application are the flags of the host apply command.
type application struct {
	files               []string
	balancer, namespace string
}

func newHostApply() *cobra.Command {
	var a application
	cmd := &cobra.Command{
		Use:   "apply -f FILE…",
		Short: "Make manifests live on this machine: no cluster needed",
		Long: `Make what manifests ask for live on this machine, as a delivery of the controller
would: checked, swapped in, reloaded, and proved or rolled back. The manifests are
those of external-lb render. Run it as root, on a machine that external-lb host
install has prepared. The next delivery of a controller replaces it, but for what carries
the API servers (spec.controlPlane): that stays until root applies manifests with another
or without it.

The exit code is 1 if nothing was proved, or if anything was refused.`,
		Example: `  external-lb host apply -f manifests/`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if len(a.files) == 0 {
				return errors.New("say which manifests: -f FILE, a directory, or - for stdin")
			}
			h, err := thisHost()
			if err != nil {
				return err
			}
			o, err := readManifests(a.files, a.namespace, stdinOf(cmd))
			if err != nil {
				return err
			}
			return a.run(cmd.Context(), h, o, output{cmd.OutOrStdout(), cmd.ErrOrStderr()})
		},
	}
	flags := cmd.Flags()
	flags.StringArrayVarP(&a.files, "filename", "f", nil, "file or directory of manifests, - for stdin; may be repeated")
	flags.StringVar(&a.balancer, "balancer", "", "the Balancer to apply, if there are several")
	flags.StringVarP(&a.namespace, "namespace", "n", corev1.NamespaceDefault, "namespace of objects that name none")
	return cmd
}

// output is where a command prints what was asked for, and what went wrong.
type output struct{ stdout, stderr io.Writer }

func (a *application) run(ctx context.Context, h host.Host, o *objects, out output) error {
	b, err := o.balancer(a.balancer)
	if err != nil {
		return fmt.Errorf("%w (--balancer NAME)", err)
	}
	p, err := o.plan(b)
	if err != nil {
		return err
	}
	set, err := p.ofThisMachine()
	if err != nil {
		return err
	}
	delivered, err := deliverHere(ctx, h, set, p.keep(set), len(p.Services) > 0)
	if err != nil {
		return err
	}
	if err := p.printDelivered(out.stdout, delivered); err != nil {
		return err
	}
	return errors.Join(refusals(delivered), o.findings(p).print(out.stderr))
}

// ofThisMachine is what the host that is called as this machine runs, or the only one.
func (p *planned) ofThisMachine() (*lb.Set, error) {
	if len(p.Sets) <= 1 {
		for _, set := range p.Sets {
			return set, nil
		}
		return p.Set, nil
	}
	name, err := os.Hostname()
	if err != nil {
		return nil, err
	}
	set, ok := p.Sets[name]
	if !ok {
		return nil, fmt.Errorf("Balancer %s has several hosts, and none is called %s as this machine is", p.balancer.Name, name)
	}
	return set, nil
}

// keep are the items that stay whatever a controller delivers: what carries the API servers.
func (p *planned) keep(set *lb.Set) (keys []lb.Key) {
	if _, carried := set.Get(lb.ServiceKey(lb.ControlPlane)); !carried {
		return nil
	}
	keys = append(keys, lb.ServiceKey(lb.ControlPlane))
	if _, moves := set.Get(lb.VRRPKey); moves {
		if a, err := netip.ParseAddr(p.balancer.Spec.ControlPlane.Address); err == nil {
			keys = append(keys, lb.VRRPKey, lb.AddressKey(a))
		}
	}
	return keys
}

// deliverHere makes a set live on this machine, whoever else delivers to it. Without
// Services it is of the API servers alone, and what a controller delivered stays.
func deliverHere(ctx context.Context, h host.Host, set *lb.Set, keep []lb.Key, services bool) (host.Outcome, error) {
	status, err := h.Status(ctx)
	if err != nil {
		return host.Outcome{}, err
	}
	change := lb.Diff(status.Wanted, set)
	if !services {
		change.Delete = slices.DeleteFunc(change.Delete, func(k lb.Key) bool { return k != lb.ServiceKey(lb.ControlPlane) })
	}
	return h.Apply(ctx, host.Delivery{
		Owner: true, Keep: keep, Base: status.Wanted.Digest(), Change: change, Want: status.Wanted.Apply(change).Digest(),
	})
}

// printDelivered says what is live now.
func (p *planned) printDelivered(w io.Writer, out host.Outcome) error {
	if _, err := fmt.Fprintf(w, "live and proved: %s\n", out.Live.Digest().Short()); err != nil {
		return err
	}
	if err := p.printControlPlane(w, out); err != nil {
		return err
	}
	for _, svc := range p.Services {
		if !out.Live.Has(svc.Key) {
			continue
		}
		for _, port := range svc.Object.Spec.Ports {
			for _, address := range svc.Addresses {
				if _, err := fmt.Fprintf(w, "Service %s: %s %d/%s to port %d of %s\n",
					name(svc.Object), address, port.Port, port.Protocol, port.NodePort, strings.Join(explain.NodeNames(p.Nodes), ", ")); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// printControlPlane says where the API servers are reached.
func (p *planned) printControlPlane(w io.Writer, out host.Outcome) error {
	it, wanted := p.Set.Get(lb.ServiceKey(lb.ControlPlane))
	if !wanted || !out.Live.Has(it.Key) {
		return nil
	}
	part, err := lb.Decode(it)
	s, ok := part.(*lb.Service)
	if err != nil || !ok {
		return err
	}
	left := []string{}
	for _, n := range s.Servers {
		if !slices.ContainsFunc(out.Refused, func(r host.Refusal) bool { return r.Key == lb.ServerKey(n.Name) }) {
			left = append(left, n.Name)
		}
	}
	for _, f := range s.Frontends {
		_, err := fmt.Fprintf(w, "API servers: %s to port %d of %s, whatever a controller delivers\n", f.Listener, f.NodePort, strings.Join(left, ", "))
		if err != nil {
			return err
		}
	}
	return nil
}

// refusals are what the machine left out, in the words of its daemon.
func refusals(out host.Outcome) error {
	var errs []error
	for _, r := range out.Refused {
		what := r.Key.Describe()
		if !r.OfItem() {
			what += " at " + r.Listener.String()
		}
		errs = append(errs, fmt.Errorf("%s is left out: %s", what, r.Message))
	}
	return errors.Join(errs...)
}
