package e2e

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/test/wait"
)

// A flow stays on its pod whatever becomes of other Services, and of the proxy beside it.
func TestDatagrams_FlowsSurviveOtherPeoplesChanges(t *testing.T) {
	if engine.datagrams == "" {
		return
	}
	s := newScene(t)
	for i := range 4 {
		s.pod("game", fmt.Sprintf("game-%d", i), fmt.Sprintf("node%d", i%3+1))
	}
	address := s.published(s.service("game",
		withPort("https", corev1.ProtocolTCP, 443, 8080), withPort("quic", corev1.ProtocolUDP, 443, 9000)))[0]
	s.answers("game", address, 443)
	s.datagramAnswers("game", address, 443)
	flows, pods := make([]flow, 5), make([]string, 5)
	for i := range flows {
		flows[i] = s.flow(address, 443)
		wait.For(t, func(context.Context) error {
			answer, err := flows[i].ask()
			pods[i] = answer.Pod
			return err
		})
	}
	asked, lost := 0, 0
	stay := func() {
		t.Helper()
		for i, f := range flows {
			asked++
			answer, err := f.ask()
			if err != nil {
				lost++ // late, as it may be on a busy machine
			} else if answer.Pod != pods[i] {
				t.Fatalf("a flow was on %s, and is on %s", pods[i], answer.Pod)
			}
		}
	}
	for i := range 4 {
		other := s.service(fmt.Sprintf("other-%d", i), withPort("tcp", corev1.ProtocolTCP, 80, 8080), withPort("udp", corev1.ProtocolUDP, 53, 9000))
		s.published(other)
		stay()
		must(t, env.Kube.Delete(t.Context(), other))
		stay()
	}
	for _, name := range env.Hosts() {
		h, err := env.Host(name)
		must(t, err)
		_, err = h.Shell(t.Context(), engine.reload)
		must(t, err)
	}
	for range 20 {
		stay()
	}
	t.Logf("%d of %d datagrams came late or not at all", lost, asked)
	if lost > asked/10 {
		t.Errorf("%d of %d datagrams have no answer", lost, asked)
	}
}

// A UDP port that another program has costs that port alone, though another daemon carries
// the Service's other ports; and it comes when that program has gone.
func TestDatagrams_APortThatOneHostHas(t *testing.T) {
	if engine.datagrams == "" {
		return
	}
	t.Parallel()
	s := besideScene(t)
	s.pod("web", "web-1", "node1")
	svc := s.service("web")
	address := s.published(svc)[0]
	h, err := env.Host("lb2")
	must(t, err)
	dir := "/run/holder-" + s.namespace
	_, err = h.Shell(t.Context(), fmt.Sprintf(`mkdir %[1]s; cat >%[1]s/nginx.conf <<END
load_module modules/ngx_stream_module.so; pid %[1]s/pid; error_log %[1]s/log; events {}
stream { server { listen %[2]s:443 udp; return x; } }
END
nginx -c %[1]s/nginx.conf`, dir, address))
	must(t, err)
	stop := sync.OnceFunc(func() {
		_, err := h.Shell(context.Background(), fmt.Sprintf("kill $(cat %[1]s/pid); while [ -e %[1]s/pid ]; do sleep 0.05; done", dir))
		must(t, err)
	})
	t.Cleanup(stop)
	s.update(svc, func(svc *corev1.Service) {
		withPort("https", corev1.ProtocolTCP, 443, 8080)(svc)
		withPort("quic", corev1.ProtocolUDP, 443, 9000)(svc)
	})
	s.until(svc, "told of its port", func(svc *corev1.Service) bool {
		c := condition(svc, v1alpha1.ConditionPortsError)
		return strings.Contains(c.Message, "lb2: "+address+":443/UDP: udp "+address+":443 is taken") && !strings.Contains(c.Message, "lb1")
	})
	s.answers("web", address, 80)
	s.answers("web", address, 443)
	stop()
	s.until(svc, "without errors", func(svc *corev1.Service) bool { return len(svc.Status.LoadBalancer.Ingress[0].Ports) == 0 })
	s.datagramAnswers("web", address, 443)
}
