package provider

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/external-lb/external-lb/test/wait"
)

// stub is a Cloud whose Put does what a test says.
type stub struct {
	put func(context.Context) (Observed, error)
	all []Observed
}

func (s stub) Capabilities(context.Context) (Capabilities, error) { return everything(), nil }

func (s stub) Put(ctx context.Context, _ ID, spec Spec) (Observed, error) {
	if s.put != nil {
		return s.put(ctx)
	}
	return Observed{LoadBalancer: LoadBalancer{Service: "web", State: Live}, Spec: spec}, nil
}

func (s stub) Get(context.Context, ID) (Observed, error) {
	return Observed{}, &Error{Code: NotFound, Message: "there is none"}
}
func (s stub) Delete(ctx context.Context, id ID) (Observed, error) { return s.Get(ctx, id) }
func (s stub) List(context.Context, string) ([]Observed, error)    { return s.all, nil }
func client(t *testing.T, handler http.Handler, token string) *Client {
	return to(t, serve(t, handler), token)
}

func serve(t *testing.T, handler http.Handler) string {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return server.URL
}

func to(t *testing.T, url, token string) *Client {
	t.Helper()
	c, err := NewClient(url, token, nil)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

var web = ID{Cluster: "c1", Service: "web"}

func TestPut_AnswersWithTheDigestOfWhatWasRead(t *testing.T) {
	s := Server{Cloud: stub{}, Token: "secret"}
	b, err := client(t, s.Handler(), "secret").Put(t.Context(), web, example())
	if err != nil {
		t.Fatal(err)
	}
	if b.Digest != example().Digest() {
		t.Errorf("the digest %s", b.Digest)
	}
	if b.Proves(example()) {
		t.Error("without an address it proves the Spec")
	}
	b.Addresses = []Address{{Family: IPv4, IP: example().Families[0].Address}}
	if !b.Proves(example()) {
		t.Error("with the wanted address it does not prove the Spec")
	}
	b.Refused = []Refusal{{Port: 443, Protocol: TCP}}
	if b.Digest = example().Without(b.Refused).Digest(); !b.Proves(example()) {
		t.Error("what is refused has to be proved")
	}
}

// A server without a token would let everybody in.
func TestServer_WithoutATokenLetsNobodyIn(t *testing.T) {
	s := Server{Cloud: stub{}}
	for _, token := range []string{"", "x"} {
		if _, err := client(t, s.Handler(), token).Get(t.Context(), web); !Is(err, Unauthorized) {
			t.Errorf("the token %q: %v", token, err)
		}
	}
}

func TestErrors_ArriveAsTheyAre(t *testing.T) {
	sent := &Error{Code: Throttled, Field: "x", Message: "slow\ndown" + strings.Repeat("!", 400), RetryAfterSeconds: 7}
	s := Server{Token: "secret", Cloud: stub{put: func(context.Context) (Observed, error) { return Observed{}, sent }}}
	_, err := client(t, s.Handler(), "secret").Put(t.Context(), web, example())
	got, ok := errors.AsType[*Error](err)
	if !ok || got.Code != Throttled || got.Field != "x" || got.RetryAfterSeconds != 7 ||
		!strings.HasPrefix(got.Message, "slow down!") || len(got.Message) != MaxMessage {
		t.Errorf("%#v", err)
	}
	s.Cloud = stub{put: func(context.Context) (Observed, error) { return Observed{}, errors.New("out of luck") }}
	if _, err := client(t, s.Handler(), "secret").Put(t.Context(), web, example()); !Is(err, Internal) {
		t.Error(err)
	}
}

// One load balancer is in one hand at a time, and the hand lets go with its request.
func TestPut_OneAtATime(t *testing.T) {
	began := make(chan struct{})
	var first = true
	s := Server{Token: "secret", Cloud: stub{put: func(ctx context.Context) (Observed, error) {
		if first {
			first = false
			close(began)
			<-ctx.Done()
		}
		return Observed{LoadBalancer: LoadBalancer{Service: "web", State: Pending}, Spec: example()}, ctx.Err()
	}}}
	c := client(t, s.Handler(), "secret")
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		_, err := c.Put(ctx, web, example())
		ended <- err
	}()
	<-began
	if _, err := c.Put(t.Context(), web, example()); !Is(err, Immutable) {
		t.Errorf("a second one: %v", err)
	}
	if _, err := c.Delete(t.Context(), web); !Is(err, Immutable) {
		t.Errorf("a deletion: %v", err)
	}
	if _, err := c.Put(t.Context(), ID{"c2", "web"}, example()); err != nil {
		t.Errorf("one of another cluster: %v", err)
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	wait.For(t, func(ctx context.Context) error {
		_, err := c.Put(ctx, web, example())
		return err
	})
}

func TestList_HasPages(t *testing.T) {
	var all []Observed
	for i := range 2*MaxPage + 1 {
		all = append(all, Observed{LoadBalancer: LoadBalancer{Service: "s" + string(rune('a'+i/26)) + string(rune('a'+i%26)), State: Pending}, Spec: example()})
	}
	s := Server{Token: "secret", Cloud: stub{all: all}}
	got, err := client(t, s.Handler(), "secret").List(t.Context(), "c1")
	if err != nil || len(got) != len(all) {
		t.Errorf("%d of %d, %v", len(got), len(all), err)
	}
}

// counting counts how often all is read.
type counting struct {
	stub
	reads *int
}

func (c counting) List(ctx context.Context, cluster string) ([]Observed, error) {
	*c.reads++
	return c.stub.List(ctx, cluster)
}

// However long a list is, the cloud is read once for it, and anew for the next one.
func TestList_ReadsTheCloudOnce(t *testing.T) {
	var all []Observed
	for i := range 3 * MaxPage {
		all = append(all, Observed{LoadBalancer: LoadBalancer{Service: fmt.Sprintf("s%04d", i), State: Pending}, Spec: example()})
	}
	reads := 0
	s := Server{Token: "secret", Cloud: counting{stub{all: all}, &reads}}
	c := client(t, s.Handler(), "secret")
	for want := 1; want <= 2; want++ {
		if got, err := c.List(t.Context(), "c1"); err != nil || len(got) != len(all) || reads != want {
			t.Errorf("%d of %d, %d reads, %v", len(got), len(all), reads, err)
		}
	}
}

// Anybody in a cloud can change tags. One that says nothing costs nobody else anything.
func TestList_OutlivesTagsOfStrangers(t *testing.T) {
	observed := func(service string) Observed {
		return Observed{LoadBalancer: LoadBalancer{Service: service, State: Pending}, Spec: example()}
	}
	nameless, strange := observed("nameless"), observed("No label")
	nameless.Spec.Namespace, nameless.Spec.Name = "", "\n"
	s := Server{Token: "secret", Cloud: stub{all: []Observed{strange, observed("web"), nameless}}}
	got, err := client(t, s.Handler(), "secret").List(t.Context(), "c1")
	if err != nil || len(got) != 2 || got[0].Service != "nameless" || got[0].Name != "unknown" || got[1].Name != example().Name {
		t.Errorf("%+v, %v", got, err)
	}
}

// What answers may be anything.
func TestClient_BelievesTheContractOnly(t *testing.T) {
	digest := `"digest":"` + strings.Repeat("a", 64) + `"`
	for name, answer := range map[string]struct {
		status int
		body   string
	}{
		"a proxy's 404":         {http.StatusNotFound, "<html>not found</html>"},
		"a 404 of another code": {http.StatusNotFound, `{"code":"Internal","message":"x"}`},
		"absence with a 200":    {http.StatusOK, `{"code":"NotFound","message":"x"}`},
		"absence with a 500":    {http.StatusInternalServerError, `{"code":"NotFound","message":"x"}`},
		"another Service":       {http.StatusOK, `{"service":"other","namespace":"n","name":"w","state":"Live",` + digest + `}`},
		"no names":              {http.StatusOK, `{"service":"web","state":"Live",` + digest + `}`},
		"a state of its own":    {http.StatusOK, `{"service":"web","namespace":"n","name":"w","state":"Good",` + digest + `}`},
		"no digest":             {http.StatusOK, `{"service":"web","namespace":"n","name":"w","state":"Live"}`},
		"a digest of words":     {http.StatusOK, `{"service":"web","namespace":"n","name":"w","state":"Live","digest":"yes"}`},
		"an address of nobody":  {http.StatusOK, `{"service":"web","namespace":"n","name":"w","state":"Pending","addresses":[{"family":"IPv4","ip":"0.0.0.0"}]}`},
		"a hostname of a shell": {http.StatusOK, `{"service":"web","namespace":"n","name":"w","state":"Pending","addresses":[{"family":"IPv4","hostname":"$(reboot)"}]}`},
		"a hostname that is IP": {http.StatusOK, `{"service":"web","namespace":"n","name":"w","state":"Pending","addresses":[{"family":"IPv4","hostname":"192.0.2.1"}]}`},
		"a hostname with a gap": {http.StatusOK, `{"service":"web","namespace":"n","name":"w","state":"Pending","addresses":[{"family":"IPv4","hostname":"a..b"}]}`},
		"too much":              {http.StatusOK, `{"service":"web","namespace":"n","name":"w","state":"Pending","message":"` + strings.Repeat("a", MaxAnswer) + `"}`},
		"another place":         {http.StatusFound, ""},
	} {
		c := client(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", "/elsewhere")
			w.WriteHeader(answer.status)
			_, _ = w.Write([]byte(answer.body))
		}), "secret")
		if _, err := c.Get(t.Context(), web); err == nil || Is(err, NotFound) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestClient_MakesWordsPrintable(t *testing.T) {
	c := client(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(`{"service":"web","namespace":"n","name":"w","state":"Failed","newer":1,"message":"a\u001b[31m\nb` + strings.Repeat("c", 999) + `"}`))
	}), "")
	b, err := c.Get(t.Context(), web)
	if err != nil || !strings.HasPrefix(b.Message, "a [31m b") || len(b.Message) > MaxMessage {
		t.Errorf("%q %v", b.Message, err)
	}
}

