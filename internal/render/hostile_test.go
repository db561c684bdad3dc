package render_test

import (
	"fmt"
	"net/netip"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/external-lb/external-lb/internal/fileset"
	"github.com/external-lb/external-lb/internal/lb"
	"github.com/external-lb/external-lb/internal/render"
)

// Names that make nginx refuse the whole configuration, if they were printed.
var breaking = []string{
	"", " ", "a;", "a b", "a{", "a{b", "}", "a\nb", "\"a", "'a", "# a", "a}\nupstream b",
	"a {} upstream b {", "a { server nohost.invalid:80; } upstream b",
}

// Names that nginx takes, and then does what they say.
var hijacking = []string{
	"a { server 127.0.0.1:1; } server { listen 127.0.0.1:65001; return pwned; } upstream b",
	"a { server unix:/var/run/docker.sock; } upstream b",
	"a { server 127.0.0.1:1; }\nserver { listen 127.0.0.1:65001; return $remote_addr; }\nupstream b",
	"a { server 127.0.0.1:1; } log_format b $remote_addr; upstream c",
	"$remote_addr", "${hostname}", "\"a b\"", "'a b'", "a\\;b", "a\"", "a'", "a\\", "$", "A", "a/../b", "../a", "/etc/passwd", "a*", "ä",
}

// The lists are what they say they are: each value is printed as a name and
// given to nginx. Not every harmless name is in our alphabet, and not every bad one breaks.
func TestHostileValuesDoWhatTheyAreListedFor(t *testing.T) {
	takes := func(name string) bool {
		upstream, err := fileset.NewFragment("services/hostile.conf", fmt.Appendf(nil, "upstream %s { server 127.0.0.1:1; }\n", name), nil)
		if err != nil {
			t.Fatal(err)
		}
		set, err := fileset.New(upstream)
		if err != nil {
			t.Fatal(err)
		}
		_, conf := install(t, set)
		return check(t, conf) == nil
	}
	for _, name := range breaking {
		if takes(name) {
			t.Errorf("nginx takes %q: it belongs to the other list", name)
		}
	}
	for _, name := range hijacking {
		if !takes(name) {
			t.Errorf("nginx refuses %q: it belongs to the other list", name)
		}
	}
}

func TestHostileNamesReachNoFile(t *testing.T) {
	for _, bad := range append(append([]string{strings.Repeat("a", 64), "-a", "a-", "a.b", "a_b", "a\x00", "a\r"}, breaking...), hijacking...) {
		for _, parts := range [][3]string{{bad, "web", uid}, {"default", bad, uid}, {"default", "web", bad}} {
			if id, err := lb.NewID(parts[0], parts[1], parts[2]); err == nil {
				t.Errorf("NewID makes %v of %q", id, parts)
			}
			// Also one that is made without its constructor.
			s := &lb.Service{ID: lb.ID{Namespace: parts[0], Name: parts[1], UID: parts[2]}, Frontends: []lb.Frontend{tcp("192.0.2.1:80")}}
			wantRefused(t, s)
		}
	}
}

// Addresses and ranges are made by netip, which takes none of these, or none
// that the renderer prints.
func TestHostileAddressesReachNoFile(t *testing.T) {
	for _, bad := range append(append([]string{
		"unix:/var/run/docker.sock", "localhost", "010.0.0.1", "10.0.0.1 ", "10.0.0.1;", "10.1", "0x7f.0.0.1",
		"fe80::1%eth0", "fe80::1%;}", "fe80::1% } server { listen 1", "::ffff:10.0.0.1", "0.0.0.0", "::",
	}, breaking...), hijacking...) {
		address, err := netip.ParseAddr(bad)
		if err != nil {
			continue
		}
		f := tcp("192.0.2.1:80")
		f.Listener.Address = address
		wantRefused(t, service(t, "web", f))
		f = tcp("192.0.2.1:80")
		f.Backends = []lb.Backend{{Address: netip.AddrPortFrom(address, 80)}}
		wantRefused(t, service(t, "web", f))
	}
	for _, bad := range []string{"10.0.0.0/8;", " 10.0.0.0/8", "10.0.0.0/08", "all", "unix:", "fe80::%;}/64", "10.0.0.0/33"} {
		if p, err := netip.ParsePrefix(bad); err == nil {
			t.Errorf("netip makes %v of %q", p, bad)
		}
	}
}

