package transport

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/external-lb/external-lb/internal/lb"
	"github.com/external-lb/external-lb/provider"
)

// given is a Service that wants no address.
func given(name string, nodePort uint16) *lb.Service {
	s := service(name, nodePort)
	s.Frontends = []lb.Frontend{frontend("0.0.0.0", 80, nodePort)}
	return s
}

func (w *world) gives(name string) []provider.Address {
	return w.conn.(*conn).Given()[lb.ServiceKey(service(name, 1).ID)]
}

// A cloud that gives what another Service has would lead that one's clients elsewhere, or its own to that one.
func TestApply_TellsNobodyTheAddressOfAnother(t *testing.T) {
	w := newWorld(t)
	w.applied(config(given("old", 30080)))
	had := w.gives("old")
	w.Addresses = had
	out, err := w.apply(config(given("old", 30080), given("a-new", 30081)))
	if err != nil || len(out.Refused) != 1 || out.Refused[0].Key != lb.ServiceKey(service("a-new", 1).ID) || !strings.Contains(out.Refused[0].Message, "default/old has it, too") {
		t.Errorf("%v %+v", err, out.Refused)
	}
	if !slices.Equal(w.gives("old"), had) || w.gives("a-new") != nil {
		t.Errorf("the old one has %v, the new one %v", w.gives("old"), w.gives("a-new"))
	}
	w.dial() // who had it first is not known any more: both may
	out, err = w.apply(config(given("old", 30080), given("a-new", 30081)))
	if err != nil || len(out.Refused) != 1 || w.gives("a-new") == nil == (w.gives("old") == nil) {
		t.Errorf("%v %+v", err, out.Refused)
	}
	w.Addresses = nil
	w.settles()
	if w.gives("old") == nil || w.gives("a-new") == nil {
		t.Error("one has none although the cloud mended that")
	}
}

// Who asked for an address by its name has a better right to it than who is given it.
func TestApply_GivesNobodyWhatAnotherAsksFor(t *testing.T) {
	w := newWorld(t)
	w.Addresses = []provider.Address{{Family: provider.IPv4, IP: netip.MustParseAddr("192.0.2.1")}}
	out, err := w.apply(config(given("a-given", 30080), service("named", 30081)))
	if err != nil || len(out.Refused) != 1 || out.Refused[0].Key != lb.ServiceKey(service("a-given", 1).ID) || w.gives("a-given") != nil {
		t.Errorf("%v %+v %v", err, out.Refused, w.gives("a-given"))
	}
}

// Nobody is sent to this machine.
func TestApply_TellsNobodyThisMachine(t *testing.T) {
	for what, address := range map[string]provider.Address{
		"its address": {Family: provider.IPv4, IP: netip.MustParseAddr("127.0.0.1")},
		"its name":    {Family: provider.IPv4, Hostname: "web.localhost"},
	} {
		w := newWorld(t)
		w.Addresses = []provider.Address{address}
		out, err := w.apply(config(given("web", 30080)))
		if err != nil || len(out.Refused) != 1 || !strings.Contains(out.Refused[0].Message, "no client can be sent") || w.gives("web") != nil {
			t.Errorf("%s: %v %+v %v", what, err, out.Refused, w.gives("web"))
		}
	}
}
