package e2e

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/test/cluster"
	"github.com/external-lb/external-lb/test/lab"
	"github.com/external-lb/external-lb/test/wait"
)

const (
	apiHost    = "api"
	apiAddress = "203.0.113.100"
)

// page is docs/howto/kubeadm.md with this lab's machines in the place of the reader's.
type page struct{ files, commands []string }

func kubeadmPage(t *testing.T, secret string) (p page) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "howto", "kubeadm.md"))
	must(t, err)
	h := mustHost(t, apiHost)
	ours := strings.NewReplacer(
		"name: edge\n", "name: "+apiHost+"\n", "edge-ssh", secret, "lb1", apiHost, "192.0.2.5", h.Addr().String(), "engine: nginx", "engine: "+string(engine.name),
		"host install ", "host install --engine "+string(engine.name)+" ",
		"--backends 10.0.0.0/24", "--backends 198.18.0.0/15 --backends fd65:6c62::/32", "10.0.0.11", env.Addrs("control-plane")[0].String(), "10.0.0.12", env.Addrs("node1")[0].String(), "10.0.0.13", env.Addrs("node2")[0].String(),
	).Replace(string(text))
	for _, block := range regexp.MustCompile("(?ms)^```(\\w+)\n(.*?)^```$").FindAllStringSubmatch(ours, -1) {
		if block[1] == "yaml" {
			p.files = append(p.files, block[2])
		} else {
			p.commands = append(p.commands, block[2])
		}
	}
	if len(p.files) != 2 || len(p.commands) != 3 {
		t.Fatalf("the page has %d files and %d blocks of commands", len(p.files), len(p.commands))
	}
	return p
}

// The page on kubeadm, typed as it is written: the API server is reached by root's word
// alone, before the host has a controller. Nothing that a controller delivers takes it away.
func TestControlPlane(t *testing.T) {
	s := newScene(t)
	must(t, env.AddHost(t.Context(), apiHost))
	h := mustHost(t, apiHost)
	t.Cleanup(func() { must(t, h.PowerOff(context.Background())) })
	p := kubeadmPage(t, s.namespace)
	s.via(h, apiAddress)
	s.prepare(h, p)
	out, err := h.Shell(t.Context(), "set -ex; cd /root\n"+p.commands[1])
	if err != nil || !strings.Contains(out, "API servers: 203.0.113.100:6443/TCP to port 6443 of cp1, cp2, cp3") {
		t.Fatalf("%v\n%s", err, out)
	}
	s.asksAPI("ok")

	t.Log("a controller delivers, with and without the control plane")
	s.delivers(p.files[0], h)
	s.asksAPI("ok")
	changeBalancer(t, apiHost, func(b *v1alpha1.Balancer) { b.Spec.ControlPlane = nil })
	wait.For(t, func(context.Context) error {
		if b := getBalancer(t, apiHost); b.Status.ObservedGeneration < b.Generation {
			return fmt.Errorf("generation %d is not seen: %+v", b.Generation, b.Status)
		}
		return nil
	})
	s.inSync(apiHost)
	s.asksAPI("ok")

	t.Log("the API server goes and comes back")
	must(t, env.Manager.Stop()) // it would end, too, if it lost its Lease meanwhile
	must(t, env.StopAPIServer())
	s.asksAPI("")
	must(t, env.StartAPIServer(t.Context()))
	s.asksAPI("ok")
	must(t, env.StartManager(t.Context()))

	t.Log("root takes it away")
	without := strings.Split(p.files[0], "  controlPlane:")[0]
	must(t, h.WriteFile(t.Context(), "/root/without.yaml", []byte(without)))
	if out, err := h.Shell(t.Context(), "external-lb host apply -f /root/without.yaml -f /root/control-plane.yaml"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	s.asksAPI("")
}

// prepare types what prepares the host, and writes the files.
func (s *scene) prepare(h *cluster.Host, p page) {
	s.t.Helper()
	ctx := s.t.Context()
	for name, text := range map[string]string{"edge-key.pub": env.AuthorizedKey() + "\n", "balancer.yaml": p.files[0], "control-plane.yaml": p.files[1]} {
		must(s.t, h.WriteFile(ctx, "/root/"+name, []byte(text)))
	}
	if out, err := h.Shell(ctx, "set -ex; cd /root\n"+p.commands[0]); err != nil {
		s.t.Fatalf("%v\n%s", err, out)
	}
	switch engine.name {
	case v1alpha1.EngineHAProxy: // which has had nothing to listen to before
		must(s.t, h.StartEngine(ctx))
	case v1alpha1.EngineLVS:
		must(s.t, h.StartKeepalived(ctx))
	}
	must(s.t, h.StartAgent(ctx))
}

// delivers makes the Balancer that is called as its host, and waits until the host proves what it was sent.
func (s *scene) delivers(manifest string, h *cluster.Host) {
	s.t.Helper()
	known, err := h.KnownHosts(s.t.Context())
	must(s.t, err)
	var key corev1.Secret
	must(s.t, env.Kube.Get(s.t.Context(), client.ObjectKey{Namespace: lab.Namespace, Name: lab.SecretName}, &key))
	s.secret(key.Data[corev1.SSHAuthPrivateKey], known)
	if out, err := env.KubectlInput(s.t.Context(), manifest, "apply", "-f", "-"); err != nil {
		s.t.Fatalf("%v\n%s", err, out)
	}
	b := getBalancer(s.t, h.Name)
	s.t.Cleanup(func() {
		must(s.t, client.IgnoreNotFound(env.Kube.Delete(context.Background(), b)))
		secret := &corev1.Secret{}
		secret.Namespace, secret.Name = lab.Namespace, s.namespace
		must(s.t, client.IgnoreNotFound(env.Kube.Delete(context.Background(), secret)))
	})
	s.inSync(h.Name)
}

// asksAPI waits until the API server says so at the address; "": until nobody answers there.
func (s *scene) asksAPI(want string) {
	s.t.Helper()
	config := env.RESTConfig()
	config.ServerName = env.Addrs("control-plane")[0].String()
	verified, err := rest.TLSConfigFor(config)
	must(s.t, err)
	transport := env.HTTPClientFrom("client").Transport.(*http.Transport)
	transport.TLSClientConfig, transport.DisableKeepAlives = verified, true
	steadily(s.t, func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+apiAddress+":6443/readyz", nil)
		if err != nil {
			return err
		}
		got, err := answerOf(transport, request)
		if got != want {
			return fmt.Errorf("the API server says %q (%v), want %q", got, err, want)
		}
		return nil
	})
}

func answerOf(transport *http.Transport, request *http.Request) (string, error) {
	response, err := transport.RoundTrip(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return string(body), err
}
