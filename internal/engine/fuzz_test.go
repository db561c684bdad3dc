package engine

import (
	"bytes"
	"maps"
	"os"
	"path/filepath"
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

// FuzzFrontendName: a name is of one port of one Service, and nothing else has such a name. Root reads names
// out of a file of the account's.
func FuzzFrontendName(f *testing.F) {
	for _, name := range []string{"default.web.0f0f.192-0-2-1.80.tcp", "a.b.c.2001-db8--1.53.udp", "a.b.c.0-0-0-0-0-0-0-1.080.tcp", "a.b.c.1-2-3-4.80.tcp; shutdown", "a.b.c.fe80--1%x.80.sctp"} {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		id, at, network, ok := ParseFrontendName(name)
		if ok && FrontendName(id, at, network) != name {
			t.Errorf("%q is read as %v %v %q, which has %q", name, id, at, network, FrontendName(id, at, network))
		}
		if ok && strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune(";/\\\"'%#", r) }) {
			t.Errorf("%q is taken for a name of ours", name)
		}
	})
}

// FuzzLeaving: whatever the account has written about who leaves, what is believed of it is bounded, and read again as it was.
func FuzzLeaving(f *testing.F) {
	id, err := boot()
	if err != nil {
		f.Fatal(err)
	}
	const here = "BOOT" // is replaced by the name of this start of the machine
	f.Add([]byte(`{"Boot":"BOOT","Leaving":{"a.b.c.192-0-2-1.80.tcp/n1":{"Since":1,"Drain":2,"Over":true},"a.b.c.192-0-2-1.80.tcp/n2":{"Since":9223372036854775807}}}`))
	f.Add([]byte(`{"Boot":"BOOT","Leaving":{"x":{"Since":-9223372036854775808,"Drain":-1},"a;b\nc":{"Over":true}}}`))
	f.Add([]byte(`{"Boot":"another","Leaving":{"x":{}}}`))
	f.Add([]byte(`{"Boot":"BOOT","Leaving":{"x":{}},"Leaving":{"y":{}},"leaving":null}`))
	path := filepath.Join(f.TempDir(), "leaving.json")
	f.Fuzz(func(t *testing.T, data []byte) {
		if err := os.WriteFile(path, bytes.ReplaceAll(data, []byte(here), []byte(id)), 0o600); err != nil {
			t.Fatal(err)
		}
		l, root := NewLeaving(path), NewLeaving(path)
		names := l.Names()
		if len(names) > len(data) {
			t.Errorf("%d leave out of %d bytes", len(names), len(data))
		}
		now := uptime()
		for name, one := range l.all {
			if one.Since < 0 || one.Since > now || one.Drain < 0 {
				t.Errorf("%q leaves since %d, for %d", name, one.Since, one.Drain)
			}
		}
		over, err := root.Marked()
		for name := range over {
			if !names[name] {
				t.Errorf("%q is over, and does not leave", name)
			}
		}
		if err != nil && len(names) > 0 {
			t.Errorf("%d leave, and root says %v", len(names), err)
		}
		l.mu.Lock()
		l.keep()
		l.mu.Unlock()
		again := NewLeaving(path)
		if !maps.Equal(again.Names(), names) || !maps.Equal(again.all, l.all) || l.unkept != nil {
			t.Errorf("%v is written and read as %v; %v", l.all, again.all, l.unkept)
		}
	})
}
