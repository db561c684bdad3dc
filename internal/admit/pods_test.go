package admit

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/external-lb/external-lb/internal/lb"
)

// pods makes web send to pods, at port 8080.
func (m *model) pods(addresses ...string) *model {
	return m.web(func(s *lb.Service) {
		s.Pods, s.IPv4.Targets, s.IPv6.Targets = true, lb.Targets{}, lb.Targets{}
		s.Frontends[0].NodePort = 0
		for _, a := range addresses {
			s.Frontends[0].Endpoints = append(s.Frontends[0].Endpoints, lb.Endpoint{Address: netip.AddrPortFrom(netip.MustParseAddr(a), 8080)})
		}
	})
}

func TestPods(t *testing.T) {
	some := Rules{
		Pods:     prefixes("10.244.0.0/16", "10.0.0.0/24", "192.0.2.0/24", "127.0.0.0/8", "169.254.0.0/16"),
		Backends: []Backends{{Networks: prefixes("10.0.0.0/30", "fd00::/16")}}, // of the pods' network, the part where nodes are
	}
	for name, tc := range map[string]struct {
		rules Rules
		model *model
		pods  string // that are sent to
		want  string // part of the one refusal; "": there is none
	}{
		"by default":                        {Rules{}, makeModel().pods("10.244.0.1"), "", "Service default/web: NotAdmitted: no network of pods may be sent to: name them in admit.pods of /etc/external-lb/host.yaml"},
		"by default, and there are none":    {Rules{}, makeModel().pods(), "", "admit.pods"},
		"backends are of nodes":             {Rules{Backends: []Backends{{Ports: ports(1, 65535)}}}, makeModel().pods("10.244.0.1"), "", "admit.pods"},
		"of a network that is named":        {some, makeModel().pods("10.244.0.1", "10.244.9.9"), "10.244.0.1 10.244.9.9", ""},
		"none yet":                          {some, makeModel().pods(), "", ""},
		"of another network":                {some, makeModel().pods("10.245.0.1"), "", "nothing may be sent to any of its pods: they are in none of the networks in admit.pods of /etc/external-lb/host.yaml (10.244.0.0/16"},
		"one of another network":            {some, makeModel().pods("10.244.0.1", "10.245.0.1"), "10.244.0.1", "pods of Service default/web: NotAdmitted: some of them are sent nothing: they are in none"},
		"this host":                         {some, makeModel().has("10.244.0.1").pods("10.244.0.1"), "", "an address of this host itself"},
		"in a network of this host":         {some, makeModel().hasAll("10.244.7.0/24").pods("10.244.7.1"), "", "an address of this host itself"},
		"a node":                            {some, makeModel().pods("10.0.0.1", "10.0.0.7"), "10.0.0.7", "that is an address of a node"},
		"no node is there":                  {some, makeModel().pods("10.0.0.3"), "10.0.0.3", ""},
		"loopback, whatever is named":       {some, makeModel().pods("127.0.0.1"), "", "a loopback address"},
		"link-local, whatever is named":     {some, makeModel().pods("169.254.169.254"), "", "a link-local address"},
		"where the Service itself is":       {some, makeModel().pods("192.0.2.1"), "", "what is sent there would come back"},
		"where another Service is":          {some, withOther(makeModel().pods("192.0.2.9")), "", "what is sent there would come back"},
		"an address that VRRP brings":       {some, makeModel().brings("10.244.0.1").pods("10.244.0.1"), "", "what is sent there would come back"},
		"with a health check of nodes":      {some, withChecks(makeModel().pods("10.244.0.1")), "10.244.0.1", ""},
		"with a nodePort nobody may use":    {some, withNodePort(makeModel().pods("10.244.0.1")), "10.244.0.1", ""},
		"of a network that is named, sixes": {Rules{Pods: prefixes("fd00:10:244::/56")}, sixes(makeModel().pods("fd00:10:244::7")), "fd00:10:244::7", ""},
	} {
		t.Run(name, func(t *testing.T) {
			got := tc.rules.Admit(tc.model.parts, Machine{Addresses: tc.model.own, Networks: tc.model.networks})
			var pods []string
			for _, s := range got.Config.Services {
				if s.ID.Name == "web" {
					for _, e := range s.Frontends[0].Endpoints {
						pods = append(pods, e.Address.Addr().String())
					}
				}
			}
			if text := strings.Join(pods, " "); text != tc.pods {
				t.Errorf("sends to %q, want %q", text, tc.pods)
			}
			_, refused := outcome(t, tc.rules, tc.model)
			if tc.want == "" && len(refused) > 0 || tc.want != "" && (len(refused) != 1 || !strings.Contains(refused[0], tc.want)) {
				t.Errorf("refused %q, want one with %q", refused, tc.want)
			}
			if whole := len(got.Refused) == 1 && got.Refused[0].Key == lb.ServiceKey(lb.ID{Namespace: "default", Name: "web", UID: "uid"}); whole != (len(got.Podless) == 1) {
				t.Errorf("podless: %+v", got.Podless)
			}
		})
	}
}

