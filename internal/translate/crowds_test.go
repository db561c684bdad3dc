package translate

import (
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/test/builder"
)

// manyPolicies for one Service, the oldest first: each for 63 of its ports, and for all of it.
func manyPolicies(n int) (out []*builder.UpstreamPolicyBuilder) {
	for i := range n {
		p := policy(fmt.Sprintf("p%04d", i)).Age(n - i).Retries(int32(i % 9)).For("web")
		for section := range 63 {
			p.For("web", fmt.Sprint("p", section+1))
		}
		out = append(out, p)
	}
	return out
}

// counted is how often a field is looked up meanwhile.
func counted(t *testing.T, during func()) (n int) {
	t.Helper()
	get := fields[0].get
	fields[0].get = func(s *v1alpha1.UpstreamSettings) string { n++; return get(s) }
	defer func() { fields[0].get = get }()
	during()
	return n
}

func withPorts(n int) *builder.ServiceBuilder {
	web := service("web")
	for i := range n {
		web.Port(int32(i + 1))
	}
	return web
}

// What a Service costs goes by its ports and its policies, and not by one times the other.
func TestPolicies_SettingsAreSettledOnceForEachSet(t *testing.T) {
	for name, tc := range map[string]struct{ policies, ports, most int }{
		"as many as count":       {MaxPolicies, 500, 40 + MaxPolicies + 64*(2*MaxPolicies+1)},
		"many":                   {500, 500, 40 + MaxPolicies + 64*(2*MaxPolicies+1)},
		"of a Service too large": {500, 10_000, 40 + MaxPolicies},
	} {
		t.Run(name, func(t *testing.T) {
			in := MakeInput(on(withPorts(tc.ports), "192.0.2.1")).Policies(manyPolicies(tc.policies)...)
			if n := counted(t, func() { New().Translate(in.Input) }); n > tc.most {
				t.Errorf("a field is looked up %d times, want %d at most", n, tc.most)
			}
		})
	}
}

// So does what policies are told.
func TestPolicies_StatusesAreWorkedOutOnceForEachSet(t *testing.T) {
	const policies, targets = 200, 64
	var all []*v1alpha1.UpstreamPolicy
	for _, p := range manyPolicies(policies) {
		all = append(all, p.Obj())
	}
	svc := withPorts(500).Obj()
	n := counted(t, func() { PolicyStatus(all, []*corev1.Service{svc}, edge, nil, time.Time{}) })
	if most := policies + MaxPolicies + MaxPolicies*targets*6 + 64*(2*MaxPolicies+1); n > most {
		t.Errorf("a field is looked up %d times, want %d at most", n, most)
	}
}

func TestPolicies_TheOldestCount(t *testing.T) {
	var all []*v1alpha1.UpstreamPolicy
	in := MakeInput(web())
	for i, p := range manyPolicies(MaxPolicies + 1) {
		if i == MaxPolicies { // nobody else says that
			p.Idle("7m")
		}
		all = append(all, p.Obj())
		in.Policies(p)
	}
	for port, s := range settings(t, in) {
		if s.IdleTimeout == 7*time.Minute {
			t.Errorf("the youngest decides on port %d", port)
		}
	}
	statuses := PolicyStatus(all, []*corev1.Service{web().Object}, edge, nil, time.Time{})
	if c := statuses["p0031"][0].Conditions[0]; c.Reason != v1alpha1.ReasonAccepted {
		t.Errorf("the last that counts is told %+v", c)
	}
	c := statuses["p0032"][0].Conditions[0]
	if c.Reason != v1alpha1.ReasonTooManyPolicies || c.Status != "False" || !strings.Contains(c.Message, "the 32 oldest count") {
		t.Errorf("the one that is too many is told %+v", c)
	}
}

// Nobody is served in plain text who was promised TLS, also by a policy too many.
func TestPolicies_OneTooManyOpensNoPortWithoutItsTLS(t *testing.T) {
	in := MakeInput(web()).Secrets(MakeSecret("cert", 1))
	for i := range MaxPolicies {
		in.Policies(policy(fmt.Sprint("old", i)).Age(9).For("web").Retries(1))
	}
	remembers := New()
	remembers.Translate(in.Input)
	in.Policies(policy("young").For("web", "p443").TLS("cert"))
	out := remembers.Translate(in.Input)
	if got := out.Config.Services[0].Frontends; len(got) != 1 || got[0].Listener.Port != 80 {
		t.Errorf("carried %+v", got)
	}
	if r := out.Services["web-uid"]; r.PortErrors[PortKey{tcp, 443}] != v1alpha1.PortErrorTLS || r.Problems[0].Reason != v1alpha1.ReasonTLSNotSupported {
		t.Errorf("told %+v", r)
	}
	// One that counts decides on it.
	in.Input.Policies[0] = policy("old0").Age(9).For("web").TLS("cert").Obj()
	if got := remembers.Translate(in.Input).Config.Services[0].Frontends; len(got) != 2 {
		t.Errorf("carried %+v", got)
	}
}
