package controllers

import (
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/test/builder"
)

// A Balancer is looked at for what concerns it, and for nothing else.
func TestWhoIsWoken(t *testing.T) {
	p := newOnePlace(t, 2, 1)
	other := builder.Balancer("other").Hosts(v1alpha1.Host{Name: "lb2"}).With(func(b *v1alpha1.Balancer) {
		b.Spec.Nodes.Selector = v1alpha1.LabelSelector{MatchLabels: map[string]v1alpha1.LabelValue{"role": "edge"}}
		b.Spec.Nodes.Backup = v1alpha1.LabelSelector{MatchLabels: map[string]v1alpha1.LabelValue{"pool": "reserve"}}
	}).Obj()
	p.put(other)
	c := concerns{p.r.reader}
	woken := func(what string, got []string, want ...string) {
		t.Helper()
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("%s wakes %q, want %q", what, got, want)
		}
	}
	ns := &corev1.Namespace{}
	ns.Name = "default"
	woken("a namespace", c.namespace(t.Context(), ns))
	woken("a policy", c.policy(t.Context(), builder.UpstreamPolicy("default", "p").For("service-0").Obj()), "edge")
	woken("a policy for nothing", c.policy(t.Context(), builder.UpstreamPolicy("default", "p").For("nothing").Obj()))
	p.put(builder.AddressPool("gold", "192.0.2.0/28").Balancer("edge").Namespaces("tier", "gold").Obj())
	woken("a namespace, with a pool for some", c.namespace(t.Context(), ns), "edge", "other")

	node := func(change ...func(*corev1.Node)) *corev1.Node {
		return builder.Node("n").IP("10.0.0.1").With(change...).Obj()
	}
	label := func(key, value string) func(*corev1.Node) {
		return func(n *corev1.Node) { n.Labels = map[string]string{key: value} }
	}
	for what, tc := range map[string]struct {
		after *corev1.Node
		want  []string
	}{
		"a heartbeat":             {node(func(n *corev1.Node) { n.Status.Images = []corev1.ContainerImage{{SizeBytes: 1}} }), nil},
		"a label":                 {node(label("kernel", "6.1")), nil},
		"a label of a selector":   {node(label("role", "edge")), []string{"other"}},
		"a label of a reserve":    {node(label("pool", "reserve")), []string{"other"}},
		"the label that excludes": {node(label(corev1.LabelNodeExcludeBalancers, "")), []string{"edge", "other"}},
		"another address":         {builder.Node("n").IP("10.0.0.2").Obj(), []string{"edge", "other"}},
		"another address, and a label": {
			builder.Node("n").IP("10.0.0.2").With(label("kernel", "6.1")).Obj(), []string{"edge", "other"},
		},
	} {
		woken(what, c.node(t.Context(), node(), tc.after), tc.want...)
	}
	other.Spec.Nodes.Cordoned = v1alpha1.CordonedDrain
	p.put(other)
	woken("a node that others may drain for", c.node(t.Context(), builder.Node("n").IP("10.0.0.1").NotReady().Obj(), node()), "other")
}
