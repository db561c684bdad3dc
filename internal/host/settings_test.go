package host

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/external-lb/external-lb/internal/engine"
	"github.com/external-lb/external-lb/internal/engine/engines"
	"github.com/external-lb/external-lb/internal/engine/nginx"
)

func TestSettingsHaveDefaults(t *testing.T) {
	for text, want := range map[string][]string{ // engine, root, and the directories of the daemons
		"": {"nginx", "/var/lib/external-lb", "/var/lib/external-lb/nginx"},
		"engine: haproxy\nroot: /srv\nnginx: {proofTimeout: 1m}": {"haproxy", "/srv", "/srv/haproxy"},
		"vrrp: true":                         {"nginx", "/var/lib/external-lb", "/var/lib/external-lb/nginx", "/var/lib/external-lb/keepalived"},
		"vrrp: true\nengine: lvs":            {"lvs", "/var/lib/external-lb", "/var/lib/external-lb/lvs"},
		"datagrams: lvs":                     {"nginx", "/var/lib/external-lb", "/var/lib/external-lb/nginx", "/var/lib/external-lb/lvs"},
		"vrrp: true\ndatagrams: lvs":         {"nginx", "/var/lib/external-lb", "/var/lib/external-lb/nginx", "/var/lib/external-lb/lvs"},
		"keepalived: {rules: [nft, -f, /x]}": {"nginx", "/var/lib/external-lb", "/var/lib/external-lb/nginx"},
	} {
		s, err := ParseSettings([]byte(text), &engines.Table)
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		got := []string{s.Engine, s.Root}
		for _, u := range s.uses {
			got = append(got, u.dir)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", text, diff)
		}
	}
	s, err := parseSettings([]byte("nginx: {proofTimeout: 1m, log: [tail, -c, 65536]}\n"), &engines.Table, true)
	if err != nil {
		t.Fatal(err)
	}
	n := s.uses[0].own.(*nginx.Settings)
	if n.ProofTimeout != engine.Duration(time.Minute) || n.Log[2] != "65536" || n.Reload[0] != "sudo" {
		t.Errorf("%+v", n)
	}
}

func TestBadSettingsAreRefused(t *testing.T) {
	for text, want := range map[string]string{
		"engine: apache":                                 `engine "apache": want nginx, haproxy or lvs`,
		"datagrams: haproxy":                             `datagrams "haproxy": want lvs`,
		"engine: lvs\ndatagrams: lvs":                    "carries them itself",
		"haproxy: {sockt: /x}":                           "sockt",
		"engine: haproxy\nhaproxy: {socket: admin.sock}": "haproxy.socket",
		"rood: /x":                      "rood",
		"root: var":                     `root: "var"`,
		"root: /var/../etc":             `root: "/var/../etc"`,
		`root: "/a; include /etc/x"`:    "root:",
		"nginx: {proof: 0.0.0.0:1}":     "nginx.proof",
		"nginx: {proof: localhost:1}":   "nginx.proof",
		"nginx: {proof: 127.0.0.1:0}":   "nginx.proof",
		"nginx: {proofTimeout: soon}":   "soon",
		"nginx: {proofTimeout: -1s}":    "-1s",
		"nginx: {reload: nginx reload}": "reload",
		"connectionsPerService: -1":     "connectionsPerService: -1",
		"connectionsPerService: some":   "connectionsPerService",
		"oldWorkersMiB: -1":             "oldWorkersMiB: -1",

		"engine: lvs\nconnectionsPerService: 100": "connectionsPerService: IPVS",
		"root: /a\nroot: /b":                      "root",
	} {
		if _, err := ParseSettings([]byte(text), &engines.Table); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want one with %q", text, err, want)
		}
	}
	if _, err := LoadSettings(filepath.Join(t.TempDir(), "none"), &engines.Table); err == nil || !strings.Contains(err.Error(), "external-lb host install") {
		t.Errorf("error: %v", err)
	}
}

func TestParseListener(t *testing.T) {
	for line, want := range map[string]string{
		"   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0": "tcp 127.0.0.1:8080",
		"   0: 00000000000000000000000000000000:0050 0:0000 0A 0:0 0:0 0 0 0 12 1":                            "tcp [::]:80",
		"   0: B80D0120000000000000000009000000:0050 0:0000 0A 0:0 0:0 0 0 0 12 1":                            "tcp [2001:db8::9]:80",
		"   0: 0100007F:1F90 00000000:0000 01 00000000:00000000 00:00000000 00000000     0        0 4711 1 0": "",
		"  sl  local_address rem_address   st tx_queue":                                                       "",
		"   0: 01:1 0:0 0A 0:0 0:0 0 0 0 12 1":                                                                "",
		"":                                                                                                    "",
	} {
		l, ok := parseListener(line, "tcp", "0A")
		if got := l.String(); ok != (want != "") || ok && got != want {
			t.Errorf("%q is %s (%t), want %s", line, got, ok, want)
		}
	}
}

func TestStatusOfAMachineThatIsNotPrepared(t *testing.T) {
	none := "root: " + filepath.Join(t.TempDir(), "none")
	st, err := newAgentOf(t, none).Status(t.Context())
	if err != nil || !strings.Contains(st.Message, "external-lb host install") || st.EngineVersion == "" {
		t.Errorf("%+v, %v", st, err)
	}
	a := newAgentOf(t, none+"\nnginx: {binary: /nonexistent/nginx}")
	if st, err = a.Status(t.Context()); err != nil || !strings.Contains(st.Message, "install nginx") {
		t.Errorf("%+v, %v", st, err)
	}
	var coded *Error
	if _, err := a.Apply(t.Context(), Delivery{Epoch: Epoch{1, 1}}); !errors.As(err, &coded) || coded.Code != CodeMachine {
		t.Errorf("error: %v", err)
	}
}