// What is text in the model and not of the renderer's business is not printed.
func TestHostileTextReachesNoFile(t *testing.T) {
	want := contents(mustRender(t, config(service(t, "web", tcp("192.0.2.1:80", "10.0.0.1:30080")))))
	for _, bad := range append(append([]string{}, breaking...), hijacking...) {
		f := with(tcp("192.0.2.1:80", "10.0.0.1:30080"), func(s *lb.Settings) { s.HealthCheck.Path = bad })
		f.Backends[0].Node = bad
		for path, data := range contents(mustRender(t, config(service(t, "web", f)))) {
			if data != want[path] {
				t.Errorf("%q is in %s:\n%s", bad, path, data)
			}
		}
		for what, change := range map[string]func(*lb.Frontend){
			"protocol":     func(f *lb.Frontend) { f.Listener.Protocol = lb.Protocol(bad) },
			"algorithm":    func(f *lb.Frontend) { f.Settings.Algorithm = lb.Algorithm(bad) },
			"mode":         func(f *lb.Frontend) { f.Settings.Mode = lb.Mode(bad) },
			"send proxy":   func(f *lb.Frontend) { f.Settings.SendProxy = lb.ProxyProtocol(bad) },
			"health check": func(f *lb.Frontend) { f.Settings.HealthCheck.Type = lb.HealthCheckType(bad) },
		} {
			f := tcp("192.0.2.1:80", "10.0.0.1:30080")
			change(&f)
			t.Run(what, func(t *testing.T) { wantRefused(t, service(t, "web", f)) })
		}
	}
}

// nginxLines are all that a file rendered for nginx may consist of.
var nginxLines = func() *regexp.Regexp {
	const name, address, prefix, duration = `[a-z0-9.-]+`, `(\d+\.\d+\.\d+\.\d+|\[[0-9a-f:]+\]):\d+`, `[0-9a-f:.]+/\d+`, `\d+m?s`
	return regexp.MustCompile(`^(` + strings.Join([]string{
		``, `}`, `server {`, `upstream ` + name + ` {`,
		`# Made by external-lb\. Changes are overwritten\. One file per Service is in services\.`,
		`# Made by external-lb for the Service [a-z0-9-]+/[a-z0-9-]+ \(uid [a-z0-9-]+\)\. Changes are overwritten\.`,
		`limit_conn_zone all zone=` + name + `\.all:32k;`,
		`limit_conn_zone \$binary_remote_addr zone=` + name + `\.clients:4m;`,
		`    zone ` + name + ` \d+k;`, `    least_conn;`, `    random;`,
		`    hash \$remote_addr(:\$remote_port)? consistent;`,
		`    server ` + address + `( weight=\d+)? max_fails=\d+( fail_timeout=\d+s)?( max_conns=\d+)?;`,
		`    listen ` + address + `( udp( reuseport)?|( ssl)?( proxy_protocol)?);`,
		`    ssl_certificate(_key)? external-lb/certs/[0-9a-f]{32}\.pem;`, `    ssl_protocols TLSv1\.2 TLSv1\.3;`, `    ssl_ciphers [A-Z0-9:-]+;`,
		`    ssl_(prefer_server_ciphers|verify_client) off;`, `    ssl_ecdh_curve auto;`, `    ssl_session_cache shared:` + name + `\.tls:1m;`,
		`    ssl_session_timeout 1h;`, `    ssl_session_tickets on;`, `    ssl_handshake_timeout 10s;`, `    proxy_ssl off;`,
		`    (set_real_ip_from|allow) ` + prefix + `;`, `    deny all;`,
		`    limit_conn ` + name + ` \d+;`,
		`    return "";`, `    proxy_buffer_size 64k;`, `    proxy_half_close on;`,
		`    proxy_(connect_timeout|timeout) ` + duration + `;`,
		`    proxy_next_upstream (on|off);`, `    proxy_next_upstream_tries \d+;`,
		`    proxy_protocol (on|off);`, `    proxy_pass ` + name + `;`,
	}, "|") + `)$`)
}()

