package admit

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/external-lb/external-lb/internal/engine"
	"github.com/external-lb/external-lb/internal/lb"
	"github.com/external-lb/external-lb/internal/lb/lbtest"
)

func wantOutcome(t *testing.T, r Rules, m *model, carried []string, refused ...string) {
	t.Helper()
	gotCarried, gotRefused := outcome(t, r, m)
	slices.Sort(carried)
	if !slices.Equal(carried, gotCarried) {
		t.Errorf("carried %q, want %q", gotCarried, carried)
	}
	if len(refused) != len(gotRefused) {
		t.Fatalf("refused %q, want %q", gotRefused, refused)
	}
	for i := range refused {
		if !strings.Contains(gotRefused[i], refused[i]) {
			t.Errorf("refused %q, want %q", gotRefused[i], refused[i])
		}
	}
}

func TestOneListenerIsRefusedAndTheOthersAreCarried(t *testing.T) {
	m := makeModel().at("192.0.2.1:80", "192.0.2.1:443", "192.0.2.1:8080")
	m.service("dns", "192.0.2.2:53")
	wantOutcome(t, Rules{Ports: []PortRange{{80, 80}, {53, 53}, {443, 443}}}, m,
		[]string{"node/n1", "node/n2", "web 192.0.2.1:80/TCP", "web 192.0.2.1:443/TCP", "dns 192.0.2.2:53/TCP"},
		"Service default/web 192.0.2.1:8080/TCP: NotAdmitted: port 8080 is not in admit.ports")
	if s := m.parts["service/default/web/uid"].(*lb.Service); len(s.Frontends) != 3 {
		t.Error("the part that was given is changed")
	}
}

func TestOfTwoServicesWithOneListenerTheFirstHasIt(t *testing.T) {
	m := makeModel().at("192.0.2.1:80", "192.0.2.1:443")
	m.service("api", "192.0.2.1:80")
	m.service("zoo", "192.0.2.1:443")
	wantOutcome(t, Rules{}, m,
		[]string{"node/n1", "node/n2", "api 192.0.2.1:80/TCP", "web 192.0.2.1:443/TCP"},
		"Service default/web 192.0.2.1:80/TCP: Invalid: Service default/api has it already",
		"Service default/zoo 192.0.2.1:443/TCP: Invalid: Service default/web has it already")
	// What the first may not have anyway, the second has.
	m.service("api", "192.0.2.1:80").Frontends[0].NodePort = 22
	wantOutcome(t, Rules{}, m, []string{"node/n1", "node/n2", "web 192.0.2.1:80/TCP", "web 192.0.2.1:443/TCP"},
		"Service default/api 192.0.2.1:80/TCP: NotAdmitted", "Service default/zoo 192.0.2.1:443/TCP")
}

func TestAServiceIsCarriedWithoutTheNodesThatAreRefused(t *testing.T) {
	m := makeModel().has("10.0.0.2").web(func(s *lb.Service) {
		s.IPv4.Targets = lb.Targets{Nodes: []lb.Target{{Node: "n1"}, {Node: "n2"}, {Node: "n3"}}}
	})
	m.part("node/n3", fmt.Errorf("node n3: it has no address"))
	wantOutcome(t, Rules{}, m, []string{"node/n1", "web 192.0.2.1:80/TCP"}, "node n2: NotAdmitted: 10.0.0.2 is an address of this host itself", "node n3: Invalid")
}