func withOther(m *model) *model { m.service("other", "192.0.2.9:80"); return m }

func withChecks(m *model) *model {
	s := m.parts["service/default/web/uid"].(*lb.Service)
	s.HealthCheckNodePort, s.Frontends[0].Settings.HealthCheck.Port = 22, 22
	return m
}

func withNodePort(m *model) *model {
	m.parts["service/default/web/uid"].(*lb.Service).Frontends[0].NodePort = 22
	return m
}

func sixes(m *model) *model {
	m.parts["service/default/web/uid"].(*lb.Service).Frontends[0].Listener.Address = netip.MustParseAddr("2001:db8::1")
	return m
}

// What is not refused is not there twice.
func TestPods_AreCopiedOnlyWhereSomeAreRefused(t *testing.T) {
	m := makeModel().pods("10.244.0.1", "10.244.0.2")
	s := m.parts["service/default/web/uid"].(*lb.Service)
	other := s.Frontends[0]
	other.Listener.Port = 81
	other.Endpoints = append([]lb.Endpoint{{Address: netip.MustParseAddrPort("10.243.0.1:8080")}}, other.Endpoints...)
	s.Frontends = append(s.Frontends, other)
	r := Rules{Pods: prefixes("10.244.0.0/16")}
	got := r.Admit(m.parts, Machine{}).Config.Services[0].Frontends
	if &got[0].Endpoints[0] != &s.Frontends[0].Endpoints[0] {
		t.Error("all of these may be sent to, and are copied")
	}
	if len(got[1].Endpoints) != 2 || len(other.Endpoints) != 3 || other.Endpoints[0].Address.Addr().String() != "10.243.0.1" {
		t.Errorf("%v of %v", got[1].Endpoints, other.Endpoints)
	}
}

// A pod that says it has an address of a Service takes nothing from that.
func TestPods_TakeNothingFromOthers(t *testing.T) {
	m := withOther(makeModel().pods("192.0.2.9", "10.244.0.1"))
	wantOutcome(t, Rules{Pods: prefixes("10.244.0.0/16", "192.0.2.0/24")}, m,
		[]string{"node/n1", "node/n2", "web 192.0.2.1:80/TCP", "other 192.0.2.9:80/TCP"}, "pods of Service default/web")
}

// A node says of its address what it likes, in every form. It takes no pod from a Service, and no
// listener: what the owner and the controller say counts more.
func TestANodeThatClaimsAnothersAddressTakesNothing(t *testing.T) {
	r := Rules{Pods: prefixes("10.244.0.0/16", "fd44::/16")}
	carried := []string{"node/n1", "node/n2", "high 192.0.2.9:30080/TCP", "six [2001:db8::9]:10256/TCP", "web 192.0.2.1:80/TCP"}
	for _, claim := range []struct{ address, why string }{
		{"10.244.0.1", "is in a network of pods (admit.pods of /etc/external-lb/host.yaml)"},
		{"10.244.9.9", "is in a network of pods"}, // where one may come
		{"fd44::7", "is in a network of pods"},
		{"64:ff9b::af4:1", "is in a network of pods"},
		{"2002:af4:1::", "is in a network of pods"},
		{"64:ff9b:1::af4:1", "is in a network of pods"},
		{"192.0.2.9", "is an address on which a Service is listened for"},
		{"2001:db8::9", "is an address on which a Service is listened for"},
		{"64:ff9b::c000:209", "is an address on which a Service is listened for"},
		{"2002:c000:209::1", "is an address on which a Service is listened for"},
		{"192.0.2.33", "is an address that VRRP moves between the hosts"},
		{"64:ff9b::c000:221", "is an address that VRRP moves between the hosts"},
	} {
		m := makeModel().pods("10.244.0.1").brings("192.0.2.33").node("evil", claim.address)
		m.service("high", "192.0.2.9:30080")
		m.service("six", "[2001:db8::9]:10256")
		wantOutcome(t, r, m, append(slices.Clone(carried), "address/192.0.2.33"), "node evil: NotAdmitted: "+claim.address+" "+claim.why)
	}
}

