package ui

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/external-lb/external-lb/internal/ui/page"
)

func newServer() *server {
	return &server{hub: newHub(), base: "/secret/", secret: true, meant: onPort(8089), places: newPlaces(maxPages, maxPages), beat: beatEvery}
}

func get(s *server, target string, change ...func(*http.Request)) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodGet, target, nil)
	for _, c := range change {
		c(r)
	}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	return w
}

func TestWhoIsAnswered(t *testing.T) {
	method := func(m string) func(*http.Request) { return func(r *http.Request) { r.Method = m } }
	site := func(s string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", s) }
	}
	for name, test := range map[string]struct {
		target string
		change func(*http.Request)
		want   int
	}{
		"the page":              {"http://127.0.0.1:8089/secret/", nil, http.StatusOK},
		"by name":               {"http://localhost:8089/secret/", nil, http.StatusOK},
		"by IPv6":               {"http://[::1]:8089/secret/", nil, http.StatusOK},
		"typed":                 {"http://localhost:8089/secret/", site("none"), http.StatusOK},
		"a file":                {"http://127.0.0.1:8089/secret/app.mjs", site("same-origin"), http.StatusOK},
		"no such file":          {"http://127.0.0.1:8089/secret/nothing", nil, http.StatusNotFound},
		"a directory":           {"http://127.0.0.1:8089/secret/.", nil, http.StatusNotFound},
		"out of the files":      {"http://127.0.0.1:8089/secret/../server.go", nil, http.StatusNotFound},
		"no secret":             {"http://127.0.0.1:8089/", nil, http.StatusNotFound},
		"another secret":        {"http://127.0.0.1:8089/guess/", nil, http.StatusNotFound},
		"another's name":        {"http://attacker.example:8089/secret/", nil, http.StatusMisdirectedRequest},
		"another's subdomain":   {"http://localhost.attacker.example:8089/secret/", nil, http.StatusMisdirectedRequest},
		"another port":          {"http://127.0.0.1:80/secret/", nil, http.StatusMisdirectedRequest},
		"no port":               {"http://127.0.0.1/secret/", nil, http.StatusMisdirectedRequest},
		"another address":       {"http://192.0.2.1:8089/secret/", nil, http.StatusMisdirectedRequest},
		"no name":               {"http://127.0.0.1:8089/secret/", func(r *http.Request) { r.Host = "" }, http.StatusMisdirectedRequest},
		"from another site":     {"http://127.0.0.1:8089/secret/events", site("cross-site"), http.StatusForbidden},
		"from another port":     {"http://127.0.0.1:8089/secret/events", site("same-site"), http.StatusForbidden},
		"POST":                  {"http://127.0.0.1:8089/secret/", method(http.MethodPost), http.StatusMethodNotAllowed},
		"PUT":                   {"http://127.0.0.1:8089/secret/events", method(http.MethodPut), http.StatusMethodNotAllowed},
		"DELETE":                {"http://127.0.0.1:8089/secret/", method(http.MethodDelete), http.StatusMethodNotAllowed},
		"OPTIONS, for CORS":     {"http://127.0.0.1:8089/secret/events", method(http.MethodOptions), http.StatusMethodNotAllowed},
		"HEAD":                  {"http://127.0.0.1:8089/secret/", method(http.MethodHead), http.StatusMethodNotAllowed},
		"anything but a method": {"http://127.0.0.1:8089/secret/", method("BREW"), http.StatusMethodNotAllowed},
	} {
		change := test.change
		if change == nil {
			change = func(*http.Request) {}
		}
		got := get(newServer(), test.target, change)
		if got.Code != test.want {
			t.Errorf("%s: %d, want %d", name, got.Code, test.want)
		}
		h := got.Header()
		if h.Get("Content-Security-Policy") != policy || h.Get("X-Content-Type-Options") != "nosniff" ||
			h.Get("Cross-Origin-Resource-Policy") != "same-origin" {
			t.Errorf("%s: headers %v", name, h)
		}
		for name := range h {
			if strings.HasPrefix(name, "Access-Control-") {
				t.Errorf("%s: %s lets other sites read", test.target, name)
			}
		}
	}
}

// What is served needs nothing from elsewhere, and makes no HTML of texts.
func TestFilesAreWholeAndSafe(t *testing.T) {
	elsewhere := regexp.MustCompile(`(?i)(src|href)="(https?:)?//|@import|url\(|import[^;]*from '(https?:|//)|\beval\b|new Function`)
	html := regexp.MustCompile(`innerHTML|outerHTML|insertAdjacentHTML|document\.write|dangerouslySet`)
	inline := regexp.MustCompile(`(?i)<style|style="|\son[a-z]+="|<script>`)
	err := fs.WalkDir(static, "static", func(file string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := fs.ReadFile(static, file)
		if err != nil {
			return err
		}
		if fileTypes[path.Ext(file)] == "" {
			t.Errorf("%s has a type that is not known", file)
		}
		if path.Base(file) == "preact.mjs" {
			return nil
		}
		for _, bad := range []*regexp.Regexp{elsewhere, html, inline} {
			if found := bad.FindString(string(data)); found != "" {
				t.Errorf("%s has %q", file, found)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// The library is what its authors have published, and nobody has changed it here.
func TestTheLibraryIsAsPublished(t *testing.T) {
	const want = "bdcbd9abdf2c77c5c45326eab42191e949222d479d0d5f69467387a77040cb55" // of dist/preact.mjs in the npm package preact 11.2.0
	data, err := fs.ReadFile(static, "static/preact.mjs")
	if err != nil {
		t.Fatal(err)
	}
	if sum := sha256.Sum256(data); hex.EncodeToString(sum[:]) != want {
		t.Errorf("preact.mjs is %x", sum)
	}
}

// reader reads the messages of a page.
type reader struct {
	t     *testing.T
	lines *bufio.Scanner
	items map[string]json.RawMessage
}

// open a page on a server, which is asked over a real connection.
func open(t *testing.T, s *server) (*reader, int) {
	t.Helper()
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Host = "localhost:8089"
		s.ServeHTTP(w, r)
	}))
	t.Cleanup(web.Close)
	return listen(t, web.URL+"/secret/events")
}

// listen to events.
func listen(t *testing.T, url string) (*reader, int) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel) // before the server waits for its connections
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { answer.Body.Close() })
	lines := bufio.NewScanner(answer.Body)
	lines.Buffer(nil, 1<<20)
	return &reader{t, lines, map[string]json.RawMessage{}}, answer.StatusCode
}

