package render_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/external-lb/external-lb/internal/engine"
	"github.com/external-lb/external-lb/internal/engine/nginx"
	"github.com/external-lb/external-lb/internal/lb"
	"github.com/external-lb/external-lb/test/wait"
)

// onHTTPEngines runs a test for each engine that understands requests.
func onHTTPEngines(t *testing.T, test func(t onEngine)) {
	t.Helper()
	onEngines(t, func(t onEngine) {
		if t.engine.Unsupported("mode=HTTP", lb.TCP) == "" {
			test(t)
		}
	})
}

// startHandler is a node that answers as a handler does.
func startHandler(t testing.TB, answer http.HandlerFunc) string {
	t.Helper()
	server := httptest.NewServer(answer)
	t.Cleanup(server.Close)
	return strings.TrimPrefix(server.URL, "http://")
}

// talk says something to an address, and returns what is answered until the connection is
// closed.
func talk(t testing.TB, to, words string) string {
	t.Helper()
	c := client("").dial(t, "tcp", to)
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(c, words); err != nil {
		t.Fatal(err)
	}
	said, err := io.ReadAll(c)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("the connection stays open after %q", said)
	}
	return string(said)
}

// A WebSocket is handed through; bytes go both ways after the upgrade.
func TestHTTPModeUpgrades(t *testing.T) {
	onHTTPEngines(t, func(t onEngine) {
		at, n := freeAddress(t, "127.1.0.61"), startHandler(t, func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Upgrade") != "websocket" || !strings.EqualFold(r.Header.Get("Connection"), "upgrade") {
				http.Error(w, fmt.Sprint(r.Header), http.StatusBadRequest)
				return
			}
			w.Header().Set("Sec-WebSocket-Accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
			w.Header().Set("Upgrade", "websocket")
			w.Header().Set("Connection", "Upgrade")
			w.WriteHeader(http.StatusSwitchingProtocols)
			c, both, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			line, _ := both.ReadString('\n') // a client that has gone is none of a node's business
			fmt.Fprintf(c, "echo %s", line)
		})
		serve(t, with(tcp(at, n), inHTTP))
		c := client("").dial(t, "tcp", at)
		fmt.Fprintf(c, "GET /chat HTTP/1.1\r\nHost: web.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
		from := bufio.NewReader(c)
		response, err := http.ReadResponse(from, nil)
		if err != nil || response.StatusCode != http.StatusSwitchingProtocols {
			t.Fatalf("%+v, %v", response, err)
		}
		fmt.Fprintf(c, "hello\n")
		if line, err := from.ReadString('\n'); line != "echo hello\n" {
			t.Errorf("%q, %v", line, err)
		}
	})
}

// Behind an upgrade to HTTP/2 a client could say what it likes to a pod.
func TestNginxHandsNoUpgradeToHTTP2Through(t *testing.T) {
	at, n := freeAddress(t, "127.1.0.62"), startWeb(t)
	serve(t, with(tcp(at, n), inHTTP))
	got := talk(t, at, "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings, close\r\nUpgrade: H2C, websocket\r\n\r\n")
	if !strings.HasPrefix(got, "HTTP/1.1 200 ") || strings.Contains(got, "H2C") {
		t.Errorf("answered %q", got)
	}
}

// Who is outside of the ranges gets no answer at all, whatever he says of himself; what
// pods refuse is their own answer.
func TestS28_HTTPModeSourceRanges(t *testing.T) {
	onHTTPEngines(t, func(t onEngine) {
		open, closed := freeAddress(t, "127.1.0.63"), freeAddress(t, "127.1.0.64")
		n := startHandler(t, func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "the pod says no", http.StatusForbidden) })
		serve(t, with(from(tcp(open, n), "127.0.0.0/8"), inHTTP), with(from(tcp(closed, n), "198.51.100.0/24"), inHTTP))
		const words = "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 198.51.100.1\r\nConnection: close\r\n\r\n"
		if got := talk(t, open, words); !strings.Contains(got, " 403 ") || !strings.Contains(got, "the pod says no") {
			t.Errorf("a client inside is answered %q", got)
		}
		if _, got := client("").ask(t, closed, words); got != "" {
			t.Errorf("a client outside is answered %q", got)
		}
	})
}

