package nginx

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/importer"
)

// Source is nginx.
var Source = importer.Source{
	Name: "nginx", Engine: v1alpha1.EngineNginx,
	Reads:   "nginx.conf with what it includes, or the output of nginx -T",
	Example: "external-lb import nginx /etc/nginx/nginx.conf --host lb1=192.0.2.5",
	Parse:   Parse,
}

// reading of a configuration.
type reading struct {
	out  *importer.Configuration
	http bool // in the http block
	upstreams,
	limits map[string]directive // by name: upstream, and zones of limit_conn
}

// Parse reads the files, of which each is a main one, or the output of `nginx -T`.
func Parse(files []importer.File, include importer.Include) (*importer.Configuration, error) {
	out := &importer.Configuration{}
	for _, f := range files {
		find := include
		if dump := split(f.Text); len(dump) > 0 {
			f, find = dump[0], among(dump)
		}
		p := &parser{include: find, notes: &out.Notes}
		list, err := p.parse(f, 0)
		if err != nil {
			return nil, err
		}
		main(out, list)
	}
	return out, nil
}

// main is the outermost level. A file may also be one that is included in stream or http.
func main(out *importer.Configuration, list []directive) {
	var bare []directive
	for _, d := range list {
		switch {
		case d.name == "stream" || d.name == "http":
			protocol(out, d.block, d.name == "http")
		case d.name == "server" || d.name == "upstream" || d.name == "map":
			bare = append(bare, d)
		case !machine[d.name]:
			out.Notes.Add(d.place, "%s is not understood", d.name)
		}
	}
	if len(bare) > 0 {
		protocol(out, bare, slices.ContainsFunc(bare, speaksHTTP))
	}
}

// speaksHTTP tells a server of http from one of stream, where no block around it does.
func speaksHTTP(d directive) bool {
	ofHTTP := func(d directive) bool { return d.name == "location" || d.name == "server_name" }
	return d.name == "server" && slices.ContainsFunc(d.block, ofHTTP)
}

func protocol(out *importer.Configuration, list []directive, http bool) {
	r := &reading{out: out, http: http, upstreams: map[string]directive{}, limits: map[string]directive{}}
	outer := scope{}
	var servers []directive
	for _, d := range list {
		switch d.name {
		case "upstream":
			r.upstreams[first(d.args)] = d
		case "server":
			servers = append(servers, d)
		case "limit_req_zone":
			if name, ok := strings.CutPrefix(strings.SplitN(second(d.args), ":", 2)[0], "zone="); ok {
				r.limits[name] = d
			}
		case "limit_conn_zone":
			if name, ok := strings.CutPrefix(strings.SplitN(last(d.args), ":", 2)[0], "zone="); ok {
				r.limits[name] = d
			}
		case "map", "geo", "split_clients":
			out.Notes.Add(d.place, "%s %s: what is chosen by a variable has no equal; servers that use it are told below",
				d.name, strings.Join(d.args, " "))
		}
	}
	for _, d := range list {
		switch d.name {
		case "upstream", "server", "limit_conn_zone", "limit_req_zone", "map", "geo", "split_clients":
		default:
			r.apply(&outer, d)
		}
	}
	for _, d := range servers {
		r.server(outer, d)
	}
}

// server is one server block.
func (r *reading) server(outer scope, d directive) {
	s := outer.inside()
	for _, location := range []bool{false, true} { // what a location says replaces what is around it, wherever that stands
		s.inherited = true
		for _, inner := range d.block {
			if (inner.name == "location") == location {
				r.apply(&s, inner)
			}
		}
	}
	f := importer.Frontend{Place: d.place, Listeners: s.listeners, Certificate: s.certificate, Key: s.key}
	if r.http && len(f.Listeners) == 0 {
		f.Listeners = []importer.Listener{{Port: 80, Protocol: corev1.ProtocolTCP}}
	}
	if !s.tls {
		f.Certificate, f.Key = "", ""
	}
	why := s.why
	if f.Sources, why = s.sources(why); why == "" {
		why = r.target(&s, &f)
	}
	if why == "" && len(f.Listeners) == 0 {
		why = "it listens nowhere"
	}
	if why == "" && s.tls && s.certificate == "" {
		why = "it terminates TLS, and no ssl_certificate of it was read: it would be served in plain text"
	}
	if why == "" && s.mixed() {
		why = "some of its ports are TLS and others are not: give them servers of their own in a copy"
	}
	if r.http {
		s.settings.Mode = v1alpha1.ModeHTTP
	}
	f.Settings, f.Problem = s.settings, why
	r.out.Frontends = append(r.out.Frontends, f)
}