// A node decides what it says of its address. In a network with fewer ports, it is
// left out of what it may not be sent, and nothing is taken from the others.
func TestANodeInANetworkWithFewerPortsTakesNothingFromOthers(t *testing.T) {
	r := Rules{Backends: []Backends{{Networks: prefixes("10.0.0.1/32", "10.0.0.3/32", "fd00::/16")}, {Networks: prefixes("10.0.0.2/32"), Ports: ports(31000, 31999)}}}
	m := makeModel()
	m.part("node/n3", lb.Node{Name: "n3", IPv4: netip.MustParseAddr("10.0.0.3"), Weight: 7})
	m.service("all", "192.0.2.1:80")
	m.service("both", "192.0.2.1:81").Frontends[0].NodePort = 31000
	m.service("named", "192.0.2.1:82").IPv4.Targets = lb.Targets{Nodes: []lb.Target{{Node: "n2", Weight: 3}, {Node: "n3", Weight: 5}}}
	m.service("one", "192.0.2.1:83").IPv4.Targets.Limit = 1
	m.service("lost", "192.0.2.1:84").IPv4.Targets = lb.Targets{Nodes: []lb.Target{{Node: "n2"}}}
	m.service("six", "[2001:db8::1]:80")
	got := r.Admit(m.parts, Machine{})
	nodes := engine.NewNodes(got.Config.Nodes)
	backends := map[string]string{}
	for _, s := range got.Config.Services {
		var words []string
		for _, b := range engine.Resolve(s, nodes).Frontends[0].Backends {
			words = append(words, fmt.Sprintf("%s*%d", b.Node, b.Weight))
		}
		backends[s.ID.Name] = strings.Join(words, " ")
	}
	one := backends["one"]
	if one != "n1*1" && one != "n3*7" {
		t.Errorf("one of those that it may be sent to: %s", one)
	}
	want := map[string]string{"all": "n1*1 n3*7", "both": "n1*1 n2*1 n3*7", "named": "n3*5", "one": one, "six": "n1*1 n2*1"}
	if fmt.Sprint(backends) != fmt.Sprint(want) {
		t.Errorf("got %v, want %v", backends, want)
	}
	if len(got.Refused) != 1 || got.Refused[0].Listener.Port != 84 {
		t.Errorf("refused: %+v", got.Refused)
	}
}

// A Service on many nodes costs what its ports times its nodes do. It is told, and the
// others go on.
func TestBackendsOfAServiceAreBounded(t *testing.T) {
	m := &model{parts: map[lb.Key]any{}, own: map[netip.Addr]bool{}}
	for i := range 1025 {
		m.node(fmt.Sprintf("n%04d", i), netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}).String())
	}
	wide := func(name string, ports int) *lb.Service {
		s := m.service(name, "192.0.2.1:80")
		first := s.Frontends[0]
		s.Frontends = nil
		for i := range ports {
			first.Listener.Address, first.Listener.Port = netip.AddrFrom4([4]byte{192, 0, 2, name[0]}), uint16(1+i)
			s.Frontends = append(s.Frontends, first)
		}
		return s
	}
	wide("all", 256)
	wide("few", 255)
	wide("limited", 512).IPv4.Targets.Limit = 512
	wide("named", 512).IPv4.Targets = lb.Targets{Nodes: []lb.Target{{Node: "n0000"}}}
	wide("other", 512).Frontends[0].Listener.Address = netip.MustParseAddr("2001:db8::1") // of which no node is
	got := (&Rules{}).Admit(m.parts, Machine{})
	var carried []string
	for _, s := range got.Config.Services {
		carried = append(carried, s.ID.Name)
	}
	if fmt.Sprint(carried) != "[few limited named]" {
		t.Errorf("carried: %v", carried)
	}
	if len(got.Refused) != 2 || !got.Refused[0].OfItem() || !strings.Contains(got.Refused[0].Message, "256 ports on 1025 nodes are 262400 backends, more than 262144: have fewer nodes carry it, see nodes.maxPerService of the Balancer") {
		t.Errorf("refused: %+v", got.Refused)
	}
}

func TestWhatIsAdmittedIsSorted(t *testing.T) {
	m := makeModel().brings("198.51.100.2").brings("198.51.100.10")
	for _, c := range lbtest.Certificates() {
		m.part(lb.CertificateKey(c.Name()), c)
	}
	m.service("b", "192.0.2.1:80")
	m.service("a", "192.0.2.2:80")
	got := (&Rules{}).Admit(m.parts, Machine{}).Config
	if fmt.Sprint(got.Addresses) != "[198.51.100.2 198.51.100.10]" || got.Services[0].ID.Name != "a" || got.Nodes[0].Name != "n1" || got.Certificates[0].Name() > got.Certificates[1].Name() {
		t.Errorf("%+v", got)
	}
}

// controlPlane is at 192.0.2.9:6443.
func (m *model) controlPlane(servers ...string) *lb.Service {
	s := m.service("kubernetes", "192.0.2.9:6443")
	delete(m.parts, lb.ServiceKey(s.ID))
	s.ID, s.Frontends[0].NodePort, s.IPv4, s.IPv6 = lb.ControlPlane, 6443, lb.Family{}, lb.Family{}
	for i, address := range servers {
		s.Servers = append(s.Servers, lb.Node{Name: fmt.Sprintf("cp%d", i+1), IPv4: netip.MustParseAddr(address)})
	}
	m.parts[lb.ServiceKey(s.ID)] = s
	return s
}

