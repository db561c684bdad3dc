package cluster

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/external-lb/external-lb/test/wait"
)

// A virtual machine is a host like the others, with a kernel of its own.
func TestVirtualMachine(t *testing.T) {
	c := New(t, Options{Hosts: 1, DualStack: true, Engine: "lvs"})
	h, err := c.Host("lb1")
	if err != nil {
		t.Fatal(err)
	}
	if got := shell(t, h, "hostname"); got != "lb1" {
		t.Errorf("hostname %q", got)
	}
	if table := shell(t, h, "cat /proc/net/ip_vs"); !strings.HasPrefix(table, "IP Virtual Server") {
		t.Errorf("no IPVS: %s", table)
	}
	if err := h.WriteFile(t.Context(), "/etc/only/here", []byte("it's \"kept\" $HOME\n")); err != nil {
		t.Fatal(err)
	}
	if exists("/etc/only/here") {
		t.Error("a file of lb1 is on this machine")
	}
	_, err = h.Exec(t.Context(), "sh", "-c", "echo said >&2; exit 3")
	if err == nil || !strings.Contains(err.Error(), "said") || !strings.Contains(err.Error(), "3") {
		t.Errorf("a command that fails: %v", err)
	}
	much := bytes.Repeat([]byte("0123456789abcdef"), 1<<18)
	if err := h.WriteFile(t.Context(), "/var/much", much); err != nil {
		t.Fatal(err)
	}
	if data, err := h.ReadFile(t.Context(), "/var/much"); err != nil || !bytes.Equal(data, much) {
		t.Errorf("of %d bytes, %d came back: %v", len(much), len(data), err)
	}
	endsWithItsClient(t, h)
	known, err := h.KnownHosts(t.Context())
	if err != nil || strings.Count(known, "\n") != 2 {
		t.Errorf("known hosts %q, %v", known, err)
	}
	before := shell(t, h, "cat /proc/sys/kernel/random/boot_id")
	if err := c.Cut(t.Context(), "lb1"); err != nil {
		t.Fatal(err)
	}
	if err := answers(t.Context(), h.Addr(), 22); err == nil {
		t.Error("it answers without a cable")
	}
	shell(t, h, "true") // by the console
	if err := c.Heal(t.Context(), "lb1"); err != nil {
		t.Fatal(err)
	}
	wait.For(t, func(context.Context) error { return answers(t.Context(), h.Addr(), 22) })
	if err := h.Reboot(t.Context()); err != nil {
		t.Fatal(err)
	}
	if after := shell(t, h, "cat /proc/sys/kernel/random/boot_id"); after == before {
		t.Error("it has not booted again")
	}
	if data, err := h.ReadFile(t.Context(), "/etc/only/here"); err != nil || string(data) != "it's \"kept\" $HOME\n" {
		t.Errorf("after the reboot %q, %v", data, err)
	}
}

// endsWithItsClient: nothing of a command goes on when the test is no longer interested.
func endsWithItsClient(t *testing.T, h *Host) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	cmd, err := h.Command(ctx, "sh", "-c", "sleep 54321; true")
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	wait.For(t, func(context.Context) error {
		_, err := h.Exec(t.Context(), "pgrep", "-xf", "sleep 54321")
		return err
	})
	cancel()
	_ = cmd.Wait() // killed
	wait.For(t, func(context.Context) error {
		if out, err := h.Exec(t.Context(), "pgrep", "-xf", "sleep 54321"); err == nil {
			return fmt.Errorf("it runs as %s", out)
		}
		return nil
	})
}

// A node may be a virtual machine, whose kube-proxy balances with its kernel's IPVS.
func TestNodeWithIPVS(t *testing.T) {
	ctx := t.Context()
	if err := shared.AddNode(ctx, NodeSpec{Name: "ipvs", IPVS: true}); err != nil {
		t.Fatal(err)
	}
	addPod(t, shared, PodSpec{Namespace: "ipvs", Name: "web-1", Node: "node1", Labels: map[string]string{"app": "web"}})
	service := addService(t, shared, "ipvs", "web", nil)
	for _, addr := range shared.Addrs("ipvs") {
		for _, protocol := range []string{"http", "tcp", "udp"} {
			wait.For(t, func(context.Context) error {
				answer, err := ask(ctx, shared, "client", protocol, addr, nodePort(service, protocol))
				if err == nil && (answer.Pod != "web-1" || answer.Protocol != protocol) {
					t.Errorf("%s by %s: %+v", protocol, addr, answer)
				}
				return err
			})
		}
	}
	table, err := shared.Exec(ctx, "ipvs", "cat", "/proc/net/ip_vs")
	if want := fmt.Sprintf(":%04X ", nodePort(service, "tcp")); err != nil || !strings.Contains(table, want) {
		t.Errorf("IPVS has not %q: %v\n%s", want, err, table)
	}
	if _, err := shared.AddPod(ctx, PodSpec{Name: "nowhere", Node: "ipvs"}); err == nil {
		t.Error("a pod on a virtual machine")
	}
	if err := shared.RemoveNode(ctx, "ipvs"); err != nil {
		t.Fatal(err)
	}
}
