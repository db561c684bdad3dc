package e2e

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"

	"github.com/external-lb/external-lb/api/v1alpha1"
)

// The main job: a Service gets an address that answers, and gives it back.
func TestS15_PublishedWhenItAnswers(t *testing.T) {
	t.Parallel()
	s := besideScene(t)
	s.pod("web", "web-1", "node1")
	s.pod("web", "web-2", "node2")
	svc := s.service("web", func(svc *corev1.Service) {
		svc.Spec.Type, svc.Spec.LoadBalancerClass = corev1.ServiceTypeNodePort, nil
	})
	s.nodesSend("web", svc, env.Nodes()...)
	s.update(svc, func(svc *corev1.Service) {
		svc.Spec.Type, svc.Spec.LoadBalancerClass = corev1.ServiceTypeLoadBalancer, ptr.To(class)
	})
	address := s.published(svc)[0]
	// Published means that it answers: no second try.
	answer := s.webOnce(address, 80)
	if answer.Labels["app"] != "web" {
		t.Errorf("answered by %+v", answer)
	}
	fresh := s.get(svc)
	if mode := fresh.Status.LoadBalancer.Ingress[0].IPMode; mode == nil || *mode != corev1.LoadBalancerIPModeProxy {
		t.Errorf("ipMode %v, want Proxy (S11)", mode)
	}
	if c := condition(fresh, v1alpha1.ConditionServiceProgrammed); c.Status != "True" {
		t.Errorf("condition %+v", c)
	}
	s.event(svc, v1alpha1.EventEnsured, address)
	s.remove(t.Context(), svc)
	s.silent(address, 80)
}
