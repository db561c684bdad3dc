package nginx

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/importer"
)

// scope is what applies to a server: what is around it, and its own.
type scope struct {
	place            importer.Place // of what it sends to
	settings         v1alpha1.UpstreamSettings
	listeners        []importer.Listener
	targets          []string
	everything       bool // the path / is sent somewhere
	tls, plain       bool
	certificate, key string
	access           []directive // allow and deny
	inherited        bool        // access is from outside
	why              string      // it has no equal
}

// inside is what a block begins with.
func (s scope) inside() scope {
	s.inherited = true
	s.settings = *s.settings.DeepCopy()
	s.access = slices.Clone(s.access)
	return s
}

func (s *scope) mixed() bool { return s.tls && s.plain }

func seconds(text string) (v1alpha1.Duration, error) { return importer.Time(text, time.Second) }

// machine are directives of the outermost level that are the host's own, and stay in its file.
var machine = set("user worker_processes worker_rlimit_nofile worker_shutdown_timeout worker_cpu_affinity worker_priority pid " +
	"error_log load_module events daemon env pcre_jit ssl_engine thread_pool master_process timer_resolution")

// inner are directives that matter inside of nginx alone: how it buffers, and how it does
// what others say.
var inner = set("sendfile tcp_nopush tcp_nodelay types default_type types_hash_max_size types_hash_bucket_size server_tokens " +
	"server_names_hash_bucket_size server_names_hash_max_size variables_hash_max_size variables_hash_bucket_size map_hash_bucket_size " +
	"map_hash_max_size proxy_buffer_size proxy_buffers proxy_buffering proxy_busy_buffers_size proxy_http_version proxy_socket_keepalive " +
	"preread_buffer_size preread_timeout reset_timedout_connection keepalive_requests client_body_buffer_size " +
	"client_header_buffer_size resolver_timeout log_format server_name include lingering_close open_file_cache " +
	"limit_req_status limit_req_log_level limit_conn_status limit_conn_log_level")

func set(words string) map[string]bool {
	out := map[string]bool{}
	for _, w := range strings.Fields(words) {
		out[w] = true
	}
	return out
}

// apply one directive to a scope.
func (r *reading) apply(s *scope, d directive) {
	value := first(d.args)
	var err error
	switch d.name {
	case "listen":
		r.listen(d, s)
	case "proxy_pass":
		s.place = d.place
		if !slices.Contains(s.targets, value) {
			s.targets = append(s.targets, value)
		}
	case "location":
		r.location(s, d)
	case "proxy_connect_timeout":
		timeouts(s).Connect, err = seconds(value)
	case "proxy_timeout":
		timeouts(s).Idle, err = seconds(value)
	case "proxy_read_timeout":
		timeouts(s).Server, err = seconds(value)
	case "keepalive_timeout":
		timeouts(s).Client, err = seconds(value)
	case "proxy_bind":
		if len(d.args) != 1 {
			r.other(d)
		} else if value != "off" {
			s.settings.SourceAddresses, err = importer.From(nil, value)
		} else {
			s.settings.SourceAddresses = nil
		}
	case "access_log":
		if s.settings.AccessLog = nil; value == "off" {
			s.settings.AccessLog = new(bool)
			break
		}
		r.other(d)
	case "client_max_body_size":
		requests(s).MaxBodyBytes, err = size(value)
	case "large_client_header_buffers":
		err = headers(s, d.args)
	case "limit_req":
		r.rate(s, d)
	case "proxy_protocol":
		proxyProtocol(s).Send = v1alpha1.ProxyProtocolNone
		if value == "on" {
			proxyProtocol(s).Send = v1alpha1.ProxyProtocolV1
		}
	case "proxy_next_upstream":
		if value == "off" {
			s.settings.Retries = new(int32)
		}
	case "proxy_next_upstream_tries":
		if s.settings.Retries, err = importer.Number(value, 1, 16); err == nil {
			*s.settings.Retries--
		}
	case "limit_conn":
		r.limit(s, d)
	case "allow", "deny":
		if s.inherited {
			s.access, s.inherited = nil, false
		}
		s.access = append(s.access, d)
	case "ssl_certificate":
		s.certificate = value
	case "ssl_certificate_key":
		s.key = value
	case "proxy_ssl":
		if value == "on" {
			s.why = fmt.Sprintf("%s: it speaks TLS to the nodes, which external-lb does not: let TLS through, or terminate it and send plain text",
				d.place)
		}
	case "ssl":
		s.tls = s.tls || value == "on"
	default:
		if guard(d) {
			s.why = guarded(d)
			return
		}
		r.other(d)
	}
	if err != nil {
		r.out.Notes.Add(d.place, "%s: %v; external-lb's own value counts", d.name, err)
	}
}