// next takes messages up to one behind which none belongs to it, and counts them.
func (b *reader) next() (messages int) {
	b.t.Helper()
	for b.lines.Scan() {
		data, found := strings.CutPrefix(b.lines.Text(), "data: ")
		if !found {
			continue
		}
		messages++
		if len(data) > 2*maxMessage {
			b.t.Errorf("a message has %d bytes", len(data))
		}
		var m message
		if err := json.Unmarshal([]byte(data), &m); err != nil {
			b.t.Fatal(err)
		}
		if m.Reset {
			clear(b.items)
		}
		for key, value := range m.Set {
			b.items[key] = value
		}
		for _, key := range m.Gone {
			delete(b.items, key)
		}
		if !m.More {
			return messages
		}
	}
	b.t.Fatalf("no message: %v", b.lines.Err())
	return 0
}

func items(pairs ...string) (out []page.Item) {
	for i := 0; i < len(pairs); i += 2 {
		out = append(out, page.Item{Key: pairs[i], Data: []byte(pairs[i+1])})
	}
	return out
}

func TestAPageFollows(t *testing.T) {
	s := newServer()
	s.hub.publish(ofObjects, items("node/a", `{"name":"a"}`, "node/b", `{"name":"b"}`))
	b, _ := open(t, s)
	b.next()
	if len(b.items) != 2 || string(b.items["node/a"]) != `{"name":"a"}` {
		t.Errorf("at first it has %s", b.items)
	}
	s.hub.publish(ofObjects, items("node/a", `{"name":"A"}`))
	b.next()
	if len(b.items) != 1 || string(b.items["node/a"]) != `{"name":"A"}` {
		t.Errorf("then it has %s", b.items)
	}
	s.hub.tell(connection{Server: "here", Problem: "it does not answer", Loaded: true})
	b.next()
	if len(b.items) != 2 || !strings.Contains(string(b.items[clusterKey]), "it does not answer") {
		t.Errorf("at last it has %s", b.items)
	}
}

// What did not change is not sent again, and where nothing did, nobody is woken.
func TestOnlyDifferencesAreSent(t *testing.T) {
	h := newHub()
	h.publish(ofObjects, items("a", "1", "b", "1"))
	has, changed := h.now()
	h.publish(ofObjects, items("a", "1", "b", "1"))
	select {
	case <-changed:
		t.Error("it says that the same is new")
	default:
	}
	h.publish(ofObjects, items("a", "1", "b", "2", "c", "3"))
	<-changed
	want, _ := h.now()
	got := slices.Collect(difference(has, want, false))
	if len(got) != 1 || len(got[0].Set) != 2 || string(got[0].Set["b"]) != "2" || string(got[0].Set["c"]) != "3" {
		t.Errorf("%+v", got)
	}
	if got := slices.Collect(difference(want, want, false)); len(got) != 0 {
		t.Errorf("of the same it is %+v", got)
	}
	if got := slices.Collect(difference(nil, nil, true)); len(got) != 1 || !got[0].Reset {
		t.Errorf("a page with nothing is told %+v", got)
	}
}

func TestLargePagesComeInParts(t *testing.T) {
	s := newServer()
	var all []page.Item
	for i := range 2000 {
		all = append(all, page.Item{Key: fmt.Sprint("service/", i), Data: fmt.Appendf(nil, "%q", strings.Repeat("x", 1000))})
	}
	s.hub.publish(ofObjects, all)
	b, _ := open(t, s)
	if messages := b.next(); messages < 10 || len(b.items) != 2000 {
		t.Errorf("%d items in %d messages", len(b.items), messages)
	}
}

func TestPagesAreBounded(t *testing.T) {
	s := newServer()
	s.hub.publish(ofObjects, items("a", "1"))
	for range maxPages {
		if _, code := open(t, s); code != http.StatusOK {
			t.Fatalf("a page is answered with %d", code)
		}
	}
	if _, code := open(t, s); code != http.StatusServiceUnavailable {
		t.Errorf("one more than %d is answered with %d", maxPages, code)
	}
	if s.places.taken != maxPages {
		t.Errorf("%d pages are counted", s.places.taken)
	}
}

// What is hostile stays text: in the stream it is JSON, in which no line ends.
func TestHostileTextsStayInTheirItem(t *testing.T) {
	s := newServer()
	hostile := "</script><img src=x onerror=alert(1)>\n\ndata: {\"reset\":true}\n\n\u2028"
	data, err := json.Marshal(hostile)
	if err != nil {
		t.Fatal(err)
	}
	s.hub.publish(ofObjects, []page.Item{{Key: "node/" + hostile, Data: data}})
	b, _ := open(t, s)
	b.next()
	var got string
	if err := json.Unmarshal(b.items["node/"+hostile], &got); err != nil || got != hostile {
		t.Errorf("%q, %v", got, err)
	}
}
