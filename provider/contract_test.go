package provider

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/external-lb/external-lb/internal/engine"
)

// A provider states what engines state.
func TestSettingsAreThoseOfEngines(t *testing.T) {
	var fields []Setting
	for _, f := range engine.Fields {
		fields = append(fields, Setting(f))
	}
	if !slices.Equal(fields, PolicySettings) {
		t.Errorf("engines know %q, providers %q", fields, PolicySettings)
	}
}

func everything() Capabilities {
	c := Capabilities{Name: "all", Settings: map[Setting]Support{}, Protocols: []Protocol{TCP, UDP, SCTP}, Families: []IPFamily{IPv4, IPv6}}
	for _, s := range AllSettings() {
		c.Settings[s] = Able
	}
	for _, s := range Unsaid {
		c.Settings[s] = Support{Missing: "v1 has no words for it"}
	}
	return c
}

func example() Spec {
	return Spec{
		Namespace: "default", Name: "web",
		Families: []Family{{
			Family: IPv4, Address: netip.MustParseAddr("203.0.113.7"),
			Sources: []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24"), netip.MustParsePrefix("192.0.2.0/25")},
			Members: []Member{{netip.MustParseAddr("10.0.0.2"), 1}, {netip.MustParseAddr("10.0.0.1"), 1}},
		}},
		Listeners: []Listener{
			{Port: 443, Protocol: TCP, NodePort: 30443, Settings: fullSettings()},
			{Port: 53, Protocol: UDP, NodePort: 30053, Settings: fullSettings()},
			{Port: 53, Protocol: TCP, NodePort: 30054, Settings: fullSettings()},
		},
		AffinitySeconds: 10800,
	}
}

func fullSettings() Settings {
	return Settings{
		Algorithm: LeastConnections, Mode: ModeTCP, SendProxy: ProxyV2, AcceptProxy: true,
		ConnectTimeoutMilliseconds: 1000, IdleTimeoutMilliseconds: 60000,
		MaxConnections: 7, MaxConnectionsPerNode: 8, MaxConnectionsPerClient: 9, Retries: 3,
		HealthCheck: HealthCheck{Type: CheckHTTP, Path: "/healthz", Port: 10256,
			IntervalMilliseconds: 5000, TimeoutMilliseconds: 2000, Rise: 2, Fall: 3},
	}
}

// The order of lists is nobody's wish.
func TestDigest_IsThatOfWhatIsWanted(t *testing.T) {
	want := example().Digest()
	for range 1000 {
		s := example()
		rand.Shuffle(len(s.Listeners), func(i, j int) { s.Listeners[i], s.Listeners[j] = s.Listeners[j], s.Listeners[i] })
		slices.Reverse(s.Families[0].Members)
		rand.Shuffle(2, func(i, j int) {
			f := s.Families[0].Sources
			f[i], f[j] = f[j], f[i]
		})
		s.Name, s.Families[0].Address = "other", netip.Addr{}
		if got := s.Digest(); got != want {
			t.Fatalf("%s, not %s", got, want)
		}
	}
	changes := map[string]func(*Spec){
		"a nodePort": func(s *Spec) { s.Listeners[0].NodePort++ },
		"a source":   func(s *Spec) { s.Families[0].Sources = s.Families[0].Sources[1:] },
		"a member":   func(s *Spec) { s.Families[0].Members = nil },
		"a weight":   func(s *Spec) { s.Families[0].Members[0].Weight = 2 },
		"affinity":   func(s *Spec) { s.AffinitySeconds = 1 },
		"a flavor":   func(s *Spec) { s.Flavor = "big" },
		"TLS":        func(s *Spec) { s.Listeners[0].Certificate = "shop" },
	}
	for what, change := range changes {
		s := example()
		if change(&s); s.Digest() == want {
			t.Errorf("%s changes nothing", what)
		}
	}
}

// What the page of the API gives as an example is what we make of it.
func TestDigest_IsAsDocumented(t *testing.T) {
	doc := document(t)
	var s Spec
	if err := decode(strings.NewReader(asJSON(t, at(doc, "components", "examples", "Spec", "value"))), &s); err != nil {
		t.Fatal(err)
	}
	if got, want := string(canonical(s.sorted())), at(doc, "components", "examples", "Canonical", "value"); got != want {
		t.Errorf("canonical:\n%s\nwant\n%s", got, want)
	}
	if got, want := s.Digest(), at(doc, "components", "examples", "Digest", "value"); got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if err := (Admit{}).check(s); err != nil {
		t.Error(err)
	}
}

func TestPrune_LeavesWhatIsTaken(t *testing.T) {
	all := everything()
	for range 2000 {
		c := everything()
		for _, s := range PolicySettings {
			switch rand.IntN(4) {
			case 0:
				c.Settings[s] = Support{Missing: "no"}
			case 1:
				c.Settings[s] = Support{UDP: "no"}
			}
		}
		s := example()
		for i := range s.Listeners {
			l := &s.Listeners[i]
			if l.Settings = c.Prune(l.Protocol, l.Settings); !reflect.DeepEqual(l.Settings, c.Prune(l.Protocol, l.Settings)) {
				t.Fatalf("pruned twice is other than once: %+v", l)
			}
		}
		if err := c.check(s); err != nil {
			t.Fatalf("%v\n%+v\n%+v", err, s.Listeners, c.Settings)
		}
	}
	if got := all.Prune(UDP, fullSettings()); got != fullSettings() {
		t.Errorf("who can do all loses something: %+v", got)
	}
}

