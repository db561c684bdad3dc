package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// process is a process of the cluster, told from another one with the same number by its start time.
type process struct {
	PID   int    `json:"pid"`
	Start uint64 `json:"start"`
}

func newProcess(pid int) process { return process{pid, startTime(pid)} }

// startTime is in clock ticks since boot; 0 when there is no such process or only its zombie is left. While
// other threads than the first still end, what the process has open is open.
func startTime(pid int) uint64 {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	// The command in parentheses may hold anything, so count fields from the last parenthesis.
	fields := strings.Fields(string(data[bytes.LastIndexByte(data, ')')+1:]))
	if len(fields) < 20 || fields[0] == "X" {
		return 0
	}
	if threads := fields[17]; fields[0] == "Z" && (threads == "0" || threads == "1") {
		return 0
	}
	start, _ := strconv.ParseUint(fields[19], 10, 64)
	return start
}

func (p process) alive() bool { return p.Start != 0 && startTime(p.PID) == p.Start }

// child finds the one child of a process.
func (p process) child() (process, error) {
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return process{}, err
	}
	for _, stat := range stats {
		data, err := os.ReadFile(stat)
		if err != nil {
			continue // it ended meanwhile
		}
		fields := strings.Fields(string(data[bytes.LastIndexByte(data, ')')+1:]))
		if len(fields) > 1 && fields[1] == strconv.Itoa(p.PID) {
			pid, err := strconv.Atoi(filepath.Base(filepath.Dir(stat)))
			return newProcess(pid), err
		}
	}
	return process{}, fmt.Errorf("process %d has no child", p.PID)
}

// dies is how long a process may take for that: the first one of a namespace waits for all others, and the
// kernel for their networks, on a machine that has much else to do.
const dies = 2 * time.Minute

// kill ends the process and returns when it is gone; nil if it was gone already.
func (p process) kill(sig unix.Signal) error {
	if !p.alive() {
		return nil
	}
	if err := unix.Kill(p.PID, sig); err != nil && !errors.Is(err, unix.ESRCH) {
		return err
	}
	for deadline := time.Now().Add(dies); p.alive(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			return fmt.Errorf("process %d outlived %v", p.PID, sig)
		}
	}
	return nil
}

// place is where a command runs: a set of namespaces, each a path below /proc, and the flag of setns.
type place []struct {
	path string
	kind int
}

func (p *place) add(pid int, kinds ...string) {
	flags := map[string]int{"mnt": unix.CLONE_NEWNS, "pid": unix.CLONE_NEWPID, "net": unix.CLONE_NEWNET,
		"uts": unix.CLONE_NEWUTS, "ipc": unix.CLONE_NEWIPC}
	for _, kind := range kinds {
		*p = append(*p, struct {
			path string
			kind int
		}{fmt.Sprintf("/proc/%d/ns/%s", pid, kind), flags[kind]})
	}
}

func (p *place) addNet(path string) {
	*p = append(*p, struct {
		path string
		kind int
	}{path, unix.CLONE_NEWNET})
}

// do runs fn on a thread that is inside the place. The thread is never given back: it ends with its
// goroutine, so nothing else of this process ever runs in there.
func (p place) do(fn func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		if err := p.enter(); err != nil {
			done <- err
			return
		}
		done <- fn()
	}()
	return <-done
}

// visit runs fn in the network namespace of p, on this thread, which then returns home: cheaper than do.
func (p place) visit(fn func() error) error {
	runtime.LockOSThread()
	home, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		runtime.UnlockOSThread()
		return err
	}
	defer unix.Close(home)
	there, err := unix.Open(p[0].path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		runtime.UnlockOSThread()
		return err
	}
	defer unix.Close(there)
	if err := unix.Setns(there, unix.CLONE_NEWNET); err != nil {
		runtime.UnlockOSThread()
		return err
	}
	err = fn()
	if unix.Setns(home, unix.CLONE_NEWNET) == nil {
		runtime.UnlockOSThread() // else the thread stays locked, and ends with its goroutine
	}
	return err
}

