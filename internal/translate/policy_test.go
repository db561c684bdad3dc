package translate

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/engine"
	"github.com/external-lb/external-lb/internal/engine/engines"
	"github.com/external-lb/external-lb/internal/lb"
	"github.com/external-lb/external-lb/test/builder"
)

// settings of the only Service's ports, by port.
func settings(t *testing.T, in *inputBuilder) map[uint16]lb.Settings {
	t.Helper()
	out := map[uint16]lb.Settings{}
	for _, f := range in.Only(t).Frontends {
		out[f.Listener.Port] = f.Settings
	}
	return out
}

func web() Service { return on(service("web").Port(80).Port(443), "192.0.2.1") }

func TestBuiltInSettings(t *testing.T) {
	got := settings(t, MakeInput(web()))[80]
	want := lb.Settings{
		Algorithm: lb.RoundRobin, Mode: lb.ModeTCP, SendProxy: lb.ProxyNone, Retries: 2,
		ConnectTimeout: time.Second, IdleTimeout: 10 * time.Minute,
		HealthCheck: lb.HealthCheck{Type: lb.CheckAuto, Path: "/", Interval: 2 * time.Second, Timeout: time.Second, Rise: 1, Fall: 1},
	}
	if diff := cmp.Diff(want, got, compare); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestPrecedenceIsFieldByField(t *testing.T) {
	in := MakeInput(web()).Spec(func(s *v1alpha1.BalancerSpec) {
		s.Defaults = v1alpha1.UpstreamSettings{
			Algorithm: v1alpha1.Random, Retries: new(int32(9)), MaxConnections: new(int32(1000)),
			Timeouts: &v1alpha1.Timeouts{Idle: "5m"},
		}
	}).Policies(
		policy("port").For("web", "p443").Algorithm(v1alpha1.SourceHash),
		policy("service").For("web").Algorithm(v1alpha1.LeastConnections).Retries(0).Age(1),
		policy("another").For("other").Idle("1s").Age(1),
		policy("no-such-port").For("web", "p81").Idle("1s").Age(1))
	elsewhere := builder.UpstreamPolicy("elsewhere", "elsewhere").For("web").Idle("1s").Age(1)
	got := settings(t, in.Policies(elsewhere))
	for port, algorithm := range map[uint16]lb.Algorithm{80: lb.LeastConnections, 443: lb.SourceHash} {
		s := got[port]
		if s.Algorithm != algorithm || s.Retries != 0 || s.MaxConnections != 1000 ||
			s.IdleTimeout != 5*time.Minute || s.ConnectTimeout != time.Second {
			t.Errorf("port %d: %+v", port, s)
		}
	}
}

func TestTheOlderPolicyDecidesFieldByField(t *testing.T) {
	in := MakeInput(web()).Policies(
		policy("young").For("web").Algorithm(v1alpha1.Random).Retries(7),
		policy("old").For("web").Algorithm(v1alpha1.SourceHash).Age(1),
		policy("b-as-old").For("web").Idle("2s").Age(2),
		policy("a-as-old").For("web").Idle("1s").Age(2))
	s := settings(t, in)[80]
	if s.Algorithm != lb.SourceHash || s.Retries != 7 || s.IdleTimeout != time.Second {
		t.Errorf("%+v", s)
	}
}

// What the engine cannot do leaves the field to the next level.
func TestUnsupportedSettingsFallBack(t *testing.T) {
	in := MakeInput(on(service("dns").PortOf(udp, 53, 30053).PortOf(tcp, 53, 30053), "192.0.2.1")).
		Spec(func(s *v1alpha1.BalancerSpec) {
			s.Defaults.ProxyProtocol = &v1alpha1.ProxyProtocol{Send: v1alpha1.ProxyProtocolV1}
		}).
		Policies(policy("p").For("dns").Set(func(s *v1alpha1.UpstreamSettings) {
			s.Mode = v1alpha1.ModeHTTP
			s.Algorithm = v1alpha1.LeastConnections
			s.ProxyProtocol = &v1alpha1.ProxyProtocol{Send: v1alpha1.ProxyProtocolV2, Accept: new(true)}
			s.HealthCheck = &v1alpha1.HealthCheck{Type: v1alpha1.HealthCheckHTTP, HTTP: &v1alpha1.HTTPHealthCheck{Path: "/x"}}
		}))
	for _, f := range in.Only(t).Frontends {
		isTCP := f.Listener.Protocol == lb.TCP
		want := builtIn(engines.Named("nginx"), f.Listener.Protocol)
		if isTCP {
			want.Algorithm, want.Mode, want.AcceptProxy = lb.LeastConnections, lb.ModeHTTP, true // in which nginx sends no PROXY protocol
		}
		if diff := cmp.Diff(want, f.Settings, compare); diff != "" {
			t.Errorf("%s (-want +got):\n%s", f.Listener, diff)
		}
	}
}

func TestUnsupportedDefaults(t *testing.T) {
	dns := on(service("dns").PortOf(udp, 53, 30053), "192.0.2.1")
	for name, tc := range map[string]struct {
		service  Service
		defaults v1alpha1.UpstreamSettings
		want     []string // beginnings
	}{
		"none":                  {web(), v1alpha1.UpstreamSettings{Algorithm: v1alpha1.Random}, nil},
		"never":                 {web(), v1alpha1.UpstreamSettings{ProxyProtocol: sends(v1alpha1.ProxyProtocolV2)}, []string{"proxyProtocol.send=V2: nginx"}},
		"not in this mode":      {web(), v1alpha1.UpstreamSettings{Mode: v1alpha1.ModeHTTP, ProxyProtocol: sends(v1alpha1.ProxyProtocolV1)}, []string{"proxyProtocol.send=V1: nginx"}},
		"in the other mode":     {web(), v1alpha1.UpstreamSettings{ProxyProtocol: sends(v1alpha1.ProxyProtocolV1)}, nil},
		"only with UDP":         {dns, v1alpha1.UpstreamSettings{Retries: new(int32(1))}, []string{"retries: nginx"}},
		"and there is no UDP":   {web(), v1alpha1.UpstreamSettings{Retries: new(int32(1))}, nil},
		"what cannot be read":   {web(), v1alpha1.UpstreamSettings{Timeouts: &v1alpha1.Timeouts{Idle: "soon"}, Retries: new(int32(-1))}, []string{`timeouts.idle: "soon"`, `retries: -1`}},
		"what there is not":     {web(), v1alpha1.UpstreamSettings{Algorithm: "Best"}, []string{`algorithm: there is no "Best"`}},
		"with session affinity": {on(service("web").Sticky().Port(80), "192.0.2.1"), v1alpha1.UpstreamSettings{Algorithm: v1alpha1.Random}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			in := MakeInput(tc.service).Spec(func(s *v1alpha1.BalancerSpec) { s.Defaults = tc.defaults })
			got := New().Translate(in.Input).Unsupported
			if len(got) != len(tc.want) {
				t.Fatalf("%q, want %q", got, tc.want)
			}
			for i := range got {
				if !strings.HasPrefix(got[i], tc.want[i]) {
					t.Errorf("%q, want %q", got[i], tc.want[i])
				}
			}
		})
	}
}

