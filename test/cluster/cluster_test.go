package cluster

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/external-lb/external-lb/test/builder"
	"github.com/external-lb/external-lb/test/wait"
)

var shared *Cluster // for tests that leave it as they found it

func TestMain(m *testing.M) {
	if dir := os.Getenv(crashDir); dir != "" {
		crashingOwner(dir)
	}
	os.Exit(withCluster(m))
}

func withCluster(m *testing.M) int {
	dir, err := os.MkdirTemp("", "testcluster-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	shared, err = Start(context.Background(), Options{Dir: dir, Nodes: 3, Hosts: 2, DualStack: true, Log: os.Stderr})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	code := m.Run()
	if err := shared.Stop(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

func addPod(t *testing.T, c *Cluster, spec PodSpec) {
	t.Helper()
	if _, err := c.AddPod(t.Context(), spec); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx := context.WithoutCancel(t.Context())
		if _, ok := c.now().Pods[spec.Namespace+"/"+spec.Name]; ok {
			if err := c.RemovePod(ctx, spec.Namespace, spec.Name); err != nil {
				t.Error(err)
			}
		}
	})
}

// addService exposes pods labelled app=NAME on a node port for each protocol.
func addService(t *testing.T, c *Cluster, namespace, name string, edit func(*corev1.ServiceSpec)) *corev1.Service {
	t.Helper()
	service := builder.Service(namespace, name).App(name).With(func(svc *corev1.Service) {
		svc.Spec.Type, svc.Spec.IPFamilyPolicy = corev1.ServiceTypeNodePort, new(corev1.IPFamilyPolicyPreferDualStack)
		svc.Spec.Ports = []corev1.ServicePort{
			{Name: "http", Port: 80, TargetPort: intstr.FromInt(8080)},
			{Name: "tcp", Port: 9000},
			{Name: "udp", Port: 9000, Protocol: corev1.ProtocolUDP},
		}
	}).Manifest()
	if edit != nil {
		edit(&service.Spec)
	}
	made, err := c.Client().CoreV1().Services(namespace).Create(t.Context(), service, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Client().CoreV1().Services(namespace).Delete(context.WithoutCancel(t.Context()), name, metav1.DeleteOptions{}); err != nil {
			t.Error(err)
		}
	})
	return made
}

// ask gets an Answer from a port of an address, over http, tcp or udp.
func ask(ctx context.Context, c *Cluster, where, protocol string, addr netip.Addr, port int32) (Answer, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	var answer Answer
	to := netip.AddrPortFrom(addr, uint16(port)).String()
	if protocol == "http" {
		client := c.HTTPClientFrom(where)
		defer client.CloseIdleConnections()
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+to+"/hello", nil)
		if err != nil {
			return answer, err
		}
		resp, err := client.Do(req)
		if err != nil {
			return answer, err
		}
		defer resp.Body.Close()
		return answer, json.NewDecoder(resp.Body).Decode(&answer)
	}
	conn, err := c.DialFrom(ctx, where, protocol, to)
	if err != nil {
		return answer, err
	}
	defer conn.Close()
	deadline, _ := ctx.Deadline()
	if err := conn.SetDeadline(deadline); err != nil {
		return answer, err
	}
	if _, err := io.WriteString(conn, "hello\n"); err != nil {
		return answer, err
	}
	line, err := bufio.NewReader(conn).ReadBytes('\n')
	if err != nil {
		return answer, err
	}
	return answer, json.Unmarshal(line, &answer)
}

func nodePort(s *corev1.Service, name string) int32 {
	for _, p := range s.Spec.Ports {
		if p.Name == name {
			return p.NodePort
		}
	}
	return 0
}

func TestNodePortsCarryTraffic(t *testing.T) {
	t.Parallel()
	addPod(t, shared, PodSpec{Namespace: "traffic", Name: "web-1", Node: "node1", Labels: map[string]string{"app": "web"}})
	service := addService(t, shared, "traffic", "web", nil)
	for _, node := range shared.Nodes() {
		for _, addr := range shared.Addrs(node) {
			for _, protocol := range []string{"http", "tcp", "udp"} {
				wait.For(t, func(context.Context) error {
					answer, err := ask(t.Context(), shared, "client", protocol, addr, nodePort(service, protocol))
					if err == nil && (answer.Pod != "web-1" || answer.Protocol != protocol || answer.Node != "node1") {
						t.Errorf("%s by %s: %+v", protocol, addr, answer)
					}
					return err
				})
			}
		}
	}
}

