package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/retry"
)

// PodSpec is a pod to add. It runs the echo server: see Answer.
type PodSpec struct {
	Namespace string            // default: "default"; made when missing
	Name      string            // required
	Node      string            // default: the node with the fewest pods
	Labels    map[string]string // default: app=Name
	NotReady  bool
	HTTP      int // default: 8080
	TCP       int // default: 9000
	UDP       int // default: 9000
}

// Answer is what the echo server says, as one line of JSON: over TCP for each line that it gets, over UDP
// for each datagram, over SCTP for the first message, over HTTP for each request. HTTP knows some paths too: /healthz says ok, /delay?ms=N
// answers late, /bytes?n=N answers with N bytes, /status?code=N with that status, /slow/N late after N
// milliseconds, /except/NODE with 503 on that node, /host/NAME with 503 where another host is named.
type Answer struct {
	Pod       string              `json:"pod"`
	Namespace string              `json:"namespace"`
	Node      string              `json:"node"`
	Labels    map[string]string   `json:"labels"`
	Protocol  string              `json:"protocol"` // tcp, udp, sctp or http
	Client    string              `json:"client"`   // address and port that the server sees
	Server    string              `json:"server"`   // address and port that was reached, in the pod
	Proxy     string              `json:"proxy"`    // tcp only: the PROXY header, as version 1 writes it, after v1 or v2
	Received  string              `json:"received"` // the line or datagram
	Path      string              `json:"path"`     // http only, like the rest
	Host      string              `json:"host"`
	Header    map[string][]string `json:"header"`
}

// pod is what is known of a pod besides its object.
type pod struct {
	Node string  `json:"node"`
	Slot int     `json:"slot"` // last byte of its addresses
	Echo process `json:"echo"` // or, of one that a controller made, its program
}

const maxPods = 250 // of a node

func podNetns(key string) string { return "pod." + strings.ReplaceAll(key, "/", ".") }

// AddPod starts the pod's echo server, then makes the Pod object, running and ready.
func (c *Cluster) AddPod(ctx context.Context, spec PodSpec) (*corev1.Pod, error) {
	def := func(n *int, value int) {
		if *n == 0 {
			*n = value
		}
	}
	def(&spec.HTTP, 8080)
	def(&spec.TCP, 9000)
	def(&spec.UDP, 9000)
	if spec.Namespace == "" {
		spec.Namespace = "default"
	}
	if spec.Labels == nil {
		spec.Labels = map[string]string{"app": spec.Name}
	}
	key := spec.Namespace + "/" + spec.Name
	p, err := c.reservePod(key, spec.Node)
	if err != nil {
		return nil, err
	}
	spec.Node = p.Node
	if err := c.addPodBox(ctx, key, p); err != nil {
		return nil, fmt.Errorf("pod %s: %w", key, err)
	}
	if err := c.startEcho(ctx, key, spec); err != nil {
		return nil, err
	}
	return c.createPod(ctx, spec)
}

func (c *Cluster) reservePod(key, node string) (p pod, err error) {
	uerr := c.update(func(s *state) {
		if _, taken := s.Pods[key]; taken {
			err = fmt.Errorf("pod %s exists already", key)
			return
		}
		slots, count := make(map[int]bool), make(map[string]int)
		for _, other := range s.Pods {
			count[other.Node]++
		}
		if node == "" {
			for name, b := range s.Boxes {
				if b.Kind == "node" && !b.Virtual && (node == "" || count[name] < count[node] || count[name] == count[node] && b.At < s.Boxes[node].At) {
					node = name
				}
			}
		}
		if s.Boxes[node].Kind != "node" || s.Boxes[node].Virtual {
			err = fmt.Errorf("pod %s: no node that can have pods is called %q", key, node)
			return
		}
		for _, other := range s.Pods {
			slots[other.Slot] = slots[other.Slot] || other.Node == node
		}
		for p = (pod{Node: node, Slot: 2}); slots[p.Slot]; p.Slot++ {
		}
		if p.Slot > maxPods {
			err = fmt.Errorf("pod %s: node %s is full", key, node)
			return
		}
		s.Pods[key] = p
	})
	return p, errors.Join(err, uerr)
}

func (c *Cluster) addPodBox(ctx context.Context, key string, p pod) error {
	node, name := c.netns(p.Node), podNetns(key)
	dev := fmt.Sprintf("pod%d", p.Slot)
	if err := ip(ctx, node, "netns add "+name,
		fmt.Sprintf("link add %s type veth peer name eth0 netns %s", dev, name)); err != nil {
		return err
	}
	if err := sysctl(node, "net/ipv6/conf/"+dev+"/accept_dad=0"); err != nil {
		return err
	}
	if err := sysctl(c.netns(name), append(quietSettings, "net/ipv6/conf/eth0/accept_dad=0")...); err != nil {
		return err
	}
	// Link scope keeps kube-proxy's masquerade from choosing the gateway as a source.
	outer := []string{"link set " + dev + " up", "addr add " + gateway4 + "/32 dev " + dev + " scope link"}
	inner := []string{"link set lo up", "link set eth0 up"}
	for _, a := range c.now().Plan.podIPs(c.now().Boxes[p.Node].At-nodesAt, p.Slot) {
		outer = append(outer, fmt.Sprintf("route add %s dev %s", a, dev))
		inner = append(inner, addrAdd(a, a.BitLen(), "eth0"))
	}
	inner = append(inner, "route add "+gateway4+" dev eth0 scope link", "route add default via "+gateway4+" dev eth0")
	if c.now().Plan.Dual {
		outer = append(outer, "addr add "+gateway6+"/64 dev "+dev+" nodad")
		inner = append(inner, "route add default via "+gateway6+" dev eth0")
	}
	if err := ip(ctx, node, outer...); err != nil {
		return err
	}
	return ip(ctx, c.netns(name), inner...)
}

