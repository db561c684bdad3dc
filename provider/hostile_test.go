package provider

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"
	"runtime"
	"strings"
	"testing"
)

// saying is a client of who answers everything with a text.
func saying(t *testing.T, body string) *Client {
	return client(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(body)) }), "")
}

// An answer of many tiny values is small on the wire and large once it is decoded.
func TestClient_DecodesNoMoreValuesThanTheContractHas(t *testing.T) {
	fill := func(before, one, after string) string {
		return before + strings.TrimSuffix(strings.Repeat(one+",", (MaxAnswer-len(before)-len(after)-1)/(len(one)+1)), ",") + after
	}
	asks := map[string]func(*Client) error{
		fill(`{"loadBalancers":[`, "{}", "]}"): func(c *Client) error { _, err := c.List(t.Context(), "c1"); return err },
		fill(`{"refused":[`, "{}", "]}"):       func(c *Client) error { _, err := c.Get(t.Context(), web); return err },
		fill(`{"protocols":[`, `""`, "]}"):     func(c *Client) error { _, err := c.Capabilities(t.Context()); return err },
	}
	for body, ask := range asks {
		c := saying(t, body)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		err := ask(c)
		runtime.ReadMemStats(&after)
		if err == nil || !strings.Contains(err.Error(), "values") {
			t.Errorf("%.20s: %v", body, err)
		}
		if took := (after.TotalAlloc - before.TotalAlloc) >> 20; took > 64 {
			t.Errorf("%.20s: %d MiB for an answer of %d", body, took, len(body)>>20)
		}
	}
}

// What is in strings is no value, and the largest page that there may be is taken.
func TestClient_TakesTheLargestPage(t *testing.T) {
	var page List
	for i := range MaxPage {
		b := LoadBalancer{Service: fmt.Sprintf("s%03d", i), Namespace: "n", Name: "w", State: Pending, Message: `a,b{c[d"e\`, Calls: Calls{Reads: 1, Writes: 1},
			Reason: Throttled, RetryAfterSeconds: 1, Digest: strings.Repeat("a", 64)}
		for range maxAddresses {
			b.Addresses = append(b.Addresses, Address{Family: IPv4, IP: netip.MustParseAddr("192.0.2.1")})
		}
		for port := range uint16(MaxListeners) {
			b.Refused = append(b.Refused, Refusal{Port: 1 + port, Protocol: TCP, Reason: Invalid, Message: `,{["\`})
		}
		page.LoadBalancers = append(page.LoadBalancers, b)
	}
	body, err := json.Marshal(page)
	if err != nil {
		t.Fatal(err)
	}
	if all, err := saying(t, string(body)).List(t.Context(), "c1"); err != nil || len(all) != MaxPage {
		t.Errorf("%d, %v", len(all), err)
	}
}

// Each load balancer of a list may have refusals, and all of them together would not fit into a controller.
func TestList_BoundsRefusalsOfAllPages(t *testing.T) {
	asked := 0
	c := client(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		page := List{More: true}
		for i := range MaxPage {
			b := LoadBalancer{Service: fmt.Sprintf("s%09d", asked*MaxPage+i), Namespace: "n", Name: "w", State: Pending}
			for port := range uint16(MaxListeners) {
				b.Refused = append(b.Refused, Refusal{Port: 1 + port, Protocol: TCP, Reason: Invalid, Message: "no"})
			}
			page.LoadBalancers = append(page.LoadBalancers, b)
		}
		if asked++; asked > 10 {
			page.More = false
		}
		_ = json.NewEncoder(w).Encode(page)
	}), "")
	if all, err := c.List(t.Context(), "c1"); err == nil || asked > 5 {
		t.Errorf("%d load balancers in %d requests, %v", len(all), asked, err)
	}
}

// A Service may have more ranges than a request has room for. A server that does not read all of
// it breaks the connection off, and that would be a fault of the provider, for all Services.
func TestPut_SendsNothingTooLarge(t *testing.T) {
	asked := 0
	c := client(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked++ }), "")
	s := example()
	for i := range 1 << 16 {
		s.Families[0].Sources = append(s.Families[0].Sources, netip.PrefixFrom(netip.AddrFrom4([4]byte{198, 18, byte(i >> 8), byte(i)}), 32))
	}
	if _, err := c.Put(t.Context(), web, s); !Is(err, TooLarge) || asked > 0 {
		t.Errorf("%d requests, %v", asked, err)
	}
}

