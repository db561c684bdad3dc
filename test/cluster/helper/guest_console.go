package main

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// The way into a virtual machine is one connection for each command. The client first sends the words of
// the command, then its input; the machine sends output, and at last the exit code.

// consoleAddress is where a machine takes commands.
const consoleAddress = "[fe80::2%console]:1"

// Kinds of frames. Input without bytes is its end.
const (
	frameCommand = iota
	frameInput
	frameOutput
	frameErrors
	frameExit
)

// maxFrame bounds the bytes of a frame.
const maxFrame = 1 << 20

// frames writes one connection's frames, for several goroutines.
type frames struct {
	mu sync.Mutex
	w  io.Writer
}

func (f *frames) send(kind byte, data []byte) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	head := binary.BigEndian.AppendUint32([]byte{kind}, uint32(len(data)))
	_, err := f.w.Write(append(head, data...))
	return err
}

func readFrame(r io.Reader) (kind byte, data []byte, err error) {
	var head [5]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, nil, err
	}
	size := binary.BigEndian.Uint32(head[1:])
	if size > maxFrame {
		return 0, nil, fmt.Errorf("a frame of %d bytes", size)
	}
	data = make([]byte, size)
	_, err = io.ReadFull(r, data)
	return head[0], data, err
}

// stream makes frames of one kind of what is written to it.
type stream struct {
	*frames
	kind byte
}

func (s stream) Write(p []byte) (int, error) {
	for sent := 0; sent < len(p); {
		n := min(len(p)-sent, maxFrame)
		if err := s.send(s.kind, p[sent:sent+n]); err != nil {
			return sent, err
		}
		sent += n
	}
	return len(p), nil
}

// guestConsole runs the commands that come in.
func guestConsole([]string) error {
	l, err := net.Listen("tcp", consoleAddress)
	if err != nil {
		return err
	}
	for {
		conn, err := l.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer conn.Close()
			if err := attend(conn); err != nil {
				fmt.Fprintln(os.Stderr, "console:", err)
			}
		}()
	}
}

// attend runs one command. It is ended when its client goes before.
func attend(conn net.Conn) error {
	in, out := bufio.NewReader(conn), &frames{w: conn}
	kind, data, err := readFrame(in)
	var argv []string
	if err = errors.Join(err, json.Unmarshal(data, &argv)); err != nil || kind != frameCommand || len(argv) == 0 {
		return errors.Join(errors.New("want a command first"), err)
	}
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Dir = "/"
	cmd.WaitDelay = time.Second // a daemon that the command leaves behind may hold its output open
	cmd.Stdout, cmd.Stderr = stream{out, frameOutput}, stream{out, frameErrors}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	input, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return errors.Join(out.send(frameErrors, []byte(err.Error()+"\n")), out.send(frameExit, []byte{127}))
	}
	var ended atomic.Bool
	go func() {
		for {
			_, data, err := readFrame(in)
			switch {
			case err == nil && len(data) > 0:
				_, _ = input.Write(data) // one that has stopped to read may still run
			case err == nil:
				_ = input.Close()
			default:
				if !ended.Load() {
					_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
				}
				return
			}
		}
	}()
	_ = cmd.Wait() // the code says it
	ended.Store(true)
	code := cmd.ProcessState.ExitCode()
	if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		code = 128 + int(status.Signal())
	}
	return out.send(frameExit, []byte{byte(code)})
}

// inGuest runs a command in the virtual machine at the other end of a link: LINK COMMAND…
func inGuest(args []string) error {
	if len(args) < 2 {
		return errors.New("want a link and a command")
	}
	dialer := net.Dialer{Timeout: 30 * time.Second, KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 10 * time.Second, Interval: 5 * time.Second, Count: 6}}
	conn, err := dialer.Dial("tcp", "[fe80::2%"+args[0]+"]:1")
	if err != nil {
		return err
	}
	out := &frames{w: conn}
	command, err := json.Marshal(args[1:])
	if err != nil {
		return err
	}
	if err := out.send(frameCommand, command); err != nil {
		return err
	}
	go func() {
		_, _ = io.Copy(stream{out, frameInput}, os.Stdin)
		_ = out.send(frameInput, nil)
	}()
	in := bufio.NewReader(conn)
	for {
		kind, data, err := readFrame(in)
		if err != nil {
			return fmt.Errorf("the virtual machine's end: %w", err)
		}
		switch kind {
		case frameOutput:
			_, err = os.Stdout.Write(data)
		case frameErrors:
			_, err = os.Stderr.Write(data)
		case frameExit:
			os.Exit(int(data[0]))
		}
		if err != nil {
			return err
		}
	}
}
