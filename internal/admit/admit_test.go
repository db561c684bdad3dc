package admit

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/external-lb/external-lb/internal/lb"
	"github.com/external-lb/external-lb/internal/lb/lbtest"
)

// model builds the parts of a model and the machine that is to carry it.
type model struct {
	parts map[lb.Key]any
	own   map[netip.Addr]bool

	networks []netip.Prefix // own
}

// makeModel has nodes n1 and n2 with addresses of both families.
func makeModel() *model {
	m := &model{parts: map[lb.Key]any{}, own: map[netip.Addr]bool{}}
	return m.node("n1", "10.0.0.1", "fd00::1").node("n2", "10.0.0.2", "fd00::2")
}

func (m *model) node(name string, addresses ...string) *model {
	n := lb.Node{Name: name}
	for _, text := range addresses {
		if a := netip.MustParseAddr(text); a.Is4() {
			n.IPv4 = a
		} else {
			n.IPv6 = a
		}
	}
	m.parts[lb.NodeKey(name)] = n
	return m
}

func (m *model) has(addresses ...string) *model {
	for _, a := range addresses {
		m.own[netip.MustParseAddr(a)] = true
	}
	return m
}

func (m *model) hasAll(network string) *model {
	m.networks = append(m.networks, netip.MustParsePrefix(network))
	return m
}

func (m *model) brings(address string) *model {
	a := netip.MustParseAddr(address)
	m.parts[lb.AddressKey(a)] = a
	return m
}

func (m *model) part(key lb.Key, part any) *model { m.parts[key] = part; return m }

// service has one Frontend for each listener, such as 192.0.2.1:80, at nodePort 30080.
func (m *model) service(name string, listeners ...string) *lb.Service {
	s := &lb.Service{ID: lb.ID{Namespace: "default", Name: name, UID: "uid"}}
	s.IPv4.Targets.All, s.IPv6.Targets.All = true, true
	for _, l := range listeners {
		at := netip.MustParseAddrPort(l)
		s.Frontends = append(s.Frontends, lb.Frontend{Listener: lb.Listener{Address: at.Addr(), Port: at.Port(), Protocol: lb.TCP}, NodePort: 30080})
	}
	m.parts[lb.ServiceKey(s.ID)] = s
	return s
}

// web changes a Service web at 192.0.2.1:80.
func (m *model) web(change func(s *lb.Service)) *model {
	change(m.service("web", "192.0.2.1:80"))
	return m
}

func (m *model) nodePort(port uint16) *model {
	return m.web(func(s *lb.Service) { s.Frontends[0].NodePort = port })
}

func (m *model) at(listeners ...string) *model { m.service("web", listeners...); return m }

func addresses(all ...string) (out []netip.Addr) {
	for _, text := range all {
		out = append(out, netip.MustParseAddr(text))
	}
	return out
}

// outcome is what is carried, and what is refused and why.
func outcome(t testing.TB, r Rules, m *model) (carried, refused []string) {
	t.Helper()
	if err := r.Validate(); err != nil {
		t.Fatal(err)
	}
	got := r.Admit(m.parts, Machine{Addresses: m.own, Networks: m.networks})
	for key, part := range lbtest.Parts(got.Config) {
		s, ok := part.(*lb.Service)
		if !ok {
			carried = append(carried, string(key))
			continue
		}
		for _, f := range s.Frontends {
			carried = append(carried, s.ID.Name+" "+f.Listener.String())
		}
	}
	for _, f := range got.Refused {
		where := f.Key.Describe()
		if !f.OfItem() {
			where += " " + f.Listener.String()
		}
		refused = append(refused, fmt.Sprintf("%s: %s: %s", where, f.Reason, f.Message))
	}
	slices.Sort(carried)
	return carried, refused
}

func prefixes(texts ...string) (out []netip.Prefix) {
	for _, t := range texts {
		out = append(out, netip.MustParsePrefix(t))
	}
	return out
}

func ports(first, last uint16) []PortRange { return []PortRange{{first, last}} }

func held(at string, p lb.Protocol) []Held {
	a := netip.MustParseAddrPort(at)
	return []Held{{a.Addr(), a.Port(), p, "sshd"}}
}

