package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

// guest is process 1 of a virtual machine: a balancer host that needs more of its kernel than this
// machine's has. Its filesystem is this machine's root, too, read-only and below an overlay; what it
// writes lands on /dev/ubda. The kernel's command line names the machine (guest.name=) and the program
// to show as external-lb (guest.binary=).
//
// Commands come in by a second network link, whatever happens to the first one and to the machine's own
// sshd: see guestConsole. It only ends with an error, and the machine with it.
func guest([]string) error {
	fmt.Println("guest:", beGuest())
	return syscall.Reboot(syscall.LINUX_REBOOT_CMD_POWER_OFF)
}

func beGuest() error {
	// The root is this machine's and read-only, so that what comes first needs places that are there.
	if err := mountAll([]mount{
		{source: "tmpfs", target: "/mnt", fstype: "tmpfs", data: "mode=755"},
		{source: "proc", target: "/proc", fstype: "proc"},
		{source: "dev", target: "/dev", fstype: "devtmpfs"},
	}); err != nil {
		return err
	}
	flags := guestFlags()
	const disk, root = "/mnt/disk", "/mnt/root"
	upper, work := filepath.Join(disk, "upper"), filepath.Join(disk, "work")
	if err := errors.Join(os.Mkdir(disk, 0o755), os.Mkdir(root, 0o755)); err != nil {
		return err
	}
	if err := mountAll([]mount{{source: "/dev/ubda", target: disk, fstype: "ext4"}}); err != nil {
		return err
	}
	for _, dir := range []string{upper, work} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	in := func(path string) string { return filepath.Join(root, path) }
	if err := mountAll([]mount{
		{source: "overlay", target: root, fstype: "overlay", data: fmt.Sprintf("lowerdir=/,upperdir=%s,workdir=%s", upper, work)},
		{source: "proc", target: in("proc"), fstype: "proc"},
		{source: "sysfs", target: in("sys"), fstype: "sysfs"},
		{source: "dev", target: in("dev"), fstype: "devtmpfs"},
		{source: "tmpfs", target: in("run"), fstype: "tmpfs", flags: syscall.MS_NOSUID, data: "mode=755"},
		{source: "tmpfs", target: in("tmp"), fstype: "tmpfs", flags: syscall.MS_NOSUID, data: "mode=1777"},
	}); err != nil {
		return err
	}
	for _, dir := range []string{"run/sshd", "run/lock", "dev/pts"} {
		if err := os.MkdirAll(in(dir), 0o755); err != nil {
			return err
		}
	}
	if err := mountAll([]mount{{source: "devpts", target: in("dev/pts"), fstype: "devpts", data: "ptmxmode=0666,mode=620"}}); err != nil {
		return err
	}
	if binary := flags["binary"]; binary != "" {
		if err := bind(binary, in("usr/local/bin/external-lb")); err != nil {
			return err
		}
	}
	if err := errors.Join(syscall.Sethostname([]byte(flags["name"])), os.Chdir(root), syscall.Chroot("."), os.Chdir("/")); err != nil {
		return err
	}
	if err := startConsole(); err != nil {
		return err
	}
	reap()
	return nil
}

// guestFlags are what the kernel's command line says to this program.
func guestFlags() map[string]string {
	line, _ := os.ReadFile("/proc/cmdline")
	flags := map[string]string{}
	for _, word := range strings.Fields(string(line)) {
		if key, value, ok := strings.Cut(word, "="); ok && strings.HasPrefix(key, "guest.") {
			flags[strings.TrimPrefix(key, "guest.")] = value
		}
	}
	return flags
}

// startConsole names the links, and starts a process that takes commands: this one reaps whatever ends.
func startConsole() error {
	for key, value := range map[string]string{"HOME": "/root", "LANG": "C.UTF-8", "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"} {
		os.Setenv(key, value)
	}
	ip := exec.Command("ip", "-batch", "-")
	ip.Stdin = strings.NewReader("link set lo up\nlink set vec0 name eth0\nlink set vec1 name console\nlink set console up\naddr add fe80::2/64 dev console nodad\n")
	if out, err := ip.CombinedOutput(); err != nil {
		return fmt.Errorf("ip: %w: %s", err, out)
	}
	server := exec.Command("/proc/self/exe", "guest-console")
	server.Stdout, server.Stderr = os.Stdout, os.Stderr
	return server.Start()
}
