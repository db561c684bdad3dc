package cluster

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/retry"
)

// NodeSpec is a node to add.
type NodeSpec struct {
	Name   string
	Labels map[string]string // besides the name, os and architecture that a kubelet would set
	// IPVS makes it a virtual machine whose kube-proxy is in mode ipvs, and which has no pods.
	IPVS bool
}

// AddNode makes the network namespace, the Node object and its kube-proxy, and returns when node ports
// are served.
func (c *Cluster) AddNode(ctx context.Context, spec NodeSpec) error {
	at, err := c.reserve(spec.Name, "node")
	if err != nil {
		return err
	}
	return c.buildNode(ctx, spec, at)
}

func (c *Cluster) buildNode(ctx context.Context, spec NodeSpec, at int) error {
	if spec.IPVS {
		return c.buildVirtualNode(ctx, spec, at)
	}
	if err := c.addBox(ctx, spec.Name, at, forwardSettings...); err != nil {
		return err
	}
	if err := c.createNode(ctx, spec, at); err != nil {
		return err
	}
	if err := ip(ctx, c.router(), c.podRoutes("replace", at)...); err != nil {
		return err
	}
	return c.startProxy(ctx, spec.Name)
}

func (c *Cluster) podRoutes(verb string, at int) []string {
	var lines []string
	p := c.now().Plan
	for i, cidr := range p.podCIDRs(at - nodesAt) {
		lines = append(lines, fmt.Sprintf("route %s %s via %s", verb, cidr, p.addrs(at)[i]))
	}
	return lines
}

func (c *Cluster) createNode(ctx context.Context, spec NodeSpec, at int) error {
	labels := map[string]string{"kubernetes.io/hostname": spec.Name, "kubernetes.io/os": "linux", "kubernetes.io/arch": runtime.GOARCH}
	maps.Copy(labels, spec.Labels)
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: spec.Name, Labels: labels}}
	for _, cidr := range c.now().Plan.podCIDRs(at - nodesAt) {
		node.Spec.PodCIDRs = append(node.Spec.PodCIDRs, cidr.String())
	}
	node.Spec.PodCIDR = node.Spec.PodCIDRs[0]
	created, err := c.client.CoreV1().Nodes().Create(ctx, node, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	created.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeHostName, Address: spec.Name}}
	for _, a := range c.now().Plan.addrs(at) {
		created.Status.Addresses = append(created.Status.Addresses, corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: a.String()})
	}
	created.Status.NodeInfo.KubeletVersion = c.now().Version
	setReady(&created.Status, true)
	_, err = c.client.CoreV1().Nodes().UpdateStatus(ctx, created, metav1.UpdateOptions{})
	if apierrors.IsConflict(err) { // a controller was there first
		return c.editNode(ctx, spec.Name, func(s *corev1.NodeStatus) { s.Addresses = created.Status.Addresses; setReady(s, true) })
	}
	return err
}

func (c *Cluster) editNode(ctx context.Context, name string, edit func(*corev1.NodeStatus)) error {
	return retry.RetryOnConflict(retry.DefaultRetry, func() error {
		node, err := c.client.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		edit(&node.Status)
		_, err = c.client.CoreV1().Nodes().UpdateStatus(ctx, node, metav1.UpdateOptions{})
		return err
	})
}

func setReady(status *corev1.NodeStatus, ready bool) {
	condition := corev1.NodeCondition{Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "KubeletReady",
		LastHeartbeatTime: metav1.Now(), LastTransitionTime: metav1.Now()}
	if !ready { // what the node lifecycle controller writes when heartbeats stay away
		condition.Status, condition.Reason = corev1.ConditionUnknown, "NodeStatusUnknown"
	}
	status.Conditions = []corev1.NodeCondition{condition}
}

// SetNodeReady writes the Ready condition; nothing else in the cluster does.
func (c *Cluster) SetNodeReady(ctx context.Context, name string, ready bool) error {
	return c.editNode(ctx, name, func(s *corev1.NodeStatus) { setReady(s, ready) })
}

