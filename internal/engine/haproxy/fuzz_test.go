package haproxy

import (
	"strings"
	"testing"

	"github.com/external-lb/external-lb/internal/engine"
	"github.com/external-lb/external-lb/internal/fileset"
	"github.com/external-lb/external-lb/internal/lb"
)

// FuzzInfo: what answers on HAProxy's socket.
func FuzzInfo(f *testing.F) {
	f.Add("proc.external_lb: type=str value=<" + strings.Repeat("0f", 32) + ">\n\nName: HAProxy\nVersion: 2.6.12-1+deb12u1\nPid: 42\n")
	f.Add("Unknown command: 'get var'\n")
	f.Fuzz(func(t *testing.T, text string) {
		a, err := parseInfo(text)
		if err == nil && (len(a.Digest) != 64 || a.PID < 0 || !strings.Contains(text, string(a.Digest))) {
			t.Errorf("%q is read as %+v", text, a)
		}
	})
}

// FuzzSlots: what it says of its servers becomes words of commands to it.
func FuzzSlots(f *testing.F) {
	f.Add("1\n# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state\n" +
		"3 web 1 s1 10.0.0.1 2 0 1 1 5 6 3 4 6 0 0 0 - 30080 - 0 0 - - 0\n")
	f.Add("3 web 1 s1 - 0 5 1 1 5 6 3 4 6 0 0 0 - 0 - 0 0 - - 0\n")
	f.Fuzz(func(t *testing.T, text string) {
		for _, s := range parseSlots(text) {
			if s.name == "" || strings.ContainsAny(s.name, " \n") || !s.at.Addr().IsValid() {
				t.Errorf("%+v out of %q", s, text)
			}
		}
	})
}

// FuzzStatistics: what it counts goes to the controller, and becomes labels there.
func FuzzStatistics(f *testing.F) {
	f.Add(statistics)
	f.Add("# pxname,svname\n")
	f.Fuzz(func(t *testing.T, text string) {
		all, err := parseStatistics(strings.NewReader(text))
		if err != nil {
			return
		}
		for _, s := range all {
			if _, err := lb.NewID(s.Service.Namespace, s.Service.Name, s.Service.UID); err != nil || !s.Listener.Address.IsValid() {
				t.Errorf("%+v out of %q", s, text)
			}
			if s.Open < 0 || s.Made < 0 || s.Up < 0 || len(s.Named) > min(s.Down, engine.MaxNamed) {
				t.Errorf("%+v out of %q", s, text)
			}
			for _, n := range s.Named {
				if !lb.SafeNode(n.Node) || n.For < 0 {
					t.Errorf("%+v out of %q", n, text)
				}
			}
		}
	})
}

// FuzzWords: of what HAProxy says, only a Service's own file is to blame.
func FuzzWords(f *testing.F) {
	const file = "services/a.b.c.conf"
	f.Add("[ALERT]    (12) : config : parsing [/s/live/haproxy.cfg:3] : unknown keyword 'x'\n[ALERT] (12) : config : 'listen_a' twice")
	f.Add("[ALERT] (1) : Fatal errors found in configuration.\n[ALERT] (1) : out of memory")
	suspects := engine.Suspects{
		Dir: "/s", Fragments: map[string][]fileset.Socket{file: nil},
		Read:  func(string) ([]byte, error) { return []byte("global\n" + fileMark + file + "\nlisten listen_a\n"), nil },
		Probe: func(fileset.Socket) string { return "" },
	}
	h := &Daemon{Settings: &Settings{}, dir: "/s"}
	f.Fuzz(func(t *testing.T, log string) {
		words := alerts(log)
		for path := range h.Blame(suspects, words) {
			if path != file {
				t.Errorf("%q is to blame", path)
			}
		}
		if err := h.Advise(words, 1); h.Lacks(words) && err == nil {
			t.Errorf("nothing is advised about %q", words)
		}
	})
}

// FuzzFacts: an address more is found behind whatever a template makes.
func FuzzFacts(f *testing.F) {
	f.Add("listen a\n  bind 192.0.2.1:80 ssl crt /x\n  acl sources src 10.0.0.0/8\n" +
		"  tcp-request connection reject unless sources\n  server n 10.0.0.1:30080 # x\n")
	f.Add("bind\n#")
	f.Fuzz(func(t *testing.T, file string) {
		have := factsOf([]byte(file))
		if words := have.Against(have); words != "" {
			t.Errorf("it differs from itself: %s", words)
		}
		if have.Against(factsOf([]byte(file+"\nbind 192.0.2.9:9\n"))) == "" {
			t.Error("a listener more is not found")
		}
	})
}

// FuzzLeft: of a name in the account's file, only one that we give is told to HAProxy, whose commands end with a
// semicolon or a line.
func FuzzLeft(f *testing.F) {
	for _, name := range []string{"default.web.0f0f.192-0-2-1.80.tcp/n1", "a.b.c.1-2-3-4.80.tcp/10-0-0-1;shutdown frontend x", "a.b.c.1-2-3-4.80.tcp;x/n1", "a.b.c.1-2-3-4.80.tcp/n1\nquit", "a.b.c.1-2-3-4.80.tcp/n1/n2", "own/n1"} {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, full string) {
		id, section, server, ours := ofOurs(full)
		if ours && (section+"/"+server != full || !leftOf(full, engine.Path(id)) || strings.ContainsFunc(full, func(r rune) bool {
			return (r < 'a' || r > 'z') && (r < '0' || r > '9') && !strings.ContainsRune(".-/", r)
		})) {
			t.Errorf("%q is taken for %s / %s", full, section, server)
		}
	})
}