// Where pods and nodes share a network, the owner says where the nodes are. A pod there is none.
func TestTheSmallerNetworkSaysWhoseAnAddressIs(t *testing.T) {
	wide, narrow := prefixes("10.0.0.0/8", "fd00::/8"), prefixes("10.0.0.0/30", "fd00::/64")
	for name, tc := range map[string]struct {
		rules Rules
		nodes bool
	}{
		"only pods are named":          {Rules{Pods: wide}, false},
		"nodes in a larger network":    {Rules{Pods: narrow, Backends: []Backends{{Networks: wide}}}, false},
		"both in the same":             {Rules{Pods: wide, Backends: []Backends{{Networks: wide}}}, false},
		"nodes in a smaller network":   {Rules{Pods: wide, Backends: []Backends{{}, {Networks: wide}, {Networks: narrow}}}, true},
		"pods are in another":          {Rules{Pods: prefixes("10.244.0.0/16")}, true},
		"pods of the other family are": {Rules{Pods: prefixes("10.0.0.0/8"), Backends: []Backends{{Networks: prefixes("fd00::/64", "10.0.0.0/7")}}}, false},
	} {
		carried, refused := outcome(t, tc.rules, makeModel())
		if tc.nodes != (len(carried) == 2) || tc.nodes != (len(refused) == 0) {
			t.Errorf("%s: carried %q, refused %q", name, carried, refused)
		}
	}
	everywhere := Rules{Pods: prefixes("0.0.0.0/0", "::/0")} // as `external-lb render` has it
	if got := everywhere.Admit(makeModel().parts, Machine{}); len(got.Config.Nodes) != 2 || len(got.Refused) > 0 {
		t.Errorf("pods everywhere: %+v", got.Refused)
	}
	both := Rules{Pods: wide, Backends: []Backends{{Networks: narrow}}}
	wantOutcome(t, both, makeModel().pods("10.0.0.1", "10.9.0.1"), []string{"node/n1", "node/n2", "web 192.0.2.1:80/TCP"}, "that is an address of a node")
}

// The API servers are the controller's word and the owner's: a network of pods takes none of them.
func TestAPIServersStayInANetworkOfPods(t *testing.T) {
	m := makeModel().pods("10.0.0.10")
	m.controlPlane("10.0.0.9")
	r := anyNodePort("10.0.0.9/32")
	r.Pods = prefixes("10.0.0.8/29")
	wantOutcome(t, r, m, []string{"node/n1", "node/n2", "kubernetes 192.0.2.9:6443/TCP", "web 192.0.2.1:80/TCP"})
}

// However many pods are refused, the reason is printed once.
func TestPodsThatAreRefusedCostNoWords(t *testing.T) {
	some := Rules{Pods: prefixes("10.244.0.0/16", "10.245.0.0/16", "10.246.0.0/16")}
	allocated := func(pods int) float64 {
		addresses := []string{"10.244.0.1"}
		for i := range pods {
			addresses = append(addresses, fmt.Sprintf("198.51.%d.%d", i>>8, i&255))
		}
		m := makeModel().pods(addresses...)
		return testing.AllocsPerRun(5, func() { some.Admit(m.parts, Machine{}) })
	}
	few, many := allocated(10), allocated(1000)
	if many > few+10 {
		t.Errorf("%.0f allocations with 10 pods, %.0f with 1,000", few, many)
	}
}