// What is not of the contract is said to be a fault, and asks nobody to wait for years.
func TestClient_BoundsReasonsAndPauses(t *testing.T) {
	long := strings.Repeat("x", 1<<20)
	c := client(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(`{"service":"web","namespace":"n","name":"w","state":"Failed","retryAfterSeconds":2147483647,"reason":"\u001b[2J` + long +
			`","refused":[{"protocol":"TCP","port":80,"reason":"` + long + `"}]}`))
	}), "")
	b, err := c.Get(t.Context(), web)
	if err != nil || b.Reason != Internal || b.RetryAfterSeconds != maxRetryAfter || len(b.Refused) != 1 || b.Refused[0].Reason != Internal {
		t.Errorf("%.200v %v", b, err)
	}
}

// A list that does not end, or has more on a page than it may, is not read to its end.
func TestList_IsBounded(t *testing.T) {
	for name, onPage := range map[string]int{"pages": MaxPage, "a page": MaxPage + 1} {
		asked := 0
		c := client(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			var page List
			for i := range onPage {
				page.LoadBalancers = append(page.LoadBalancers, LoadBalancer{Service: fmt.Sprintf("s%09d", asked*onPage+i), Namespace: "n", Name: "w", State: Pending})
			}
			asked++
			page.More = true
			_ = json.NewEncoder(w).Encode(page)
		}), "")
		if all, err := c.List(t.Context(), "c1"); err == nil || asked > MaxList/MaxPage+2 {
			t.Errorf("%s: %d load balancers in %d requests, %v", name, len(all), asked, err)
		}
	}
}

