package lvs

import (
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/external-lb/external-lb/internal/engine"
	"github.com/external-lb/external-lb/internal/fileset"
	"github.com/external-lb/external-lb/internal/lb"
)

// service is what the templates print of a Service, and what the daemon knows of it.
type service struct {
	ID        lb.ID
	Frontends []frontend // sorted by Listener
}

// frontend is what the templates print of a Frontend. Every string in it is
// printed from a number, a netip type or the parts of an lb.ID, or is one of a few.
type frontend struct {
	Listener              netip.AddrPort
	Protocol              lb.Protocol
	Method, Scheduler     string
	Consistent            bool // the scheduler is one that hashes clients
	Restricted            bool
	Sources               []netip.Prefix
	Persistence           int    // in seconds; 0: none
	Interval              string // of the checks, in seconds
	MaxConnectionsPerNode int32
	Backends              []server
	Check                 *check
	Drain                 int64 `json:",omitempty"` // seconds for which connections to a node that leaves are served; 0: no bound
}

// server is a node. With a weight of 0 it gets no new connections.
type server struct {
	Address netip.AddrPort
	Weight  uint16
	Node    string `json:",omitempty"`
}

// check is how keepalived judges a node.
type check struct {
	Kind    string
	Port    uint16 // 0: where traffic goes
	Timeout int    // in seconds
	Retries int32  // after the first check that fails
	Path    string // of an HTTP check
	Host    string // "": the node's address
	Expect  string // status codes
}

var schedulers = map[lb.Algorithm]string{
	lb.RoundRobin: "wrr", lb.LeastConnections: "wlc", lb.SourceHash: "mh",
	lb.DestinationHash: "dh", lb.ShortestExpectedDelay: "sed", lb.NeverQueue: "nq",
}

// viewOf refuses what cannot be printed safely or IPVS cannot do: this is the last
// gate before a file that a daemon runs.
func viewOf(s *engine.Service) (engine.View, error) {
	id, frontends, err := capabilities.CheckService(name, s)
	if err != nil {
		return engine.View{}, err
	}
	printed := &service{ID: id}
	out := engine.View{Data: printed}
	for _, f := range frontends {
		v, err := newFrontend(f)
		if err != nil {
			return engine.View{}, fmt.Errorf("frontend %s: %w", f.Listener, err)
		}
		printed.Frontends = append(printed.Frontends, v)
		out.Listens = append(out.Listens, v.socket())
	}
	return out, nil
}

// socket that clients connect to.
func (f *frontend) socket() fileset.Socket {
	return fileset.Socket{Network: strings.ToLower(string(f.Protocol)), Address: f.Listener}
}

// The methods by which packets reach nodes: with another address, or as they came.
const (
	masquerade = "NAT"
	direct     = "DR"
)

func newFrontend(f *engine.Frontend) (frontend, error) {
	v := frontend{
		Listener:              netip.AddrPortFrom(f.Listener.Address, f.Listener.Port),
		Protocol:              f.Listener.Protocol,
		Method:                masquerade,
		Scheduler:             schedulers[f.Settings.Algorithm],
		Restricted:            !f.Allow.Everybody,
		Sources:               engine.Sources(f.Allow),
		Persistence:           wholeSeconds(f.Affinity),
		Interval:              decimalSeconds(f.Settings.HealthCheck.Interval),
		MaxConnectionsPerNode: f.Settings.MaxConnectionsPerNode,
		Check:                 checkOf(f),
		Drain:                 engine.Seconds(f.Settings.Drain),
	}
	if f.Direct {
		v.Method = direct
	}
	if f.Affinity > 0 { // hosts that share the traffic do not know each other's clients
		v.Scheduler = schedulers[lb.SourceHash]
	}
	v.Consistent = v.Scheduler == schedulers[lb.SourceHash]
	if v.Scheduler == "" {
		return v, fmt.Errorf("no scheduler for %.40q", f.Settings.Algorithm)
	}
	// keepalived refuses a virtual server whose weights are all 0. Where every node
	// drains, none is better than another, and the check takes them out.
	oneStays := slices.ContainsFunc(f.Backends, func(b engine.Backend) bool { return !b.Draining })
	for _, b := range f.Backends {
		if f.Direct && b.Address.Port() != f.Listener.Port {
			return v, fmt.Errorf("backend %s: packets that reach a node as they came have the port %d", b.Address, f.Listener.Port)
		}
		to := server{b.Address, b.Share(), b.Node}
		if b.Draining && oneStays {
			to.Weight = 0
		}
		v.Backends = append(v.Backends, to)
	}
	slices.SortFunc(v.Backends, func(a, b server) int { return a.Address.Compare(b.Address) })
	if len(v.Backends) == 0 {
		v.Restricted, v.Sources = true, nil
	}
	return v, nil
}

// checkOf chooses how nodes are judged. Where packets reach the nodes as they
// came, the node's own address answers at the nodePort alone.
func checkOf(f *engine.Frontend) *check {
	h := f.Settings.HealthCheck
	c := &check{Kind: "HTTP_GET", Timeout: wholeSeconds(h.Timeout), Retries: h.Fall - 1}
	if f.Direct {
		c.Port = f.NodePort
	}
	kind := h.Type
	if kind != lb.CheckNone && f.Direct && f.NodePort == 0 && (kind == lb.CheckTCP || h.Port == 0) {
		kind = lb.CheckAuto
	}
	switch {
	case kind == lb.CheckNone, f.Pods && f.Listener.Protocol != lb.TCP: // their kubelets say who is ready
		return nil
	case kind == lb.CheckTCP, kind == lb.CheckAuto && f.Pods:
		c.Kind = "TCP_CHECK"
	case kind == lb.CheckHTTP:
		c.Path, c.Host, c.Expect = h.Path, h.Host, h.Status.String()
		if h.TLS {
			c.Kind = "SSL_GET"
		}
		if h.Port > 0 {
			c.Port = h.Port
		}
	case f.HealthCheckNodePort > 0:
		c.Port, c.Path, c.Expect = f.HealthCheckNodePort, engine.KubeProxyPath, "200"
	default:
		c.Port, c.Path, c.Expect = engine.KubeProxyPort, engine.KubeProxyPath, "200"
	}
	return c
}

func wholeSeconds(d time.Duration) int { return int(math.Ceil(d.Seconds())) }

func decimalSeconds(d time.Duration) string {
	return strconv.FormatFloat(max(float64(d.Milliseconds())/1000, 0.01), 'f', -1, 64) // d.Seconds() makes 3.7199999999999998 of 3.72
}