// target finds what a server sends to, or says why it has no equal.
func (r *reading) target(s *scope, f *importer.Frontend) string {
	switch {
	case len(s.targets) == 0:
		return "it sends nothing to another machine; what answers here stays with the host"
	case len(s.targets) > 1:
		return fmt.Sprintf("it sends to %s, by path or name. A Service is one port: let an Ingress controller or a Gateway tell requests "+
			"apart, and give that an address", strings.Join(s.targets, " and "))
	}
	target := s.targets[0]
	if r.http {
		if !s.everything {
			return "only some paths are sent to it, and a Service is one port for all paths: let an Ingress controller or a Gateway do " +
				"that, and give it an address"
		}
		scheme, rest, _ := strings.Cut(target, "://")
		if scheme == "https" {
			return "it speaks TLS to the nodes (https://), which external-lb does not: let TLS through, or terminate it and send plain text"
		}
		host, uri, hasURI := strings.Cut(rest, "/")
		if target = host; hasURI && uri != "" {
			return "it changes the path of requests (" + uri + "), which external-lb does not"
		}
	}
	if strings.Contains(target, "$") {
		return "it chooses where to send by the variable " + target + ", which has no equal: a Service is one port of one address"
	}
	if up, ok := r.upstreams[target]; ok {
		return r.upstream(up, s, f)
	}
	server, err := parseServer(target, s.place)
	if err != nil {
		return err.Error()
	}
	f.Servers = []importer.Server{server}
	return ""
}

// upstream is one upstream block.
func (r *reading) upstream(d directive, s *scope, f *importer.Frontend) string {
	weights := map[string]bool{}
	for _, inner := range d.block {
		if inner.name == "server" {
			server, weight, why := r.upstreamServer(inner, s)
			if why != "" {
				return why
			}
			if server.Host != "" {
				f.Servers = append(f.Servers, server)
				weights[weight] = true
			}
			continue
		}
		r.algorithm(inner, s)
	}
	if len(weights) > 1 {
		r.out.Notes.Weights(d.place, "upstream "+first(d.args)+": ")
	}
	return ""
}

// upstreamServer is one line of an upstream. A server that is down has no name.
func (r *reading) upstreamServer(d directive, s *scope) (server importer.Server, weight, why string) {
	server, err := parseServer(first(d.args), d.place)
	if err != nil {
		return server, "", err.Error()
	}
	weight = "1"
	for _, arg := range d.args[1:] {
		key, value, _ := strings.Cut(arg, "=")
		switch key {
		case "weight":
			weight = value
		case "max_fails":
			check(s).Fall, err = importer.Number(value, 1, 100)
			if value == "0" {
				check(s).Fall, s.settings.HealthCheck.Type, err = nil, v1alpha1.HealthCheckNone, nil
			}
		case "fail_timeout":
			check(s).Interval, err = seconds(value)
		case "max_conns":
			s.settings.MaxConnectionsPerNode, err = importer.Number(value, 0, 10_000_000)
		case "down":
			r.out.Notes.Add(d.place, "server %s is down and left out; external-lb sends to every eligible node: label it "+
				"node.kubernetes.io/exclude-from-external-load-balancers, or set spec.nodes of the Balancer", server.Host)
			return importer.Server{}, "", ""
		case "backup":
			r.out.Notes.Add(d.place, "server %s is a backup: %s", server.Host, importer.Backup)
		case "slow_start":
			s.settings.SlowStart, err = seconds(value)
		default:
			r.out.Notes.Add(d.place, "server: %s is not carried over", arg)
		}
		if err != nil {
			r.out.Notes.Add(d.place, "%s: %v; external-lb's own value counts", key, err)
			err = nil
		}
	}
	return server, weight, ""
}

