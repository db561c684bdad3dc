package render

import (
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/external-lb/external-lb/internal/fileset"
	"github.com/external-lb/external-lb/internal/lb"
)

// lvsService is what the templates print of a Service.
type lvsService struct {
	ID        lb.ID
	Frontends []lvsFrontend // sorted by Listener
}

// lvsFrontend is what the templates print of a Frontend. Every string in it is
// printed from a number, a netip type or the parts of an lb.ID, or is one of a few.
type lvsFrontend struct {
	Listener              netip.AddrPort
	Protocol              lb.Protocol
	Method, Scheduler     string
	Consistent            bool // the scheduler is one that hashes clients
	Restricted            bool
	Sources               []netip.Prefix
	Persistence           int    // in seconds; 0: none
	Interval              string // of the checks, in seconds
	MaxConnectionsPerNode int32
	Backends              []lvsServer
	Check                 *lvsCheck
}

// lvsServer is a node. With a weight of 0 it gets no new connections.
type lvsServer struct {
	netip.AddrPort
	Weight uint16
}

// lvsCheck is how keepalived judges a node.
type lvsCheck struct {
	Kind    string
	Port    uint16 // 0: where traffic goes
	Timeout int    // in seconds
	Retries int32  // after the first check that fails
	Path    string // of an HTTP check
	Expect  string // status codes
}

var lvsSchedulers = map[lb.Algorithm]string{
	lb.RoundRobin: "wrr", lb.LeastConnections: "wlc", lb.SourceHash: "mh",
	lb.DestinationHash: "dh", lb.ShortestExpectedDelay: "sed", lb.NeverQueue: "nq",
}

// newLVSService is the last gate before a file that a daemon runs, like
// newNginxService.
func newLVSService(s *lb.Service) (view, error) {
	id, frontends, err := checkService(lb.LVS, s)
	if err != nil {
		return view{}, err
	}
	service := &lvsService{ID: id}
	out := view{data: service}
	for _, f := range frontends {
		v, err := newLVSFrontend(f)
		if err != nil {
			return view{}, fmt.Errorf("frontend %s: %w", f.Listener, err)
		}
		service.Frontends = append(service.Frontends, v)
		out.listens = append(out.listens, fileset.Socket{Network: strings.ToLower(string(v.Protocol)), Address: v.Listener})
	}
	return out, nil
}

func newLVSFrontend(f *lb.Frontend) (lvsFrontend, error) {
	v := lvsFrontend{
		Listener:              netip.AddrPortFrom(f.Listener.Address, f.Listener.Port),
		Protocol:              f.Listener.Protocol,
		Method:                "NAT",
		Scheduler:             lvsSchedulers[f.Settings.Algorithm],
		Restricted:            !f.Allow.Everybody,
		Sources:               sources(f.Allow),
		Persistence:           wholeSeconds(f.Affinity),
		Interval:              decimalSeconds(f.Settings.HealthCheck.Interval),
		MaxConnectionsPerNode: f.Settings.MaxConnectionsPerNode,
		Check:                 lvsCheckOf(f),
	}
	if f.Direct {
		v.Method = "DR"
	}
	if f.Affinity > 0 { // hosts that share the traffic do not know each other's clients
		v.Scheduler = lvsSchedulers[lb.SourceHash]
	}
	v.Consistent = v.Scheduler == lvsSchedulers[lb.SourceHash]
	if v.Scheduler == "" {
		return v, fmt.Errorf("no scheduler for %.40q", f.Settings.Algorithm)
	}
	// keepalived refuses a virtual server whose weights are all 0. Where every node
	// drains, none is better than another, and the check takes them out.
	oneStays := slices.ContainsFunc(f.Backends, func(b lb.Backend) bool { return !b.Draining })
	for _, b := range f.Backends {
		if f.Direct && b.Address.Port() != f.Listener.Port {
			return v, fmt.Errorf("backend %s: packets that reach a node as they came have the port %d", b.Address, f.Listener.Port)
		}
		server := lvsServer{b.Address, b.Share()}
		if b.Draining && oneStays {
			server.Weight = 0
		}
		v.Backends = append(v.Backends, server)
	}
	slices.SortFunc(v.Backends, func(a, b lvsServer) int { return a.Compare(b.AddrPort) })
	if len(v.Backends) == 0 {
		v.Restricted, v.Sources = true, nil
	}
	return v, nil
}

// lvsCheckOf chooses how nodes are judged. Where packets reach the nodes as they
// came, the node's own address answers at the nodePort alone.
func lvsCheckOf(f *lb.Frontend) *lvsCheck {
	h := f.Settings.HealthCheck
	c := &lvsCheck{Kind: "HTTP_GET", Timeout: wholeSeconds(h.Timeout), Retries: h.Fall - 1}
	if f.Direct {
		c.Port = f.NodePort
	}
	kind := h.Type
	if kind != lb.CheckNone && f.Direct && f.NodePort == 0 && (kind == lb.CheckTCP || h.Port == 0) {
		kind = lb.CheckAuto
	}
	switch {
	case kind == lb.CheckNone:
		return nil
	case kind == lb.CheckTCP:
		c.Kind = "TCP_CHECK"
	case kind == lb.CheckHTTP:
		c.Path, c.Expect = h.Path, "200-399"
		if h.Port > 0 {
			c.Port = h.Port
		}
	case f.HealthCheckNodePort > 0:
		c.Port, c.Path, c.Expect = f.HealthCheckNodePort, kubeProxyPath, "200"
	default:
		c.Port, c.Path, c.Expect = kubeProxyPort, kubeProxyPath, "200"
	}
	return c
}

func wholeSeconds(d time.Duration) int { return int(math.Ceil(d.Seconds())) }

func decimalSeconds(d time.Duration) string {
	return strconv.FormatFloat(max(d.Seconds(), 0.01), 'f', -1, 64)
}
