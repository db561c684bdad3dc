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
		{"TypeAndPortsOfTCP", func(t *testing.T) { typeAndPorts(t, corev1.ProtocolTCP) }},
		{"TypeAndPortsOfUDP", func(t *testing.T) { typeAndPorts(t, corev1.ProtocolUDP) }},
		{"SourceRanges", TestE03_SourceRanges},
		{"UDPWhenThePodCycles", func(t *testing.T) { udpCycle(t, "node1", "node2", true) }},
		{"TerminatingEndpoints", TestS21_TerminatingEndpointsKeepTheirConnections},
		{"RollingUpdateWithCluster", func(t *testing.T) { rollingUpdate(t, corev1.ServiceExternalTrafficPolicyCluster, "once") }},
		{"RollingUpdateWithLocal", func(t *testing.T) { rollingUpdate(t, corev1.ServiceExternalTrafficPolicyLocal, "once") }},
	} {
		t.Run(test.name, test.do)
	}
}
