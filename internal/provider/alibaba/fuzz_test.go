package alibaba

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/external-lb/external-lb/internal/provider/alibaba/alibabatest"
	"github.com/external-lb/external-lb/internal/provider/providertest"
	"github.com/external-lb/external-lb/provider"
)

// actionOf a request, in a header that the vendor's client spells in its own way.
func actionOf(r *http.Request) string {
	for name, values := range r.Header {
		if strings.EqualFold(name, "x-acs-action") {
			return strings.Join(values, "")
		}
	}
	return ""
}

// heard keeps the last answer to each action that reads.
type heard struct {
	via http.RoundTripper
	all map[string]json.RawMessage
}

func (h heard) RoundTrip(r *http.Request) (*http.Response, error) {
	answer, err := h.via.RoundTrip(r)
	if err != nil || answer.StatusCode != http.StatusOK || !onlyReads(r) {
		return answer, err
	}
	body, err := io.ReadAll(answer.Body)
	answer.Body = io.NopCloser(bytes.NewReader(body))
	h.all[actionOf(r)] = body
	return answer, err
}

func onlyReads(r *http.Request) bool { return call{action: actionOf(r)}.reads() }

// told is what the APIs say of a load balancer for a Spec, by action.
func told(t testing.TB, double *alibabatest.Cloud, kind string, change func(*provider.Spec)) []byte {
	t.Helper()
	said := heard{http.DefaultTransport, map[string]json.RawMessage{}}
	cloud := newCloud(t, double, kinds[kind], func(http.RoundTripper) http.RoundTripper { return said })
	want := full(cloud)
	change(&want)
	providertest.Reach(t, cloud, web, &want)
	if _, err := cloud.session().one(t.Context(), web); err != nil {
		t.Fatal(err)
	}
	if _, _, err := cloud.session().nodes(t.Context(), want.Families[0].Members); err != nil {
		t.Fatal(err)
	}
	out, err := json.Marshal(said.all)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// repeats is a Cloud whose APIs answer out of one text: each action with its part.
func repeats(t testing.TB, kind string, body []byte) (*Cloud, *providertest.API) {
	var all map[string]json.RawMessage
	_ = json.Unmarshal(body, &all) // what is no JSON has no parts
	api := &providertest.API{Read: func(r *http.Request) ([]byte, bool) { return all[actionOf(r)], onlyReads(r) }}
	return newCloud(t, &alibabatest.Cloud{URL: "http://127.0.0.1"}, kinds[kind], func(http.RoundTripper) http.RoundTripper { return api }), api
}

// seeds are load balancers that carry what is wanted, with one listener each: each has the same group.
func seeds(t testing.TB, each func(kind string, body []byte)) {
	for kind := range kinds {
		for i := range 3 {
			double := alibabatest.New(t)
			each(kind, told(t, double, kind, func(s *provider.Spec) { s.Listeners = s.Listeners[i : i+1] }))
		}
	}
}

// What the fuzzer begins with is what it is about.
func TestSeeds_AreLoadBalancersThatCarry(t *testing.T) {
	seeds(t, func(kind string, body []byte) {
		if cloud, api := repeats(t, kind, body); !api.Settled(t, cloud, web) {
			o, err := cloud.Get(t.Context(), web)
			t.Errorf("%s: %+v, %v of %s", kind, o, err, body)
		}
	})
}

// FuzzAnswers: whatever the cloud has, two readers of it agree: who reads it back, and who changes it.
func FuzzAnswers(f *testing.F) {
	seeds(f, func(kind string, body []byte) { f.Add(kind, body) })
	f.Fuzz(func(t *testing.T, kind string, body []byte) {
		if _, known := kinds[kind]; !known {
			kind = "nlb"
		}
		cloud, api := repeats(t, kind, body)
		// What no listener has carries nothing, and goes with the next change.
		session := cloud.session()
		if is, err := session.one(t.Context(), web); err == nil && is.lb != nil {
			if o := is.observed(session); o.State == provider.Live {
				if unused, busy := session.unused(is, o.Spec); len(unused) == 0 && !busy {
					api.Settled(t, cloud, web)
				}
			}
		}
		if all, err := cloud.List(t.Context(), web.Cluster); err == nil {
			for _, o := range all {
				if o.State == provider.Live && (len(o.Spec.Listeners) == 0 || strings.Contains(o.Message, "\x00")) {
					t.Errorf("%+v", o)
				}
			}
		}
	})
}

// FuzzRefusals: whatever the APIs say in place of an answer, it is told in the words of the contract.
func FuzzRefusals(f *testing.F) {
	api, clouds := new(providertest.Refusal), map[string]*Cloud{}
	for kind, options := range kinds {
		clouds[kind] = newCloud(f, &alibabatest.Cloud{URL: "http://127.0.0.1"}, options, func(http.RoundTripper) http.RoundTripper { return api })
		f.Add(kind, http.StatusForbidden, "", []byte(`{"Code":"Forbidden.RAM","Message":"User not authorized to operate on the specified resource."}`))
		f.Add(kind, http.StatusNotFound, "", []byte(`{"Code":"ResourceNotFound.loadBalancer","Message":"The specified resource loadBalancer is not found."}`))
		f.Add(kind, http.StatusBadRequest, "1", []byte(`{"Code":"Throttling.User","Message":"Request was denied due to user flow control."}`))
		f.Add(kind, http.StatusBadRequest, "", []byte(`{"Code":"InvalidLoadBalancerId.NotFound","Message":"The specified LoadBalancerId does not exist."}`))
		f.Add(kind, http.StatusServiceUnavailable, "Fri, 31 Dec 9999 23:59:59 GMT", []byte(`{"Code":7,"Message":{}}`))
		f.Add(kind, http.StatusInternalServerError, "-1", []byte(`<html>`))
	}
	f.Fuzz(func(t *testing.T, kind string, status int, after string, body []byte) {
		if c := clouds[kind]; c != nil {
			api.Told(t, c, status, after, body)
		}
	})
}
