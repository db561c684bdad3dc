package wire

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/external-lb/external-lb/internal/host"
)

// maxConns is how many peers an agent serves at once: the controller, one that takes
// over, and a few people with `external-lb diff`.
const maxConns = 16

// Listen serves a Host to all who connect, until ctx is done or accepting fails for good: then
// it ends those that are there, too, so that who runs it can start anew. Whoever can connect
// has been let in by the listener's owner.
func Listen(ctx context.Context, l net.Listener, h host.Host) error {
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	var serving sync.WaitGroup
	defer serving.Wait()
	peers, cancel := context.WithCancel(ctx)
	defer cancel() // before it waits for them
	places := make(chan struct{}, maxConns)
	shared := &room{}
	for {
		select {
		case places <- struct{}{}:
		case <-ctx.Done():
			return nil
		}
		c, err := accept(ctx, l)
		if ctx.Err() != nil {
			if c != nil {
				c.Close()
			}
			return nil
		}
		if err != nil {
			return fmt.Errorf("accepting connections: %w", err)
		}
		serving.Go(func() {
			defer func() { <-places }()
			_ = serveOne(peers, c, h, shared) // what is wrong with a peer, the peer is told
		})
	}
}

// passing are errors of accepting that pass by themselves: the machine is short of files or memory.
var passing = []error{syscall.EMFILE, syscall.ENFILE, syscall.ENOMEM, syscall.ENOBUFS, syscall.ECONNABORTED, syscall.EINTR}

// accept waits for the next peer. It tries again after what passes, with pauses as those of net/http.
func accept(ctx context.Context, l net.Listener) (net.Conn, error) {
	for pause := 5 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		c, err := l.Accept()
		if !slices.ContainsFunc(passing, func(e error) bool { return errors.Is(err, e) }) {
			return c, err
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// answerWait is how long an agent may take for its first byte before that is told. It is less than
// a controller waits, so that the controller knows what is wrong.
const answerWait = 3 * time.Second

// Pipe joins a stream with the agent that listens on a socket, until either ends. An agent that says
// nothing is told of, and waited for: how long is up to the other end.
func Pipe(ctx context.Context, stream io.ReadWriteCloser, socket string, tell func(words string)) error {
	var d net.Dialer
	c, err := d.DialContext(ctx, "unix", socket)
	if err != nil {
		stream.Close()
		return fmt.Errorf("external-lb's agent does not run on this host (%w): start it (systemctl start external-lb-agent); `journalctl -u external-lb-agent` says what it may lack", err)
	}
	defer context.AfterFunc(ctx, func() { c.Close() })()
	go func() {
		_, _ = io.Copy(c, stream) // the stream has ended, or the agent has
		c.Close()
	}()
	late := time.AfterFunc(answerWait, func() {
		tell(fmt.Sprintf("external-lb's agent on this host has not answered within %s: is the host overloaded? If not, restart it "+
			"(systemctl restart external-lb-agent); what is live goes on", answerWait))
	})
	first := make([]byte, 4096)
	n, err := c.Read(first)
	late.Stop()
	if _, gone := stream.Write(first[:n]); err == nil && gone == nil {
		_, _ = io.Copy(stream, c) // either has gone
	}
	return errors.Join(stream.Close(), closed(c.Close()))
}

// closed is what is wrong with a Close, unless somebody else closed it before.
func closed(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}
