package host

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/external-lb/external-lb/internal/fileset"
)

func TestSettingsHaveDefaults(t *testing.T) {
	s, err := parseSettings([]byte("nginx: {proofTimeout: 1m}\n"), true)
	if err != nil {
		t.Fatal(err)
	}
	want := Settings{Engine: "nginx", Root: "/var/lib/external-lb", Nginx: NginxSettings{
		Binary: "/usr/sbin/nginx",
		Check:  []string{"sudo", "-n", "/usr/sbin/nginx", "-t", "-q", "-c", "/etc/external-lb/nginx-check.conf"},
		Reload: []string{"sudo", "-n", "/usr/sbin/nginx", "-s", "reload"},
		Log:    []string{"sudo", "-n", "/usr/bin/tail", "-c", "65536", "/var/log/nginx/error.log"},
		Conf:   "/etc/nginx/nginx.conf", CheckConf: "/etc/external-lb/nginx-check.conf", IncludeConf: "/etc/external-lb/nginx-stream.conf",
		PIDFile: "/run/nginx.pid", Proof: "127.0.76.66:776", ProofTimeout: Duration(time.Minute),
	}}
	if diff := cmp.Diff(want, s); diff != "" {
		t.Error(diff)
	}
	asRoot, err := parseSettings(nil, false)
	if err != nil || asRoot.Nginx.Reload[0] != "/usr/sbin/nginx" {
		t.Errorf("%+v, %v", asRoot, err)
	}
}

func TestBadSettingsAreRefused(t *testing.T) {
	for text, want := range map[string]string{
		"engine: apache": `engine "apache"`,
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
		"root: /a\nroot: /b":            "root",
	} {
		if _, err := ParseSettings([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want one with %q", text, err, want)
		}
	}
	if _, err := LoadSettings(filepath.Join(t.TempDir(), "none")); err == nil || !strings.Contains(err.Error(), "external-lb host install") {
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

func TestParseAnswer(t *testing.T) {
	digest := strings.Repeat("0f", 32)
	if a, err := parseAnswer("external-lb 1.22.1 42 " + digest); err != nil || a != (answer{"nginx/1.22.1", 42, fileset.Digest(digest)}) {
		t.Errorf("%+v, %v", a, err)
	}
	for _, bad := range []string{"", "SSH-2.0-x", "external-lb 1.22.1 42 " + digest + "\n", "external-lb x 42 " + digest} {
		if a, err := parseAnswer(bad); err == nil {
			t.Errorf("%q is read as %+v", bad, a)
		}
	}
}

func TestOldVersionsAreNamed(t *testing.T) {
	for version, old := range map[string]bool{
		"nginx/1.18.0": true, "nginx/1.21.3": true, "nginx/1.21.4": false, "nginx/1.22.1": false, "nginx/2.0.0": false, "openresty": false,
		"haproxy/2.4.22": true, "haproxy/2.6.12-1+deb12u4": false, "haproxy/3.3-dev1": false,
	} {
		var d daemon = &nginx{}
		if strings.HasPrefix(version, "haproxy") {
			d = &haproxy{}
		}
		if got := d.tooOld(version); (got != "") != old {
			t.Errorf("%s: %q", version, got)
		}
	}
}

func TestStatusOfAMachineThatIsNotPrepared(t *testing.T) {
	s := DefaultSettings()
	s.Root = filepath.Join(t.TempDir(), "none")
	a, err := NewAgent(s)
	if err != nil {
		t.Fatal(err)
	}
	st, err := a.Status(t.Context())
	if err != nil || !strings.Contains(st.Message, "external-lb host install") || st.EngineVersion == "" {
		t.Errorf("%+v, %v", st, err)
	}
	s.Nginx.Binary = "/nonexistent/nginx"
	if a, err = NewAgent(s); err != nil {
		t.Fatal(err)
	}
	if st, err = a.Status(t.Context()); err != nil || !strings.Contains(st.Message, "apt-get install nginx") {
		t.Errorf("%+v, %v", st, err)
	}
	b := &box{T: t, agent: a}
	b.fails(CodeMachine, Delivery{Epoch: Epoch{1, 1, 1}})
}
