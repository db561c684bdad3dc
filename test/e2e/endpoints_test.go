package e2e

import (
	"context"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/test/builder"
	"github.com/external-lb/external-lb/test/cluster"
	"github.com/external-lb/external-lb/test/wait"
)

// While no endpoint counts, here since none says on which node it is, the address stays,
// and the Service is told once; it works by itself when one counts.
func TestS19_NoEndpointCounts(t *testing.T) {
	t.Parallel()
	s := besideScene(t)
	pod, err := env.AddPod(t.Context(), cluster.PodSpec{Namespace: s.namespace, Name: "web-1", Node: "node1", Labels: map[string]string{"app": "web"}})
	must(t, err)
	svc := s.service("web", withLocal, func(svc *corev1.Service) { svc.Spec.Selector = nil }) // its endpoints are made here
	slice := builder.EndpointSlice(s.namespace, "web-ipv4", discoveryv1.AddressTypeIPv4).Label(discoveryv1.LabelServiceName, "web").Manifest()
	slice.Endpoints = []discoveryv1.Endpoint{{Addresses: []string{pod.Status.PodIP}}}
	slice.Ports = []discoveryv1.EndpointPort{{Name: ptr.To("http"), Port: ptr.To[int32](8080)}}
	must(t, env.Kube.Create(t.Context(), slice))
	address := s.published(svc)[0]
	told := func(reason, part string) {
		t.Helper()
		fresh := s.until(svc, "told "+reason, func(svc *corev1.Service) bool {
			c := condition(svc, v1alpha1.ConditionServiceProgrammed)
			return c.Status == metav1.ConditionTrue && c.Reason == reason && contains(c.Message, part)
		})
		if got := addresses(fresh); !slices.Equal(got, []string{address}) {
			t.Errorf("%s: the addresses became %v", reason, got)
		}
	}
	told(v1alpha1.ReasonNoEndpoints, "its EndpointSlices name no nodes")
	s.event(svc, v1alpha1.EventUnavailable, "nothing answers at "+address)
	wait.For(t, func(ctx context.Context) error {
		slice.Endpoints[0].NodeName = ptr.To("node1")
		return env.Kube.Update(ctx, slice)
	})
	s.answers("web", address, 80)
	told(v1alpha1.ReasonProgrammed, "")
	if got := s.events(svc, v1alpha1.EventUnavailable); got != 1 {
		t.Errorf("told %d times, want once", got)
	}
}

// nodesAnswer waits until every node answers at a nodePort by itself; meanwhile it does
// something again and again.
func (s *scene) nodesAnswer(svc *corev1.Service, meanwhile func(context.Context)) {
	s.t.Helper()
	for _, node := range env.Nodes() {
		wait.For(s.t, func(ctx context.Context) error {
			meanwhile(ctx)
			_, err := s.web(ctx, env.Addrs(node)[0].String(), svc.Spec.Ports[0].NodePort)
			return err
		})
	}
}

// Without endpoints every node refuses. As soon as the nodes answer again, so does the
// balancer: that all refused at once says nothing of the nodes.
func TestS20_AMomentWithoutEndpoints(t *testing.T) {
	t.Parallel()
	s := besideScene(t)
	s.pod("web", "web-1", "node1")
	svc := s.service("web")
	address := s.published(svc)[0]
	s.answers("web", address, 80)
	load := s.startLoad(address, 80, nil)
	load.answered(t, perSecond)
	s.update(svc, func(svc *corev1.Service) { svc.Spec.Ports[0].Name = "renamed" })
	load.answered(t, 3*perSecond)
	lost := load.stopped()
	t.Logf("a port that was renamed cost %d of %d requests", lost, load.sent)
	must(t, env.RemovePod(t.Context(), s.namespace, "web-1"))
	s.silent(address, 80)
	s.pod("web", "web-2", "node2")
	s.nodesAnswer(s.get(svc), func(ctx context.Context) { s.web(ctx, address, 80) })
	for i := range 20 {
		if _, err := s.webWithin(t.Context(), lostAfter, "client", address, 80); err != nil {
			t.Fatalf("request %d after the nodes answer again: %v", i+1, err)
		}
	}
}
