package nginx

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/external-lb/external-lb/test/wait"
)

// These tests ask nginx itself what the table says that it cannot do. What it can
// do is tested where it is rendered.

// nginx prepares a process with a stream block; the log is dir/error.log.
func nginx(t *testing.T, stream string, args ...string) (cmd *exec.Cmd, log string) {
	t.Helper()
	dir := t.TempDir()
	conf, log := filepath.Join(dir, "nginx.conf"), filepath.Join(dir, "error.log")
	user := ""
	if os.Getuid() == 0 {
		user = "user root;" // else the workers could not use the directory
	}
	text := fmt.Sprintf("include /etc/nginx/modules-enabled/*.conf;\n%s daemon off; worker_processes 1; pid %s/pid; error_log %s info;\nevents {}\nstream {\n%s\n}\n", user, dir, log, stream)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return exec.CommandContext(t.Context(), "/usr/sbin/nginx", append([]string{"-c", conf, "-e", log}, args...)...), log
}

func TestNginxRefusesWhatItCannotDo(t *testing.T) {
	const upstream = "upstream u { zone u 64k; server 127.0.0.1:1 %s; } server { listen 127.0.0.1:1; proxy_pass u; }"
	const server = "server { listen 127.0.0.1:1 %s; %s proxy_pass 127.0.0.1:2; }"
	for name, tc := range map[string]struct{ stream, says string }{
		"proxyProtocol.send=V2":              {fmt.Sprintf(server, "", "proxy_protocol v2;"), `must be "on" or "off"`},
		"proxyProtocol.accept with UDP":      {fmt.Sprintf(server, "udp proxy_protocol", ""), `incompatible with "udp"`},
		"healthCheck.type=TCP":               {fmt.Sprintf(upstream, "") + " server { health_check; }", "unknown directive"},
		"healthCheck.interval below seconds": {fmt.Sprintf(upstream, "fail_timeout=1500ms"), "invalid parameter"},
		"SCTP":                               {fmt.Sprintf(server, "sctp", ""), "invalid"},
	} {
		t.Run(name, func(t *testing.T) {
			cmd, _ := nginx(t, tc.stream, "-t")
			out, err := cmd.CombinedOutput()
			if err == nil || !strings.Contains(string(out), tc.says) {
				t.Errorf("%v, and said %s", err, out)
			}
		})
	}
}

// start runs nginx until the test ends, and waits until it is there.
func start(t *testing.T, stream string) (log string) {
	t.Helper()
	cmd, log := nginx(t, stream)
	var said bytes.Buffer
	cmd.Stderr = &said
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Wait() // the test's context is done by now, which is no error of nginx
		if !cmd.ProcessState.Success() {
			t.Errorf("nginx: %v: %s", cmd.ProcessState, said.Bytes())
		}
	})
	linesCome(t, log, "start worker process ", 1)
	return log
}

// linesCome waits until so many lines of a log contain some words.
func linesCome(t *testing.T, log, words string, count int) {
	t.Helper()
	wait.True(t, fmt.Sprintf("%d lines of %s say %q", count, log, words), func() bool { return linesWith(t, log, words) >= count })
}

func linesWith(t *testing.T, log, words string) (count int) {
	t.Helper()
	text, err := os.ReadFile(log)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return strings.Count(string(text), words)
}

func listenUDP(t *testing.T, address string) net.PacketConn {
	t.Helper()
	c, err := net.ListenPacket("udp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// freeUDP is an address on which nothing listens.
func freeUDP(t *testing.T, host string) string {
	t.Helper()
	c := listenUDP(t, host+":0")
	defer c.Close()
	return c.LocalAddr().String()
}

func TestNginxIsBlindForUDP(t *testing.T) {
	alive, dead, at := listenUDP(t, "127.0.0.1:0").LocalAddr().String(), freeUDP(t, "127.0.0.2"), freeUDP(t, "127.0.0.1")
	log := start(t, fmt.Sprintf(`
upstream u { zone u 64k; hash $remote_addr:$remote_port consistent; server %s max_fails=1 fail_timeout=1h; server %s max_fails=1 fail_timeout=1h; }
server { listen %s udp; proxy_next_upstream on; proxy_next_upstream_tries 3; proxy_timeout 1h; proxy_pass u; }`, alive, dead, at))
	const want = 3
	for flows := 1; linesWith(t, log, "connected to "+dead) < want; flows++ {
		if flows > 200 {
			t.Fatal("nginx leaves out the dead node: healthCheck.fall and healthCheck.interval work with UDP")
		}
		client, err := net.Dial("udp", at)
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		if _, err := client.Write([]byte("hello")); err != nil {
			t.Fatal(err)
		}
		linesCome(t, log, "udp proxy ", flows)
		linesCome(t, log, "recv() failed (111: Connection refused)", linesWith(t, log, "connected to "+dead))
		if tried := linesWith(t, log, "udp proxy "); tried != flows {
			t.Fatalf("%d flows were tried %d times: retries work with UDP", flows, tried)
		}
	}
}

func TestNginxGluesThePROXYHeaderToTheFirstDatagram(t *testing.T) {
	node, at := listenUDP(t, "127.0.0.1:0"), freeUDP(t, "127.0.0.1")
	start(t, fmt.Sprintf("server { listen %s udp; proxy_protocol on; proxy_pass %s; }", at, node.LocalAddr()))
	client, err := net.Dial("udp", at)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if _, err := client.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	node.SetReadDeadline(time.Now().Add(30 * time.Second))
	buf := make([]byte, 2048)
	n, _, err := node.ReadFrom(buf)
	if err != nil {
		t.Fatal(err)
	}
	if got := string(buf[:n]); !strings.HasPrefix(got, "PROXY TCP4 127.0.0.1 ") || !strings.HasSuffix(got, "\r\nhello") {
		t.Errorf("the node got %q", got)
	}
}
