// Package rendertest knows every line that a file for a daemon may have, so that tests
// can tell that nothing else is in one, whatever it was made of.
package rendertest

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
)

// nginxLines are all that a file rendered for nginx may consist of.
var nginxLines = func() *regexp.Regexp {
	const name, address, prefix, duration = `[a-z0-9.-]+`, `(\d+\.\d+\.\d+\.\d+|\[[0-9a-f:]+\]):\d+`, `[0-9a-f:.]+/\d+`, `\d+m?s`
	return regexp.MustCompile(`^(` + strings.Join(append([]string{
		``, `}`, `server {`, `upstream ` + name + ` {`,
		`# Made by external-lb\. Changes are overwritten\. One file per Service is in services\.`,
		`# Made by external-lb for the Service [a-z0-9-]+/[a-z0-9-]+ \(uid [a-z0-9-]+\)\. Changes are overwritten\.`,
		`limit_conn_zone all zone=` + name + `\.(all|share):32k;`,
		`limit_conn_zone \$binary_remote_addr zone=` + name + `\.clients:4m;`,
		`limit_req_zone \$binary_remote_addr zone=` + name + `\.rate:4m rate=\d+r/s;`,
		`    zone ` + name + ` \d+k;`, `    least_conn;`, `    random;`,
		`    hash \$remote_addr(:\$remote_port)? consistent;`,
		`    server ` + address + `( weight=\d+)? max_fails=\d+( fail_timeout=\d+s)?( max_conns=\d+)?;`, `    server ` + address + `( weight=\d+)?( max_conns=\d+)? backup max_fails=0;`,
		`    listen ` + address + `( udp( reuseport)?|( ssl)?( proxy_protocol)?( so_keepalive=\d+s:\d+s:3)?);`,
		`    ssl_certificate(_key)? external-lb/certs/[0-9a-f]{32}\.pem;`, `    ssl_protocols TLSv1\.2 TLSv1\.3;`, `    ssl_ciphers [A-Z0-9:-]+;`,
		`    ssl_(prefer_server_ciphers|verify_client) off;`, `    ssl_ecdh_curve auto;`, `    ssl_session_cache shared:` + name + `\.tls:1m;`,
		`    ssl_session_timeout 1h;`, `    ssl_session_tickets on;`, `    ssl_handshake_timeout 10s;`, `    proxy_ssl off;`,
		`    (set_real_ip_from|allow) ` + prefix + `;`, `    deny all;`,
		`    limit_conn ` + name + ` \d+;`,
		`    return "";`, `    access_log off;`, `    proxy_buffer_size 64k;`, `    proxy_half_close on;`,
		`    proxy_(connect_timeout|timeout) ` + duration + `;`,
		`    proxy_next_upstream (on|off);`, `    proxy_next_upstream_tries \d+;`,
		`    proxy_protocol (on|off);`, `    proxy_bind ` + source + `;`, `    proxy_pass ` + name + `;`,
	}, nginxHTTPLines(name, address, duration)...), "|") + `)$`)
}()

// source is the address that connections to nodes come from.
const source = `(\d+\.\d+\.\d+\.\d+|[0-9a-f:]+)`

