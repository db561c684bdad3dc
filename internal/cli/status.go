package cli

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/controllers"
	"github.com/external-lb/external-lb/internal/plan"
)

func newStatus() *cobra.Command {
	var kubeconfig string
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Balancers, hosts, pools, Services and addresses as one tree",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			kube, err := newClient(kubeconfig)
			if err != nil {
				return err
			}
			return printTree(cmd.Context(), kube, cmd.OutOrStdout())
		},
	}
	cmd.Flags().StringVar(&kubeconfig, "kubeconfig", "", "kubeconfig file (default: as kubectl)")
	return cmd
}

func newClient(kubeconfig string) (client.Client, error) {
	config, err := restConfig(kubeconfig)
	if err != nil {
		return nil, err
	}
	return client.New(config, client.Options{Scheme: controllers.Scheme()})
}

func printTree(ctx context.Context, kube client.Client, w io.Writer) error {
	var balancers v1alpha1.BalancerList
	var pools v1alpha1.AddressPoolList
	var services corev1.ServiceList
	for _, list := range []client.ObjectList{&balancers, &pools, &services} {
		if err := kube.List(ctx, list); err != nil {
			return err
		}
	}
	var all []*v1alpha1.Balancer
	for i := range balancers.Items {
		all = append(all, &balancers.Items[i])
	}
	claims := plan.NewClaims(all)
	for _, b := range all {
		fmt.Fprintf(w, "Balancer %s  %s  class %s  %d nodes%s\n", b.Name, b.Spec.Engine, plan.Class(b), b.Status.Nodes, conditionInWords(b.Status.Conditions, v1alpha1.ConditionProgrammed))
		for _, h := range b.Status.Hosts {
			fmt.Fprintf(w, "├─ host %s  %s\n", h.Name, join(string(h.State), h.EngineVersion, h.Digest, h.Message))
		}
		for _, p := range pools.Items {
			if p.Spec.Balancer == b.Name {
				fmt.Fprintf(w, "├─ pool %s  %s%s\n", p.Name, usage(p.Status), conditionInWords(p.Status.Conditions, v1alpha1.ConditionAccepted))
			}
		}
		for i := range services.Items {
			svc := &services.Items[i]
			if claims.Of(svc) == b || plan.HeldBy(svc) == b.Name {
				fmt.Fprintf(w, "├─ service %s/%s  %s%s\n", svc.Namespace, svc.Name, addressesInWords(svc), conditionInWords(svc.Status.Conditions, v1alpha1.ConditionServiceProgrammed))
			}
		}
		fmt.Fprintln(w, "╵")
	}
	if len(all) == 0 {
		fmt.Fprintln(w, "there is no Balancer yet: see config/samples")
	}
	return nil
}

// conditionInWords says what is wrong, and nothing where nothing is.
func conditionInWords(conditions []metav1.Condition, kind string) string {
	c := meta.FindStatusCondition(conditions, kind)
	if c == nil || c.Status == "True" && (c.Reason == v1alpha1.ReasonProgrammed || c.Reason == v1alpha1.ReasonAccepted) {
		return ""
	}
	return fmt.Sprintf("  ! %s: %s", c.Reason, c.Message)
}

func addressesInWords(svc *corev1.Service) string {
	published := plan.Published(svc)
	if len(published) == 0 {
		return "no address"
	}
	var ports []string
	for _, p := range svc.Spec.Ports {
		ports = append(ports, fmt.Sprintf("%d/%s", p.Port, p.Protocol))
	}
	return plan.FormatAddresses(published) + "  " + strings.Join(ports, ",")
}

func usage(s v1alpha1.AddressPoolStatus) string {
	var out []string
	for _, f := range []struct {
		name string
		u    *v1alpha1.AddressUsage
	}{{"IPv4", s.IPv4}, {"IPv6", s.IPv6}} {
		if f.u != nil {
			out = append(out, fmt.Sprintf("%s %d of %d", f.name, f.u.Assigned, f.u.Capacity))
		}
	}
	return strings.Join(out, ", ")
}

func join(words ...string) string {
	var out []string
	for _, w := range words {
		if w != "" {
			out = append(out, w)
		}
	}
	return strings.Join(out, "  ")
}