func TestNodePortsCarrySCTP(t *testing.T) {
	t.Parallel()
	addPod(t, shared, PodSpec{Namespace: "sctp", Name: "web-1", Node: "node1", Labels: map[string]string{"app": "web"}})
	service := addService(t, shared, "sctp", "web", func(s *corev1.ServiceSpec) {
		s.Ports = []corev1.ServicePort{{Name: "sctp", Port: 9000, Protocol: corev1.ProtocolSCTP}}
	})
	for _, node := range shared.Nodes() {
		at := netip.AddrPortFrom(shared.Addrs(node)[0], uint16(nodePort(service, "sctp")))
		wait.For(t, func(context.Context) error {
			answer, err := shared.AskSCTP(t.Context(), "client", at, "hello")
			if err == nil && (answer.Pod != "web-1" || answer.Protocol != "sctp" || answer.Received != "hello") {
				t.Errorf("sctp by %s: %+v", at, answer)
			}
			return err
		})
	}
}

func TestLocalPolicyKeepsTheClientAddress(t *testing.T) {
	t.Parallel()
	addPod(t, shared, PodSpec{Namespace: "local", Name: "web-1", Node: "node2", Labels: map[string]string{"app": "web"}})
	service := addService(t, shared, "local", "web", func(s *corev1.ServiceSpec) {
		s.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
	})
	client := shared.Addrs("client")
	for i, addr := range shared.Addrs("node2") {
		wait.For(t, func(context.Context) error {
			answer, err := ask(t.Context(), shared, "client", "tcp", addr, nodePort(service, "tcp"))
			if err != nil {
				return err
			}
			if got := netip.MustParseAddrPort(answer.Client).Addr(); got != client[i] {
				return fmt.Errorf("the pod saw %s, not %s", got, client[i])
			}
			return nil
		})
	}
	if _, err := ask(t.Context(), shared, "client", "tcp", shared.Addrs("node1")[0], nodePort(service, "tcp")); err == nil {
		t.Error("a node without a local pod answered")
	}
}

func TestPodsReachEachOther(t *testing.T) {
	t.Parallel()
	addPod(t, shared, PodSpec{Namespace: "pods", Name: "a", Node: "node1"})
	addPod(t, shared, PodSpec{Namespace: "pods", Name: "b", Node: "node1"})
	addPod(t, shared, PodSpec{Namespace: "pods", Name: "c", Node: "node2"})
	for _, to := range []string{"pods/b", "pods/c"} {
		for _, addr := range shared.Addrs(to) {
			wait.For(t, func(context.Context) error {
				answer, err := ask(t.Context(), shared, "pods/a", "http", addr, 8080)
				if err == nil && "pods/"+answer.Pod != to {
					t.Errorf("%s answered for %s", answer.Pod, to)
				}
				return err
			})
		}
	}
}

func TestEndpointsFollowPods(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	addPod(t, shared, PodSpec{Namespace: "endpoints", Name: "web-1", NotReady: true, Labels: map[string]string{"app": "web"}})
	addService(t, shared, "endpoints", "web", nil)
	want := func(ready, serving, terminating bool) {
		t.Helper()
		wait.For(t, func(context.Context) error {
			slices, err := shared.Client().DiscoveryV1().EndpointSlices("endpoints").List(ctx, metav1.ListOptions{})
			if err != nil {
				return err
			}
			if len(slices.Items) != 2 {
				return fmt.Errorf("%d slices", len(slices.Items))
			}
			for _, s := range slices.Items {
				if len(s.Endpoints) != 1 {
					return fmt.Errorf("%d endpoints", len(s.Endpoints))
				}
				if c := s.Endpoints[0].Conditions; *c.Ready != ready || *c.Serving != serving || *c.Terminating != terminating {
					return fmt.Errorf("ready %v, serving %v, terminating %v", *c.Ready, *c.Serving, *c.Terminating)
				}
			}
			return nil
		})
	}
	want(false, false, false)
	if err := shared.SetPodReady(ctx, "endpoints", "web-1", true); err != nil {
		t.Fatal(err)
	}
	want(true, true, false)
	if err := shared.TerminatePod(ctx, "endpoints", "web-1"); err != nil {
		t.Fatal(err)
	}
	want(false, true, true)
	wait.For(t, func(ctx context.Context) error {
		if _, err := ask(ctx, shared, "client", "tcp", shared.Addrs("endpoints/web-1")[0], 9000); err != nil {
			return fmt.Errorf("a terminating pod does not serve: %w", err)
		}
		return nil
	})
	if err := shared.RemovePod(ctx, "endpoints", "web-1"); err != nil {
		t.Fatal(err)
	}
	wait.For(t, func(context.Context) error {
		slices, err := shared.Client().DiscoveryV1().EndpointSlices("endpoints").List(ctx, metav1.ListOptions{})
		for _, s := range slices.Items {
			if len(s.Endpoints) > 0 {
				return fmt.Errorf("%d endpoints", len(s.Endpoints))
			}
		}
		return err
	})
}

