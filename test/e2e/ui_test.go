package e2e

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/test/browser"
	"github.com/external-lb/external-lb/test/cluster"
	"github.com/external-lb/external-lb/test/wait"
)

// startUI runs `external-lb ui` until the test ends, and returns where the page is.
func startUI(t *testing.T) (url string) {
	t.Helper()
	cmd := exec.CommandContext(context.Background(), binary, "ui", "--metrics", env.Manager.Metrics)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+env.Kubeconfig())
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	t.Cleanup(func() { // as Ctrl-C does, with a page open
		must(t, cmd.Process.Signal(os.Interrupt))
		if err := cmd.Wait(); err != nil {
			t.Errorf("external-lb ui: %v", err)
		}
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	must(t, err)
	url, found := strings.CutPrefix(strings.TrimSpace(line), "Open ")
	if !found {
		t.Fatalf("external-lb ui says %q", line)
	}
	return url
}

// picture writes a screenshot for the documentation, with -update and on one engine.
func picture(t *testing.T, b *browser.Browser, name string) {
	t.Helper()
	if *update && engine.name == v1alpha1.EngineHAProxy { // which tells most of its traffic
		must(t, os.WriteFile(filepath.Join("..", "..", "docs", "images", name), b.Picture(), 0o644))
	}
}

// seenSoon is how long a page may take for what the API server has. It is well below a
// second where the machine does nothing else, and a browser among four clusters waits for a processor.
const seenSoon = 15 * time.Second

// TestUI_ShowsWhatIs: in a real browser, what the page says is what the API server has,
// and a host that is cut off is seen as soon as its Balancer says so.
func TestUI_ShowsWhatIs(t *testing.T) {
	s := newScene(t)
	s.pod("web", "web-1", "node1")
	svc := s.service("web")
	address := s.published(svc)[0]
	asks := s.service("asks", withAnnotation(v1alpha1.AddressesAnnotation, "198.51.100.1"))
	asks = s.until(asks, "refused", func(svc *corev1.Service) bool {
		return condition(svc, v1alpha1.ConditionServiceProgrammed).Reason == v1alpha1.ReasonAddressUnavailable
	})

	b := browser.Open(t)
	b.Go(startUI(t))
	b.Until(`return document.querySelector('#connection')?.innerText.includes('follows https://') ?? false`)
	b.Press("/" + s.namespace)
	b.Until(`return document.querySelectorAll('[data-service]').length === 2`)
	row := func(name string) string {
		return fmt.Sprintf(`document.querySelector('[data-service="service/%s/%s"]')`, s.namespace, name)
	}
	b.Until(fmt.Sprintf(`const row = %s?.innerText ?? '';
		return [%q, '80/TCP', 'in order'].every((x) => row.includes(x)) || row`, row("web"), address))
	said := condition(asks, v1alpha1.ConditionServiceProgrammed).Message
	b.Until(fmt.Sprintf(`const words = %s?.querySelector('.problems')?.innerText ?? '';
		return words.includes(%q) || words`, row("asks"), said))
	names := env.Nodes()
	for _, host := range getBalancer(t, balancer).Spec.Hosts {
		names = append(names, host.Name)
	}
	for _, name := range names {
		b.Until(fmt.Sprintf(`return [...document.querySelectorAll('[data-column=Hosts] li, [data-column=Nodes] li')]
			.some((x) => x.innerText.includes(%q))`, name))
	}
	b.Until(fmt.Sprintf(`return [...document.querySelectorAll('[data-pool=public] .cell.used')]
		.some((x) => x.title === '%s: %s/web')`, address, s.namespace))
	traffic := s.startLoad(address, 80, func(cluster.Answer) error { return nil })
	if engine.name == v1alpha1.EngineHAProxy { // others cannot tell rates of what was made
		b.Until(`return [...document.querySelectorAll('[data-host]')].some((x) => /, [1-9]\S*\/s new/.test(x.innerText))`)
	}
	picture(t, b, "ui-light.png")

	uiTellsTheStory(t, s, b, svc)
	traffic.end(t)
	uiSeesAHostThatIsCutOff(t, b)
	if err := b.Complaints(); err != nil {
		t.Error(err)
	}
}

// uiTellsTheStory: a Service's events and conditions, also one that comes while the page
// is open, and what is hostile as the text that it is.
func uiTellsTheStory(t *testing.T, s *scene, b *browser.Browser, svc *corev1.Service) {
	b.Run(fmt.Sprintf(`document.querySelector('[data-service="service/%s/web"] button').focus()`, s.namespace), nil)
	b.Press(browser.Enter)
	b.Until(`return document.activeElement.id === 'story-title'`)
	b.Until(`const told = document.querySelector('.timeline').innerText;
		return ['EnsuredLoadBalancer', 'external-lb.dev/Programmed=True'].every((x) => told.includes(x)) || told`)
	b.Until(`return document.querySelector('[data-traffic=lb1]')?.innerText.includes('open') ?? false`)
	b.Dark(true)
	picture(t, b, "ui-dark.png")
	b.Dark(false)
	const hostile = `<img src=x onerror="document.title='taken'">`
	now := metav1.Now()
	must(t, env.Kube.Create(t.Context(), &corev1.Event{
		ObjectMeta:     metav1.ObjectMeta{Namespace: s.namespace, GenerateName: "hostile-"},
		InvolvedObject: corev1.ObjectReference{Kind: "Service", Namespace: s.namespace, Name: svc.Name, UID: svc.UID},
		Source:         corev1.EventSource{Component: "external-lb"},
		Type:           corev1.EventTypeWarning, Reason: "Hostile", Message: hostile, FirstTimestamp: now, LastTimestamp: now, Count: 1,
	}))
	b.Until(fmt.Sprintf(`return document.querySelector('.timeline').innerText.includes(%q)`, hostile))
	b.Until(`return document.querySelectorAll('img').length === 0 && document.title === 'external-lb'`)
	b.Press(browser.Escape)
	b.Until(`return document.querySelector('#story') === null`)
}

func uiSeesAHostThatIsCutOff(t *testing.T, b *browser.Browser) {
	state := func() v1alpha1.HostState {
		for _, h := range getBalancer(t, balancer).Status.Hosts {
			if h.Name == "lb2" {
				return h.State
			}
		}
		return ""
	}
	b.Run(`new MutationObserver((_, self) => {
		if (!document.querySelector('[data-host=lb2]').innerText.includes('Unreachable')) return;
		window.seenAt = Date.now();
		self.disconnect();
	}).observe(document.body, {subtree: true, childList: true, characterData: true})`, nil)
	must(t, env.Cut(t.Context(), "lb2"))
	healed := false
	heal := func() {
		if !healed {
			healed = true
			must(t, env.Heal(context.Background(), "lb2"))
		}
	}
	defer heal()
	must(t, wait.Precisely(t.Context(), "lb2 is Unreachable", func() (bool, error) { return state() == v1alpha1.HostUnreachable, nil }))
	known := time.Now()
	b.Until(`return window.seenAt > 0`)
	var seen int64
	b.Run(`return window.seenAt`, &seen)
	if late := time.UnixMilli(seen).Sub(known); late > seenSoon {
		t.Errorf("the page showed the host as unreachable %s after the Balancer's status", late)
	} else {
		t.Logf("the page showed the host as unreachable %s after somebody who asks the API server all the time knew it", late)
	}
	b.Until(`return document.querySelector('#wrong').innerText.includes('Host lb2 of Balancer edge')`)
	heal()
	b.Until(`return document.querySelector('[data-host=lb2]').innerText.includes('InSync')`)
}
