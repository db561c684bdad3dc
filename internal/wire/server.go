package wire

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"

	"github.com/external-lb/external-lb/internal/host"
	"github.com/external-lb/external-lb/internal/wire/wirepb"
)

// A peer that answers nothing for pingAfter plus pingWait is gone.
const (
	pingAfter = 5 * time.Second
	pingWait  = 5 * time.Second
)

// Serve is the host's end of a stream: it returns when the stream has ended or
// ctx is done, and what the host was doing for the other end has returned. It
// closes rw. An error says that the two ends did not understand each other.
func Serve(ctx context.Context, rw io.ReadWriteCloser, h host.Host) error {
	c := newConn(rw)
	defer c.Close()
	defer context.AfterFunc(ctx, func() { c.Close() })()
	if err := answerHello(c); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	return serve(c, h)
}

// answerHello exchanges hellos from the host's end, which speaks first.
func answerHello(c *conn) error {
	mine := ours()
	if _, err := io.WriteString(c, mine.line()); err != nil {
		return fmt.Errorf("the other end has gone: %w", err)
	}
	theirs, err := readHello(c)
	if err != nil {
		return err
	}
	if theirs.Protocol != mine.Protocol {
		return fmt.Errorf("the controller runs external-lb %s, protocol %d; this host %s, protocol %d: update the older of the two",
			theirs.Version, theirs.Protocol, mine.Version, mine.Protocol)
	}
	return nil
}

func serve(c *conn, h host.Host) error {
	srv := grpc.NewServer(
		grpc.WaitForHandlers(true),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: pingAfter, Timeout: pingWait}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: time.Second, PermitWithoutStream: true}),
	)
	wirepb.RegisterHostServiceServer(srv, &server{host: h})
	go func() {
		<-c.done
		srv.Stop()
	}()
	err := srv.Serve(newOnce(c))
	srv.Stop() // waits for the handlers, whoever stopped first
	if errors.Is(err, grpc.ErrServerStopped) {
		return nil
	}
	return err
}

type server struct {
	wirepb.UnimplementedHostServiceServer
	host host.Host
}

func (s *server) Status(_ *wirepb.StatusRequest, stream grpc.ServerStreamingServer[wirepb.StatusResponse]) error {
	st, err := s.host.Status(stream.Context())
	if err != nil {
		return failure(err)
	}
	return sendStatus(st, stream.Send)
}

func (s *server) Apply(stream grpc.BidiStreamingServer[wirepb.ApplyRequest, wirepb.ApplyResponse]) error {
	d, err := receiveDelivery(stream.Recv)
	if err != nil {
		return err
	}
	out, err := s.host.Apply(stream.Context(), d)
	if err != nil {
		return failure(err)
	}
	return sendOutcome(out, stream.Send)
}

// failure carries a *host.Error as a detail of a gRPC status.
func failure(err error) error {
	var he *host.Error
	if !errors.As(err, &he) {
		return status.Error(codes.Unknown, bounded(err.Error()))
	}
	message := bounded(he.Message)
	st, detailErr := status.New(codes.FailedPrecondition, message).
		WithDetails(&wirepb.Failure{Code: string(he.Code), Message: message})
	if detailErr != nil {
		return status.Error(codes.Unknown, message)
	}
	return st.Err()
}
