package haproxy

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/importer"
)

var algorithms = map[string]v1alpha1.Algorithm{
	"roundrobin": v1alpha1.RoundRobin, "static-rr": v1alpha1.RoundRobin, "leastconn": v1alpha1.LeastConnections,
	"source": v1alpha1.SourceHash, "random": v1alpha1.Random,
}

// inner are lines that matter inside of HAProxy alone, or that external-lb does anyway.
var inner = map[string]bool{
	"description": true, "id": true, "hash-type": true, "backlog": true,
	"option redispatch": true, "option tcpka": true, "option clitcpka": true, "option srvtcpka": true, "option http-server-close": true,
	"option http-keep-alive": true, "option forwardfor": true, "option tcp-smart-accept": true, "option tcp-smart-connect": true,
	"option splice-auto": true, "option abortonclose": true, "option prefer-last-server": true, "option nolinger": true,
}

// advice for what is met often.
var advice = map[string]string{
	"log":             "external-lb's templates write none; a template of your own may (docs/reference/templates.md)",
	"option httplog":  "external-lb's templates write none; a template of your own may (docs/reference/templates.md)",
	"option tcplog":   "external-lb's templates write none; a template of your own may (docs/reference/templates.md)",
	"option dontlog":  "it goes with the log",
	"http-request":    "mode HTTP sends X-Forwarded-For and X-Forwarded-Proto; other headers have no equal",
	"http-response":   "a balancer changes no answers: let the pods do it",
	"cookie":          "sessionAffinity: ClientIP of the Service keeps a client on one node, by its address",
	"errorfile":       "answers of the balancer itself are HAProxy's own",
	"compression":     "a balancer changes no answers: let the pods do it",
	"stats":           "statistics stay with the host's own file",
	"monitor-uri":     "external-lb's agent watches the daemon",
	"tcp-check":       "a check is a connection, or a request for a path",
	"http-check":      "a status of 200 to 399 is good",
	"fullconn":        "maxConnectionsPerNode is fixed",
	"source":          "with the engine lvs and forwarding: DR, pods see the client's address; or send the PROXY protocol",
	"server-template": "nodes are known by the cluster",
}

// apply one line.
func (p *proxy) apply(l line) {
	var err error
	switch l.words[0] {
	case "mode":
		p.http = l.word(1) == "http"
	case "bind":
		p.bindLine(l.words[1:], l.place)
	case "balance":
		algorithm, known := algorithms[strings.SplitN(l.word(1), "(", 2)[0]]
		if p.settings.Algorithm = algorithm; !known {
			err = fmt.Errorf("%s has no equal", l.word(1))
		}
	case "default_backend":
		p.sendTo(l.word(1))
		p.always = true
	case "use_backend":
		p.sendTo(l.word(1))
		p.always = p.always || len(l.words) == 2
		if strings.ContainsAny(l.word(1), "%") {
			p.problem = cmp.Or(p.problem, fmt.Sprintf("%s: the backend is chosen by %s", l.place, l.word(1)))
		}
	case "server":
		p.server(l)
	case "default-server":
		p.parameters(l, l.words[1:], false)
	case "timeout":
		err = p.timeout(l)
	case "retries":
		p.settings.Retries, err = importer.Number(l.word(1), 0, 15)
	case "maxconn":
		p.settings.MaxConnections, err = importer.Number(l.word(1), 0, 10_000_000)
	case "acl":
		p.acl(l)
	case "tcp-request", "http-request", "redirect", "block":
		p.request(l)
	case "option", "no":
		p.option(l)
	case "http-check":
		p.httpCheck(l)
	case "stick-table", "stick":
		err = p.sticks(l)
	default:
		p.other(l, l.words[0])
	}
	if err != nil {
		p.notes.Add(l.place, "%s: %v; external-lb's own value counts", l.words[0], err)
	}
}

