package keepalived

import (
	"cmp"
	"fmt"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/importer"
)

var algorithms = map[string]v1alpha1.Algorithm{
	"rr": v1alpha1.RoundRobin, "wrr": v1alpha1.RoundRobin, "lc": v1alpha1.LeastConnections, "wlc": v1alpha1.LeastConnections,
	"sh": v1alpha1.SourceHash, "dh": v1alpha1.DestinationHash, "sed": v1alpha1.ShortestExpectedDelay, "nq": v1alpha1.NeverQueue,
}

// virtualServer is one of them, while it is read.
type virtualServer struct {
	*importer.Frontend
	notes    *importer.Notes
	protocol corev1.Protocol
	weights  map[string]bool
	host     directive // virtualhost for all checks
}

func (r *reading) virtualServer(d directive) {
	f := importer.Frontend{Place: d.place}
	v := &virtualServer{Frontend: &f, notes: &r.out.Notes, protocol: corev1.ProtocolTCP, weights: map[string]bool{}}
	direct := false
	for _, in := range d.block {
		switch in.words[0] {
		case "lb_kind", "lvs_method":
			if direct = in.word(1) == "DR"; !direct && in.word(1) != "NAT" {
				f.Problem = cmp.Or(f.Problem, fmt.Sprintf("%s: packets reach the nodes by %s, and external-lb knows NAT and "+
					"DR", in.place, in.word(1)))
			}
		case "protocol":
			p, known := parseProtocol(in.word(1))
			if v.protocol = p; !known {
				f.Problem = cmp.Or(f.Problem, fmt.Sprintf("%s: there is no protocol %q", in.place, in.word(1)))
			}
		default:
			v.apply(in)
		}
	}
	if f.Problem == "" {
		r.kinds[direct] = true
	}
	if h := f.Settings.HealthCheck; v.host.word(1) != "" && h != nil && h.HTTP != nil && h.HTTP.Host == "" {
		v.hostHeader(v.host)
	}
	if len(v.weights) > 1 {
		v.notes.Weights(d.place, "")
	}
	var why string
	if f.Listeners, why = r.listeners(d, v.protocol); why != "" {
		f.Problem = cmp.Or(f.Problem, why)
	}
	r.out.Frontends = append(r.out.Frontends, f)
}

func (v *virtualServer) check() *v1alpha1.HealthCheck {
	if v.Settings.HealthCheck == nil {
		v.Settings.HealthCheck = &v1alpha1.HealthCheck{}
	}
	return v.Settings.HealthCheck
}

// seconds may have a fraction.
func seconds(text string) (v1alpha1.Duration, error) {
	n, err := strconv.ParseFloat(text, 64)
	if err != nil || !(n >= 0 && n <= 1e6) {
		return "", fmt.Errorf("%q is not a time in seconds", text)
	}
	return importer.Duration(time.Duration(n*1000) * time.Millisecond)
}

// apply what a virtual server says, also for the checks of all its servers.
func (v *virtualServer) apply(d directive) {
	var err error
	switch d.words[0] {
	case "real_server":
		v.realServer(d)
	case "lb_algo", "lvs_sched":
		algorithm, known := algorithms[d.word(1)]
		if v.Settings.Algorithm = algorithm; !known {
			err = fmt.Errorf("%s has no equal; external-lb's own value counts", d.word(1))
		}
	case "persistence_timeout":
		var n *int32
		if n, err = importer.Number(cmp.Or(d.word(1), "360"), 1, 86400); err == nil {
			v.Affinity = *n
		}
	case "delay_loop":
		v.check().Interval, err = seconds(d.word(1))
	case "connect_timeout":
		v.check().Timeout, err = seconds(d.word(1))
	case "retry":
		if v.check().Fall, err = importer.Number(d.word(1), 0, 99); err == nil {
			*v.check().Fall++ // the first one is no retry
		}
	case "delay_before_retry":
		v.notes.Add(d.place, "delay_before_retry is not carried over: healthCheck.interval is between all checks")
	case "sorry_server":
		v.notes.Add(d.place, "sorry_server is not carried over: where no node is left, nothing answers")
	case "virtualhost":
		v.host = d
	case "ha_suspend", "ops", "hashed", "quorum", "hysteresis", "quorum_up", "quorum_down", "alpha", "omega",
		"persistence_granularity", "lvs_flags", "flag-1", "flag-2", "flag-3":
		v.notes.Add(d.place, "%s is not carried over: it has no equal", d.words[0])
	default:
		v.notes.Add(d.place, "%s is not understood", d.words[0])
	}
	if err != nil {
		v.notes.Add(d.place, "%s: %v", d.words[0], err)
	}
}

