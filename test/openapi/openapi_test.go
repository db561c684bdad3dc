// Package openapi holds docs/reference/provider-api.yaml against what is said over the wire. It is
// a module of its own, for it needs a validator of OpenAPI that nothing else does.
package openapi

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pb33f/libopenapi"
	validator "github.com/pb33f/libopenapi-validator"
	"github.com/pb33f/libopenapi-validator/errors"

	"github.com/external-lb/external-lb/internal/provider/kit"
	"github.com/external-lb/external-lb/internal/provider/providertest"
	"github.com/external-lb/external-lb/provider"
)

func page(t *testing.T) validator.Validator {
	t.Helper()
	text, err := os.ReadFile("../../docs/reference/provider-api.yaml")
	if err != nil {
		t.Fatal(err)
	}
	doc, err := libopenapi.NewDocument(text)
	if err != nil {
		t.Fatal(err)
	}
	v, errs := validator.NewValidator(doc)
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	return v
}

// The page is a document of OpenAPI 3.1.
func TestThePageIsOpenAPI(t *testing.T) {
	if ok, errs := page(t).ValidateDocument(); !ok {
		t.Error(said(errs))
	}
}

func said(errs []*errors.ValidationError) string {
	var out strings.Builder
	for _, err := range errs {
		out.WriteString(err.Message + ": " + err.Reason)
		for _, s := range err.SchemaValidationErrors {
			out.WriteString("; " + s.FieldPath + ": " + s.Reason)
		}
		out.WriteString("\n")
	}
	return out.String()
}

// exchange is a request, and its answer.
type exchange struct {
	request  *http.Request
	body     []byte
	response *http.Response
}

// recorder hears all that a handler is asked, and says.
type recorder struct {
	handler http.Handler
	mu      sync.Mutex
	all     []exchange
}

func (r *recorder) ServeHTTP(w http.ResponseWriter, request *http.Request) {
	body, err := io.ReadAll(request.Body)
	if err != nil {
		return // the client is gone
	}
	request.Body = io.NopCloser(bytes.NewReader(body))
	answer := httptest.NewRecorder()
	r.handler.ServeHTTP(answer, request)
	for name, values := range answer.Header() {
		w.Header()[name] = values
	}
	w.WriteHeader(answer.Code)
	_, _ = w.Write(answer.Body.Bytes()) // the client is gone
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = append(r.all, exchange{request, body, answer.Result()})
}

// converse has the kit ask a provider.
func converse(t *testing.T) []exchange {
	t.Helper()
	cloud := &providertest.Cloud{All: map[provider.ID]provider.Spec{}, Change: func(c *provider.Capabilities) {
		c.Flavors, c.Families = []string{"big"}, []provider.IPFamily{provider.IPv4, provider.IPv6}
		c.Settings["retries"] = provider.Support{Missing: "it has none"}
	}}
	r := &recorder{handler: (&provider.Server{Cloud: cloud, Token: "secret"}).Handler()}
	server := httptest.NewServer(r)
	t.Cleanup(server.Close)
	o := kit.Options{URL: server.URL, Token: "secret", Timeout: 2 * time.Second, Address: netip.MustParseAddr("203.0.113.9")}
	err := kit.Run(t.Context(), o, func(kit.Result) {}) // what comes of its checks its own tests say
	t.Log(err)
	server.Close()
	return r.all
}

// What a provider that keeps to the contract is asked and says is what the page has; what the
// page does not have is refused.
func TestThePageIsWhatIsSaid(t *testing.T) {
	v := page(t)
	statuses, refused := map[int]int{}, 0
	for _, x := range converse(t) {
		statuses[x.response.StatusCode]++
		good := x.response.StatusCode == http.StatusOK
		x.request.Body = io.NopCloser(bytes.NewReader(x.body))
		ok, errs := v.ValidateHttpRequest(x.request)
		if good && !ok {
			t.Errorf("taken, and not on the page: %s %s %.300s\n%s", x.request.Method, x.request.URL, x.body, said(errs))
		}
		if !ok {
			refused++
		}
		if !onPage(x.request) {
			continue
		}
		if ok, errs := v.ValidateHttpResponse(x.request, x.response); !ok {
			t.Errorf("the answer to %s %s is not on the page:\n%s", x.request.Method, x.request.URL, said(errs))
		}
	}
	for _, status := range []int{200, 400, 401, 404, 413, 422} {
		if statuses[status] == 0 {
			t.Errorf("nobody said %d: %v", status, statuses)
		}
	}
	if refused < 20 {
		t.Errorf("the page refuses %d requests", refused)
	}
}

// onPage reports whether the page has the path and the method that the kit asks for.
func onPage(r *http.Request) bool {
	return r.URL.Path != "/v1/else" && r.Method != http.MethodPost && !strings.HasSuffix(r.URL.Path, "/A_B")
}