// When to ask again comes through with every request, and also where only a header says it: that of a provider, or of
// what is on the way to it.
func TestRetryAfter_IsKept(t *testing.T) {
	throttled := func(w http.ResponseWriter) { fail(w, &Error{Code: Throttled, RetryAfterSeconds: 7}) }
	for name, says := range map[string]func(http.ResponseWriter){
		"the words":  throttled,
		"the header": func(w http.ResponseWriter) { w.Header().Set("Retry-After", "7"); write(w, 429, Error{Code: Throttled}) },
		"a proxy":    func(w http.ResponseWriter) { w.Header().Set("Retry-After", "7"); w.WriteHeader(503) },
	} {
		c := client(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { says(w) }), "")
		_, list := c.List(t.Context(), "c1")
		_, get := c.Get(t.Context(), web)
		_, put := c.Put(t.Context(), web, example())
		_, del := c.Delete(t.Context(), web)
		_, can := c.Capabilities(t.Context())
		for request, err := range map[string]error{"list": list, "get": get, "put": put, "delete": del, "capabilities": can} {
			if e, ok := errors.AsType[*Error](err); !ok || !e.Code.Passes() || e.RetryAfterSeconds != 7 {
				t.Errorf("%s, by %s: %v", request, name, err)
			}
		}
	}
	in := func(at time.Time) http.Header {
		return http.Header{"Retry-After": {at.UTC().Format(http.TimeFormat)}}
	}
	now := time.Now()
	if got := RetryAfter(in(now.Add(30 * time.Minute))); got <= 1200 || got > 1800 {
		t.Errorf("half an hour from now is in %d s", got)
	}
	for _, h := range []http.Header{{}, {"Retry-After": {"soon"}}, {"Retry-After": {"-1"}}, in(now.Add(-time.Hour))} {
		if got := RetryAfter(h); got != 0 {
			t.Errorf("%v: %d", h, got)
		}
	}
	if got := RetryAfter(in(now.Add(24 * time.Hour))); got != maxRetryAfter {
		t.Errorf("a day: %d", got)
	}
}

