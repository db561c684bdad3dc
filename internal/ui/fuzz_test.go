package ui

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"path"
	"strings"
	"testing"
)

// FuzzRequest: whoever does not know the path, or does not mean this server, or asks for another site, gets nothing, and
// who may ask gets a file of the page.
func FuzzRequest(f *testing.F) {
	f.Add("GET", "127.0.0.1:8089", "/secret/", "same-origin")
	f.Add("GET", "LOCALHOST:8089", "/secret/app.mjs", "")
	f.Add("GET", "[::1]:8089", "/secret/../server.go", "none")
	f.Add("GET", "127.0.0.1:8089", "/secret", "none")
	f.Add("GET", "127.0.0.1:8089", "/SECRET/", "")
	f.Add("HEAD", "127.0.0.1:8089", "/secret/index.html", "cross-site")
	f.Add("GET", "127.0.0.1:8089", "/secret//etc/passwd", "\x00")
	s := newServer()
	f.Fuzz(func(t *testing.T, method, host, at, site string) {
		file, found := strings.CutPrefix(at, "/secret/")
		if file == "events" {
			return // it does not end
		}
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
		r.Method, r.Host, r.URL = method, host, &url.URL{Path: at}
		r.Header.Set("Sec-Fetch-Site", site)
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		ours := host == "127.0.0.1:8089" || host == "localhost:8089" || host == "[::1]:8089"
		asks := method == http.MethodGet && (site == "" || site == "none" || site == "same-origin")
		switch {
		case w.Code == http.StatusOK && (!found || !ours || !asks || file != path.Clean(file) && file != ""):
			t.Errorf("%s %q of %q from %q gets %q", method, at, host, site, w.Body)
		case w.Code >= http.StatusMultipleChoices && w.Code < http.StatusBadRequest:
			t.Errorf("%q leads to %q", at, w.Header())
		case w.Code != http.StatusOK && strings.Contains(w.Body.String(), "secret/"):
			t.Errorf("it tells the path: %q", w.Body)
		}
		if w.Header().Get("Content-Security-Policy") != policy {
			t.Errorf("%s %q has no policy", method, at)
		}
	})
}
