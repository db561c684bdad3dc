package main

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"
	"unicode/utf8"

	"github.com/creack/pty"
)

// record runs a program in a terminal of its own until it ends. What it prints goes to
// watch, too.
func record(ctx context.Context, title string, argv []string, watch io.Writer) (*recording, error) {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) } // it may have to clean up
	cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "NO_COLOR=") })
	cmd.Env = append(cmd.Env, "TERM=xterm-256color")
	began := time.Now()
	terminal, err := pty.StartWithSize(cmd, &pty.Winsize{Rows: height, Cols: columns})
	if err != nil {
		return nil, err
	}
	defer terminal.Close()
	r := &recording{header: header{Version: 2, Width: columns, Height: height, Timestamp: began.Unix(), Title: title}}
	err = r.listen(io.TeeReader(terminal, watch), began)
	return r, errors.Join(err, cmd.Wait())
}

// listen notes what is printed, and when. A character is never cut.
func (r *recording) listen(terminal io.Reader, began time.Time) error {
	buffer := make([]byte, 32<<10)
	held := 0
	for {
		n, err := terminal.Read(buffer[held:])
		at := time.Since(began)
		held += n
		whole := held
		for whole > 0 && held-whole < utf8.UTFMax && !utf8.Valid(buffer[:whole]) {
			whole--
		}
		if whole > 0 {
			r.events = append(r.events, event{at, string(buffer[:whole])})
			held = copy(buffer, buffer[whole:held])
		}
		if errors.Is(err, io.EOF) || errors.Is(err, syscall.EIO) { // EIO: nobody has the terminal open any more
			return nil
		}
		if err != nil {
			return err
		}
	}
}
