package engine

import (
	"bytes"
	"maps"
	"net/netip"
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

// FuzzSockets: whatever a line of the kernel's tables says, it is of one socket, whose address is read as it is written.
func FuzzSockets(f *testing.F) {
	f.Add([]byte("   1: 0100007F:0050 0100007F:9C40 01 00000000:00000000 00:00000000 00000000    33        0 21 1"))
	f.Add([]byte("   1: B80D0120000000000000000009000000:0050 B80D0120000000000000000009000000:9C40 08 0:0 0:0 0 0 0 12 1"))
	f.Add([]byte("   1: 0000000000000000FFFF00000100007F:0050 0:0 01 0:0 0:0 0 0 0 12 1\n   2: 01:0050 0:0 01"))
	f.Fuzz(func(t *testing.T, table []byte) {
		all := map[netip.AddrPort]int64{}
		if countConnections(bytes.NewReader(table), all) != nil {
			return // a line is longer than those of a kernel
		}
		total := int64(0)
		for at, n := range all {
			total += n
			again := map[netip.AddrPort]int64{}
			if err := countConnections(strings.NewReader("0: "+inHexadecimal(at)+" 0:0 01"), again); err != nil || again[at] != 1 {
				t.Errorf("%v is written as %s and read as %v, %v", at, inHexadecimal(at), again, err)
			}
		}
		if lines := 1 + bytes.Count(table, []byte("\n")); total > int64(lines) {
			t.Errorf("%d connections in %d lines", total, lines)
		}
		for line := range bytes.Lines(table) {
			if connectedOf(line, "33") && connectedOf(line, "0") {
				t.Errorf("%q is of two users", line)
			}
		}
	})
}
