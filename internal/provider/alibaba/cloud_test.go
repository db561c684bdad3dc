package alibaba

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/external-lb/external-lb/internal/provider/alibaba/alibabatest"
	"github.com/external-lb/external-lb/internal/provider/kit"
	"github.com/external-lb/external-lb/internal/provider/providertest"
	"github.com/external-lb/external-lb/provider"
)

// Whatever somebody changes by hand is seen, and mended.
func TestDrift_IsSeenAndMended(t *testing.T) {
	both := []string{"weight", "server less", "server more", "port", "listener less", "listener more", "listener off", "another group", "group's name", "timeout", "algorithm", "no check", "description", "twin", "locked"}
	for kind, changes := range map[string][]string{
		"nlb": append([]string{"client address", "rate"}, both...),
		"clb": append([]string{"open", "black list", "bandwidth", "off", "list less", "list with everybody"}, both...),
	} {
		for _, change := range changes {
			t.Run(kind+"/"+change, func(t *testing.T) {
				t.Parallel()
				s := newScene(t, kind)
				want := full(s.Cloud)
				providertest.Reach(t, s, web, &want)
				if err := s.double.Change(web.Service, change); err != nil {
					t.Fatal(err)
				}
				o, err := s.Get(t.Context(), web)
				if err != nil || o.State == provider.Live && o.Spec.Digest() == want.Digest() {
					t.Fatalf("not seen: %v, %v", o, err)
				}
				if change == "locked" {
					if o.State != provider.Failed || !strings.Contains(o.Message, "bills") {
						t.Errorf("%s: %s", o.State, o.Message)
					}
					return
				}
				providertest.Reach(t, s, web, &want)
			})
		}
	}
}

// What is there already takes no write, and a change no more than it must.
func TestPut_CostsWhatItChanges(t *testing.T) {
	eachKind(t, func(t *testing.T, s scene) {
		want := *providertest.SpecOf(s.Cloud, 80)
		count := func(what string) {
			s.with(func(c *alibabatest.Cloud) { clear(c.Calls) })
			providertest.Reach(t, s, web, &want)
			s.with(func(c *alibabatest.Cloud) {
				n := 0
				for action, calls := range c.Calls {
					if !strings.HasPrefix(action, "Describe") && !strings.HasPrefix(action, "List") {
						n += calls
					}
				}
				t.Logf("%s: %d writes, %v", what, n, c.Calls)
				if limit := map[string]int{"made": 6, "again": 0, "a node more": 1, "a port more": 4}[what]; n > limit {
					t.Errorf("%s took %d writes, want %d at most: %v", what, n, limit, c.Calls)
				}
			})
		}
		count("made")
		count("again")
		want.Families[0].Members = append(want.Families[0].Members, provider.Member{Address: netip.MustParseAddr("192.0.2.12"), Weight: 1})
		count("a node more")
		want = provider.Spec{Namespace: want.Namespace, Name: want.Name, Families: want.Families, Listeners: providertest.SpecOf(s.Cloud, 80, 81).Listeners}
		count("a port more")
	})
}

// What is asked of every provider holds, with traffic through the double.
func TestProvider_KeepsItsContract(t *testing.T) {
	for name, o := range kinds {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			double := alibabatest.New(t)
			double.Lock()
			double.Carry, double.PageSize = true, 3
			double.Unlock()
			double.Stranger()
			s := &provider.Server{Cloud: newCloud(t, double, o, providertest.Same), Token: "secret", Admit: provider.Admit{Nodes: []netip.Prefix{netip.MustParsePrefix("127.1.0.0/16")}}}
			server := httptest.NewServer(s.Handler())
			t.Cleanup(server.Close)
			options := kit.Options{URL: server.URL, Token: "secret", Timeout: time.Minute, Member: netip.MustParseAddr("127.1.0.1"), Address: netip.MustParseAddr("127.2.200.1"), Dial: double.Dial,
				Strangers: func(context.Context) (string, error) { return double.Strangers(), nil },
				Drift: func(_ context.Context, id provider.ID, _ provider.LoadBalancer) error {
					return double.Change(id.Service, "port")
				}}
			err := kit.Run(t.Context(), options, func(r kit.Result) {
				if t.Logf("%s: %v %s %+v", r.Name, r.Err, r.Skipped, r.Calls); r.Err != nil {
					t.Fail()
				}
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
}

// A provider that dies before or after any write finds all that it has made when it comes back, and nothing twice.
func TestCrash_BetweenAnyTwoCalls(t *testing.T) {
	for _, name := range []string{"nlb", "clb"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			double, o := alibabatest.New(t), kinds[name]
			providertest.Crashes{
				Sources: o.Type == CLB,
				New: func(through func(http.RoundTripper) http.RoundTripper) provider.Cloud {
					return newCloud(t, double, o, through)
				},
				Writes: func(r *http.Request) bool {
					for name, action := range r.Header { // the vendor's client writes them in small letters
						if strings.EqualFold(name, "x-acs-action") {
							return !strings.HasPrefix(action[0], "Describe") && !strings.HasPrefix(action[0], "List")
						}
					}
					return false
				},
				Alone: func(t *testing.T, id provider.ID, there bool) {
					balancers := 0
					for _, o := range double.Owned(id.Cluster, id.Service) {
						if strings.HasPrefix(o, "nlb-") || strings.HasPrefix(o, "lb-") && !strings.Contains(o, " ") {
							balancers++
						} else if !there {
							t.Errorf("%s is left over", o)
						}
					}
					if balancers != map[bool]int{true: 1}[there] {
						t.Errorf("%d load balancers have its tags", balancers)
					}
				},
			}.Run(t)
		})
	}
}
