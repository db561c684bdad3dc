package transport

import (
	"net/netip"
	"testing"
	"time"

	"github.com/external-lb/external-lb/internal/lb"
	"github.com/external-lb/external-lb/internal/provider/providertest"
	"github.com/external-lb/external-lb/provider"
)

// specOf is the Spec of the only Service of a model, and what of it is refused.
func specOf(t *testing.T, cfg *lb.Config, cannot ...provider.Setting) (provider.Spec, []lb.Refusal) {
	t.Helper()
	set, err := new(lb.Encoder).Encode(cfg)
	if err != nil {
		t.Fatal(err)
	}
	can, _ := (&providertest.Cloud{}).Capabilities(t.Context())
	for _, s := range cannot {
		can.Settings[s] = provider.Support{Missing: "not " + string(s)}
	}
	all, refused := wishes(set, can)
	if len(all) != 1 || len(refused) > 0 {
		t.Fatalf("%v %v", all, refused)
	}
	for _, w := range all {
		return w.spec, w.refused
	}
	panic("unreachable")
}

func TestSpec_HealthChecks(t *testing.T) {
	auto := service("web", 30080)
	local := service("web", 30080)
	local.HealthCheckNodePort = 32000
	for name, c := range map[string]struct {
		service *lb.Service
		cannot  []provider.Setting
		kind    string
		port    uint16
	}{
		"kube-proxy says":               {auto, nil, provider.CheckHTTP, 10256},
		"kube-proxy says for a Service": {local, nil, provider.CheckHTTP, 32000},
		"the cloud cannot ask":          {auto, []provider.Setting{"healthCheck.type=Auto"}, provider.CheckTCP, 0},
		"the cloud asks nothing":        {auto, []provider.Setting{"healthCheck.type=Auto", "healthCheck.type=TCP", "healthCheck.type=HTTP"}, provider.CheckNone, 0},
	} {
		s, _ := specOf(t, config(c.service), c.cannot...)
		if h := s.Listeners[0].Settings.HealthCheck; h.Type != c.kind || h.Port != c.port {
			t.Errorf("%s: %+v", name, h)
		}
	}
}

// Nothing speaks HTTP at a nodePort of datagrams: kube-proxy is asked, unless the policy names a port.
func TestSpec_HealthChecksOfDatagrams(t *testing.T) {
	for port, want := range map[uint16]uint16{0: 10256, 8080: 8080} {
		svc := service("dns", 30080)
		f := &svc.Frontends[0]
		f.Listener.Protocol = lb.UDP
		f.Settings.HealthCheck.Type, f.Settings.HealthCheck.Port, f.Settings.HealthCheck.Path = lb.CheckHTTP, port, "/ok"
		s, refused := specOf(t, config(svc))
		if h := s.Listeners[0].Settings.HealthCheck; len(refused) > 0 || h.Type != provider.CheckHTTP || h.Port != want {
			t.Errorf("%d: %+v, %v", port, h, refused)
		}
	}
}

// A cloud that gives no address by itself is not asked for one.
func TestSpec_ACloudThatGivesNoAddress(t *testing.T) {
	svc := service("web", 30080)
	svc.Frontends[0].Listener.Address = netip.IPv4Unspecified()
	if s, refused := specOf(t, config(svc)); len(s.Listeners) != 1 || s.Families[0].Address.IsValid() || len(refused) > 0 {
		t.Errorf("%+v %+v", s, refused)
	}
	s, refused := specOf(t, config(svc), provider.GivenAddress)
	if len(s.Listeners) > 0 || len(refused) != 1 || refused[0].Message != "the cloud gives no address by itself: not givenAddress" {
		t.Errorf("%+v %+v", s, refused)
	}
}

