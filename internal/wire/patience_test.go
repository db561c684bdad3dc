package wire

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/external-lb/external-lb/internal/host"
	"github.com/external-lb/external-lb/internal/lb"
	"github.com/external-lb/external-lb/internal/wire/wirepb"
)

// quick answers at once.
type quick struct{ report host.Report }

func (q quick) Status(context.Context) (host.Status, error) {
	return host.Status{Report: q.report}, nil
}
func (q quick) Apply(context.Context, host.Delivery) (host.Outcome, error) {
	return host.Outcome{Report: q.report}, nil
}
func (q quick) Render(context.Context, host.Delivery) (host.Rendering, error) {
	return host.Rendering{}, nil
}

// pipes is a listener to whom connections are given.
type pipes struct {
	arrive chan net.Conn
	done   chan struct{}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.arrive:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}
func (p *pipes) Close() error   { close(p.done); return nil }
func (p *pipes) Addr() net.Addr { return streamAddr{} }

// dial waits for a place.
func (p *pipes) dial() net.Conn {
	ours, theirs := net.Pipe()
	p.arrive <- theirs
	return ours
}

// serving runs a test against an agent, in time that passes when all wait.
func serving(t *testing.T, h host.Host, do func(t *testing.T, p *pipes)) {
	synctest.Test(t, func(t *testing.T) {
		p := &pipes{make(chan net.Conn), make(chan struct{})}
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		go func() { ended <- Listen(ctx, p, h) }()
		do(t, p)
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

func connected(t *testing.T, p *pipes) *Client {
	t.Helper()
	c, err := NewClient(t.Context(), p.dial())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// Whoever holds every place without saying what he wants loses them.
func TestPeersThatSayNoHelloLeaveTheirPlaces(t *testing.T) {
	for name, say := range map[string]string{"nothing": "", "a part": "external-lb-host", "other things": strings.Repeat("GET / HTTP/1.1\r\n", 100)} {
		t.Run(name, func(t *testing.T) {
			serving(t, quick{}, func(t *testing.T, p *pipes) {
				for range maxConns {
					c := p.dial()
					defer c.Close()
					go func() {
						go io.Copy(io.Discard, c)
						_, _ = io.WriteString(c, say) // the agent reads as much of it as it wants
					}()
				}
				began := time.Now()
				c := connected(t, p)
				defer c.Close()
				if _, err := c.Status(t.Context()); err != nil {
					t.Error(err)
				}
				if waited := time.Since(began); waited > helloWait {
					t.Errorf("waited %s for a place", waited)
				}
			})
		})
	}
}

func TestPeersThatAskNothingLeaveTheirPlaces(t *testing.T) {
	serving(t, quick{}, func(t *testing.T, p *pipes) {
		for range maxConns {
			defer connected(t, p).Close()
		}
		began := time.Now()
		defer connected(t, p).Close()
		if waited := time.Since(began); waited > 2*idleWait {
			t.Errorf("waited %s for a place", waited)
		}
	})
}

func TestADeliveryThatDoesNotArriveIsNotWaitedFor(t *testing.T) {
	serving(t, quick{}, func(t *testing.T, p *pipes) {
		c := connected(t, p)
		defer c.Close()
		stream, err := c.rpc.Apply(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		nothing := string(lb.NewSet().Digest())
		header := &wirepb.DeliveryHeader{Base: nothing, Want: nothing}
		if err := stream.Send(&wirepb.ApplyRequest{Part: &wirepb.ApplyRequest_Header{Header: header}}); err != nil {
			t.Fatal(err)
		}
		sent, began := 0, time.Now()
		for ; err == nil; sent++ { // a little now and then
			item := &wirepb.Item{Key: fmt.Sprintf("node/%06d", sent)}
			err = stream.Send(&wirepb.ApplyRequest{Part: &wirepb.ApplyRequest_Put{Put: &wirepb.Items{Items: []*wirepb.Item{item}}}})
			time.Sleep(time.Second)
			if time.Since(began) > arriveWait+pingAfter+pingWait {
				t.Fatalf("the agent still waits after %d items", sent)
			}
		}
		if waited := time.Since(began); waited < arriveWait {
			t.Errorf("the agent waited only %s, for %d items", waited, sent)
		}
		var answer wirepb.ApplyResponse
		if err := stream.RecvMsg(&answer); status.Code(err) != codes.Unavailable { // a connection that has gone, and no word against what was sent
			t.Errorf("the delivery ended with %v", err)
		}
	})
}

func TestAnAnswerThatIsNotTakenIsNotWaitedFor(t *testing.T) {
	wanted := lb.Sums{}
	for i := range 5000 {
		wanted[lb.Key(fmt.Sprintf("node/%0200d", i))] = lb.Sum{}
	}
	serving(t, quick{host.Report{Wanted: wanted.Manifest()}}, func(t *testing.T, p *pipes) {
		c := connected(t, p)
		defer c.Close()
		if _, err := c.rpc.Status(t.Context(), &wirepb.StatusRequest{}); err != nil {
			t.Fatal(err)
		}
		select {
		case <-c.Done():
		case <-time.After(takeWait + pingAfter + pingWait):
			t.Error("the agent still waits")
		}
	})
}

// What peers send together is bounded, and given back.
func TestAllDeliveriesShareOneRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		shared := &room{taken: roomMax - 1000}
		ours, theirs := net.Pipe()
		served := make(chan error, 1)
		go func() { served <- serveOne(context.Background(), theirs, quick{}, shared) }()
		c, err := NewClient(t.Context(), ours)
		if err != nil {
			t.Fatal(err)
		}
		deliver := func(bytes int) error {
			digest := lb.NewSet().Digest()
			d := host.Delivery{Base: digest, Want: digest, Change: lb.Change{Put: []lb.Item{lb.NewItem("node/a", make([]byte, bytes))}}}
			if _, err := c.Apply(t.Context(), d); err != nil {
				return err
			}
			_, err := c.Render(t.Context(), d)
			return err
		}
		for range 3 {
			if err := deliver(1001); err == nil || !strings.Contains(err.Error(), "try again") {
				t.Errorf("more than there is room for: %v", err)
			}
			if err := deliver(800); err != nil {
				t.Error(err)
			}
		}
		c.Close()
		<-served
		rendered := host.Rendering{Files: []host.RenderedFile{{Path: "a", Data: make([]byte, 2000)}}}
		if err := (&server{room: shared}).show(rendered, nil); err == nil || !strings.Contains(err.Error(), "try again") {
			t.Errorf("a rendering for which there is no room: %v", err)
		}
		if shared.taken != roomMax-1000 {
			t.Errorf("%d bytes were not given back", shared.taken-roomMax+1000)
		}
	})
}

// A delivery of which only a part came is none, wherever it was cut.
func TestACutDeliveryIsNone(t *testing.T) {
	applied := make(chan struct{}, 1)
	h := counted{quick{}, applied}
	digest := lb.NewSet().Digest()
	d := host.Delivery{Base: digest, Want: digest, Change: lb.Change{Put: []lb.Item{lb.NewItem("node/a", make([]byte, 3*chunkSize))}}}
	for cut := 300; cut < 3*chunkSize; cut = cut*2 + 1 {
		synctest.Test(t, func(t *testing.T) {
			ours, theirs := net.Pipe()
			served := make(chan error, 1)
			go func() { served <- serveOne(context.Background(), theirs, h, &room{}) }()
			c, err := NewClient(t.Context(), &cutAfter{ours, cut})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := c.Apply(t.Context(), d); err == nil {
				t.Errorf("cut after %d bytes: no error", cut)
			}
			c.Close()
			<-served
		})
	}
	if len(applied) > 0 {
		t.Error("a part of a delivery was applied")
	}
}

type counted struct {
	quick
	applied chan struct{}
}

func (c counted) Apply(ctx context.Context, d host.Delivery) (host.Outcome, error) {
	c.applied <- struct{}{}
	return c.quick.Apply(ctx, d)
}

// cutAfter is a connection that ends when so many bytes were written to it.
type cutAfter struct {
	net.Conn
	left int
}

func (c *cutAfter) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p[:min(c.left, len(p))])
	if c.left -= n; err == nil && n < len(p) {
		c.Conn.Close()
		err = errors.New("cut")
	}
	return n, err
}

