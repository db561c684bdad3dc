package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/test/wait"
)

// reasons lists what events say of an object, oldest first.
func (s *scene) reasons(ctx context.Context, obj client.Object) ([]string, error) {
	var list corev1.EventList
	if err := env.Kube.List(ctx, &list, client.InNamespace(obj.GetNamespace())); err != nil {
		return nil, err
	}
	events := slices.DeleteFunc(list.Items, func(e corev1.Event) bool { return e.InvolvedObject.UID != obj.GetUID() })
	slices.SortStableFunc(events, func(a, b corev1.Event) int { // as kubectl does
		return a.LastTimestamp.Compare(b.LastTimestamp.Time)
	})
	var reasons []string
	for _, e := range events {
		reasons = append(reasons, e.Reason)
	}
	return reasons, nil
}

// kubectl describe tells the story of a Service, in its order.
func TestS32_EventsTellTheStory(t *testing.T) {
	t.Parallel()
	s := besideScene(t)
	s.pod("web", "web-1", "node1")
	svc := s.service("web")
	address := s.published(svc)[0]
	s.update(svc, func(svc *corev1.Service) { svc.Spec.Ports[0].Port = 81 })
	s.answers("web", address, 81)
	s.event(svc, v1alpha1.EventUpdated, "live")
	story := mustKubectl(t, "-n", s.namespace, "describe", "service", "web")
	for _, reason := range []string{v1alpha1.EventEnsuring, v1alpha1.EventEnsured, v1alpha1.EventUpdated} {
		if !strings.Contains(story, reason) {
			t.Errorf("kubectl describe does not tell %s:\n%s", reason, story)
		}
	}
	s.remove(t.Context(), svc)
	want := []string{v1alpha1.EventEnsuring, v1alpha1.EventEnsured, v1alpha1.EventUpdated, v1alpha1.EventDeleting, v1alpha1.EventDeleted}
	wait.For(t, func(ctx context.Context) error {
		got, err := s.reasons(ctx, svc)
		if err == nil && !slices.Equal(got, want) {
			err = fmt.Errorf("events %q, want %q", got, want)
		}
		return err
	})
}

// With a host out of reach nothing goes, until an operator says that nobody should wait for it any
// more: of hosts by the Balancer, and of a cloud's provider, of which there is one, by the Service.
func TestS08_TheWayOut(t *testing.T) {
	s := newScene(t)
	s.pod("web", "web-1", "node1")
	svc := s.service("web")
	address := s.published(svc)[0]
	host, heal := outOfReach(t)
	must(t, env.Kube.Delete(t.Context(), svc))
	says := "the way out is to remove the host from the Balancer"
	if cloud != nil {
		says = "the way out is to bring the provider back, or to remove the finalizers external-lb.dev/cleanup and"
	}
	s.event(svc, v1alpha1.EventDeleteFailed, says)
	greedy := s.service("greedy", withAnnotation(v1alpha1.AddressesAnnotation, address))
	s.until(greedy, "told to wait", func(svc *corev1.Service) bool {
		return condition(svc, v1alpha1.ConditionServiceProgrammed).Reason == v1alpha1.ReasonAddressUnavailable
	})
	if fresh := s.get(svc); !slices.Contains(fresh.Finalizers, v1alpha1.CleanupFinalizer) {
		t.Fatalf("the finalizer went though %s has not confirmed", host)
	}

	back := func() {}
	if cloud != nil {
		s.update(svc, func(svc *corev1.Service) { svc.Finalizers = nil })
	} else {
		back = s.withoutHost(host)
	}
	s.remove(t.Context(), svc) // now it goes
	if cloud == nil {
		s.event(getBalancer(t, balancer), "HostRemoved", host)
		s.published(greedy)
	}

	// A host that is back is brought to what is desired, without what it had.
	heal()
	back()
	s.published(greedy) // of a cloud, the address is free no sooner
	s.inSync(balancer)
	must(t, s.leftOf(t.Context(), host, "web"))
}