func TestNewClient_SendsTheTokenToNobodyElse(t *testing.T) {
	for _, url := range []string{"http://provider.example.net", "http://192.0.2.1:80", "ftp://127.0.0.1", "provider",
		"https://u:p@example.net", "https://example.net/?x"} {
		if _, err := NewClient(url, "secret", nil); err == nil {
			t.Errorf("%s is taken", url)
		}
	}
	for _, url := range []string{"https://provider.example.net/base/", "http://127.0.0.1:8480", "http://[::1]:80", "http://localhost"} {
		if _, err := NewClient(url, "secret", nil); err != nil {
			t.Error(err)
		}
	}
	if _, err := NewClient("https://example.net", "secret", []byte("none")); err == nil {
		t.Error("no certificate is taken")
	}
}

// Who answers has to be who the certificates say.
func TestNewClient_TrustsTheRootsItIsGiven(t *testing.T) {
	s := Server{Cloud: stub{}, Token: "secret"}
	server := httptest.NewTLSServer(s.Handler())
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	t.Cleanup(server.Close)
	roots := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	for _, trust := range []struct {
		roots []byte
		want  bool
	}{{roots, true}, {nil, false}} {
		c, err := NewClient(server.URL, "secret", trust.roots)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Capabilities(t.Context()); (err == nil) != trust.want {
			t.Errorf("with %d bytes of roots: %v", len(trust.roots), err)
		}
	}
}

func TestListenAndServe_KeepsTheTokenFromTheNetwork(t *testing.T) {
	err := new(Server).ListenAndServe(t.Context(), "0.0.0.0:0", "", "", io.Discard)
	if err == nil || !strings.Contains(err.Error(), "needs TLS") {
		t.Error(err)
	}
	ended, end := context.WithCancel(t.Context())
	end()
	if err := new(Server).ListenAndServe(ended, "127.0.0.1:0", "", "", io.Discard); err != nil {
		t.Error(err)
	}
}

func TestHTTPServer_HasBounds(t *testing.T) {
	s := new(Server).HTTPServer()
	for what, d := range map[string]time.Duration{
		"header": s.ReadHeaderTimeout, "read": s.ReadTimeout, "write": s.WriteTimeout, "idle": s.IdleTimeout,
	} {
		if d <= 0 {
			t.Errorf("%s has no end", what)
		}
	}
}

// What the contract has no words for costs its own Service, and no other one of the list.
func TestList_WhatIsOutOfTheContractSpoilsNoOther(t *testing.T) {
	of := func(service string) Observed {
		return Observed{LoadBalancer: LoadBalancer{Service: service, State: Live, Addresses: []Address{{Family: IPv4, IP: example().Families[0].Address}}}, Spec: example()}
	}
	odd, stateless := of("b"), of("c")
	odd.Addresses[0].IP, stateless.State = netip.IPv4Unspecified(), ""
	s := Server{Cloud: stub{all: []Observed{of("a"), odd, stateless}}, Token: "secret"}
	all, err := client(t, s.Handler(), "secret").List(t.Context(), "c1")
	if err != nil || len(all) != 3 {
		t.Fatal(all, err)
	}
	if all[0].State != Live || !all[0].Proves(example()) {
		t.Errorf("the first is %+v", all[0])
	}
	for _, b := range all[1:] {
		if b.State != Failed || b.Reason != Internal || !strings.Contains(b.Message, "the contract has no words") || b.Proves(example()) {
			t.Errorf("the odd one is %+v", b)
		}
	}
}
