package deliver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/external-lb/external-lb/internal/host"
	"github.com/external-lb/external-lb/internal/text"
	"github.com/external-lb/external-lb/internal/wire"
)

// command is what the key's line in authorized_keys forces; asking for it makes
// a key without such a line work, too.
const command = "external-lb host serve"

// SSH dials hosts over SSH. The zero value is what a controller uses.
type SSH struct {
	Timeout   time.Duration // to connect, log in and say hello, each; zero: 5 s. A host that is slow has longer for the last two
	KeepAlive time.Duration // between two questions whether the host is there; zero: 3 s
}

func (s SSH) timeout() time.Duration {
	if s.Timeout > 0 {
		return s.Timeout
	}
	return 5 * time.Second
}

// patience with a host for each step after it has accepted a connection. An attempt that is
// given up costs a host almost as much as one that comes through: one with no time for the
// first would never have it for the same again.
func (s SSH) patience(t Target) time.Duration { return s.timeout() << t.Slow }

func (s SSH) keepAlive() time.Duration {
	if s.KeepAlive > 0 {
		return s.KeepAlive
	}
	return 3 * time.Second
}

// Dial connects to a host and starts its end.
func (s SSH) Dial(ctx context.Context, t Target) (Conn, error) {
	config, err := clientConfig(t)
	if err != nil {
		return nil, err
	}
	tcp, err := s.connect(ctx, t)
	if err != nil {
		return nil, err
	}
	client, err := s.login(ctx, tcp, t, config)
	if err != nil {
		tcp.Close()
		return nil, err
	}
	conn, err := s.serve(ctx, client, t)
	if err != nil {
		client.Close()
		return nil, err
	}
	return conn, nil
}

func (s SSH) connect(ctx context.Context, t Target) (net.Conn, error) {
	d := net.Dialer{Timeout: s.timeout()}
	c, err := d.DialContext(ctx, "tcp", t.Endpoint())
	if err != nil {
		return nil, unreachable(t, err)
	}
	return c, nil
}

// login speaks SSH: both ends prove who they are.
func (s SSH) login(ctx context.Context, tcp net.Conn, t Target, config *ssh.ClientConfig) (*ssh.Client, error) {
	limit := s.patience(t)
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { tcp.Close() })
	var verdict *Error // of the host key, which the handshake's error may hide
	check := config.HostKeyCallback
	config.HostKeyCallback = func(address string, remote net.Addr, key ssh.PublicKey) error {
		err := check(address, remote, key)
		verdict, _ = errors.AsType[*Error](err)
		return err
	}
	c, channels, requests, err := ssh.NewClientConn(tcp, t.Endpoint(), config)
	switch {
	case verdict != nil:
		return nil, verdict
	case err != nil && ctx.Err() != nil:
		return nil, &Error{Reason: ReasonUnreachable, Err: err, Slow: true, Message: fmt.Sprintf(
			"%s accepts connections and does not finish the SSH handshake within %v: is it sshd that listens there, and is the host overloaded?", t.Endpoint(), limit)}
	case err != nil:
		return nil, refusedLogin(t, err)
	case !stop():
		return nil, &Error{Reason: ReasonUnreachable, Slow: true, Message: t.Endpoint() + " was too slow to log in", Err: ctx.Err()}
	}
	return ssh.NewClient(c, channels, requests), nil
}

// serve starts the host's end in a session of its own. Whatever the host does not do for
// that, it comes to an end.
func (s SSH) serve(ctx context.Context, client *ssh.Client, t Target) (Conn, error) {
	defer context.AfterFunc(ctx, func() { client.Close() })()
	limit := s.patience(t)
	late := time.AfterFunc(limit, func() { client.Close() })
	defer late.Stop()
	remote, err := open(client, t)
	if !late.Stop() {
		return nil, &Error{Reason: ReasonUnreachable, Err: err, Slow: true, Message: fmt.Sprintf(
			"%s lets %s log in and opens no session within %v: is it sshd that listens there, and is the host overloaded?", t.Endpoint(), t.user(), limit)}
	}
	if err != nil {
		return nil, err
	}
	late.Reset(limit + 2*farewellWait) // it may take nothing of what is written to it
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	c, err := wire.NewClient(ctx, remote)
	if err != nil {
		return nil, helloError(t, remote, err)
	}
	c.Cluster = t.Cluster
	remote.open.Store(true)
	go s.watch(client, c.Done(), 2*s.keepAlive()<<t.Slow)
	return &sshConn{Client: c, stderr: &remote.stderr}, nil
}

// open a session, and start the host's end in it.
func open(client *ssh.Client, t Target) (*stream, error) {
	session, err := client.NewSession()
	if err != nil {
		return nil, commandError(t, "", err)
	}
	remote := &stream{client: client, session: session}
	session.Stderr = &remote.stderr
	if remote.WriteCloser, err = session.StdinPipe(); err != nil {
		return nil, commandError(t, "", err)
	}
	if remote.Reader, err = session.StdoutPipe(); err != nil {
		return nil, commandError(t, "", err)
	}
	if err := session.Start(command); err != nil {
		return nil, commandError(t, remote.stderr.String(), err)
	}
	return remote, nil
}

// watch closes a connection over which nothing comes back for that long. gRPC's own pings are
// no faster than 10 s.
func (s SSH) watch(client *ssh.Client, done <-chan struct{}, limit time.Duration) {
	defer client.Close()
	tick := time.NewTicker(s.keepAlive())
	defer tick.Stop()
	for {
		select {
		case <-done:
			return
		case <-tick.C:
		}
		answer := make(chan error, 1)
		go func() {
			_, _, err := client.SendRequest("keepalive@openssh.com", true, nil)
			answer <- err
		}()
		select {
		case <-done:
			return
		case err := <-answer:
			if err != nil {
				return
			}
		case <-time.After(limit):
			return
		}
	}
}

// stream is a session's standard input and output.
type stream struct {
	io.Reader
	io.WriteCloser
	client  *ssh.Client
	session *ssh.Session
	stderr  tail
	open    atomic.Bool // the host said hello
}

// Close ends the whole connection, which carries nothing else; but before the
// host said hello only its input, so that its last words can be heard.
func (s *stream) Close() error {
	if !s.open.Load() {
		return s.WriteCloser.Close()
	}
	if err := s.client.Close(); !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}

// sshConn adds to the loss of a connection what the host's end said last.
type sshConn struct {
	*wire.Client
	stderr *tail
}

// Status asks the host what it runs.
func (c *sshConn) Status(ctx context.Context) (host.Status, error) {
	st, err := c.Client.Status(ctx)
	return st, c.withOutput(err)
}

// Apply delivers.
func (c *sshConn) Apply(ctx context.Context, d host.Delivery) (host.Outcome, error) {
	out, err := c.Client.Apply(ctx, d)
	return out, c.withOutput(err)
}

// Render asks the host what it would make of a delivery.
func (c *sshConn) Render(ctx context.Context, d host.Delivery) (host.Rendering, error) {
	out, err := c.Client.Render(ctx, d)
	return out, c.withOutput(err)
}

func (c *sshConn) withOutput(err error) error {
	if said := c.stderr.String(); errors.Is(err, wire.ErrLost) && said != "" {
		return fmt.Errorf("%w; the host said: %s", err, said)
	}
	return err
}

// tail keeps the end of what is written to it.
type tail struct {
	mu  sync.Mutex
	buf []byte
}

const tailSize = 1 << 10

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, p...)
	if extra := len(t.buf) - tailSize; extra > 0 {
		t.buf = append(t.buf[:0], t.buf[extra:]...)
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return text.Plain(string(t.buf), tailSize)
}