func TestRules(t *testing.T) {
	wide := []Backends{{Ports: ports(1, 65535)}}
	split := []Backends{{Networks: prefixes("10.0.0.1/32", "fd00::/16")}, {Networks: prefixes("10.0.0.2/32"), Ports: ports(31000, 31999)}}
	for name, tc := range map[string]struct {
		rules Rules
		model *model
		want  string // part of the one refusal; "": there is none
	}{
		"nothing is asked":               {Rules{}, makeModel(), ""},
		"by default":                     {Rules{}, makeModel().at("192.0.2.1:80", "192.0.2.1:22", "[2001:db8::1]:443"), ""},
		"an address that is named":       {Rules{Addresses: prefixes("192.0.2.0/24")}, makeModel().at("192.0.2.1:80").brings("192.0.2.9"), ""},
		"an address that is not named":   {Rules{Addresses: prefixes("192.0.2.0/24")}, makeModel().at("198.51.100.1:80"), "Service default/web 198.51.100.1:80/TCP: NotAdmitted: 198.51.100.1 is not in admit.addresses of /etc/external-lb/host.yaml (192.0.2.0/24)"},
		"of the other family":            {Rules{Addresses: prefixes("192.0.2.0/24")}, makeModel().at("[2001:db8::1]:80"), "2001:db8::1 is not in admit.addresses"},
		"brought, and not named":         {Rules{Addresses: prefixes("192.0.2.0/24")}, makeModel().brings("198.51.100.1"), "address 198.51.100.1: NotAdmitted: 198.51.100.1 is not in admit.addresses"},
		"brought, and the host's own":    {Rules{}, makeModel().has("192.0.2.9").brings("192.0.2.9"), "192.0.2.9 is an address of this host itself, and would go"},
		"brought, own in another form":   {Rules{}, makeModel().has("192.0.2.9").brings("64:ff9b::192.0.2.9"), "an address of this host itself"},
		"a port that is named":           {Rules{Ports: ports(80, 443)}, makeModel().at("192.0.2.1:80"), ""},
		"a port that is not named":       {Rules{Ports: ports(80, 443)}, makeModel().at("192.0.2.1:444"), "port 444 is not in admit.ports of /etc/external-lb/host.yaml (80-443)"},
		"sshd's port":                    {Rules{Held: held("0.0.0.0:22", lb.TCP)}, makeModel().at("192.0.2.1:22"), `192.0.2.1:22/TCP is a port of this host's own "sshd": see admit.held`},
		"held on :: by both":             {Rules{Held: held("[::]:22", lb.TCP)}, makeModel().at("192.0.2.1:22"), `own "sshd"`},
		"held on 0.0.0.0, IPv6":          {Rules{Held: held("0.0.0.0:22", lb.TCP)}, makeModel().at("[2001:db8::1]:22"), ""},
		"held as mapped":                 {Rules{Held: held("[::ffff:192.0.2.1]:22", lb.TCP)}, makeModel().at("192.0.2.1:22"), `own "sshd"`},
		"held, another address":          {Rules{Held: held("10.9.9.9:22", lb.TCP)}, makeModel().at("192.0.2.1:22"), ""},
		"held, another protocol":         {Rules{Held: held("0.0.0.0:22", lb.UDP)}, makeModel().at("192.0.2.1:22"), ""},
		"held by nobody known":           {Rules{Held: []Held{{netip.IPv4Unspecified(), 22, lb.TCP, ""}}}, makeModel().at("192.0.2.1:22"), `own "daemons"`},
		"kubelet":                        {Rules{}, makeModel().nodePort(10250), "nodePort 10250 is not among the ports that may be sent to (30000-32767): see admit.backends"},
		"sshd of nodes":                  {Rules{}, makeModel().nodePort(22), "nodePort 22"},
		"etcd":                           {Rules{}, makeModel().nodePort(2379), "nodePort 2379"},
		"below":                          {Rules{}, makeModel().nodePort(29999), "nodePort 29999"},
		"above":                          {Rules{}, makeModel().nodePort(32768), "nodePort 32768"},
		"kube-proxy's health as traffic": {Rules{}, makeModel().nodePort(10256), "nodePort 10256"},
		"the owner takes more":           {Rules{Backends: wide}, makeModel().nodePort(22), ""},
		"a check of kubelet":             {Rules{}, makeModel().web(func(s *lb.Service) { s.Frontends[0].Settings.HealthCheck.Port = 10250 }), "the health check's port 10250"},
		"a check of kube-proxy":          {Rules{}, makeModel().web(func(s *lb.Service) { s.Frontends[0].Settings.HealthCheck.Port = HealthPort }), ""},
		"healthCheckNodePort":            {Rules{}, makeModel().web(func(s *lb.Service) { s.HealthCheckNodePort = 22 }), "healthCheckNodePort 22"},
		"direct, checked at kubelet":     {Rules{}, makeModel().nodePort(10250).web(func(s *lb.Service) { s.Direct, s.Frontends[0].NodePort = true, 10250 }), "nodePort 10250"},
		"direct":                         {Rules{}, makeModel().web(func(s *lb.Service) { s.Direct, s.Frontends[0].NodePort = true, 0 }), ""},
		"direct to sshd":                 {Rules{}, makeModel().direct("192.0.2.1:22"), "port 22 is not among"},
		"direct to kubelet":              {Rules{}, makeModel().direct("192.0.2.1:10250"), "port 10250 is not among"},
		"direct to sshd, named":          {Rules{Backends: []Backends{{}, {Ports: ports(22, 22)}}}, makeModel().direct("192.0.2.1:22"), ""},
		"a network that is not named":    {Rules{Backends: []Backends{{Networks: prefixes("10.0.0.1/32", "fd00::/16")}}}, makeModel(), "node n2: NotAdmitted: 10.0.0.2 is in none of the networks in admit.backends"},
		"one family is not named":        {Rules{Backends: []Backends{{Networks: prefixes("10.0.0.0/8")}}}, makeModel().node("n1", "10.0.0.1").node("n2", "fd00::1"), "fd00::1 is in none"},
		"two rules for a network":        {Rules{Backends: []Backends{{Ports: ports(22, 22)}, {}}}, makeModel().nodePort(30080), ""},
		"a network with few ports":       {Rules{Backends: split}, makeModel().nodePort(30080), ""},
		"a port of no network":           {Rules{Backends: split}, makeModel().nodePort(32999), "nodePort 32999"},
		"the host as a node":             {Rules{}, makeModel().has("10.0.0.2"), "node n2: NotAdmitted: 10.0.0.2 is an address of this host itself: name the ports that may be sent to in admit.ownPorts"},
		"the host as a node, by IPv6":    {Rules{}, makeModel().has("fd00::2"), "node n2: NotAdmitted: fd00::2 is an address of this host itself"},
		"own ports":                      {Rules{OwnPorts: ports(30000, 30100)}, makeModel().has("10.0.0.2").nodePort(30080), ""},
		"not one of its own ports":       {Rules{OwnPorts: ports(30000, 30010)}, makeModel().node("n1", "10.0.0.2").has("10.0.0.2").nodePort(30080), "nodePort 30080 is not among the ports that may be sent to (30000-30010): see admit.ownPorts"},
		"direct to the host":             {Rules{OwnPorts: ports(30000, 30100)}, makeModel().node("n1", "10.0.0.2").has("10.0.0.2").direct("192.0.2.1:80"), "port 80 is not among"},
		"the host by local NAT64":        {Rules{}, makeModel().has("10.0.0.9").node("n3", "64:ff9b:1:0:a:0:900::"), "an address of this host itself"},
		"the host by NAT64":              {Rules{}, makeModel().has("10.0.0.9").node("n3", "64:ff9b::10.0.0.9"), "an address of this host itself"},
		"the host by its loopback":       {Rules{}, makeModel().hasAll("198.51.100.0/24").node("n3", "198.51.100.77"), "198.51.100.77 is an address of this host itself"},
		"listening there":                {Rules{}, makeModel().hasAll("192.0.2.0/24").at("192.0.2.1:80"), ""},
		"a node at a brought address":    {Rules{}, makeModel().brings("192.0.2.9").node("n3", "192.0.2.9"), "node n3: NotAdmitted: 192.0.2.9 is an address that VRRP moves"},
		"a node at a listener":           {Rules{}, makeModel().node("n3", "192.0.2.1").at("192.0.2.1:80"), "node n3: NotAdmitted: 192.0.2.1 is an address on which a Service is listened for"},
		"what would come back":           {Rules{}, makeModel().node("n3", "192.0.2.1").at("192.0.2.1:30080"), "node n3: NotAdmitted: 192.0.2.1 is an address on which a Service is listened for"},
		"what would come back, own":      {Rules{OwnPorts: ports(30000, 32767)}, makeModel().has("192.0.2.1").node("n3", "192.0.2.1").at("192.0.2.1:31000"), "what is sent there would come back"},
		"checks that would come back":    {Rules{}, makeModel().node("n3", "192.0.2.1").at("192.0.2.1:10256"), "node n3: NotAdmitted"},
		"VRRP":                           {Rules{}, makeModel().part(lb.VRRPKey, &lb.VRRP{Interface: "eth0", RouterID: 51}), ""},
		"another router":                 {Rules{RouterIDs: []int{50}}, makeModel().part(lb.VRRPKey, &lb.VRRP{Interface: "eth0", RouterID: 51}), "the virtual router ID 51 is not in admit.routerIDs"},
		"another interface":              {Rules{Interfaces: []string{"eth1"}}, makeModel().part(lb.VRRPKey, &lb.VRRP{Interface: "eth0", RouterID: 51}), "the interface eth0 is not in admit.interfaces"},
		"a node that is not there":       {Rules{}, makeModel().web(func(s *lb.Service) { s.IPv4.Targets = lb.Targets{Nodes: []lb.Target{{Node: "n9"}}} }), "Service default/web: Invalid: it names the node n9, which was not sent"},
		"a certificate not there":        {Rules{}, makeModel().web(func(s *lb.Service) { s.Frontends[0].Settings.Certificate = "x" }), "192.0.2.1:80/TCP: Invalid: its certificate was not sent, or was refused"},
		"out of bounds":                  {Rules{}, makeModel().part("node/n3", fmt.Errorf("node n3: %w", errors.New("bad"))), "node n3: Invalid: node n3: bad"},
		"newer than this":                {Rules{}, makeModel().part("node/n3", fmt.Errorf("node n3: %w", &lb.UnknownError{What: "field 9 of Node"})), "node n3: Unknown: node n3: field 9 of Node is not known"},
	} {
		t.Run(name, func(t *testing.T) {
			_, refused := outcome(t, tc.rules, tc.model)
			switch {
			case tc.want == "" && len(refused) > 0:
				t.Errorf("refused: %s", refused)
			case tc.want != "" && (len(refused) != 1 || !strings.Contains(refused[0], tc.want)):
				t.Errorf("refused: %q, want %s", refused, tc.want)
			}
		})
	}
}

