package ui

import (
	"crypto/subtle"
	"embed"
	"encoding/json"
	"fmt"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/external-lb/external-lb/internal/ui/page"
)

//go:embed static
var static embed.FS

// maxPages is how many browser windows are kept up to date.
const maxPages = 16

const (
	writeTimeout = 10 * time.Second // for a browser that takes nothing any more
	beat         = 15 * time.Second // between two signs of life
)

// policy lets a page load what this server has, and nothing else; and no text become HTML.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"

// server answers browsers.
type server struct {
	hub   *hub
	port  int
	token string // the first part of every path
	pages atomic.Int32
}

// ServeHTTP answers requests to GET, from browsers of this machine that were told the
// token. Another site's page cannot ask in their name: its requests say from where they
// come, and one that has bound its own name to this address says a wrong Host.
func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	for name, value := range map[string]string{
		"Content-Security-Policy": policy, "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer",
		"Cross-Origin-Resource-Policy": "same-origin", "Cross-Origin-Opener-Policy": "same-origin", "Cache-Control": "no-store",
	} {
		w.Header().Set(name, value)
	}
	token, file, found := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	switch {
	case !slices.Contains(s.names(), r.Host):
		http.Error(w, "this Host is not served here", http.StatusMisdirectedRequest)
	case !slices.Contains([]string{"", "none", "same-origin"}, r.Header.Get("Sec-Fetch-Site")):
		http.Error(w, "another site may not ask", http.StatusForbidden)
	case r.Method != http.MethodGet:
		w.Header().Set("Allow", http.MethodGet)
		http.Error(w, "only GET", http.StatusMethodNotAllowed)
	case !found || subtle.ConstantTimeCompare([]byte(token), []byte(s.token)) != 1:
		http.Error(w, "take the address that external-lb ui has printed", http.StatusNotFound)
	case file == "events":
		s.events(w, r)
	default:
		serveFile(w, r, file)
	}
}

// names are the Hosts of a request that is meant for us.
func (s *server) names() (out []string) {
	for _, name := range []string{"127.0.0.1", "localhost", "[::1]"} {
		out = append(out, fmt.Sprintf("%s:%d", name, s.port))
	}
	return out
}

// types are the files that there are. What the machine's tables of types say varies.
var types = map[string]string{
	".html": "text/html", ".css": "text/css", ".mjs": "text/javascript", ".txt": "text/plain", ".svg": "image/svg+xml",
}

func serveFile(w http.ResponseWriter, r *http.Request, file string) {
	if file == "" {
		file = "index.html"
	}
	data, err := fs.ReadFile(static, "static/"+file)
	if err != nil {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", mime.FormatMediaType(types[path.Ext(file)], map[string]string{"charset": "utf-8"}))
	_, _ = w.Write(data) // a browser that has gone
}

// events tells a page what there is, and what changes, until it is closed.
func (s *server) events(w http.ResponseWriter, r *http.Request) {
	if s.pages.Add(1) > maxPages {
		s.pages.Add(-1)
		http.Error(w, fmt.Sprintf("%d pages are open already: close one", maxPages), http.StatusServiceUnavailable)
		return
	}
	defer s.pages.Add(-1)
	w.Header().Set("Content-Type", "text/event-stream")
	beats := time.NewTicker(beat)
	defer beats.Stop()
	has, reset := map[string]*page.Item{}, true
	for {
		want, changed := s.hub.now()
		for _, m := range difference(has, want, reset) {
			data, err := json.Marshal(m)
			if err != nil || send(w, "data: "+string(data)+"\n\n") != nil {
				return
			}
		}
		has, reset = want, false
		select {
		case <-changed:
		case <-beats.C:
			if send(w, ": alive\n\n") != nil {
				return
			}
		case <-r.Context().Done():
			return
		}
	}
}

// send writes to a browser that may have stopped to read.
func send(w http.ResponseWriter, text string) error {
	to := http.NewResponseController(w)
	if err := to.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return err
	}
	if _, err := w.Write([]byte(text)); err != nil {
		return err
	}
	return to.Flush()
}
