package cli

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/external-lb/external-lb/api/v1alpha1"
)

// A person has pressed the tab key and waits.
const (
	completionTimeout = 2 * time.Second
	completionAtOnce  = 500
)

var (
	serviceKind   = corev1.SchemeGroupVersion.WithKind("Service")
	namespaceKind = corev1.SchemeGroupVersion.WithKind("Namespace")
	balancerKind  = v1alpha1.GroupVersion.WithKind("Balancer")
	poolKind      = v1alpha1.GroupVersion.WithKind("AddressPool")
)

// completeFirst names objects of a kind for the first argument.
func (a *apiServer) completeFirst(kind schema.GroupVersionKind) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return a.names(cmd, kind, begun), cobra.ShellCompDirectiveNoFileComp
	}
}

// completeSubject is for the arguments of `events`.
func (a *apiServer) completeSubject(cmd *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
	kinds := map[string]schema.GroupVersionKind{"balancer": balancerKind, "pool": poolKind, "service": serviceKind}
	var names []string
	switch {
	case len(args) == 0:
		names = slices.Sorted(maps.Keys(kinds))
	case len(args) == 1 && !kinds[args[0]].Empty():
		names = a.names(cmd, kinds[args[0]], begun)
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// names of objects that begin so. What goes wrong is no business of somebody's prompt.
func (a *apiServer) names(cmd *cobra.Command, kind schema.GroupVersionKind, begun string) []string {
	ctx, cancel := context.WithTimeout(cmd.Context(), completionTimeout)
	defer cancel()
	kube, err := a.clientWithin(completionTimeout)
	if err != nil {
		return nil
	}
	here := ""
	if flag := cmd.Flags().Lookup("namespace"); flag != nil && kind == serviceKind {
		here = flag.Value.String()
	}
	options := []client.ListOption{client.Limit(completionAtOnce)}
	if in, _, both := strings.Cut(begun, "/"); both || here != "" {
		options = append(options, client.InNamespace(cmp.Or(here, in)))
	}
	list := &metav1.PartialObjectMetadataList{}
	list.SetGroupVersionKind(kind.GroupVersion().WithKind(kind.Kind + "List"))
	var out []string
	for more := true; more; more = list.Continue != "" {
		if err := kube.List(ctx, list, slices.Concat(options, []client.ListOption{client.Continue(list.Continue)})...); err != nil {
			break // what is known so far helps, too
		}
		for _, item := range list.Items {
			name := item.Name
			if item.Namespace != "" && here == "" {
				name = item.Namespace + "/" + name
			}
			if strings.HasPrefix(name, begun) {
				out = append(out, name)
			}
		}
	}
	slices.Sort(out)
	return out
}

// completeNamespaces completes flags that name one.
func (a *apiServer) completeNamespaces(cmd *cobra.Command, flags ...string) {
	for _, flag := range flags {
		completeFlag(cmd, flag, func(cmd *cobra.Command, _ []string, begun string) ([]string, cobra.ShellCompDirective) {
			return a.names(cmd, namespaceKind, begun), cobra.ShellCompDirectiveNoFileComp
		})
	}
}

// contexts of the kubeconfig.
func (a *apiServer) contexts(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	config, err := a.loader().RawConfig()
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return slices.Sorted(maps.Keys(config.Contexts)), cobra.ShellCompDirectiveNoFileComp
}

func completeFlag(cmd *cobra.Command, flag string, complete cobra.CompletionFunc) {
	if err := cmd.RegisterFlagCompletionFunc(flag, complete); err != nil {
		panic(err) // there is no such flag, or it has one: a build that can never work
	}
}
