package render

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash/fnv"
	"maps"
	"math"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/external-lb/external-lb/internal/fileset"
	"github.com/external-lb/external-lb/internal/lb"
)

// haproxyService is what the templates print of a Service.
type haproxyService struct {
	ID        lb.ID
	Checks    []haproxyChecks   // of this Service alone
	Frontends []haproxyFrontend // sorted by Listener
}

// haproxyFrontend is what the templates print of a Frontend. Every string in it is
// printed from a number, a netip type, the parts of an lb.ID or a node's name.
type haproxyFrontend struct {
	Name                    string
	Listen                  netip.AddrPort
	AcceptProxy             bool
	HTTP                    bool   // requests are understood
	RequestTimeout          string // in which a client must have sent the head of one
	Restricted              bool
	Sources                 []netip.Prefix
	Backends                []haproxyServer
	Balance                 string
	Consistent              bool
	ConnectTimeout          string
	IdleTimeout             string
	Retries                 int32
	MaxConnections          int32
	MaxConnectionsPerClient int32
	HTTPCheck               *checkProfile // of the nodePort itself
	CheckTimeout            string        // "": the servers are not checked themselves
	ServerParameters        string        // with a leading space; may be empty
	Certificate             string        // path below the root of the set; "": no TLS
}

// IPv6 reports the family of the clients.
func (f haproxyFrontend) IPv6() bool { return f.Listen.Addr().Is6() }

// Ciphers of TLS 1.2.
func (f haproxyFrontend) Ciphers() string { return ciphers }

// Suites of TLS 1.3.
func (f haproxyFrontend) Suites() string { return suites }

// haproxyServer is a node.
type haproxyServer struct {
	Name    string
	Address netip.AddrPort
	ID      uint32 // of a consistent hash; 0: none
	Weight  uint16 // 0: that of a server that says nothing
	Track   string // with a leading space; may be empty
}

// checkProfile is a way of asking a node over HTTP how it is.
type checkProfile struct {
	ipv4              bool
	port              uint16
	Path, Host        string
	Expect            string // status codes
	interval, timeout time.Duration
	Rise, Fall        int32
}

// Interval between two checks.
func (p checkProfile) Interval() string { return milliseconds(p.interval) }

// Timeout of one check.
func (p checkProfile) Timeout() string { return milliseconds(p.timeout) }

// name of the backend that holds the checks of a profile.
func (p checkProfile) name(prefix string) string {
	family := "ipv6"
	if p.ipv4 {
		family = "ipv4"
	}
	sum := sha256.Sum256(fmt.Append(nil, p))
	return prefix + ".nodes." + family + "." + hex.EncodeToString(sum[:4])
}

// nodeCheck is one node that is checked in one way. All Services follow it.
type nodeCheck struct {
	checkProfile
	node    string
	address netip.Addr
}

// haproxyChecks are the checks of several nodes in one way.
type haproxyChecks struct {
	Name string
	checkProfile
	Servers []haproxyServer
}

// spares is how many nodes can come before HAProxy must be reloaded for them.
const spares = 4

// Spares wait for nodes. No node has such a name.
func (c haproxyChecks) Spares() []haproxyServer {
	nowhere := netip.IPv6Unspecified()
	if c.ipv4 {
		nowhere = netip.IPv4Unspecified()
	}
	all := make([]haproxyServer, spares)
	for i := range all {
		all[i] = haproxyServer{Name: fmt.Sprintf("spare_%d", i+1), Address: netip.AddrPortFrom(nowhere, c.port)}
	}
	return all
}

// groupChecks sorts checks into a backend for each profile.
func groupChecks(prefix string, checks []nodeCheck) []haproxyChecks {
	groups := map[checkProfile]*haproxyChecks{}
	for _, c := range checks {
		g := groups[c.checkProfile]
		if g == nil {
			g = &haproxyChecks{Name: c.name(prefix), checkProfile: c.checkProfile}
			groups[c.checkProfile] = g
		}
		g.Servers = append(g.Servers, haproxyServer{Name: c.node, Address: netip.AddrPortFrom(c.address, c.port)})
	}
	var all []haproxyChecks
	for _, g := range groups {
		slices.SortFunc(g.Servers, func(a, b haproxyServer) int {
			return cmp.Or(strings.Compare(a.Name, b.Name), a.Address.Compare(b.Address))
		})
		all = append(all, *g)
	}
	slices.SortFunc(all, func(a, b haproxyChecks) int { return strings.Compare(a.Name, b.Name) })
	return all
}

// sharedChecks begins the names of the checks that all Services share.
const sharedChecks = "external-lb"

// kube-proxy says on this port how a node is.
const (
	kubeProxyPort = 10256
	kubeProxyPath = "/healthz"
)

func haproxyMain(checks map[nodeCheck]int) any {
	return groupChecks(sharedChecks, slices.Collect(maps.Keys(checks)))
}

// newHAProxyService is the last gate before a file that a daemon runs, like
// newNginxService.
func newHAProxyService(s *lb.Service) (view, error) {
	id, frontends, err := checkService(lb.HAProxy, s)
	if err != nil {
		return view{}, err
	}
	service := &haproxyService{ID: id, Frontends: make([]haproxyFrontend, len(frontends))}
	own, shared := map[nodeCheck]bool{}, map[nodeCheck]bool{}
	out := view{data: service}
	for i, f := range frontends {
		service.Frontends[i], err = newHAProxyFrontend(id, f, own, shared)
		if err != nil {
			return view{}, fmt.Errorf("frontend %s: %w", f.Listener, err)
		}
		out.listens = append(out.listens, fileset.Socket{Network: "tcp", Address: service.Frontends[i].Listen})
	}
	service.Checks = groupChecks(serviceName(id), slices.Collect(maps.Keys(own)))
	out.checks = slices.Collect(maps.Keys(shared))
	return out, nil
}

