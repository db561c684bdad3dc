package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/external-lb/external-lb/api/v1alpha1"
	table "github.com/external-lb/external-lb/internal/engine/engines"
	"github.com/external-lb/external-lb/internal/lb"
	"github.com/external-lb/external-lb/test/wait"
)

// A Service is served over TLS, with the certificate of a Secret that is renewed
// while clients ask, and its key is nobody's to read.
func TestTLS_IsTerminatedAndRenewed(t *testing.T) {
	terminates(t)
	s := newScene(t)
	s.pod("web", "web-0", "node1")
	first, second := newPair(t, "web.example", tomorrow()), newPair(t, "web.example", tomorrow())
	secret := s.certify("web-tls", first)
	policy := s.terminateTLS("web", "web-tls")
	svc := s.service("web", withHTTPS)
	address := s.published(svc)[0]
	s.serves(address, first)
	s.answers("web", address, 80)
	s.certificateIs(policy, v1alpha1.ReasonCertificateValid)
	if _, err := s.web(t.Context(), address, 443); err == nil {
		t.Error("port 443 answers in plain text")
	}

	var asked atomic.Int64
	var failed atomic.Value
	done := make(chan struct{})
	both := pair{first.name, append(first.chain, second.chain...), nil}
	var clients sync.WaitGroup
	for range 3 {
		clients.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				if _, err := both.get(context.WithoutCancel(t.Context()), address); err != nil {
					failed.CompareAndSwap(nil, err.Error())
				}
				asked.Add(1)
			}
		})
	}
	wait.For(t, func(context.Context) error { return atLeast(&asked, 20) })
	s.replace(secret, second)
	s.serves(address, second)
	now := asked.Load()
	wait.For(t, func(context.Context) error { return atLeast(&asked, now+20) })
	close(done)
	clients.Wait()
	if err := failed.Load(); err != nil {
		t.Errorf("of %d requests some failed, the first with: %v", asked.Load(), err)
	}
	// It is on both hosts, which both say what they should.
	wait.For(t, func(ctx context.Context) error {
		stdout, stderr, code := command(ctx, binary, "diff", balancer)
		if code != 0 || strings.Count(stdout, "no difference") != 2 {
			return fmt.Errorf("diff: exit code %d\n%s%s", code, stdout, stderr)
		}
		return nil
	})
	for _, h := range getBalancer(t, balancer).Spec.Hosts {
		host := h.Name
		files := keyFiles(t, host)
		if len(files) == 0 || files[0] == "" {
			t.Errorf("%s has no key", host)
		}
		for _, f := range files {
			if !strings.HasPrefix(f, "600 external-lb /var/lib/external-lb/") {
				t.Errorf("%s: %s", host, f)
			}
		}
	}
	nobodyPrints(t, s, second)
}

func atLeast(n *atomic.Int64, want int64) error {
	if got := n.Load(); got < want {
		return fmt.Errorf("%d, want %d", got, want)
	}
	return nil
}

// nobodyPrints looks for a key in what people see.
func nobodyPrints(t *testing.T, s *scene, p pair) {
	t.Helper()
	objects := mustKubectl(t, "get", "balancers,pools,upol,svc,nodes,endpointslices,ns", "-A", "-o", "yaml")
	secrets := mustKubectl(t, "get", "secrets", "-n", s.namespace, "-o", "yaml")
	var files []string
	for name, text := range map[string]string{"objects": objects, "secrets": secrets} {
		file := filepath.Join(t.TempDir(), name+".yaml")
		must(t, os.WriteFile(file, []byte(text), 0o600))
		files = append(files, "-f", file)
	}
	rendered, said, code := command(t.Context(), binary, append([]string{"render"}, files...)...)
	if code != 0 {
		t.Errorf("render: exit code %d\n%s", code, said)
	}
	rendered += said
	if !strings.Contains(rendered, "Not shown: a certificate and its key.") {
		t.Errorf("render does not say that it leaves out a key:\n%s", rendered)
	}
	log, err := os.ReadFile(env.Manager.LogFile)
	must(t, err)
	h, err := env.Host(env.Hosts()[0])
	must(t, err)
	status, err := h.Shell(t.Context(), "external-lb host status; external-lb host status -o json")
	must(t, err)
	diff, _, _ := command(t.Context(), binary, "diff", balancer)
	tree, _, _ := command(t.Context(), binary, "status", "-o", "json")
	events := mustKubectl(t, "get", "events", "-A", "-o", "yaml")
	line := strings.Split(string(p.key), "\n")[1]
	for what, text := range map[string]string{
		"render": rendered, "the manager's log": string(log), "host status": status, "diff": diff, "status": tree, "objects": objects, "events": events,
	} {
		if strings.Contains(text, line) || strings.Contains(text, "PRIVATE KEY") {
			t.Errorf("a key is in %s", what)
		}
	}
}