// anyNodePort, and the port of API servers on some machines.
func anyNodePort(servers ...string) Rules {
	return Rules{Backends: []Backends{{Networks: prefixes("10.0.0.0/24", "fd00::/16")}, {Networks: prefixes(servers...), Ports: ports(6443, 6443)}}}
}

func TestTheAPIServersAreSentToOnlyWhereTheOwnerSaysSo(t *testing.T) {
	m := makeModel().has("10.0.0.5")
	m.controlPlane("10.0.0.1", "10.1.0.2", "10.0.0.5", "10.0.0.4", "127.0.0.1")
	wantOutcome(t, Rules{}, m, []string{"node/n1", "node/n2"},
		"apiserver cp1: NotAdmitted: 10.0.0.1: nodePort 6443 is not among the ports that may be sent to (30000-32767)",
		"apiserver cp2", "apiserver cp3", "apiserver cp4", "apiserver cp5",
		"the control plane: NotAdmitted: nothing may be sent to any of its API servers")
	// Some of them: the others are told, and take nothing from these.
	r := anyNodePort("10.0.0.0/30")
	wantOutcome(t, r, m, []string{"node/n1", "node/n2", "kubernetes 192.0.2.9:6443/TCP"},
		"apiserver cp2: NotAdmitted: 10.1.0.2 is in none of the networks", "apiserver cp3: NotAdmitted: 10.0.0.5 is an address of this host itself",
		"apiserver cp4: NotAdmitted: 10.0.0.4: nodePort 6443 is not among", "apiserver cp5: NotAdmitted: 127.0.0.1 is a loopback address")
	for _, s := range r.Admit(m.parts, Machine{Addresses: m.own}).Config.Services {
		got := engine.Resolve(s, engine.NewNodes(nil)).Frontends[0].Backends
		if len(got) != 1 || got[0].Address != netip.MustParseAddrPort("10.0.0.1:6443") {
			t.Errorf("sent to %v", got)
		}
	}
}

func TestNoServiceTakesTheListenerOfTheAPIServers(t *testing.T) {
	m := makeModel()
	m.controlPlane("10.0.0.1")
	m.service("api", "192.0.2.9:6443")
	wantOutcome(t, anyNodePort("10.0.0.1/32"), m, []string{"node/n1", "node/n2", "kubernetes 192.0.2.9:6443/TCP"},
		"Service default/api 192.0.2.9:6443/TCP: Invalid: the control plane has it already")
}

// Whoever has the key cannot make it large, nor empty: it is carried whether there is room
// or not, and who is behind it says where the API is.
func TestTheControlPlaneIsBounded(t *testing.T) {
	r, m := anyNodePort("10.0.0.0/24"), makeModel()
	var many []string
	for i := range MaxServers + 2 {
		many = append(many, fmt.Sprintf("10.0.0.%d", i+10))
	}
	m.controlPlane(many...)
	wantOutcome(t, r, m, []string{"node/n1", "node/n2", "kubernetes 192.0.2.9:6443/TCP"},
		"apiserver cp65: NotAdmitted: a host carries 64 API servers at most", "apiserver cp66")
	s := m.controlPlane("10.0.0.1")
	for port := range uint16(maxDoors) {
		f := s.Frontends[0]
		f.Listener.Port = 7000 + port
		s.Frontends = append(s.Frontends, f)
	}
	wantOutcome(t, r, m, []string{"node/n1", "node/n2"}, "the control plane: NotAdmitted: it has 5 listeners")
	m.controlPlane()
	wantOutcome(t, r, m, []string{"node/n1", "node/n2"}, "the control plane: NotAdmitted: it has no API servers")
}

func TestOnlyTheControlPlaneHasAPIServers(t *testing.T) {
	m := makeModel()
	m.service("web", "192.0.2.1:80").Servers = []lb.Node{{Name: "cp1", IPv4: netip.MustParseAddr("10.0.0.1")}}
	m.controlPlane().IPv4.Targets.All = true
	wantOutcome(t, Rules{}, m, []string{"node/n1", "node/n2"},
		"the control plane: NotAdmitted: nodes or pods answer for it", "Service default/web: Invalid: it has API servers")
	m = makeModel()
	m.controlPlane("10.0.0.1").Pods = true
	wantOutcome(t, anyNodePort("10.0.0.1/32"), m, []string{"node/n1", "node/n2"}, "the control plane: NotAdmitted: nodes or pods answer for it")
}
