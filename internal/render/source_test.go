package render_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/external-lb/external-lb/internal/engine"
	"github.com/external-lb/external-lb/internal/lb"
)

// Nodes are connected to from the address that is said, whatever is spoken to them.
func TestNodesSeeTheSourceAddress(t *testing.T) {
	onEngines(t, func(t onEngine) {
		const want = " from 127.1.0.99:"
		from := func(f engine.Frontend, mode func(*lb.Settings)) engine.Frontend {
			return with(f, func(s *lb.Settings) {
				mode(s)
				s.Source.IPv4 = netip.MustParsePrefix("127.1.0.99/32")
			})
		}
		asIs := func(*lb.Settings) {}
		node := startPeerTeller(t)
		bytes, requests, streams, own := freeAddress(t, "127.1.0.90"), freeAddress(t, "127.1.0.91"), freeAddress(t, "127.1.0.92"), freeAddress(t, "127.1.0.93")
		frontends := []engine.Frontend{from(tcp(bytes, node), asIs), from(tcp(requests, node), inHTTP), from(tcp(streams, node), inH2C), tcp(own, node)}
		udpAt := freeAddress(t, "127.1.0.94")
		if t.engine.Carries(lb.UDP) {
			frontends = append(frontends, from(udp(udpAt, startUDPPeerTeller(t)), asIs))
		}
		serve(t, frontends...)
		for at, speaks := range map[string]string{bytes: "HTTP/1.1", requests: "HTTP/1.1", streams: "HTTP/2.0"} {
			if got := requestTo(t, at, speaks == "HTTP/2.0"); !strings.Contains(got, speaks+want) {
				t.Errorf("%s answered %q, want %s%s", at, got, speaks, want)
			}
		}
		if got := requestTo(t, own, false); !strings.Contains(got, " from 127.0.0.1:") {
			t.Errorf("where nothing is said: answered %q", got)
		}
		if t.engine.Carries(lb.UDP) {
			c := client("").dial(t, "udp", udpAt)
			buffer := make([]byte, 100)
			_, err := io.WriteString(c, "hello")
			if err == nil {
				err = c.SetDeadline(time.Now().Add(patience))
			}
			n, readErr := c.Read(buffer)
			if got := string(buffer[:n]); err != nil || readErr != nil || !strings.Contains(got, want) {
				t.Errorf("over UDP answered %q: %v, %v", got, err, readErr)
			}
		}
	})
}

// startPeerTeller answers requests, also in HTTP/2 in plain text, with what it sees of who asks.
func startPeerTeller(t testing.TB) string {
	t.Helper()
	node := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s from %s", r.Proto, r.RemoteAddr)
	}))
	node.Config.Protocols = new(http.Protocols)
	node.Config.Protocols.SetHTTP1(true)
	node.Config.Protocols.SetUnencryptedHTTP2(true)
	node.Start()
	t.Cleanup(node.Close)
	return strings.TrimPrefix(node.URL, "http://")
}

func startUDPPeerTeller(t testing.TB) string {
	t.Helper()
	p, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		buffer := make([]byte, 100)
		for {
			_, peer, err := p.ReadFrom(buffer)
			if err != nil {
				return
			}
			_, _ = p.WriteTo([]byte("it is from "+peer.String()), peer) // a client that gets nothing says so
		}
	}()
	t.Cleanup(func() {
		p.Close()
		<-ended
	})
	return p.LocalAddr().String()
}

// requestTo is what a request is answered with.
func requestTo(t testing.TB, at string, http2 bool) string {
	t.Helper()
	transport := &http.Transport{Protocols: new(http.Protocols)}
	transport.Protocols.SetHTTP1(!http2)
	transport.Protocols.SetUnencryptedHTTP2(http2)
	defer transport.CloseIdleConnections()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+at+"/", nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := transport.RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
