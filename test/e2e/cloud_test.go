package e2e

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/external-lb/external-lb/api/v1alpha1"
	contract "github.com/external-lb/external-lb/internal/engine"
	"github.com/external-lb/external-lb/internal/translate"
	"github.com/external-lb/external-lb/test/builder"
	"github.com/external-lb/external-lb/test/conformance"
	"github.com/external-lb/external-lb/test/lab"
	"github.com/external-lb/external-lb/test/octavia"
	"github.com/external-lb/external-lb/test/wait"
)

// inOctavia are no hosts, but a real Octavia, and the provider for it. Only the rows are run on it, and
// only where somebody asks for it.
var inOctavia = testedEngine{
	name: v1alpha1.EngineProvider, own: conformance.Octavia, part: `^Test[SE][0-9][0-9]_`,
	pools: []string{"203.0.113.0/24", "10.64.0.0/20"},
}

// cloud is where inOctavia runs, in a box of that name; nil where hosts carry.
var cloud *octavia.Octavia

// cloudProvider makes the load balancers of the cloud.
var cloudProvider *octavia.Provider

// startCloud beside the lab, with a Balancer that uses it.
func startCloud(ctx context.Context, dir string) (err error) {
	const box = "cloud"
	if err := env.AddClient(ctx, box); err != nil {
		return err
	}
	if cloud, err = octavia.Start(ctx, env.Cluster, box, env.Hosts()[0], engine.pools, os.Stderr); err != nil {
		return err
	}
	nodes := netip.PrefixFrom(env.Addrs(box)[0], 20).Masked().String()
	if cloudProvider, err = cloud.StartProvider(ctx, binary, dir, octavia.Place{Project: octavia.Project, Subnet: octavia.Subnet}, nodes, "192.0.2.0/24"); err != nil {
		return err
	}
	return createCloudBalancer(ctx)
}

func createCloudBalancer(ctx context.Context) error {
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: lab.Namespace, Name: "cloud"}, Data: map[string][]byte{}}
	for key, file := range map[string]string{"token": cloudProvider.Token, "ca.crt": cloudProvider.CA} {
		data, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		secret.Data[key] = data
	}
	b := builder.Balancer(balancer).Manifest()
	b.Spec.Engine, b.Spec.Reload.MinInterval = v1alpha1.EngineProvider, "100ms"
	b.Spec.Provider = &v1alpha1.Provider{URL: cloudProvider.URL, SecretRef: corev1.LocalObjectReference{Name: secret.Name}}
	for _, obj := range []client.Object{secret, b} {
		if err := env.Kube.Create(ctx, obj); err != nil {
			return err
		}
	}
	return wait.Until(ctx, func(ctx context.Context) error { // before that nobody knows what applies
		if err := env.Kube.Get(ctx, client.ObjectKeyFromObject(b), b); err != nil {
			return err
		}
		if b.Status.Provider == nil {
			return fmt.Errorf("the provider has not said what it can do: %+v", b.Status)
		}
		return nil
	})
}

// carriers are what carries the Services of the Balancer under test.
func carriers(t *testing.T) contract.Carriers {
	t.Helper()
	return translate.Carriers(getBalancer(t, balancer))
}

// needsHosts ends a test, or a part of one, that is about hosts where a cloud carries.
func needsHosts(t *testing.T) {
	t.Helper()
	applies(t, cloud == nil)
}

// families reports whether Services have addresses of so many.
func families(t *testing.T, count int) bool {
	t.Helper()
	said := getBalancer(t, balancer).Status.Provider
	return said == nil || len(said.Families) >= count
}

// carrying are the boxes to which addresses are routed: hosts, or the cloud.
func carrying() []string {
	if cloud != nil {
		return []string{"cloud"}
	}
	return env.Hosts()[:2]
}

// routeVia leads addresses to one box, or to none, until the test ends.
func routeVia(t *testing.T, boxes ...string) {
	t.Helper()
	must(t, env.RouteVia(t.Context(), boxes...))
	t.Cleanup(func() { must(t, env.RouteVia(context.Background(), carrying()...)) })
}

// outOfReach cuts the last host off, or ends the provider. It is back when the test ends, or heals it.
func outOfReach(t *testing.T) (host string, heal func()) {
	t.Helper()
	if cloud != nil {
		cloudProvider.Stop()
		host, heal = v1alpha1.ProviderHost, func() { must(t, cloudProvider.Start(context.Background())) }
	} else {
		host = env.Hosts()[1]
		must(t, env.Cut(t.Context(), host))
		heal = func() { must(t, env.Heal(context.Background(), host)) }
	}
	heal = sync.OnceFunc(heal)
	t.Cleanup(heal)
	return host, heal
}

// leftOf a namespace, or of one Service in it, is nothing on a host or in the cloud; else it is an error.
func (s *scene) leftOf(ctx context.Context, host, service string) (err error) {
	var left, name string
	if cloud != nil {
		var names []string
		names, err = cloud.Names(ctx)
		left, name = strings.Join(names, "\n"), s.namespace+"/"+service
	} else {
		left, err = mustHost(s.t, host).Shell(ctx, "find "+engine.live()+" -type f")
		name = s.namespace + "." + service
	}
	if err == nil && strings.Contains(left, name) {
		err = fmt.Errorf("left behind on %s:\n%s", host, left)
	}
	return err
}