// nginxHTTPLines are those that only a file for the http block has.
func nginxHTTPLines(name, address, duration string) []string {
	return []string{
		`    }`, `    location (/|@refused|@redirected) {`, `        return (444|308 https://\$host\$request_uri);`,
		`        root /dev/null;`, `        try_files /none (@redirected|=503);`, `    error_page 403 @refused;`,
		`    listen ` + address + ` default_server(( ssl)? http2)?( proxy_protocol)?( so_keepalive=\d+s:\d+s:3)?;`, `    real_ip_header proxy_protocol;`,
		`    keepalive 4;`, `    keepalive_timeout (5s|` + duration + `);`, `    ssl_(early_data|stapling) off;`,
		`    (satisfy all|(auth_basic|underscores_in_headers|gzip|charset|expires) off|ignore_invalid_headers on|limit_rate 0|limit_conn_status 503);`,
		`    (client_(header|body)|send)_timeout ` + duration + `;`, `    client_max_body_size \d+;`,
		`    limit_req zone=` + name + `\.rate( burst=\d+)? nodelay;`, `    limit_req_(status 429|dry_run off);`,
		`    client_header_buffer_size 1k;`, `    large_client_header_buffers (4 8k|1 \d+);`,
		`    set \$external_lb_(host \$http_host|upgrade \$http_upgrade|connection upgrade);`,
		`    if \(\$http_host = ""\) { set \$external_lb_host ` + address + `; }`,
		`    if \(\$http_upgrade ~\* "h2"\) { set \$external_lb_upgrade ""; }`,
		`    if \(\$external_lb_upgrade = ""\) { set \$external_lb_connection ""; }`,
		`        grpc_pass grpc://` + name + `;`, `        grpc_(connect|read|send)_timeout ` + duration + `;`,
		`        grpc_set_header (Host|X-Forwarded-Host) \$external_lb_host;`, `        grpc_set_header X-Forwarded-Proto https?;`,
		`        grpc_set_header X-Forwarded-For \$proxy_add_x_forwarded_for;`, `        grpc_pass_header (Date|Server);`,
		`        grpc_ignore_headers X-Accel-Redirect X-Accel-Charset;`, `        grpc_(intercept_errors|bind) off;`, `        grpc_buffer_size 16k;`,
		`        grpc_next_upstream error timeout;`, `        grpc_next_upstream_tries \d+;`, `        grpc_next_upstream_timeout 0;`,
		`        proxy_pass http://` + name + `;`, `        proxy_http_version 1\.1;`,
		`        proxy_set_header (Host|X-Forwarded-Host) \$external_lb_host;`,
		`        proxy_set_header Connection \$external_lb_connection;`, `        proxy_set_header Upgrade \$external_lb_upgrade;`,
		`        proxy_set_header X-Forwarded-For \$proxy_add_x_forwarded_for;`, `        proxy_set_header X-Forwarded-Proto https?;`,
		`        proxy_pass_(request_headers|request_body) on;`, `        proxy_pass_header (Date|Server);`, `        proxy_ignore_headers [A-Za-z -]+;`,
		`        proxy_(intercept_errors|redirect|cookie_domain|cookie_path|cache|store|request_buffering|buffering|ignore_client_abort|bind) off;`,
		`        (proxy|grpc)_bind ` + source + `;`,
		`        proxy_(max_temp_file_size|limit_rate|next_upstream_timeout) 0;`, `        proxy_buffers 8 16k;`,
		`        proxy_(buffer_size 16k|busy_buffers_size 32k|temp_file_write_size 32k);`,
		`        proxy_(connect|read|send)_timeout ` + duration + `;`,
		`        proxy_next_upstream error timeout;`, `        proxy_next_upstream_tries \d+;`,
	}
}

// haproxyLines are all that a file rendered for HAProxy may consist of.
var haproxyLines = func() *regexp.Regexp {
	const name, address, prefix, duration = `[a-z0-9.-]+`, `(\d+\.\d+\.\d+\.\d+|\[[0-9a-f:]+\]):\d+`, `[0-9a-f:.]+/\d+`, `\d+m?s`
	return regexp.MustCompile(`^(` + strings.Join([]string{
		``, `(backend|listen) ` + name, `defaults external-lb`,
		`# Made by external-lb\. Changes are overwritten\. One file per Service is in services\.`,
		`# Made by external-lb for the Service [a-z0-9-]+/[a-z0-9-]+ \(uid [a-z0-9-]+\)\. Changes are overwritten\.`,
		`    mode (tcp|http)`, `    http-request set-header (X-Forwarded-Proto https?|X-Forwarded-Host %\[req\.hdr\(Host\)\])`,
		`    http-request redirect code 308 location https://%\[req\.hdr\(Host\),host_only\]%\[capture\.req\.uri\]`,
		`    http-request deny deny_status 400 if { req\.hdrs,length gt \d+ } \|\| { url,length gt \d+ }`,
		`    http-request deny deny_status 413 if { req\.body_size gt \d+ }`, `    timeout http-(request|keep-alive) ` + duration, `    log global`, `    option (tcplog|httplog|forwardfor|dontlognull|clitcpka|srvtcpka|httpchk|tcp-check|allbackups|abortonclose|redispatch 1)`, `    tcp-check (send-binary|expect binary) [0-9a-f]+`, `    no option redispatch`,
		`    timeout (connect|queue|client|server|check) (` + duration + `|10m)`, `    retries \d+`, `    source (` + source + `|\[[0-9a-f:]+\])`, `    (cli|srv)tcpka-(idle \d+s|intvl \d+s|cnt 3)`,
		`    http-check send meth GET uri /[-A-Za-z0-9._~/%]* ver HTTP/1\.1 hdr Host ` + name, `    http-check expect status [1-5]\d\d(-[1-5]\d\d)?`,
		`    default-server check inter ` + duration + ` rise \d+ fall \d+`,
		`    server spare_\d (0\.0\.0\.0|\[::\]):\d+ disabled`,
		`    server ` + name + ` ` + address + `( id \d+)?( weight \d+)?( backup)?( track ` + name + `/` + name + `)?( check inter ` + duration + ` rise \d+ fall \d+( check-ssl verify none( port \d+)?)?)?( proto h2)?( slowstart ` + duration + `)?( maxconn \d+)?( send-proxy(-v2)?)?`,
		`    bind ` + address + `( accept-proxy)?( ssl crt "\$\{EXTERNAL_LB_SET\}/certs/[0-9a-f]{32}\.pem" ssl-min-ver TLSv1\.2 ssl-max-ver TLSv1\.3 ciphers [A-Z0-9:-]+ ciphersuites [A-Z0-9_:]+ verify none( alpn h2,http/1\.1)?)?`, `    acl sources src ` + prefix,
		`    tcp-request (connection|session) reject( unless sources)?`, `    tcp-request connection reject if { fe_conn gt \d+ }`,
		`    stick-table type (ip(v6)? size 64k expire 10s store conn_cur(,conn_rate\(1s\))?|string len 192 size 64k store conn_cur)`,
		`    tcp-request connection track-sc1 str\(` + name + `\) table external-lb\.shares`, `    tcp-request connection reject if { sc1_conn_cur gt \d+ }`, `    tcp-request session track-sc0 src`,
		`    (tcp-request content reject|http-request deny deny_status 503) if { queue\(` + name + `\) ge \d+ }`,
		`    (tcp-request content|http-request) set-log-level silent`,
		`    tcp-request session reject if { sc0_conn_(cur|rate) gt \d+ }`,
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
		`    protocol (TCP|UDP|SCTP)`, `    lvs_method (NAT|DR)`, `    lvs_sched (wrr|wlc|mh|dh|sed|nq)`, `    mh-fallback`,
		`    persistence_timeout \d+`, `    delay_loop ` + seconds, `    real_server ` + address + ` \d+ {`,
		`        (weight \d+|uthreshold \d+|inhibit_on_failure)`, `        (HTTP_GET|SSL_GET|TCP_CHECK) {`,
		`            (connect_port|connect_timeout|retry) \d+`, `            delay_before_retry ` + seconds,
		`            url {`, `                path /[-A-Za-z0-9._~/%]*`, `                status_code [1-5]\d\d(-[1-5]\d\d)?`, `                virtualhost [a-z0-9.-]+`,
	}, "|") + `)$`)
}()

