package e2e

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/test/builder"
	"github.com/external-lb/external-lb/test/cluster"
	"github.com/external-lb/external-lb/test/lab"
	"github.com/external-lb/external-lb/test/wait"
)

// podNetwork has the pods of every test cluster.
const podNetwork = "10.240.0.0/12"

// toPods makes the spare Balancer one that sends to pods, and gives the manager nothing for that yet.
func (s *scene) toPods() (*v1alpha1.Balancer, *cluster.Host) {
	s.t.Helper()
	b, h := s.spare(func(b *v1alpha1.Balancer) { b.Spec.Nodes.Backends = v1alpha1.BackendsPods })
	known, err := h.KnownHosts(s.t.Context())
	must(s.t, err)
	good := &corev1.Secret{}
	must(s.t, env.Kube.Get(s.t.Context(), client.ObjectKey{Namespace: lab.Namespace, Name: lab.SecretName}, good))
	s.secret(good.Data[corev1.SSHAuthPrivateKey], known)
	return b, h
}

// admitPods has the owner of a host admit pods.
func (s *scene) admitPods(h *cluster.Host) {
	s.t.Helper()
	const settings = "/etc/external-lb/host.yaml"
	out, err := h.Shell(s.t.Context(), "grep -q '^  pods:' "+settings+" || sed -i 's#^admit:.*#admit:\\n  pods: ["+podNetwork+"]#' "+settings+"; pkill -f '^/usr/local/bin/external-lb host agent'") // which is started again
	if err != nil {
		s.t.Fatalf("%v\n%s", err, out)
	}
}

// allowPods gives the manager the rights of the component.
func allowPods(t *testing.T) {
	t.Helper()
	component := filepath.Join("..", "..", "config", "components", "pods")
	mustKubectl(t, "apply", "--server-side", "-f", filepath.Join(component, "role.yaml"), "-f", filepath.Join(component, "role_binding.yaml"))
}

// podsOf asks an address until pods have answered that are as wanted, and no others.
func (s *scene) podsOf(address string, port int32, want ...string) {
	s.t.Helper()
	wait.For(s.t, func(ctx context.Context) error {
		seen := map[string]bool{}
		for range 30 {
			answer, err := s.web(ctx, address, port)
			if err != nil {
				return err
			}
			seen[answer.Pod] = true
		}
		for _, pod := range want {
			if !seen[pod] {
				return fmt.Errorf("%s does not answer, only %v", pod, seen)
			}
		}
		if len(seen) != len(want) {
			return fmt.Errorf("want %v alone, not %v", want, seen)
		}
		return nil
	})
}

// A Balancer sends to pods, without nodePorts and past kube-proxy: once the manager may read
// Pods, and the host's owner admits their network. Who writes EndpointSlices sends nothing elsewhere.
func TestPodsAreBackends(t *testing.T) {
	t.Parallel()
	s := newScene(t) // whose addresses are the spare Balancer's
	b, h := s.toPods()
	wait.For(t, func(context.Context) error {
		c := meta.FindStatusCondition(getBalancer(t, b.Name).Status.Conditions, v1alpha1.ConditionAccepted)
		if c == nil || c.Reason != v1alpha1.ReasonPodsUnreadable || c.Status != metav1.ConditionFalse {
			return fmt.Errorf("want to be told that Pods cannot be read: %+v", c)
		}
		return nil
	})
	allowPods(t)
	s.pod("web", "web-1", "node1")
	svc := s.service("web", ofClass(ptr.To("external-lb.dev/"+b.Name)), func(svc *corev1.Service) {
		svc.Spec.AllocateLoadBalancerNodePorts = ptr.To(false)
		svc.Spec.Ports = []corev1.ServicePort{{Name: "web", Port: 80, TargetPort: intstr.FromString("http")}}
	})
	s.until(svc, "refused, for the owner of the host admits no pods", func(svc *corev1.Service) bool {
		c := condition(svc, v1alpha1.ConditionServiceProgrammed)
		return c.Reason == v1alpha1.ReasonRefused && strings.Contains(c.Message, "admit.pods")
	})
	s.admitPods(h)
	s.pod("web", "web-2", "node2") // with which it is delivered anew
	address := s.published(svc)[0]
	s.via(h, address)
	s.podsOf(address, 80, "web-1", "web-2")
	answer := s.webOnce(address, 80)
	if at, _, _ := strings.Cut(answer.Client, ":"); at != h.Addr().String() || !strings.HasSuffix(answer.Server, ":8080") {
		t.Errorf("the pod was asked by %s at %s: want the host, at the pod's own port", answer.Client, answer.Server)
	}
	if port := s.get(svc).Spec.Ports[0].NodePort; port != 0 {
		t.Errorf("the Service has nodePort %d", port)
	}
	s.podsComeAndGo(h, address)
	s.strangersGetNothing(svc, address)
}