// algorithm and whatever else an upstream says.
func (r *reading) algorithm(d directive, s *scope) {
	key := first(d.args)
	switch {
	case d.name == "least_conn":
		s.settings.Algorithm = v1alpha1.LeastConnections
	case d.name == "random":
		s.settings.Algorithm = v1alpha1.Random
	case d.name == "ip_hash", d.name == "hash" && (key == "$remote_addr" || key == "$binary_remote_addr"):
		s.settings.Algorithm = v1alpha1.SourceHash
	case d.name == "queue":
		r.queue(d, s)
	case d.name == "zone", strings.HasPrefix(d.name, "keepalive"): // matters inside of nginx alone
	default:
		r.out.Notes.Add(d.place, "upstream: %s has no equal", strings.TrimSpace(d.name+" "+strings.Join(d.args, " ")))
	}
}

// queue of an upstream: 100 timeout=30s.
func (r *reading) queue(d directive, s *scope) {
	n, err := importer.Number(first(d.args), 0, 10_000_000)
	if s.settings.MaxQueue = n; err == nil {
		if text, ok := strings.CutPrefix(last(d.args), "timeout="); ok {
			timeouts(s).Queue, err = seconds(text)
		}
	}
	if err != nil {
		r.out.Notes.Add(d.place, "queue: %v", err)
	}
}

func parseServer(text string, at importer.Place) (importer.Server, error) {
	if strings.HasPrefix(text, "unix:") {
		return importer.Server{}, fmt.Errorf("%s: %s is a socket of this machine, and no node", at, text)
	}
	i := strings.LastIndexByte(text, ':')
	if i < 0 || strings.HasSuffix(text, "]") {
		return importer.Server{}, fmt.Errorf("%s: %s names no port, and a nodePort is needed", at, text)
	}
	port, err := strconv.ParseUint(text[i+1:], 10, 16)
	if err != nil || port == 0 {
		return importer.Server{}, fmt.Errorf("%s: %s is not an address with a port", at, text)
	}
	return importer.Server{Place: at, Host: strings.Trim(text[:i], "[]"), Port: uint16(port)}, nil
}

// listen reads where a server listens.
func (r *reading) listen(d directive, s *scope) {
	l := importer.Listener{Protocol: corev1.ProtocolTCP}
	var tls bool
	at := d.place
	for _, arg := range d.args[min(1, len(d.args)):] {
		switch key, value, _ := strings.Cut(arg, "="); key {
		case "udp":
			l.Protocol = corev1.ProtocolUDP
		case "ssl":
			tls = true
		case "proxy_protocol":
			yes := true
			proxyProtocol(s).Accept = &yes
		case "so_keepalive":
			if idle, _, _ := strings.Cut(value, ":"); idle != "" && idle != "on" && idle != "off" {
				d, err := importer.KeepAlive(idle)
				if timeouts(s).KeepAlive = d; err != nil {
					r.out.Notes.Add(at, "listen: so_keepalive: %v", err)
				}
			}
		case "reuseport", "default_server", "backlog", "rcvbuf", "sndbuf", "deferred", "bind", "fastopen", "ipv6only":
		case "http2", "quic":
			r.out.Notes.Add(d.place, "listen: %s: with the engine haproxy, TLS that is terminated with mode HTTP speaks HTTP/2; QUIC has no "+
				"equal", arg)
		default:
			r.out.Notes.Add(d.place, "listen: %s is not carried over", arg)
		}
	}
	where := first(d.args)
	port := where
	if i := strings.LastIndexByte(where, ':'); i >= 0 && !strings.HasSuffix(where, "]") {
		port = where[i+1:]
		where = strings.Trim(where[:i], "[]")
	} else if r.http && strings.Trim(where, "0123456789") != "" {
		port, where = "80", strings.Trim(where, "[]")
	} else {
		where = "*"
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 {
		s.why = fmt.Sprintf("%s: listen %s is not a port", d.place, first(d.args))
		return
	}
	l.Port = uint16(n)
	if where != "*" {
		a, err := netip.ParseAddr(where)
		if err != nil {
			s.why = fmt.Sprintf("%s: listen %s is not an address", d.place, first(d.args))
			return
		}
		if !a.IsUnspecified() {
			l.Address = a.Unmap()
		}
	}
	if tls {
		s.tls = true
	} else {
		s.plain = true
	}
	if !slices.Contains(s.listeners, l) {
		s.listeners = append(s.listeners, l)
	}
}

func second(list []string) string {
	if len(list) < 2 {
		return ""
	}
	return list[1]
}

func first(list []string) string {
	if len(list) == 0 {
		return ""
	}
	return list[0]
}

func last(list []string) string {
	if len(list) == 0 {
		return ""
	}
	return list[len(list)-1]
}
