package translate

import (
	"fmt"
	"testing"
	"time"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/lb"
	"github.com/external-lb/external-lb/test/builder"
)

// The more a Service has the hosts ask, and the more Services there are, the rarer they ask.
func TestChecksOfAServiceAreSpread(t *testing.T) {
	hasty := policy("p").For("web").Set(func(s *v1alpha1.UpstreamSettings) {
		s.HealthCheck = &v1alpha1.HealthCheck{Interval: "100ms"}
	})
	tcpChecks := policy("p").For("web").Set(func(s *v1alpha1.UpstreamSettings) {
		s.HealthCheck = &v1alpha1.HealthCheck{Type: v1alpha1.HealthCheckTCP, Interval: "100ms"}
	})
	none := policy("p").For("web").Set(func(s *v1alpha1.UpstreamSettings) {
		s.HealthCheck = &v1alpha1.HealthCheck{Type: v1alpha1.HealthCheckNone, Interval: "100ms"}
	})
	retries := policy("p").For("web").Retries(3)
	for name, tc := range map[string]struct {
		engine          v1alpha1.Engine
		policy          *builder.UpstreamPolicyBuilder
		nodes, services int
		ports, most     int
		local           bool
		want            time.Duration
	}{
		"few":                    {"haproxy", hasty, 3, 10, 1, 0, false, 100 * time.Millisecond},
		"many nodes":             {"haproxy", hasty, 500, 10, 1, 0, false, 1600 * time.Millisecond},
		"few of many nodes":      {"haproxy", hasty, 500, 10, 1, 3, false, 100 * time.Millisecond},
		"many ports":             {"haproxy", tcpChecks, 500, 10, 8, 0, false, 12800 * time.Millisecond},
		"as many as there can":   {"haproxy", tcpChecks, 500, 100, 100, 0, false, 51200 * time.Millisecond},
		"what all share":         {"haproxy", retries, 500, 100, 1, 0, false, 2 * time.Second},
		"what none shares":       {"haproxy", retries, 500, 100, 1, 0, true, 12800 * time.Millisecond},
		"an engine that asks so": {"lvs", retries, 500, 100, 1, 0, false, 12800 * time.Millisecond},
		"one that does not ask":  {"nginx", hasty, 500, 100, 1, 0, false, 100 * time.Millisecond},
		"not asked":              {"haproxy", none, 500, 100, 1, 0, false, 100 * time.Millisecond},
	} {
		web := service("web")
		for i := range tc.ports {
			web.Port(int32(80 + i))
		}
		if tc.local {
			web.Local(31080)
		}
		all := []Service{on(web, "192.0.2.1")}
		for i := 1; i < tc.services; i++ {
			all = append(all, on(service(fmt.Sprintf("s%d", i)).Port(80), "192.0.2.2"))
		}
		var nodes []*builder.NodeBuilder
		for i := range tc.nodes {
			nodes = append(nodes, builder.Node(fmt.Sprintf("n%d", i)).IP(fmt.Sprintf("10.0.%d.%d", i/250, 1+i%250)))
		}
		in := MakeInput(all...).Nodes(nodes...).Policies(tc.policy).Spec(func(s *v1alpha1.BalancerSpec) {
			s.Engine, s.Nodes.MaxPerService = tc.engine, int32(tc.most)
		})
		translator := New()
		first := translator.Translate(in.Input)
		asked := tc.policy != retries && tc.want > lb.MinInterval // a policy wants more than that
		problems := first.Services[all[0].Object.UID].Problems
		if told := len(problems) > 0 && problems[0].Reason == v1alpha1.ReasonChecksSpread && !problems[0].Fatal; told != asked || len(problems) > 1 {
			t.Errorf("%s: told %+v", name, problems)
		}
		for _, s := range first.Config.Services {
			for _, f := range s.Frontends {
				if s.ID.Name == "web" && f.Settings.HealthCheck.Interval != tc.want {
					t.Errorf("%s: %s, want %s", name, f.Settings.HealthCheck.Interval, tc.want)
				}
			}
		}
		// With less to ask for, they are made more often again.
		in.Services = all[:1]
		for _, f := range translator.Translate(in.Nodes(nodes[0]).Input).Config.Services[0].Frontends {
			if least := max(f.Settings.HealthCheck.Interval, lb.MinInterval); least > 2*time.Second {
				t.Errorf("%s: %s when alone", name, least)
			}
		}
	}
}