// The client of a PROXY header is the one that pods are told, and that ranges judge.
func TestHTTPModeAcceptsThePROXYProtocol(t *testing.T) {
	onHTTPEngines(t, func(t onEngine) {
		at := freeAddress(t, "127.1.0.65")
		serve(t, with(accepting(tcp(at, startWeb(t))), inHTTP))
		got := talk(t, at, "PROXY TCP4 192.0.2.9 192.0.2.10 1234 80\r\nGET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
		if !strings.Contains(got, `"X-Forwarded-For":["192.0.2.9"]`) {
			t.Errorf("answered %q", got)
		}
	})
}

// What a pod answers arrives as it is, at once, and what a client sends goes on at once.
func TestHTTPModeStreams(t *testing.T) {
	onHTTPEngines(t, func(t onEngine) {
		at, heard := freeAddress(t, "127.1.0.66"), make(chan string, 1)
		n := startHandler(t, func(w http.ResponseWriter, r *http.Request) {
			first := make([]byte, 5)
			if _, err := io.ReadFull(r.Body, first); err != nil {
				t.Error(err)
			}
			heard <- string(first)
			w.Header().Set("Server", "pod")
			w.Header().Set("Content-Type", "text/plain")
			w.Header().Set("X-Accel-Redirect", "/elsewhere")
			control := http.NewResponseController(w)
			if err := errors.Join(control.EnableFullDuplex(), control.Flush()); err != nil {
				t.Error(err)
			}
			fmt.Fprint(w, "first\n")
			_ = control.Flush()
			_, _ = io.Copy(io.Discard, r.Body) // until the client has gone
		})
		serve(t, with(tcp(at, n), inHTTP))
		body, send := io.Pipe()
		defer send.Close()
		go fmt.Fprint(send, "hello")
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+at+"/", body)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Accept-Encoding", "gzip")
		transport := &http.Transport{}
		defer transport.CloseIdleConnections()
		response, err := transport.RoundTrip(request)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		line, err := bufio.NewReader(response.Body).ReadString('\n')
		if h := response.Header; line != "first\n" || <-heard != "hello" || h.Get("Server") != "pod" || h.Get("Content-Type") != "text/plain" || h.Get("Content-Encoding") != "" {
			t.Errorf("%q, %v, %v", line, err, h)
		}
	})
}

// A request is sent again where it does no harm, and not where it might.
func TestNginxRetriesWhatMayBeSentTwice(t *testing.T) {
	var asked atomic.Int32
	broken := startHandler(t, func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		panic(http.ErrAbortHandler) // which closes the connection
	})
	at, good := freeAddress(t, "127.1.0.67"), startWeb(t)
	serve(t, with(tcp(at, broken, good), func(s *lb.Settings) { s.Mode, s.HealthCheck.Type = lb.ModeHTTP, lb.CheckNone }))
	codes := map[string]map[int]int{}
	for _, method := range []string{http.MethodGet, http.MethodPost} {
		codes[method] = map[int]int{}
		for range 4 {
			request, err := http.NewRequestWithContext(t.Context(), method, "http://"+at+"/", strings.NewReader(""))
			if err != nil {
				t.Fatal(err)
			}
			response, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(request)
			if err != nil {
				t.Fatal(err)
			}
			response.Body.Close()
			codes[method][response.StatusCode]++
		}
	}
	if codes[http.MethodGet][200] != 4 || codes[http.MethodPost][502] == 0 || codes[http.MethodPost][200] == 0 || asked.Load() == 0 {
		t.Errorf("answered %v", codes)
	}
}

