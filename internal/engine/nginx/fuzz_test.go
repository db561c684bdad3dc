package nginx

import (
	"slices"
	"strings"
	"testing"

	"github.com/external-lb/external-lb/internal/engine"
	"github.com/external-lb/external-lb/internal/fileset"
)

// FuzzOwnersConf: whatever the owner's files say, what is found in them is there.
func FuzzOwnersConf(f *testing.F) {
	f.Add("# configuration file /etc/nginx/nginx.conf:\ninclude m/*.conf; # stream {\nerror_log  /var/log/x.log notice;\n" +
		"http { server { return 200 \"stream { ${x} }\"; } }\n# configuration file /etc/nginx/m/b.conf:\nstream {\n}\n")
	f.Add("# configuration file /a:\nload_module \"modules/ngx_stream_module.so\";\nstream{\n# configuration file /a:\nstream '{' {")
	f.Add("# configuration file /a:\n\\")
	f.Add("# configuration file /a:\n\"x\\")
	f.Fuzz(func(t *testing.T, dump string) {
		const main = "/etc/nginx/nginx.conf"
		files := parseDump(dump)
		conf := readOwnersConf(dump, main)
		for _, file := range files {
			if !conf.included[file.path] {
				t.Errorf("%q is not among those that are read", file.path)
			}
			for _, d := range topLevel(file.text) {
				if len(d.words) == 0 || d.block > 0 && file.text[d.block-1] != '{' {
					t.Errorf("%+v in %q", d, file.text)
				}
			}
		}
		for block, path := range map[string]string{"stream": conf.stream, "http": conf.http} {
			if path != "" && !slices.ContainsFunc(files, func(f confFile) bool { return f.path == path && within(f.text, block, "x;") != f.text }) {
				t.Errorf("the %s block in %q is not there", block, path)
			}
		}
		for _, line := range conf.modules {
			if !strings.HasPrefix(line, "load_module ") || !strings.Contains(line, "ngx_stream") {
				t.Errorf("%q is no module of stream", line)
			}
		}
	})
}

// FuzzAnswer: what answers on the port of the proof may be anybody.
func FuzzAnswer(f *testing.F) {
	f.Add("external-lb 1.22.1 42 " + strings.Repeat("0f", 32))
	f.Add("SSH-2.0-OpenSSH")
	f.Fuzz(func(t *testing.T, text string) {
		a, err := parseAnswer(text)
		if err == nil && (len(a.Digest) != 64 || a.PID < 0 || !strings.HasSuffix(text, " "+string(a.Digest))) {
			t.Errorf("%q is read as %+v", text, a)
		}
	})
}

// FuzzWords: of what nginx says, only a Service's own file is to blame.
func FuzzWords(f *testing.F) {
	const file = "services/a.b.c.conf"
	f.Add("nginx: [emerg] 12#12: host not found in /s/live/" + file + ":3\nnginx: [emerg] bind() to 192.0.2.1:80 failed (98: Address in use)")
	f.Add("nginx: [emerg] cannot load certificate \"/s/live/certs/x.pem\"\nnginx: [emerg] duplicate \"upstream_a\"")
	f.Add("nginx: [emerg] 10 worker_connections are not enough\n2026/11/26 12:00:00 [emerg] 7#7: socket() failed (24: Too many open files)")
	suspects := engine.Suspects{
		Dir: "/s", Fragments: map[string][]fileset.Socket{file: nil},
		Read:  func(string) ([]byte, error) { return []byte("upstream_a certs/x.pem"), nil },
		Probe: func(fileset.Socket) string { return "" },
	}
	n := &Daemon{Settings: &Settings{Conf: "/nowhere/nginx.conf"}, dir: "/s"}
	f.Fuzz(func(t *testing.T, log string) {
		words := emergencies(log)
		for path := range n.Blame(suspects, words) {
			if path != file {
				t.Errorf("%q is to blame", path)
			}
		}
		if err := n.Advise(words, 1); n.Lacks(words) && err == nil {
			t.Errorf("nothing is advised about %q", words)
		}
	})
}

// FuzzFacts: an address more is found behind whatever a template makes.
func FuzzFacts(f *testing.F) {
	f.Add("server {\n  listen 192.0.2.1:80 udp;\n  allow 10.0.0.0/8; # x\n  deny all;\n  proxy_pass a;\n}\n")
	f.Add("\"")
	f.Fuzz(func(t *testing.T, file string) {
		have := factsOf([]byte(file))
		if words := have.Against(have); words != "" {
			t.Errorf("it differs from itself: %s", words)
		}
		if have.Against(factsOf([]byte(file+"\n;listen 192.0.2.9:9;\n"))) == "" {
			t.Error("a listener more is not found")
		}
	})
}