// What the schema refuses can come from files. It costs nobody else anything.
func TestPoliciesThatCannotBeRead(t *testing.T) {
	for name, change := range map[string]func(*v1alpha1.UpstreamSettings){
		"duration":           func(s *v1alpha1.UpstreamSettings) { s.Timeouts = &v1alpha1.Timeouts{Idle: "10s; }"} },
		"duration too long":  func(s *v1alpha1.UpstreamSettings) { s.Timeouts = &v1alpha1.Timeouts{Connect: "25h"} },
		"duration too short": func(s *v1alpha1.UpstreamSettings) { s.Timeouts = &v1alpha1.Timeouts{Idle: "0s"} },
		"hasty checks":       func(s *v1alpha1.UpstreamSettings) { s.HealthCheck = &v1alpha1.HealthCheck{Interval: "99ms"} },
		"negative duration":  func(s *v1alpha1.UpstreamSettings) { s.HealthCheck = &v1alpha1.HealthCheck{Interval: "-1s"} },
		"endless text": func(s *v1alpha1.UpstreamSettings) {
			s.Timeouts = &v1alpha1.Timeouts{Idle: v1alpha1.Duration(strings.Repeat("9", 100_000))}
		},
		"algorithm":      func(s *v1alpha1.UpstreamSettings) { s.Algorithm = "least_conn; }" },
		"mode":           func(s *v1alpha1.UpstreamSettings) { s.Mode = "UDP" },
		"proxy protocol": func(s *v1alpha1.UpstreamSettings) { s.ProxyProtocol = &v1alpha1.ProxyProtocol{Send: "V3"} },
		"health check":   func(s *v1alpha1.UpstreamSettings) { s.HealthCheck = &v1alpha1.HealthCheck{Type: "Exec"} },
		"retries":        func(s *v1alpha1.UpstreamSettings) { s.Retries = new(int32(-1)) },
		"connections":    func(s *v1alpha1.UpstreamSettings) { s.MaxConnections = new(int32(10_000_001)) },
		"fall":           func(s *v1alpha1.UpstreamSettings) { s.HealthCheck = &v1alpha1.HealthCheck{Fall: new(int32(0))} },
		"path": func(s *v1alpha1.UpstreamSettings) {
			s.HealthCheck = &v1alpha1.HealthCheck{HTTP: &v1alpha1.HTTPHealthCheck{Path: "/a\nb"}}
		},
		"path of a check that is none": func(s *v1alpha1.UpstreamSettings) {
			s.HealthCheck = &v1alpha1.HealthCheck{Type: v1alpha1.HealthCheckTCP, HTTP: &v1alpha1.HTTPHealthCheck{Path: "/a"}}
		},
		"path with a space": func(s *v1alpha1.UpstreamSettings) {
			s.HealthCheck = &v1alpha1.HealthCheck{HTTP: &v1alpha1.HTTPHealthCheck{Path: "/a b"}}
		},
		"port": func(s *v1alpha1.UpstreamSettings) {
			s.HealthCheck = &v1alpha1.HealthCheck{HTTP: &v1alpha1.HTTPHealthCheck{Path: "/", Port: new(int32(65616))}}
		},
	} {
		t.Run(name, func(t *testing.T) {
			bad := policy("bad").For("web").Algorithm(v1alpha1.SourceHash).Set(change).Age(1)
			good := policy("good").For("web").Retries(5)
			s := settings(t, MakeInput(web()).Policies(bad, good))[80]
			if s.Algorithm != lb.RoundRobin || s.Retries != 5 {
				t.Errorf("%+v", s)
			}
			statuses := PolicyStatus([]*v1alpha1.UpstreamPolicy{bad.Obj(), good.Obj()}, []*corev1.Service{web().Object}, edge, nil, time.Time{})
			c := statuses["bad"][0].Conditions[0]
			if c.Type != v1alpha1.ConditionAccepted || c.Status != metav1.ConditionFalse || c.Reason != v1alpha1.ReasonInvalid {
				t.Errorf("status: %+v", c)
			}
			wantTellable(t, &Problem{Message: c.Message})
			if got := summary(statuses["good"][0]); got != "Accepted" {
				t.Errorf("the good one is %s", got)
			}
		})
	}
}