// withoutHost leaves a host out of the Balancer, until the test ends or takes it back.
func (s *scene) withoutHost(name string) (back func()) {
	s.t.Helper()
	hosts := getBalancer(s.t, balancer).Spec.Hosts
	set := func(hosts []v1alpha1.Host) {
		changeBalancer(s.t, balancer, func(b *v1alpha1.Balancer) { b.Spec.Hosts = hosts })
	}
	set(slices.DeleteFunc(slices.Clone(hosts), func(h v1alpha1.Host) bool { return h.Name == name }))
	back = sync.OnceFunc(func() { set(hosts) })
	s.t.Cleanup(back)
	return back
}

func getBalancer(t *testing.T, name string) *v1alpha1.Balancer {
	t.Helper()
	b := &v1alpha1.Balancer{}
	must(t, env.Kube.Get(context.Background(), client.ObjectKey{Name: name}, b))
	return b
}

func changeBalancer(t *testing.T, name string, change func(*v1alpha1.Balancer)) {
	t.Helper()
	for range 20 {
		b := getBalancer(t, name)
		change(b)
		err := env.Kube.Update(context.Background(), b)
		if err == nil {
			return
		}
		if !strings.Contains(err.Error(), "the object has been modified") {
			t.Fatal(err)
		}
	}
	t.Fatalf("Balancer %s changes all the time", name)
}

// inSync waits until every host of a Balancer runs what is desired. Beside other tests more is
// desired all the time: there it waits until every host has run what was desired at the call.
func (s *scene) inSync(name string) {
	s.t.Helper()
	if s.beside && name == balancer {
		s.settled()
		return
	}
	wait.For(s.t, func(context.Context) error {
		b := getBalancer(s.t, name)
		if n := len(b.Spec.AllHosts()); b.Status.HostsInSync != fmt.Sprintf("%d/%d", n, n) || len(b.Status.Hosts) != n {
			return fmt.Errorf("hosts in sync: %s, %+v", b.Status.HostsInSync, b.Status.Hosts)
		}
		return nil
	})
}

// The manager is killed again and again while Services come, change and go:
// addresses stay, nothing leaks, nothing is left on a host.
func TestS35_KilledAtRandom(t *testing.T) {
	s := newScene(t)
	s.pod("app", "app-1", "node1")
	const rounds, each = 6, 4
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	published := map[string]string{} // address by Service
	check := func() {
		var list corev1.ServiceList
		must(t, env.Kube.List(t.Context(), &list, client.InNamespace(s.namespace)))
		owner := map[string]string{}
		for i := range list.Items {
			svc := &list.Items[i]
			for _, a := range addresses(svc) {
				if was, ok := published[svc.Name]; ok && was != a {
					t.Errorf("Service %s had %s and has %s", svc.Name, was, a)
				}
				published[svc.Name] = a
				if other, ok := owner[a]; ok {
					t.Errorf("Services %s and %s both have %s", other, svc.Name, a)
				}
				owner[a] = svc.Name
			}
		}
	}
	var live []*corev1.Service
	for round := range rounds {
		for i := range each {
			svc := s.service(fmt.Sprintf("s%d-%d", round, i), func(svc *corev1.Service) { svc.Spec.Selector = map[string]string{"app": "app"} })
			live = append(live, svc)
		}
		if round > 0 {
			changed := live[random.IntN(len(live))]
			s.update(changed, func(svc *corev1.Service) { svc.Spec.Ports[0].Port = int32(1000 + round) })
			at := random.IntN(len(live))
			gone := live[at]
			must(t, env.Kube.Delete(t.Context(), gone))
			live = slices.Delete(live, at, at+1)
		}
		// Any moment will do, so this is the one place that sleeps.
		time.Sleep(time.Duration(random.IntN(700)) * time.Millisecond)
		must(t, env.Manager.Kill())
		check()
		must(t, env.StartManager(t.Context()))
	}
	for _, svc := range live {
		s.published(svc)
	}
	check()
	svc := s.get(live[random.IntN(len(live))])
	s.answers("app", addresses(svc)[0], svc.Spec.Ports[0].Port)

	for _, svc := range live {
		must(t, env.Kube.Delete(t.Context(), svc))
	}
	for _, svc := range live {
		s.remove(t.Context(), svc)
	}
	for _, box := range carrying() {
		wait.For(t, func(ctx context.Context) error { return s.leftOf(ctx, box, "") })
	}
	wait.For(t, func(ctx context.Context) error {
		pool := &v1alpha1.AddressPool{}
		if err := env.Kube.Get(ctx, client.ObjectKey{Name: "public"}, pool); err != nil {
			return err
		}
		if pool.Status.IPv4 == nil || pool.Status.IPv4.Assigned != 0 {
			return fmt.Errorf("addresses leaked: %+v", pool.Status.IPv4)
		}
		return nil
	})
}

