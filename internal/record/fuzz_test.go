package record

import (
	"slices"
	"testing"
)

// FuzzParseAddresses: anybody who may write a Service may write its annotations.
func FuzzParseAddresses(f *testing.F) {
	for _, seed := range []string{"192.0.2.1", "192.0.2.1,2001:db8::1", "::ffff:192.0.2.1, fe80::1%a,,x"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, list string) {
		got := ParseAddresses(list)
		if len(got) > maxAddresses {
			t.Errorf("%d addresses", len(got))
		}
		for _, a := range got {
			if a.Is4In6() || a.Zone() != "" {
				t.Errorf("%s out of %q", a, list)
			}
		}
		if again := ParseAddresses(FormatAddresses(got)); !slices.Equal(again, got) {
			t.Errorf("%v is printed and read as %v", got, again)
		}
	})
}