// location of a server of http. What it says besides where to send to is told, not applied: it is for some
// paths alone.
func (r *reading) location(s *scope, d directive) {
	for _, in := range d.block {
		switch {
		case guard(in):
			s.why = guarded(in)
		case in.name == "location":
			r.apply(s, in)
		case len(d.args) == 1 && d.args[0] == "/":
			s.everything = s.everything || in.name == "proxy_pass"
			r.apply(s, in)
		case in.name == "proxy_pass":
			r.apply(s, in)
		case in.name == "return", in.name == "root", in.name == "alias", in.name == "try_files", in.name == "allow", in.name == "deny":
			s.why = fmt.Sprintf("%s: location %s has rules of its own (%s), and a Service is one port for all paths: let an Ingress controller "+
				"or a Gateway do that, and give it an address", in.place, strings.Join(d.args, " "), in.name)
		default:
			r.out.Notes.Add(in.place, "%s in location %s has no equal", in.name, strings.Join(d.args, " "))
		}
	}
}

// guards let some clients or requests through, and others not. Without them more would be let through than before.
var guards = set("ssl_verify_client auth_basic auth_request auth_jwt satisfy secure_link valid_referers limit_except if")

// guard reports whether a directive is one, and is not turned off.
func guard(d directive) bool { return guards[d.name] && first(d.args) != "off" }

func guarded(d directive) string {
	return fmt.Sprintf("%s: %s decides who or what is let through, which a Service does not: let an Ingress controller or the pods do that",
		d.place, d.name)
}

// advice for what is met often.
var advice = map[string]string{
	"proxy_set_header": "with the engine haproxy, mode HTTP sends X-Forwarded-For and X-Forwarded-Proto; other headers have no equal",
	"access_log":       importer.Logged,
	"error_log":        "the host's own file says where errors go",
	"proxy_bind":       "with the engine lvs and forwarding: DR, pods see the client's address; or send the PROXY protocol",
	"ssl_preread":      "connections are not told apart by the name that clients ask for",
	"ssl_protocols":    "TLS 1.2 and 1.3 are spoken",
	"ssl_ciphers":      "only ciphers with forward secrecy are spoken",
	"return":           "nothing is answered by the balancer itself",
	"set_real_ip_from": "with proxyProtocol.accept, every client must send the PROXY protocol; loadBalancerSourceRanges says who " +
		"may connect",
	"resolver":            "nodes are known by their addresses",
	"add_header":          "a balancer changes no answers: let the pods do it",
	"gzip":                "a balancer changes no answers: let the pods do it",
	"proxy_send_timeout":  "timeouts.server is for both directions",
	"client_body_timeout": "timeouts.client is for that, too",
	"send_timeout":        "timeouts.client is for that, too",
}

func (r *reading) other(d directive) {
	switch words, known := advice[d.name]; {
	case inner[d.name]:
	case known:
		r.out.Notes.Add(d.place, "%s is not carried over: %s", d.name, words)
	case strings.HasPrefix(d.name, "ssl_session_"), strings.HasPrefix(d.name, "gzip_"): // go with those above
	default:
		r.out.Notes.Add(d.place, "%s is not carried over: it has no equal", d.name)
	}
}

// sources reads who may connect. What opens a Service to more than the file does is not done.
func (s *scope) sources(why string) (allowed []netip.Prefix, _ string) {
	if why != "" {
		return nil, why
	}
	closed := false
	for _, d := range s.access {
		value := first(d.args)
		switch {
		case closed: // no longer reached
		case value == "all":
			closed = true
			if d.name == "allow" {
				return nil, "" // whoever is denied before that was found already
			}
		case d.name == "deny":
			return nil, fmt.Sprintf("%s: deny %s. A Service names who may connect, not who may not: allow those ranges, and deny "+
				"all", d.place, value)
		default:
			p, err := importer.Prefix(value)
			if err != nil {
				return nil, fmt.Sprintf("%s: %v", d.place, err)
			}
			allowed = append(allowed, p)
		}
	}
	switch {
	case !closed:
		return nil, "" // nobody is denied
	case len(allowed) == 0:
		return nil, "nobody may connect to it (deny all)"
	}
	return allowed, ""
}
