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
	pingWait  = 30 * time.Second // an overloaded machine is not gone; over SSH the controller knows sooner
)

// callsMax is how many calls of one peer are served at a time: it makes one, and asks
// what the daemons see beside it.
const callsMax = 2

// Serve is the host's end of a stream: it returns when the stream has ended or
// ctx is done, and what the host was doing for the other end has returned. It
// closes rw. An error says that the two ends did not understand each other.
func Serve(ctx context.Context, rw io.ReadWriteCloser, h host.Host) error {
	return serveOne(ctx, rw, h, &room{})
}

func serveOne(ctx context.Context, rw io.ReadWriteCloser, h host.Host, r *room) error {
	c := newConn(rw)
	defer c.Close()
	defer context.AfterFunc(ctx, func() { c.Close() })()
	defer r.enter()()
	late := time.AfterFunc(helloWait, func() { c.Close() })
	err := answerHello(c, h)
	if !late.Stop() && err == nil {
		err = errors.New("the other end did not say hello in time")
	}
	if err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	return serve(c, &server{host: h, conn: c, room: r})
}

// answerHello exchanges hellos from the host's end, which speaks first.
func answerHello(c *conn, h host.Host) error {
	mine := ours()
	if a, ok := h.(interface{ Identity() string }); ok {
		mine.Agent = a.Identity()
	}
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

func serve(c *conn, s *server) error {
	quiet := &idle{room: s.room, close: func() { c.Close() }}
	quiet.start()
	defer quiet.stop()
	srv := grpc.NewServer(
		grpc.WaitForHandlers(true),
		grpc.MaxRecvMsgSize(messageMax),
		grpc.MaxHeaderListSize(headersMax),
		grpc.MaxConcurrentStreams(callsMax),
		grpc.StreamInterceptor(func(srv any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handle grpc.StreamHandler) error {
			defer quiet.call()()
			return handle(srv, stream)
		}),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: pingAfter, Timeout: pingWait}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: time.Second, PermitWithoutStream: true}),
	)
	wirepb.RegisterHostServiceServer(srv, s)
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
	conn *conn
	room *room
	told told
}

// within ends the connection of a peer that takes too long for what is asked of it.
func (s *server) within(limit time.Duration, do func() error) error {
	late := time.AfterFunc(limit, func() { s.conn.Close() })
	defer late.Stop()
	return do()
}

func (s *server) Status(req *wirepb.StatusRequest, stream grpc.ServerStreamingServer[wirepb.StatusResponse]) error {
	asked := time.Now()
	st, err := s.host.Status(stream.Context())
	if err == nil {
		err = st.Tells(req.GetCluster())
	}
	if err != nil {
		return failure(err)
	}
	st.Refused = legible(st.Refused)
	st.Clock = host.Clock{Asked: asked, Answered: time.Now()} // it may take long to look
	err = s.within(takeWait, func() error { return sendStatus(st, s.told.known(req.GetKnown()), stream.Send) })
	s.told.keep(st.Report)
	return err
}

func (s *server) Apply(stream grpc.BidiStreamingServer[wirepb.ApplyRequest, wirepb.ApplyResponse]) error {
	var out host.Outcome
	known, err := s.deliver(stream.Recv, func(d host.Delivery) (err error) {
		out, err = s.host.Apply(stream.Context(), d)
		return err
	})
	if err != nil {
		return err
	}
	out.Refused = legible(out.Refused)
	err = s.within(takeWait, func() error { return sendOutcome(out, s.told.known(known), stream.Send) })
	s.told.keep(out.Report)
	return err
}

func (s *server) Render(stream grpc.BidiStreamingServer[wirepb.RenderRequest, wirepb.RenderResponse]) error {
	var out host.Rendering
	recv := func() (*wirepb.ApplyRequest, error) {
		m, err := stream.Recv()
		return m.GetPart(), err
	}
	_, err := s.deliver(recv, func(d host.Delivery) (err error) {
		out, err = s.host.Render(stream.Context(), d)
		return err
	})
	if err != nil {
		return err
	}
	return s.show(out, stream.Send)
}

// show sends a rendering for which there is room.
func (s *server) show(out host.Rendering, send func(*wirepb.RenderResponse) error) error {
	shown := share{of: s.room}
	defer shown.release()
	for _, f := range out.Files {
		if err := shown.grow(len(f.Data)); err != nil {
			return err
		}
	}
	return s.within(takeWait, func() error { return sendRendering(out, send) })
}

// deliver gives the host a delivery that arrives in time, and for which there is room.
func (s *server) deliver(recv func() (*wirepb.ApplyRequest, error), do func(host.Delivery) error) (known string, err error) {
	share := share{of: s.room}
	defer share.release()
	var d host.Delivery
	err = s.within(arriveWait, func() (err error) {
		d, known, err = receiveDelivery(recv, share.grow)
		return err
	})
	if err != nil {
		return "", err
	}
	if err := do(d); err != nil {
		return "", failure(err)
	}
	return known, nil
}

// failure carries a *host.Error as a detail of a gRPC status.
func failure(err error) error {
	var he *host.Error
	if !errors.As(err, &he) {
		return status.Error(codes.Unknown, bounded(err.Error(), textMax))
	}
	message := bounded(he.Message, textMax)
	st, detailErr := status.New(codes.FailedPrecondition, message).
		WithDetails(&wirepb.Failure{Code: string(he.Code), Message: message})
	if detailErr != nil {
		return status.Error(codes.Unknown, message)
	}
	return st.Err()
}
