package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/external-lb/external-lb/internal/explain"
)

func newExplain() *cobra.Command {
	cmd := &cobra.Command{
		SuggestionsMinimumDistance: 2,

		Use:     "explain",
		Short:   "Say why a Service has an address that answers, or has none",
		Example: `  external-lb explain service default/web`,
		Args:    noSuchCommand,
		RunE:    showHelp,
	}
	cmd.AddCommand(newExplainService())
	return cmd
}

func newExplainService() *cobra.Command {
	var server apiServer
	var namespace, managers, output string
	cmd := &cobra.Command{
		Use:     "service (NAMESPACE/NAME | NAME)",
		Aliases: []string{"svc", "services"},
		Short:   "Show the chain from a Service's class to its address, and what is wrong first",
		Long: `Show whether a manager works at all, and how far a Service gets, in the order in which
the controller decides: its class,
the Balancer, the address and its pool, the listeners, the hosts, the nodes, the pods,
policies, and what its status says. Each line is ok, wrong or unknown. What your
kubeconfig may not read is unknown. The last lines say what is wrong first, and where in
docs/troubleshooting.md it is written what to do.

The exit code is 0 if nothing is wrong, 1 if something is, and 2 if it could not be found
out.`,
		Example: `  external-lb explain service default/web
  external-lb explain service web --namespace default
  external-lb explain service default/web --output json`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return exit{2, errors.New("say which: external-lb explain service NAMESPACE/NAME")}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkOutput(output, "text", "json", "yaml"); err != nil {
				return exit{2, err}
			}
			key, err := server.key(namespace, args[0])
			if err != nil {
				return exit{2, err}
			}
			kube, err := server.client()
			if err != nil {
				return exit{2, err}
			}
			view, err := explainService(cmd.Context(), kube, key, managers)
			if err != nil {
				return exit{2, err}
			}
			return view.print(cmd.OutOrStdout(), output)
		},
		ValidArgsFunction: server.completeFirst(serviceKind),
	}
	exitCode2(cmd)
	server.flags(cmd)
	cmd.Flags().StringVarP(&namespace, "namespace", "n", "", "namespace of the Service (default: that of the context)")
	cmd.Flags().StringVar(&managers, "manager-namespace", defaultNamespace, "namespace of the controller")
	server.completeNamespaces(cmd, "namespace", "manager-namespace")
	outputFlag(cmd, &output, "text", "json", "yaml")
	return cmd
}

// key of a namespaced object that is named as NAMESPACE/NAME, or by its name.
func (a *apiServer) key(namespace, name string) (client.ObjectKey, error) {
	in, rest, both := strings.Cut(name, "/")
	switch {
	case both && (in == "" || rest == "" || strings.Contains(rest, "/")):
		return client.ObjectKey{}, fmt.Errorf("%q: want NAMESPACE/NAME, or a name", name)
	case both && namespace != "" && namespace != in:
		return client.ObjectKey{}, fmt.Errorf("%q is not in the namespace %s: say one of the two", name, namespace)
	case both:
		return client.ObjectKey{Namespace: in, Name: rest}, nil
	case namespace != "":
		return client.ObjectKey{Namespace: namespace, Name: name}, nil
	}
	in, _, err := a.loader().Namespace()
	if err != nil {
		return client.ObjectKey{}, fmt.Errorf("finding the API server: %w", err)
	}
	return client.ObjectKey{Namespace: in, Name: name}, nil
}

// explanation is what `explain service` tells.
type explanation struct {
	Service  string           `json:"service"` // namespace/name
	OK       bool             `json:"ok"`      // nothing is known to be wrong
	Findings explain.Chain    `json:"findings"`
	First    *explain.Finding `json:"first,omitempty"` // of the findings that is wrong
}

func explainService(ctx context.Context, kube client.Reader, key client.ObjectKey, managers string) (*explanation, error) {
	svc := &corev1.Service{}
	switch err := kube.Get(ctx, key, svc); {
	case apierrors.IsNotFound(err):
		return nil, fmt.Errorf("there is no Service %s", key)
	case err != nil:
		return nil, fmt.Errorf("asking the API server: %w", err)
	}
	works, err := manager(ctx, kube, managers, renewalPatience)
	if err != nil {
		return nil, err
	}
	o, unread, err := readAllowed(ctx, kube, svc)
	if err != nil {
		return nil, err
	}
	chain, err := explain.Explain(explain.Facts{Service: svc, Objects: o.planning(), Unread: unread, Manager: works})
	if err != nil {
		return nil, err
	}
	first := chain.First()
	return &explanation{Service: key.String(), OK: first == nil, Findings: chain, First: first}, nil
}

// readAllowed reads what matters to a Service. Why something may not be read is said by kind.
func readAllowed(ctx context.Context, kube client.Reader, svc *corev1.Service) (*objects, map[string]string, error) {
	o, unread := newObjects(), map[string]string{}
	here := client.InNamespace(svc.Namespace)
	options := map[string][]client.ListOption{
		explain.Policies: {here}, explain.Slices: {here, client.MatchingLabels{discoveryv1.LabelServiceName: svc.Name}},
	}
	for _, part := range clusterParts() {
		err := o.list(ctx, kube, part.list, options[part.kind]...)
		if apierrors.IsForbidden(err) {
			unread[part.kind] = "you may not list " + part.kind
			continue
		}
		if err != nil {
			return nil, nil, err
		}
	}
	if err := o.readPods(ctx, kube, here); err != nil {
		return nil, nil, err
	}
	if o.podsUnread != "" {
		unread[explain.Pods], o.podsUnread = o.podsUnread, ""
	}
	return o, unread, nil
}

func (v *explanation) print(w io.Writer, output string) error {
	var err error
	if output == "text" {
		err = v.text(w)
	} else {
		err = encode(w, output, v)
	}
	switch {
	case err != nil:
		return exit{2, err}
	case !v.OK:
		return exit{1, nil}
	}
	return nil
}

func (v *explanation) text(w io.Writer) error {
	p := newPaint(w)
	colours := map[explain.State]func(string) string{explain.OK: p.good, explain.Wrong: p.bad, explain.Unknown: p.middle}
	var out strings.Builder
	fmt.Fprintf(&out, "Service %s\n", p.bold(v.Service))
	for _, f := range v.Findings {
		fmt.Fprintf(&out, "%s  %-9s  %s\n", colours[f.State](fmt.Sprintf("%-7s", f.State)), f.Link, because(f))
	}
	out.WriteString("\n")
	if v.First == nil {
		out.WriteString(p.good("Nothing is known to be wrong.") + "\n")
		if unknown := v.Findings.Unknown(); len(unknown) > 0 {
			fmt.Fprintf(&out, "Not known: %s.\n", strings.Join(unknown, ", "))
		}
	} else {
		fmt.Fprintf(&out, "%s %s: %s\n", p.bad("Wrong first:"), v.First.Link, because(*v.First))
		if v.First.See != "" {
			fmt.Fprintf(&out, "What to do: see %q in docs/troubleshooting.md\n", v.First.See)
		}
	}
	_, err := io.WriteString(w, out.String())
	return err
}

// because is a finding with its reason, and on one line.
func because(f explain.Finding) string {
	message := plain(f.Message)
	if f.State == explain.OK || f.Reason == "" {
		return message
	}
	return f.Reason + ": " + message
}
