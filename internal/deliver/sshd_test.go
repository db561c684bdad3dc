package deliver

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/wire"
	"github.com/external-lb/external-lb/test/freeport"
	"github.com/external-lb/external-lb/test/wait"
)

// served names the environment variable that makes the test binary the host's end.
const served = "EXTERNAL_LB_TEST_HOST"

// servedHost is the forced command of the tests: what `external-lb host serve` is.
func servedHost() bool {
	switch os.Getenv(served) {
	case "":
		return false
	case "serve":
		stdio := struct {
			io.Reader
			io.WriteCloser
		}{os.Stdin, os.Stdout}
		m := newMachine()
		m.refuses("whoami", strconv.Itoa(os.Getuid()))
		if err := wire.Serve(context.Background(), stdio, m); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	case "die":
		fmt.Fprintln(os.Stderr, "error: /etc/external-lb/host.yaml: permission denied")
		os.Exit(1)
	case "newer":
		fmt.Println("external-lb-host 99 v9.0.0")
	}
	return true
}

// sshd is a real one, on a port of its own, that lets one key in.
type sshd struct {
	target  Target
	hostKey ssh.PublicKey
}

// newKey makes a key pair in the formats that ssh uses.
func newKey(t testing.TB) (private []byte, public ssh.PublicKey) {
	t.Helper()
	pub, priv, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(priv, "")
	if err != nil {
		t.Fatal(err)
	}
	public, err = ssh.NewPublicKey(pub)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(block), public
}

// startSSHD runs sshd with a forced command. As root, it does so in a mount
// namespace with a user external-lb, and /run of its own; else as the current user.
func startSSHD(t testing.TB, forced string) sshd {
	t.Helper()
	dir := t.TempDir()
	hostKey, hostPub := newKey(t)
	clientKey, clientPub := newKey(t)
	write(t, dir, "host_key", 0o600, hostKey)
	// Another kind of host key, which the client does not know and sshd prefers not to hide.
	run(t, "ssh-keygen", "-q", "-t", "ecdsa", "-N", "", "-f", filepath.Join(dir, "host_key_ecdsa"))
	line := fmt.Sprintf("restrict,command=%q %s", forced, ssh.MarshalAuthorizedKey(clientPub))
	port := int(freeport.On(t, "127.0.0.1").Port())
	config := fmt.Sprintf("ListenAddress 127.0.0.1:%d\nHostKey %[2]s/host_key_ecdsa\nHostKey %[2]s/host_key\nPidFile none\n"+
		"UsePAM no\nStrictModes no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\nAuthorizedKeysFile %[3]s\n", port, dir, "%h/keys")

	name, home := "external-lb", "/run/home"
	var cmd *exec.Cmd
	if os.Getuid() == 0 {
		write(t, dir, "keys", 0o644, []byte(line))
		write(t, dir, "passwd", 0o644, []byte("root:x:0:0::/root:/bin/sh\nsshd:x:100:65534::/run/sshd:/usr/sbin/nologin\nexternal-lb:x:4242:4242::/run/home:/bin/sh\n"))
		write(t, dir, "sshd_config", 0o600, []byte(config))
		cmd = exec.Command("unshare", "--mount", "sh", "-ec", `
			mkdir "$DIR/run"; mount -t tmpfs -o mode=755 tmpfs "$DIR/run"
			mkdir "$DIR/run/sshd" "$DIR/run/home"; cp "$DIR/keys" "$DIR/run/home/keys"
			touch "$DIR/run/external-lb"; mount --bind "$SELF" "$DIR/run/external-lb"
			mount --bind "$DIR/passwd" /etc/passwd; mount --rbind "$DIR/run" /run
			exec /usr/sbin/sshd -D -e -f "$DIR/sshd_config"`)
	} else {
		me, err := user.Current()
		if err != nil {
			t.Fatal(err)
		}
		name, home = me.Username, dir
		line = strings.ReplaceAll(line, "/run/external-lb", self(t))
		write(t, dir, "keys", 0o644, []byte(line))
		write(t, dir, "sshd_config", 0o600, []byte(strings.ReplaceAll(config, "%h/keys", home+"/keys")))
		cmd = exec.Command("/usr/sbin/sshd", "-D", "-e", "-f", filepath.Join(dir, "sshd_config"))
	}
	cmd.Env = append(os.Environ(), "DIR="+dir, "SELF="+self(t))
	log := &lines{}
	cmd.Stderr, cmd.Stdout = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		if t.Failed() {
			t.Logf("sshd:\n%s", log)
		}
	})
	s := sshd{hostKey: hostPub, target: Target{
		Balancer: "edge", PrivateKey: clientKey,
		Host: v1alpha1.Host{Name: "lb1", Address: "127.0.0.1", Port: int32(port), User: name},
	}}
	s.target.KnownHosts = []byte(knownhosts.Line([]string{s.target.Endpoint()}, hostPub))
	wait.True(t, "sshd answers", func() bool {
		c, err := net.Dial("tcp", s.target.Endpoint())
		if err == nil {
			c.Close()
		}
		return err == nil
	})
	return s
}

func write(t testing.TB, dir, name string, mode os.FileMode, data []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), data, mode); err != nil {
		t.Fatal(err)
	}
}

func run(t testing.TB, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v: %s", name, err, out)
	}
}

func self(t testing.TB) string {
	t.Helper()
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// lines is a buffer for several writers.
type lines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}
