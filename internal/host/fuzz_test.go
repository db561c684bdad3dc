package host

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/external-lb/external-lb/internal/engine"
	"github.com/external-lb/external-lb/internal/engine/engines"
	"github.com/external-lb/external-lb/internal/fileset"
	"github.com/external-lb/external-lb/internal/lb"
	"github.com/external-lb/external-lb/internal/lb/lbtest"
)

// FuzzAuthorizedKeys: a key that is added can deliver and nothing else, whatever was in
// the file, and the lines of others stay.
func FuzzAuthorizedKeys(f *testing.F) {
	f.Add("# mine\n"+aKey+"\nfrom=\"192.0.2.0/24\" "+otherKey+"\n", aKey)
	f.Add("command=\"sh\" "+aKey, aKey+" \"x\" # y")
	f.Add("no-pty "+aKey+"\r\n\n", otherKey)
	f.Fuzz(func(t *testing.T, have, line string) {
		k, err := parsePublicKey(line)
		if err != nil {
			return
		}
		if strings.ContainsAny(k.line("/x"), "\r\n\x00") {
			t.Fatalf("%q is more than a line", k.line("/x"))
		}
		got := authorize(have, []publicKey{k}, "/x")
		ours := 0
		var others, want []string
		for line := range strings.Lines(got) {
			switch line = strings.TrimRight(line, "\n"); {
			case !isRemark(line) && slices.Contains(strings.Fields(line), k.blob):
				ours++
				if !strings.HasPrefix(line, `restrict,command="/x host serve" `+k.algorithm+" "+k.blob) {
					t.Errorf("%q lets the key do something else", line)
				}
			default:
				others = append(others, line)
			}
		}
		for line := range strings.Lines(have) {
			if line = strings.TrimRight(line, "\n"); isRemark(line) || !slices.Contains(strings.Fields(line), k.blob) {
				want = append(want, line)
			}
		}
		if ours != 1 || !slices.Equal(others, want) {
			t.Errorf("%d lines of the key; others are %q, want %q", ours, others, want)
		}
		if again := authorize(got, []publicKey{k}, "/x"); again != got {
			t.Errorf("again: %q, was %q", again, got)
		}
	})
}

func isRemark(line string) bool { return strings.HasPrefix(strings.TrimSpace(line), "#") }

// FuzzSettings: host.yaml of a host's owner.
func FuzzSettings(f *testing.F) {
	f.Add("engine: nginx\nadmit:\n  addresses: [203.0.113.0/24]\n  ports: [80, 8000-8999]\n" +
		"  backends: [{networks: [10.0.0.0/8], ports: [30000-32767]}]\n")
	f.Add("engine: haproxy\nvrrp: true\nhaproxy: {conf: /etc/haproxy/haproxy.cfg}\nkeepalived: {}\n")
	f.Add("root: ../x\nnginx: {proof: 1}\n")
	f.Fuzz(func(t *testing.T, text string) {
		s, err := parseSettings([]byte(text), &engines.Table, true)
		if err == nil && (engines.Table.Find(s.Engine) == nil || !strings.HasPrefix(s.Root, "/") || len(s.uses) == 0) {
			t.Errorf("%q is read as %+v", text, s)
		}
	})
}

// FuzzRulesOfFlags: what the flags of an installation admit.
func FuzzRulesOfFlags(f *testing.F) {
	for _, seed := range []string{
		"203.0.113.0/24", "192.0.2.1", "fe80::1%a", "::/0", "", ":",
		"10.0.0.0/8:30000-32767", ":80", "2001:db8::/32:80", "10.0.0.0/8:",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if p, err := ParseNetwork(text); err == nil && (!p.IsValid() || p.Addr().Zone() != "") {
			t.Errorf("the network %q is read as %s", text, p)
		}
		b, err := ParseBackends(text)
		if says := len(b.Networks) + len(b.Ports); err == nil && (says == 0 || says == 1 && strings.HasSuffix(text, ":")) {
			t.Errorf("the backends %q are read as %+v", text, b)
		}
	})
}

// FuzzListener: lines of /proc/net.
func FuzzListener(f *testing.F) {
	f.Add("   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0")
	f.Add("   0: B80D0120000000000000000009000000:0050 0:0000 0A 0:0 0:0 0 0 0 12 1")
	f.Fuzz(func(t *testing.T, line string) {
		if l, ok := parseListener(line, "tcp", "0A"); ok && (!l.Address.IsValid() || l.Address.Addr().Is4In6()) {
			t.Errorf("%q is read as %v", line, l)
		}
	})
}

