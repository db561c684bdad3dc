package alibaba

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/aliyun/credentials-go/credentials"

	"github.com/external-lb/external-lb/internal/provider/alibaba/alibabatest"
	"github.com/external-lb/external-lb/internal/provider/kit"
	"github.com/external-lb/external-lb/internal/provider/providertest"
	"github.com/external-lb/external-lb/provider"
)

// kinds of load balancers.
var kinds = map[string]Options{
	"nlb":         {Type: NLB, VPC: "vpc-1", Zones: []Zone{{"cn-hangzhou-a", "vsw-a"}, {"cn-hangzhou-b", "vsw-b"}}},
	"clb":         {Type: CLB, VPC: "vpc-1"},
	"clb private": {Type: CLB, VPC: "vpc-1", Private: true, Spec: "slb.s1.small", Zones: []Zone{{"cn-hangzhou-a", "vsw-a"}}},
}

func newCloud(t testing.TB, double *alibabatest.Cloud, o Options, through func(http.RoundTripper) http.RoundTripper) *Cloud {
	t.Helper()
	key, err := credentials.NewCredential(new(credentials.Config).SetType("access_key").SetAccessKeyId(alibabatest.Key).SetAccessKeySecret("secret"))
	if err != nil {
		t.Fatal(err)
	}
	api, err := NewAPI("cn-hangzhou", double.URL, key, through(http.DefaultTransport))
	if err != nil {
		t.Fatal(err)
	}
	return &Cloud{API: api, Options: o}
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
