package e2e

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	certutil "k8s.io/client-go/util/cert"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/test/browser"
	"github.com/external-lb/external-lb/test/builder"
	"github.com/external-lb/external-lb/test/freeport"
	"github.com/external-lb/external-lb/test/lab"
	"github.com/external-lb/external-lb/test/wait"
)

// managersPage runs the manager with a page on the loopback, until the test ends.
func managersPage(t *testing.T) (url string) {
	t.Helper()
	address := freeport.On(t, "127.0.0.1").String()
	must(t, env.Manager.Stop())
	must(t, env.StartManager(t.Context(), "--ui-address", address))
	t.Cleanup(func() {
		must(t, env.Manager.Stop())
		must(t, env.StartManager(context.Background()))
	})
	return "http://" + address + "/"
}

// TestUI_OfTheManagerShowsTraffic: in a real browser, the page of the manager that leads has
// the connections of a Service on each host, and the nodes that a host holds for down.
func TestUI_OfTheManagerShowsTraffic(t *testing.T) {
	s := newScene(t)
	url := managersPage(t)
	s.pod("web", "web-1", "node1")
	svc := s.service("web", withPort("tcp", corev1.ProtocolTCP, 80, 9000))
	address := s.published(svc)[0]
	dead := s.service("dead", withPort("tcp", corev1.ProtocolTCP, 80, 9000))
	s.make(builder.UpstreamPolicy(s.namespace, "checked").For("dead").Set(func(u *v1alpha1.UpstreamSettings) {
		u.HealthCheck = &v1alpha1.HealthCheck{Type: v1alpha1.HealthCheckTCP}
	}).Manifest())
	s.published(dead)
	for range 5 {
		s.connectTo("web-1", address, 80)
	}

	b := browser.Open(t)
	b.Go(url)
	b.Until(`return document.querySelector('#connection')?.innerText.includes(', which leads') ?? false`)
	b.Press("/" + s.namespace)
	choose := func(name string) {
		b.Run(fmt.Sprintf(`document.querySelector('[data-service="service/%s/%s"] button').focus()`, s.namespace, name), nil)
		b.Press(browser.Enter)
		b.Until(fmt.Sprintf(`return document.querySelector('#story-title')?.innerText === '%s/%s'`, s.namespace, name))
	}
	b.Until(`return document.querySelectorAll('[data-service]').length === 2`)
	choose("web")
	b.Until(fmt.Sprintf(`const said = document.querySelector('[data-service="service/%s/web"]').cells[4].innerText;
		return said === '5' || said`, s.namespace))
	b.Until(`const open = [...document.querySelectorAll('[data-traffic]')].map((x) => Number(/(\d+) open/.exec(x.innerText)?.[1]));
		return open.length === 2 && open[0] + open[1] === 5 || open.join()`)
	if engine.name != v1alpha1.EngineNginx { // which has no checks
		choose("dead")
		b.Until(`const said = document.querySelector('[data-traffic=lb1]')?.innerText ?? '';
			return said.includes('0 of 3') && said.includes('node1 is down since') || said`)
		b.Until(fmt.Sprintf(`const said = document.querySelector('[data-service="service/%s/dead"]').innerText;
			return said.includes('3 nodes down') && said.includes('NoNodeUp') || said`, s.namespace))
	}
	if err := b.Complaints(); err != nil {
		t.Error(err)
	}
}

// howToLook are the commands of the page about this.
func howToLook(t *testing.T) (bind, curl string) {
	t.Helper()
	text, err := os.ReadFile("../../docs/howto/look-at-it.md")
	must(t, err)
	bind = regexp.MustCompile(`(?m)^kubectl create clusterrolebinding .*$`).FindString(string(text))
	curl = regexp.MustCompile(`(?m)^curl .*$`).FindString(string(text))
	if bind == "" || curl == "" {
		t.Fatalf("the page has no commands: %q, %q", bind, curl)
	}
	return bind, curl
}

// standby runs another manager, which does not lead, with a page for those who have a token.
func standby(t *testing.T, dir string) (port string) {
	t.Helper()
	port = strconv.Itoa(int(freeport.On(t, "127.0.0.1").Port()))
	config, err := env.KubeconfigOf(t.Context(), lab.Namespace, "external-lb")
	must(t, err)
	manager := exec.CommandContext(context.Background(), binary, "manager", "--kubeconfig", config, "--namespace", lab.Namespace,
		"--metrics-address", "0", "--health-address", "0", "--ui-address", ":"+port, "--ui-cert-dir", dir,
		"--ui-host", "external-lb-ui.external-lb-system.svc")
	manager.Stderr = os.Stderr
	must(t, manager.Start())
	t.Cleanup(func() {
		must(t, manager.Process.Signal(os.Interrupt))
		if err := manager.Wait(); err != nil {
			t.Errorf("the other manager: %v", err)
		}
	})
	return port
}