func (p place) enter() error {
	fds := make([]int, len(p))
	for i, ns := range p { // all paths first: after the mount namespace they mean something else
		fd, err := unix.Open(ns.path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("open namespace %s: %w", ns.path, err)
		}
		defer unix.Close(fd)
		fds[i] = fd
	}
	// A thread that shares its root and working directory with others may not change its mount namespace.
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return fmt.Errorf("unshare: %w", err)
	}
	for i, ns := range p {
		if err := unix.Setns(fds[i], ns.kind); err != nil {
			return fmt.Errorf("setns %s: %w", ns.path, err)
		}
	}
	return nil
}

// Cmd is a command inside the cluster. Use it as an exec.Cmd; only the methods below start it.
type Cmd struct {
	*exec.Cmd
	where place
}

// command makes a Cmd with a clean environment, as after a login.
func (p place) command(ctx context.Context, argv ...string) *Cmd {
	argv = append(cleanEnvironment(), argv...)
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Dir = "/"
	cmd.WaitDelay = time.Second // a daemon that the command leaves behind may hold its output open
	return &Cmd{cmd, p}
}

func cleanEnvironment() []string {
	return []string{"/usr/bin/env", "-i", "HOME=/root", "LANG=C.UTF-8", "TERM=" + os.Getenv("TERM"),
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
}

func (c *Cmd) Start() error { return c.where.do(c.Cmd.Start) }

func (c *Cmd) Run() error {
	if err := c.Start(); err != nil {
		return err
	}
	if err := c.Wait(); err != nil && !errors.Is(err, exec.ErrWaitDelay) {
		return err
	}
	return nil
}

// Output returns what the command wrote to stdout; the error holds what it wrote to stderr.
func (c *Cmd) Output() ([]byte, error) {
	var stdout, stderr bytes.Buffer
	c.Stdout, c.Stderr = &stdout, &stderr
	if err := c.Run(); err != nil {
		return stdout.Bytes(), fmt.Errorf("%s: %w: %s", c.name(), err, bytes.TrimSpace(stderr.Bytes()))
	}
	return stdout.Bytes(), nil
}

// CombinedOutput returns what the command wrote to stdout and stderr.
func (c *Cmd) CombinedOutput() ([]byte, error) {
	var out bytes.Buffer
	c.Stdout, c.Stderr = &out, &out
	err := c.Run()
	return out.Bytes(), err
}

func (c *Cmd) name() string {
	args := c.Args
	for len(args) > 1 && (args[0] == "/usr/bin/env" || args[0] == "-i" || strings.Contains(args[0], "=")) {
		args = args[1:]
	}
	return filepath.Base(args[0])
}

// daemon starts a command that outlives this process, with its output in a log file.
func (c *Cmd) daemon(logFile string) (process, error) {
	log, err := os.OpenFile(logFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return process{}, err
	}
	defer log.Close()
	if c.Stdout == nil {
		c.Stdout = log
	}
	c.Stderr = log
	if c.SysProcAttr == nil {
		c.SysProcAttr = &unix.SysProcAttr{}
	}
	c.SysProcAttr.Setsid = true // a Ctrl-C for the owner is not meant for the cluster
	if err := c.Start(); err != nil {
		return process{}, err
	}
	started := newProcess(c.Process.Pid)
	go func() { _ = c.Wait() }()
	return started, nil
}

// ready starts a helper that says "ready" on its stdout, and waits until it did.
func (c *Cmd) ready(logFile string) (process, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return process{}, err
	}
	defer r.Close()
	c.Stdout = w
	started, err := c.daemon(logFile)
	w.Close()
	if err != nil {
		return process{}, err
	}
	word := make([]byte, 6)
	if n, err := r.Read(word); string(word[:n]) != "ready\n" {
		log, _ := os.ReadFile(logFile)
		return process{}, fmt.Errorf("%s did not start: %v: %s", c.name(), err, bytes.TrimSpace(log))
	}
	return started, nil
}
