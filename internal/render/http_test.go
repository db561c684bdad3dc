package render_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"slices"
	"strings"
	"testing"

	"github.com/external-lb/external-lb/internal/lb"
)

func inHTTP(s *lb.Settings) { s.Mode = lb.ModeHTTP }

// startWeb is a node that answers with the header of each request.
func startWeb(t testing.TB) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Header.Set("Node", r.Context().Value(http.LocalAddrContextKey).(interface{ String() string }).String())
		if err := json.NewEncoder(w).Encode(r.Header); err != nil {
			t.Log(err) // the client has gone
		}
	}))
	t.Cleanup(server.Close)
	return strings.TrimPrefix(server.URL, "http://")
}

// forwardedFor are the addresses in one header or in several.
func forwardedFor(header http.Header) []string {
	return strings.Split(strings.Join(header.Values("X-Forwarded-For"), ", "), ", ")
}

// With mode HTTP each request finds its node, over a connection that is kept.
func TestHTTPMode(t *testing.T) {
	onEngines(t, func(t onEngine) {
		if t.engine.Unsupported("mode=HTTP", lb.TCP) != "" {
			return // which the table of capabilities tells its users
		}
		at, nodes := freeAddress(t, "127.1.0.60"), []string{startWeb(t), startWeb(t)}
		serve(t, with(tcp(at, nodes...), inHTTP))
		connections, reached := 0, []string{}
		trace := &httptrace.ClientTrace{GotConn: func(info httptrace.GotConnInfo) {
			if !info.Reused {
				connections++
			}
		}}
		transport := &http.Transport{}
		defer transport.CloseIdleConnections()
		for range 4 {
			request, err := http.NewRequestWithContext(httptrace.WithClientTrace(t.Context(), trace), http.MethodGet, "http://"+at+"/", nil)
			if err != nil {
				t.Fatal(err)
			}
			request.Header.Set("X-Forwarded-For", "192.0.2.66")
			request.Header.Set("X-Forwarded-Proto", "gopher")
			request.Header.Set("X-Forwarded-Host", "elsewhere.example")
			response, err := transport.RoundTrip(request)
			if err != nil {
				t.Fatal(err)
			}
			text, err := io.ReadAll(response.Body)
			response.Body.Close()
			var header http.Header
			if err != nil || json.Unmarshal(text, &header) != nil {
				t.Fatalf("%s, %v", text, err)
			}
			if got := forwardedFor(header); len(got) == 0 || got[len(got)-1] != "127.0.0.1" {
				t.Errorf("X-Forwarded-For %q: the last must be the client", got)
			}
			if proto, host := header.Get("X-Forwarded-Proto"), header.Get("X-Forwarded-Host"); proto != "http" || host != at {
				t.Errorf("X-Forwarded-Proto %q, X-Forwarded-Host %q", proto, host)
			}
			reached = append(reached, header.Get("Node"))
		}
		if connections != 1 {
			t.Errorf("%d connections for 4 requests", connections)
		}
		slices.Sort(reached)
		if reached = slices.Compact(reached); len(reached) != 2 {
			t.Errorf("reached %q, want both nodes", reached)
		}
	})
}
