package provider

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"strings"
	"testing"

	"github.com/external-lb/external-lb/internal/text"
)

// said answers all requests of a Client with the same bytes.
type said struct {
	status int
	body   []byte
}

func (s said) RoundTrip(r *http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: s.status, Header: http.Header{}, Body: io.NopCloser(bytes.NewReader(s.body)), Request: r}, nil
}

func (s said) client(t *testing.T) *Client {
	c := to(t, "http://127.0.0.1", "secret")
	c.http.Transport = s
	return c
}

func marshal(t testing.TB, v any) []byte {
	t.Helper()
	out, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// shown wants all texts of a value to be short, and of characters that a terminal shows.
func shown(t *testing.T, v reflect.Value) {
	t.Helper()
	switch v.Kind() {
	case reflect.String:
		if s := v.String(); len(s) > MaxMessage || strings.ContainsFunc(s, text.Unprintable) {
			t.Errorf("it says %.300q", s)
		}
	case reflect.Slice:
		for i := range v.Len() {
			shown(t, v.Index(i))
		}
	case reflect.Map:
		for _, key := range v.MapKeys() {
			shown(t, key)
			shown(t, v.MapIndex(key))
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				shown(t, v.Field(i))
			}
		}
	}
}

// refused wants an error in words for people.
func refused(t *testing.T, err error) {
	t.Helper()
	if e, told := err.(*Error); told {
		shown(t, reflect.ValueOf(*e))
		if _, known := status[e.Code]; !known {
			t.Errorf("the code %.100q", e.Code)
		}
	} else if s := err.Error(); len(s) > 1000 || strings.ContainsFunc(s, text.Unprintable) {
		t.Errorf("the error %q", s)
	}
}

// FuzzAnswer: whatever a provider answers, what is taken of it can be shown, and is taken for the same again.
func FuzzAnswer(f *testing.F) {
	b := LoadBalancer{Service: "web", Namespace: "default", Name: "web", State: Live, Digest: example().Digest(), Addresses: []Address{{Family: IPv4, IP: example().Families[0].Address}},
		Refused: []Refusal{{Port: 443, Protocol: TCP, Reason: Unsupported, Message: "no\nmore"}}, RetryAfterSeconds: 3, Calls: Calls{Reads: 7}}
	f.Add(200, marshal(f, everything()))
	newer := everything()
	newer.Version, newer.Flavors, newer.Settings["new\a"] = "2\x1b[0m", []string{"big"}, Support{Note: "as it is"}
	newer.Protocols, newer.Families = append(newer.Protocols, "QUIC\n"), append(newer.Families, "IPv8\n")
	f.Add(200, marshal(f, newer))
	f.Add(200, []byte("{\"name\":\"\xff\"}"))
	f.Add(200, marshal(f, b))
	f.Add(200, marshal(f, List{LoadBalancers: []LoadBalancer{b}}))
	f.Add(200, []byte(`{"loadBalancers":[{"service":"a","namespace":"b","name":"c","state":"Pending","addresses":[{"family":"IPv6","hostname":"a.example"}]}],"more":true}`))
	f.Add(404, marshal(f, Error{Code: NotFound, Message: "none\x1b[0m"}))
	f.Fuzz(func(t *testing.T, status int, body []byte) {
		c, ctx := said{status, body}.client(t), t.Context()
		if can, err := c.Capabilities(ctx); err != nil {
			refused(t, err)
		} else {
			shown(t, reflect.ValueOf(can))
			if again, err := (said{200, marshal(t, can)}).client(t).Capabilities(ctx); err != nil || !reflect.DeepEqual(again, can) {
				t.Errorf("%+v is then %+v, %v", can, again, err)
			}
			for _, p := range can.Protocols {
				if once := can.Prune(p, fullSettings()); can.Prune(p, once) != once {
					t.Errorf("%+v pruned twice is %+v", once, can.Prune(p, once))
				}
			}
		}
		one, err := c.Get(ctx, web)
		if err != nil {
			refused(t, err)
		} else {
			shown(t, reflect.ValueOf(one))
			if again, err := (said{200, marshal(t, one)}).client(t).Get(ctx, web); err != nil || !reflect.DeepEqual(again, one) {
				t.Errorf("%+v is then %+v, %v", one, again, err)
			}
		}
		all, err := c.List(ctx, "c1")
		if err != nil {
			refused(t, err)
		}
		shown(t, reflect.ValueOf(all))
		for _, b := range all {
			id := ID{Cluster: "c1", Service: b.Service}
			if again, err := (said{200, marshal(t, b)}).client(t).Get(ctx, id); err != nil || !reflect.DeepEqual(again, b) {
				t.Errorf("%+v of a list is alone %+v, %v", b, again, err)
			}
		}
	})
}

// asked is a Cloud that notes what it is asked.
type asked struct {
	stub
	specs []Spec
	ids   []ID
}

func (a *asked) Put(ctx context.Context, id ID, spec Spec) (Observed, error) {
	a.specs, a.ids = append(a.specs, spec), append(a.ids, id)
	return a.stub.Put(ctx, id, spec)
}

