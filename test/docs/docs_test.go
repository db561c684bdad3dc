// Package docs holds the documentation to what is true: every manifest in it is
// taken by a real API server, and every command in it exists. tools/site holds that
// every link leads somewhere.
package docs

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/external-lb/external-lb/internal/engine/engines"
	"github.com/external-lb/external-lb/internal/host"
	"github.com/external-lb/external-lb/test/cluster"
)

const root = "../.."

// pages are all that people read.
func pages(t *testing.T) []string {
	t.Helper()
	var out []string
	for _, pattern := range []string{"*.md", ".github/*.md", "docs/*.md", "docs/*/*.md"} {
		found, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, found...)
	}
	if len(out) < 5 {
		t.Fatalf("found only %q", out)
	}
	return out
}

var fence = regexp.MustCompile("(?ms)^```(\\w+)\n(.*?)^```$")

// blocks are the fenced blocks of a page in one language.
func blocks(t *testing.T, page, language string) []string {
	t.Helper()
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, m := range fence.FindAllStringSubmatch(string(text), -1) {
		if m[1] == language {
			out = append(out, m[2])
		}
	}
	return out
}

// A real API server takes every manifest, and the kustomization that the README
// tells to apply, and the samples.
func TestManifestsAreTaken(t *testing.T) {
	c := cluster.New(t, cluster.Options{ControlPlaneOnly: true})
	kubectl := func(stdin string, args ...string) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), c.Bin("kubectl"), args...)
		cmd.Env = append(os.Environ(), "KUBECONFIG="+c.Kubeconfig())
		cmd.Stdin = strings.NewReader(stdin)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("kubectl %s: %v\n%s\n%s", strings.Join(args, " "), err, out, stdin)
		}
	}
	kubectl("", "apply", "--server-side", "-k", filepath.Join(root, "config/default"))
	kubectl("", "wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
	kubectl("", "apply", "--dry-run=server", "-k", filepath.Join(root, "config/samples"))
	samples, err := filepath.Glob(filepath.Join(root, "config/samples/*_*.yaml"))
	if err != nil || len(samples) == 0 {
		t.Errorf("samples beside the kustomization: %d, %v", len(samples), err)
	}
	for _, sample := range samples {
		kubectl("", "apply", "--dry-run=server", "--validate=strict", "-f", sample)
	}
	count := 0
	for _, page := range pages(t) {
		for _, manifest := range blocks(t, page, "yaml") {
			if strings.Contains(manifest, "apiVersion:") {
				kubectl(manifest, "apply", "--dry-run=server", "--validate=strict", "-f", "-")
				count++
			}
		}
	}
	if count < 5 {
		t.Errorf("only %d manifests were tried", count)
	}
}

// A host takes every block of settings.
func TestHostSettingsAreTaken(t *testing.T) {
	count := 0
	for _, page := range pages(t) {
		for _, block := range blocks(t, page, "yaml") {
			if !strings.HasPrefix(block, "admit:") {
				continue
			}
			count++
			if _, err := host.ParseSettings([]byte(block), &engines.Table); err != nil {
				t.Errorf("%s: %v\n%s", page, err, block)
			}
		}
	}
	if count == 0 {
		t.Error("no page has settings of a host")
	}
}

