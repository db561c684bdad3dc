package admit

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/external-lb/external-lb/internal/lb"
)

// Connections to nodes come from an address that the owner has named, the first one in the
// range, and by the family of the listener; a port for which there is none is refused alone.
func TestSources(t *testing.T) {
	both := Rules{Sources: addresses("10.0.0.7", "10.0.0.8", "fd00::7")}
	source := func(ipv4, ipv6 string) (s lb.Source) {
		if ipv4 != "" {
			s.IPv4 = netip.MustParsePrefix(ipv4)
		}
		if ipv6 != "" {
			s.IPv6 = netip.MustParsePrefix(ipv6)
		}
		return s
	}
	for name, tc := range map[string]struct {
		rules   Rules
		source  lb.Source
		from    []string // of each port that is carried
		refused []string
	}{
		"nothing is said":    {Rules{}, lb.Source{}, []string{"", ""}, nil},
		"an address":         {both, source("10.0.0.8/32", "fd00::7/128"), []string{"10.0.0.8/32", "fd00::7/128"}, nil},
		"a range":            {both, source("10.0.0.0/24", "::/0"), []string{"10.0.0.7/32", "fd00::7/128"}, nil},
		"of one family":      {both, source("10.0.0.8/31", ""), []string{"10.0.0.8/32", ""}, nil},
		"another address":    {both, source("10.0.0.9/32", "fd00::/64"), []string{"fd00::7/128"}, []string{"asks for 10.0.0.9, and that is not in admit.sources of /etc/external-lb/host.yaml (10.0.0.7, 10.0.0.8, fd00::7)"}},
		"none may be used":   {Rules{}, source("", "fd00::/64"), []string{""}, []string{"asks for fd00::/64, and no address of this host may be used for that: name those that may in admit.sources"}},
		"none of the family": {Rules{Sources: addresses("fd00::7")}, source("0.0.0.0/0", ""), []string{""}, []string{"asks for 0.0.0.0/0, and that is not"}},
	} {
		t.Run(name, func(t *testing.T) {
			m := makeModel()
			s := m.service("web", "192.0.2.1:80", "[2001:db8::1]:80")
			for i := range s.Frontends {
				s.Frontends[i].Settings.Source = tc.source
			}
			var from, refused []string
			got := tc.rules.Admit(m.parts, Machine{})
			for _, f := range got.Config.Services[0].Frontends {
				text := ""
				if in := f.Settings.Source.Of(f.Listener.Address.Is4()); in.IsValid() {
					text = in.String()
				}
				from = append(from, text)
			}
			for _, r := range got.Refused {
				refused = append(refused, r.Message)
			}
			if !slices.Equal(from, tc.from) || len(refused) != len(tc.refused) {
				t.Fatalf("from %q, refused %q", from, refused)
			}
			for i := range refused {
				if want := "sourceAddresses of its policy " + tc.refused[i]; !strings.HasPrefix(refused[i], want) {
					t.Errorf("refused with %q, want %q", refused[i], want)
				}
			}
			if s.Frontends[0].Settings.Source != tc.source {
				t.Errorf("the part that was given is changed: %v", s.Frontends[0].Settings.Source)
			}
		})
	}
}
