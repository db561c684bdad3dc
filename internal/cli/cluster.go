package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/controllers"
	"github.com/external-lb/external-lb/internal/explain"
)

// apiServer says where the API server is.
type apiServer struct{ kubeconfig, context string }

func (a *apiServer) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&a.kubeconfig, "kubeconfig", "", "kubeconfig file (default: $KUBECONFIG, ~/.kube/config, or the pod's own account)")
	cmd.Flags().StringVar(&a.context, "context", "", "context of the kubeconfig (default: the current one)")
	completeFlag(cmd, "context", a.contexts)
}

// loader finds the API server as kubectl does, or as a pod does.
func (a *apiServer) loader() clientcmd.ClientConfig {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = a.kubeconfig
	return clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, &clientcmd.ConfigOverrides{CurrentContext: a.context})
}

func (a *apiServer) config() (*rest.Config, error) {
	config, err := a.loader().ClientConfig()
	if clientcmd.IsEmptyConfig(err) {
		return nil, errors.New("no API server is known: say --kubeconfig or set KUBECONFIG, or run in a pod")
	}
	if err != nil {
		return nil, fmt.Errorf("finding the API server: %w", err)
	}
	return config, nil
}

// askTimeout bounds one question to the API server or to a host.
const askTimeout = 20 * time.Second

// client is for a person who waits: it gives up.
func (a *apiServer) client() (client.Client, error) { return a.clientWithin(askTimeout) }

func (a *apiServer) clientWithin(answer time.Duration) (client.Client, error) {
	config, err := a.config()
	if err != nil {
		return nil, err
	}
	config.QPS, config.Timeout = -1, answer
	kube, err := client.New(config, client.Options{Scheme: controllers.Scheme()})
	if err != nil {
		return nil, fmt.Errorf("connecting to the API server: %w", err)
	}
	return kube, nil
}

// readCluster reads from an API server what plans depend on.
func readCluster(ctx context.Context, kube client.Reader) (*objects, error) {
	o := newObjects()
	for _, part := range clusterParts() {
		if err := o.list(ctx, kube, part.list); err != nil {
			return nil, err
		}
	}
	return o, o.readPods(ctx, kube)
}

// readPods reads Pods, if a Balancer sends to any. What plans say of its nodes tells where
// they may not be read.
func (o *objects) readPods(ctx context.Context, kube client.Reader, options ...client.ListOption) error {
	if !o.toPods() {
		return nil
	}
	err := o.list(ctx, kube, &corev1.PodList{}, options...)
	if apierrors.IsForbidden(err) {
		o.podsUnread = "you may not list " + explain.Pods
		return nil
	}
	return err
}

// clusterPart is what plans depend on, by kind.
type clusterPart struct {
	kind string
	list client.ObjectList
}

func clusterParts() []clusterPart {
	return []clusterPart{
		{explain.Balancers, &v1alpha1.BalancerList{}}, {explain.Pools, &v1alpha1.AddressPoolList{}}, {explain.Policies, &v1alpha1.UpstreamPolicyList{}},
		{explain.Services, &corev1.ServiceList{}}, {explain.Nodes, &corev1.NodeList{}}, {explain.Slices, &discoveryv1.EndpointSliceList{}},
		{explain.Namespaces, &corev1.NamespaceList{}},
	}
}

var errNotInstalled = errors.New("external-lb is not installed in this cluster: kubectl apply -k config/default")

// list adds the objects of one kind.
func (o *objects) list(ctx context.Context, kube client.Reader, list client.ObjectList, options ...client.ListOption) error {
	err := kube.List(ctx, list, options...)
	if meta.IsNoMatchError(err) {
		return errNotInstalled
	}
	if err != nil {
		return fmt.Errorf("asking the API server: %w", err)
	}
	items, err := meta.ExtractList(list)
	if err != nil {
		return err
	}
	for _, item := range items {
		o.add(item)
	}
	return nil
}

// readSecrets reads the certificates that policies name.
func (o *objects) readSecrets(ctx context.Context, kube client.Reader) error {
	for _, p := range o.policies {
		if p.Spec.TLS == nil {
			continue
		}
		key := client.ObjectKey{Namespace: p.Namespace, Name: p.Spec.TLS.SecretRef.Name}
		var secret corev1.Secret
		switch err := kube.Get(ctx, key, &secret); {
		case apierrors.IsNotFound(err):
		case err != nil:
			return fmt.Errorf("the certificate of UpstreamPolicy %s/%s: %w", p.Namespace, p.Name, err)
		default:
			o.add(&secret)
		}
	}
	return nil
}
