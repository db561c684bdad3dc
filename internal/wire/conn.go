package wire

import (
	"errors"
	"io"
	"net"
	"sync"
	"time"
)

// conn makes a byte stream a net.Conn without deadlines. Close makes a Read
// return even where the stream's own Close does not, as with a blocking stdin.
type conn struct {
	rw     io.ReadWriteCloser
	in     *io.PipeReader
	closed func() error
	done   chan struct{} // closed by Close
}

// newConn takes over rw. Its reader goroutine ends when a Read of rw does.
func newConn(rw io.ReadWriteCloser) *conn {
	in, pump := io.Pipe()
	c := &conn{rw: rw, in: in, done: make(chan struct{})}
	c.closed = sync.OnceValue(func() error {
		close(c.done)
		return errors.Join(in.Close(), rw.Close())
	})
	go func() {
		_, err := io.Copy(pump, rw)
		pump.CloseWithError(err)
	}()
	return c
}

func (c *conn) Read(p []byte) (int, error)       { return c.in.Read(p) }
func (c *conn) Write(p []byte) (int, error)      { return c.rw.Write(p) }
func (c *conn) Close() error                     { return c.closed() }
func (c *conn) LocalAddr() net.Addr              { return streamAddr{} }
func (c *conn) RemoteAddr() net.Addr             { return streamAddr{} }
func (c *conn) SetDeadline(time.Time) error      { return nil }
func (c *conn) SetReadDeadline(time.Time) error  { return nil }
func (c *conn) SetWriteDeadline(time.Time) error { return nil }

type streamAddr struct{}

func (streamAddr) Network() string { return "stream" }
func (streamAddr) String() string  { return "stream" }

// once is a listener that accepts a single connection.
type once struct {
	conn  chan net.Conn
	done  chan struct{}
	close func()
}

func newOnce(c net.Conn) *once {
	o := &once{conn: make(chan net.Conn, 1), done: make(chan struct{})}
	o.close = sync.OnceFunc(func() { close(o.done) })
	o.conn <- c
	return o
}

func (o *once) Accept() (net.Conn, error) {
	select {
	case c := <-o.conn:
		return c, nil
	case <-o.done:
		return nil, net.ErrClosed
	}
}

func (o *once) Close() error   { o.close(); return nil }
func (o *once) Addr() net.Addr { return streamAddr{} }
