package haproxy

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/external-lb/external-lb/internal/importer"
)

// acl is a condition: that the client's address is in one of these, or another one.
type acl struct {
	sources []netip.Prefix
	other   string // why it is no list of addresses
	used    bool
	place   importer.Place
}

// rule says who may connect, in the order of the file.
type rule struct {
	place   importer.Place
	kind    string // of the ruleset
	accept  bool
	inside  *acl // for clients in it; nil: for everybody
	outside bool // for clients that are not in it
}

func (p *proxy) acl(l line) {
	name := l.word(1)
	a := p.acls[name]
	if a == nil {
		a = &acl{place: l.place}
		p.acls[name] = a
	}
	a.add(l.words[min(2, len(l.words)):])
}

// add what is behind the name: src and ranges.
func (a *acl) add(words []string) {
	if first(words) != "src" {
		a.other = strings.Join(words, " ")
		return
	}
	for _, text := range words[1:] {
		p, err := importer.Prefix(text)
		switch {
		case text == "--":
		case strings.HasPrefix(text, "-"):
			a.other = "src " + strings.Join(words[1:], " ") + ", which is in another file or form"
			return
		case err != nil:
			a.other = err.Error()
			return
		default:
			a.sources = append(a.sources, p)
		}
	}
}

// request reads rules about who may connect, and tells the others.
func (p *proxy) request(l line) {
	at := slices.IndexFunc(l.words, func(w string) bool { return w == "if" || w == "unless" })
	what := l.words
	if at > 0 {
		what = l.words[:at]
	}
	verb := what[len(what)-1]
	switch what = what[1:]; {
	case l.words[0] == "redirect", slices.Contains(what, "redirect"):
		p.redirects(l, at)
	case at < 0 && l.words[0] == "http-request" && strings.Join(what, " ") == "set-log-level silent":
		p.settings.AccessLog = new(bool)
	case (verb == "reject" || slices.Contains(what, "deny") || verb == "silent-drop") && p.limit(l, at):
	case slices.Contains(what, "auth"), slices.Contains(what, "tarpit"):
		p.problem = cmp.Or(p.problem, fmt.Sprintf("%s: %s decides what is let through, which a Service does not: let an Ingress "+
			"controller or the pods do that",
			l.place, strings.Join(l.words[:min(2, len(l.words))], " ")))
	case l.words[0] == "block":
		p.rule(l, false, at)
	case verb == "accept" && slices.Contains(what, "connection"), verb == "allow":
		p.rule(l, true, at)
	case verb == "reject", slices.Contains(what, "deny"), verb == "silent-drop":
		p.rule(l, false, at)
	case len(what) > 1 && strings.HasPrefix(what[1], "track-sc"): // what is made of it is told, or carried over
	case l.words[0] == "tcp-request":
		p.notes.Add(l.place, "%s is not carried over: it has no equal", strings.Join(l.words[:min(4, len(l.words))], " "))
	default:
		p.other(l, l.words[0])
	}
}

// maxRate is the highest of maxRatePerClient.
const maxRate = 1_000_000

// limit reads a rule about how much there may be, and reports whether it is one that has an equal.
func (p *proxy) limit(l line, at int) bool {
	if at < 0 || len(l.words) != at+6 || l.words[at] != "if" || l.words[at+1] != "{" || l.words[at+5] != "}" {
		return false
	}
	n, err := importer.Number(l.words[at+4], 1, 10_000_000)
	if err != nil || l.words[at+3] != "gt" {
		return false
	}
	switch what := l.words[at+2]; what {
	case "src_conn_cur", "sc0_conn_cur", "sc_conn_cur(0)":
		p.settings.MaxConnectionsPerClient, p.counted = n, true
	case "src_conn_rate", "sc0_conn_rate", "sc_conn_rate(0)":
		if *n > maxRate || !p.perSecond {
			return false
		}
		p.settings.MaxRatePerClient, p.counted = n, true
	case "fe_conn":
		p.settings.MaxConnections = n
	case "req.body_size":
		most := int64(*n)
		requests(&p.settings).MaxBodyBytes = &most
	default:
		return false
	}
	return true
}

// plain is a condition that all requests without TLS meet.
var plain = map[string]bool{"": true, "if !{ ssl_fc }": true, "unless { ssl_fc }": true}

func (p *proxy) redirects(l line, at int) {
	condition := ""
	if at > 0 {
		condition = strings.Join(l.words[at:], " ")
	}
	if !slices.Contains(l.words, "scheme") || slices.Contains(l.words, "http") {
		p.problem = cmp.Or(p.problem, fmt.Sprintf("%s: it redirects requests, which a balancer of Services does not", l.place))
		return
	}
	if p.toHTTPS = plain[condition]; p.toHTTPS {
		return
	}
	p.redirect = fmt.Sprintf("%s: plain requests are redirected to https. Let an Ingress controller or the pods do that on a port of "+
		"their own", l.place)
}

// rule reads a condition of one acl.
func (p *proxy) rule(l line, accept bool, at int) {
	r := rule{place: l.place, kind: l.words[0], accept: accept}
	if at > 0 {
		r.outside = l.words[at] == "unless"
		name := l.words[at+1:]
		for len(name) > 0 && strings.HasPrefix(name[0], "!") {
			r.outside = !r.outside
			if name = append([]string{name[0][1:]}, name[1:]...); name[0] == "" {
				name = name[1:]
			}
		}
		switch n := len(name); {
		case n == 1 && p.acls[name[0]] != nil:
			r.inside = p.acls[name[0]]
			r.inside.used = true
		case n > 2 && name[0] == "{" && name[n-1] == "}":
			r.inside = &acl{place: l.place}
			r.inside.add(name[1 : n-1])
		default:
			r.inside = &acl{other: strings.Join(l.words[at:], " ")}
		}
	}
	p.rules = append(p.rules, r)
}

// sources are who may connect, or why that has no equal: nobody else may get in than before.
func (p *proxy) sources() (allowed []netip.Prefix, why string) {
	settled := false // nobody but allowed gets further
	for _, r := range p.rules {
		switch {
		case r.kind != p.rules[0].kind:
			return nil, fmt.Sprintf("%s: who may connect is said by %s and by %s: say it by one of them in a "+
				"copy", r.place, p.rules[0].kind, r.kind)
		case r.inside != nil && r.inside.other != "":
			return nil, fmt.Sprintf("%s: who may connect depends on %q, and a Service names ranges of addresses alone", r.place, r.inside.other)
		case settled && r.accept:
		case !settled && r.inside == nil && r.accept:
			return nil, "" // everybody else may
		case !settled && r.inside == nil && len(allowed) > 0:
			settled = true
		case !settled && r.accept && !r.outside:
			allowed = append(allowed, r.inside.sources...)
		case !settled && !r.accept && r.outside && len(allowed) == 0:
			allowed, settled = r.inside.sources, true
		default:
			return nil, fmt.Sprintf("%s: a Service names who may connect, not who may not: allow those ranges, and reject all others", r.place)
		}
	}
	if !settled {
		return nil, ""
	}
	return allowed, ""
}
