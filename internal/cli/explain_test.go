package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/external-lb/external-lb/internal/explain"
	"github.com/external-lb/external-lb/test/builder"
)

func explained(t *testing.T, kube client.Reader, name, output string) (text string, code int) {
	t.Helper()
	v, err := explainService(t.Context(), kube, client.ObjectKey{Namespace: "default", Name: name}, defaultNamespace)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if e, ok := errors.AsType[exit](v.print(&out, output)); ok {
		code = e.code
	}
	return out.String(), code
}

func TestExplain_SaysWhatIsWrongFirst(t *testing.T) {
	want := strings.TrimLeft(`
Service default/late
ok       manager    manager-1 works
ok       service    of type LoadBalancer
ok       class      it names no class, which is for Balancers with default: true: Balancer edge
ok       balancer   edge, with nginx: ok
ok       address    203.0.113.0, of AddressPool public
wrong    listener   LoadBalancerMixedProtocolNotSupported: nginx cannot carry 53/SCTP
ok       host       lb1 is InSync: its clock is behind
unknown  host       lb2: the controller has not reported on it yet
ok       nodes      1 of 1 may carry traffic: node1
wrong    endpoints  no pod of the Service is ready, so nothing answers: see spec.selector and the pods
wrong    status     PoolExhausted: public is full

Wrong first: listener: LoadBalancerMixedProtocolNotSupported: nginx cannot carry 53/SCTP
What to do: see "A Service has no address" in docs/troubleshooting.md
`, "\n")
	got, code := explained(t, inCluster(t, strings.ReplaceAll(twoHosts, "protocol: UDP", "protocol: SCTP")), "late", "text")
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if code != 1 {
		t.Errorf("exit code %d, want 1", code)
	}
}

// allowing refuses to list all but some kinds, as an API server does.
func allowing(t *testing.T, kube client.Client, kinds ...string) client.Reader {
	t.Helper()
	list := func(ctx context.Context, c client.WithWatch, list client.ObjectList, options ...client.ListOption) error {
		gvk, err := c.GroupVersionKindFor(list)
		if err != nil {
			return err
		}
		for _, kind := range kinds {
			if gvk.Kind == kind+"List" {
				return c.List(ctx, list, options...)
			}
		}
		return apierrors.NewForbidden(schema.GroupResource{Group: gvk.Group, Resource: gvk.Kind}, "", errors.New("no"))
	}
	withWatch, ok := kube.(client.WithWatch)
	if !ok {
		t.Fatal("this client cannot watch")
	}
	return interceptor.NewClient(withWatch, interceptor.Funcs{List: list})
}

// forbidding gives nobody anything, as an API server does.
func forbidding(t *testing.T, kube client.Client) client.Reader {
	t.Helper()
	withWatch, ok := kube.(client.WithWatch)
	if !ok {
		t.Fatal("this client cannot watch")
	}
	no := apierrors.NewForbidden(schema.GroupResource{}, "", errors.New("no"))
	return interceptor.NewClient(withWatch, interceptor.Funcs{
		Get: func(context.Context, client.WithWatch, client.ObjectKey, client.Object, ...client.GetOption) error {
			return no
		},
		List: func(context.Context, client.WithWatch, client.ObjectList, ...client.ListOption) error { return no },
	})
}

func TestExplain_WhatMayNotBeReadIsUnknown(t *testing.T) {
	kube := inCluster(t, twoHosts)
	slice := builder.EndpointSlice("default", "web-1", discoveryv1.AddressTypeIPv4).Label(discoveryv1.LabelServiceName, "web").Ready("node1").Manifest()
	if err := kube.Create(t.Context(), slice); err != nil {
		t.Fatal(err)
	}
	got, code := explained(t, allowing(t, kube, "EndpointSlice", "UpstreamPolicy"), "web", "json")
	var view struct {
		OK       bool
		Findings explain.Chain
	}
	if err := json.Unmarshal([]byte(got), &view); err != nil {
		t.Fatalf("%v\n%s", err, got)
	}
	if code != 0 || !view.OK {
		t.Errorf("exit code %d, want 0\n%s", code, got)
	}
	if diff := cmp.Diff([]string{"class", "balancer", "host", "nodes"}, view.Findings.Unknown()); diff != "" {
		t.Error(diff)
	}
	if text, _ := explained(t, allowing(t, kube, "EndpointSlice", "UpstreamPolicy"), "web", "text"); !strings.Contains(text, "Not known: class, balancer, host, nodes.") {
		t.Errorf("it does not say what is not known:\n%s", text)
	}
}

func TestExplain_AServiceThatIsNotThere(t *testing.T) {
	_, err := explainService(t.Context(), inCluster(t, twoHosts), client.ObjectKey{Namespace: "default", Name: "nobody"}, defaultNamespace)
	if err == nil || err.Error() != "there is no Service default/nobody" {
		t.Errorf("got %v", err)
	}
}

func TestKeysOfObjects(t *testing.T) {
	none := &apiServer{kubeconfig: "testdata/kubeconfig"}
	for _, c := range []struct{ namespace, name, want, fails string }{
		{"", "shop/web", "shop/web", ""},
		{"shop", "web", "shop/web", ""},
		{"shop", "shop/web", "shop/web", ""},
		{"", "web", "of-context/web", ""},
		{"other", "shop/web", "", "is not in the namespace other"},
		{"", "shop/", "", "want NAMESPACE/NAME, or a name"},
		{"", "a/b/c", "", "want NAMESPACE/NAME, or a name"},
	} {
		key, err := none.key(c.namespace, c.name)
		if c.fails == "" && (err != nil || key.String() != c.want) || c.fails != "" && (err == nil || !strings.Contains(err.Error(), c.fails)) {
			t.Errorf("%q in %q: %v, %v; want %s%s", c.name, c.namespace, key, err, c.want, c.fails)
		}
	}
}

// The page for users shows what the command prints.
func TestExplain_ThePageIsTrue(t *testing.T) {
	kube := inCluster(t, `
apiVersion: external-lb.dev/v1alpha1
kind: Balancer
metadata: {name: edge}
spec:
  hosts: [{name: lb1, address: 192.0.2.5, secretRef: {name: edge-ssh}}]
status:
  hosts: [{name: lb1, state: InSync}]
  conditions: [{type: Accepted, status: "True", reason: Accepted, message: in force, lastTransitionTime: null}]
---
apiVersion: external-lb.dev/v1alpha1
kind: AddressPool
metadata: {name: public}
spec: {balancer: edge, addresses: [203.0.113.0/28], serviceSelector: {matchLabels: {public: "yes"}}}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {type: LoadBalancer, loadBalancerClass: external-lb.dev/edge, ports: [{port: 80, nodePort: 30080}]}
---
apiVersion: v1
kind: Node
metadata: {name: node1}
status: {addresses: [{type: InternalIP, address: 10.0.0.1}]}
`)
	slice := builder.EndpointSlice("shop", "web-1", discoveryv1.AddressTypeIPv4).Label(discoveryv1.LabelServiceName, "web").Ready("node1").Manifest()
	if err := kube.Create(t.Context(), slice); err != nil {
		t.Fatal(err)
	}
	v, err := explainService(t.Context(), kube, client.ObjectKey{Namespace: "shop", Name: "web"}, defaultNamespace)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := v.text(&out); err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile("../../docs/howto/no-address.md")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(page), "\n```text\n"+out.String()+"```\n") {
		t.Errorf("the page does not have:\n%s", out.String())
	}
}
