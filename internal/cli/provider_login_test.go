package cli

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/external-lb/external-lb/provider"
)

// Whoever cannot log in yet says so, in its log and to each request, and goes on without a new start when it is let in.
func TestProvider_OutlivesACloudThatIsAwayAtItsStart(t *testing.T) {
	var status atomic.Int32
	mux := http.NewServeMux()
	cloud := httptest.NewServer(mux)
	t.Cleanup(cloud.Close)
	mux.HandleFunc("POST /v3/auth/tokens", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Subject-Token", "a token")
		w.WriteHeader(int(status.Load()))
		_ = json.NewEncoder(w).Encode(map[string]any{"token": map[string]any{"expires_at": "2126-01-01T00:00:00.000000Z", "catalog": []any{
			map[string]any{"type": "load-balancer", "endpoints": []any{map[string]string{"interface": "public", "url": cloud.URL}}}}}})
	})
	mux.HandleFunc("GET /v2.0/lbaas/loadbalancers", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"loadbalancers": []}`)
	})
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		links := []any{map[string]string{"rel": "self", "href": cloud.URL + "/v2"}}
		_ = json.NewEncoder(w).Encode(map[string]any{"versions": []any{map[string]any{"id": "v2.26", "status": "CURRENT", "links": links}}})
	})
	for _, of := range os.Environ() {
		if name, _, _ := strings.Cut(of, "="); strings.HasPrefix(name, "OS_") {
			t.Setenv(name, "")
		}
	}
	t.Setenv("OS_APPLICATION_CREDENTIAL_ID", "an-id")
	t.Setenv("OS_APPLICATION_CREDENTIAL_SECRET", "s3cret")
	t.Setenv("OS_AUTH_URL", cloud.URL+"/v3")
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("a token\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for what, first := range map[string]int32{"away": http.StatusBadGateway, "wrong credentials": http.StatusUnauthorized} {
		t.Run(what, func(t *testing.T) {
			status.Store(first)
			ctx, stop := context.WithCancel(t.Context())
			said, out := io.Pipe()
			ended := make(chan int, 1)
			go func() {
				args := []string{"external-lb", "provider", "openstack", "--listen", "127.0.0.1:0", "--token-file", token, "--subnet", "s"}
				code := Main(ctx, args, strings.NewReader(""), out, out)
				out.Close()
				ended <- code
			}()
			t.Cleanup(func() {
				stop()
				go func() { _, _ = io.Copy(io.Discard, said) }()
				if code := <-ended; code != 0 {
					t.Errorf("it ended with %d", code)
				}
			})
			log := bufio.NewScanner(said)
			// Either comes first.
			at, why := "", ""
			for (at == "" || why == "") && log.Scan() {
				if address, is := strings.CutPrefix(log.Text(), "listening on "); is {
					at = address
				} else {
					why += log.Text()
				}
			}
			if at == "" || !strings.Contains(why, "cannot log in to the cloud") || strings.Contains(why, "s3cret") {
				t.Fatalf("it listens on %q and says %q", at, why)
			}
			client, err := provider.NewClient("http://"+at, "a token", nil)
			if err != nil {
				t.Fatal(err)
			}
			_, err = client.Capabilities(t.Context())
			if !provider.Is(err, provider.Unavailable) || !strings.Contains(err.Error(), "cannot log in to the cloud: logging in") {
				t.Errorf("want words on the login, got %v", err)
			}
			status.Store(http.StatusCreated)
			for log.Scan() && log.Text() != "logged in to the cloud" {
				why = log.Text()
			}
			if _, err := client.Get(t.Context(), provider.ID{Cluster: "c", Service: "s"}); !provider.Is(err, provider.NotFound) {
				t.Errorf("want an answer of the cloud, got %v, and it said %q", err, why)
			}
		})
	}
}
