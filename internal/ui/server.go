package ui

import (
	"crypto/subtle"
	"embed"
	"encoding/json"
	"fmt"
	"io/fs"
	"mime"
	"net"
	"net/http"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/external-lb/external-lb/internal/ui/page"
)

//go:embed static
var static embed.FS

const (
	writeTimeout = 10 * time.Second // for a browser that takes nothing any more
	beatEvery    = 15 * time.Second
)

// policy lets a page load what this server has, and nothing else; and no text become HTML.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"

// server answers browsers.
type server struct {
	hub    *hub
	base   string                 // what every path begins with, as /secret/
	secret bool                   // nobody else is told what that is
	meant  func(host string) bool // whether a request with that Host is for us
	access *access                // nil: who knows the path may look
	places *places
	beat   time.Duration // between two signs of life
}

// ServeHTTP answers requests to GET, from browsers whose user may look. Another site's page
// cannot ask in their name: its requests say from where they come, and one that has bound its
// own name to this address says a wrong Host. What costs nothing is looked at first.
func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	for name, value := range map[string]string{
		"Content-Security-Policy": policy, "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer",
		"Cross-Origin-Resource-Policy": "same-origin", "Cross-Origin-Opener-Policy": "same-origin", "Cache-Control": "no-store",
	} {
		w.Header().Set(name, value)
	}
	file, found := s.file(r.URL.Path)
	switch {
	case !s.meant(r.Host):
		http.Error(w, "this Host is not served here", http.StatusMisdirectedRequest)
	case !slices.Contains([]string{"", "none", "same-origin"}, r.Header.Get("Sec-Fetch-Site")):
		http.Error(w, "another site may not ask", http.StatusForbidden)
	case r.Method != http.MethodGet:
		w.Header().Set("Allow", http.MethodGet)
		http.Error(w, "only GET", http.StatusMethodNotAllowed)
	case !found && s.secret:
		http.Error(w, "take the address that external-lb ui has printed", http.StatusNotFound)
	case !found && (r.URL.Path == "/" || r.URL.Path+"/" == s.base):
		http.Redirect(w, r, s.base, http.StatusFound)
	case !found:
		http.Error(w, "the page is at "+s.base, http.StatusNotFound)
	default:
		s.admitted(w, r, file)
	}
}

// file of a path.
func (s *server) file(path string) (string, bool) {
	n := len(s.base)
	if len(path) < n || subtle.ConstantTimeCompare([]byte(path[:n]), []byte(s.base)) != 1 {
		return "", false
	}
	return path[n:], true
}

func (s *server) admitted(w http.ResponseWriter, r *http.Request, file string) {
	v := s.access.admit(r)
	switch {
	case v.status == http.StatusUnauthorized:
		w.Header().Set("WWW-Authenticate", "Bearer")
		fallthrough
	case v.status != 0:
		http.Error(w, v.words, v.status)
	case file == "events":
		s.events(w, r, v.viewer)
	default:
		serveFile(w, r, file)
	}
}

// names of loopback, which no site can bind to another address.
var loopback = []string{"127.0.0.1", "localhost", "[::1]"}

// onPort is for requests to the loopback with a port.
func onPort(port int) func(string) bool {
	return func(host string) bool {
		return slices.ContainsFunc(loopback, func(name string) bool { return host == fmt.Sprintf("%s:%d", name, port) })
	}
}

// named is for requests to one of these names, or to the loopback, with any port: who
// forwards one chooses another.
func named(names []string) func(string) bool {
	return func(host string) bool {
		name := host
		if h, port, err := net.SplitHostPort(host); err == nil && port != "" {
			name = h
		}
		name = strings.ToLower(strings.Trim(name, "[]"))
		if name == "" {
			return false
		}
		same := func(n string) bool { return strings.ToLower(strings.Trim(n, "[]")) == name }
		return slices.ContainsFunc(loopback, same) || slices.ContainsFunc(names, same)
	}
}

// fileTypes are the files that there are. What the machine's tables of types say varies.
var fileTypes = map[string]string{
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
	w.Header().Set("Content-Type", mime.FormatMediaType(fileTypes[path.Ext(file)], map[string]string{"charset": "utf-8"}))
	_, _ = w.Write(data) // a browser that has gone
}

// events tells a page what there is, and what changes, until it is closed, or its viewer may
// no longer look.
func (s *server) events(w http.ResponseWriter, r *http.Request, viewer string) {
	leave, full := s.places.take(viewer)
	if full != "" {
		http.Error(w, full, http.StatusServiceUnavailable)
		return
	}
	defer leave()
	w.Header().Set("Content-Type", "text/event-stream")
	beats := time.NewTicker(s.beat)
	defer beats.Stop()
	has, reset := map[string]*page.Item{}, true
	for {
		want, changed := s.hub.now()
		for m := range difference(has, want, reset) {
			data, err := json.Marshal(m)
			if err != nil || send(w, "data: "+string(data)+"\n\n") != nil {
				return
			}
		}
		has, reset = want, false
		select {
		case <-changed:
		case <-beats.C:
			if !s.access.still(r) || send(w, ": alive\n\n") != nil {
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
