package main

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
)

type mount struct {
	source, target, fstype string
	flags                  uintptr
	data                   string
}

func mountAll(mounts []mount) error {
	for _, m := range mounts {
		if err := syscall.Mount(m.source, m.target, m.fstype, m.flags, m.data); err != nil {
			return fmt.Errorf("mount %s on %s: %w", m.source, m.target, err)
		}
	}
	return nil
}

// host starts hostInit as its child: a process that has entered the cluster's PID namespace may not
// make one below it, but its child may.
func host(args []string) error {
	cmd := exec.Command("/proc/self/exe", append([]string{"host-init"}, args...)...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNS | syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC,
	}
	return cmd.Run()
}

// hostInit is process 1 of a balancer host. Its filesystem is this machine's root seen through an
// overlay, so the host is "a bare Debian with nginx" that can be written to freely. What it writes
// lands on --disk, which outlives the process: killing this process and starting it again is a reboot.
func hostInit(args []string) error {
	flags := flag.NewFlagSet("host", flag.ContinueOnError)
	name := flags.String("name", "", "host name")
	disk := flags.String("disk", "", "tmpfs that keeps what the host writes")
	binary := flags.String("binary", "", "program to show as /usr/local/bin/external-lb")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if err := syscall.Sethostname([]byte(*name)); err != nil {
		return err
	}
	root := filepath.Join(*disk, "root")
	upper, work := filepath.Join(*disk, "upper"), filepath.Join(*disk, "work")
	for _, dir := range []string{root, upper, work} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	in := func(path string) string { return filepath.Join(root, path) }
	if err := mountAll([]mount{
		{target: "/", flags: syscall.MS_REC | syscall.MS_PRIVATE},
		{source: "overlay", target: root, fstype: "overlay",
			data: fmt.Sprintf("lowerdir=/,upperdir=%s,workdir=%s", upper, work)},
		{source: "proc", target: in("proc"), fstype: "proc"},
		{source: "sysfs", target: in("sys"), fstype: "sysfs"},
		{source: "tmpfs", target: in("dev"), fstype: "tmpfs", flags: syscall.MS_NOSUID, data: "mode=755"},
		{source: "tmpfs", target: in("run"), fstype: "tmpfs", flags: syscall.MS_NOSUID, data: "mode=755"},
		{source: "tmpfs", target: in("tmp"), fstype: "tmpfs", flags: syscall.MS_NOSUID, data: "mode=1777"},
	}); err != nil {
		return err
	}
	if err := devices(in("dev")); err != nil {
		return err
	}
	for _, dir := range []string{"run/sshd", "run/lock"} {
		if err := os.MkdirAll(in(dir), 0o755); err != nil {
			return err
		}
	}
	if *binary != "" {
		if err := bind(*binary, in("usr/local/bin/external-lb")); err != nil {
			return err
		}
	}
	if err := pivot(root); err != nil {
		return err
	}
	fmt.Println("ready")
	reap()
	return nil
}

// devices fills /dev with what a daemon or a shell needs, and no disk of this machine.
func devices(dev string) error {
	for _, name := range []string{"null", "zero", "full", "random", "urandom", "tty"} {
		if err := bind("/dev/"+name, filepath.Join(dev, name)); err != nil {
			return err
		}
	}
	for link, target := range map[string]string{
		"fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1",
		"stderr": "/proc/self/fd/2", "ptmx": "pts/ptmx",
	} {
		if err := os.Symlink(target, filepath.Join(dev, link)); err != nil {
			return err
		}
	}
	pts, shm := filepath.Join(dev, "pts"), filepath.Join(dev, "shm")
	for _, dir := range []string{pts, shm} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			return err
		}
	}
	return mountAll([]mount{
		{source: "devpts", target: pts, fstype: "devpts", data: "newinstance,ptmxmode=0666,mode=620"},
		{source: "tmpfs", target: shm, fstype: "tmpfs", data: "mode=1777"},
	})
}

func bind(source, target string) error {
	f, err := os.OpenFile(target, os.O_CREATE, 0o755)
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return mountAll([]mount{{source: source, target: target, flags: syscall.MS_BIND}})
}

// pivot makes root the root of this mount namespace and lets go of everything else, except the
// program that is running, which needs no path any more.
func pivot(root string) error {
	if err := os.Chdir(root); err != nil {
		return err
	}
	// The old root is stacked on the new one and unmounted from there: no directory is needed for it.
	if err := syscall.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("pivot_root %s: %w", root, err)
	}
	if err := syscall.Unmount(".", syscall.MNT_DETACH); err != nil {
		return err
	}
	return os.Chdir("/")
}
