package cluster

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A host of the engine lvs is a virtual machine, since not every kernel has IPVS, and so is a node whose
// kube-proxy needs it. It hangs on the bridge as the others do, and commands reach it by its console, a
// link of its own to the router.

// virtual reports whether hosts are virtual machines.
func (o Options) virtual() bool { return o.Engine == "lvs" }

// guestMemory of a virtual machine.
const guestMemory = "512M"

// bootTime is how long a virtual machine may take on a busy machine; 5 seconds are usual.
const bootTime = 2 * time.Minute

// image is the disk of a virtual machine.
func (c *Cluster) image(name string) string { return c.disk(name) + ".img" }

func (c *Cluster) console(name string) string     { return filepath.Join(c.dir, "hosts", name+".console") }
func (c *Cluster) consoleLink(at int) string      { return fmt.Sprintf("k%d", at) }
func (c *Cluster) filesSocket(name string) string { return c.disk(name) + ".files" }

// buildImage makes the disk of a virtual machine.
func (c *Cluster) buildImage(ctx context.Context, name string) error {
	_, err := c.router().command(ctx, "/bin/sh", "-ec", `truncate -s "$2" "$1"; mkfs.ext4 -q -m 0 "$1"`, "sh", c.image(name), c.now().Options.HostDisk).Output()
	return err
}

// consoleKeys are made once for all machines.
func (c *Cluster) consoleKeys(ctx context.Context) error {
	unlock, err := lockFile(c.pki("key.lock"))
	if err != nil {
		return err
	}
	defer unlock()
	if exists(c.pki("key")) {
		return nil
	}
	out, err := exec.CommandContext(ctx, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", c.pki("key")).CombinedOutput()
	if err != nil {
		return fmt.Errorf("ssh-keygen: %w: %s", err, out)
	}
	return nil
}

// startMachine makes the links of a virtual machine and lets it boot.
func (c *Cluster) startMachine(ctx context.Context, name string, at int) (process, error) {
	s := c.now()
	if err := c.consoleKeys(ctx); err != nil {
		return process{}, err
	}
	booted, err := virtualKernel(ctx, s.Helper, s.Options.Log)
	if err != nil {
		return process{}, err
	}
	port, console := fmt.Sprintf("p%d", at), c.consoleLink(at)
	if err := ip(ctx, c.router(),
		"tuntap add dev "+port+" mode tap", "link set "+port+" master br0 up",
		"tuntap add dev "+console+" mode tap", "link set "+console+" up", "addr add fe80::1/64 dev "+console+" nodad"); err != nil {
		return process{}, err
	}
	ctx = context.WithoutCancel(ctx)
	files := c.filesSocket(name)
	if _, err := c.router().command(ctx, "/usr/lib/qemu/virtiofsd", "--socket-path="+files,
		"-o", "source=/", "-o", "cache=always", "-o", "sandbox=chroot").daemon(c.log(name + "-files")); err != nil {
		return process{}, err
	}
	if err := c.await(ctx, "", name+"'s file system", func() error {
		_, err := c.router().command(ctx, "test", "-S", files).Output()
		return err
	}); err != nil {
		return process{}, err
	}
	machine, err := c.router().command(ctx, "qemu-system-x86_64",
		"-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "1", "-m", guestMemory,
		"-nodefaults", "-no-user-config", "-display", "none", "-serial", "stdio", "-no-reboot",
		"-object", "memory-backend-memfd,id=memory,size="+guestMemory+",share=on", "-numa", "node,memdev=memory",
		"-chardev", "socket,id=files,path="+files, "-device", "vhost-user-fs-pci,chardev=files,tag=root",
		// What the machine has written outlives it without being on this machine's disk.
		"-drive", "if=none,id=disk,format=raw,cache=unsafe,file="+c.image(name), "-device", "virtio-blk-pci,drive=disk",
		"-netdev", "tap,id=port,script=no,downscript=no,ifname="+port, "-device", "virtio-net-pci,netdev=port,mac="+mac(at),
		"-netdev", "tap,id=console,script=no,downscript=no,ifname="+console, "-device", "virtio-net-pci,netdev=console,mac="+mac(0x8000|at),
		"-device", "virtio-rng-pci",
		// norandmaps: a program that is at the same addresses each time is not translated each time, and starts
		// in a third of the time.
		"-kernel", booted.image, "-initrd", booted.initrd,
		"-append", fmt.Sprintf("console=ttyS0 quiet panic=-1 mitigations=off norandmaps tsc=reliable net.ifnames=0 guest.name=%s guest.console=%s guest.binary=%s", name, c.pki(""), s.Options.Binary),
	).daemon(c.log(name))
	if err != nil {
		return process{}, err
	}
	if err := c.update(func(s *state) { b := s.Boxes[name]; b.Init, b.Virtual = machine, true; s.Boxes[name] = b }); err != nil {
		return process{}, err
	}
	return machine, c.openConsole(ctx, name, at, machine)
}

// openConsole keeps one connection to a machine, for all commands.
func (c *Cluster) openConsole(ctx context.Context, name string, at int, machine process) error {
	deadline := time.Now().Add(bootTime)
	for {
		if !machine.alive() {
			return fmt.Errorf("the virtual machine %s ended: %s", name, c.tail(name))
		}
		// -M: it stays when the command has ended.
		master := c.router().command(ctx, append(c.sshTo(name, at), "-M", "-N", "-f", "-o", "ConnectTimeout=10", "console")...)
		err := master.quiet(c.log(name + "-console"))
		if err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("the virtual machine %s has no console: %w: %s%s", name, err, c.tail(name), c.tail(name+"-console"))
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// quiet runs a command whose output goes to a file, which it may leave to a process that stays.
func (c *Cmd) quiet(logFile string) error {
	log, err := os.OpenFile(logFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	c.Stdout, c.Stderr = log, log
	return c.Run()
}

func (c *Cluster) sshTo(name string, at int) []string {
	return []string{"ssh", "-F", "none", "-S", c.console(name), "-i", c.pki("key"), "-l", "root",
		"-o", "HostName=fe80::2%%" + c.consoleLink(at), "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no",
		"-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR"}
}

// inMachine is a command in a virtual machine.
func (c *Cluster) inMachine(ctx context.Context, name string, at int, argv ...string) *Cmd {
	words := append([]string{"exec"}, cleanEnvironment()...)
	for _, word := range argv {
		words = append(words, "'"+strings.ReplaceAll(word, "'", `'\''`)+"'")
	}
	return c.router().command(ctx, append(c.sshTo(name, at), "-T", "console", strings.Join(words, " "))...)
}

// stopMachine pulls its plug. What it has written is on its disk.
func (c *Cluster) stopMachine(ctx context.Context, name string, b box) error {
	limited, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	_, _ = c.inMachine(limited, name, b.At, "sync").Output() // one that hangs is stopped all the same
	if err := b.Init.kill(unix.SIGKILL); err != nil {
		return err
	}
	_, _ = c.router().command(limited, append(c.sshTo(name, b.At), "-O", "exit", "console")...).Output() // it may have ended by itself
	return ip(ctx, c.router(), fmt.Sprintf("link del p%d", b.At), "link del "+c.consoleLink(b.At))
}
