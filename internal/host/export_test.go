package host

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/external-lb/external-lb/internal/engine/keepalived"
	"github.com/external-lb/external-lb/test/wait"
)

// Victim is a machine with its daemons, for tests that come in over the wire.
type Victim struct {
	*box
	Agent *Agent
	// Owned are the folders in which its daemons and its agent may write.
	Owned []string
}

// ModelDir is where the agent keeps what it was sent.
func (v *Victim) ModelDir() string { return v.Agent.settings.modelDir() }

// Unit is one of its daemons.
type Unit struct{ Dir, OwnFile string }

// Units are its daemons.
func (v *Victim) Units() (all []Unit) {
	for _, u := range v.Agent.units {
		all = append(all, Unit{u.dir, u.daemon.OwnFile()})
	}
	return all
}

// Victims make one of each kind. That for LVS has no daemon: the kernel of tests lacks IPVS.
var Victims = map[string]func(t *testing.T) *Victim{
	"nginx":      func(t *testing.T) *Victim { return victim(newBox(t)) },
	"haproxy":    func(t *testing.T) *Victim { return victim(newHAProxyBox(t)) },
	"keepalived": func(t *testing.T) *Victim { return victim(newVRRPBox(t)) },
	"lvs": func(t *testing.T) *Victim {
		b := &box{T: t, dir: t.TempDir()}
		b.take(newAgentOf(t, "engine: lvs\nroot: "+t.TempDir()+"\n"))
		b.initialise()
		return victim(b)
	},
}

func victim(b *box) *Victim {
	return &Victim{b, b.agent, []string{b.dir, b.agent.settings.Root}}
}

// initialise prepares the machine's folders.
func (b *box) initialise() {
	b.Helper()
	for _, u := range b.agent.units {
		if err := os.MkdirAll(u.dir, 0o755); err != nil {
			b.Fatal(err)
		}
		if err := u.initialise(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
	if err := errors.Join(os.MkdirAll(b.agent.settings.modelDir(), 0o700), b.agent.initialise()); err != nil {
		b.Fatal(err)
	}
}

// newVRRPBox makes a machine with nginx and a keepalived that moves addresses on eth0.
func newVRRPBox(t *testing.T) *box {
	t.Helper()
	run(t, "sh", "-ec", "ip link add eth0 type veth peer name peer0; ip link set eth0 up; ip link set peer0 up; ip addr add 192.0.2.200/24 dev eth0")
	t.Cleanup(func() { run(t, "ip", "link", "del", "eth0") })
	dir := t.TempDir()
	root := filepath.Join(dir, "root")
	in := func(name string) string { return filepath.Join(dir, name) }
	// keepalived runs no script as root unless its owner has asked for that.
	if err := errors.Join(os.MkdirAll(filepath.Join(root, "keepalived"), 0o755), os.Chown(filepath.Join(root, "keepalived"), 1, 1)); err != nil {
		t.Fatal(err)
	}
	more := fmt.Sprintf(`vrrp: true
keepalived:
  conf: %[1]s
  pidFile: %[2]s
  check: [keepalived, -t, -f, %[3]s/keepalived/candidate/keepalived.conf]
  checkAll: [keepalived, -t, -f, %[1]s]
  reload: [pkill, -HUP, -F, %[2]s]
  proofTimeout: 10s
`, in("keepalived.conf"), in("keepalived.pid"), root)
	b := newBoxOf(t, root, 512, more)
	if err := os.WriteFile(in("keepalived.conf"), []byte("include "+filepath.Join(root, "keepalived/live/keepalived.conf")+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	moves := exec.Command("keepalived", "-n", "-f", in("keepalived.conf"), "-p", in("keepalived.pid"), "-r", in("vrrp.pid"), "-c", in("checkers.pid"))
	var said strings.Builder
	moves.Stdout, moves.Stderr = &said, &said
	if err := moves.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = moves.Process.Signal(os.Interrupt) // it may have ended already
		_ = moves.Wait()
		if t.Failed() {
			t.Logf("keepalived says:\n%s", said.String())
		}
	})
	d := b.agent.units[1].daemon.(*keepalived.Daemon)
	wait.True(b, "keepalived runs", func() bool { _, err := d.Ask(t.Context()); return err == nil })
	return b
}
