package translate

import (
	"fmt"
	"testing"
	"time"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/lb"
	"github.com/external-lb/external-lb/test/builder"
)

// The more a Service has the hosts ask for it alone, the rarer they ask. Services for which they do not take nothing.
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
		"many nodes":             {"haproxy", hasty, 500, 1000, 1, 0, false, 100 * time.Millisecond},
		"few of many nodes":      {"haproxy", hasty, 500, 10, 1, 3, false, 100 * time.Millisecond},
		"many ports":             {"haproxy", tcpChecks, 500, 10, 8, 0, false, 800 * time.Millisecond},
		"as many as there can":   {"haproxy", tcpChecks, 500, 100, 100, 0, false, 6400 * time.Millisecond},
		"what all share":         {"haproxy", retries, 500, 100, 1, 0, false, 2 * time.Second},
		"what none shares":       {"haproxy", retries, 500, 100, 1, 0, true, 2 * time.Second},
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

// A namespace that asks for too many checks slows its own: others have theirs as often as before, also where its
// Services are many, and so has a Service that asks little in that namespace.
func TestChecks_TheNamespaceThatAsksMostWaits(t *testing.T) {
	in := MakeInput().Spec(func(s *v1alpha1.BalancerSpec) { s.Engine = v1alpha1.EngineLVS }) // which asks for each alone
	in.Nodes()
	for i := range 100 {
		in.Input.Nodes = append(in.Input.Nodes, builder.Node(fmt.Sprint("n", i)).IP(fmt.Sprintf("10.0.0.%d", i+1)).Obj())
		in.Services = append(in.Services, tenantService("hostile", fmt.Sprint("s", i), i, 10))
	}
	modest := tenantService("hostile", "modest", 0, 1)
	in.Services = append(in.Services, modest)
	remembers := New()
	remembers.Translate(in.Input)
	victim := tenantService("victim", "web", 999, 2)
	in.Services = append(in.Services, victim)
	out := remembers.Translate(in.Input)
	intervals := map[string]time.Duration{}
	for _, s := range out.Config.Services {
		intervals[s.ID.String()] = s.Frontends[0].Settings.HealthCheck.Interval
	}
	if victim, modest, hostile := intervals["victim/web"], intervals["hostile/modest"], intervals["hostile/s7"]; victim != 2*time.Second || modest != 2*time.Second || hostile < 10*time.Second {
		t.Errorf("asked every %s for the victim, %s for the modest and %s for the hostile", victim, modest, hostile)
	}
	// All together are no more than hosts may ask.
	asked := 0
	for _, s := range out.Config.Services {
		for _, f := range s.Frontends {
			asked += len(out.Config.Nodes) * int(time.Minute/f.Settings.HealthCheck.Interval)
		}
	}
	if asked > 600_000 {
		t.Errorf("%d checks in a minute, want 600000 at most", asked)
	}
	// And when there is room, they are as often as their owners want.
	in.Services = in.Services[len(in.Services)-2:]
	for _, s := range remembers.Translate(in.Input).Config.Services {
		if d := s.Frontends[0].Settings.HealthCheck.Interval; d != 2*time.Second {
			t.Errorf("then %s is asked for every %s", s.ID, d)
		}
	}
}
