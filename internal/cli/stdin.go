package cli

import (
	"context"
	"errors"
	"io"

	"github.com/spf13/cobra"
)

// stdinOf a command that reads all of it. Who types there may interrupt it.
func stdinOf(cmd *cobra.Command) io.Reader { return interruptible{cmd.Context(), cmd.InOrStdin()} }

// interruptible is a reader whose Read ends with a context, also where nothing comes.
type interruptible struct {
	ctx  context.Context
	from io.Reader
}

var errInterrupted = errors.New("interrupted")

func (r interruptible) Read(p []byte) (int, error) {
	type read struct {
		n   int
		err error
	}
	own, done := make([]byte, len(p)), make(chan read, 1) // a Read that comes late must not write to p
	go func() {
		n, err := r.from.Read(own)
		done <- read{n, err}
	}()
	select {
	case <-r.ctx.Done():
		return 0, errInterrupted
	case got := <-done:
		return copy(p, own[:got.n]), got.err
	}
}