// A pod that asks a LoadBalancer's address reaches it by way of the balancer,
// with its source ranges and limits, not by kube-proxy's short cut.
func TestS11_PodsGoThroughTheBalancer(t *testing.T) {
	s := newScene(t)
	s.pod("web", "web-1", "node1")
	s.pod("caller", "caller-1", "node2")
	svc := s.service("web")
	address := s.published(svc)[0]
	for _, in := range s.get(svc).Status.LoadBalancer.Ingress {
		if in.IPMode == nil || *in.IPMode != corev1.LoadBalancerIPModeProxy {
			t.Errorf("ipMode %v, want Proxy", in.IPMode)
		}
	}
	from := s.namespace + "/caller-1"
	wait.For(t, func(ctx context.Context) error {
		_, err := s.webFrom(ctx, from, address, 80)
		return err
	})
	// With no balancer there is no way, though the pods are there.
	routeVia(t)
	if answer, err := s.webFrom(t.Context(), from, address, 80); err == nil {
		t.Errorf("reached %s past the balancer", answer.Pod)
	}
}

// The status of each port is there when one of them has an error, and goes with it.
func TestS12_PortStatuses(t *testing.T) {
	t.Parallel()
	s := besideScene(t)
	svc := s.service("web",
		withPort("http", corev1.ProtocolTCP, 80, 8080),
		withPort("more", corev1.ProtocolTCP, 53, 9000),
		withPort("signal", corev1.ProtocolSCTP, 81, 9001))
	s.published(svc)
	if carried(t, corev1.ProtocolSCTP) { // no port has an error
		s.until(svc, "programmed", func(svc *corev1.Service) bool {
			return condition(svc, v1alpha1.ConditionServiceProgrammed).Status == "True" &&
				len(svc.Status.LoadBalancer.Ingress[0].Ports) == 0 && condition(svc, v1alpha1.ConditionPortsError).Type == ""
		})
		return
	}
	fresh := s.until(svc, "told of its ports", func(svc *corev1.Service) bool {
		return len(svc.Status.LoadBalancer.Ingress[0].Ports) == 3
	})
	want := []corev1.PortStatus{
		{Port: 80, Protocol: corev1.ProtocolTCP},
		{Port: 53, Protocol: corev1.ProtocolTCP},
		{Port: 81, Protocol: corev1.ProtocolSCTP, Error: ptr.To(v1alpha1.PortErrorProtocol)},
	}
	for i, p := range fresh.Status.LoadBalancer.Ingress[0].Ports {
		if w := want[i]; p.Port != w.Port || p.Protocol != w.Protocol || ptr.Deref(p.Error, "") != ptr.Deref(w.Error, "") {
			t.Errorf("port %d: %+v, want %+v", i, p, w)
		}
	}
	s.update(svc, func(svc *corev1.Service) { svc.Spec.Ports = svc.Spec.Ports[:2] })
	s.until(svc, "without errors", func(svc *corev1.Service) bool {
		return len(svc.Status.LoadBalancer.Ingress[0].Ports) == 0 && condition(svc, v1alpha1.ConditionPortsError).Type == ""
	})
}