// A port changes its mode while it carries, with limits whose zones have other keepers then.
func TestNginxChangesTheMode(t *testing.T) {
	at, n := freeAddress(t, "127.1.0.68"), startWeb(t)
	limited := with(tcp(at, n), func(s *lb.Settings) { s.MaxConnections, s.MaxConnectionsPerClient = 100, 100 })
	d := serve(t, limited)
	forwards := func() bool {
		return strings.Contains(talk(t, at, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"), "X-Forwarded-For")
	}
	for _, f := range []engine.Frontend{with(limited, inHTTP), limited} {
		d.reload(t, f)
		wait.True(t, "the mode is "+string(f.Settings.Mode), func() bool { return forwards() == (f.Settings.Mode == lb.ModeHTTP) })
	}
}

// Of the PROXY protocol towards nodes nginx has nothing with HTTP.
func TestNginxRefusesPROXYInHTTPMode(t *testing.T) {
	s := service(t, "web", with(tcp("192.0.2.1:80"), func(s *lb.Settings) { s.Mode, s.SendProxy = lb.ModeHTTP, lb.ProxyV1 }))
	if _, err := nginx.Engine.View(s); err == nil || !strings.Contains(err.Error(), "X-Forwarded-For") {
		t.Errorf("error %v", err)
	}
	s = service(t, "web", with(udp("192.0.2.1:80"), inHTTP))
	if _, err := nginx.Engine.View(s); err == nil || !strings.Contains(err.Error(), "HTTP is spoken over TCP") {
		t.Errorf("error %v", err)
	}
}

// Requests are sent to HTTPS, by those who may connect, and bodies are bounded.
func TestHTTPModeRedirectsAndLimits(t *testing.T) {
	onHTTPEngines(t, func(t onEngine) {
		redirects, closed, bounded := freeAddress(t, "127.1.0.71"), freeAddress(t, "127.1.0.72"), freeAddress(t, "127.1.0.73")
		n, redirect := startWeb(t), func(s *lb.Settings) { s.Mode, s.RedirectToHTTPS = lb.ModeHTTP, true }
		serve(t, with(tcp(redirects, n), redirect), with(from(tcp(closed, n), "198.51.100.0/24"), redirect),
			with(tcp(bounded, n), func(s *lb.Settings) { s.Mode, s.MaxBodyBytes = lb.ModeHTTP, 10 }))
		got := talk(t, redirects, "GET /a%20b?c=d HTTP/1.1\r\nHost: web.example:8080\r\nConnection: close\r\n\r\n")
		if !strings.Contains(got, " 308 ") || !strings.Contains(strings.ToLower(got), "\r\nlocation: https://web.example/a%20b?c=d\r\n") {
			t.Errorf("a redirect is %q", got)
		}
		if _, got := client("").ask(t, closed, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"); got != "" {
			t.Errorf("a client outside is answered %q", got)
		}
		for length, want := range map[int]string{10: " 200 ", 11: " 413 "} {
			got := talk(t, bounded, fmt.Sprintf("POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s", length, strings.Repeat("x", length)))
			if !strings.Contains(got, want) {
				t.Errorf("a body of %d bytes is answered %q", length, got)
			}
		}
	})
}

// Headers are as long as is said, more or less than what the engine has built in.
func TestHTTPModeBoundsHeaders(t *testing.T) {
	onHTTPEngines(t, func(t onEngine) {
		n, at := startWeb(t), map[int32]string{}
		var all []engine.Frontend
		for i, most := range []int32{0, 2 << 10, 12 << 10} {
			at[most] = freeAddress(t, fmt.Sprintf("127.1.0.%d", 88+i))
			all = append(all, with(tcp(at[most], n), func(s *lb.Settings) { s.Mode, s.MaxHeaderBytes = lb.ModeHTTP, most }))
		}
		serve(t, all...)
		for _, one := range []struct {
			most   int32
			length int
			want   string
		}{{0, 7 << 10, " 200 "}, {2 << 10, 1 << 10, " 200 "}, {2 << 10, 3 << 10, " 400 "}, {12 << 10, 11 << 10, " 200 "}, {12 << 10, 14 << 10, " 400 "}} {
			got := talk(t, at[one.most], fmt.Sprintf("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nToken: %s\r\n\r\n", strings.Repeat("x", one.length)))
			if !strings.Contains(got, one.want) {
				t.Errorf("a header of %d bytes is answered %.40q where %d may be sent", one.length, got, one.most)
			}
		}
	})
}

// Each side may be silent for as long as is said for it.
func TestHTTPModeTimeoutsApart(t *testing.T) {
	onHTTPEngines(t, func(t onEngine) {
		patient, hasty := freeAddress(t, "127.1.0.74"), freeAddress(t, "127.1.0.75")
		n := startHandler(t, func(_ http.ResponseWriter, r *http.Request) {
			select {
			case <-time.After(1500 * time.Millisecond): // an answer that comes late is what is tested
			case <-r.Context().Done():
			}
		})
		serve(t, with(tcp(patient, n), func(s *lb.Settings) { s.Mode, s.ClientTimeout = lb.ModeHTTP, time.Second }),
			with(tcp(hasty, n), func(s *lb.Settings) { s.Mode, s.ServerTimeout, s.Retries = lb.ModeHTTP, time.Second, 0 }))
		for at, want := range map[string]string{patient: " 200 ", hasty: " 504 "} {
			if got := talk(t, at, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"); !strings.Contains(got, want) {
				t.Errorf("answered %q, want%s", got, want)
			}
		}
		if got := talk(t, patient, "GET / HTTP/1.1\r\nHost: a\r\n\r\n"); !strings.Contains(got, " 200 ") { // and closes
			t.Errorf("answered %q", got)
		}
	})
}

// A client that comes too often is refused, others are not.
func TestTheRateOfEachClientIsLimited(t *testing.T) {
	onHTTPEngines(t, func(t onEngine) {
		at, n := freeAddress(t, "127.1.0.76"), startWeb(t)
		serve(t, with(tcp(at, n), func(s *lb.Settings) { s.Mode, s.MaxRatePerClient = lb.ModeHTTP, 1 }))
		asks := func(from client) bool {
			_, got := from.ask(t, at, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
			return strings.Contains(got, " 200 ")
		}
		if !asks("127.0.1.1") {
			t.Error("the first request is refused")
		}
		wait.True(t, "a request too many is refused", func() bool { return !asks("127.0.1.1") })
		if !asks("127.0.1.2") {
			t.Error("another client is refused")
		}
	})
}

func inH2C(s *lb.Settings) { s.Mode, s.H2C = lb.ModeHTTP, true }

// Pods that speak HTTP/2 in plain text get it, with trailers, as gRPC has them.
func TestHTTPModeSpeaksHTTP2ToNodes(t *testing.T) {
	onHTTPEngines(t, func(t onEngine) {
		open, closed := freeAddress(t, "127.1.0.69"), freeAddress(t, "127.1.0.70")
		node := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Trailer", "Grpc-Status")
			w.Header().Set("Content-Type", "application/grpc")
			said, err := io.ReadAll(r.Body)
			if err != nil {
				t.Error(err)
			}
			fmt.Fprintf(w, "%s %q %s %s %s", r.Proto, said, r.Host, forwardedFor(r.Header), r.Header.Get("X-Forwarded-Proto"))
			w.Header().Set("Grpc-Status", "0")
		}))
		node.Config.Protocols = new(http.Protocols)
		node.Config.Protocols.SetUnencryptedHTTP2(true)
		node.Start()
		t.Cleanup(node.Close)
		n := strings.TrimPrefix(node.URL, "http://")
		serve(t, with(tcp(open, n), inH2C), terminating(t, with(tcp(closed, n), inH2C)))
		plain := &http.Transport{Protocols: new(http.Protocols)}
		plain.Protocols.SetUnencryptedHTTP2(true)
		overTLS := &http.Transport{TLSClientConfig: trusting(t, "web.example"), ForceAttemptHTTP2: true}
		for url, transport := range map[string]*http.Transport{"http://" + open: plain, "https://" + closed: overTLS} {
			defer transport.CloseIdleConnections()
			request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+"/a.B/C", strings.NewReader("hello"))
			if err != nil {
				t.Fatal(err)
			}
			request.Header.Set("Te", "trailers")
			response, err := transport.RoundTrip(request)
			if err != nil {
				t.Fatal(err)
			}
			scheme, host, _ := strings.Cut(url, "://")
			text, err := io.ReadAll(response.Body)
			response.Body.Close()
			if want := fmt.Sprintf("HTTP/2.0 %q %s [127.0.0.1] %s", "hello", host, scheme); err != nil || string(text) != want || response.Trailer.Get("Grpc-Status") != "0" {
				t.Errorf("%s answers %q with %v, %v; want %q", url, text, response.Trailer, err, want)
			}
		}
	})
}
