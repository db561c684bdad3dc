package cli

import "testing"

// What others have written is no command to a terminal.
func TestPlain(t *testing.T) {
	const hostile = "names\x1b[32m \"ok\"\x1b]52;c;ZWNobw==\a\r\n\u202e and\tmore "
	if got, want := plain(hostile), `names [32m "ok" ]52;c;ZWNobw== and more`; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got := (paint(true)).warn(hostile); got != "\x1b[31m! "+plain(hostile)+"\x1b[0m" {
		t.Errorf("%q", got)
	}
}
