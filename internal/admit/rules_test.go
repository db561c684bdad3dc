package admit

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"

	"github.com/external-lb/external-lb/internal/lb"
)

// read is how host.yaml is read.
func read(text string) (Rules, error) {
	var file struct {
		Admit Rules `json:"admit"`
	}
	if err := yaml.UnmarshalStrict([]byte(text), &file); err != nil {
		return Rules{}, err
	}
	return file.Admit, file.Admit.Validate()
}

func TestRulesAreRead(t *testing.T) {
	for name, tc := range map[string]struct {
		text string
		want Rules
	}{
		"nothing": {"", Rules{}},
		"open":    {"admit: {}", Rules{}},
		"everything": {`
admit:
  addresses: [192.0.2.0/24, "2001:db8::/64", 198.51.100.7/32]
  ports: [80, "443", 8000-8999]
  backends:
  - networks: [10.0.0.0/8]
  - ports: [30000-32767, 4789]
  - {}
  pods: [10.244.0.0/16, "fd00:10:244::/56"]
  ownPorts: [30000-32767]
  sources: [10.0.0.5, "fd00::5"]
  routerIDs: [51, 255]
  interfaces: [eth0]
  held:
  - {address: 0.0.0.0, port: 22, protocol: TCP, by: sshd}
  - address: "::"
    port: 53
    protocol: UDP
`, Rules{
			Addresses: prefixes("192.0.2.0/24", "2001:db8::/64", "198.51.100.7/32"), Ports: []PortRange{{80, 80}, {443, 443}, {8000, 8999}},
			Backends: []Backends{{Networks: prefixes("10.0.0.0/8")}, {Ports: []PortRange{{30000, 32767}, {4789, 4789}}}, {}},
			Pods:     prefixes("10.244.0.0/16", "fd00:10:244::/56"),
			Sources:  []netip.Addr{netip.MustParseAddr("10.0.0.5"), netip.MustParseAddr("fd00::5")},
			OwnPorts: ports(30000, 32767), RouterIDs: []int{51, 255}, Interfaces: []string{"eth0"},
			Held: []Held{{netip.IPv4Unspecified(), 22, lb.TCP, "sshd"}, {netip.IPv6Unspecified(), 53, lb.UDP, ""}},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := read(tc.text)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, got, compare); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			printed, err := yaml.Marshal(map[string]Rules{"admit": got})
			if err != nil {
				t.Fatal(err)
			}
			again, err := read(string(printed))
			if diff := cmp.Diff(got, again, compare); diff != "" || err != nil {
				t.Errorf("printed as\n%s: %v (-printed +read):\n%s", printed, err, diff)
			}
		})
	}
}

