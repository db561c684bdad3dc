package cluster

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/external-lb/external-lb/test/wait"
)

func host(t *testing.T, name string) *Host {
	t.Helper()
	h, err := shared.Host(name)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func shell(t *testing.T, h *Host, script string) string {
	t.Helper()
	out, err := h.Shell(t.Context(), script)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(out)
}

func TestHostHasItsOwnFilesAndProcesses(t *testing.T) {
	t.Parallel()
	lb1, lb2 := host(t, "lb1"), host(t, "lb2")
	if got := shell(t, lb1, "hostname"); got != "lb1" {
		t.Errorf("hostname %q", got)
	}
	if err := lb1.WriteFile(t.Context(), "/etc/only/here", []byte("x")); err != nil {
		t.Fatal(err)
	}
	if data, err := lb1.ReadFile(t.Context(), "/etc/only/here"); err != nil || string(data) != "x" {
		t.Errorf("read %q, %v", data, err)
	}
	if exists("/etc/only/here") {
		t.Error("a file of lb1 is on this machine")
	}
	if _, err := lb2.ReadFile(t.Context(), "/etc/only/here"); err == nil {
		t.Error("a file of lb1 is on lb2")
	}
	if got := shell(t, lb1, "pgrep -xc sshd"); got != "1" {
		t.Errorf("lb1 sees %s sshd, so it sees processes that are not its own", got)
	}
	shell(t, lb1, "useradd --system -m edge && sudo -u edge sudo -n true && exit 1 || id edge")
	if _, err := lb2.Exec(t.Context(), "id", "edge"); err == nil {
		t.Error("a user of lb1 is on lb2")
	}
}

func TestSSHFromThisMachine(t *testing.T) {
	t.Parallel()
	h, dir := host(t, "lb2"), t.TempDir()
	key := filepath.Join(dir, "key")
	if out, err := exec.CommandContext(t.Context(), "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	public, err := os.ReadFile(key + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	known, err := h.KnownHosts(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "known_hosts"), []byte(known), 0o600); err != nil {
		t.Fatal(err)
	}
	shell(t, h, "useradd -m -s /bin/sh deliver && install -d -m 700 -o deliver ~deliver/.ssh")
	line := append([]byte(`restrict,command="echo forced" `), public...)
	if err := h.WriteFile(t.Context(), "/home/deliver/.ssh/authorized_keys", line); err != nil {
		t.Fatal(err)
	}
	for _, addr := range shared.Addrs("lb2") {
		out, err := exec.CommandContext(t.Context(), "ssh", "-F", "none", "-i", key, "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes",
			"-o", "UserKnownHostsFile="+filepath.Join(dir, "known_hosts"), "deliver@"+addr.String(), "id").CombinedOutput()
		if err != nil || string(out) != "forced\n" {
			t.Errorf("ssh %s: %v: %s\n%s", addr, err, out, shell(t, h, "tail -5 /var/log/sshd.log"))
		}
	}
}

// get asks a virtual address which host serves it.
func get(ctx context.Context, client *http.Client, addr string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/", nil)
	if err != nil {
		return "", err
	}
	resp, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return strings.TrimSpace(string(body)), err
}

// staysOnItsHost holds that what a client sends again comes to the host that has its connection: another
// one would refuse it.
func staysOnItsHost(t *testing.T, addr string) {
	t.Helper()
	ctx := t.Context()
	var all []net.Conn
	for range 16 {
		conn, err := shared.DialFrom(ctx, "client", "tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		all = append(all, conn)
	}
	lb1 := host(t, "lb1")
	shell(t, lb1, "iptables -I INPUT -p tcp --dport 8000 -j DROP")
	for _, conn := range all {
		if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
	}
	wait.For(t, func(context.Context) error {
		out := shell(t, lb1, "iptables -nvxL INPUT | awk '/dpt:8000/ {print $1}'")
		if n, err := strconv.Atoi(out); err != nil || n < 12 {
			return fmt.Errorf("lb1 has dropped %s packets", out)
		}
		return nil
	})
	shell(t, lb1, "iptables -D INPUT -p tcp --dport 8000 -j DROP")
	for _, conn := range all {
		if answer, err := io.ReadAll(conn); err != nil || !strings.Contains(string(answer), "200 OK") {
			t.Errorf("%v: %q", err, answer)
		}
	}
}

// TestVirtualAddresses tells one story, since its parts break what the next one mends.
func TestVirtualAddresses(t *testing.T) {
	ctx := t.Context()
	client := shared.HTTPClientFrom("client")
	client.Transport.(*http.Transport).DisableKeepAlives = true // each request finds its way anew
	const v4, v6 = "203.0.113.7:8000", "[2001:db8:0:1::7]:8000"
	for _, name := range shared.Hosts() {
		conf := fmt.Sprintf("server { listen %s; listen %s; return 200 %s; }\n", v4, v6, name)
		if err := host(t, name).WriteFile(ctx, "/etc/nginx/conf.d/test.conf", []byte(conf)); err != nil {
			t.Fatal(err)
		}
		shell(t, host(t, name), "nginx -t 2>&1 && nginx -s reload 2>&1")
	}
	servedBy := func(addr, want string) {
		t.Helper()
		wait.For(t, func(context.Context) error {
			got, err := get(ctx, client, addr)
			if err == nil && got != want {
				err = fmt.Errorf("%s served", got)
			}
			return err
		})
	}
	for _, addr := range []string{v4, v6} { // several hosts share the connections
		servedBy(addr, "lb1")
		servedBy(addr, "lb2")
	}
	staysOnItsHost(t, v4)

	if err := shared.RouteVia(ctx, "lb1"); err != nil {
		t.Fatal(err)
	}
	for range 10 {
		wait.For(t, func(ctx context.Context) error {
			got, err := get(ctx, client, v4)
			if err == nil && got != "lb1" {
				err = wait.GiveUp(fmt.Errorf("routed to lb1, and %s answers", got))
			}
			return err
		})
	}

	if err := shared.Cut(ctx, "lb1"); err != nil {
		t.Fatal(err)
	}
	if got, err := get(ctx, client, v4); err == nil {
		t.Errorf("%q answered without a cable", got)
	}
	if _, err := host(t, "lb1").Exec(ctx, "true"); err != nil {
		t.Errorf("a host that is cut off stands still: %v", err)
	}
	if err := shared.Heal(ctx, "lb1"); err != nil {
		t.Fatal(err)
	}
	servedBy(v4, "lb1")
	servedBy(v6, "lb1")

	lb1 := host(t, "lb1")
	shell(t, lb1, "echo net.ipv4.ip_nonlocal_bind=1 > /etc/sysctl.d/test.conf")
	shell(t, lb1, "sysctl -qw net.ipv4.tcp_keepalive_time=100; touch /run/volatile")
	shell(t, lb1, "printf '#!/bin/sh\\ntouch /run/booted\\n' > /etc/rc.local; chmod +x /etc/rc.local")
	if err := lb1.Reboot(ctx); err != nil {
		t.Fatal(err)
	}
	servedBy(v4, "lb1")
	servedBy(v6, "lb1")
	shell(t, lb1, "test ! -e /run/volatile; test -e /run/booted")
	if got := shell(t, lb1, "sysctl -n net.ipv4.ip_nonlocal_bind net.ipv4.tcp_keepalive_time"); got != "1\n7200" {
		t.Errorf("settings after a reboot: %q", got)
	}

	shell(t, lb1, "echo nonsense > /etc/nginx/conf.d/test.conf")
	if err := lb1.Reboot(ctx); err != nil {
		t.Errorf("a host with a broken nginx does not boot: %v", err)
	}
	if err := lb1.PowerOff(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := lb1.Exec(ctx, "true"); err == nil {
		t.Error("ran a command on a host that is off")
	}
	if err := shared.RouteVia(ctx, "lb2"); err != nil {
		t.Fatal(err)
	}
	servedBy(v4, "lb2")
	servedBy(v6, "lb2")
	shell(t, host(t, "lb2"), "rm /etc/nginx/conf.d/test.conf; nginx -s reload")
	if err := lb1.PowerOn(ctx); err != nil {
		t.Fatal(err)
	}
	shell(t, lb1, "rm /etc/nginx/conf.d/test.conf /etc/rc.local; nginx")
	if err := shared.RouteVia(ctx, shared.Hosts()...); err != nil {
		t.Fatal(err)
	}
}
