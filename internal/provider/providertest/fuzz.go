package providertest

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/external-lb/external-lb/provider"
)

// API is one of a cloud that answers what only reads, and refuses all else.
type API struct {
	Read   func(*http.Request) (answer []byte, reads bool)
	asked  int
	writes []string
}

// maxAsked is how many requests one answer may take: a list may say for ever that there is another page.
const maxAsked = 200

// RoundTrip implements http.RoundTripper.
func (a *API) RoundTrip(r *http.Request) (*http.Response, error) {
	a.asked++
	code := http.StatusOK
	body, reads := a.Read(r)
	switch {
	case !reads:
		a.writes = append(a.writes, r.Method+" "+r.URL.String())
		code, body = http.StatusBadRequest, []byte(`{"Code":"No","Message":"no","faultstring":"no"}`)
	case a.asked > maxAsked:
		code, body = http.StatusBadRequest, []byte(`{"Code":"TooOften","faultstring":"too often"}`)
	}
	return &http.Response{StatusCode: code, Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(bytes.NewReader(body)), Request: r}, nil
}

// Settled wants two readers of a cloud to agree: what is read back as a Spec that is Live is that Spec, so who asks for
// it has the same answer, and nothing is changed for that. It reports whether there was such a Spec.
func (a *API) Settled(t testing.TB, c provider.Cloud, id provider.ID) bool {
	t.Helper()
	o, err := c.Get(t.Context(), id)
	if err != nil || o.State != provider.Live {
		return false
	}
	body, err := json.Marshal(o.Spec)
	if err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPut, "/v1/clusters/"+id.Cluster+"/loadbalancers/"+id.Service, bytes.NewReader(body))
	r.Header.Set("Authorization", "Bearer "+Token)
	w := httptest.NewRecorder()
	(&provider.Server{Cloud: c, Token: Token}).Handler().ServeHTTP(w, r)
	if len(a.writes) > 0 {
		t.Errorf("%s is read back, and then changed with %q", body, a.writes)
	}
	if w.Code != http.StatusOK { // the cloud has what nobody can ask for
		return false
	}
	var b provider.LoadBalancer
	err = json.Unmarshal(w.Body.Bytes(), &b)
	if err == nil && b.State == provider.Failed && strings.Contains(b.Message, "the contract has no words") { // such as an odd address
		return false
	}
	if err != nil || b.State != provider.Live || b.Digest != o.Spec.Digest() {
		t.Errorf("%s is read back, and then answered with %s, %v", body, w.Body, err)
	}
	return true
}

// Refusal is what the API of a cloud says to everything.
type Refusal struct {
	status int
	header http.Header
	body   []byte
}

// RoundTrip implements http.RoundTripper.
func (r *Refusal) RoundTrip(of *http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: r.status, Header: r.header, Body: io.NopCloser(bytes.NewReader(r.body)), Request: of}, nil
}

// Told wants a refusal to reach who asks the provider of a cloud as one of the contract. None says that the cloud has
// nothing. Who is asked to wait does so in no time.
func (r *Refusal) Told(t *testing.T, c provider.Cloud, status int, after string, body []byte) {
	t.Helper()
	r.status = http.StatusBadRequest + max(0, status-http.StatusBadRequest)%200
	r.header, r.body = http.Header{"Content-Type": {"application/json"}, "Retry-After": {after}}, body
	synctest.Test(t, func(t *testing.T) {
		for _, path := range []string{"/v1/clusters/c1/loadbalancers/web", "/v1/clusters/c1/loadbalancers"} {
			request := httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil)
			request.Header.Set("Authorization", "Bearer "+Token)
			w := httptest.NewRecorder()
			(&provider.Server{Cloud: c, Token: Token}).Handler().ServeHTTP(w, request)
			var e provider.Error
			if err := json.Unmarshal(w.Body.Bytes(), &e); err != nil || w.Code < http.StatusBadRequest || e.Code == "" || e.Code == provider.NotFound {
				t.Errorf("the status %d with %.200q becomes %d with %s, %v", r.status, body, w.Code, w.Body, err)
			}
		}
	})
}
