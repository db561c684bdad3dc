package text

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestPlain(t *testing.T) {
	for s, want := range map[string]string{
		"names\x1b[32m \"ok\"\x1b]52;c;ZWNobw==\a\r\n\u202e and\tmore ": `names [32m "ok" ]52;c;ZWNobw== and more`,
		"é\xff\ufffd\x00ü": "é ü",
		"a\u2028b\u0085c":  "a b c",
		"\u200b":           "",
	} {
		if got := Plain(s, 100); got != want {
			t.Errorf("%q: %q, want %q", s, got, want)
		}
	}
	for most, want := range map[int]string{3: "...", 10: "one two...", 11: "one two...", 13: "one two th...", 14: "one two thrée"} {
		if got := Plain("one two thrée", most); got != want {
			t.Errorf("within %d: %q, want %q", most, got, want)
		}
	}
}

// FuzzPlain: it is one line that is printed as it is, within its bound.
func FuzzPlain(f *testing.F) {
	f.Add("a\x1bb", 10)
	f.Add(strings.Repeat("ü ", 20), 11)
	f.Fuzz(func(t *testing.T, s string, most int) {
		if most < 3 || most > 1<<16 {
			return
		}
		got := Plain(s, most)
		if len(got) > most || !utf8.ValidString(got) || strings.ContainsFunc(got, Unprintable) || Plain(got, most) != got {
			t.Errorf("%q within %d: %q", s, most, got)
		}
	})
}