func (v *virtualServer) realServer(d directive) {
	port, err := strconv.ParseUint(d.word(2), 10, 16)
	if err != nil || port == 0 {
		v.Problem = cmp.Or(v.Problem, fmt.Sprintf("%s: real_server %s has no port", d.place, d.word(1)))
		return
	}
	v.Servers = append(v.Servers, importer.Server{Place: d.place, Host: d.word(1), Port: uint16(port)})
	weight := "1"
	for _, in := range d.block {
		switch in.words[0] {
		case "weight":
			weight = in.word(1)
		case "TCP_CHECK":
			v.check().Type = v1alpha1.HealthCheckTCP
			v.checkBlock(in)
		case "HTTP_GET":
			v.check().Type = v1alpha1.HealthCheckHTTP
			v.checkBlock(in)
		case "SSL_GET", "SMTP_CHECK", "MISC_CHECK", "DNS_CHECK", "UDP_CHECK", "BFD_CHECK", "PING_CHECK", "FILE_CHECK":
			v.notes.Add(in.place, "%s is not carried over: nodes are asked how kube-proxy is, by a connection, or for a path", in.words[0])
		case "uthreshold":
			if v.Settings.MaxConnectionsPerNode, err = importer.Number(in.word(1), 0, 10_000_000); err != nil {
				v.notes.Add(in.place, "uthreshold: %v", err)
			}
		case "inhibit_on_failure", "notify_up", "notify_down", "lthreshold":
			v.notes.Add(in.place, "%s is not carried over: it has no equal", in.words[0])
		default:
			v.apply(in)
		}
	}
	v.weights[weight] = true
}

// checkBlock is what a check of one server says; all servers are checked alike.
func (v *virtualServer) checkBlock(d directive) {
	for _, in := range d.block {
		switch in.words[0] {
		case "url":
			for _, part := range in.block {
				v.url(part)
			}
		case "nb_get_retry":
			in.words = append([]string{"retry"}, in.words[1:]...)
			v.apply(in)
		case "connect_port":
			port, err := importer.Number(in.word(1), 1, 65535)
			if err == nil && v.check().Type == v1alpha1.HealthCheckHTTP {
				v.http().Port = port
			} else if err == nil && *port != int32(v.Servers[len(v.Servers)-1].Port) {
				err = fmt.Errorf("a connection is checked at the nodePort alone")
			}
			if err != nil {
				v.notes.Add(in.place, "connect_port: %v", err)
			}
		case "bindto", "connect_ip", "warmup", "fwmark":
			v.notes.Add(in.place, "%s is not carried over: it has no equal", in.words[0])
		default:
			v.apply(in)
		}
	}
}

func (v *virtualServer) http() *v1alpha1.HTTPHealthCheck {
	if v.check().HTTP == nil {
		v.check().HTTP = &v1alpha1.HTTPHealthCheck{Path: "/"}
	}
	return v.check().HTTP
}

func (v *virtualServer) url(d directive) {
	switch d.words[0] {
	case "path":
		if path, ok := importer.CheckPath(d.word(1)); ok {
			v.http().Path = path
		} else {
			v.notes.Add(d.place, "the check of %q is not carried over: a path has letters, digits and -._~/%% alone", d.word(1))
		}
	case "status_code":
		if len(d.words) > 2 || !importer.CheckStatus(d.word(1)) {
			v.notes.Add(d.place, "status_code is not carried over: a check expects one status, or a range such as 200-299")
			break
		}
		v.http().Status = d.word(1)
	case "virtualhost":
		v.hostHeader(d)
	default:
		v.notes.Add(d.place, "%s is not carried over: a check looks at the status alone", d.words[0])
	}
}

func (v *virtualServer) hostHeader(d directive) {
	host, ok := importer.CheckHost(d.word(1))
	if !ok {
		v.notes.Add(d.place, "virtualhost %q is not carried over: it is no name of letters, digits, dots and -", d.word(1))
		return
	}
	v.http().Host = host
}
