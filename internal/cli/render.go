package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"text/tabwriter"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/fileset"
	"github.com/external-lb/external-lb/internal/ipam"
	"github.com/external-lb/external-lb/internal/plan"
)

func newRender() *cobra.Command {
	var files []string
	var dir, balancer string
	cmd := &cobra.Command{
		Use:   "render -f FILE…",
		Short: "Manifests in, the exact files of the hosts out: no cluster needed",
		Long: `Render what the hosts of a Balancer would run, from manifests: Balancers,
AddressPools, UpstreamPolicies, Services with nodePorts, Nodes, and where it
matters EndpointSlices and Namespaces. It is the code of the controller.

What a Service's owner would be told is printed on stderr; if a Service is left
out, the exit code is 1.`,
		Example: `  external-lb render -f balancer.yaml -f services.yaml -f nodes.yaml
  kubectl get balancers,pools,upol,svc,nodes,endpointslices,ns -A -o yaml | external-lb render -f - -o out/`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if len(files) == 0 {
				return errors.New("say which manifests: -f FILE, a directory, or - for stdin")
			}
			m, err := readManifests(files, cmd.InOrStdin())
			if err != nil {
				return err
			}
			return m.render(balancer, dir, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	cmd.Flags().StringArrayVarP(&files, "filename", "f", nil, "file or directory of manifests, - for stdin; may be repeated")
	cmd.Flags().StringVarP(&dir, "output", "o", "", "directory to write the files to (default: print them)")
	cmd.Flags().StringVar(&balancer, "balancer", "", "the Balancer to render, if there are several")
	return cmd
}

func (m *manifests) render(name, dir string, stdout, stderr io.Writer) error {
	b, err := m.balancer(name)
	if err != nil {
		return err
	}
	p, poolProblems, err := m.plan(b)
	if err != nil {
		return err
	}
	if dir == "" {
		err = printFiles(stdout, p.Set)
	} else {
		err = writeFiles(dir, p.Set)
	}
	return errors.Join(err, report(stderr, p, poolProblems))
}

func (m *manifests) balancer(name string) (*v1alpha1.Balancer, error) {
	var names []string
	for _, b := range m.balancers {
		if b.Name == name || name == "" && len(m.balancers) == 1 {
			return b, nil
		}
		names = append(names, b.Name)
	}
	switch {
	case len(names) == 0:
		return nil, errors.New("there is no Balancer in the manifests")
	case name == "":
		return nil, fmt.Errorf("there are several Balancers; say --balancer, one of %q", names)
	default:
		return nil, fmt.Errorf("there is no Balancer %s in the manifests, only %q", name, names)
	}
}

// plan is what the controller would plan, once it had everything on record.
func (m *manifests) plan(b *v1alpha1.Balancer) (*plan.Plan, map[string]*ipam.Problem, error) {
	snap := &plan.Snapshot{
		Balancer: b, Claims: plan.NewClaims(m.balancers),
		Nodes: m.nodes, Slices: m.slices, Namespaces: m.namespaces, Policies: m.policies,
		KnownBalancers: map[string]bool{},
	}
	for _, other := range m.balancers {
		snap.KnownBalancers[other.Name] = true
	}
	pools, problems := ipam.ParsePools(m.pools)
	snap.Pools = slices.DeleteFunc(pools, func(p *ipam.Pool) bool { return p.Balancer != b.Name })
	for _, svc := range m.services {
		if snap.Claims.Of(svc) == b || plan.HeldBy(svc) == b.Name {
			snap.Services = append(snap.Services, svc)
		}
	}
	assigned := plan.Assign(snap)
	for i, svc := range assigned.Carried {
		assigned.Carried[i] = onRecord(svc, b, assigned)
	}
	planner, err := plan.NewPlanner(b.Spec.Engine)
	if err != nil {
		return nil, nil, err
	}
	p, err := planner.Plan(snap, assigned)
	return p, problems, err
}

// onRecord is a Service as the controller leaves it before it programs it.
func onRecord(svc *corev1.Service, b *v1alpha1.Balancer, a *plan.Assignments) *corev1.Service {
	svc = svc.DeepCopy()
	if !plan.Held(svc) {
		svc.Finalizers = append(svc.Finalizers, v1alpha1.CleanupFinalizer)
	}
	if svc.Annotations == nil {
		svc.Annotations = map[string]string{}
	}
	svc.Annotations[v1alpha1.HeldByAnnotation] = b.Name
	svc.Annotations[v1alpha1.HeldAddressesAnnotation] = plan.FormatAddresses(a.Record(svc))
	return svc
}

func printFiles(w io.Writer, set *fileset.Set) error {
	for f := range set.All() {
		if _, err := fmt.Fprintf(w, "==> %s <==\n%s\n", f.Path, f.Data); err != nil {
			return err
		}
	}
	return nil
}

func writeFiles(dir string, set *fileset.Set) error {
	for f := range set.All() {
		path := filepath.Join(dir, filepath.FromSlash(f.Path))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, f.Data, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// report prints what owners would be told, and fails if a Service is left out.
func report(w io.Writer, p *plan.Plan, pools map[string]*ipam.Problem) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for name, problem := range pools {
		fmt.Fprintf(table, "AddressPool %s\t%s\t%s\n", name, problem.Reason, problem.Message)
	}
	out := 0
	for _, svc := range p.Services {
		for _, problem := range svc.Problems {
			fmt.Fprintf(table, "Service %s/%s\t%s\t%s\n", svc.Object.Namespace, svc.Object.Name, problem.Reason, problem.Message)
		}
		if svc.Fatal() != nil {
			out++
		}
	}
	for _, u := range p.Unsupported {
		fmt.Fprintf(table, "Balancer\t%s\t%s\n", v1alpha1.ReasonUnsupported, u)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	if out > 0 || len(pools) > 0 {
		return fmt.Errorf("%d Services and %d AddressPools are left out", out, len(pools))
	}
	return nil
}
