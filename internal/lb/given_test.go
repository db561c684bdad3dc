package lb

import (
	"net/netip"
	"strings"
	"testing"
	"time"
)

// What a cloud gives is read by who asks for it, and by no host.
func TestDecodeGiven_IsForProvidersAlone(t *testing.T) {
	for _, a := range []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified(), netip.MustParseAddr("127.0.0.1")} {
		f := Frontend{Listener: Listener{a, 80, TCP}, NodePort: 30080, Settings: Settings{
			Algorithm: RoundRobin, Mode: ModeTCP, SendProxy: ProxyNone, ConnectTimeout: time.Second, IdleTimeout: time.Minute,
			HealthCheck: HealthCheck{Type: CheckNone, Interval: 5 * time.Second, Timeout: time.Second, Rise: 2, Fall: 3},
		}}
		set, err := new(Encoder).Encode(&Config{Services: []*Service{{ID: ID{"default", "web", "uid"}, Frontends: []Frontend{f}}}})
		if err != nil {
			t.Fatal(err)
		}
		for it := range set.All() {
			if _, err := Decode(it); err == nil || !strings.Contains(err.Error(), "is not the address of one machine") {
				t.Errorf("a host takes %s: %v", a, err)
			}
			if _, err := DecodeGiven(it); (err == nil) != Given(a) {
				t.Errorf("%s: %v", a, err)
			}
		}
	}
}

func TestListener_OfAGivenAddressIsPrintedByItsFamily(t *testing.T) {
	for text, a := range map[string]netip.Addr{
		"IPv4:80/TCP": netip.IPv4Unspecified(), "IPv6:80/TCP": netip.IPv6Unspecified(), "192.0.2.1:80/TCP": netip.MustParseAddr("192.0.2.1"),
	} {
		l := Listener{Address: a, Port: 80, Protocol: TCP}
		if l.String() != text || Given(a) != (text[:2] == "IP") {
			t.Errorf("%s, want %s", l, text)
		}
	}
}

// A Service without a flavor has the bytes, and so the digest, that it had before there were any.
func TestFlavor_ThatIsNotThereIsNotSent(t *testing.T) {
	sent := func(flavor string) Item {
		svc := &Service{ID: ID{"default", "web", "uid"}, Frontends: []Frontend{{Listener: Listener{netip.MustParseAddr("192.0.2.1"), 80, TCP}, NodePort: 30080, Settings: Settings{
			Algorithm: RoundRobin, Mode: ModeTCP, SendProxy: ProxyNone, ConnectTimeout: time.Second, IdleTimeout: time.Minute, HealthCheck: HealthCheck{Type: CheckNone},
		}}}, Flavor: flavor}
		it, err := encode(ServiceKey(svc.ID), fromService(svc))
		if err != nil {
			t.Fatal(err)
		}
		return it
	}
	plain, big := sent(""), sent("big")
	if added := len(big.Data) - len(plain.Data); added != 2+len("big") || plain.Sum == big.Sum {
		t.Errorf("a flavor adds %d bytes", added)
	}
	for flavor, good := range map[string]bool{"": true, "big": true, "Big": false, "big\n": false, strings.Repeat("a", 64): false} {
		part, err := DecodeGiven(sent(flavor))
		if svc, _ := part.(*Service); (err == nil) != good || good && svc.Flavor != flavor {
			t.Errorf("%q: %+v, %v", flavor, part, err)
		}
	}
}