// A check asks nodes at a port of the Service, or how the node itself is: with any other
// port, the hosts would look into other tenants' Services and into nodes.
func TestHTTPHealthChecksAskAtPortsOfTheService(t *testing.T) {
	for name, tc := range map[string]struct {
		port int32
		asks bool
	}{
		"its own nodePort":        {30080, true},
		"another one of its own":  {30443, true},
		"its healthCheckNodePort": {31080, true},
		"kube-proxy's":            {10256, true},
		"another tenant's":        {30081, false},
		"kubelet's":               {10250, false},
		"the Service's port":      {80, false},
	} {
		t.Run(name, func(t *testing.T) {
			in := on(service("web").PortOf(tcp, 80, 30080).PortOf(tcp, 443, 30443).Local(31080), "192.0.2.1")
			p := policy("p").For("web").Algorithm(v1alpha1.SourceHash).Set(func(s *v1alpha1.UpstreamSettings) {
				s.HealthCheck = &v1alpha1.HealthCheck{HTTP: &v1alpha1.HTTPHealthCheck{Path: "/x", Port: &tc.port}}
			}).Age(1)
			younger := policy("younger").For("web").Algorithm(v1alpha1.Random)
			carrier := func(*corev1.Service) (Carrier, bool) {
				return Carrier{Balancer: "edge", Engines: engines.Carrying("haproxy", "")}, true
			}
			got := settings(t, MakeInput(in).Spec(func(s *v1alpha1.BalancerSpec) { s.Engine = "haproxy" }).Policies(p, younger))[80]
			if asks := got.HealthCheck.Port == uint16(tc.port); asks != tc.asks || asks != (got.Algorithm == lb.SourceHash) {
				t.Errorf("%+v", got)
			}
			all := PolicyStatus([]*v1alpha1.UpstreamPolicy{p.Obj(), younger.Obj()}, []*corev1.Service{in.Object}, carrier, nil, time.Time{})
			if c := all["p"][0].Conditions[0]; (c.Status == metav1.ConditionTrue) != tc.asks || !tc.asks && !strings.Contains(c.Message, fmt.Sprint(tc.port)) {
				t.Errorf("%+v", c)
			}
			if conflicted := strings.Contains(summary(all["younger"][0]), "Conflicted"); conflicted != tc.asks {
				t.Errorf("the younger one is %s", summary(all["younger"][0]))
			}
		})
	}
}

