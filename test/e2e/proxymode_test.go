package e2e

import (
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/test/cluster"
	"github.com/external-lb/external-lb/test/lab"
)

// TestProxyMode: the suite has kube-proxy in mode nftables; what differs between its
// modes is what nodes do with a nodePort, for every engine alike.
func TestProxyMode(t *testing.T) {
	if engine.name != v1alpha1.EngineNginx {
		t.Skip("not applicable: kube-proxy is the same behind every engine")
	}
	useLab(t, lab.Options{
		Cluster: cluster.Options{Nodes: 3, Hosts: 2, DualStack: true, ProxyMode: "iptables"},
		Change:  func(b *v1alpha1.Balancer) { b.Spec.Reload.MinInterval = "100ms" },
	})
	for _, test := range []struct {
		name string
		do   func(t *testing.T)
	}{
		{"TypeAndPortsOfTCP", func(t *testing.T) { typeAndPorts(t, corev1.ProtocolTCP, nodePortOfTCP, nodePortOfTCPLater) }},
		{"TypeAndPortsOfUDP", func(t *testing.T) { typeAndPorts(t, corev1.ProtocolUDP, nodePortOfUDP, nodePortOfUDPLater) }},
		{"SourceRanges", sourceRanges},
		{"UDPWhenThePodCycles", func(t *testing.T) { udpCycle(t, "node1", "node2", true) }},
		{"TerminatingEndpoints", terminatingEndpoints},
		{"RollingUpdateWithCluster", func(t *testing.T) { rollingUpdate(t, corev1.ServiceExternalTrafficPolicyCluster, "once") }},
		{"RollingUpdateWithLocal", func(t *testing.T) { rollingUpdate(t, corev1.ServiceExternalTrafficPolicyLocal, "once") }},
		{"IPVS", proxyModeIPVS},
	} {
		t.Run(test.name, test.do)
	}
}

// proxyModeIPVS carries all by the one node whose kube-proxy is in mode ipvs.
func proxyModeIPVS(t *testing.T) {
	const name, label = "ipvs", "example.com/mode"
	must(t, env.AddNode(t.Context(), cluster.NodeSpec{Name: name, IPVS: true, Labels: map[string]string{label: name}}))
	changeBalancer(t, balancer, func(b *v1alpha1.Balancer) {
		b.Spec.Nodes.Selector.MatchLabels = map[string]v1alpha1.LabelValue{label: v1alpha1.LabelValue(name)}
	})
	s := newScene(t)
	s.pod("web", "web-1", "node1")
	svc := s.service("web", dualStack, withPort("tcp", corev1.ProtocolTCP, 80, 8080), withPort("udp", corev1.ProtocolUDP, 80, 9000))
	carry := func() {
		t.Helper()
		for _, address := range s.published(svc) {
			s.answers("web", address, 80)
			s.datagramAnswers("web", address, 80)
		}
	}
	carry()
	s.carriedBy(svc, name)
	s.pod("web", "web-2", "node2")
	must(t, env.RemovePod(t.Context(), s.namespace, "web-1"))
	carry()
}