// haproxyLines are all that a file rendered for HAProxy may consist of.
var haproxyLines = func() *regexp.Regexp {
	const name, address, prefix, duration = `[a-z0-9.-]+`, `(\d+\.\d+\.\d+\.\d+|\[[0-9a-f:]+\]):\d+`, `[0-9a-f:.]+/\d+`, `\d+m?s`
	return regexp.MustCompile(`^(` + strings.Join([]string{
		``, `(backend|listen) ` + name, `defaults external-lb`,
		`# Made by external-lb\. Changes are overwritten\. One file per Service is in services\.`,
		`# Made by external-lb for the Service [a-z0-9-]+/[a-z0-9-]+ \(uid [a-z0-9-]+\)\. Changes are overwritten\.`,
		`    mode (tcp|http)`, `    http-request set-header X-Forwarded-Proto https?`, `    timeout http-(request|keep-alive) ` + duration, `    log global`, `    option (tcplog|httplog|forwardfor|dontlognull|clitcpka|srvtcpka|httpchk|redispatch 1)`, `    no option redispatch`,
		`    timeout (connect|queue|client|server|check) (` + duration + `|10m)`, `    retries \d+`,
		`    http-check send meth GET uri /[-A-Za-z0-9._~/%]* ver HTTP/1\.1 hdr Host ` + name, `    http-check expect status 200(-399)?`,
		`    default-server check inter ` + duration + ` rise \d+ fall \d+`,
		`    server spare_\d (0\.0\.0\.0|\[::\]):\d+ disabled`,
		`    server ` + name + ` ` + address + `( id \d+)?( weight \d+)?( track ` + name + `/` + name + `)?( check inter ` + duration + ` rise \d+ fall \d+)?( maxconn \d+)?( send-proxy(-v2)?)?`,
		`    bind ` + address + `( accept-proxy)?( ssl crt "\$\{EXTERNAL_LB_SET\}/certs/[0-9a-f]{32}\.pem" ssl-min-ver TLSv1\.2 ssl-max-ver TLSv1\.3 ciphers [A-Z0-9:-]+ ciphersuites [A-Z0-9_:]+ verify none( alpn h2,http/1\.1)?)?`, `    acl sources src ` + prefix,
		`    tcp-request (connection|session) reject( unless sources)?`, `    tcp-request connection reject if { fe_conn gt \d+ }`,
		`    stick-table type ip(v6)? size 64k expire 10s store conn_cur`, `    tcp-request session track-sc0 src`,
		`    tcp-request session reject if { sc0_conn_cur gt \d+ }`,
		`    balance (roundrobin|leastconn|source|random)`, `    hash-type consistent`,
	}, "|") + `)$`)
}()

// lvsLines are all that a file rendered for keepalived may consist of.
var lvsLines = func() *regexp.Regexp {
	const address, seconds = `(\d+\.\d+\.\d+\.\d+|[0-9a-f:]+)`, `\d+(\.\d+)?`
	return regexp.MustCompile(`^(` + strings.Join([]string{
		``, ` *}`, `virtual_server ` + address + ` \d+ {`,
		`# Made by external-lb\. Changes are overwritten\. One file per Service is in services\.`,
		`# Made by external-lb for the Service [a-z0-9-]+/[a-z0-9-]+ \(uid [a-z0-9-]+\)\. Changes are overwritten\.`,
		`# allow (TCP|UDP|SCTP) (\d+\.\d+\.\d+\.\d+|\[[0-9a-f:]+\]):\d+( [0-9a-f:.]+/\d+)*`,
		`    protocol (TCP|UDP|SCTP)`, `    lvs_method (NAT|DR)`, `    lvs_sched (wrr|wlc|mh|dh|sed|nq)`, `    mh-fallback`,
		`    persistence_timeout \d+`, `    delay_loop ` + seconds, `    real_server ` + address + ` \d+ {`,
		`        (weight \d+|uthreshold \d+|inhibit_on_failure)`, `        (HTTP_GET|TCP_CHECK) {`,
		`            (connect_port|connect_timeout|retry) \d+`, `            delay_before_retry ` + seconds,
		`            url {`, `                path /[-A-Za-z0-9._~/%]*`, `                status_code 200(-399)?`,
	}, "|") + `)$`)
}()

// pemLines are all that the file of a certificate may consist of.
var pemLines = regexp.MustCompile(`^(|-----(BEGIN|END) (CERTIFICATE|PRIVATE KEY)-----|[A-Za-z0-9+/]{1,64}={0,2})$`)

// deepest is how far the blocks of an engine's files are nested.
var deepest = map[lb.Engine]int{lb.Nginx: 1, lb.HAProxy: 1, lb.LVS: 4}