func newHAProxyFrontend(id lb.ID, f *lb.Frontend, own, shared map[nodeCheck]bool) (haproxyFrontend, error) {
	set, address := f.Settings, netip.AddrPortFrom(f.Listener.Address, f.Listener.Port)
	v := haproxyFrontend{
		Name:                    upstreamName(id, address, "tcp"),
		Listen:                  address,
		AcceptProxy:             set.AcceptProxy,
		HTTP:                    set.Mode == lb.ModeHTTP,
		RequestTimeout:          milliseconds(min(set.IdleTimeout, requestTimeout)),
		Restricted:              !f.Allow.Everybody,
		Sources:                 sources(f.Allow),
		ConnectTimeout:          milliseconds(set.ConnectTimeout),
		IdleTimeout:             milliseconds(set.IdleTimeout),
		Retries:                 set.Retries,
		MaxConnections:          set.MaxConnections,
		MaxConnectionsPerClient: set.MaxConnectionsPerClient,
		ServerParameters:        haproxyParameters(set),
		Certificate:             tlsPath(set),
	}
	v.Balance, v.Consistent = haproxyBalance(f)
	tracked := v.check(id, f)
	seen := map[string]bool{}
	for _, b := range f.Backends {
		if !safeNode.MatchString(b.Node) || seen[b.Node] {
			return v, fmt.Errorf("the backend's node %.80q is not one name for one node", b.Node)
		}
		seen[b.Node] = true
		server := haproxyServer{Name: b.Node, Address: b.Address}
		if b.Share() > 1 {
			server.Weight = b.Share()
		}
		if tracked != nil {
			prefix, checks := sharedChecks, shared
			if tracked.port == f.HealthCheckNodePort {
				prefix, checks = serviceName(id), own
			}
			checks[nodeCheck{*tracked, b.Node, b.Address.Addr()}] = true
			server.Track = " track " + tracked.name(prefix) + "/" + b.Node
		}
		v.Backends = append(v.Backends, server)
	}
	slices.SortFunc(v.Backends, func(a, b haproxyServer) int { return strings.Compare(a.Name, b.Name) })
	if v.Consistent {
		identify(v.Backends)
	}
	return v, nil
}

// identify gives servers numbers by which HAProxy hashes clients. Its own are
// their positions, so that a node that leaves would move the clients of others.
func identify(servers []haproxyServer) {
	taken := map[uint32]bool{0: true}
	for i := range servers {
		h := fnv.New32a()
		h.Write([]byte(servers[i].Name)) // never fails
		id := h.Sum32() & math.MaxInt32
		for taken[id] {
			id = (id + 1) & math.MaxInt32
		}
		taken[id], servers[i].ID = true, id
	}
}

// requestTimeout keeps clients from holding connections with requests that never end.
const requestTimeout = 10 * time.Second

var safeNode = regexp.MustCompile(`^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$`)

// check chooses how the nodes of a Frontend are judged. It returns the profile of
// the check that the servers track, if they do.
func (v *haproxyFrontend) check(id lb.ID, f *lb.Frontend) *checkProfile {
	h := f.Settings.HealthCheck
	p := checkProfile{ipv4: f.Listener.Address.Is4(), Host: "localhost", interval: h.Interval, timeout: h.Timeout, Rise: h.Rise, Fall: h.Fall}
	switch {
	case h.Type == lb.CheckAuto && f.HealthCheckNodePort > 0:
		p.port, p.Path, p.Expect = f.HealthCheckNodePort, kubeProxyPath, "200"
		return &p
	case h.Type == lb.CheckAuto:
		p.port, p.Path, p.Expect = kubeProxyPort, kubeProxyPath, "200"
		return &p
	case h.Type == lb.CheckHTTP && h.Port > 0:
		p.port, p.Path, p.Expect = h.Port, h.Path, "200-399"
		return &p
	case h.Type == lb.CheckHTTP:
		p.Path, p.Host, p.Expect = h.Path, id.Name+"."+id.Namespace, "200-399"
		v.HTTPCheck = &p
	case h.Type == lb.CheckNone:
		return nil
	}
	v.CheckTimeout = p.Timeout()
	v.ServerParameters = fmt.Sprintf(" check inter %s rise %d fall %d", p.Interval(), p.Rise, p.Fall) + v.ServerParameters
	return nil
}

func serviceName(id lb.ID) string {
	return strings.Join([]string{id.Namespace, id.Name, id.UID}, ".")
}

// haproxyBalance chooses the algorithm. Affinity goes first.
func haproxyBalance(f *lb.Frontend) (balance string, consistent bool) {
	switch algorithm := f.Settings.Algorithm; {
	case f.Affinity > 0 || algorithm == lb.SourceHash:
		return "source", true
	case algorithm == lb.LeastConnections:
		return "leastconn", false
	case algorithm == lb.Random:
		return "random", false
	default:
		return "roundrobin", false
	}
}

func haproxyParameters(set lb.Settings) string {
	parameters := ""
	if set.MaxConnectionsPerNode > 0 {
		parameters += " maxconn " + strconv.Itoa(int(set.MaxConnectionsPerNode))
	}
	switch set.SendProxy {
	case lb.ProxyV1:
		parameters += " send-proxy"
	case lb.ProxyV2:
		parameters += " send-proxy-v2"
	}
	return parameters
}
