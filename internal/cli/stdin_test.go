package cli

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"
	"testing/iotest"
)

func TestStdin_ReadsAreInterrupted(t *testing.T) {
	never, _ := io.Pipe() // nobody writes
	ctx, cancel := context.WithCancel(t.Context())
	go cancel()
	if _, err := io.ReadAll(interruptible{ctx, never}); !errors.Is(err, errInterrupted) {
		t.Errorf("want that it was interrupted, got %v", err)
	}
	want := bytes.Repeat([]byte("kind: Service\n---\n"), 1000)
	if err := iotest.TestReader(interruptible{t.Context(), bytes.NewReader(want)}, want); err != nil {
		t.Error(err)
	}
}