// direct is at a listener, and its packets keep that address.
func (m *model) direct(listener string) *model {
	m.service("web", listener).Direct = true
	return m
}

// Nobody may listen on these or send to them, whatever the rules say.
func TestNever(t *testing.T) {
	all := Rules{Addresses: prefixes("0.0.0.0/0", "::/0"), Backends: []Backends{{Networks: prefixes("0.0.0.0/0", "::/0"), Ports: ports(1, 65535)}}, OwnPorts: ports(1, 65535)}
	for _, text := range []string{
		"0.0.0.0", "0.1.2.3", "127.0.0.1", "127.9.9.9", "169.254.0.1", "169.254.169.254", "224.0.0.1", "239.255.255.255", "255.255.255.255",
		"::", "::1", "fe80::1", "febf::1", "fe80::1%eth0", "2001:db8::1%eth0", "ff02::1", "ff0e::1",
		"::ffff:127.0.0.1", "::ffff:0.0.0.0", "::ffff:10.0.0.1", "::ffff:169.254.169.254",
		"64:ff9b::127.0.0.1", "64:ff9b::169.254.169.254", "64:ff9b::0.0.0.0", "64:ff9b::224.0.0.1", "64:ff9b:1::127.0.0.1", "64:ff9b:1:ffff:ffff::7f00:1", "64:ff9b:1:7f00:0:100::", "64:ff9b:1:7f00:0:100::9", "64:ff9b:1:7f:0:1::", "64:ff9b:1:7f:0:1::9",
		"64:ff9b:1:0:7f:0:100::", "64:ff9b:1:ffff:7f:0:100:9", "64:ff9b:1:a9fe:a9:fe00::9", "::ffff:0:127.0.0.1", "::ffff:0:169.254.169.254", "2002:7f00:1::1", "2002:a9fe:a9fe::", "::127.0.0.1", "::2",
	} {
		a := netip.MustParseAddr(text)
		m := &model{parts: map[lb.Key]any{}, own: map[netip.Addr]bool{}}
		m.part("address/x", a).part("node/n", lb.Node{Name: "n", IPv6: a})
		m.service("web", netip.AddrPortFrom(a, 80).String())
		if carried, refused := outcome(t, all, m); len(carried) > 0 || len(refused) != 3 {
			t.Errorf("%s: carried %q, refused %q", text, carried, refused)
		}
	}
	for _, text := range []string{"10.0.0.1", "100.64.0.1", "192.0.2.1", "8.8.8.8", "fd00::1", "2001:db8::1", "64:ff9b::10.0.0.1", "64:ff9b:1::10.0.0.1", "64:ff9b:1:a00:0:100::", "64:ff9b:1:0:a:0:100:0", "::ffff:0:10.0.0.1", "2002:a00:1::1"} {
		if what := never(netip.MustParseAddr(text)); what != "" {
			t.Errorf("%s is %s", text, what)
		}
	}
}