// FuzzContents: what the store's index says is read as it was written.
func FuzzContents(f *testing.F) {
	f.Add([]byte(`{"renderer":"r","items":{"node/a":"` + strings.Repeat("0f", 32) + `"},
		"files":{"services/a.b.c.conf":{"sum":"","listens":["tcp 192.0.2.1:80"],"fragment":true}}}`))
	f.Add([]byte(`{"files":{"x":{"listens":["tcp"]}}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var c, again contents
		if json.Unmarshal(data, &c) != nil {
			return
		}
		text, err := json.Marshal(c)
		if err == nil {
			err = json.Unmarshal(text, &again)
		}
		equal := cmp.Options{
			cmpopts.EquateEmpty(), cmpopts.EquateComparable(netip.AddrPort{}), cmp.AllowUnexported(contents{}, entry{}, fileset.Socket{}),
		}
		if diff := cmp.Diff(c, again, equal); err != nil || diff != "" {
			t.Errorf("error %v, (-first +second):\n%s", err, diff)
		}
	})
}

// FuzzState: what the account says was proved last is a generation, and the link to it leads nowhere else.
func FuzzState(f *testing.F) {
	for _, seed := range []string{`{"good":"2","previous":"1"}`, `{"good":"../../../etc"}`, `{}`, `{"good":"1","previous":"/"}`, `{"good":"01"}`, `null`, `{"good":"."}`} {
		f.Add([]byte(seed))
	}
	s, err := openStore(f.TempDir())
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if err := s.write(stateFile, data, publicMode, false); err != nil {
			t.Fatal(err)
		}
		st, err := s.readState()
		if err != nil {
			if !errors.Is(err, errDamaged) || st != (state{}) {
				t.Errorf("%+v, %v", st, err)
			}
			return
		}
		if err := s.link(nextLink, st.Good); err != nil {
			t.Fatal(err)
		}
		target, err := s.root.Readlink(nextLink)
		if err != nil || s.linked(nextLink) != st.Good || filepath.Dir(filepath.Dir(target)) != engine.GenerationsDir {
			t.Errorf("%q leads to %q, %v", st.Good, target, err)
		}
		if err := s.writeJSON(stateFile, st); err != nil {
			t.Fatal(err)
		}
		if again, err := s.readState(); err != nil || again != st {
			t.Errorf("%+v is written and read as %+v, %v", st, again, err)
		}
	})
}

// FuzzWanted: whatever the list of what is wanted says, all of it is there, in bounds or an error that says why not, and
// it is read as it was written.
func FuzzWanted(f *testing.F) {
	set, err := new(lb.Encoder).Encode(lbtest.Config().Example(7))
	if err != nil {
		f.Fatal(err)
	}
	s, err := openStore(f.TempDir())
	if err == nil {
		err = s.root.Mkdir(itemsDir, 0o700)
	}
	if err != nil {
		f.Fatal(err)
	}
	m := &model{store: s, sizes: map[lb.Sum]int{}}
	var all []lb.Item
	for it := range set.All() {
		all = append(all, it)
	}
	if err := m.writeItems(all); err != nil {
		f.Fatal(err)
	}
	if err := m.writeList(wantedFile, set.Manifest()); err != nil {
		f.Fatal(err)
	}
	whole, err := s.root.ReadFile(wantedFile)
	if err != nil {
		f.Fatal(err)
	}
	first, rest, _ := bytes.Cut(whole, []byte("\n"))
	f.Add(whole)
	f.Add(bytes.TrimSuffix(first, []byte("\n")))
	f.Add(slices.Concat(first, []byte("x\r\n"), first, []byte("\n"), rest))
	f.Add([]byte(strings.Repeat("0", 64) + " node/a\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if err := s.write(wantedFile, data, privateMode, false); err != nil {
			t.Fatal(err)
		}
		got, err := m.readList(wantedFile)
		if err != nil {
			return
		}
		if len(got.parts) != got.sums.Len() || got.sums.Len() > 1+bytes.Count(data, []byte("\n")) {
			t.Errorf("%d items of %d lines, and %d parts", got.sums.Len(), bytes.Count(data, []byte("\n")), len(got.parts))
		}
		for key, part := range got.parts {
			if _, wrong := part.(error); wrong {
				continue
			}
			if err := lbtest.InBounds(part); err != nil || lb.CheckKey(key) != nil {
				t.Errorf("%q: %v", key, err)
			}
		}
		if err := m.writeList(wantedFile, got.sums); err != nil {
			t.Fatal(err)
		}
		again, err := m.readList(wantedFile)
		if err != nil || !again.sums.Equal(got.sums) || len(again.parts) != len(got.parts) {
			t.Errorf("%d are written, and %d read, %v", got.sums.Len(), again.sums.Len(), err)
		}
	})
}

// FuzzRecords: whatever the records of the last delivery say, they are read as they were written, or as none.
func FuzzRecords(f *testing.F) {
	s, err := openStore(f.TempDir())
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(`{"good":{"service.tmpl":"server {}"},"proved":"0f0f","refused":"f0f0","why":"no"}`))
	f.Add([]byte(`[{"Key":"service/a/b/c","Reason":"RefusedByEngine","Message":"no"},{"Key":"address/192.0.2.1"}]`))
	f.Add([]byte(`[{"Key":"service/a/b/c","Listener":{"Address":"192.0.2.1","Port":80,"Protocol":"TCP"},"OlderStays":true},null,{}]`))
	f.Add([]byte(`null`))
	f.Fuzz(func(t *testing.T, data []byte) {
		m := &model{store: s} // knows nothing of what was read before
		for _, name := range []string{templatesFile, outcomeFile} {
			if err := s.write(name, data, privateMode, false); err != nil {
				t.Fatal(err)
			}
		}
		templates, refusals := m.templateRecord(), m.refusals()
		if err := errors.Join(s.writeJSON(templatesFile, templates), s.writeJSON(outcomeFile, refusals)); err != nil {
			t.Fatal(err)
		}
		again := &model{store: s}
		if diff := cmp.Diff(templates, again.templateRecord(), cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("templates (-first +second):\n%s", diff)
		}
		if diff := cmp.Diff(refusals, again.refusals(), cmpopts.EquateEmpty(), cmpopts.EquateComparable(netip.Addr{})); diff != "" {
			t.Errorf("refusals (-first +second):\n%s", diff)
		}
	})
}