func TestSpec_MembersAndSources(t *testing.T) {
	svc := service("web", 30080)
	svc.Affinity = 1500 * time.Millisecond
	svc.IPv4 = lb.Family{
		Targets: lb.Targets{Nodes: []lb.Target{{Node: "n1", Weight: 3}, {Node: "n2", Weight: 1, Draining: true}}},
		Clients: lb.Clients{Sources: []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")}},
	}
	s, _ := specOf(t, config(svc))
	f := s.Families[0]
	if len(f.Members) != 1 || f.Members[0].Weight != 1 || s.AffinitySeconds != 2 || len(f.Sources) != 1 || f.Sources[0].Bits() != 24 {
		t.Errorf("%+v", s) // with affinity, members are equal
	}
	svc.Affinity = 0
	if s, _ = specOf(t, config(svc)); s.Families[0].Members[0].Weight != 3 {
		t.Errorf("%+v", s)
	}
	if s, _ = specOf(t, config(svc), provider.Weights); s.Families[0].Members[0].Weight != 1 {
		t.Errorf("%+v", s)
	}
	hashed := frontend("192.0.2.1", 443, 30443)
	hashed.Settings.Algorithm = lb.SourceHash
	svc.Frontends = append(svc.Frontends, hashed)
	if s, _ = specOf(t, config(svc)); s.Families[0].Members[0].Weight != 1 || len(s.Listeners) != 2 {
		t.Errorf("%+v", s)
	}
	svc.IPv4.Clients = lb.Clients{Everybody: true}
	if s, _ = specOf(t, config(svc)); len(s.Families[0].Sources) != 1 || s.Families[0].Sources[0].String() != "0.0.0.0/0" {
		t.Errorf("%+v", s)
	}
}

// The flavor is passed on as it is: the cloud knows which ones it has.
func TestSpec_HasTheFlavor(t *testing.T) {
	svc := service("web", 30080)
	if s, _ := specOf(t, config(svc)); s.Flavor != "" {
		t.Errorf("nobody asked for %q", s.Flavor)
	}
	svc.Flavor = "big"
	s, refused := specOf(t, config(svc))
	if s.Flavor != "big" || len(refused) > 0 {
		t.Errorf("%+v %+v", s, refused)
	}
	if left := kept(s, s); left.Flavor != "big" {
		t.Errorf("what is kept of it wants %q", left.Flavor)
	}
}

// The certificate of a port is passed on; where the cloud has none, that port is left out: it is
// never open without TLS.
func TestSpec_HasTheCertificate(t *testing.T) {
	svc, secure := service("web", 30080), frontend("192.0.2.1", 443, 30443)
	secure.Settings.CloudCertificate = "shop"
	svc.Frontends = append(svc.Frontends, secure)
	s, refused := specOf(t, config(svc))
	if len(s.Listeners) != 2 || s.Listeners[0].Certificate != "" || s.Listeners[1].Certificate != "shop" || len(refused) > 0 {
		t.Errorf("%+v %+v", s, refused)
	}
	s, refused = specOf(t, config(svc), provider.Certificates)
	if len(s.Listeners) != 1 || s.Listeners[0].Port != 80 || len(refused) != 1 || refused[0].Message != "TLS is not terminated: not certificates" {
		t.Errorf("%+v %+v", s, refused)
	}
}

// What a load balancer cannot have is left out port by port, and told.
func TestSpec_LeavesOutWhatCannotBe(t *testing.T) {
	svc := service("web", 30080)
	svc.Frontends = append(svc.Frontends, frontend("192.0.2.2", 80, 30080), frontend("2001:db8::1", 80, 30080))
	s, refused := specOf(t, config(svc))
	if len(s.Families) != 2 || len(s.Listeners) != 1 || len(refused) != 1 || refused[0].Listener.Address.String() != "192.0.2.2" {
		t.Errorf("%+v %+v", s, refused)
	}
	s, refused = specOf(t, config(svc), provider.DualStack)
	if len(s.Families) != 1 || len(refused) != 2 || refused[1].Message != "not dualStack" {
		t.Errorf("%+v %+v", s, refused)
	}
}
