package controllers

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/test/builder"
)

// The schema refuses what can be refused before it is stored, in words that say
// what to do.
func TestSchemaRefuses(t *testing.T) {
	pool := func(addresses v1alpha1.AddressRange) client.Object {
		return builder.AddressPool("bad", addresses).Manifest()
	}
	balancer := func(spec v1alpha1.BalancerSpec) client.Object {
		return builder.Balancer("bad").With(func(b *v1alpha1.Balancer) { b.Spec = spec }).Manifest()
	}
	policy := func(s v1alpha1.UpstreamSettings) client.Object {
		change := func(into *v1alpha1.UpstreamSettings) { *into = s }
		return builder.UpstreamPolicy(metav1.NamespaceDefault, "bad").For("web").Set(change).Manifest()
	}
	one := []v1alpha1.Host{local("lb1")}
	nodes := func(s v1alpha1.LabelSelector) client.Object {
		return balancer(v1alpha1.BalancerSpec{Hosts: one, Nodes: v1alpha1.NodeSelection{Selector: s}})
	}
	services := func(s v1alpha1.LabelSelector) client.Object {
		return builder.AddressPool("bad", "192.0.2.0/30").With(func(p *v1alpha1.AddressPool) { p.Spec.ServiceSelector = s }).Manifest()
	}
	namespaces := func(s v1alpha1.LabelSelector) client.Object {
		return builder.AddressPool("bad", "192.0.2.0/30").With(func(p *v1alpha1.AddressPool) { p.Spec.NamespaceSelector = s }).Manifest()
	}
	expression := func(key string, operator metav1.LabelSelectorOperator, values ...v1alpha1.LabelValue) v1alpha1.LabelSelector {
		return v1alpha1.LabelSelector{MatchExpressions: []v1alpha1.LabelSelectorRequirement{{Key: key, Operator: operator, Values: values}}}
	}
	label := func(key string, value v1alpha1.LabelValue) v1alpha1.LabelSelector {
		return v1alpha1.LabelSelector{MatchLabels: map[string]v1alpha1.LabelValue{key: value}}
	}
	long := strings.Repeat("a.", 127)
	for name, c := range map[string]struct {
		obj  client.Object
		says string
	}{
		"long prefix in a pool":    {pool("192.0.2.0/33"), "an entry is an address, a prefix"},
		"no address in a pool":     {pool("192.0.2.256"), "an entry is an address, a prefix"},
		"zone in a pool":           {pool("fe80::1%eth0"), "an entry is an address, a prefix"},
		"both families in a range": {pool("192.0.2.1-2001:db8::1"), "an entry is an address, a prefix"},
		"host without a way in": {balancer(v1alpha1.BalancerSpec{Hosts: []v1alpha1.Host{{Name: "lb1"}}}),
			"either an address (reached over SSH) or local: {}"},
		"host without a key": {balancer(v1alpha1.BalancerSpec{Hosts: []v1alpha1.Host{{Name: "lb1", Address: "192.0.2.5"}}}), "needs secretRef"},
		"more proofs than hosts": {balancer(v1alpha1.BalancerSpec{Hosts: one, Publish: v1alpha1.Publish{MinHosts: 2}}),
			"larger than the number of hosts"},
		"one machine twice":  {balancer(v1alpha1.BalancerSpec{Hosts: append(one, local("lb2"))}), "two hosts are one machine"},
		"engine of nobody's": {balancer(v1alpha1.BalancerSpec{Engine: "apache", Hosts: one}), "supported values"},
		"pods with a reserve of nodes": {balancer(v1alpha1.BalancerSpec{Hosts: one, Nodes: v1alpha1.NodeSelection{Backends: v1alpha1.BackendsPods, Backup: label("pool", "reserve")}}),
			"backup is for backends: Nodes"},
		"pods that packets reach as they came": {balancer(v1alpha1.BalancerSpec{Engine: v1alpha1.EngineLVS, Hosts: one, LVS: &v1alpha1.LVSSettings{Forwarding: v1alpha1.ForwardDR},
			Nodes: v1alpha1.NodeSelection{Backends: v1alpha1.BackendsPods}}), "nodes.backends: Pods is for hosts that send to pods themselves"},
		"backends of nobody's": {balancer(v1alpha1.BalancerSpec{Hosts: one, Nodes: v1alpha1.NodeSelection{Backends: "Endpoints"}}), "supported values"},
		"datagrams beside LVS": {balancer(v1alpha1.BalancerSpec{Engine: v1alpha1.EngineLVS, Datagrams: v1alpha1.DatagramsLVS, Hosts: one}),
			"engine lvs carries datagrams itself"},
		"datagrams of a cloud": {balancer(v1alpha1.BalancerSpec{
			Engine: v1alpha1.EngineProvider, Datagrams: v1alpha1.DatagramsLVS,
			Provider: &v1alpha1.Provider{URL: "https://cloud.example.net", SecretRef: corev1.LocalObjectReference{Name: "cloud"}}}),
			"datagrams are for hosts"},
		"datagrams of nobody's": {balancer(v1alpha1.BalancerSpec{Datagrams: "nginx", Hosts: one}), "supported values"},
		"bad duration":          {policy(v1alpha1.UpstreamSettings{Timeouts: &v1alpha1.Timeouts{Connect: "soon"}}), "connect"},
		"a drain too long":      {policy(v1alpha1.UpstreamSettings{Drain: "1h1s"}), "a drain is between 1s and 1h, in whole seconds"},
		"a drain of a moment":   {policy(v1alpha1.UpstreamSettings{Drain: "1500ms"}), "a drain is between 1s and 1h, in whole seconds"},
		"a drain of no time":    {policy(v1alpha1.UpstreamSettings{Drain: "0s"}), "a drain is between 1s and 1h, in whole seconds"},
		"hasty checks":          {policy(v1alpha1.UpstreamSettings{HealthCheck: &v1alpha1.HealthCheck{Interval: "99ms"}}), "checks are 100ms apart at least"},
		"line break in a path": {policy(v1alpha1.UpstreamSettings{HealthCheck: &v1alpha1.HealthCheck{
			HTTP: &v1alpha1.HTTPHealthCheck{Path: "/\nserver {"}}}), "path"},
		"path for a check of TCP": {policy(v1alpha1.UpstreamSettings{HealthCheck: &v1alpha1.HealthCheck{
			Type: v1alpha1.HealthCheckTCP, HTTP: &v1alpha1.HTTPHealthCheck{Path: "/healthz"}}}), "set type to HTTP, or leave it out"},
		"source of nobody's": {policy(v1alpha1.UpstreamSettings{SourceAddresses: []v1alpha1.SourceAddress{"10.0.0.256"}}),
			"an entry is an address, or a range such as 10.0.0.0/24"},
		"two sources of one family": {policy(v1alpha1.UpstreamSettings{SourceAddresses: []v1alpha1.SourceAddress{"10.0.0.0/24", "10.0.1.5"}}),
			"one entry for each address family"},
		"operator of nodes":      {nodes(expression("edge", "in", "yes")), `supported values: "In", "NotIn", "Exists", "DoesNotExist"`},
		"operator of Services":   {services(expression("edge", "in", "yes")), `supported values: "In", "NotIn", "Exists", "DoesNotExist"`},
		"operator of namespaces": {namespaces(expression("edge", "exists")), `supported values: "In", "NotIn", "Exists", "DoesNotExist"`},
		"In without values":      {nodes(expression("edge", "In")), "In and NotIn need values"},
		"NotIn without values":   {services(expression("edge", "NotIn")), "In and NotIn need values"},
		"Exists with values":     {namespaces(expression("edge", "Exists", "yes")), "Exists and DoesNotExist have none"},
		"key of an expression":   {nodes(expression("edge/", "Exists")), "matchExpressions[0].key"},
		"long key":               {nodes(expression(strings.Repeat("a", 64), "Exists")), "matchExpressions[0].key"},
		"prefix of a key":        {nodes(expression(long+"a/b", "Exists")), "the prefix of a label's key"},
		"value":                  {nodes(expression("edge", "In", "yes!")), "values[0]"},
		"key of a label":         {services(label("Example.com/edge", "yes")), "a label's key is a name"},
		"long key of a label":    {services(label(strings.Repeat("a", 64), "yes")), "a label's key is a name"},
		"prefix of a label":      {services(label(long+"a/b", "yes")), "the prefix of a label's key"},
		"value of a label":       {namespaces(label("edge", "-")), "namespaceSelector.matchLabels.edge"},
	} {
		t.Run(name, func(t *testing.T) {
			err := kube.Create(t.Context(), c.obj, client.DryRunAll)
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Fatalf("want an error with %q, got: %v", c.says, err)
			}
		})
	}
}

