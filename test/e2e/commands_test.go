package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/external-lb/external-lb/test/wait"
)

// command runs a program that finds the API server as a user's does.
func command(ctx context.Context, program string, args ...string) (stdout, stderr string, code int) {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+env.Kubeconfig())
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		code = -1
		if exit, ok := errors.AsType[*exec.ExitError](err); ok {
			code = exit.ExitCode()
		}
	}
	return out.String(), errs.String(), code
}

// mustKubectl fails the test with what kubectl says.
func mustKubectl(t *testing.T, args ...string) string {
	t.Helper()
	stdout, stderr, code := command(t.Context(), env.Bin("kubectl"), args...)
	if code != 0 {
		t.Fatalf("kubectl %s: exit code %d\n%s", strings.Join(args, " "), code, stderr)
	}
	return stdout
}

// TestConfig_IsAcceptedWithoutWarnings also asks the API server's own checks of
// pods (PodSecurity "restricted") what they think of the Deployment.
func TestConfig_IsAcceptedWithoutWarnings(t *testing.T) {
	config := filepath.Join("..", "..", "config")
	apply := []string{"apply", "--server-side", "--dry-run=server", "--warnings-as-errors", "--force-conflicts"}
	for _, args := range [][]string{
		{"-k", filepath.Join(config, "default")},
		{"-f", filepath.Join(config, "samples", "secret.yaml")},
		{"-f", filepath.Join(config, "components", "network-policy", "network_policy.yaml")},
		{"-f", filepath.Join(config, "components", "tls", "role.yaml"), "-f", filepath.Join(config, "components", "tls", "role_binding.yaml")},
	} {
		mustKubectl(t, append(apply, args...)...)
	}
	// The sample Balancer has the name of the one that serves these tests.
	samples := mustKubectl(t, "kustomize", filepath.Join(config, "samples"))
	file := filepath.Join(t.TempDir(), "samples.yaml")
	must(t, os.WriteFile(file, []byte(strings.ReplaceAll(samples, "name: edge\n", "name: sample\n")), 0o600))
	mustKubectl(t, append(apply, "-f", file)...)
}

// TestConfig_Components are built onto config/default.
func TestConfig_Components(t *testing.T) {
	config, err := filepath.Abs(filepath.Join("..", "..", "config"))
	must(t, err)
	components, err := os.ReadDir(filepath.Join(config, "components"))
	must(t, err)
	dir := t.TempDir()
	relative, err := filepath.Rel(dir, config)
	must(t, err)
	var overlay strings.Builder
	fmt.Fprintf(&overlay, "resources: [%s/default]\ncomponents:\n", relative)
	for _, c := range components {
		fmt.Fprintf(&overlay, "- %s/components/%s\n", relative, c.Name())
	}
	must(t, os.WriteFile(filepath.Join(dir, "kustomization.yaml"), []byte(overlay.String()), 0o600))
	built := mustKubectl(t, "kustomize", dir)
	if strings.Count(built, "- --tls-secrets\n") != 1 || !strings.Contains(built, "name: external-lb-tls\n") {
		t.Error("the manager may not read certificates")
	}
	for _, kind := range []string{"Deployment", "PodDisruptionBudget", "ServiceMonitor", "NetworkPolicy"} {
		if !strings.Contains(built, "kind: "+kind+"\n") {
			t.Errorf("there is no %s", kind)
		}
	}
}

// TestConfig_UserRoles: who may edit a namespace may tune its Services, and
// nothing of the cluster's.
func TestConfig_UserRoles(t *testing.T) {
	s := newScene(t)
	mustKubectl(t, "-n", s.namespace, "create", "rolebinding", "dev", "--clusterrole=edit", "--user=dev")
	mustKubectl(t, "create", "clusterrolebinding", "e2e-look", "--clusterrole=view", "--user=look")
	t.Cleanup(func() {
		if _, err := env.Kubectl(context.Background(), "delete", "clusterrolebinding", "e2e-look"); err != nil {
			t.Error(err)
		}
	})
	for _, test := range []struct{ user, verb, resource, want string }{
		{"dev", "create", "upstreampolicies.external-lb.dev", "yes"},
		{"dev", "update", "balancers.external-lb.dev", "no"},
		{"dev", "create", "addresspools.external-lb.dev", "no"},
		{"look", "list", "balancers.external-lb.dev", "yes"},
		{"look", "delete", "upstreampolicies.external-lb.dev", "no"},
	} {
		wait.For(t, func(ctx context.Context) error { // roles are aggregated in their own time
			got, _, _ := command(ctx, env.Bin("kubectl"), "-n", s.namespace, "auth", "can-i", test.verb, test.resource, "--as", test.user)
			if strings.TrimSpace(got) != test.want {
				return fmt.Errorf("may %s %s %s: %q, want %q", test.user, test.verb, test.resource, got, test.want)
			}
			return nil
		})
	}
}

