package host

import (
	"encoding/json"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/external-lb/external-lb/internal/engine/engines"
	"github.com/external-lb/external-lb/internal/fileset"
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