// pemLines are all that the file of a certificate may consist of.
var pemLines = regexp.MustCompile(`^(|-----(BEGIN|END) (CERTIFICATE|PRIVATE KEY)-----|[A-Za-z0-9+/]{1,64}={0,2})$`)

// addressLines are all that the files which move addresses may consist of.
var addressLines = func() *regexp.Regexp {
	return regexp.MustCompile(`^(` + strings.Join([]string{
		``, ` *}`, `# Made by external-lb\. Changes are overwritten\. One file per address is in addresses\.`,
		`vrrp_instance external-lb {`, `    version 3`, `    interface [A-Za-z0-9][-A-Za-z0-9_.]{0,14}`,
		`    virtual_router_id \d{1,3}`, `    priority \d{1,3}`, `    advert_int \d{1,2}(\.\d{1,2})?`,
		`    virtual_ipaddress(_excluded)? {`, `        169\.254\.76\.\d{1,3}/32`, `        include addresses/\*\.conf`,
		`    track_script {`, `        external-lb`, `(\d+\.\d+\.\d+\.\d+/32|[0-9a-f:]+/128)`,
	}, "|") + `)$`)
}()

// deepest is how far the blocks of an engine's files are nested.
var deepest = map[string]int{"nginx": 2, "haproxy": 1, "lvs": 4, "keepalived": 2}

var linesOf = map[string]*regexp.Regexp{"nginx": nginxLines, "haproxy": haproxyLines, "lvs": lvsLines, "keepalived": addressLines}

// Line reports whether a line is one that an engine's templates make.
func Line(engine, line string) bool { return linesOf[engine].MatchString(line) }

// Check says which lines of a file its engine's templates cannot have made, and whether
// its braces do not match. keepalived stands for the files which move addresses.
func Check(engine string, private bool, data []byte) error {
	lines := linesOf[engine]
	if private {
		lines = pemLines
	}
	var errs []error
	depth := 0
	for i, line := range strings.Split(string(data), "\n") {
		if !lines.MatchString(line) {
			errs = append(errs, fmt.Errorf("unexpected line %d: %q", i+1, line))
		}
		if depth += strings.Count(line, "{") - strings.Count(line, "}"); depth < 0 || depth > deepest[engine] {
			errs = append(errs, fmt.Errorf("line %d: unbalanced braces", i+1))
		}
	}
	if depth != 0 {
		errs = append(errs, errors.New("it ends in a block"))
	}
	return errors.Join(errs...)
}
