package render_test

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/external-lb/external-lb/internal/engine"
	"github.com/external-lb/external-lb/internal/engine/haproxy"
	"github.com/external-lb/external-lb/internal/engine/lvs"
	"github.com/external-lb/external-lb/internal/engine/nginx"
	"github.com/external-lb/external-lb/internal/fileset"
	"github.com/external-lb/external-lb/internal/lb"
	"github.com/external-lb/external-lb/test/wait"
)

// ownersSettings are in the stream block that the files are included in. They
// are as unlike the defaults as can be: Services must not inherit them.
const ownersSettings = `
    proxy_protocol on;
    proxy_connect_timeout 1ms;
    proxy_timeout 1ms;
    proxy_next_upstream off;
    proxy_next_upstream_tries 1;
    proxy_half_close off;
    proxy_buffer_size 1k;
    ssl_protocols TLSv1.3;
    ssl_ciphers AES256-SHA;
    ssl_prefer_server_ciphers on;
    ssl_ecdh_curve secp521r1;
    ssl_verify_client optional_no_ca;
    ssl_session_cache off;
    ssl_session_timeout 1s;
    ssl_session_tickets off;
    ssl_handshake_timeout 1ms;
`

// ownersHTTPSettings are the same for the http block.
const ownersHTTPSettings = `
    real_ip_header X-Forwarded-For;
    set_real_ip_from 127.0.0.0/8;
    satisfy any;
    auth_basic owner;
    auth_basic_user_file /dev/null;
    error_page 403 502 503 504 /owner.html;
    root /nowhere;
    client_max_body_size 1;
    client_header_timeout 1ms;
    client_body_timeout 1ms;
    send_timeout 1ms;
    keepalive_timeout 0;
    client_header_buffer_size 1;
    large_client_header_buffers 1 1k;
    limit_conn_status 402;
    limit_rate 1;
    gzip on;
    gzip_types *;
    gzip_min_length 0;
    gzip_proxied any;
    charset utf-8;
    expires max;
    underscores_in_headers on;
    proxy_http_version 1.0;
    proxy_set_header X-Forwarded-Proto owner;
    proxy_set_header Host owner;
    proxy_pass_request_headers off;
    proxy_pass_request_body off;
    proxy_intercept_errors on;
    proxy_buffer_size 1k;
    proxy_buffers 2 1k;
    proxy_busy_buffers_size 1k;
    proxy_temp_file_write_size 1k;
    proxy_limit_rate 1;
    proxy_bind 127.0.0.9;
    proxy_connect_timeout 1ms;
    proxy_read_timeout 1ms;
    proxy_send_timeout 1ms;
    proxy_next_upstream off;
    proxy_next_upstream_tries 1;
    proxy_next_upstream_timeout 1ms;
    ssl_protocols TLSv1.3;
    ssl_ciphers AES256-SHA;
    ssl_prefer_server_ciphers on;
    ssl_ecdh_curve secp521r1;
    ssl_verify_client optional_no_ca;
    ssl_session_cache off;
    ssl_session_timeout 1s;
    ssl_session_tickets off;
    ssl_early_data on;
`

const modules = "/etc/nginx/modules-enabled"

// install writes a set below a new directory, with a configuration around it
// as a host's owner would have it, and says where that is.
func install(t testing.TB, set *fileset.Set) (dir, conf string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "render") // short: a socket's path has 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	for f := range set.All() {
		writeFile(t, filepath.Join(dir, "live", f.Path), f.Data)
	}
	if err := os.Symlink("live", filepath.Join(dir, "external-lb")); err != nil {
		t.Fatal(err)
	}
	conf = filepath.Join(dir, "nginx.conf")
	user := ""
	if os.Getuid() == 0 {
		user = "user root;" // else the workers could not use the directory
	}
	writeFile(t, conf, fmt.Appendf(nil, `
include %[2]s/*.conf;
%[3]s
daemon off;
worker_processes 2;
pid %[1]s/pid;
error_log %[1]s/error.log info;
events { worker_connections 1024; }
http {
    log_format port $server_port;
    access_log %[1]s/access.log port;
    %[5]s
    include %[1]s/live/http/*.conf;
}
stream {
    log_format port $server_port;
    access_log %[1]s/access.log port;
    %[4]s
    server { listen unix:%[1]s/ready.sock; return ready; }
    include %[1]s/live/*.conf;
    include %[1]s/live/services/*.conf;
}
`, dir, modules, user, ownersSettings, ownersHTTPSettings))
	return dir, conf
}

func writeFile(t testing.TB, path string, data []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
}

// daemon is a balancer that runs.
type daemon struct {
	engine  *engine.Engine
	dir     string
	process *os.Process
}

// reload gives a daemon other frontends. It answers for them only after a while.
func (d daemon) reload(t testing.TB, frontends ...engine.Frontend) {
	t.Helper()
	if err := os.RemoveAll(filepath.Join(d.dir, "live", "http")); err != nil {
		t.Fatal(err)
	}
	for f := range mustRender(t, config(service(t, "web", frontends...))).All() {
		writeFile(t, filepath.Join(d.dir, "live", f.Path), f.Data)
	}
	if err := d.process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
}

// programs run a configuration in the foreground, and say on a socket when they
// are ready.
var programs = map[*engine.Engine]struct {
	install func(t testing.TB, set *fileset.Set) (dir, conf string)
	command func(dir, conf string) []string
	ready   string
}{
	nginx.Engine: {install, func(dir, conf string) []string {
		return []string{"nginx", "-c", conf, "-e", filepath.Join(dir, "error.log")}
	}, "ready"},
	haproxy.Engine: {installHAProxy, func(dir, conf string) []string {
		return []string{"haproxy", "-db", "-f", filepath.Join(dir, "owner.cfg"), "-f", conf}
	}, "proc.ready: type=str value=<yes>"},
	lvs.Engine: {install: installLVS}, // which does not run here
}

