package haproxy

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/importer"
)

// Source is HAProxy.
var Source = importer.Source{
	Name: "haproxy", Engine: v1alpha1.EngineHAProxy,
	Reads:   "haproxy.cfg, and the others if there are several",
	Example: "external-lb import haproxy /etc/haproxy/haproxy.cfg --host lb1=192.0.2.5",
	Parse:   Parse,
}

// proxy is a frontend with the backend that it sends to, or a listen section.
type proxy struct {
	notes    *importer.Notes
	place    importer.Place
	http     bool
	binds    []bind
	settings v1alpha1.UpstreamSettings
	servers  []importer.Server
	weights  map[string]bool
	affinity int32
	stick    bool // on the client's address

	acls     map[string]*acl
	rules    []rule   // who may connect
	backends []string // that it names
	redirect string   // where it says that TLS is to be used
	toHTTPS  bool     // it redirects all plain requests
	problem  string

	client, node, tunnel v1alpha1.Duration // of silence
	maxQueue             int32             // of each server
	said                 v1alpha1.TCPHealthCheck
	speaks               bool   // said counts
	status               string // that a check expects
	counted              bool   // a stick table is for limits
	perSecond            bool   // it counts those of one

	always    bool // what matches no condition is sent, too
	checked   bool
	checkPort *int32
}

// Parse reads the files as one configuration. Nothing is included in others.
func Parse(files []importer.File, _ importer.Include) (*importer.Configuration, error) {
	sections, err := parse(files)
	if err != nil {
		return nil, err
	}
	out := &importer.Configuration{}
	backends, used := map[string]*section{}, map[string]bool{}
	for _, s := range sections {
		switch s.words[0] {
		case "backend", "listen":
			backends[s.name] = s
		case "peers", "mailers", "program", "fcgi-app", "log-forward", "cache", "userlist":
			out.Notes.Add(s.place, "%s %s has no equal", s.words[0], s.name)
		}
	}
	told := map[*section]bool{}
	for _, s := range sections {
		if s.words[0] == "frontend" || s.words[0] == "listen" {
			p := &proxy{notes: &out.Notes, place: s.place, weights: map[string]bool{}, acls: map[string]*acl{}}
			p.read(s, backends, used, told)
			out.Frontends = append(out.Frontends, p.frontends()...)
		}
	}
	for _, s := range sections {
		if s.words[0] == "backend" && !used[s.name] {
			out.Notes.Add(s.place, "backend %s is not imported: no frontend that is read sends to it", s.name)
		}
	}
	return out, nil
}

// read a proxy: its defaults, itself, and its backend with the defaults of that.
func (p *proxy) read(s *section, backends map[string]*section, used map[string]bool, told map[*section]bool) {
	p.section(s.defaults, told)
	if p.bindLine(s.words[min(2, len(s.words)):], s.place) {
		p.notes.Add(s.place, "the address is read in the old form, behind the name")
	}
	p.section(s, nil)
	for _, name := range p.backends {
		used[name] = true
	}
	if s.words[0] == "listen" && len(p.backends) == 0 {
		return
	}
	switch b := backends[first(p.backends)]; {
	case len(p.servers) > 0:
		p.problem = cmp.Or(p.problem, "it has servers of its own and chooses backends as well")
	case len(p.backends) == 1 && !p.always:
		p.problem = cmp.Or(p.problem, "it sends only what matches a condition, and a Service is one port for all")
	case len(p.backends) == 0:
		p.problem = cmp.Or(p.problem, "it sends to no backend; what answers here stays with the host")
	case len(p.backends) > 1:
		p.problem = cmp.Or(p.problem, fmt.Sprintf("it chooses between backends (%s). A Service is one port: let an Ingress controller or "+
			"a Gateway tell requests apart, and give that an address", strings.Join(p.backends, ", ")))
	case b == nil:
		p.problem = cmp.Or(p.problem, "there is no backend "+p.backends[0])
	default:
		if b.defaults != s.defaults {
			p.section(b.defaults, told)
		}
		p.section(b, nil)
	}
}

// section applies its lines. Those of defaults are told once.
func (p *proxy) section(s *section, told map[*section]bool) {
	if s == nil {
		return
	}
	notes := p.notes
	if told != nil && told[s] {
		p.notes = new(importer.Notes)
	}
	for _, l := range s.lines {
		p.apply(l)
	}
	p.notes = notes
	if told != nil {
		told[s] = true
	}
}

