package engine_test

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/external-lb/external-lb/internal/engine"
	"github.com/external-lb/external-lb/internal/lb"
)

var (
	proxy  = &engine.Engine{Name: "proxy", Capabilities: engine.Capabilities{Protocols: []lb.Protocol{lb.TCP, lb.UDP}, KeepsConnections: true}}
	kernel = &engine.Engine{Name: "kernel", Capabilities: engine.Capabilities{Protocols: []lb.Protocol{lb.TCP, lb.UDP, lb.SCTP}}}
	alone  = engine.Carriers{Main: proxy}
	both   = engine.Carriers{Main: proxy, Datagrams: kernel}
)

func TestCarriers_EachProtocolHasOne(t *testing.T) {
	for _, c := range []struct {
		carriers engine.Carriers
		protocol lb.Protocol
		by       *engine.Engine
		carried  bool
	}{
		{alone, lb.TCP, proxy, true},
		{alone, lb.UDP, proxy, true},
		{alone, lb.SCTP, proxy, false},
		{both, lb.TCP, proxy, true},
		{both, lb.UDP, kernel, true},
		{both, lb.SCTP, kernel, true},
	} {
		if by, carried := c.carriers.For(c.protocol), c.carriers.Carries(c.protocol); by != c.by || carried != c.carried {
			t.Errorf("%s carries %s: %s, %t; want %s, %t", c.carriers, c.protocol, by, carried, c.by, c.carried)
		}
	}
	if alone.String() != "proxy" || both.String() != "proxy+kernel" {
		t.Errorf("they are called %q and %q", alone, both)
	}
}

// Each gets its ports, and Services that have none of them are not there.
func TestCarriers_PartsMakeTheWhole(t *testing.T) {
	port := func(number uint16, p lb.Protocol) lb.Frontend {
		return lb.Frontend{Listener: lb.Listener{Address: netip.MustParseAddr("192.0.2.1"), Port: number, Protocol: p}}
	}
	targets := lb.Targets{Nodes: []lb.Target{{Node: "n1", Weight: 1, Draining: true}, {Node: "n2", Weight: 1}}}
	quic := &lb.Service{ID: lb.ID{Name: "quic"}, Frontends: []lb.Frontend{port(443, lb.TCP), port(443, lb.UDP)}, IPv4: lb.Family{Targets: targets}}
	dns := &lb.Service{ID: lb.ID{Name: "dns"}, Frontends: []lb.Frontend{port(53, lb.UDP), port(54, lb.SCTP)}}
	web := &lb.Service{ID: lb.ID{Name: "web"}, Frontends: []lb.Frontend{port(80, lb.TCP)}}
	cfg := &lb.Config{Nodes: []lb.Node{{Name: "n1"}}, Services: []*lb.Service{dns, quic, web}}
	ports := func(part *lb.Config) map[string][]lb.Listener {
		all := map[string][]lb.Listener{}
		for _, s := range part.Services {
			for _, f := range s.Frontends {
				all[s.ID.Name] = append(all[s.ID.Name], f.Listener)
			}
		}
		return all
	}
	listener := func(number uint16, p lb.Protocol) lb.Listener { return port(number, p).Listener }
	byProxy, byKernel := both.Part(proxy, cfg), both.Part(kernel, cfg)
	for _, c := range []struct {
		part *lb.Config
		want map[string][]lb.Listener
	}{
		{byProxy, map[string][]lb.Listener{"quic": {listener(443, lb.TCP)}, "web": {listener(80, lb.TCP)}}},
		{byKernel, map[string][]lb.Listener{"quic": {listener(443, lb.UDP)}, "dns": {listener(53, lb.UDP), listener(54, lb.SCTP)}}},
	} {
		if diff := cmp.Diff(c.want, ports(c.part), cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
		if len(c.part.Nodes) != 1 {
			t.Error("the nodes are for both")
		}
	}
	// One that keeps connections by itself is not told which nodes drain.
	if got := byProxy.Services[0].IPv4.Targets.Nodes; len(got) != 1 || got[0].Node != "n2" {
		t.Errorf("the proxy gets %v", got)
	}
	if got := byKernel.Services[1].IPv4.Targets.Nodes; len(got) != 2 {
		t.Errorf("the kernel gets %v", got)
	}
	if len(quic.Frontends) != 2 || len(quic.IPv4.Targets.Nodes) != 2 {
		t.Error("the Service itself has changed")
	}
	if alone.Part(proxy, cfg) != cfg {
		t.Error("one that carries everything gets another Config")
	}
}
