package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"unsafe"
)

// guest is process 1 of a virtual machine: a balancer host that needs more of its kernel than this
// machine's has. Its filesystem is this machine's root, too, read-only and below an overlay; what it
// writes lands on /dev/vda. The kernel's command line names the machine (guest.name=), the directory
// with the keys of its console (guest.console=) and the program to show as external-lb (guest.binary=).
//
// The console is a second network link with a sshd of its own, so that a command gets in whatever
// happens to the first link and to the machine's own sshd.
func guest() error {
	if err := mountAll([]mount{{source: "dev", target: "/dev", fstype: "devtmpfs"}}); err != nil {
		return err
	}
	if err := loadModules(); err != nil {
		return err
	}
	for _, dir := range []string{"/proc", "/lower", "/disk", "/root"} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	if err := mountAll([]mount{
		{source: "proc", target: "/proc", fstype: "proc"},
		{source: "root", target: "/lower", fstype: "virtiofs", flags: syscall.MS_RDONLY},
		{source: "/dev/vda", target: "/disk", fstype: "ext4"},
	}); err != nil {
		return err
	}
	flags := guestFlags()
	for _, dir := range []string{"/disk/upper", "/disk/work"} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	in := func(path string) string { return filepath.Join("/root", path) }
	if err := mountAll([]mount{
		{source: "overlay", target: "/root", fstype: "overlay", data: "lowerdir=/lower,upperdir=/disk/upper,workdir=/disk/work"},
		{source: "proc", target: in("proc"), fstype: "proc"},
		{source: "sysfs", target: in("sys"), fstype: "sysfs"},
		{source: "dev", target: in("dev"), fstype: "devtmpfs"},
		{source: "tmpfs", target: in("run"), fstype: "tmpfs", flags: syscall.MS_NOSUID, data: "mode=755"},
		{source: "tmpfs", target: in("tmp"), fstype: "tmpfs", flags: syscall.MS_NOSUID, data: "mode=1777"},
	}); err != nil {
		return err
	}
	for _, dir := range []string{"run/sshd", "run/lock", "run/console", "dev/pts"} {
		if err := os.MkdirAll(in(dir), 0o755); err != nil {
			return err
		}
	}
	if err := mountAll([]mount{{source: "devpts", target: in("dev/pts"), fstype: "devpts", data: "ptmxmode=0666,mode=620"}}); err != nil {
		return err
	}
	if binary := flags["binary"]; binary != "" {
		if err := bind(filepath.Join("/lower", binary), in("usr/local/bin/external-lb")); err != nil {
			return err
		}
	}
	for _, name := range []string{"key", "key.pub"} {
		data, err := os.ReadFile(filepath.Join("/lower", flags["console"], name))
		if err != nil {
			return err
		}
		if err := os.WriteFile(in("run/console/"+name), data, 0o600); err != nil {
			return err
		}
	}
	if err := errors.Join(syscall.Sethostname([]byte(flags["name"])), os.Chdir("/root"), syscall.Chroot("."), os.Chdir("/")); err != nil {
		return err
	}
	if err := console(); err != nil {
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

// loadModules loads what lies beside this program, in the order of the list.
func loadModules() error {
	list, err := os.ReadFile("/modules/list")
	if err != nil {
		return err
	}
	parameters := []byte{0}
	for _, name := range strings.Fields(string(list)) {
		data, err := os.ReadFile("/modules/" + name)
		if err != nil {
			return err
		}
		_, _, errno := syscall.Syscall(syscall.SYS_INIT_MODULE, uintptr(unsafe.Pointer(&data[0])), uintptr(len(data)), uintptr(unsafe.Pointer(&parameters[0])))
		if errno != 0 && errno != syscall.EEXIST {
			return fmt.Errorf("load %s: %w", name, errno)
		}
	}
	return nil
}

// console starts the way in. Its sshd has another name, so that nobody mistakes it for the machine's own,
// and a home of its own, so that a shell reads nobody's profile.
func console() error {
	os.Setenv("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
	out, err := exec.Command("/bin/sh", "-ec", `
ip link set lo up
ip link set eth1 down name console
echo 0 > /proc/sys/net/ipv6/conf/console/accept_dad
ip link set console up
ip addr add fe80::2/64 dev console nodad
cp /usr/sbin/sshd /run/console/console
/run/console/console -f /dev/null -h /run/console/key -o AuthorizedKeysFile=/run/console/key.pub -o StrictModes=no \
  -o ListenAddress='[fe80::2%console]:22' -o SetEnv=HOME=/run/console -o PidFile=none -o UsePAM=no -o UseDNS=no -o MaxSessions=1000 -E /run/console/log
`).CombinedOutput()
	if err != nil {
		return fmt.Errorf("console: %w: %s", err, out)
	}
	return nil
}