func TestNodesComeAndGo(t *testing.T) {
	ctx := t.Context()
	if err := shared.AddNode(ctx, NodeSpec{Name: "extra", Labels: map[string]string{"zone": "b"}}); err != nil {
		t.Fatal(err)
	}
	addPod(t, shared, PodSpec{Namespace: "nodes", Name: "web-1", Node: "extra", Labels: map[string]string{"app": "web"}})
	service := addService(t, shared, "nodes", "web", nil)
	addr := shared.Addrs("extra")[0]
	served := func(ctx context.Context) error {
		_, err := ask(ctx, shared, "client", "tcp", addr, nodePort(service, "tcp"))
		return err
	}
	wait.For(t, served)
	if err := shared.NodeDown(ctx, "extra"); err != nil {
		t.Fatal(err)
	}
	if served(ctx) == nil {
		t.Error("a node that is down answered")
	}
	if err := shared.NodeUp(ctx, "extra"); err != nil {
		t.Fatal(err)
	}
	wait.For(t, served)
	if err := shared.SetNodeReady(ctx, "extra", false); err != nil {
		t.Fatal(err)
	}
	if err := shared.RemoveNode(ctx, "extra"); err != nil {
		t.Fatal(err)
	}
	if _, ok := shared.now().Pods["nodes/web-1"]; ok {
		t.Error("a pod outlived its node")
	}
	if err := shared.AddNode(ctx, NodeSpec{Name: "node1"}); err == nil {
		t.Error("two nodes of one name")
	}
}

func TestAPIServerRestarts(t *testing.T) {
	ctx := t.Context()
	if err := shared.StopAPIServer(); err != nil {
		t.Fatal(err)
	}
	if _, err := shared.Client().Discovery().ServerVersion(); err == nil {
		t.Error("an API server that is stopped answered")
	}
	if err := shared.StartAPIServer(ctx); err != nil {
		t.Fatal(err)
	}
	nodes, err := shared.Client().CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if len(nodes.Items) != 3 {
		t.Errorf("%d nodes after a restart, not 3", len(nodes.Items))
	}
}

func TestARestoreBringsBackWhatABackupHas(t *testing.T) {
	ctx := t.Context()
	maps := shared.Client().CoreV1().ConfigMaps("default")
	create := func(name string) {
		t.Helper()
		if _, err := maps.Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	create("old")
	if err := shared.Backup(ctx); err != nil {
		t.Fatal(err)
	}
	if err := maps.Delete(ctx, "old", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	create("new")
	if err := shared.Restore(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := maps.Get(ctx, "new", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("what is younger than the backup is there: %v", err)
	}
	if err := maps.Delete(ctx, "old", metav1.DeleteOptions{}); err != nil {
		t.Error(err)
	}
	for _, node := range shared.Nodes() {
		wait.For(t, func(ctx context.Context) error { return shared.proxyHealthy(ctx, shared.Addrs(node)[0].String()) })
	}
}

func TestExecReportsFailure(t *testing.T) {
	t.Parallel()
	_, err := shared.Exec(t.Context(), "node1", "sh", "-c", "echo why >&2; exit 3")
	if err == nil || !strings.Contains(err.Error(), "why") || !strings.Contains(err.Error(), "exit status 3") {
		t.Errorf("got %v", err)
	}
	if _, err := shared.Exec(t.Context(), "nowhere", "true"); err == nil {
		t.Error("ran a command nowhere")
	}
	if _, err := shared.DialFrom(t.Context(), "client", "tcp", "example.org:80"); err == nil {
		t.Error("dialled a name")
	}
	var netErr net.Error
	if _, err := shared.DialFrom(t.Context(), "client", "tcp", shared.Addrs("node1")[0].String()+":1"); !errors.As(err, &netErr) {
		t.Errorf("a closed port: %v", err)
	}
}

// The bridge must not take its address from its ports: neighbours would lose it
// when that port goes.
func TestBridgeKeepsItsAddress(t *testing.T) {
	ctx := t.Context()
	router := shared.router()
	bridge := func() string {
		out, err := router.command(ctx, "ip", "-brief", "link", "show", "br0").Output()
		if err != nil {
			t.Fatal(err)
		}
		return string(out)
	}
	if !strings.Contains(bridge(), mac(routerAt)) {
		t.Fatalf("the bridge is %s, want the address %s", bridge(), mac(routerAt))
	}
	err := ip(ctx, router, "link add lowest address 02:00:00:00:00:01 type veth peer name highest", "link set lowest master br0 up")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := ip(context.Background(), router, "link del lowest"); err != nil {
			t.Error(err)
		}
	})
	if !strings.Contains(bridge(), mac(routerAt)) {
		t.Errorf("the bridge became %s", bridge())
	}
}