func (p *proxy) other(l line, name string) {
	switch words, known := advice[name]; {
	case inner[name]:
	case known:
		p.notes.Add(l.place, "%s is not carried over: %s", name, words)
	default:
		p.notes.Add(l.place, "%s is not carried over: it has no equal", strings.Join(l.words[:min(3, len(l.words))], " "))
	}
}

func (p *proxy) option(l line) {
	words := l.words
	if words[0] == "no" {
		return // it takes back what is not carried over either
	}
	switch name := "option " + l.word(1); {
	case name == "option httpchk":
		path := l.word(2)
		if len(words) > 3 {
			path = words[3] // behind the method
		}
		p.checkPath(l, cmp.Or(path, "/"))
	case name == "option tcp-check":
		p.check().Type = v1alpha1.HealthCheckTCP
	case strings.HasSuffix(name, "-check"): // of mysql, redis and others
		p.notes.Add(l.place, "%s is not carried over: nodes are checked by a connection", name)
		p.check().Type = v1alpha1.HealthCheckTCP
	case strings.HasPrefix(name, "option dontlog"), strings.HasPrefix(name, "option log"):
		p.other(l, "option dontlog")
	default:
		p.other(l, name)
	}
}

func (p *proxy) checkPath(l line, path string) {
	path, ok := importer.CheckPath(path)
	if !ok {
		p.notes.Add(l.place, "the check of %q is not carried over: a path has letters, digits and -._~/%% alone", path)
		path = "/"
	}
	if p.check().HTTP == nil {
		p.check().HTTP = &v1alpha1.HTTPHealthCheck{}
	}
	p.check().Type, p.check().HTTP.Path = v1alpha1.HealthCheckHTTP, path
}

// httpCheck reads the newer form: http-check send meth GET uri /healthz.
func (p *proxy) httpCheck(l line) {
	if l.word(1) == "send" {
		for i, word := range l.words {
			if word == "uri" && i+1 < len(l.words) {
				p.checkPath(l, l.words[i+1])
			}
		}
		return
	}
	p.other(l, "http-check")
}

// timeout of one kind. Idle is the longer one of the two directions.
func (p *proxy) timeout(l line) error {
	d, err := importer.Time(l.word(2), time.Millisecond)
	if err != nil {
		return err
	}
	switch l.word(1) {
	case "connect":
		p.timeouts().Connect = d
	case "check":
		p.check().Timeout = d
	case "client":
		p.client, p.timeouts().Idle = d, longer(d, p.timeouts().Idle)
	case "server":
		p.timeouts().Idle = longer(d, p.client)
	case "tunnel":
		p.timeouts().Idle = longer(d, p.timeouts().Idle)
	case "queue", "http-request", "http-keep-alive", "client-fin", "server-fin", "tarpit":
		p.notes.Add(l.place, "timeout %s is not carried over: there are timeouts.connect and timeouts.idle", l.word(1))
	default:
		return fmt.Errorf("there is no timeout %q", l.word(1))
	}
	return nil
}

func longer(a, b v1alpha1.Duration) v1alpha1.Duration {
	x, _ := time.ParseDuration(string(a))
	y, _ := time.ParseDuration(string(b))
	if y > x {
		return b
	}
	return a
}

// sticks reads that clients stay on their server.
func (p *proxy) sticks(l line) error {
	if l.words[0] == "stick" {
		if l.word(1) == "on" && l.word(2) == "src" {
			p.stick = true
			p.affinity = cmp.Or(p.affinity, 10800)
			return nil
		}
		return fmt.Errorf("only the client's address is carried over (stick on src)")
	}
	p.affinity = 10800
	for i, word := range l.words {
		if word == "expire" {
			d, err := importer.Time(l.word(i+1), time.Millisecond)
			if err != nil {
				return err
			}
			span, _ := time.ParseDuration(string(d))
			p.affinity = max(1, int32(span/time.Second))
		}
	}
	return nil
}
