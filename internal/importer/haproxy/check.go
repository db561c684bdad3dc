package haproxy

import (
	"encoding/hex"
	"strings"
	"unicode/utf8"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/importer"
)

// asks is what a check over HTTP asks for.
func (p *proxy) asks() *v1alpha1.HTTPHealthCheck {
	if p.check().HTTP == nil {
		p.check().HTTP = &v1alpha1.HTTPHealthCheck{Path: "/"}
	}
	p.check().Type = v1alpha1.HealthCheckHTTP
	return p.check().HTTP
}

func (p *proxy) checkPath(l line, path string) {
	path, ok := importer.CheckPath(path)
	if !ok {
		p.notes.Add(l.place, "the check of %q is not carried over: a path has letters, digits and -._~/%% alone", path)
		path = "/"
	}
	p.asks().Path = path
}

// checkHeader is one that a check sends: of all, Host has an equal.
func (p *proxy) checkHeader(l line, name, value string) {
	host, ok := importer.CheckHost(value)
	if !strings.EqualFold(name, "Host") || !ok {
		p.notes.Add(l.place, "the check's header %s is not carried over: a check sends Host alone, a name of letters, digits, dots and -", name)
		return
	}
	p.asks().Host = host
}

// httpCheck reads the newer form: http-check send meth GET uri /healthz hdr Host web.example.
func (p *proxy) httpCheck(l line) {
	switch {
	case l.word(1) == "send":
		for i := 2; i+1 < len(l.words); i++ {
			switch l.words[i] {
			case "uri":
				p.checkPath(l, l.words[i+1])
			case "hdr":
				p.checkHeader(l, l.words[i+1], l.word(i+2))
				i++
			case "meth":
				if l.words[i+1] != "GET" {
					p.notes.Add(l.place, "the check's method %s is not carried over: a check is a GET", l.words[i+1])
				}
			case "body":
				p.other(l, "http-check")
			}
			i++
		}
	case l.word(1) == "expect" && l.word(2) == "status" && len(l.words) == 4 && importer.CheckStatus(l.word(3)):
		p.status = l.word(3)
	case l.word(1) == "connect" && len(l.words) == 2:
	default:
		p.other(l, "http-check")
	}
}

// tcpCheck reads what a check says, and then wants to hear.
func (p *proxy) tcpCheck(l line) {
	last := len(l.words) - 1
	if last == 0 {
		p.other(l, "tcp-check")
		return
	}
	value, good := l.words[last], true
	what, binary := strings.CutSuffix(strings.Join(l.words[1:last], " "), "binary")
	if binary {
		var data []byte
		data, err := hex.DecodeString(value)
		value, good = string(data), err == nil
	}
	var into *string
	switch {
	case last == 1 && value == "connect":
		return
	case (what == "send" || what == "send-") && p.said == v1alpha1.TCPHealthCheck{}:
		into = &p.said.Send
	case (what == "expect string" || what == "expect ") && p.said.Expect == "":
		into = &p.said.Expect
	default:
		p.other(l, "tcp-check")
		return
	}
	if !good || !utf8.ValidString(value) || len(value) > 256 {
		p.notes.Add(l.place, "what the check says is not carried over: it is text, of 256 bytes at most")
		return
	}
	*into = value
}