func TestHTTPHealthChecksAreRead(t *testing.T) {
	for _, tc := range []struct {
		in   v1alpha1.HTTPHealthCheck
		path string
		port uint16
	}{
		{v1alpha1.HTTPHealthCheck{}, "/", 0},
		{v1alpha1.HTTPHealthCheck{Path: "/healthz?"}, "", 0},
		{v1alpha1.HTTPHealthCheck{Path: "/healthz", Port: new(int32(10256))}, "/healthz", 10256},
	} {
		var got lb.Settings
		s := v1alpha1.UpstreamSettings{HealthCheck: &v1alpha1.HealthCheck{HTTP: &tc.in}}
		for _, f := range fields {
			if value := f.get(&s); value != "" {
				if err := f.set(&got, value); (err != nil) != (tc.path == "" && f.name == "healthCheck.http") {
					t.Errorf("%+v: %v", tc.in, err)
				}
			}
		}
		if got.HealthCheck.Path != tc.path || got.HealthCheck.Port != tc.port || got.HealthCheck.Type != lb.CheckHTTP {
			t.Errorf("%+v gave %+v", tc.in, got.HealthCheck)
		}
	}
}

func edge(svc *corev1.Service) (Carrier, bool) {
	return Carrier{Balancer: "edge", Engines: engines.Carrying("nginx", "")}, svc.Spec.Type == corev1.ServiceTypeLoadBalancer
}

// summary prints the conditions that are true, and the reason of a refusal.
func summary(s v1alpha1.PolicyTargetStatus) string {
	var texts []string
	for _, c := range s.Conditions {
		switch {
		case c.Status == metav1.ConditionTrue:
			texts = append(texts, c.Type)
		case c.Type == v1alpha1.ConditionAccepted:
			texts = append(texts, c.Reason)
		}
	}
	return strings.Join(texts, " ")
}

