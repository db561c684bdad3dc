package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/external-lb/external-lb/test/builder"
	"github.com/external-lb/external-lb/test/cluster"
	"github.com/external-lb/external-lb/test/wait"
)

// steadily waits for what must be so twenty times in a row: hosts that share the
// traffic change one after the other.
func steadily(t *testing.T, check func(ctx context.Context) error) {
	t.Helper()
	wait.For(t, func(ctx context.Context) error {
		for range 20 {
			if err := check(ctx); err != nil {
				return err
			}
		}
		return nil
	})
}

// scene is a namespace of a test's own, with pods and Services in it.
type scene struct {
	t         *testing.T
	namespace string
	made      []client.Object // outside of the namespace, for its Services
	beside    bool            // other tests change the Balancer meanwhile
}

func newScene(t *testing.T) *scene {
	t.Helper()
	recorded(t)
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "e2e-"}}
	must(t, env.Kube.Create(t.Context(), ns))
	s := &scene{t: t, namespace: ns.Name}
	t.Cleanup(s.clean)
	return s
}

// clean deletes what the test made and waits for the Services: the next test
// may want their addresses.
func (s *scene) clean() {
	if s.t.Failed() {
		s.tellAll()
		env.Keep(fmt.Errorf("%s has failed", s.t.Name()))
	}
	ctx, cancel := context.WithTimeout(context.Background(), wait.Patience)
	defer cancel()
	s.removeServices(ctx)
	var pods corev1.PodList
	if err := env.Kube.List(ctx, &pods, client.InNamespace(s.namespace)); err != nil {
		s.t.Error(err)
	}
	for _, pod := range pods.Items {
		if err := env.RemovePod(ctx, s.namespace, pod.Name); err != nil {
			s.t.Error(err)
		}
	}
	for _, obj := range append(s.made, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: s.namespace}}) {
		if err := env.Kube.Delete(ctx, obj); err != nil {
			s.t.Error(err)
		}
	}
}

// tellAll logs what the cluster, the manager and the hosts say.
func (s *scene) tellAll() {
	ctx, cancel := context.WithTimeout(context.Background(), wait.Patience)
	defer cancel()
	for _, args := range [][]string{
		{"-n", s.namespace, "get", "events,services", "-o", "wide"},
		{"get", "nodes", "-o", "wide"},
		{"get", "balancers", "-o", "yaml"},
	} {
		out, err := env.Kubectl(ctx, args...)
		s.t.Log(args, err, "\n"+out)
	}
	s.t.Log("the manager's log:\n" + env.Manager.Tail())
	for _, name := range []string{"lb1", "lb2"} {
		if h, err := env.Host(name); err == nil {
			out, _ := h.Exec(ctx, "sh", "-c", "tail -n 30 /var/log/external-lb-agent.log /var/log/nginx/error.log 2>&1")
			s.t.Log(name, "logs:\n"+out)
		}
	}
}

// make creates something outside of the namespace, which is deleted after the Services.
func (s *scene) make(obj client.Object) {
	s.t.Helper()
	must(s.t, env.Kube.Create(s.t.Context(), obj))
	s.made = append(s.made, obj)
}

// removeServices deletes all Services of the scene, and waits until they are gone.
func (s *scene) removeServices(ctx context.Context) {
	var services corev1.ServiceList
	if err := env.Kube.List(ctx, &services, client.InNamespace(s.namespace)); err != nil {
		s.t.Error(err)
	}
	for i := range services.Items { // all before any is waited for: hosts withdraw them in one go
		if err := client.IgnoreNotFound(env.Kube.Delete(ctx, &services.Items[i])); err != nil {
			s.t.Error(err)
		}
	}
	for i := range services.Items {
		s.remove(ctx, &services.Items[i])
	}
}

// remove deletes a Service and waits until it is gone.
func (s *scene) remove(ctx context.Context, svc *corev1.Service) {
	if err := client.IgnoreNotFound(env.Kube.Delete(ctx, svc)); err != nil {
		s.t.Error(err)
	}
	err := wait.Until(ctx, func(ctx context.Context) error {
		err := env.Kube.Get(ctx, client.ObjectKeyFromObject(svc), &corev1.Service{})
		if err == nil {
			err = errors.New("it is still there")
		}
		return client.IgnoreNotFound(err)
	})
	if err != nil {
		s.t.Errorf("Service %s: %v", svc.Name, err)
	}
}

