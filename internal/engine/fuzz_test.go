package engine

import (
	"strings"
	"testing"
	"unicode/utf8"
)

// FuzzPath: a path leads to one Service, and to the same one back.
func FuzzPath(f *testing.F) {
	f.Add("services/default.web.0f0f.conf")
	f.Add("services/../web.x.conf")
	f.Add("certs/" + strings.Repeat("0", 32) + ".pem")
	f.Fuzz(func(t *testing.T, path string) {
		id, ok := ParsePath(path)
		if ok && Path(id) != path {
			t.Errorf("%q is of %v, which has %q", path, id, Path(id))
		}
		if Ours(path) && (strings.Contains(path, "..") || strings.ContainsAny(path, "\x00\n \\")) {
			t.Errorf("%q is taken for ours", path)
		}
	})
}

// FuzzDaemonsWords: what a daemon prints becomes a line for people.
func FuzzDaemonsWords(f *testing.F) {
	f.Add("nginx: [emerg] x in /s/live/services/a.b.c.conf:1\n\x1b[0m", "/s/live/main.conf")
	f.Add(strings.Repeat("é", 400), "/s/generations/12/files/services/a.b.c.conf")
	s := Suspects{Dir: "/s"}
	f.Fuzz(func(t *testing.T, words, file string) {
		if line := s.Trim(words); strings.Contains(line, "\n") || len(line) > 510 || utf8.ValidString(words) && !utf8.ValidString(line) {
			t.Errorf("%q becomes %q", words, line)
		}
		if path, ok := s.InSet(file); ok && !strings.HasSuffix(file, "/"+path) {
			t.Errorf("%q is %q of the set", file, path)
		}
	})
}
