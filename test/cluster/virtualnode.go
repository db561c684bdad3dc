package cluster

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strings"
)

// buildVirtualNode makes a node out of a virtual machine. It passes traffic on to the pods of the others.
func (c *Cluster) buildVirtualNode(ctx context.Context, spec NodeSpec, at int) error {
	if err := c.buildImage(ctx, spec.Name); err != nil {
		return err
	}
	if _, err := c.startMachine(ctx, spec.Name, at); err != nil {
		return err
	}
	if err := c.setUpMachine(ctx, spec.Name, append(boxSettings(), forwardSettings...), c.boxLines(at)); err != nil {
		return err
	}
	if err := c.createNode(ctx, spec, at); err != nil {
		return err
	}
	if err := ip(ctx, c.router(), c.podRoutes("replace", at)...); err != nil {
		return err
	}
	kubeconfig, err := os.ReadFile(c.Kubeconfig())
	if err != nil {
		return err
	}
	const dir = "/run/kube-proxy/"
	for name, data := range map[string][]byte{
		"kubeconfig":  kubeconfig,
		"config.yaml": []byte(c.proxyConfig(spec.Name, "ipvs", dir+"kubeconfig")),
	} {
		if err := c.writeIn(ctx, spec.Name, dir+name, data); err != nil {
			return err
		}
	}
	start := fmt.Sprintf("setsid %s --config=%sconfig.yaml >%slog 2>&1 </dev/null &", c.Bin("kube-proxy"), dir, dir)
	if _, err := c.Exec(ctx, spec.Name, "/bin/sh", "-c", start); err != nil {
		return err
	}
	if err := c.awaitProxy(ctx, spec.Name); err != nil {
		said, _ := c.Exec(ctx, spec.Name, "tail", "-n", "20", dir+"log")
		return fmt.Errorf("%w\n%s", err, said)
	}
	return nil
}

// setUpMachine writes kernel settings and runs lines of `ip -batch` in a host or a virtual machine.
func (c *Cluster) setUpMachine(ctx context.Context, name string, settings, lines []string) error {
	cmd, err := c.Command(ctx, name, append([]string{"/bin/sh", "-ec", `for s; do echo "${s#*=}" > "/proc/sys/${s%=*}"; done; ip -batch -`, "sh"}, settings...)...)
	if err != nil {
		return err
	}
	cmd.Stdin = strings.NewReader(strings.Join(lines, "\n") + "\n")
	_, err = cmd.Output()
	return err
}

// writeIn writes a file in a host or a virtual machine, with its directories.
func (c *Cluster) writeIn(ctx context.Context, name, path string, data []byte) error {
	cmd, err := c.Command(ctx, name, "/bin/sh", "-ec", `mkdir -p "$(dirname "$1")"; cat > "$1"`, "sh", path)
	if err != nil {
		return err
	}
	cmd.Stdin = bytes.NewReader(data)
	_, err = cmd.Output()
	return err
}
