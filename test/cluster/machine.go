package cluster

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/external-lb/external-lb/test/wait"
	"golang.org/x/sys/unix"
)

// A host that uses IPVS is a virtual machine, since not every kernel has IPVS, and so is a node whose
// kube-proxy needs it: User-Mode Linux, a kernel that is a program of this machine. It hangs on the bridge
// as the others do, and commands reach it by its console, a link of its own to the router.

// virtual reports whether hosts are virtual machines.
func (o Options) virtual() bool { return o.Engine == "lvs" || o.Datagrams }

// guestMemory bounds what a virtual machine takes; it takes no more than it has touched.
const guestMemory = "512M"

// bootTime is how long a virtual machine may take on a busy machine; a second is usual.
const bootTime = 2 * time.Minute

// image is the disk of a virtual machine.
func (c *Cluster) image(name string) string { return c.disk(name) + ".img" }

func (c *Cluster) consoleLink(at int) string { return fmt.Sprintf("k%d", at) }

// buildImage makes the disk of a virtual machine.
func (c *Cluster) buildImage(ctx context.Context, name string) error {
	_, err := c.router().command(ctx, "/bin/sh", "-ec", `truncate -s "$2" "$1"; mkfs.ext4 -q -m 0 "$1"`, "sh", c.image(name), c.now().Options.HostDisk).Output()
	return err
}

// startMachine makes the links of a virtual machine and lets it boot.
func (c *Cluster) startMachine(ctx context.Context, name string, at int) (process, error) {
	s := c.now()
	kernel, err := virtualKernel(ctx, s.Options.Log)
	if err != nil {
		return process{}, err
	}
	port, console := fmt.Sprintf("p%d", at), c.consoleLink(at)
	if err := ip(ctx, c.router(),
		"tuntap add dev "+port+" mode tap vnet_hdr", "link set "+port+" master br0 up",
		"tuntap add dev "+console+" mode tap vnet_hdr", "link set "+console+" up", "addr add fe80::1/64 dev "+console+" nodad"); err != nil {
		return process{}, err
	}
	ctx = context.WithoutCancel(ctx)
	hosts := filepath.Dir(c.disk(name)) // of the cluster alone, as is the file that is the machine's memory
	// It is one thread, and each of its system calls goes to and fro between two processes: among equals it has a
	// share that is too small to answer anybody in time.
	machine, err := c.router().command(ctx, "nice", "-n", "-10", "env", "TMPDIR="+hosts, kernel,
		"mem="+guestMemory, "seccomp=on", "uml_dir="+hosts, "umid="+name+".run", "con=null", "con0=null,fd:1", "quiet", "panic=-1",
		"root=none", "rootfstype=hostfs", "ro", "ubd0="+c.image(name),
		"vec0:transport=tap,depth=64,gro=1,ifname="+port+",mac="+mac(at),
		"vec1:transport=tap,depth=64,gro=1,ifname="+console+",mac="+mac(0x8000|at),
		"guest.name="+name, "guest.binary="+s.Options.Binary,
		"init="+s.Helper, "--", "guest",
	).daemon(c.log(name))
	if err != nil {
		return process{}, err
	}
	if err := c.update(func(s *state) { b := s.Boxes[name]; b.Init, b.Virtual = machine, true; s.Boxes[name] = b }); err != nil {
		return process{}, err
	}
	return machine, c.awaitConsole(ctx, name, at, machine)
}

// awaitConsole waits until a machine takes commands.
func (c *Cluster) awaitConsole(ctx context.Context, name string, at int, machine process) error {
	ctx, cancel := context.WithTimeout(ctx, bootTime)
	defer cancel()
	err := wait.Until(ctx, func(ctx context.Context) error {
		_, err := c.inMachine(ctx, at, "true").Output()
		if err != nil && !machine.alive() {
			return wait.GiveUp(errors.New("it ended"))
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("the virtual machine %s takes no commands: %w: %s", name, err, c.tail(name))
	}
	return nil
}

// inMachine is a command in a virtual machine.
func (c *Cluster) inMachine(ctx context.Context, at int, argv ...string) *Cmd {
	return c.router().command(ctx, append([]string{c.now().Helper, "in-guest", c.consoleLink(at)}, argv...)...)
}

// stopMachine pulls its plug. What it has written is on its disk.
func (c *Cluster) stopMachine(ctx context.Context, name string, b box) error {
	limited, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	_, _ = c.inMachine(limited, b.At, "sync").Output() // one that hangs is stopped all the same
	if err := b.Init.kill(unix.SIGKILL); err != nil {
		return err
	}
	return ip(ctx, c.router(), fmt.Sprintf("link del p%d", b.At), "link del "+c.consoleLink(b.At))
}