func TestPolicyStatus(t *testing.T) {
	sticky := service("sticky").Sticky().Port(80).Obj()
	dns := service("dns").PortOf(udp, 53, 30053).PortOf(tcp, 80, 30080).Obj()
	inner := service("inner").Port(80).Obj()
	inner.Spec.Type = corev1.ServiceTypeClusterIP
	services := []*corev1.Service{web().Object, sticky, dns, inner}
	gateway := policy("gateway").For("web")
	gateway.Obj().Spec.TargetRefs[0].Kind = "Gateway"
	for name, tc := range map[string]struct {
		policy *builder.UpstreamPolicyBuilder
		older  *builder.UpstreamPolicyBuilder
		want   string
		texts  string // in some message
	}{
		"in force":                   {policy("p").For("web").Retries(1), nil, "Accepted", "in force"},
		"no such Service":            {policy("p").For("wbe"), nil, v1alpha1.ReasonTargetNotFound, "wbe"},
		"no such port":               {policy("p").For("web", "http"), nil, v1alpha1.ReasonTargetNotFound, "http"},
		"no such kind":               {gateway, nil, v1alpha1.ReasonInvalid, "Gateway"},
		"not carried":                {policy("p").For("inner"), nil, v1alpha1.ReasonTargetNotOurs, "inner"},
		"an older one":               {policy("p").For("web").Retries(1), policy("o").For("web").Retries(2).Age(1), "Accepted Conflicted", "retries by o"},
		"an older one, same port":    {policy("p").For("web", "p80").Retries(1), policy("o").For("web", "p80").Retries(2).Age(1), "Accepted Conflicted", "retries by o"},
		"an older one, other field":  {policy("p").For("web").Retries(1), policy("o").For("web").Idle("1m").Age(1), "Accepted", ""},
		"an older one, other target": {policy("p").For("web").Retries(1), policy("o").For("dns").Retries(2).Age(1), "Accepted", ""},
		"an older one, other level":  {policy("p").For("web", "p80").Retries(1), policy("o").For("web").Retries(2).Age(1), "Accepted", ""},
		"an older one, invalid":      {policy("p").For("web").Retries(1), policy("o").For("web").Retries(-2).Age(1), "Accepted", ""},
		"as old, by name":            {policy("p").For("web").Retries(1), policy("o").For("web").Retries(2), "Accepted Conflicted", "retries by o"},
		"older than the other":       {policy("p").For("web").Retries(1).Age(1), policy("o").For("web").Retries(2), "Accepted", ""},
		"unsupported":                {policy("p").For("web").Set(sending(v1alpha1.ProxyProtocolV2)), nil, "Accepted Unsupported", "proxyProtocol.send=V2: "},
		"not in the mode of another": {policy("p").For("web").Set(sending(v1alpha1.ProxyProtocolV1)), policy("o").For("web").Set(inHTTP), "Accepted Unsupported", "proxyProtocol.send=V1: "},
		"in the mode that is":        {policy("p").For("web").Set(sending(v1alpha1.ProxyProtocolV1)), policy("o").For("dns").Set(inHTTP), "Accepted", ""},
		"without the mode it is for": {policy("p").For("web").Set(func(s *v1alpha1.UpstreamSettings) { s.HTTP = &v1alpha1.HTTPSettings{RedirectToHTTPS: new(true)} }), nil, "Accepted Unsupported", "http.redirectToHTTPS: it is for mode: HTTP"},
		"HTTP over UDP":              {policy("p").For("dns").Set(inHTTP), nil, "Accepted Unsupported", "mode=HTTP: HTTP is spoken over TCP"},
		"unsupported with UDP":       {policy("p").For("dns").Algorithm(v1alpha1.LeastConnections), nil, "Accepted Unsupported", "algorithm=LeastConnections: "},
		"but this port is TCP":       {policy("p").For("dns", "p80").Algorithm(v1alpha1.LeastConnections), nil, "Accepted", ""},
		"affinity decides":           {policy("p").For("sticky").Algorithm(v1alpha1.LeastConnections), nil, "Accepted Unsupported", "sessionAffinity"},
		"affinity does not matter":   {policy("p").For("sticky").Algorithm(v1alpha1.SourceHash), nil, "Accepted", ""},
	} {
		t.Run(name, func(t *testing.T) {
			p := tc.policy.Obj()
			policies := []*v1alpha1.UpstreamPolicy{p}
			if tc.older != nil {
				policies = append(policies, tc.older.Obj())
			}
			p.Generation = 7
			status := PolicyStatus(policies, services, edge, nil, time.Time{})[p.Name][0]
			if got := summary(status); got != tc.want {
				t.Errorf("%s, want %s", got, tc.want)
			}
			if carried := strings.HasPrefix(tc.want, "Accepted"); carried != (status.Balancer == "edge") {
				t.Errorf("Balancer %q", status.Balancer)
			}
			var messages []string
			for _, c := range status.Conditions {
				messages = append(messages, c.Message)
				if c.ObservedGeneration != 7 {
					t.Errorf("%s observed generation %d", c.Type, c.ObservedGeneration)
				}
			}
			if all := strings.Join(messages, "\n"); !strings.Contains(all, tc.texts) {
				t.Errorf("messages %q, want %q in them", all, tc.texts)
			}
		})
	}
}

