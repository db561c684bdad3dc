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
	"clitcpka-cnt": true, "clitcpka-intvl": true, "srvtcpka-cnt": true, "srvtcpka-intvl": true, "option dontlognull": true,
	"option http-keep-alive": true, "option forwardfor": true, "option tcp-smart-accept": true, "option tcp-smart-connect": true,
	"option splice-auto": true, "option prefer-last-server": true, "option nolinger": true,
}

// advice for what is met often.
var advice = map[string]string{
	"log":             importer.Logged,
	"option httplog":  importer.Logged,
	"option tcplog":   importer.Logged,
	"option dontlog":  "it goes with the log",
	"http-request":    "mode HTTP sends X-Forwarded-For and X-Forwarded-Proto; other headers have no equal",
	"http-response":   "a balancer changes no answers: let the pods do it",
	"cookie":          "sessionAffinity: ClientIP of the Service keeps a client on one node, by its address",
	"errorfile":       "answers of the balancer itself are HAProxy's own",
	"compression":     "a balancer changes no answers: let the pods do it",
	"stats":           "statistics stay with the host's own file",
	"monitor-uri":     "external-lb's agent watches the daemon",
	"tcp-check":       "a check sends one thing, and expects one text in what it hears",
	"http-check":      "a check asks for a path, with a host, and expects a status",
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
	case "clitcpka-idle", "srvtcpka-idle":
		err = p.keepAlive(l.word(1))
	case "source":
		if len(l.words) > 2 {
			p.other(l, "source")
			break
		}
		p.settings.SourceAddresses, err = importer.From(p.settings.SourceAddresses, l.word(1))
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
	case "tcp-check":
		p.tcpCheck(l)
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
		p.no(l)
		return
	}
	switch name := "option " + l.word(1); {
	case name == "option httpchk":
		path := l.word(2)
		if len(words) > 3 {
			path = words[3] // behind the method
		}
		p.checkPath(l, cmp.Or(path, "/"))
		if _, header, more := strings.Cut(l.word(4), "\r\n"); more {
			key, value, _ := strings.Cut(header, ":")
			p.checkHeader(l, key, strings.TrimSpace(value))
		}
	case name == "option tcp-check":
		p.check().Type, p.check().HTTP, p.speaks = v1alpha1.HealthCheckTCP, nil, true
	case name == "option abortonclose":
		yes := true
		p.settings.AbortOnClose = &yes
	case strings.HasSuffix(name, "-check"): // of mysql, redis and others
		p.notes.Add(l.place, "%s is not carried over: nodes are checked by a connection", name)
		p.check().Type, p.check().HTTP = v1alpha1.HealthCheckTCP, nil
	case strings.HasPrefix(name, "option dontlog"), strings.HasPrefix(name, "option log"):
		p.other(l, "option dontlog")
	default:
		p.other(l, name)
	}
}

// no takes back what a section before said.
func (p *proxy) no(l line) {
	switch l.word(1) + " " + l.word(2) {
	case "option abortonclose":
		p.settings.AbortOnClose = nil
	case "log ":
		p.settings.AccessLog = new(bool)
	}
}

// timeout of one kind. See idle.
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
		p.client = d
	case "server":
		p.node = d
	case "tunnel":
		p.tunnel = d
	case "queue":
		p.timeouts().Queue = d
	case "http-request", "http-keep-alive", "client-fin", "server-fin", "tarpit":
		p.notes.Add(l.place, "timeout %s is not carried over: there are timeouts.client and timeouts.server", l.word(1))
	default:
		return fmt.Errorf("there is no timeout %q", l.word(1))
	}
	return nil
}

// idle is the longest of what is said of silence. Each side has its own time, but in a tunnel.
func (p *proxy) idle() {
	all := longer(longer(p.client, p.node), p.tunnel)
	if all == "" {
		return
	}
	p.timeouts().Idle = all
	if p.tunnel != "" {
		return
	}
	if p.client != all {
		p.timeouts().Client = p.client
	}
	if p.node != all {
		p.timeouts().Server = p.node
	}
}

func (p *proxy) keepAlive(text string) error {
	d, err := importer.KeepAlive(text)
	if err != nil {
		return err
	}
	if was := p.timeouts().KeepAlive; was != "" && was != d {
		return fmt.Errorf("clients and nodes are asked after the same time, %s", was)
	}
	p.timeouts().KeepAlive = d
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
	p.perSecond = strings.Contains(strings.Join(l.words, " "), "conn_rate(1s)")
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