func TestCheck_WantsEverythingStated(t *testing.T) {
	good := everything()
	if err := good.Check(); err != nil {
		t.Fatal(err)
	}
	for what, change := range map[string]func(*Capabilities){
		"a setting is not stated": func(c *Capabilities) { delete(c.Settings, Weights) },
		"no protocol":             func(c *Capabilities) { c.Protocols = nil },
		"no family":               func(c *Capabilities) { c.Families = nil },
		"no name":                 func(c *Capabilities) { c.Name = "" },
		"a flavor of two words":   func(c *Capabilities) { c.Flavors = []string{"very big"} },
		"a flavor twice":          func(c *Capabilities) { c.Flavors = []string{"big", "big"} },
		"an ID for a certificate": func(c *Capabilities) { c.Certificates = []string{"1234_CN"} },
		"a certificate twice":     func(c *Capabilities) { c.Certificates = []string{"shop", "shop"} },
		"too many certificates":   func(c *Capabilities) { c.Certificates = flavors(MaxCertificates + 1) },
		"too many flavors":        func(c *Capabilities) { c.Flavors = flavors(MaxFlavors + 1) },
		"certificates":            func(c *Capabilities) { c.Settings["tls.secretRef"] = Able },
		"a long reason":           func(c *Capabilities) { c.Settings["retries"] = Support{Note: strings.Repeat("a", 300)} },
		"a terminal's bell":       func(c *Capabilities) { c.Settings["retries"] = Support{Note: "\a"} },
		"no mode": func(c *Capabilities) {
			c.Settings["mode=TCP"], c.Settings["mode=HTTP"] = Support{Missing: "no"}, Support{Missing: "no"}
		},
	} {
		c := everything()
		if change(&c); c.Check() == nil {
			t.Errorf("taken: %s", what)
		}
	}
}

func flavors(n int) (out []string) {
	for i := range n {
		out = append(out, fmt.Sprintf("flavor-%d", i))
	}
	return out
}

// The bound is the last number that is taken.
func TestCheck_TakesFlavors(t *testing.T) {
	c := everything()
	if c.Flavors, c.Certificates = flavors(MaxFlavors), flavors(MaxCertificates); c.Check() != nil {
		t.Error(c.Check())
	}
}

// A flavor that is there is part of what is proved; without one the digest is as it always was.
func TestFlavor_IsPartOfTheDigest(t *testing.T) {
	plain, big := example(), example()
	big.Flavor = "big"
	if plain.Digest() == big.Digest() || strings.Contains(string(canonical(plain)), "flavor") {
		t.Errorf("%s and %s", canonical(plain), canonical(big))
	}
}

// A server lets through every flavor that is a name: what the cloud has of it, the Cloud says.
func TestFlavor_IsANameThatTheCloudJudges(t *testing.T) {
	s := example()
	for flavor, good := range map[string]bool{"": true, "big": true, strings.Repeat("a", 63): true, strings.Repeat("a", 64): false, "Big": false, "big\n": false, "a b": false, "-": false} {
		s.Flavor = flavor
		err := Admit{}.check(s)
		if (err == nil) != good || err != nil && (err.Code != Invalid || err.Field != "flavor") {
			t.Errorf("%q: %v", flavor, err)
		}
		if err := everything().check(s); err != nil {
			t.Errorf("%q, without any that is offered: %v", flavor, err)
		}
	}
}

// A certificate is a name, for TCP alone. A cloud that states it has none is never asked for one.
func TestCertificate_IsANameThatTheCloudJudges(t *testing.T) {
	for name, good := range map[string]bool{"": true, "shop": true, strings.Repeat("a", 64): false, "1234_cn": false, "Shop": false, "shop\n": false} {
		s := example()
		s.Listeners[0].Certificate = name
		if err := (Admit{}).check(s); (err == nil) != good || err != nil && (err.Code != Invalid || err.Field != "listeners[0].certificate") {
			t.Errorf("%q: %v", name, err)
		}
	}
	s := example()
	s.Listeners[0].Certificate = "shop"
	if err := everything().check(s); err != nil {
		t.Errorf("without any that is offered: %v", err)
	}
	c := everything()
	c.Settings[Certificates] = Support{Missing: "it has none"}
	if err := c.check(s); err == nil || err.Code != Unsupported || err.Field != "certificates" {
		t.Errorf("a cloud that has none: %v", err)
	}
	if s.Listeners[0].Protocol = UDP; (Admit{}).check(s) == nil {
		t.Error("TLS over UDP is taken")
	}
}

// document is the page of the API.
func document(t *testing.T) map[string]any {
	t.Helper()
	text, err := os.ReadFile("../docs/reference/provider-api.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var doc map[string]any
	if err := yaml.UnmarshalStrict(text, &doc); err != nil {
		t.Fatal(err)
	}
	return doc
}

func at(doc any, path ...string) any {
	for _, p := range path {
		m, _ := doc.(map[string]any)
		doc = m[p]
	}
	return doc
}

func asJSON(t *testing.T, v any) string {
	t.Helper()
	out, err := yaml.Marshal(v)
	if err == nil {
		out, err = yaml.YAMLToJSON(out)
	}
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}