func TestWrongRulesAreRefused(t *testing.T) {
	for text, want := range map[string]string{
		"admit: {address: [192.0.2.0/24]}":                                `unknown field "address"`,
		"admit: {backends: [{network: [10.0.0.0/8]}]}":                    `unknown field "network"`,
		"admit: {ports: [80], ports: [90]}":                               `key "ports" already set`,
		"admit: {addresses: [192.0.2.1]}":                                 "no '/'",
		"admit: {addresses: [192.0.2.1/24]}":                              "admit.addresses: 192.0.2.1/24 has bits behind its prefix: want 192.0.2.0/24",
		"admit: {addresses: [192.0.2.0/33]}":                              "prefix length out of range",
		"admit: {addresses: [everything]}":                                "no '/'",
		`admit: {addresses: ["::ffff:10.0.0.0/104"]}`:                     "admit.addresses: ::ffff:10.0.0.0/104 is no network",
		`admit: {addresses: [""]}`:                                        "admit.addresses: invalid Prefix is no network",
		"admit: {addresses: []}":                                          "admit.addresses is empty, which says neither none nor all: name some, or leave it out",
		"admit: {ports: []}":                                              "admit.ports is empty",
		"admit: {backends: []}":                                           "admit.backends is empty",
		"admit: {backends: [{networks: []}]}":                             "admit.backends.networks is empty",
		"admit: {backends: [{ports: []}]}":                                "admit.backends.ports is empty",
		"admit: {sources: []}":                                            "admit.sources is empty",
		"admit: {sources: [10.0.0.0/24]}":                                 "unexpected character",
		"admit: {sources: [127.0.0.1]}":                                   "admit.sources: 127.0.0.1 is a loopback address: want addresses of this host",
		`admit: {sources: ["fe80::1%eth0"]}`:                              "fe80::1%eth0 is a link-local address",
		"admit: {routerIDs: []}":                                          "admit.routerIDs is empty",
		"admit: {interfaces: []}":                                         "admit.interfaces is empty",
		"admit: {backends: [{networks: [10.1.0.0/8]}]}":                   "admit.backends.networks: 10.1.0.0/8 has bits behind its prefix: want 10.0.0.0/8",
		"admit: {ports: [0]}":                                             `"0" is neither a port nor a range of ports: want 80 or 8000-8999`,
		"admit: {ports: [65536]}":                                         `"65536" is neither`,
		"admit: {ports: [-1]}":                                            `"-1" is neither`,
		"admit: {ports: [90-80]}":                                         `"90-80" is neither`,
		"admit: {ports: [80-]}":                                           `"80-" is neither`,
		"admit: {ports: [80.5]}":                                          `"80.5" is neither`,
		"admit: {ports: [http]}":                                          `"http" is neither`,
		"admit: {ports: [null]}":                                          `"null" is neither`,
		"admit: {ports: [[80]]}":                                          `"[80]" is neither`,
		"admit: {ports: 80}":                                              "cannot unmarshal number",
		"admit: {maxBackends: -1}":                                        "admit.maxBackends: -1: want a number",
		"admit: {routerIDs: [0]}":                                         "admit.routerIDs: 0: want between 1 and 255",
		"admit: {routerIDs: [256]}":                                       "admit.routerIDs: 256",
		"admit: {routerIDs: AQID}":                                        "cannot unmarshal string",
		"admit: {held: [{address: 0.0.0.0, port: 22, protocol: tcp}]}":    `admit.held: want an address, a port and a protocol, such as {address: 0.0.0.0, port: 22, protocol: TCP}, not 0.0.0.0, 22 and "tcp"`,
		"admit: {held: [{port: 22, protocol: TCP}]}":                      "not invalid IP, 22",
		"admit: {held: [{address: 0.0.0.0, protocol: TCP}]}":              "not 0.0.0.0, 0",
		"admit: {held: [{address: 0.0.0.0/0, port: 22, protocol: TCP}]}":  "unexpected character",
		"admit: {held: [{address: 0.0.0.0, port: 70000, protocol: TCP}]}": "cannot unmarshal number 70000",
		"admit: {held: [{address: 0.0.0.0, port: 22, proto: TCP}]}":       `unknown field "proto"`,
		"admit: {addresses: [10.1.0.0/8], ports: [80], backends: []}":     "admit.backends is empty",
		"admit: {ports: [\"" + strings.Repeat("9", 100_000) + "\"]}":      "is neither",
		"admit: [80]":                                                     "cannot unmarshal array",
	} {
		_, err := read(text)
		if err == nil || !strings.Contains(err.Error(), want) || len(err.Error()) > 1000 {
			t.Errorf("%.100s: %.300v, want %s", text, err, want)
		}
	}
}

func TestOpen(t *testing.T) {
	for _, tc := range []struct {
		rules Rules
		want  bool
	}{{Rules{}, true}, {Rules{Backends: []Backends{{}}}, true}, {Rules{Ports: ports(80, 80)}, false}, {Rules{Addresses: prefixes("::/0")}, false}} {
		if got := tc.rules.Open(); got != tc.want {
			t.Errorf("%+v: %v", tc.rules, got)
		}
	}
}

func TestLongListsAreCutInMessages(t *testing.T) {
	var all []PortRange
	for i := range uint16(1000) {
		all = append(all, PortRange{i + 1, i + 1})
	}
	if got := list(all); got != "1, 2, 3, 4, 5, and 995 more" {
		t.Error(got)
	}
}