// Parts of a delivery that are not in the protocol, as that of a file once, end it.
func TestPartsOfOtherProtocols(t *testing.T) {
	for number := protowire.Number(5); number < 40; number++ {
		m := &wirepb.ApplyRequest{}
		m.ProtoReflect().SetUnknown(protowire.AppendBytes(protowire.AppendTag(nil, number, protowire.BytesType), []byte("include /root/*;")))
		if err := (&receiver{more: plenty}).part(m); err == nil {
			t.Errorf("a part %d is taken", number)
		}
	}
}

// Whoever speaks another version of the protocol is not heard.
func TestOtherProtocolsAreNotSpoken(t *testing.T) {
	for _, hello := range []string{"external-lb-host 1 v0.1\n", "external-lb-host 4 v0.3\n", "external-lb-host 6 v9\n", "external-lb-host 0 x\n", "external-lb-host -3 x\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"} {
		ours, theirs := net.Pipe()
		served := make(chan error, 1)
		go func() { served <- Serve(context.Background(), theirs, quick{}) }()
		if _, err := readHello(ours); err != nil {
			t.Fatal(err)
		}
		go io.WriteString(ours, hello) // as much as the agent reads
		if err := <-served; err == nil {
			t.Errorf("%q is served", hello)
		}
		ours.Close()
	}
}

// The longest words of a host fit around the messages, and what a hostile one says in
// the place of an answer is no longer than that.
func TestWordsOfErrors(t *testing.T) {
	for _, words := range []string{strings.Repeat("ä", textMax), strings.Repeat("\n", textMax), strings.Repeat("%", textMax)} {
		ours, theirs := net.Pipe()
		served := make(chan error, 1)
		go func() { served <- Serve(context.Background(), theirs, refuses(words)) }()
		c, err := NewClient(t.Context(), ours)
		if err != nil {
			t.Fatal(err)
		}
		_, err = c.Status(t.Context())
		if told, ok := errors.AsType[*host.Error](err); !ok || told.Code != host.CodeMachine || told.Message != bounded(words, textMax) {
			t.Errorf("%.300v", err)
		}
		c.Close()
		<-served
	}
	for _, code := range []codes.Code{codes.Unavailable, codes.Canceled, codes.DeadlineExceeded, codes.Internal, codes.OK + 99} {
		if err := trouble(status.Error(code, strings.Repeat("x\x1b[2J", textMax))); len(err.Error()) > textMax+100 || strings.Contains(err.Error(), "\x1b") {
			t.Errorf("%s: %d bytes: %.100q", code, len(err.Error()), err)
		}
	}
}

// refuses everything in some words.
type refuses string

func (r refuses) err() error                                  { return &host.Error{Code: host.CodeMachine, Message: string(r)} }
func (r refuses) Status(context.Context) (host.Status, error) { return host.Status{}, r.err() }
func (r refuses) Apply(context.Context, host.Delivery) (host.Outcome, error) {
	return host.Outcome{}, r.err()
}
func (r refuses) Render(context.Context, host.Delivery) (host.Rendering, error) {
	return host.Rendering{}, r.err()
}
