package openstack

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"

	"github.com/external-lb/external-lb/provider"
)

// A list costs as many calls as Octavia gives pages, of load balancers and of what is below each, also where its last
// page is an empty one.
func TestList_SaysWhatItCosts(t *testing.T) {
	var asked atomic.Int32
	lb := func(n int) string {
		return fmt.Sprintf(`{"id": "b%d", "provisioning_status": "ACTIVE", "tags": ["external-lb:cluster=c1", "external-lb:service=s%d"]}`, n, n)
	}
	const next = `_links": [{"rel": "next", "href": "http://%s%s?marker=%d"}]`
	var at string
	pages := map[string]func(marker string) string{
		"/v2.0/lbaas/loadbalancers": func(marker string) string {
			switch marker {
			case "":
				return fmt.Sprintf(`{"loadbalancers": [%s, %s], "loadbalancers`+next+`}`, lb(1), lb(2), at, "/v2.0/lbaas/loadbalancers", 2)
			case "2":
				return fmt.Sprintf(`{"loadbalancers": [%s], "loadbalancers`+next+`}`, lb(3), at, "/v2.0/lbaas/loadbalancers", 3)
			}
			return `{"loadbalancers": []}`
		},
		"/v2.0/lbaas/listeners":        func(string) string { return `{"listeners": []}` },
		"/v2.0/lbaas/pools":            func(string) string { return `{"pools": [{"id": "p", "healthmonitor_id": "m"}]}` },
		"/v2.0/lbaas/pools/p/members":  func(string) string { return `{"members": [{"id": "a"}]}` },
		"/v2.0/lbaas/healthmonitors/m": func(string) string { return `{"healthmonitor": {"id": "m"}}` },
	}
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		w.Header().Set("Content-Type", "application/json")
		page, known := pages[r.URL.Path]
		if !known {
			t.Errorf("asked for %s", r.URL)
			page = func(string) string { return "{}" }
		}
		_, _ = fmt.Fprint(w, page(r.URL.Query().Get("marker")))
	}))
	defer api.Close()
	at = api.Listener.Addr().String()
	all, err := (&Cloud{API: WithoutCredentials(api.URL, "p")}).List(t.Context(), "c1")
	var sum provider.Calls
	for _, o := range all {
		sum.Reads, sum.Writes = sum.Reads+o.Calls.Reads, sum.Writes+o.Calls.Writes
	}
	if err != nil || len(all) != 3 || sum.Reads != asked.Load() || sum.Writes != 0 || sum.Reads != 3+3*4 {
		t.Errorf("%d load balancers, %v: said %+v, and it was asked %d times", len(all), err, sum, asked.Load())
	}
}
