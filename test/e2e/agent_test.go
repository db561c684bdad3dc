package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/test/cluster"
	"github.com/external-lb/external-lb/test/wait"
)

// agentOn is the process ID of a host's agent.
func agentOn(ctx context.Context, h *cluster.Host) (string, error) {
	out, err := h.Exec(ctx, "pgrep", "-f", "^/usr/local/bin/external-lb host agent")
	return strings.TrimSpace(out), err
}

// signalAgent sends a signal to a host's agent.
func signalAgent(ctx context.Context, h *cluster.Host, signal string) error {
	pid, err := agentOn(ctx, h)
	if err != nil {
		return err
	}
	_, err = h.Exec(ctx, "kill", "-"+signal, pid)
	return err
}

// An agent that is stopped, hangs or is killed costs no request: the daemons carry
// what is live without it. It is told on the Balancer, and over once the agent answers.
func TestFault_TheAgent(t *testing.T) {
	s := newScene(t)
	s.pod("web", "web-1", "node1")
	first := s.service("web")
	address := s.published(first)[0]
	s.inSync(balancer)
	s.answers("web", address, 80)
	requests := s.startLoad(address, 80, nil)
	requests.answered(t, perSecond)
	h, err := env.Host("lb2")
	must(t, err)
	says := func(words ...string) { // host status, there
		t.Helper()
		out, err := h.Shell(t.Context(), "external-lb host status")
		for _, w := range words {
			if err != nil || !strings.Contains(out, w) {
				t.Errorf("host status: %v, want %q:\n%s", err, w, out)
			}
		}
	}
	says("said by  ", "the agent, external-lb ", "running  ")
	late := func(name string) *corev1.Service {
		return s.service(name, func(svc *corev1.Service) { svc.Spec.Selector = first.Spec.Selector })
	}

	// It hangs.
	must(t, signalAgent(t.Context(), h, "STOP"))
	stopped := true
	goOn := func() {
		if stopped {
			// Also runuser, which stops with what it has started.
			_, err := h.Exec(context.Background(), "pkill", "-CONT", "-f", "external-lb host agent")
			must(t, err)
			stopped = false
		}
	}
	defer goOn()
	began := time.Now()
	s.hostSays(balancer, "lb2", v1alpha1.HostFailed, "agent on this host has not answered within")
	t.Logf("told after %s", time.Since(began).Round(time.Second))
	requests.answered(t, perSecond)
	if got := addresses(s.get(first)); len(got) == 0 || got[0] != address {
		t.Errorf("what was published became %v, want %s", got, address)
	}
	says("the agent does not answer", "this program, from files", "running  ")
	s.published(late("hangs")) // by the other host
	goOn()
	s.inSync(balancer)

	// It is killed.
	before, err := agentOn(t.Context(), h)
	must(t, err)
	t.Cleanup(func() {
		if t.Failed() {
			said, _ := h.Shell(context.Background(), "tail -n 20 /var/log/external-lb-agent.log; ls -la /run/external-lb; ps -ef")
			t.Log(said)
		}
	})
	must(t, signalAgent(t.Context(), h, "KILL"))
	wait.For(t, func(ctx context.Context) error {
		now, err := agentOn(ctx, h)
		if err == nil && (now == "" || now == before) {
			err = fmt.Errorf("the agent is %q, as it was", now)
		}
		return err
	})
	s.published(late("killed"))
	s.inSync(balancer)
	requests.end(t)
}

// TestAgent_ItsChecksMayOpenAllFiles: nginx's check opens each listener that is new, and
// sessions of PAM have 1,024 files. What sudo starts has as many as the account.
func TestAgent_ItsChecksMayOpenAllFiles(t *testing.T) {
	h, err := env.Host(env.Hosts()[0])
	must(t, err)
	out, err := h.Shell(t.Context(), `
echo 'external-lb ALL=(root) NOPASSWD: /bin/sh' >/etc/sudoers.d/external-lb-test
trap 'rm /etc/sudoers.d/external-lb-test' EXIT
ulimit -Sn 1500
setpriv --reuid=external-lb --regid=external-lb --clear-groups sudo -n /bin/sh -c 'ulimit -Sn'`)
	must(t, err)
	if files := strings.TrimSpace(out); files != "1500" {
		t.Errorf("a check may open %s files, want 1500", files)
	}
}