// Every command that a page tells to type exists, with the flags that it uses.
func TestCommandsExist(t *testing.T) {
	dir := t.TempDir()
	for name, pkg := range map[string]string{"external-lb": ".", "testcluster": "./test/cluster/cmd/testcluster"} {
		build := exec.CommandContext(t.Context(), "go", "build", "-o", filepath.Join(dir, name), pkg)
		build.Dir = root
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	makefile, err := os.ReadFile(filepath.Join(root, "Makefile"))
	if err != nil {
		t.Fatal(err)
	}
	for _, page := range pages(t) {
		for _, block := range append(blocks(t, page, "sh"), blocks(t, page, "console")...) {
			for _, line := range commandLines(block) {
				if err := exists(t, dir, string(makefile), line); err != nil {
					t.Errorf("%s: %q: %v", page, line, err)
				}
			}
		}
		for _, line := range listedCommands(t, page) {
			if err := hasFlags(t, filepath.Join(dir, "external-lb"), line, strings.Fields(line)[1:]); err != nil {
				t.Errorf("%s: %q: %v", page, line, err)
			}
		}
	}
}

// Who looks for a cloud finds each provider, from wherever they begin.
func TestPagesOnCloudsNameEachProvider(t *testing.T) {
	read := func(page string) string {
		t.Helper()
		text, err := os.ReadFile(filepath.Join(root, page))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	of := map[string]string{"openstack": "octavia.md", "alibaba": "alibaba.md"}
	found := 0
	for _, m := range regexp.MustCompile(`(?m)^## external-lb provider ([a-z]+)$`).FindAllStringSubmatch(read("docs/reference/commands.md"), -1) {
		if m[1] == "check" {
			continue
		}
		found++
		page := of[m[1]]
		if page == "" {
			t.Errorf("there is no page on the provider %s", m[1])
			continue
		}
		if !strings.Contains(read("docs/howto/"+page), "external-lb provider "+m[1]+" ") {
			t.Errorf("%s does not say how to run the provider %s", page, m[1])
		}
		for _, list := range []string{"README.md", "docs/README.md", "docs/howto/cloud.md", "docs/contributing/write-a-provider.md", "docs/reference/capabilities.md"} {
			if !strings.Contains(read(list), page) {
				t.Errorf("%s does not lead to %s", list, page)
			}
		}
	}
	if found != len(of) {
		t.Errorf("%d providers of %d", found, len(of))
	}
}

// commandLines joins continued lines and drops comments and output.
func commandLines(block string) []string {
	var out []string
	for line := range strings.Lines(strings.ReplaceAll(block, "\\\n", " ")) {
		line, _, _ = strings.Cut(strings.TrimSpace(line), "  #")
		line = strings.TrimPrefix(strings.TrimSpace(line), "$ ")
		if line != "" && !strings.HasPrefix(line, "#") {
			out = append(out, line)
		}
	}
	return out
}

var flag = regexp.MustCompile(`(?:^| )(--[a-z][a-z-]*)`)

func exists(t *testing.T, bin, makefile, line string) error {
	words := strings.Fields(strings.TrimPrefix(strings.TrimPrefix(line, `eval "$(`), "bin/"))
	switch words[0] {
	case "make":
		if len(words) > 1 && !strings.Contains(makefile, "\n"+words[1]+":") {
			return fmt.Errorf("no such target")
		}
		return nil
	case "external-lb", "testcluster", "bin/testcluster":
		return hasFlags(t, filepath.Join(bin, filepath.Base(words[0])), line, words[1:])
	case "go", "head", "provider":
		return nil // those of the page on providers are run by the example's own test
	case "kubectl", "apt-get", "install", "ssh-keygen", "ssh-keyscan", "scp", "systemctl", "rm", "sed", "nft", "userdel", "helm", "sha256sum", "openssl", "echo", "tar", "export", "curl":
		return nil // those of the README, of the tutorials, of the removal, of the pages on clouds, Helm, datagrams and the manager's page, and of releases are run by tests of their own
	default:
		return fmt.Errorf("nobody tests %s", words[0])
	}
}

// hasFlags looks a subcommand's flags up in its own help.
func hasFlags(t *testing.T, program, line string, words []string) error {
	var sub []string
	for _, w := range words {
		if !regexp.MustCompile(`^[a-z]+(-[a-z]+)*$`).MatchString(w) || len(sub) == 2 {
			break
		}
		sub = append(sub, w)
	}
	help, err := exec.CommandContext(t.Context(), program, append(sub, "--help")...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w: %s", err, help)
	}
	line, _, _ = strings.Cut(line, " -- ")
	for _, f := range flag.FindAllStringSubmatch(line, -1) {
		if !strings.Contains(string(help), f[1]) {
			return fmt.Errorf("no flag %s", f[1])
		}
	}
	return nil
}