// TestCommands_RenderIsWhatHostsRun: three ways to the same digest.
func TestCommands_RenderIsWhatHostsRun(t *testing.T) {
	s := newScene(t)
	s.pod("web", "web-0", "node1")
	svc := s.service("web")
	address := s.published(svc)[0]

	wait.For(t, func(ctx context.Context) error {
		stdout, stderr, code := command(ctx, binary, "diff", balancer)
		if code != 0 || strings.Count(stdout, "no difference") != 2 {
			return fmt.Errorf("diff: exit code %d\n%s%s", code, stdout, stderr)
		}
		return nil
	})

	dir := t.TempDir()
	objects := mustKubectl(t, "get", "balancers,pools,upol,svc,nodes,endpointslices,ns", "-A", "-o", "yaml")
	file := filepath.Join(dir, "all.yaml")
	must(t, os.WriteFile(file, []byte(objects), 0o600))
	rendered, stderr, code := command(t.Context(), binary, "render", "-f", file, "--service", s.namespace+"/web")
	if code != 0 {
		t.Fatalf("render: exit code %d\n%s", code, stderr)
	}
	_, body, _ := strings.Cut(rendered, "\n")
	// What one Service may have of a host is its owner's to say, and no manifest does.
	onHost := regexp.MustCompile(`(?m)^.*(\.share|external-lb\.shares|sc1_conn_cur).*\n`).ReplaceAllString(fragment(t, s.get(svc)), "")
	if strings.TrimSpace(onHost) != strings.TrimSpace(body) {
		t.Errorf("rendered:\n%s\non the host:\n%s", body, onHost)
	}

	tree, stderr, code := command(t.Context(), binary, "status")
	if code != 0 || !strings.Contains(tree, s.namespace+"/web  "+address) || strings.Count(tree, "InSync") != 2 {
		t.Errorf("status: exit code %d\n%s%s", code, tree, stderr)
	}
	var status struct {
		Balancers []struct{ Nodes []string }
	}
	asJSON, _, _ := command(t.Context(), binary, "status", "-o", "json")
	if err := json.Unmarshal([]byte(asJSON), &status); err != nil || len(status.Balancers) != 1 || len(status.Balancers[0].Nodes) != 3 {
		t.Errorf("status as JSON: %v\n%s", err, asJSON)
	}
}

// TestCommands_WithoutAManager: what was said before is not believed, and what to do is said.
func TestCommands_WithoutAManager(t *testing.T) {
	s := newScene(t)
	s.pod("web", "web-0", "node1")
	svc := s.service("web")
	s.published(svc)
	lines := func(ctx context.Context, args ...string) (string, int) {
		stdout, stderr, code := command(ctx, binary, args...)
		return stdout + stderr, code
	}
	wait.For(t, func(ctx context.Context) error {
		check, _ := lines(ctx, "check")
		story, code := lines(ctx, "events", "service", s.namespace+"/web")
		if strings.Contains(check, "\nfail ") || !strings.Contains(check, "host "+balancer+"/"+env.Hosts()[0]) || code != 0 || !strings.Contains(story, "EnsuredLoadBalancer") {
			return fmt.Errorf("with a manager:\n%s\n%s", check, story)
		}
		return nil
	})
	must(t, env.Manager.Stop())
	t.Cleanup(func() { must(t, env.StartManager(context.Background())) })
	if check, code := lines(t.Context(), "check"); code != 2 || !strings.Contains(check, "as the manager last saw it") {
		t.Errorf("check: exit code %d\n%s", code, check)
	}
	if why, code := lines(t.Context(), "explain", "service", s.namespace+"/web"); code != 1 || !strings.Contains(why, "Wrong first: manager: ") {
		t.Errorf("explain: exit code %d\n%s", code, why)
	}
}

// TestCommands_DiffShowsTampering: a file that somebody changed on a host is seen.
func TestCommands_DiffShowsTampering(t *testing.T) {
	s := newScene(t)
	s.pod("web", "web-0", "node1")
	svc := s.service("web")
	s.published(svc)
	wait.For(t, func(ctx context.Context) error {
		if stdout, stderr, code := command(ctx, binary, "diff", balancer); code != 0 {
			return fmt.Errorf("diff: exit code %d\n%s%s", code, stdout, stderr)
		}
		return nil
	})
	host := env.Hosts()[1]
	h, err := env.Host(host)
	must(t, err)
	path := engine.live() + fragmentPath(s.get(svc))
	before, err := h.ReadFile(t.Context(), path)
	must(t, err)
	t.Cleanup(func() {
		if err := h.WriteFile(context.Background(), path, before); err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Log(err) // the controller repaired it meanwhile
		}
	})
	// More than once: the controller repairs it, on a busy machine before anybody has looked.
	wait.For(t, func(ctx context.Context) error {
		must(t, h.WriteFile(ctx, path, append(before, "# more\n"...)))
		stdout, stderr, code := command(ctx, binary, "diff", balancer)
		if code != 1 || !strings.Contains(stdout, "/services/"+s.namespace+".web.") {
			return fmt.Errorf("diff: exit code %d\n%s%s", code, stdout, stderr)
		}
		return nil
	})
}
