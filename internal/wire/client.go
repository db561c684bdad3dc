package wire

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"

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
	Peer    Hello  // what the host said of itself
	Cluster string // that asks: see host.Delivery

	conn *conn
	grpc *grpc.ClientConn
	rpc  wirepb.HostServiceClient
	told told
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
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(messageMax)),
		grpc.WithMaxHeaderListSize(headersMax),
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

// Identity of the agent on the host; "" if it does not say.
func (c *Client) Identity() string { return c.Peer.Agent }

// Version of external-lb on the host.
func (c *Client) Version() string { return c.Peer.Version }

// Status asks the host what it runs. What its report has in common with the last one
// on this stream is not sent again, and is shared.
func (c *Client) Status(ctx context.Context) (host.Status, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // ends the stream if an answer cannot be read
	known, digest := c.known()
	stream, err := c.rpc.Status(ctx, &wirepb.StatusRequest{Known: digest, Cluster: c.Cluster})
	if err != nil {
		return host.Status{}, trouble(err)
	}
	st, err := receiveStatus(known, stream.Recv)
	if err == nil {
		c.told.keep(st.Report)
	}
	return st, trouble(err)
}

// Apply sends a delivery and waits for its outcome. Any error but a *host.Error
// leaves open what became of it.
func (c *Client) Apply(ctx context.Context, d host.Delivery) (host.Outcome, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	known, digest := c.known()
	stream, err := c.rpc.Apply(ctx)
	if err != nil {
		return host.Outcome{}, trouble(err)
	}
	if err := request(d, digest, stream.Send, stream.CloseSend); err != nil {
		return host.Outcome{}, err
	}
	out, err := receiveOutcome(known, stream.Recv)
	if err == nil {
		c.told.keep(out.Report)
	}
	return out, trouble(err)
}

// Render asks the host what it would make of a delivery.
func (c *Client) Render(ctx context.Context, d host.Delivery) (host.Rendering, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := c.rpc.Render(ctx)
	if err != nil {
		return host.Rendering{}, trouble(err)
	}
	send := func(part *wirepb.ApplyRequest) error { return stream.Send(&wirepb.RenderRequest{Part: part}) }
	if err := request(d, "", send, stream.CloseSend); err != nil {
		return host.Rendering{}, err
	}
	out, err := receiveRendering(stream.Recv)
	return out, trouble(err)
}

// request sends a delivery as a whole request.
func request(d host.Delivery, known string, send func(*wirepb.ApplyRequest) error, end func() error) error {
	err := sendDelivery(d, known, send)
	if err == nil {
		err = end()
	}
	if errors.Is(err, io.EOF) {
		return nil // the host has ended it, and its answer says why
	}
	return trouble(err)
}

// known is the last report of the host, and its Digest; nil: there is none.
func (c *Client) known() (*host.Report, string) {
	last := c.told.last()
	if last == nil {
		return nil, ""
	}
	return last, last.Digest()
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
		// A code that is not known does not tell what runs now.
		if f, ok := detail.(*wirepb.Failure); ok && slices.Contains(codesOfHosts, host.Code(f.GetCode())) {
			return &host.Error{Code: host.Code(f.GetCode()), Message: bounded(f.GetMessage(), textMax)}
		}
	}
	switch st.Code() {
	case codes.Unavailable:
		return fmt.Errorf("%w: %s", ErrLost, bounded(st.Message(), textMax))
	case codes.Canceled:
		return fmt.Errorf("%w: %s", context.Canceled, bounded(st.Message(), textMax))
	case codes.DeadlineExceeded:
		return fmt.Errorf("%w: no answer within the time for it", context.DeadlineExceeded)
	}
	return errors.New(bounded(st.Message(), textMax))
}

var codesOfHosts = []host.Code{
	host.CodeStaleEpoch, host.CodeTermJump, host.CodeOtherCluster, host.CodeBaseMismatch, host.CodeRolledBack, host.CodeMachine,
}

var _ interface {
	host.Host
	host.Observer
	io.Closer
} = (*Client)(nil)
