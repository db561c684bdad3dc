package host

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/external-lb/external-lb/internal/admit"
	"github.com/external-lb/external-lb/internal/lb"
)

// Without its virtual router, nothing brings an address: it is not carried, and says why.
func TestAddressesOfARefusedRouterAreRefused(t *testing.T) {
	address := netip.MustParseAddr("192.0.2.1")
	router := &lb.VRRP{Interface: "eth0", RouterID: 51}
	for name, c := range map[string]struct {
		rules   admit.Rules
		router  any
		refused []lb.RefusalReason // of the address, and of the router
	}{
		"admitted":     {admit.Rules{}, router, nil},
		"not admitted": {admit.Rules{RouterIDs: []int{50}}, router, []lb.RefusalReason{lb.RefusedNotAdmitted, lb.RefusedNotAdmitted}},
		"newer":        {admit.Rules{}, &lb.UnknownError{What: "a field"}, []lb.RefusalReason{lb.RefusedUnknown, lb.RefusedUnknown}},
		"not sent":     {admit.Rules{}, nil, []lb.RefusalReason{lb.RefusedInvalid}},
	} {
		d := &delivery{rules: &c.rules, room: admit.Room{Addresses: 1}, parts: map[lb.Key]any{lb.AddressKey(address): address}}
		if c.router != nil {
			d.parts[lb.VRRPKey] = c.router
		}
		d.settle()
		all := d.all()
		if len(all) != len(c.refused) || len(d.config.Addresses) != map[bool]int{true: 1}[c.refused == nil] {
			t.Errorf("%s: %+v, brought: %v", name, all, d.config.Addresses)
			continue
		}
		for i, r := range all { // an address comes before the router
			if r.Reason != c.refused[i] || r.Message == "" {
				t.Errorf("%s: %+v", name, r)
			}
		}
	}
}

// What of an older Service may stay, and which ports of what is wanted say that they
// are missing.
func TestS18_WhatOfAnOlderVersionStays(t *testing.T) {
	id := lb.ID{Namespace: "default", Name: "web", UID: "uid"}
	service := func(change func(s *lb.Service)) *lb.Service {
		s := &lb.Service{ID: id}
		for i, port := range []uint16{80, 81} {
			at := lb.Listener{Address: netip.MustParseAddr("192.0.2.1"), Port: port, Protocol: lb.TCP}
			s.Frontends = append(s.Frontends, lb.Frontend{Listener: at, NodePort: uint16(30080 + i)})
		}
		change(s)
		return s
	}
	key, same, elsewhere := lb.ServiceKey(id), func(*lb.Service) {}, netip.MustParseAddr("192.0.2.2")
	for name, c := range map[string]struct {
		was, wanted  func(s *lb.Service)
		stays, lacks []uint16
	}{
		"all":              {same, same, []uint16{80, 81}, nil},
		"another nodePort": {same, func(s *lb.Service) { s.Frontends[0].NodePort = 30090 }, []uint16{81}, []uint16{80}},
		"nodePorts are swapped": {same, func(s *lb.Service) {
			s.Frontends[0].NodePort, s.Frontends[1].NodePort = 30081, 30080
		}, nil, nil},
		"a port goes":      {same, func(s *lb.Service) { s.Frontends = s.Frontends[1:] }, []uint16{81}, nil},
		"a port comes":     {func(s *lb.Service) { s.Frontends = s.Frontends[:1] }, same, []uint16{80}, []uint16{81}},
		"another address":  {same, func(s *lb.Service) { s.Frontends[0].Listener.Address = elsewhere }, []uint16{81}, []uint16{80}},
		"another protocol": {same, func(s *lb.Service) { s.Frontends[1].Listener.Protocol = lb.UDP }, []uint16{80}, []uint16{81}},
		// No refusal can name it either.
		"a protocol that is not known":   {same, func(s *lb.Service) { s.Frontends[1].Listener.Protocol = "" }, []uint16{80}, nil},
		"settings":                       {same, func(s *lb.Service) { s.Frontends[0].Settings.Retries = 1 }, []uint16{80, 81}, nil},
		"direct return":                  {same, func(s *lb.Service) { s.Direct = true }, nil, nil},
		"another healthCheckNodePort":    {same, func(s *lb.Service) { s.HealthCheckNodePort = 30099 }, nil, nil},
		"directly, without any nodePort": {directly, directly, []uint16{80, 81}, nil},
	} {
		was, wanted := service(c.was), service(c.wanted)
		d := &delivery{parts: map[lb.Key]any{key: wanted}, sums: lb.Sums{key: {2}}, live: lb.Sums{key: {1}},
			older: func(lb.Key, lb.Sum) any { return was }, refused: map[refused]lb.Refusal{}, stays: map[lb.Key]bool{}}
		var stays, lacks []uint16
		if d.refuse(key, lb.RefusedByEngine, "no") != (c.stays != nil) {
			t.Errorf("%s: it stays, or not", name)
		} else if c.stays != nil {
			for _, f := range d.parts[key].(*lb.Service).Frontends {
				stays = append(stays, f.Listener.Port)
			}
		}
		for i, r := range d.all() {
			if i == 0 != r.OfItem() || r.OlderStays != (c.stays != nil) || r.Reason != lb.RefusedByEngine {
				t.Errorf("%s: %+v", name, r)
			}
			if !r.OfItem() {
				lacks = append(lacks, r.Listener.Port)
			}
		}
		if !slices.Equal(stays, c.stays) || !slices.Equal(lacks, c.lacks) || len(was.Frontends) != len(service(c.was).Frontends) {
			t.Errorf("%s: %v stay and %v are lacking, want %v and %v", name, stays, lacks, c.stays, c.lacks)
		}
		// The daemon does not take it either: then nothing is there, and no port says otherwise.
		d.refuse(key, lb.RefusedByEngine, "nor this")
		if want := (lb.Refusal{Key: key, Reason: lb.RefusedByEngine, Message: "nor this"}); !slices.Equal(d.all(), []lb.Refusal{want}) {
			t.Errorf("%s: in the end %+v", name, d.all())
		}
	}
}

func directly(s *lb.Service) {
	s.Direct, s.Frontends[0].NodePort, s.Frontends[1].NodePort = true, 0, 0
}
