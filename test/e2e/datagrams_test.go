package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/test/builder"
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
		s.until(other, "published", func(svc *corev1.Service) bool {
			stay() // kernels forget a flow in which nobody speaks for half a minute
			return len(svc.Status.LoadBalancer.Ingress) > 0
		})
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

// What both daemons see is told of their ports, and a node that is down is down for both.
func TestDatagrams_TrafficAndHealth(t *testing.T) {
	if engine.datagrams == "" {
		return
	}
	s := newScene(t)
	s.pod("web", "web-1", "node1")
	svc := s.service("web", withPort("tcp", corev1.ProtocolTCP, 443, 9000), withPort("udp", corev1.ProtocolUDP, 443, 9000))
	address := s.published(svc)[0]
	s.connectTo("web-1", address, 443)
	f := s.flow(address, 443)
	proxyJudges := "3/3"
	if engine.name == v1alpha1.EngineNginx {
		proxyJudges = "-"
	}
	wait.For(t, func(ctx context.Context) error {
		if _, err := f.ask(); err != nil {
			return err
		}
		for port, up := range map[string]string{"443/TCP": proxyJudges, "443/UDP": "3/3"} {
			if row, err := s.row(ctx, "web", port); err != nil || row["OPEN"] == "0" || row["UP"] != up {
				return fmt.Errorf("%s: %v, %v", port, row, err)
			}
		}
		return nil
	})
	proxy := func(ctx context.Context, signal string) {
		_, err := env.Exec(ctx, "node3", "pkill", "-"+signal, "-f", "kube-proxy .*/node3.yaml$")
		must(t, err)
	}
	proxy(t.Context(), "STOP")
	t.Cleanup(func() { proxy(context.Background(), "CONT") })
	s.until(svc, "told of the node", func(svc *corev1.Service) bool {
		c := condition(svc, v1alpha1.ConditionBackendsHealthy)
		return c.Reason == v1alpha1.ReasonSomeNodesDown && strings.Contains(c.Message, "lb1: down: node3")
	})
	wait.For(t, func(ctx context.Context) error {
		row, err := s.row(ctx, "web", "443/UDP")
		if err == nil && row["UP"] != "2/3" {
			err = fmt.Errorf("%v", row)
		}
		return err
	})
}

// An address that moves has its TCP by the proxy and its UDP by the kernel of one host, and
// takes both along: when the host ends, and when the proxy alone does.
func TestDatagrams_MoveWithTheAddress(t *testing.T) {
	if engine.datagrams == "" || engine.name != v1alpha1.EngineHAProxy {
		return // one is enough
	}
	useLab(t, movingLab)
	s := newScene(t)
	s.pod("web", "web-1", "node1")
	address := s.published(s.service("web",
		withPort("http", corev1.ProtocolTCP, 443, 8080), withPort("quic", corev1.ProtocolUDP, 443, 9000)))[0]
	isOn := func(host string) {
		t.Helper()
		s.movesTo(address, host)
		s.answers("web", address, 443)
		s.datagramAnswers("web", address, 443)
	}
	isOn("lb1")
	h := mustHost(t, "lb1")
	must(t, h.PowerOff(t.Context()))
	isOn("lb2")
	must(t, h.PowerOn(t.Context()))
	isOn("lb1")
	s.inSync(balancer)
	_, err := h.Shell(t.Context(), engine.stop)
	must(t, err)
	isOn("lb2")
	must(t, h.StartEngine(t.Context()))
	isOn("lb1")
	s.inSync(balancer)
}

// The page on datagrams, typed as it is written, on a host that carries TCP already: UDP
// comes to its Service, and connections over TCP go on.
func TestDatagrams_ThePage(t *testing.T) {
	if engine.datagrams == "" || engine.name != v1alpha1.EngineHAProxy {
		return // one is enough
	}
	s := newScene(t)
	const name = "learns"
	must(t, env.AddHost(t.Context(), name))
	h := mustHost(t, name)
	t.Cleanup(func() { must(t, h.PowerOff(context.Background())) })
	files, commands := datagramsPage(t, h.Name, h.Addr().String(), s.namespace)
	types := func(script string) {
		t.Helper()
		if out, err := h.Shell(t.Context(), "set -ex; cd /root\n"+script); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	must(t, h.WriteFile(t.Context(), "/root/edge-key.pub", []byte(env.AuthorizedKey()+"\n")))
	types("external-lb host install --authorized-key edge-key.pub --engine haproxy")
	must(t, h.StartEngine(t.Context())) // which has had nothing to listen to before
	must(t, h.StartAgent(t.Context()))
	s.delivers(strings.Replace(files[0], "  datagrams: LVS\n", "", 1), h)
	s.make(builder.AddressPool(s.namespace, "203.0.113.176/28").Balancer(name).Manifest())
	s.pod("site", "site-1", "node1")
	if out, err := env.KubectlInput(t.Context(), files[1], "apply", "-n", s.namespace, "-f", "-"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Cleanup(func() { s.removeServices(context.Background()) }) // while the host can be asked
	svc := builder.Service(s.namespace, "site").Manifest()
	address := s.published(svc)[0]
	s.via(h, address)
	connection := s.connectTo("site-1", address, 443)

	words := strings.Fields(strings.ReplaceAll(commands[1], "'", ""))
	mustKubectl(t, words[1:]...)
	s.hostSays(name, name, v1alpha1.HostFailed, "not for spec.datagrams")
	types(commands[2] + "pkill -u external-lb # systemd would start the agent anew\n")
	must(t, h.StartKeepalived(t.Context()))
	s.inSync(name)
	s.datagramAnswers("site", address, 443)
	connection.lives(t, "site-1")
	types(commands[0]) // a host that is new; here, it changes nothing
}

// datagramsPage is docs/howto/datagrams.md with this lab's machine in the place of the reader's.
func datagramsPage(t *testing.T, host, address, secret string) (files, commands []string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "howto", "datagrams.md"))
	must(t, err)
	ours := strings.NewReplacer(
		"name: edge\n", "name: "+host+"\n", "balancer edge ", "balancer "+host+" ", "external-lb.dev/edge", "external-lb.dev/"+host, "edge-ssh", secret,
		"lb1", host, "192.0.2.5", address,
		"targetPort: 8443", "targetPort: 9000",
		"apt-get install ", "dpkg -s >/dev/null ", "systemctl enable --now keepalived\n", "", // done by the test cluster
	).Replace(string(text))
	for _, block := range regexp.MustCompile("(?ms)^```(\\w+)\n(.*?)^```$").FindAllStringSubmatch(ours, -1) {
		if block[1] == "yaml" {
			files = append(files, block[2])
		} else {
			commands = append(commands, block[2])
		}
	}
	if len(files) != 2 || len(commands) != 3 {
		t.Fatalf("the page has %d files and %d blocks of commands", len(files), len(commands))
	}
	return files, commands
}