// Words of an answer that nobody looks at are bounded, too, and so are its numbers.
func TestClient_BelievesNoWordsOutsideOfTheContract(t *testing.T) {
	for what, more := range map[string]string{
		"a family of its own":          `"addresses":[{"family":"IPv5","ip":"2001:db8::1"}]`,
		"a refusal of no port":         `"refused":[{"port":0,"protocol":"TCP","reason":"Invalid","message":"x"}]`,
		"a refusal of no protocol":     `"refused":[{"port":1,"protocol":"GRE","reason":"Invalid","message":"x"}]`,
		"a refusal twice":              `"refused":[{"port":1,"protocol":"TCP","reason":"Invalid"},{"port":1,"protocol":"TCP","reason":"Invalid"}]`,
		"a hostname that is a number":  `"addresses":[{"family":"IPv4","hostname":"2130706433"}]`,
		"a hostname that is half one":  `"addresses":[{"family":"IPv4","hostname":"127.1"}]`,
		"a hostname of a long label":   `"addresses":[{"family":"IPv4","hostname":"` + strings.Repeat("a", 64) + `.example.net"}]`,
		"an address of everybody":      `"addresses":[{"family":"IPv4","ip":"255.255.255.255"}]`,
		"an address and a hostname":    `"addresses":[{"family":"IPv4","ip":"192.0.2.1","hostname":"a.example.net"}]`,
		"an address with a zone":       `"addresses":[{"family":"IPv6","ip":"fe80::1%eth0"}]`,
		"the wrong family":             `"addresses":[{"family":"IPv6","ip":"192.0.2.1"}]`,
		"an IPv4 address inside of v6": `"addresses":[{"family":"IPv6","ip":"::ffff:192.0.2.1"}]`,
	} {
		body := `{"service":"web","namespace":"n","name":"w","state":"Pending",` + more + `}`
		if b, err := saying(t, body).Get(t.Context(), web); !Is(err, Internal) {
			t.Errorf("%s: %+v, %v", what, b, err)
		}
	}
	b, err := saying(t, `{"service":"web","namespace":"n","name":"w","state":"Pending","retryAfterSeconds":-5,"calls":{"reads":-7,"writes":2147483647}}`).Get(t.Context(), web)
	if err != nil || b.RetryAfterSeconds != 0 || b.Calls != (Calls{0, maxNumber}) {
		t.Errorf("%+v, %v", b, err)
	}
}

// They are shown in the status of a Balancer.
func TestCheck_TakesNoWordsOutsideOfTheContract(t *testing.T) {
	for what, change := range map[string]func(*Capabilities){
		"a version that rings":       func(c *Capabilities) { c.Version = "1\a" },
		"a protocol of its own":      func(c *Capabilities) { c.Protocols = append(c.Protocols, "GRE") },
		"a protocol twice":           func(c *Capabilities) { c.Protocols = append(c.Protocols, TCP) },
		"a family of its own":        func(c *Capabilities) { c.Families = []IPFamily{"IPv5"} },
		"a family twice":             func(c *Capabilities) { c.Families = []IPFamily{IPv4, IPv4} },
		"fewer listeners than none":  func(c *Capabilities) { c.MaxListeners = -1 },
		"fewer members than none":    func(c *Capabilities) { c.MaxMembers = -1 },
		"more sources than can be":   func(c *Capabilities) { c.MaxSources = maxNumber + 1 },
		"a setting of two lines":     func(c *Capabilities) { c.Settings["a\nb"] = Able },
		"a setting with a long name": func(c *Capabilities) { c.Settings[Setting(strings.Repeat("a", 64))] = Able },
		"too many settings": func(c *Capabilities) {
			for i := range maxSettings {
				c.Settings[Setting(fmt.Sprintf("new%d", i))] = Able
			}
		},
	} {
		c := everything()
		if change(&c); c.Check() == nil {
			t.Errorf("taken: %s", what)
		}
	}
}