// pod starts a pod with label app=<app> on a node.
func (s *scene) pod(app, name, node string) {
	s.t.Helper()
	_, err := env.AddPod(s.t.Context(), cluster.PodSpec{Namespace: s.namespace, Name: name, Node: node, Labels: map[string]string{"app": app}})
	must(s.t, err)
}

// option changes a Service before it is created.
type option = func(*corev1.Service)

func withPort(name string, protocol corev1.Protocol, port int32, target int) option {
	return func(svc *corev1.Service) {
		svc.Spec.Ports = append(svc.Spec.Ports, corev1.ServicePort{Name: name, Protocol: protocol, Port: port, TargetPort: intstr.FromInt(target)})
	}
}

func withAnnotation(key, value string) option {
	return func(svc *corev1.Service) {
		if svc.Annotations == nil {
			svc.Annotations = map[string]string{}
		}
		svc.Annotations[key] = value
	}
}

func withLocal(svc *corev1.Service) {
	svc.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
}

// service creates a LoadBalancer Service of our class for the pods of an app,
// with port 80 over HTTP unless options name ports.
func (s *scene) service(app string, options ...option) *corev1.Service {
	s.t.Helper()
	svc := builder.Service(s.namespace, app).Class(class).App(app).With(options...).Manifest()
	if len(svc.Spec.Ports) == 0 {
		withPort("http", corev1.ProtocolTCP, 80, 8080)(svc)
	}
	must(s.t, env.Kube.Create(s.t.Context(), svc))
	return svc
}

// get reads a Service anew.
func (s *scene) get(svc *corev1.Service) *corev1.Service {
	s.t.Helper()
	fresh := &corev1.Service{}
	must(s.t, env.Kube.Get(s.t.Context(), client.ObjectKeyFromObject(svc), fresh))
	return fresh
}

// update changes a Service until the API server takes it.
func (s *scene) update(svc *corev1.Service, change func(*corev1.Service)) *corev1.Service {
	s.t.Helper()
	var fresh *corev1.Service
	wait.For(s.t, func(ctx context.Context) error {
		fresh = s.get(svc)
		change(fresh)
		return env.Kube.Update(ctx, fresh)
	})
	return fresh
}

// until waits for a Service to be as wanted and returns it.
func (s *scene) until(svc *corev1.Service, what string, ok func(*corev1.Service) bool) *corev1.Service {
	s.t.Helper()
	fresh := &corev1.Service{}
	wait.For(s.t, func(ctx context.Context) error {
		if err := env.Kube.Get(ctx, client.ObjectKeyFromObject(svc), fresh); err != nil {
			return err
		}
		if !ok(fresh) {
			status, _ := json.Marshal(fresh.Status)
			return fmt.Errorf("Service %s: not %s: %s", fresh.Name, what, status)
		}
		return nil
	})
	return fresh
}

// published waits for a Service's addresses.
func (s *scene) published(svc *corev1.Service) []string {
	s.t.Helper()
	fresh := s.until(svc, "published", func(svc *corev1.Service) bool { return len(svc.Status.LoadBalancer.Ingress) > 0 })
	return addresses(fresh)
}

func addresses(svc *corev1.Service) []string {
	var out []string
	for _, in := range svc.Status.LoadBalancer.Ingress {
		out = append(out, in.IP)
	}
	return out
}

// condition finds a condition of a Service.
func condition(svc *corev1.Service, kind string) metav1.Condition {
	for _, c := range svc.Status.Conditions {
		if c.Type == kind {
			return c
		}
	}
	return metav1.Condition{}
}

// event waits for an event on an object with a reason and a part of its message.
func (s *scene) event(obj client.Object, reason, part string) {
	s.t.Helper()
	wait.For(s.t, func(ctx context.Context) error {
		namespace := obj.GetNamespace()
		if namespace == "" {
			namespace = metav1.NamespaceDefault
		}
		var list corev1.EventList
		if err := env.Kube.List(ctx, &list, client.InNamespace(namespace)); err != nil {
			return err
		}
		var seen []string
		for _, e := range list.Items {
			if e.InvolvedObject.UID != obj.GetUID() {
				continue
			}
			if e.Reason == reason && strings.Contains(e.Message, part) {
				return nil
			}
			seen = append(seen, e.Reason+": "+e.Message)
		}
		return fmt.Errorf("no event %s with %q on %s, only %q", reason, part, obj.GetName(), seen)
	})
}

