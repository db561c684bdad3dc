package render_test

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

	"github.com/external-lb/external-lb/internal/fileset"
	"github.com/external-lb/external-lb/internal/lb"
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
stream {
    %[4]s
    server { listen unix:%[1]s/ready.sock; return ready; }
    include %[1]s/live/*.conf;
    include %[1]s/live/services/*.conf;
}
`, dir, modules, user, ownersSettings))
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

// daemon is an nginx that runs.
type daemon struct {
	dir     string
	process *os.Process
}

// reload gives a daemon other frontends. It answers for them only after a while.
func (d daemon) reload(t *testing.T, frontends ...lb.Frontend) {
	t.Helper()
	for f := range mustRender(t, config(service(t, "web", frontends...))).All() {
		writeFile(t, filepath.Join(d.dir, "live", f.Path), f.Data)
	}
	if err := d.process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
}

// serve runs nginx with one Service of some frontends until the test ends.
func serve(t *testing.T, frontends ...lb.Frontend) daemon {
	t.Helper()
	dir, conf := install(t, mustRender(t, config(service(t, "web", frontends...))))
	nginx := exec.Command("nginx", "-c", conf, "-e", filepath.Join(dir, "error.log"))
	if err := nginx.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- nginx.Wait() }()
	t.Cleanup(func() {
		_ = nginx.Process.Signal(syscall.SIGTERM) // it may have ended already
		<-ended
		if t.Failed() {
			log, _ := os.ReadFile(filepath.Join(dir, "error.log"))
			t.Logf("nginx says:\n%s", log)
		}
	})
	eventually(t, "nginx is ready", func() bool {
		c, err := net.Dial("unix", filepath.Join(dir, "ready.sock"))
		if err != nil {
			return false
		}
		defer c.Close()
		return receive(c) == "ready"
	})
	return daemon{dir, nginx.Process}
}

// check runs nginx -t where every address can be bound: in a network namespace
// of its own, that lets daemons bind addresses that it does not have.
func check(t testing.TB, conf string) error {
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

// eventually waits for a condition.
func eventually(t testing.TB, what string, condition func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	late := time.After(20 * time.Second)
	for !condition() {
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("waited in vain: %s", what)
		}
	}
}
