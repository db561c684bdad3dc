package cli

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/explain"
	"github.com/external-lb/external-lb/internal/plan"
	"github.com/external-lb/external-lb/internal/record"
	"github.com/external-lb/external-lb/internal/translate"
)

func newStatus() *cobra.Command {
	var server apiServer
	var output string
	var health, watch bool
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show Balancers, hosts, nodes, pools and Services as one tree",
		Long: `Print what the API server knows of Balancers: their hosts, the nodes that may
carry traffic, the pools, and the Services with their addresses. What is wrong is
told where it is. With --health, also which nodes behind a Service the hosts hold for
down, and since when. With --output wide, also what is shortened else, the nodePorts,
and when each host proved its configuration last. With --watch it goes on until Ctrl-C,
shows what changes, and says if the API server does not answer.`,
		Example: `  external-lb status
  external-lb status --health
  external-lb status --watch --output wide
  external-lb status --output json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkOutput(output, "tree", "wide", "json", "yaml"); err != nil {
				return err
			}
			if watch && output != "tree" && output != "wide" {
				return fmt.Errorf("--watch shows a tree, not %s", output)
			}
			kube, err := server.client()
			if err != nil {
				return err
			}
			look := func(ctx context.Context) (*objects, error) {
				o, err := readCluster(ctx, kube)
				if o != nil {
					o.health = health
				}
				return o, err
			}
			if watch {
				return watchStatus(cmd.Context(), cmd.OutOrStdout(), look, output)
			}
			o, err := look(cmd.Context())
			if err != nil {
				return err
			}
			return printStatus(cmd.OutOrStdout(), o, output)
		},
	}
	server.flags(cmd)
	cmd.Flags().BoolVar(&health, "health", false, "tell of each Service which of its nodes are down, as the hosts say")
	outputFlag(cmd, &output, "tree", "wide", "json", "yaml")
	cmd.Flags().BoolVarP(&watch, "watch", "w", false, "go on, and show what changes")
	return cmd
}

// balancerView is what `status` tells of a Balancer.
type balancerView struct {
	Name     string                `json:"name"`
	Engine   string                `json:"engine"`
	Class    string                `json:"loadBalancerClass"`
	Default  bool                  `json:"default"`
	Problem  string                `json:"problem,omitempty"`
	Hosts    []v1alpha1.HostStatus `json:"hosts"`
	Nodes    []string              `json:"nodes"`
	Pods     bool                  `json:"pods,omitempty"` // get the traffic, and no nodes
	Pools    []poolView            `json:"pools"`
	Services []serviceView         `json:"services"`
}

type poolView struct {
	Name    string                 `json:"name"`
	IPv4    *v1alpha1.AddressUsage `json:"ipv4,omitempty"`
	IPv6    *v1alpha1.AddressUsage `json:"ipv6,omitempty"`
	Problem string                 `json:"problem,omitempty"`
}

type serviceView struct {
	Namespace string   `json:"namespace"`
	Name      string   `json:"name"`
	Addresses []string `json:"addresses"` // and hostnames
	Ports     []string `json:"ports"`     // 80/TCP
	Problem   string   `json:"problem,omitempty"`
	Backends  string   `json:"backends,omitempty"`

	nodePorts []string // 80/TCP:30080
}

// views of all Balancers, sorted by name.
func (o *objects) views() ([]balancerView, error) {
	out := []balancerView{}
	claims := o.claims()
	for _, b := range o.balancers {
		p, err := o.plan(b)
		if err != nil {
			return nil, err
		}
		view := balancerView{
			Name: b.Name, Engine: translate.Carriers(b).String(), Class: plan.Class(b), Default: b.Spec.Default,
			Problem: balancerProblem(b),
			Hosts:   hostViews(b),
			Nodes:   explain.NodeNames(p.Nodes), Pods: b.Spec.ToPods(),
			Pools: []poolView{}, Services: []serviceView{},
		}
		for _, pool := range o.pools {
			if pool.Spec.Balancer == b.Name {
				view.Pools = append(view.Pools, poolView{pool.Name, pool.Status.IPv4, pool.Status.IPv6, problem(pool.Status.Conditions, v1alpha1.ConditionAccepted)})
			}
		}
		for _, svc := range o.servicesOf(b, claims) {
			service := viewService(svc)
			if o.health {
				service.Backends = backends(svc)
			}
			view.Services = append(view.Services, service)
		}
		slices.SortFunc(view.Pools, func(a, b poolView) int { return cmp.Compare(a.Name, b.Name) })
		slices.SortFunc(view.Services, func(a, b serviceView) int {
			return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
		})
		out = append(out, view)
	}
	slices.SortFunc(out, func(a, b balancerView) int { return cmp.Compare(a.Name, b.Name) })
	return out, nil
}

// hostViews are the hosts of the spec, also those of which nothing is known yet.
func hostViews(b *v1alpha1.Balancer) []v1alpha1.HostStatus {
	out := []v1alpha1.HostStatus{}
	for _, h := range b.Spec.AllHosts() {
		at := slices.IndexFunc(b.Status.Hosts, func(s v1alpha1.HostStatus) bool { return s.Name == h.Name })
		if at < 0 {
			out = append(out, v1alpha1.HostStatus{Name: h.Name, State: v1alpha1.HostConnecting, Message: "the controller has not reported on it yet"})
			continue
		}
		out = append(out, b.Status.Hosts[at])
	}
	return out
}

func viewService(svc *corev1.Service) serviceView {
	view := serviceView{Namespace: svc.Namespace, Name: svc.Name, Addresses: append([]string{}, record.Shows(svc)...), Ports: []string{}}
	for _, p := range svc.Spec.Ports {
		port := fmt.Sprintf("%d/%s", p.Port, p.Protocol)
		view.Ports = append(view.Ports, port)
		if p.NodePort != 0 {
			port += fmt.Sprintf(":%d", p.NodePort)
		}
		view.nodePorts = append(view.nodePorts, port)
	}
	var problems []string
	if svc.DeletionTimestamp != nil {
		problems = append(problems, "Deleting: waits for the hosts to confirm that they no longer carry it")
	}
	for _, p := range []string{
		problem(svc.Status.Conditions, v1alpha1.ConditionServiceProgrammed),
		unsaid(problem(svc.Status.Conditions, v1alpha1.ConditionServiceProgrammed), exception(svc.Status.Conditions, v1alpha1.ConditionPortsError)),
		exception(svc.Status.Conditions, v1alpha1.ConditionMoving),
	} {
		if p != "" {
			problems = append(problems, p)
		}
	}
	if c := meta.FindStatusCondition(svc.Status.Conditions, v1alpha1.ConditionBackendsHealthy); c != nil && c.Reason == v1alpha1.ReasonNoNodeUp {
		problems = append(problems, c.Reason+": "+c.Message)
	}
	view.Problem = strings.Join(problems, "; ")
	return view
}

// backends are what the hosts say of the nodes behind a Service. Nobody has told of any that
// is down where there is no condition.
func backends(svc *corev1.Service) string {
	c := meta.FindStatusCondition(svc.Status.Conditions, v1alpha1.ConditionBackendsHealthy)
	if c == nil {
		return "nobody has said that any is down; not every engine can tell"
	}
	return c.Reason + ": " + c.Message
}

// unsaid is what more says that said does not: one of a Service's conditions sums up what
// another tells of its ports.
func unsaid(said, more string) string {
	reason, text, _ := strings.Cut(more, ": ")
	var out []string
	for part := range strings.SplitSeq(text, "; ") {
		if part != "" && !strings.Contains(said, part) {
			out = append(out, part)
		}
	}
	if len(out) == 0 {
		return ""
	}
	return reason + ": " + strings.Join(out, "; ")
}

func balancerProblem(b *v1alpha1.Balancer) string {
	if meta.FindStatusCondition(b.Status.Conditions, v1alpha1.ConditionAccepted) == nil {
		return "the controller has not seen it yet: is it running?"
	}
	for _, kind := range []string{v1alpha1.ConditionAccepted, v1alpha1.ConditionProgrammed} {
		if p := problem(b.Status.Conditions, kind); p != "" {
			return p
		}
	}
	return ""
}

// problem is what a condition that should be True says, if it is something else
// or more than that all is well.
func problem(conditions []metav1.Condition, kind string) string {
	c := meta.FindStatusCondition(conditions, kind)
	if c == nil || c.Status == metav1.ConditionTrue && (c.Reason == v1alpha1.ReasonProgrammed || c.Reason == v1alpha1.ReasonAccepted) {
		return ""
	}
	return c.Reason + ": " + c.Message
}

// exception is what a condition says that is there, and True, only at times.
func exception(conditions []metav1.Condition, kind string) string {
	c := meta.FindStatusCondition(conditions, kind)
	if c == nil || c.Status != metav1.ConditionTrue {
		return ""
	}
	return c.Reason + ": " + c.Message
}

func printStatus(w io.Writer, o *objects, output string) error {
	return printStatusIn(w, newPaint(w), o, output)
}

// printStatusIn the colours of where it is shown.
func printStatusIn(w io.Writer, p paint, o *objects, output string) error {
	views, err := o.views()
	if err != nil {
		return err
	}
	if output != "tree" && output != "wide" {
		return encode(w, output, map[string]any{"balancers": views})
	}
	if len(views) == 0 {
		_, err := fmt.Fprintln(w, "There is no Balancer yet; config/samples has one.")
		return err
	}
	for i, view := range views {
		if i > 0 {
			fmt.Fprintln(w)
		}
		if err := view.tree(p, output == "wide").print(w); err != nil {
			return err
		}
	}
	return nil
}