// What Kubernetes takes for the label of an object, the schema takes in a selector.
func TestSchemaTakesSelectors(t *testing.T) {
	labels := map[string]v1alpha1.LabelValue{
		"edge": "", "kubernetes.io/metadata.name": "default", "A_b.c-9": "x",
		strings.Repeat("a", 63):           v1alpha1.LabelValue(strings.Repeat("9", 63)),
		strings.Repeat("a.", 126) + "a/b": "long",
	}
	b := builder.Balancer("good").Hosts(local("lb1")).With(func(b *v1alpha1.Balancer) {
		b.Spec.Nodes.Selector.MatchLabels = labels
		for key := range labels {
			b.Spec.Nodes.Selector.MatchExpressions = append(b.Spec.Nodes.Selector.MatchExpressions,
				v1alpha1.LabelSelectorRequirement{Key: key, Operator: metav1.LabelSelectorOpIn, Values: []v1alpha1.LabelValue{"", "a"}},
				v1alpha1.LabelSelectorRequirement{Key: key, Operator: metav1.LabelSelectorOpDoesNotExist})
		}
	}).Manifest()
	if err := kube.Create(t.Context(), b, client.DryRunAll); err != nil {
		t.Error(err)
	}
	if _, err := b.Spec.Nodes.Selector.Parse(); err != nil {
		t.Error(err)
	}
}
