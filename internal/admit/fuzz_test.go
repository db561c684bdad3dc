package admit

import "testing"

// FuzzParsePortRange: what is read is printed in a form that is read as the same.
func FuzzParsePortRange(f *testing.F) {
	for _, seed := range []string{"80", "8000-8999", " 1 - 2 ", "0", "2-1", "65536", "1-", "+1"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		r, err := ParsePortRange(text)
		if err != nil {
			return
		}
		if r.First == 0 || r.First > r.Last {
			t.Errorf("%q is read as %+v", text, r)
		}
		if again, err := ParsePortRange(r.String()); err != nil || again != r {
			t.Errorf("%+v is printed and read as %+v, %v", r, again, err)
		}
	})
}