// A port that a host's own daemon has costs that port alone: here GitLab's, whose port 22
// is sshd's on every host.
func TestS12_APortThatTheHostHas(t *testing.T) {
	t.Parallel()
	needsHosts(t)
	s := besideScene(t)
	s.pod("gitlab", "gitlab-1", "node1")
	svc := s.service("gitlab",
		withPort("ssh", corev1.ProtocolTCP, 22, 8080),
		withPort("http", corev1.ProtocolTCP, 80, 8080),
		withPort("https", corev1.ProtocolTCP, 443, 8080))
	address := s.published(svc)[0]
	s.refused(svc, 22, "lb1: ", "lb2: ", "sshd")
	s.event(svc, v1alpha1.EventSyncFailed, "sshd")
	s.answers("gitlab", address, 80)
	s.answers("gitlab", address, 443)
}

// Where one host of two has something else on a port, that host is named, and the other
// one carries it.
func TestS12_APortThatOneHostHas(t *testing.T) {
	t.Parallel()
	needsHosts(t)
	s := besideScene(t)
	s.pod("web", "web-1", "node1")
	svc := s.service("web")
	address := s.published(svc)[0]
	h, err := env.Host("lb2")
	must(t, err)
	pidFile := "/run/sshd-" + s.namespace + ".pid"
	takePort(t, h, address, 443, pidFile)
	stop := sync.OnceFunc(func() {
		_, err := h.Shell(context.Background(), "kill $(cat "+pidFile+")")
		must(t, err)
	})
	t.Cleanup(stop)
	s.update(svc, func(svc *corev1.Service) { withPort("https", corev1.ProtocolTCP, 443, 8080)(svc) })
	c := s.refused(svc, 443, "lb2: ", address+":443 is taken")
	if contains(c.Message, "lb1") {
		t.Errorf("lb1 is said to refuse it: %s", c.Message)
	}
	s.event(svc, v1alpha1.EventUpdateFailed, address+":443 is taken")
	s.answers("web", address, 80)
	stop()
	s.until(svc, "without errors", func(svc *corev1.Service) bool { return len(svc.Status.LoadBalancer.Ingress[0].Ports) == 0 })
	s.answers("web", address, 443)
}

// refused waits until one port of a published Service has an error, and a condition that
// says some words.
func (s *scene) refused(svc *corev1.Service, port int32, words ...string) metav1.Condition {
	s.t.Helper()
	fresh := s.until(svc, "told of its ports", func(svc *corev1.Service) bool {
		c := condition(svc, v1alpha1.ConditionPortsError)
		missing := slices.ContainsFunc(words, func(word string) bool { return !contains(c.Message, word) })
		return c.Status == metav1.ConditionTrue && c.Reason == v1alpha1.ReasonRefused && !missing &&
			len(svc.Status.LoadBalancer.Ingress[0].Ports) > 0
	})
	for _, p := range fresh.Status.LoadBalancer.Ingress[0].Ports {
		if want := p.Port == port; (p.Error != nil) != want || want && *p.Error != v1alpha1.PortErrorRefused {
			s.t.Errorf("port %d has the error %q", p.Port, ptr.Deref(p.Error, ""))
		}
	}
	return condition(fresh, v1alpha1.ConditionPortsError)
}

// What is not ours changes nothing.
func TestS31_FieldsThatAreNotOurs(t *testing.T) {
	t.Parallel()
	s := besideScene(t)
	s.pod("web", "web-1", "node1")
	svc := s.service("web")
	address := s.published(svc)[0]
	s.inSync(balancer)
	before := fragment(t, svc)
	s.update(svc, func(svc *corev1.Service) {
		svc.Spec.ExternalIPs = []string{"192.0.2.123"}
		svc.Spec.InternalTrafficPolicy = ptr.To(corev1.ServiceInternalTrafficPolicyLocal)
		svc.Spec.TrafficDistribution = ptr.To(corev1.ServiceTrafficDistributionPreferSameZone)
	})
	s.settled()
	if after := fragment(t, svc); after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
	if got := addresses(s.get(svc)); !slices.Equal(got, []string{address}) {
		t.Errorf("addresses %v, want %s", got, address)
	}
}
