package main

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestCommands walks through the commands as a user would, each a process of its own but for the name.
func TestCommands(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "cluster")
	try := func(args ...string) (string, error) {
		t.Helper()
		var out bytes.Buffer
		cmd := root()
		cmd.SetOut(&out)
		cmd.SetErr(&out)
		cmd.SetArgs(append([]string{"--dir", dir}, args...))
		err := cmd.ExecuteContext(t.Context())
		return out.String(), err
	}
	want := func(text string, args ...string) {
		t.Helper()
		out, err := try(args...)
		if err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
		if !strings.Contains(out, text) {
			t.Errorf("%v does not say %q:\n%s", args, text, out)
		}
	}
	t.Cleanup(func() { want("", "down") })

	want("testcluster env", "up", "--nodes", "1", "--hosts", "1", "--dual-stack")
	if _, err := try("up"); err == nil {
		t.Error("up twice")
	}
	want("export KUBECONFIG="+`"`+dir, "env")
	want("lb1", "exec", "lb1", "--", "hostname")
	want("198.18.", "host", "address", "lb1")
	copied := filepath.Join(t.TempDir(), "copied")
	if err := os.WriteFile(copied, []byte("what was copied"), 0o600); err != nil {
		t.Fatal(err)
	}
	want("", "cp", copied, "lb1:/root")
	want("what was copied", "exec", "lb1", "--", "cat", "/root/copied")
	for _, bad := range [][]string{{"host", "agent", "lb1"}, {"cp", copied, "lb1"}, {"cp", copied, "lb1:root"}, {"kubelet", copied}, {"kubelet", "image=" + copied}} {
		if _, err := try(bad...); err == nil {
			t.Errorf("%v was taken", bad)
		}
	}
	var exit *exec.ExitError
	if _, err := try("exec", "client", "--", "sh", "-c", "exit 7"); !errors.As(err, &exit) || exit.ExitCode() != 7 {
		t.Errorf("exec ended with %v, not 7", err)
	}
	want("", "pod", "add", "shop/web-1", "--labels", "app=web", "--ready=false")
	want("shop/web-1", "status")
	want("10.240.1.2", "exec", "shop/web-1", "--", "ip", "addr")
	want("", "pod", "ready", "shop/web-1")
	want("", "pod", "unready", "shop/web-1")
	want("", "pod", "remove", "shop/web-1", "--grace")
	want("", "pod", "remove", "shop/web-1")
	want("", "node", "add", "node2", "--labels", "zone=b")
	want("", "node", "down", "node2")
	want("down, cut", "status")
	want("", "node", "up", "node2")
	want("", "node", "remove", "node2")
	want("", "cut", "lb1")
	want("running, cut", "status")
	want("", "heal", "lb1")
	want("", "host", "add", "lb2")
	want("", "host", "route", "lb2")
	want("", "host", "reboot", "lb2")
	kubelet := stays(t, "--dir", dir, "kubelet", "image=/bin/true")
	if line, err := kubelet.ReadString('\n'); err != nil || !strings.Contains(line, "Pods of image run") {
		t.Errorf("it says %q, %v", line, err)
	}
	want("", "down")
	if line, err := kubelet.ReadString('\n'); err != nil || line != "The cluster has ended.\n" {
		t.Errorf("it says %q, %v", line, err)
	}
	want("", "down")
	if _, err := try("status"); err == nil {
		t.Error("status without a cluster")
	}
}

// stays up: what a command says meanwhile.
func stays(t *testing.T, args ...string) *bufio.Reader {
	t.Helper()
	says, to := io.Pipe()
	cmd := root()
	cmd.SetOut(to)
	cmd.SetArgs(args)
	go func() { to.CloseWithError(cmd.ExecuteContext(t.Context())) }()
	return bufio.NewReader(says)
}
