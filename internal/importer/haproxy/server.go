package haproxy

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/importer"
)

// bind is one address and port that is listened on.
type bind struct {
	listener    importer.Listener
	tls         bool
	certificate string
}

// bindLine reads addresses, separated by commas, and what is behind them. It reports
// whether there was one.
func (p *proxy) bindLine(words []string, at importer.Place) bool {
	if len(words) == 0 || words[0] == "from" || words[0] == "" {
		return false
	}
	var b bind
	for i := 1; i < len(words); i++ {
		switch words[i] {
		case "ssl":
			b.tls = true
		case "crt":
			if i++; i < len(words) {
				b.certificate = words[i]
			}
		case "verify":
			if i++; i < len(words) && words[i] != "none" {
				p.problem = cmp.Or(p.problem, fmt.Sprintf("%s: it asks clients for certificates, which external-lb does not: let TLS "+
					"through to the pods", at))
			}
		case "ca-file", "crl-file", "ca-verify-file":
			i++ // they go with verify
		case "accept-proxy":
			yes := true
			p.proxyProtocol().Accept = &yes
		case "transparent", "v4only", "v6only", "v4v6", "tfo", "defer-accept":
		case "alpn", "maxconn", "backlog", "process", "thread", "name", "mss", "nice", "id", "shards":
			i++
		default:
			p.notes.Add(at, "bind: %s is not carried over", words[i])
		}
	}
	if b.tls && b.certificate == "" {
		p.problem = cmp.Or(p.problem, fmt.Sprintf("%s: it terminates TLS, and no crt of it was read: it would be served in plain text", at))
	}
	for text := range strings.SplitSeq(words[0], ",") {
		var err error
		if b.listener, err = parseBind(text); err != nil {
			p.problem = cmp.Or(p.problem, fmt.Sprintf("%s: %v", at, err))
			continue
		}
		p.binds = append(p.binds, b)
	}
	return true
}

// parseBind reads an address with a port.
func parseBind(text string) (importer.Listener, error) {
	l := importer.Listener{Protocol: corev1.ProtocolTCP}
	for _, prefix := range []string{"ipv4@", "ipv6@"} {
		text = strings.TrimPrefix(text, prefix)
	}
	i := strings.LastIndexByte(text, ':')
	if i < 0 || strings.ContainsAny(text, "@/$") {
		return l, fmt.Errorf("%q is not an address with a port", text)
	}
	host, ports := strings.Trim(text[:i], "[]"), text[i+1:]
	if host != "" && host != "*" {
		a, err := netip.ParseAddr(host)
		if err != nil {
			return l, fmt.Errorf("%q is not an address", host)
		}
		if !a.IsUnspecified() {
			l.Address = a.Unmap()
		}
	}
	port, err := strconv.ParseUint(ports, 10, 16)
	if err != nil || port == 0 {
		return l, fmt.Errorf("%q is not a port, and a nodePort is one", ports)
	}
	l.Port = uint16(port)
	return l, nil
}

// server is one line of a backend.
func (p *proxy) server(l line) {
	i := max(0, strings.LastIndexByte(l.word(2), ':'))
	host, port := l.word(2)[:i], strings.TrimPrefix(l.word(2)[i:], ":")
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 || strings.ContainsAny(host, "@/") {
		p.problem = cmp.Or(p.problem, fmt.Sprintf("%s: server %s: %q is not an address with a port", l.place, l.word(1), l.word(2)))
		return
	}
	if p.parameters(l, l.words[min(3, len(l.words)):], true) {
		p.servers = append(p.servers, importer.Server{Place: l.place, Host: strings.Trim(host, "[]"), Port: uint16(n)})
	}
}

// parameters of a server, or of all. It reports whether the server is used.
func (p *proxy) parameters(l line, words []string, one bool) (used bool) {
	used = true
	weight := "1"
	for i := 0; i < len(words); i++ {
		value := ""
		if i+1 < len(words) {
			value = words[i+1]
		}
		takes, err := p.parameter(l, words[i], value)
		switch words[i] {
		case "disabled":
			used = false
		case "weight":
			weight = value
		}
		if err != nil {
			p.notes.Add(l.place, "%s: %v", words[i], err)
		}
		if takes {
			i++
		}
	}
	if one {
		p.weights[weight] = true
	}
	return used
}

// parameter is one; it reports whether it takes a value.
func (p *proxy) parameter(l line, name, value string) (takes bool, err error) {
	switch name {
	case "check":
		p.checked = true
		return false, nil
	case "no-check":
		p.checked = false
		return false, nil
	case "inter":
		p.check().Interval, err = importer.Time(value, time.Millisecond)
	case "rise":
		p.check().Rise, err = importer.Number(value, 1, 100)
	case "fall":
		p.check().Fall, err = importer.Number(value, 1, 100)
	case "maxconn":
		p.settings.MaxConnectionsPerNode, err = importer.Number(value, 0, 10_000_000)
	case "port":
		p.checkPort, err = importer.Number(value, 1, 65535)
	case "send-proxy":
		p.proxyProtocol().Send = v1alpha1.ProxyProtocolV1
		return false, nil
	case "send-proxy-v2":
		p.proxyProtocol().Send = v1alpha1.ProxyProtocolV2
		return false, nil
	case "disabled":
		return false, fmt.Errorf("the server is left out; external-lb sends to every eligible node: label it " +
			"node.kubernetes.io/exclude-from-external-load-balancers, or set spec.nodes of the Balancer")
	case "backup":
		return false, errors.New(importer.Backup)
	case "slowstart":
		p.settings.SlowStart, err = importer.Time(value, time.Millisecond)
	case "maxqueue":
		var n *int32
		if n, err = importer.Number(value, 0, 10_000_000); err == nil {
			p.maxQueue = max(p.maxQueue, *n)
		}
	case "source":
		p.settings.SourceAddresses, err = importer.From(p.settings.SourceAddresses, value)
	case "ssl":
		p.problem = cmp.Or(p.problem, fmt.Sprintf("%s: it speaks TLS to the nodes, which external-lb does not: let TLS through, or "+
			"terminate it and send plain text", l.place))
		return false, nil
	case "fastinter", "downinter", "minconn", "cookie", "verify", "ca-file", "crt", "sni", "observe", "on-error",
		"error-limit", "on-marked-down", "on-marked-up", "resolvers", "resolve-prefer", "init-addr", "addr", "track", "usesrc", "id",
		"check-sni", "alpn", "proto":
		return true, fmt.Errorf("it is not carried over")
	case "weight":
	default:
		return false, fmt.Errorf("it is not carried over")
	}
	return true, err
}
