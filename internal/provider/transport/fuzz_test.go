package transport

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/external-lb/external-lb/internal/deliver"
	"github.com/external-lb/external-lb/internal/lb"
	"github.com/external-lb/external-lb/internal/provider/providertest"
	"github.com/external-lb/external-lb/internal/text"
	"github.com/external-lb/external-lb/provider"
)

// answers are what a provider says to each request of a kind.
type answers struct {
	mu                         sync.Mutex
	capabilities, list, change []byte
}

func (a *answers) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	body := a.change
	switch {
	case strings.HasSuffix(r.URL.Path, "/capabilities"):
		body = a.capabilities
	case r.Method == http.MethodGet:
		body = a.list
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(body) // the client is gone
}

// FuzzAnswers: whatever a provider answers, what the controller tells of it are known keys and short words, and
// nothing is live that nobody asked for as it is.
func FuzzAnswers(f *testing.F) {
	marshal := func(v any) []byte {
		out, err := json.Marshal(v)
		if err != nil {
			f.Fatal(err)
		}
		return out
	}
	all, err := new(lb.Encoder).Encode(config(service("web", 30080), service("dns", 30053)))
	if err != nil {
		f.Fatal(err)
	}
	can, _ := (&providertest.Cloud{}).Capabilities(f.Context())
	asked, _ := wishes(all, can)
	shown := func(service string) provider.LoadBalancer {
		w := asked["uid-"+service]
		b := providertest.Observed(provider.ID{Service: "uid-" + service}, w.spec).LoadBalancer
		b.Namespace, b.Name, b.Digest = "default", service, w.spec.Digest()
		return b
	}
	web, dns := shown("web"), shown("dns")
	pageOf := func(b ...provider.LoadBalancer) []byte { return marshal(provider.List{LoadBalancers: b}) }
	stranger, failed := web, web
	stranger.Service, failed.State, failed.Message = "stranger", provider.Failed, "no\nmore"
	failed.Addresses = []provider.Address{{Family: provider.IPv4, Hostname: "a.example"}}
	f.Add(marshal(can), pageOf(dns), marshal(web))
	f.Add(marshal(can), pageOf(dns, web), []byte{})
	f.Add(marshal(can), pageOf(stranger), []byte(`{"code":"QuotaExceeded","message":"no\n"}`))
	f.Add(marshal(can), pageOf(dns), marshal(failed))

	said := &answers{}
	server := httptest.NewServer(said)
	f.Cleanup(server.Close)
	client, err := provider.NewClient(server.URL, "secret", nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, capabilities, list, change []byte) {
		said.mu.Lock()
		said.capabilities, said.list, said.change = capabilities, list, change
		said.mu.Unlock()
		c := Dialer{}.begin(t.Context(), client, deliver.Target{Balancer: "edge", Cluster: "c1"})
		defer c.Close()
		if err := c.ask(t.Context()); err != nil {
			wantShort(t, trouble(err).Error())
			return
		}
		c.mu.Lock()
		c.want(all)
		c.mu.Unlock()
		status, err := c.Status(t.Context())
		if err != nil {
			wantShort(t, err.Error())
			return
		}
		wantShort(t, status.EngineVersion)
		for _, uid := range c.differing() {
			if _, err := c.turn(uid, &job{key: c.key(uid)}); err != nil {
				wantShort(t, err.Error())
			}
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		report := c.report()
		for _, r := range report.Refused {
			wantShort(t, r.Message)
			if r.Reason == "" || lb.CheckKey(r.Key) != nil {
				t.Errorf("%+v", r)
			}
		}
		for key, sum := range report.Live.All() {
			it, wanted := all.Get(key)
			if lb.CheckKey(key) != nil || sum != (lb.Sum{}) && (!wanted || it.Sum != sum) {
				t.Errorf("%q is live with %x", key, sum)
			}
		}
		for key, addresses := range c.given {
			id, _ := key.ServiceID()
			if w := c.wishes[id.UID]; w == nil || !w.fulfilled(c.seen[id.UID]) || len(addresses) == 0 {
				t.Errorf("%q is given %v", key, addresses)
			}
		}
	})
}

// wantShort wants words that can be shown.
func wantShort(t *testing.T, words string) {
	t.Helper()
	if len(words) > 1000 || strings.ContainsFunc(words, text.Unprintable) {
		t.Errorf("it says %.1000q", words)
	}
}
