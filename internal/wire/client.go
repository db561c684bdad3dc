package wire

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"

	"github.com/external-lb/external-lb/internal/host"
	"github.com/external-lb/external-lb/internal/wire/wirepb"
)

// ErrLost says that the stream ended before the answer came. What became of a
// delivery is not known.
var ErrLost = errors.New("connection to the host lost")

// Client is the controller's end of a stream: a host.Host.
type Client struct {
	Peer Hello // what the host said of itself

	conn *conn
	grpc *grpc.ClientConn
	rpc  wirepb.HostServiceClient
}

// NewClient takes over rw, which a host serves. It fails with a *HelloError
// where something else does, and with a *VersionError where that is a version of
// external-lb that speaks another protocol; rw is closed then.
func NewClient(ctx context.Context, rw io.ReadWriteCloser) (*Client, error) {
	c := newConn(rw)
	peer, err := greet(ctx, c)
	if err != nil {
		c.Close()
		return nil, err
	}
	cc, err := grpc.NewClient("passthrough:///host",
		grpc.WithTransportCredentials(insecure.NewCredentials()), // the stream is secured below
		grpc.WithContextDialer(dialOnce(c)),
		grpc.WithIdleTimeout(0),
		grpc.WithNoProxy(),
		grpc.WithDisableServiceConfig(),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{
			Time: 2 * pingAfter, Timeout: pingWait, PermitWithoutStream: true, // gRPC allows no less than 10 s
		}),
	)
	if err != nil {
		c.Close()
		return nil, err
	}
	cc.Connect()
	return &Client{Peer: peer, conn: c, grpc: cc, rpc: wirepb.NewHostServiceClient(cc)}, nil
}

// greet exchanges hellos: the host speaks first.
func greet(ctx context.Context, c *conn) (Hello, error) {
	defer context.AfterFunc(ctx, func() { c.Close() })()
	mine := ours()
	theirs, err := readHello(c)
	if err == nil {
		_, err = io.WriteString(c, mine.line()) // whatever it speaks: it can tell the difference, too
	}
	switch {
	case theirs.Protocol != 0 && theirs.Protocol != mine.Protocol:
		return Hello{}, &VersionError{Ours: mine, Theirs: theirs}
	case ctx.Err() != nil:
		return Hello{}, fmt.Errorf("the host did not say hello: %w", context.Cause(ctx))
	case err != nil:
		return Hello{}, err
	}
	return theirs, nil
}

// dialOnce hands out the one connection there is.
func dialOnce(c net.Conn) func(context.Context, string) (net.Conn, error) {
	first := make(chan net.Conn, 1)
	first <- c
	return func(context.Context, string) (net.Conn, error) {
		select {
		case c := <-first:
			return c, nil
		default:
			return nil, ErrLost
		}
	}
}

// Close ends the stream.
func (c *Client) Close() error { return errors.Join(c.grpc.Close(), c.conn.Close()) }

// Done is closed when the stream has ended.
func (c *Client) Done() <-chan struct{} { return c.conn.done }

// Status asks the host what it runs.
func (c *Client) Status(ctx context.Context) (host.Status, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // ends the stream if an answer cannot be read
	stream, err := c.rpc.Status(ctx, &wirepb.StatusRequest{})
	if err != nil {
		return host.Status{}, trouble(err)
	}
	st, err := receiveStatus(stream.Recv)
	return st, trouble(err)
}

// Apply sends a delivery and waits for its outcome. Any error but a *host.Error
// leaves open what became of it.
func (c *Client) Apply(ctx context.Context, d host.Delivery) (host.Outcome, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := c.rpc.Apply(ctx)
	if err != nil {
		return host.Outcome{}, trouble(err)
	}
	err = sendDelivery(d, stream.Send)
	if err == nil {
		err = stream.CloseSend()
	}
	if err != nil && !errors.Is(err, io.EOF) { // EOF: the host has ended it, and Recv says why
		return host.Outcome{}, trouble(err)
	}
	out, err := receiveOutcome(stream.Recv)
	return out, trouble(err)
}

// trouble turns what gRPC says into a *host.Error, ErrLost or the error it is.
func trouble(err error) error {
	if err == nil {
		return nil
	}
	st, ok := status.FromError(err)
	if !ok {
		return err
	}
	for _, detail := range st.Details() {
		if f, ok := detail.(*wirepb.Failure); ok {
			return &host.Error{Code: host.Code(f.GetCode()), Message: f.GetMessage()}
		}
	}
	switch st.Code() {
	case codes.Unavailable:
		return fmt.Errorf("%w: %s", ErrLost, st.Message())
	case codes.Canceled:
		return fmt.Errorf("%w: %s", context.Canceled, st.Message())
	case codes.DeadlineExceeded:
		return fmt.Errorf("%w: no answer within the time for it", context.DeadlineExceeded)
	}
	return errors.New(st.Message())
}

var _ interface {
	host.Host
	io.Closer
} = (*Client)(nil)