func (c *Cluster) startProxy(ctx context.Context, node string) error {
	s := c.now()
	file := filepath.Join(c.dir, "proxy", node+".yaml")
	if err := os.WriteFile(file, []byte(c.proxyConfig(node, s.Options.ProxyMode, c.Kubeconfig())), 0o600); err != nil {
		return err
	}
	daemon := proxyOf(node)
	if err := c.daemon(daemon, node, c.Bin("kube-proxy"), "--config="+file); err != nil {
		return err
	}
	return c.awaitProxy(ctx, node)
}

func (c *Cluster) awaitProxy(ctx context.Context, node string) error {
	s, daemon := c.now(), proxyOf(node)
	return c.await(ctx, daemon, daemon+" to be healthy", func() error {
		return c.proxyHealthy(ctx, s.Plan.addr4(s.Boxes[node].At).String())
	})
}

func (c *Cluster) proxyConfig(node, mode, kubeconfig string) string {
	return fmt.Sprintf(`apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: %s
hostnameOverride: %s
clusterCIDR: %s
clientConnection: {kubeconfig: %s, qps: 100, burst: 200}
healthzBindAddress: 0.0.0.0:10256
metricsBindAddress: 127.0.0.1:10249
# Zero leaves the machine's own limits alone: they are not per network namespace.
conntrack: {maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}
nftables: {minSyncPeriod: 100ms}
iptables: {minSyncPeriod: 100ms}
ipvs: {minSyncPeriod: 100ms}
`, mode, node, c.now().Plan.clusterCIDR(), kubeconfig)
}

// proxyHealthy is true when the rules of every Service so far are in place.
func (c *Cluster) proxyHealthy(ctx context.Context, addr string) error {
	return httpOK(ctx, "http://"+addr+":10256/healthz")
}

func proxyOf(node string) string { return "kube-proxy-" + node }

// RemoveNode takes the node away with everything on it.
func (c *Cluster) RemoveNode(ctx context.Context, name string) error {
	b, err := c.box(name, "node")
	if err != nil {
		return err
	}
	for pod, p := range c.now().Pods {
		if p.Node == name {
			namespace, name, _ := strings.Cut(pod, "/")
			if err := c.RemovePod(ctx, namespace, name); err != nil {
				return err
			}
		}
	}
	if err := c.stopDaemon(proxyOf(name), unix.SIGKILL); err != nil {
		return err
	}
	if err := c.client.CoreV1().Nodes().Delete(ctx, name, metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
		return err
	}
	if err := ip(ctx, c.router(), c.podRoutes("del", b.At)...); err != nil {
		return err
	}
	if b.Virtual {
		err = c.stopMachine(ctx, name, b)
	} else {
		err = c.removeBox(ctx, name, b.At)
	}
	if err != nil {
		return err
	}
	return c.update(func(s *state) { delete(s.Boxes, name) })
}

// NodeDown cuts the node off and ends its kube-proxy, as a power failure would. The Node object stays
// Ready, as it does at first in a real cluster: SetNodeReady is for later.
func (c *Cluster) NodeDown(ctx context.Context, name string) error {
	if _, err := c.box(name, "node"); err != nil {
		return err
	}
	if err := c.Cut(ctx, name); err != nil {
		return err
	}
	return c.stopDaemon(proxyOf(name), unix.SIGKILL)
}

// NodeUp ends NodeDown.
func (c *Cluster) NodeUp(ctx context.Context, name string) error {
	if err := c.Heal(ctx, name); err != nil {
		return err
	}
	return c.startProxy(ctx, name)
}

func (c *Cluster) box(name, kind string) (box, error) {
	b, ok := c.now().Boxes[name]
	if !ok || kind != "" && b.Kind != kind {
		if kind == "" {
			kind = "host, node or client"
		}
		return b, fmt.Errorf("no %s is called %q", kind, name)
	}
	return b, nil
}