func (a *asked) Get(ctx context.Context, id ID) (Observed, error) {
	a.ids = append(a.ids, id)
	return a.stub.Get(ctx, id)
}

func (a *asked) Delete(ctx context.Context, id ID) (Observed, error) { return a.Get(ctx, id) }

// FuzzRequest: only who bears the token reaches the cloud, and only with what the contract and the owner let
// through. A Spec that arrives is the one that was sent. Every answer is one of the contract.
func FuzzRequest(f *testing.F) {
	const one = "/v1/clusters/c1/loadbalancers/web"
	f.Add("PUT", one, "", "Bearer secret", marshal(f, example()))
	f.Add("PUT", one, "", "Bearer secret", append(marshal(f, example()), "{}"...))
	f.Add("PUT", one, "", "Bearer ", []byte(`{"new":1}`))
	f.Add("DELETE", one, "", "Bearer secret", []byte{})
	f.Add("GET", "/v1/clusters/c1/loadbalancers", "after=a", "Bearer secret", []byte{})
	f.Add("GET", "/v1/capabilities", "", "secret", []byte{})
	f.Add("GET", "/v1/clusters/C\n1/loadbalancers/../x", "", "Bearer secret", []byte{})
	cloud := &asked{}
	handler := (&Server{Cloud: cloud, Token: "secret"}).Handler()
	f.Fuzz(func(t *testing.T, method, path, query, authorization string, body []byte) {
		*cloud = asked{}
		r := &http.Request{Method: method, URL: &url.URL{Path: path, RawQuery: query}, Host: "provider", Header: http.Header{"Authorization": {authorization}},
			Body: io.NopCloser(bytes.NewReader(body)), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, RequestURI: path}
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r.WithContext(t.Context()))
		if len(cloud.ids) > 0 && authorization != "Bearer secret" {
			t.Errorf("%q reaches the cloud", authorization)
		}
		for _, id := range cloud.ids {
			if !label.MatchString(id.Cluster) || !label.MatchString(id.Service) {
				t.Errorf("the cloud is asked for %q", id)
			}
		}
		for _, spec := range cloud.specs {
			if err := (Admit{}).check(spec); err != nil {
				t.Errorf("%+v reaches the cloud: %v", spec, err)
			}
			var again Spec
			if err := decode(bytes.NewReader(marshal(t, spec)), &again); err != nil || again.Digest() != spec.Digest() {
				t.Errorf("%+v is sent and read as %+v, %v", spec, again, err)
			}
		}
		if w.Code/100 == 3 || path == "*" { // a path that is not clean, or none: Go answers
			return
		}
		if w.Code == http.StatusInternalServerError || w.Body.Len() > MaxAnswer {
			t.Errorf("%d: %.300s", w.Code, w.Body)
		}
		if w.Code != http.StatusOK {
			var e Error
			if err := json.Unmarshal(w.Body.Bytes(), &e); err != nil || status[e.Code] != w.Code {
				t.Fatalf("%d: %s", w.Code, w.Body)
			}
			refused(t, &e)
		}
	})
}

// FuzzObserved: whatever a cloud has, a client takes the answer: else one load balancer would spoil the list of all.
func FuzzObserved(f *testing.F) {
	o := Observed{LoadBalancer: LoadBalancer{State: Live, Message: "a\tb", Addresses: []Address{{Family: IPv4, IP: example().Families[0].Address}}}, Spec: example()}
	f.Add(marshal(f, o))
	f.Add([]byte(`{"state":"Live","Spec":{"namespace":"../x","families":[{"family":"IPv4"}],"listeners":[{"port":80,"protocol":"TCP"}]}}`))
	f.Add([]byte(`{"state":"Live","addresses":[{"family":"IPv4","ip":"0.0.0.0"}],"Spec":{"listeners":[{"port":80,"protocol":"TCP"}]}}`))
	f.Add([]byte(`{"state":"Failed","reason":"No","retryAfterSeconds":-1,"addresses":[{"family":"IPv4","ip":"203.0.113.7"}],"refused":[{"port":1,"protocol":"TCP","message":"\u0007"}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var o Observed
		if json.Unmarshal(data, &o) != nil {
			return
		}
		o.Service = web.Service
		server := Server{Cloud: stub{all: []Observed{o}}, Token: "secret"}
		w := httptest.NewRecorder()
		r := httptest.NewRequestWithContext(t.Context(), "GET", "/v1/clusters/c1/loadbalancers", nil)
		r.Header.Set("Authorization", "Bearer secret")
		server.Handler().ServeHTTP(w, r)
		all, err := said{w.Code, w.Body.Bytes()}.client(t).List(t.Context(), "c1")
		if err != nil || len(all) != 1 {
			t.Fatalf("%s: %v", w.Body, err)
		}
		if carries := len(o.Spec.Listeners) > 0 && all[0].Digest == o.Spec.Digest(); all[0].State == Live && !carries {
			t.Errorf("%+v is answered with %+v", o, all[0])
		}
	})
}