// A port whose certificate cannot be served is closed, not open without TLS; the
// other port goes on, and so does it when the certificate is there.
func TestTLS_WithoutACertificateAPortIsClosed(t *testing.T) {
	t.Parallel()
	terminates(t)
	s := besideScene(t)
	s.pod("web", "web-0", "node1")
	policy := s.terminateTLS("web", "web-tls")
	svc := s.service("web", withHTTPS)
	address := s.published(svc)[0]
	s.answers("web", address, 80)

	s.certificateIs(policy, v1alpha1.ReasonSecretNotFound)
	s.event(policy, v1alpha1.ReasonSecretNotFound, "there is no Secret web-tls")
	fresh := s.portError(svc, v1alpha1.PortErrorCertificate)
	s.event(fresh, v1alpha1.EventSyncFailed, "TLS cannot be terminated for 443/TCP: there is no Secret web-tls")
	if c := condition(fresh, v1alpha1.ConditionPortsError); c.Status != metav1.ConditionTrue || c.Reason != v1alpha1.ReasonNoCertificate {
		t.Errorf("condition: %+v", c)
	}
	s.closed(address)

	good, other := newPair(t, "web.example", tomorrow()), newPair(t, "web.example", tomorrow())
	secret := s.certify("web-tls", pair{good.name, good.chain, other.key})
	s.certificateIs(policy, v1alpha1.ReasonCertificateInvalid)
	s.event(policy, v1alpha1.ReasonCertificateInvalid, "tls.key is not the key of the first certificate in tls.crt")
	s.closed(address)

	s.replace(secret, good)
	s.certificateIs(policy, v1alpha1.ReasonCertificateValid)
	s.portError(svc, "")
	s.serves(address, good)

	expired := newPair(t, "web.example", time.Now().Add(-time.Hour))
	s.replace(secret, expired)
	s.certificateIs(policy, v1alpha1.ReasonCertificateExpired)
	s.event(policy, v1alpha1.ReasonCertificateExpired, "is served still")
	wait.For(t, func(ctx context.Context) error {
		if _, err := expired.get(ctx, address); err == nil || !strings.Contains(err.Error(), "expired") {
			return fmt.Errorf("want it to be served and refused by the client, got %v", err)
		}
		return nil
	})

	must(t, env.Kube.Delete(t.Context(), secret))
	s.certificateIs(policy, v1alpha1.ReasonSecretNotFound)
	s.portError(svc, v1alpha1.PortErrorCertificate)
	s.closed(address)
	s.answers("web", address, 80)
}

// An engine that cannot terminate TLS says so, and serves nobody without it.
func TestTLS_WhereItCannotBeTerminated(t *testing.T) {
	t.Parallel()
	if table.Named(engine.name).Unsupported("tls.secretRef", lb.TCP) == "" {
		t.Skipf("not applicable: %s terminates TLS", engine.daemon)
	}
	s := besideScene(t)
	s.pod("web", "web-0", "node1")
	s.certify("web-tls", newPair(t, "web.example", tomorrow()))
	policy := s.terminateTLS("web", "web-tls")
	svc := s.service("web", withHTTPS)
	address := s.published(svc)[0]
	s.answers("web", address, 80)
	wait.For(t, func(ctx context.Context) error {
		fresh := &v1alpha1.UpstreamPolicy{}
		if err := env.Kube.Get(ctx, client.ObjectKeyFromObject(policy), fresh); err != nil {
			return err
		}
		for _, target := range fresh.Status.Targets {
			c := meta.FindStatusCondition(target.Conditions, v1alpha1.ConditionUnsupported)
			if c != nil && c.Status == metav1.ConditionTrue && strings.HasPrefix(c.Message, "tls.secretRef: ") {
				return nil
			}
		}
		return fmt.Errorf("not told: %+v", fresh.Status)
	})
	s.portError(svc, v1alpha1.PortErrorTLS)
	s.closed(address)
}

// With HTTP understood, pods are told that the client came over TLS.
func TestTLS_InHTTPMode(t *testing.T) {
	t.Parallel()
	terminates(t)
	if reason := table.Named(engine.name).Unsupported("mode=HTTP", lb.TCP); reason != "" {
		t.Skipf("not applicable: %s", reason)
	}
	s := besideScene(t)
	s.pod("web", "web-0", "node1")
	p := newPair(t, "web.example", tomorrow())
	s.certify("web-tls", p)
	s.terminateTLS("web", "web-tls", func(spec *v1alpha1.UpstreamPolicySpec) { spec.Mode = v1alpha1.ModeHTTP })
	address := s.published(s.service("web", withHTTPS))[0]
	s.serves(address, p)
	answer, err := p.get(t.Context(), address)
	must(t, err)
	if got := answer.Header["X-Forwarded-Proto"]; len(got) != 1 || got[0] != "https" {
		t.Errorf("X-Forwarded-Proto is %q", got)
	}
}

// Without the component, policies say what to add, and no port is open without TLS.
func TestTLS_WithoutTheComponent(t *testing.T) {
	terminates(t)
	must(t, env.Manager.Stop())
	must(t, env.StartManager(t.Context(), "--tls-secrets=false"))
	t.Cleanup(func() {
		must(t, env.Manager.Stop())
		must(t, env.StartManager(context.Background()))
	})
	s := newScene(t)
	s.pod("web", "web-0", "node1")
	s.certify("web-tls", newPair(t, "web.example", tomorrow()))
	policy := s.terminateTLS("web", "web-tls")
	svc := s.service("web", withHTTPS)
	address := s.published(svc)[0]
	s.certificateIs(policy, v1alpha1.ReasonSecretsUnreadable)
	s.event(policy, v1alpha1.ReasonSecretsUnreadable, "config/components/tls")
	s.portError(svc, v1alpha1.PortErrorCertificate)
	s.closed(address)
}