// TestUI_OfTheManagerTakesTokens: as the documentation says it, who is allowed to looks at the
// page of a manager, over TLS, and nobody else. One that does not lead says who does.
func TestUI_OfTheManagerTakesTokens(t *testing.T) {
	if engine.name != v1alpha1.EngineNginx {
		t.Skip("not applicable: no host is asked, whatever its engine")
	}
	s := newScene(t)
	s.pod("web", "web-1", "node1")
	s.published(s.service("web"))
	for _, file := range []string{"role_binding.yaml", "viewer_role.yaml"} {
		file = filepath.Join("../../config/components/ui-service", file)
		mustKubectl(t, "apply", "-f", file)
		t.Cleanup(func() {
			if _, stderr, code := command(context.Background(), env.Bin("kubectl"), "delete", "-f", file); code != 0 {
				t.Error(stderr)
			}
		})
	}
	dir := t.TempDir()
	cert, key, err := certutil.GenerateSelfSignedCertKey("external-lb-ui.external-lb-system.svc", nil, nil)
	must(t, err)
	for name, data := range map[string][]byte{"tls.crt": cert, "tls.key": key, "ca.crt": cert} {
		must(t, os.WriteFile(filepath.Join(dir, name), data, 0o600))
	}
	port := standby(t, dir)
	bind, curl := howToLook(t)
	token := func(name string) string {
		account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: name}}
		must(t, env.Kube.Create(t.Context(), account))
		request := &authenticationv1.TokenRequest{}
		must(t, env.Kube.SubResource("token").Create(t.Context(), account, request))
		return request.Status.Token
	}
	look := func(ctx context.Context, token, more string) (string, error) {
		sh := exec.CommandContext(ctx, "sh", "-c", curl+more)
		sh.Dir = dir
		sh.Env = append(os.Environ(), "TOKEN="+token, "NO_PROXY=*")
		out, err := sh.CombinedOutput()
		return string(out), err
	}
	connect := " --silent --show-error --connect-to external-lb-ui.external-lb-system.svc:443:127.0.0.1:" + port
	viewer := token("viewer")
	answers := func(token, want, more string) {
		t.Helper()
		wait.For(t, func(ctx context.Context) error {
			if out, err := look(ctx, token, connect+more); err != nil || !strings.Contains(out, want) {
				return fmt.Errorf("%w: %s", err, out)
			}
			return nil
		})
	}
	answers(viewer, s.namespace+":viewer may not look: it takes the right to get the nonResourceURL /external-lb/ui", "")
	mustKubectl(t, strings.Fields(strings.Replace(bind, "network-team", "system:serviceaccounts:"+s.namespace, 1))[1:]...)
	t.Cleanup(func() {
		must(t, env.Kube.Delete(context.Background(), &rbacv1.ClusterRoleBinding{ObjectMeta: metav1.ObjectMeta{Name: "external-lb-ui-viewers"}}))
	})
	answers(viewer, "<title>external-lb</title>", "")
	answers("guess", "the API server does not know this token", "")
	answers(viewer, "this Host is not served here", " --header 'Host: attacker.example'")

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	events := exec.CommandContext(ctx, "sh", "-c", "exec "+curl+"events --no-buffer"+connect)
	events.Dir, events.Env = dir, append(os.Environ(), "TOKEN="+viewer, "NO_PROXY=*")
	out, err := events.StdoutPipe()
	must(t, err)
	must(t, events.Start())
	leader, err := os.Hostname()
	must(t, err)
	missing := []string{", which does not lead", "service/" + s.namespace + "/web", "look at the page of " + leader}
	for lines := bufio.NewReader(out); len(missing) > 0; {
		line, err := lines.ReadString('\n')
		if err != nil {
			t.Fatalf("the events end, and lack %q: %v", missing, err)
		}
		for i := 0; i < len(missing); i++ {
			if strings.Contains(line, missing[i]) {
				missing, i = append(missing[:i], missing[i+1:]...), i-1
			}
		}
	}
	cancel()
	_ = events.Wait() // it was ended
}