func TestPolicyStatusHasOneEntryPerTarget(t *testing.T) {
	p := policy("p").For("web").For("nope").For("web", "p80").Retries(1)
	status := PolicyStatus([]*v1alpha1.UpstreamPolicy{p.Obj()}, []*corev1.Service{web().Object}, edge, nil, time.Time{})["p"]
	for i, want := range []string{"Accepted", v1alpha1.ReasonTargetNotFound, "Accepted"} {
		if got := summary(status[i]); got != want || status[i].TargetRef != p.Obj().Spec.TargetRefs[i] {
			t.Errorf("target %d: %s, want %s", i, got, want)
		}
	}
}

// The fields here and the table of what engines can do name each other.
func TestFieldsAndCapabilitiesAgree(t *testing.T) {
	values := map[string][]string{
		"algorithm":          {"RoundRobin", "LeastConnections", "SourceHash", "Random", "DestinationHash", "ShortestExpectedDelay", "NeverQueue"},
		"mode":               {"TCP", "HTTP"},
		"proxyProtocol.send": {"None", "V1", "V2"},
		"healthCheck.type":   {"Auto", "TCP", "HTTP", "None"},
	}
	named := map[engine.Field]bool{tlsField: true}
	for _, f := range fields {
		if !f.byValue {
			named[f.capability("")] = true
		}
		for _, v := range values[f.name] {
			named[f.capability(v)] = true
		}
	}
	listed := map[engine.Field]bool{}
	for _, c := range engine.Fields {
		if listed[c] {
			t.Errorf("%s is listed twice", c)
		}
		listed[c] = true
	}
	if diff := cmp.Diff(named, listed); diff != "" {
		t.Errorf("(-fields +capabilities):\n%s", diff)
	}
}

// Whatever is built in can be done by every engine, for whatever it carries.
func TestBuiltInSettingsAreSupported(t *testing.T) {
	for _, e := range engines.Table.Engines {
		for _, p := range []lb.Protocol{lb.TCP, lb.UDP} {
			s := builtIn(e, p)
			for _, f := range []engine.Field{
				"algorithm=" + engine.Field(s.Algorithm), "mode=" + engine.Field(s.Mode),
				"proxyProtocol.send=" + engine.Field(s.SendProxy), "healthCheck.type=" + engine.Field(s.HealthCheck.Type),
			} {
				if reason := e.Unsupported(f, p); e.Carries(p) && reason != "" {
					t.Errorf("%s over %s on %s: %s", f, p, e, reason)
				}
			}
		}
	}
}

func sends(v v1alpha1.ProxyProtocolVersion) *v1alpha1.ProxyProtocol {
	return &v1alpha1.ProxyProtocol{Send: v}
}

func sending(v v1alpha1.ProxyProtocolVersion) func(*v1alpha1.UpstreamSettings) {
	return func(s *v1alpha1.UpstreamSettings) { s.ProxyProtocol = sends(v) }
}

func inHTTP(s *v1alpha1.UpstreamSettings) { s.Mode = v1alpha1.ModeHTTP }