func (c *Cluster) startEcho(ctx context.Context, key string, spec PodSpec) error {
	labels, err := json.Marshal(spec.Labels)
	if err != nil {
		return err
	}
	cmd := c.netns(podNetns(key)).command(context.WithoutCancel(ctx),
		"POD="+spec.Name, "NAMESPACE="+spec.Namespace, "NODE="+spec.Node, "LABELS="+string(labels),
		c.now().Helper, "echo", "-http", strconv.Itoa(spec.HTTP), "-tcp", strconv.Itoa(spec.TCP), "-udp", strconv.Itoa(spec.UDP))
	started, err := cmd.ready(c.log("pods"))
	if err != nil {
		return err
	}
	return c.update(func(s *state) { p := s.Pods[key]; p.Echo = started; s.Pods[key] = p })
}

func (c *Cluster) createPod(ctx context.Context, spec PodSpec) (*corev1.Pod, error) {
	port := func(name string, n int, protocol corev1.Protocol) corev1.ContainerPort {
		return corev1.ContainerPort{Name: name, ContainerPort: int32(n), Protocol: protocol}
	}
	want := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: spec.Namespace, Name: spec.Name, Labels: spec.Labels},
		Spec: corev1.PodSpec{NodeName: spec.Node, Containers: []corev1.Container{{Name: "echo", Image: "echo",
			Ports: []corev1.ContainerPort{port("http", spec.HTTP, "TCP"), port("tcp", spec.TCP, "TCP"), port("udp", spec.UDP, "UDP")},
		}}},
	}
	if spec.Namespace != "default" {
		ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: spec.Namespace}}
		if _, err := c.client.CoreV1().Namespaces().Create(ctx, ns, metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
			return nil, err
		}
	}
	// The namespace "default" appears a moment after the API server is ready.
	err := c.await(ctx, "kube-apiserver", "the namespace "+spec.Namespace, func() error {
		_, err := c.client.CoreV1().Namespaces().Get(ctx, spec.Namespace, metav1.GetOptions{})
		return err
	})
	if err != nil {
		return nil, err
	}
	made, err := c.client.CoreV1().Pods(spec.Namespace).Create(ctx, want, metav1.CreateOptions{})
	if err != nil {
		return nil, err
	}
	made.Status.Phase, made.Status.StartTime = corev1.PodRunning, &made.CreationTimestamp
	for _, a := range c.Addrs(spec.Namespace + "/" + spec.Name) {
		made.Status.PodIPs = append(made.Status.PodIPs, corev1.PodIP{IP: a.String()})
	}
	made.Status.PodIP = made.Status.PodIPs[0].IP
	made.Status.HostIP = c.Addrs(spec.Node)[0].String()
	setPodReady(&made.Status, !spec.NotReady)
	return c.client.CoreV1().Pods(spec.Namespace).UpdateStatus(ctx, made, metav1.UpdateOptions{})
}

func setPodReady(status *corev1.PodStatus, ready bool) {
	value := corev1.ConditionFalse
	if ready {
		value = corev1.ConditionTrue
	}
	status.Conditions = nil
	for _, kind := range []corev1.PodConditionType{corev1.PodInitialized, corev1.ContainersReady, corev1.PodReady, corev1.PodScheduled} {
		c := corev1.PodCondition{Type: kind, Status: value, LastTransitionTime: metav1.Now()}
		if kind == corev1.PodInitialized || kind == corev1.PodScheduled {
			c.Status = corev1.ConditionTrue
		}
		status.Conditions = append(status.Conditions, c)
	}
}

// SetPodReady writes the readiness of a pod, as its kubelet would after a probe. The echo server goes on.
func (c *Cluster) SetPodReady(ctx context.Context, namespace, name string, ready bool) error {
	pods := c.client.CoreV1().Pods(namespace)
	return retry.RetryOnConflict(retry.DefaultRetry, func() error {
		p, err := pods.Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		setPodReady(&p.Status, ready)
		_, err = pods.UpdateStatus(ctx, p, metav1.UpdateOptions{})
		return err
	})
}

// TerminatePod deletes the pod with a long grace period: its endpoint is terminating, and the echo server
// serves on, until RemovePod.
func (c *Cluster) TerminatePod(ctx context.Context, namespace, name string) error {
	grace := int64(3600)
	return c.client.CoreV1().Pods(namespace).Delete(ctx, name, metav1.DeleteOptions{GracePeriodSeconds: &grace})
}

// RemovePod ends the echo server and deletes the pod at once, terminating or not.
func (c *Cluster) RemovePod(ctx context.Context, namespace, name string) error {
	key := namespace + "/" + name
	p, ok := c.now().Pods[key]
	if !ok {
		return fmt.Errorf("no pod is called %q", key)
	}
	grace := int64(0)
	err := c.client.CoreV1().Pods(namespace).Delete(ctx, name, metav1.DeleteOptions{GracePeriodSeconds: &grace})
	if err != nil && !apierrors.IsNotFound(err) {
		return err
	}
	if err := p.Echo.kill(unix.SIGKILL); err != nil {
		return err
	}
	if err := ip(ctx, c.netns(p.Node), fmt.Sprintf("link del pod%d", p.Slot), "netns del "+podNetns(key)); err != nil {
		return err
	}
	return c.update(func(s *state) { delete(s.Pods, key) })
}
