package host

import (
	"net/netip"
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
		d := &delivery{rules: &c.rules, parts: map[lb.Key]any{lb.AddressKey(address): address}}
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