// frontends of a proxy: its ports with TLS, and those without.
func (p *proxy) frontends() (out []importer.Frontend) {
	p.finish()
	for _, tls := range []bool{false, true} {
		f := importer.Frontend{Place: p.place, Servers: p.servers, Settings: *p.settings.DeepCopy(), Problem: p.problem}
		for _, b := range p.binds {
			if b.tls == tls {
				f.Listeners = append(f.Listeners, b.listener)
				f.Certificate, f.Key = b.certificate, b.certificate
			}
		}
		if len(f.Listeners) == 0 && (!tls || len(p.binds) > 0) {
			continue
		}
		if len(f.Listeners) == 0 {
			f.Problem = cmp.Or(p.problem, "it has no bind")
		}
		if !tls && p.redirect != "" {
			f.Problem = cmp.Or(p.problem, "it answers by itself: "+p.redirect)
		}
		if !tls && p.toHTTPS {
			yes := true
			requests(&f.Settings).RedirectToHTTPS = &yes
		}
		if f.Problem == "" {
			f.Sources, f.Problem = p.sources()
		}
		if p.stick {
			f.Affinity = p.affinity
		}
		out = append(out, f)
	}
	return out
}

// finish settles what depends on several lines.
func (p *proxy) finish() {
	if p.http {
		p.settings.Mode = v1alpha1.ModeHTTP
	}
	if len(p.weights) > 1 {
		p.notes.Weights(p.place, "")
	}
	p.idle()
	if all := int64(p.maxQueue) * int64(len(p.servers)); all > 0 && all <= 10_000_000 {
		most := int32(all)
		p.settings.MaxQueue = &most
		p.notes.Add(p.place, "maxqueue %d of each server becomes maxQueue %d of all", p.maxQueue, most)
	}
	if h := p.settings.HealthCheck; h != nil && !p.checked { // options of checks that are not made
		p.settings.HealthCheck = nil
	} else if p.checked && (h == nil || h.HTTP == nil) {
		p.check().Type = v1alpha1.HealthCheckTCP
		if p.speaks && p.said != (v1alpha1.TCPHealthCheck{}) {
			said := p.said
			p.check().TCP = &said
		}
		if p.checkPort != nil {
			p.notes.Add(p.place, "a check at port %d is not carried over: it would be at the nodePort, or ask for a path (option "+
				"httpchk)", *p.checkPort)
		}
	} else if p.checked {
		h.HTTP.Port, h.HTTP.Status = p.checkPort, p.status
	}
	for name, a := range p.acls {
		if !a.used && p.problem == "" {
			p.notes.Add(a.place, "acl %s is not carried over: nothing that is carried over uses it", name)
		}
	}
	if p.affinity > 0 && !p.stick && !p.counted {
		p.notes.Add(p.place, "stick-table is not carried over: nothing sticks to the client's address (stick on src)")
	}
}

// requests are the settings for mode HTTP.
func requests(s *v1alpha1.UpstreamSettings) *v1alpha1.HTTPSettings {
	if s.HTTP == nil {
		s.HTTP = &v1alpha1.HTTPSettings{}
	}
	return s.HTTP
}

func (p *proxy) check() *v1alpha1.HealthCheck {
	if p.settings.HealthCheck == nil {
		p.settings.HealthCheck = &v1alpha1.HealthCheck{}
	}
	return p.settings.HealthCheck
}

func (p *proxy) timeouts() *v1alpha1.Timeouts {
	if p.settings.Timeouts == nil {
		p.settings.Timeouts = &v1alpha1.Timeouts{}
	}
	return p.settings.Timeouts
}

func (p *proxy) proxyProtocol() *v1alpha1.ProxyProtocol {
	if p.settings.ProxyProtocol == nil {
		p.settings.ProxyProtocol = &v1alpha1.ProxyProtocol{}
	}
	return p.settings.ProxyProtocol
}

func (p *proxy) sendTo(backend string) {
	if !slices.Contains(p.backends, backend) {
		p.backends = append(p.backends, backend)
	}
}

func first(list []string) string {
	if len(list) == 0 {
		return ""
	}
	return list[0]
}
