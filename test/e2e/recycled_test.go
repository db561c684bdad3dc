package e2e

import (
	"fmt"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/test/cluster"
)

// A nodePort that was freed is another Service's at once: nobody may be routed
// to it by way of its former owner.
func TestS18_RecycledNodePort(t *testing.T) {
	s := newScene(t)
	s.pod("old", "old-1", "node1")
	s.pod("new", "new-1", "node2")
	old := s.service("old", withNodePort(nodePortRecycled))
	address := s.published(old)[0]
	s.update(old, func(svc *corev1.Service) {
		svc.Spec.Type, svc.Spec.LoadBalancerClass = corev1.ServiceTypeClusterIP, nil
		svc.Spec.Ports[0].NodePort = 0
	})
	s.until(old, "withdrawn", func(svc *corev1.Service) bool { return len(svc.Finalizers) == 0 })
	heir := s.service("new", withPort("http", corev1.ProtocolTCP, 81, 8080), func(svc *corev1.Service) {
		svc.Spec.Ports[0].NodePort = nodePortRecycled
	})
	heirs := s.published(heir)[0]
	s.answers("new", heirs, 81)
	s.silent(address, 80)
}

// The number of an old nodePort is somebody else's while requests go on: what is
// answered to the new owner's clients is always the new owner, and once the old owner
// is let go nobody is led to the new one by way of the old one's address.
func TestS18_RecycledUnderLoad(t *testing.T) {
	s := newScene(t)
	s.pod("old", "old-1", "node1")
	s.pod("new", "new-1", "node2")
	old := s.service("old", withNodePort(nodePortRecycledUnderLoad))
	oldAddress := s.published(old)[0]
	s.update(old, func(svc *corev1.Service) {
		svc.Spec.Type, svc.Spec.LoadBalancerClass, svc.Spec.Ports[0].NodePort = corev1.ServiceTypeClusterIP, nil, 0
	})
	heir := s.service("new", withNodePort(nodePortRecycledUnderLoad)) // at once
	address := s.published(heir)[0]
	s.nodesSend("new", heir, env.Nodes()...)
	heirs := s.startLoad(address, 80, isApp("new"))
	s.until(old, "let go", func(svc *corev1.Service) bool { return len(svc.Finalizers) == 0 })
	for range 50 {
		if answer, err := s.web(t.Context(), oldAddress, 80); err == nil {
			t.Fatalf("%s answers at an address that was withdrawn", answer.Pod)
		}
	}
	heirs.answered(t, perSecond/2)
	heirs.end(t)
}

// isApp judges that an answer is of an app.
func isApp(app string) func(cluster.Answer) error {
	return func(a cluster.Answer) error {
		if got := a.Labels["app"]; got != app {
			return fmt.Errorf("misrouted to app %q, want %q", got, app)
		}
		return nil
	}
}

// Two Services that have one address swap their ports, by way of a third one. Who has
// left a port does not come back.
func TestS18_PortsAreSwapped(t *testing.T) {
	needsHosts(t)
	s := newScene(t)
	routeVia(t, carrying()[0]) // hosts change one after the other
	const address = "203.0.113.140"
	ports := map[string]int32{"a": 80, "b": 81}
	services := map[string]*corev1.Service{}
	for _, app := range []string{"a", "b"} {
		s.pod(app, app+"-1", "node1")
		services[app] = s.service(app, withAnnotation(v1alpha1.AddressesAnnotation, address), withPort("http", corev1.ProtocolTCP, ports[app], 8080))
		s.published(services[app])
		s.answers(app, address, ports[app])
	}
	of80, of81 := s.follow(address, 80), s.follow(address, 81)
	to := func(app string, port int32) {
		s.update(services[app], func(svc *corev1.Service) { svc.Spec.Ports[0].Port = port })
	}
	to("a", 82)
	s.silent(address, 80) // until then what ran before the reload still answers
	to("b", 80)
	s.silent(address, 81)
	to("a", 81)
	s.answers("a", address, 81)
	s.answers("b", address, 80)
	s.inSync(balancer)
	s.silent(address, 82)
	for _, c := range []struct {
		port int32
		got  []string
		want []string
	}{{80, of80(), []string{"a", "b"}}, {81, of81(), []string{"b", "a"}}} {
		if !slices.Equal(c.got, c.want) {
			t.Errorf("port %d was answered by %v, want %v", c.port, c.got, c.want)
		}
	}
}