// checkText holds a file against the lines that it may have, and its braces.
func checkText(t testing.TB, engine lb.Engine, file fileset.File) {
	t.Helper()
	lines := map[lb.Engine]*regexp.Regexp{lb.Nginx: nginxLines, lb.HAProxy: haproxyLines, lb.LVS: lvsLines}[engine]
	if file.Private {
		lines = pemLines
	}
	depth := 0
	for i, line := range strings.Split(string(file.Data), "\n") {
		if !lines.MatchString(line) {
			t.Errorf("%s:%d: unexpected line %q", file.Path, i+1, line)
		}
		if depth += strings.Count(line, "{") - strings.Count(line, "}"); depth < 0 || depth > deepest[engine] {
			t.Errorf("%s:%d: unbalanced braces", file.Path, i+1)
		}
	}
	if depth != 0 {
		t.Errorf("%s ends in a block", file.Path)
	}
}

func TestGoldenFilesHaveOnlyKnownLines(t *testing.T) {
	onAllEngines(t, func(t onEngine) {
		for _, cfg := range goldenConfigs(t) {
			if carried(t.engine, cfg) {
				for f := range mustRender(t, cfg).All() {
					checkText(t, t.engine, f)
				}
			}
		}
	})
}

func FuzzRender(f *testing.F) {
	f.Add("default", "web", uid, "192.0.2.1", "10.0.0.1", "10.0.0.0/8", "RoundRobin", uint16(80), uint16(30080), int64(1e9), int32(2), byte(0))
	f.Add("a", "b", "c", "2001:db8::1", "fe80::1%eth0", "::/0", "Random", uint16(1), uint16(65535), int64(1), int32(0), byte(255))
	f.Add("a", hijacking[0], "c", "unix:/var/run/docker.sock", "localhost", "all", "hash; }", uint16(0), uint16(0), int64(-1), int32(-1), byte(0x55))
	renderers := map[lb.Engine]*render.Renderer{}
	for _, e := range lb.Engines {
		r, err := render.New(e)
		if err != nil {
			f.Fatal(err)
		}
		renderers[e] = r
	}
	f.Fuzz(func(t *testing.T, namespace, name, uid, listen, backend, source, algorithm string, port, nodePort uint16, span int64, number int32, bits byte) {
		id, err := lb.NewID(namespace, name, uid)
		if err != nil {
			id = lb.ID{Namespace: namespace, Name: name, UID: uid} // the renderer refuses it, too
		}
		on := func(bit int) bool { return bits>>bit&1 == 1 }
		fe := lb.Frontend{Listener: lb.Listener{Port: port, Protocol: lb.TCP}, Allow: lb.Allow{Everybody: on(0)}}
		if fe.Listener.Address, _ = netip.ParseAddr(listen); on(1) {
			fe.Listener.Protocol = lb.UDP
		}
		if a, err := netip.ParseAddr(backend); err == nil && on(2) {
			fe.Backends = []lb.Backend{{Node: name, Address: netip.AddrPortFrom(a, nodePort)}}
		}
		if p, err := netip.ParsePrefix(source); err == nil {
			fe.Allow.Sources = []netip.Prefix{p.Masked()}
		}
		if on(3) {
			fe.Affinity = time.Hour
		}
		fe.Settings = lb.Settings{
			Algorithm: lb.Algorithm(algorithm), Mode: lb.ModeTCP, SendProxy: lb.ProxyNone, AcceptProxy: on(4),
			ConnectTimeout: time.Duration(span), IdleTimeout: time.Duration(span), Retries: number,
			MaxConnections: number, MaxConnectionsPerNode: number, MaxConnectionsPerClient: number,
			HealthCheck: lb.HealthCheck{Type: lb.CheckNone},
		}
		if on(5) {
			fe.Settings.SendProxy = lb.ProxyV1
		}
		if on(6) {
			fe.Settings.HealthCheck = lb.HealthCheck{Type: lb.CheckAuto, Path: source, Interval: time.Duration(span), Timeout: time.Duration(span), Rise: number, Fall: number}
		}
		if on(7) {
			fe.Settings.HealthCheck.Type = lb.CheckHTTP
		}
		for engine, r := range renderers {
			set, err := r.Render(config(&lb.Service{ID: id, Frontends: []lb.Frontend{fe}}))
			if (err == nil) != (set.Len() == 2) {
				t.Errorf("%s: %d files and the error %v", engine, set.Len(), err)
			}
			for file := range set.All() {
				checkText(t, engine, file)
			}
		}
	})
}