// podsComeAndGo while clients ask: another pod, whose port is another one, and one less.
func (s *scene) podsComeAndGo(h *cluster.Host, address string) {
	s.t.Helper()
	before := s.worker(h)
	clients := s.asks(address, 80)
	_, err := env.AddPod(s.t.Context(), cluster.PodSpec{Namespace: s.namespace, Name: "web-3", Node: "node3", Labels: map[string]string{"app": "web"}, HTTP: 8181})
	must(s.t, err)
	s.podsOf(address, 80, "web-1", "web-2", "web-3")
	must(s.t, env.TerminatePod(s.t.Context(), s.namespace, "web-1")) // it serves on
	s.podsOf(address, 80, "web-2", "web-3")
	must(s.t, env.RemovePod(s.t.Context(), s.namespace, "web-1"))
	clients.stop()
	if n := len(clients.failed); n > 0 || clients.asked < 20 {
		s.t.Errorf("%d of %d requests failed, the first with: %v", n, clients.asked, clients.failed[:min(1, n)])
	}
	s.t.Logf("%d requests while pods came and went", clients.asked)
	if after := s.worker(h); engine.name == v1alpha1.EngineHAProxy && after != before {
		s.t.Errorf("HAProxy was reloaded: its newest process was %q, and is %q", before, after)
	}
}

// worker is the newest process of HAProxy on a host.
func (s *scene) worker(h *cluster.Host) string {
	s.t.Helper()
	if engine.name != v1alpha1.EngineHAProxy {
		return ""
	}
	out, err := h.Shell(s.t.Context(), "pgrep -n -x haproxy")
	must(s.t, err)
	return out
}

// strangersGetNothing: an EndpointSlice that names what is no pod of the Service's namespace.
func (s *scene) strangersGetNothing(svc *corev1.Service, address string) {
	s.t.Helper()
	other := newScene(s.t)
	other.pod("prey", "prey-1", "node1")
	prey := env.Addrs(other.namespace + "/prey-1")[0].String()
	for i, ref := range []*corev1.ObjectReference{nil, {Kind: "Pod", Name: "prey-1", Namespace: other.namespace}, {Kind: "Pod", Name: "web-2", Namespace: s.namespace}} {
		slice := builder.EndpointSlice(s.namespace, fmt.Sprintf("strangers-%d", i), discoveryv1.AddressTypeIPv4).
			Label(discoveryv1.LabelServiceName, svc.Name).Port("web", 8080).
			Pod("", prey, func(e *discoveryv1.Endpoint) { e.TargetRef = ref }).Manifest()
		must(s.t, env.Kube.Create(s.t.Context(), slice))
	}
	s.pod("web", "web-4", "node1") // what comes later is there: so they were looked at
	s.podsOf(address, 80, "web-2", "web-3", "web-4")
	if stdout, stderr, code := command(s.t.Context(), binary, "explain", "service", s.namespace+"/"+svc.Name); !strings.Contains(stdout, "to pods, each at its own port") || !strings.Contains(stdout, "3 ready") {
		s.t.Errorf("explain: exit code %d\n%s%s", code, stdout, stderr)
	}
	for _, pod := range []string{"web-2", "web-3", "web-4"} {
		must(s.t, env.SetPodReady(s.t.Context(), s.namespace, pod, false))
	}
	s.until(svc, "told that no pod is ready", func(svc *corev1.Service) bool {
		return condition(svc, v1alpha1.ConditionServiceProgrammed).Reason == v1alpha1.ReasonNoEndpoints
	})
	must(s.t, env.SetPodReady(s.t.Context(), s.namespace, "web-3", true))
	s.podsOf(address, 80, "web-3")
}
