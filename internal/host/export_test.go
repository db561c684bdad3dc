package host

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/external-lb/external-lb/internal/engine"
	"github.com/external-lb/external-lb/internal/engine/engines"
	"github.com/external-lb/external-lb/internal/engine/keepalived"
	"github.com/external-lb/external-lb/internal/fileset"
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

// Engine that carries its traffic.
func (v *Victim) Engine() *engine.Engine { return engines.Table.Find(v.Agent.settings.Engine) }

// BeforeChecks calls a function whenever a daemon is about to check what it is given,
// also what is left out afterwards.
func (v *Victim) BeforeChecks(do func()) {
	for _, u := range v.Agent.units {
		u.at = func(step string) {
			if step == "check" {
				do()
			}
		}
	}
}

// Live is the folder of what a unit's daemon reads.
func (u Unit) Live() string { return filepath.Join(u.Dir, engine.LiveLink) }

// Listening are the sockets of the machine that take connections or datagrams.
func Listening() map[fileset.Socket]bool {
	all := map[fileset.Socket]bool{}
	for _, l := range listeners() {
		all[l.Socket] = true
	}
	return all
}

// Victims make one of each kind. That for LVS has no daemon: the kernel of tests lacks IPVS.
var Victims = map[string]func(t *testing.T) *Victim{
	"nginx":      func(t *testing.T) *Victim { return victim(newBoxIn(t, t.TempDir(), 8192)) },
	"haproxy":    func(t *testing.T) *Victim { return victim(newHAProxyBox(t)) },
	"keepalived": func(t *testing.T) *Victim { return victim(newVRRPBox(t)) },
	"lvs": func(t *testing.T) *Victim {
		b := &box{T: t, dir: t.TempDir()}
		b.take(newAgentOf(t, "engine: lvs\nvrrp: true\nroot: "+t.TempDir()+"\n"))
		b.initialise()
		return victim(b)
	},
}

// owned are the rules of a machine's owner who names also what no rule can admit.
const owned = `
addresses: [192.0.2.0/24, "2001:db8::/64", 127.0.0.0/8, 0.0.0.0/8, 169.254.0.0/16, 224.0.0.0/3, "::/96", "fe80::/10", "ff00::/8", "64:ff9b::/96", "2002::/16"]
ports: [53, 80, 443, 1000-1999, 31000]
held: [{address: 0.0.0.0, port: 53, protocol: TCP, by: named}, {address: "::", port: 443, protocol: TCP, by: apache2}]
backends:
- networks: [10.0.0.0/8, "fd00::/16", 198.51.100.0/24, 192.0.2.0/24, 127.0.0.0/8, 0.0.0.0/8, 169.254.0.0/16, 224.0.0.0/3, "::/96", "fe80::/10", "ff00::/8", "64:ff9b::/96", "2002::/16"]
pods: [10.244.0.0/16, "fd44::/16"]
sources: [192.0.2.10, "2001:db8::10"]
routerIDs: [51]
`

// victim is a machine whose daemons may bind addresses that are somewhere else now.
func victim(b *box) *Victim {
	b.Helper()
	if err := yaml.UnmarshalStrict([]byte(owned), &b.agent.settings.Admit); err != nil {
		b.Fatal(err)
	}
	if err := b.agent.settings.Admit.Validate(); err != nil {
		b.Fatal(err)
	}
	bindAnything(b)
	return &Victim{b, b.agent, []string{b.dir, b.agent.settings.Root}}
}

// bindAnything lets this machine bind addresses that it does not have, until the test ends.
func bindAnything(tb testing.TB) {
	for _, family := range []string{"ipv4", "ipv6"} {
		path := "/proc/sys/net/" + family + "/ip_nonlocal_bind"
		was, err := os.ReadFile(path)
		if err := errors.Join(err, os.WriteFile(path, []byte("1"), 0o644)); err != nil {
			tb.Fatal(err)
		}
		tb.Cleanup(func() {
			if err := os.WriteFile(path, was, 0o644); err != nil {
				tb.Error(err)
			}
		})
	}
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
  check: [unshare, --pid, --fork, keepalived, -t, -f, %[3]s/keepalived/candidate/keepalived.conf]
  checkAll: [unshare, --pid, --fork, keepalived, -t, -f, %[1]s]
  reload: [pkill, -HUP, -F, %[2]s]
  proofTimeout: 10s
`, in("keepalived.conf"), in("keepalived.pid"), root)
	b := newBoxOf(t, root, 8192, more)
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