// serve runs a balancer with one Service of some frontends until the test ends.
func serve(t testing.TB, frontends ...engine.Frontend) daemon {
	t.Helper()
	return serveServices(t, service(t, "web", slices.Clone(frontends)...))
}

func serveServices(t testing.TB, services ...*engine.Service) daemon {
	t.Helper()
	e := engineOf(t)
	for _, s := range services {
		for i := range s.Frontends {
			if h := &s.Frontends[i].Settings.HealthCheck; h.Type == lb.CheckAuto && e == haproxy.Engine {
				h.Type = lb.CheckNone // there is no kube-proxy here
			}
		}
	}
	program := programs[e]
	dir, conf := program.install(t, mustRender(t, config(services...)))
	argv := program.command(dir, conf)
	cmd := exec.Command(argv[0], argv[1:]...)
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM) // it may have ended already
		<-ended
		if t.Failed() {
			log, _ := os.ReadFile(filepath.Join(dir, "error.log"))
			t.Logf("%s says:\n%s%s", e, said.Bytes(), log)
		}
	})
	wait.True(t, e.Name+" is ready", func() bool {
		c, err := net.Dial("unix", filepath.Join(dir, "ready.sock"))
		if err != nil {
			return false
		}
		defer c.Close()
		_, _ = io.WriteString(c, "get var proc.ready\n") // nginx does not listen
		return receive(c) == program.ready
	})
	return daemon{e, dir, cmd.Process}
}

// installHAProxy writes a set as a host puts it together, beside the file of an
// owner whose defaults are as unlike ours as can be.
func installHAProxy(t testing.TB, set *fileset.Set) (dir, conf string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "render") // short: a socket's path has 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	writeFile(t, filepath.Join(dir, "owner.cfg"), fmt.Appendf(nil, `
global
    maxconn 1000
    nbthread 2
    log stderr format raw local0 notice
    log %[1]s/log.sock local0
    stats socket %[1]s/ready.sock mode 600 level admin
    set-var proc.ready str(yes)
    crt-base /nowhere
    ssl-default-bind-options ssl-min-ver TLSv1.3 no-tls-tickets
    ssl-default-bind-ciphers AES256-SHA
    ssl-default-bind-ciphersuites TLS_AES_256_GCM_SHA384
defaults
    mode http
    maxconn 1
    retries 0
    timeout connect 1ms
    timeout client 1ms
    timeout server 1ms
`, dir))
	conf = filepath.Join(dir, "haproxy.cfg")
	var whole bytes.Buffer
	fmt.Fprintf(&whole, "global\n    setenv EXTERNAL_LB_SET %s\n", filepath.Join(dir, "live"))
	for f := range set.All() {
		if f.Private {
			writeFile(t, filepath.Join(dir, "live", f.Path), f.Data)
			continue
		}
		fmt.Fprintf(&whole, "\n# file: %s\n%s", f.Path, f.Data)
	}
	writeFile(t, conf, whole.Bytes())
	return dir, conf
}

// check asks the engine whether it takes what was installed.
func check(t testing.TB, conf string) error {
	t.Helper()
	switch engineOf(t) {
	case haproxy.Engine:
		return checkHAProxy(t, conf)
	case lvs.Engine:
		return checkLVS(t, conf)
	}
	return checkNginx(t, conf)
}

// installLVS writes a set as the host's end lays it out for keepalived.
func installLVS(t testing.TB, set *fileset.Set) (dir, conf string) {
	t.Helper()
	dir = t.TempDir()
	for f := range set.All() {
		writeFile(t, filepath.Join(dir, f.Path), f.Data)
	}
	conf = filepath.Join(dir, "keepalived.conf")
	text := "static_routes {\n}\n"
	if set.Len() > 1 {
		text += "include services/*.conf\n"
	}
	writeFile(t, conf, []byte(text))
	return dir, conf
}

// checkLVS has keepalived test a configuration; it must have nothing to say of it.
func checkLVS(t testing.TB, conf string) error {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "keepalived", "-t", "-f", conf).CombinedOutput()
	if err != nil || len(bytes.TrimSpace(out)) > 0 {
		return fmt.Errorf("keepalived: %v: %s", err, bytes.TrimSpace(out))
	}
	return nil
}

func checkHAProxy(t testing.TB, conf string) error {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "haproxy", "-c", "-f", filepath.Join(filepath.Dir(conf), "owner.cfg"), "-f", conf).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w: %s", err, bytes.TrimSpace(out))
	}
	if strings.Contains(string(out), "[WARNING]") {
		return fmt.Errorf("haproxy warns: %s", out)
	}
	return nil
}

// checkNginx runs nginx -t where every address can be bound: in a network
// namespace of its own, that lets daemons bind addresses that it does not have.
func checkNginx(t testing.TB, conf string) error {
	t.Helper()
	const script = `ip link set lo up &&
		echo 1 >/proc/sys/net/ipv4/ip_nonlocal_bind && echo 1 >/proc/sys/net/ipv6/ip_nonlocal_bind &&
		exec nginx -t -c "$0" -e "$0.log"`
	cmd := exec.CommandContext(t.Context(), "unshare", "--map-root-user", "--net", "sh", "-c", script, conf)
	if os.Getuid() == 0 {
		cmd = exec.CommandContext(t.Context(), "unshare", "--net", "sh", "-c", script, conf)
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w: %s", err, bytes.TrimSpace(out))
	}
	if strings.Contains(string(out), "[warn]") {
		return fmt.Errorf("nginx warns: %s", out)
	}
	return nil
}
