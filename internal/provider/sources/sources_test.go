package sources

import (
	"net/netip"
	"slices"
	"testing"
)

func TestRead_IsTheReverseOfList(t *testing.T) {
	office := netip.MustParsePrefix("198.51.100.0/24")
	for want, of := range map[string][]netip.Prefix{
		"": {Everybody}, "255.255.255.255/32": nil, "192.0.2.0/25 198.51.100.0/24": {netip.MustParsePrefix("192.0.2.0/25"), office},
	} {
		list := List(of)
		got := ""
		for _, n := range list {
			if got != "" {
				got += " "
			}
			got += n
		}
		if got != want {
			t.Errorf("%v: %q", of, got)
		}
		if back, ok := Read(list); !ok || !slices.Equal(back, of) {
			t.Errorf("%v came back as %v", of, back)
		}
	}
	if _, ok := Read([]string{"somewhere"}); ok {
		t.Error("it reads what is no network")
	}
	if !Same([]string{"a", "b"}, []string{"b", "a"}) || Same([]string{"a"}, nil) {
		t.Error("Same is not the same")
	}
}
