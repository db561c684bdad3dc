package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/yaml"
	sigyaml "sigs.k8s.io/yaml"

	"github.com/external-lb/external-lb/test/freeport"
)

// MetalLB's controller is what can be held against ours: it gives Services their addresses. What makes them
// answer, its speakers, is not part of it, and neither is a host.
const (
	metallbPath      = "go.universe.tf/metallb"
	metallbModuleDir = "test/bench/metallb"
	metallbNamespace = "metallb-system"
	metallbName      = "controller" // of its account and of its pod
)

const metallbPool = `apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata:
  name: bench
  namespace: ` + metallbNamespace + `
spec:
  addresses: [` + addresses + `]
`

func (b *bench) isMetalLB() bool { return b.name == "metallb" }

// metallbModule asks Go for something of the module that the controller is built from.
func metallbModule(ctx context.Context, format string) (string, error) {
	list := exec.CommandContext(ctx, "go", "list", "-m", "-f", format, metallbPath)
	list.Dir = metallbModuleDir
	out, err := list.Output()
	if err != nil {
		return "", fmt.Errorf("%s in %s: %w", strings.Join(list.Args, " "), metallbModuleDir, err)
	}
	return strings.TrimSpace(string(out)), nil
}

// installMetalLB makes its kinds and rights from its own manifests, then what its pod would be, and addresses.
func (b *bench) installMetalLB(ctx context.Context) error {
	dir, err := metallbModule(ctx, "{{.Dir}}")
	if err != nil {
		return err
	}
	all, err := os.ReadFile(filepath.Join(dir, "config", "manifests", "metallb-native.yaml"))
	if err != nil {
		return err
	}
	manifests, err := kindsAndRights(all)
	if err != nil {
		return err
	}
	if _, err := b.KubectlInput(ctx, manifests, "apply", "--server-side", "-f", "-"); err != nil {
		return err
	}
	if _, err := b.Kubectl(ctx, "wait", "--for=condition=Established", "crd", "--all", "--timeout=60s"); err != nil {
		return err
	}
	if _, err := b.KubectlInput(ctx, metallbPool, "apply", "-f", "-"); err != nil {
		return err
	}
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: metallbNamespace, Name: metallbName},
		Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: metallbName, Image: "none"}}}}
	if err := b.Kube.Create(ctx, pod); err != nil {
		return err
	}
	return b.startMetalLB(ctx)
}

// kindsAndRights leaves out of manifests what runs in the cluster, and the webhooks that it would answer.
func kindsAndRights(manifests []byte) (string, error) {
	wanted := []string{"Namespace", "CustomResourceDefinition", "ServiceAccount", "Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding"}
	var out strings.Builder
	for documents := yaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(manifests))); ; {
		document, err := documents.Read()
		if errors.Is(err, io.EOF) {
			return out.String(), nil
		}
		if err != nil {
			return "", err
		}
		var of metav1.TypeMeta
		if err := sigyaml.Unmarshal(document, &of); err != nil {
			return "", err
		}
		if slices.Contains(wanted, of.Kind) {
			fmt.Fprintf(&out, "---\n%s\n", document)
		}
	}
}

// startMetalLB starts the controller as its Deployment does, but for the webhooks. It handles Services of its class alone.
func (b *bench) startMetalLB(ctx context.Context) error {
	kubeconfig, err := b.KubeconfigOf(ctx, metallbNamespace, metallbName)
	if err != nil {
		return err
	}
	health, err := freeport.ForProcess("127.0.0.1")
	if err != nil {
		return err
	}
	metrics, err := freeport.ForProcess("127.0.0.1")
	if err != nil {
		return err
	}
	cmd := exec.Command(b.options.metallb, "--namespace="+metallbNamespace, "--pod-name="+metallbName, "--lb-class="+b.engine.class,
		"--log-level=info", "--webhook-mode=disabled", "--disable-cert-rotation",
		fmt.Sprintf("--port=%d", metrics.Port()), fmt.Sprintf("--health-probe-port=%d", health.Port()))
	cmd.Env = append(os.Environ(), "KUBECONFIG="+kubeconfig)
	b.other, err = b.Run(ctx, cmd, "metallb", "http://"+health.String()+"/readyz")
	return err
}

// stopMetalLB kills the controller, if it runs: it ends with an error however it is stopped, and has nothing to put away.
func (b *bench) stopMetalLB() error {
	if b.other == nil {
		return nil
	}
	return b.other.Kill()
}