// events counts how often an object was told something.
func (s *scene) events(obj client.Object, reason string) (times int) {
	s.t.Helper()
	var list corev1.EventList
	must(s.t, env.Kube.List(s.t.Context(), &list, client.InNamespace(obj.GetNamespace())))
	for _, e := range list.Items {
		if e.InvolvedObject.UID == obj.GetUID() && e.Reason == reason {
			times += int(max(e.Count, 1))
		}
	}
	return times
}

// web asks an address over HTTP, each time over a new connection, and fails the
// test if somebody else's pod answers.
func (s *scene) web(ctx context.Context, address string, port int32) (cluster.Answer, error) {
	return s.webFrom(ctx, "client", address, port)
}

// webFrom asks from a pod instead.
func (s *scene) webFrom(ctx context.Context, where, address string, port int32) (cluster.Answer, error) {
	return s.webWithin(ctx, 5*time.Second, where, address, port)
}

// webOnce asks once, and has an answer however busy the machine is.
func (s *scene) webOnce(address string, port int32) cluster.Answer {
	s.t.Helper()
	answer, err := s.webWithin(s.t.Context(), lostAfter, "client", address, port)
	must(s.t, err)
	return answer
}

func (s *scene) webWithin(ctx context.Context, limit time.Duration, where, address string, port int32) (cluster.Answer, error) {
	httpClient := env.HTTPClientFrom(where)
	defer httpClient.CloseIdleConnections()
	httpClient.Timeout = limit
	return s.request(ctx, httpClient, address, port)
}

// request asks over a connection that the HTTP client may have already.
func (s *scene) request(ctx context.Context, httpClient *http.Client, address string, port int32) (cluster.Answer, error) {
	var answer cluster.Answer
	url := "http://" + net.JoinHostPort(address, fmt.Sprint(port)) + "/"
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return answer, err
	}
	response, err := httpClient.Do(request)
	if err != nil {
		return answer, err
	}
	defer response.Body.Close()
	if err := json.NewDecoder(io.LimitReader(response.Body, 1<<20)).Decode(&answer); err != nil {
		return answer, err
	}
	if answer.Namespace != s.namespace {
		s.t.Errorf("%s answered from namespace %s: misrouted", url, answer.Namespace)
	}
	return answer, nil
}

// answers waits until an address answers with a pod of an app.
func (s *scene) answers(app, address string, port int32) cluster.Answer {
	s.t.Helper()
	var answer cluster.Answer
	wait.For(s.t, func(ctx context.Context) (err error) {
		answer, err = s.web(ctx, address, port)
		return err
	})
	if got := answer.Labels["app"]; got != app {
		s.t.Errorf("%s:%d answered with app %q, want %q: misrouted", address, port, got, app)
	}
	return answer
}

// nodesSend waits until nodes send what comes to the first nodePort of a Service: kube-proxy may be later than
// the balancer, on one node more than on another.
func (s *scene) nodesSend(app string, svc *corev1.Service, nodes ...string) {
	s.t.Helper()
	for _, node := range nodes {
		wait.For(s.t, func(ctx context.Context) error {
			answer, err := s.web(ctx, env.Addrs(node)[0].String(), s.get(svc).Spec.Ports[0].NodePort)
			if got := answer.Labels["app"]; err == nil && got != app {
				err = fmt.Errorf("app %q answers, want %q", got, app)
			}
			return err
		})
	}
}

// silent waits until an address no longer answers.
func (s *scene) silent(address string, port int32) {
	s.t.Helper()
	wait.For(s.t, func(ctx context.Context) error {
		if answer, err := s.web(ctx, address, port); err == nil {
			return fmt.Errorf("%s:%d still answers, with %s", address, port, answer.Pod)
		}
		return nil
	})
}

// nodesOf asks an address n times over HTTP and collects which nodes answered.
func (s *scene) nodesOf(address string, port int32, n int) []string {
	s.t.Helper()
	var nodes []string
	for range n {
		nodes = append(nodes, s.webOnce(address, port).Node)
	}
	slices.Sort(nodes)
	return slices.Compact(nodes)
}

func isIPv4(address string) bool { return netip.MustParseAddr(address).Is4() }

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// takePort has somebody else's daemon listen on a host; it writes the file of its PID when it does.
func takePort(t *testing.T, h *cluster.Host, address string, port int, pidFile string) {
	t.Helper()
	_, err := h.Shell(t.Context(), fmt.Sprintf("/usr/sbin/sshd -o Port=%d -o ListenAddress=%s -o PidFile=%s && until [ -s %[3]s ]; do sleep 0.05; done", port, address, pidFile))
	must(t, err)
}
