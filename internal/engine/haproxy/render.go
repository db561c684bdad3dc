package haproxy

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash/fnv"
	"maps"
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
	Checks    []checkGroup // of this Service alone
	Frontends []frontend   // sorted by Listener
}

// frontend is what the templates print of a Frontend. Every string in it is
// printed from a number, a netip type, the parts of an lb.ID or a node's name.
type frontend struct {
	Name                    string
	Listen                  netip.AddrPort
	AcceptProxy             bool
	HTTP                    bool   // requests are understood
	RedirectToHTTPS         bool   // and not carried
	MaxBodyBytes            int64  // of one; 0: no limit
	MaxHeaderBytes          int32  // of one; 0: as many as the engine takes
	RequestTimeout          string // in which a client must have sent the head of one
	Restricted              bool
	Sources                 []netip.Prefix
	Backends                []server
	Pods                    bool `json:",omitempty"` // they come and go, also the first and the last
	AllBackups              bool // some of them wait, and carry together when the others fail
	Balance                 string
	Consistent              bool
	ConnectTimeout          string
	ClientTimeout           string
	ServerTimeout           string
	QueueTimeout            string
	KeepAlive, ProbeEvery   int64 // seconds of silence before TCP asks who is there, and between two questions; 0: it is not set
	MaxQueue                int32
	AbortOnClose            bool
	NoAccessLog             bool
	Source                  netip.Addr // of connections to the nodes; the zero one: as the kernel chooses
	Retries                 int32
	MaxConnections          int32
	MaxConnectionsPerClient int32
	MaxRatePerClient        int32
	HTTPCheck               *checkProfile // of the nodePort itself
	Send, Expect            string        // of a TCP check: bytes in hex; "": none
	CheckTimeout            string        // "": the servers are not checked themselves
	ServerParameters        string        // with a leading space; may be empty
	Certificate             string        // path below the root of the set; "": no TLS
	Share                   share         // of the Service
	Drain                   int64         `json:",omitempty"` // seconds for which connections to a node that went are served; 0: no bound of its own
}

// share is what the host's owner allows every Service.
type share struct {
	Key            string `json:",omitempty"` // by which its connections are counted
	MaxConnections int    `json:",omitempty"` // 0: no limit
}

// Sends: it has servers, or may get some while HAProxy runs.
func (f frontend) Sends() bool { return f.Pods || len(f.Backends) > 0 }

// IPv6 reports the family of the clients.
func (f frontend) IPv6() bool { return f.Listen.Addr().Is6() }

// CountsClients: each has an entry in a table.
func (f frontend) CountsClients() bool {
	return f.MaxConnectionsPerClient > 0 || f.MaxRatePerClient > 0
}

// Probes that a peer may leave without an answer.
func (f frontend) Probes() int { return engine.Probes }

// Ciphers of TLS 1.2.
func (f frontend) Ciphers() string { return engine.Ciphers }

// Suites of TLS 1.3.
func (f frontend) Suites() string { return engine.Suites }

// server is a node.
type server struct {
	Name    string
	Address netip.AddrPort
	ID      uint32 `json:",omitempty"` // of a consistent hash; 0: none
	Weight  uint16 `json:",omitempty"` // 0: that of a server that says nothing
	Backup  bool   `json:",omitempty"` // it waits for all others to fail
	Track   string `json:",omitempty"` // backend/server whose check it follows; "": none
}

// Parameters are those of this server alone, with a leading blank, in a file and in a
// command alike.
func (s server) Parameters() string {
	out := ""
	if s.ID > 0 {
		out += fmt.Sprintf(" id %d", s.ID)
	}
	if s.Weight > 0 {
		out += fmt.Sprintf(" weight %d", s.Weight)
	}
	if s.Backup {
		out += " backup"
	}
	if s.Track != "" {
		out += " track " + s.Track
	}
	return out
}

// checkProfile is a way of asking a node over HTTP how it is.
type checkProfile struct {
	IPv4       bool
	Port       uint16
	Path, Host string
	Expect     string // status codes
	Interval   string // between two checks
	Timeout    string // of one
	Rise, Fall int32
}

// name of the backend that holds the checks of a profile.
func (p checkProfile) name(prefix string) string {
	family := "ipv6"
	if p.IPv4 {
		family = "ipv4"
	}
	sum := sha256.Sum256(fmt.Append(nil, p))
	return prefix + ".nodes." + family + "." + hex.EncodeToString(sum[:16]) // so long that nobody finds two of one name
}

// nodeCheck is one node that is checked in one way. All Services follow it.
type nodeCheck struct {
	checkProfile
	node    string
	address netip.Addr
}

// checkGroup is the checks of several nodes in one way.
type checkGroup struct {
	Name string
	checkProfile
	Servers []server
}

// spares is how many nodes can come before HAProxy must be reloaded for them: it lets
// nobody follow a server that came while it ran.
const spares = 4

// Spares wait for nodes. No node has such a name.
func (c checkGroup) Spares() []server {
	nowhere := netip.IPv6Unspecified()
	if c.IPv4 {
		nowhere = netip.IPv4Unspecified()
	}
	all := make([]server, spares)
	for i := range all {
		all[i] = server{Name: fmt.Sprintf("spare_%d", i+1), Address: netip.AddrPortFrom(nowhere, c.Port)}
	}
	return all
}

// groupChecks sorts checks into a backend for each profile.
func groupChecks(prefix string, checks []nodeCheck) []checkGroup {
	groups := map[checkProfile]*checkGroup{}
	for _, c := range checks {
		g := groups[c.checkProfile]
		if g == nil {
			g = &checkGroup{Name: c.name(prefix), checkProfile: c.checkProfile}
			groups[c.checkProfile] = g
		}
		g.Servers = append(g.Servers, server{Name: c.node, Address: netip.AddrPortFrom(c.address, c.Port)})
	}
	var all []checkGroup
	for _, g := range groups {
		slices.SortFunc(g.Servers, func(a, b server) int {
			return cmp.Or(strings.Compare(a.Name, b.Name), a.Address.Compare(b.Address))
		})
		all = append(all, *g)
	}
	slices.SortFunc(all, func(a, b checkGroup) int { return strings.Compare(a.Name, b.Name) })
	return all
}

// sharedChecks begins the names of the checks that all Services share.
const sharedChecks = "external-lb"

// mainOf prints the checks that Services share.
func mainOf(shared []engine.Shared) any {
	checks := make([]nodeCheck, len(shared))
	for i, c := range shared {
		checks[i] = c.(nodeCheck) // of viewOf
	}
	return groupChecks(sharedChecks, checks)
}

// viewOf refuses what cannot be printed safely or HAProxy cannot do: this is the last
// gate before a file that a daemon runs.
func viewOf(s *engine.Service) (engine.View, error) {
	id, frontends, err := capabilities.CheckService(name, s)
	if err != nil {
		return engine.View{}, err
	}
	printed := &service{ID: id, Frontends: make([]frontend, len(frontends))}
	own, shared := map[nodeCheck]bool{}, map[nodeCheck]bool{}
	out := engine.View{Data: printed}
	for i, f := range frontends {
		printed.Frontends[i], err = newFrontend(id, f, own, shared)
		if err != nil {
			return engine.View{}, fmt.Errorf("frontend %s: %w", f.Listener, err)
		}
		if s.MaxConnections > 0 {
			printed.Frontends[i].Share = share{engine.ServiceName(id), s.MaxConnections}
		}
		out.Listens = append(out.Listens, fileset.Socket{Network: "tcp", Address: printed.Frontends[i].Listen})
	}
	printed.Checks = groupChecks(engine.ServiceName(id), slices.Collect(maps.Keys(own)))
	for c := range shared {
		out.Shared = append(out.Shared, c)
	}
	return out, nil
}

func newFrontend(id lb.ID, f *engine.Frontend, own, shared map[nodeCheck]bool) (frontend, error) {
	set, address := f.Settings, netip.AddrPortFrom(f.Listener.Address, f.Listener.Port)
	v := frontend{
		Name:                    engine.FrontendName(id, address, "tcp"),
		Listen:                  address,
		AcceptProxy:             set.AcceptProxy,
		HTTP:                    set.Mode == lb.ModeHTTP,
		RedirectToHTTPS:         set.RedirectToHTTPS,
		MaxBodyBytes:            set.MaxBodyBytes,
		MaxHeaderBytes:          set.MaxHeaderBytes,
		RequestTimeout:          engine.Milliseconds(min(set.ClientIdle(), requestTimeout)),
		Restricted:              !f.Allow.Everybody,
		Sources:                 engine.Sources(f.Allow),
		ConnectTimeout:          engine.Milliseconds(set.ConnectTimeout),
		ClientTimeout:           engine.Milliseconds(set.ClientIdle()),
		ServerTimeout:           engine.Milliseconds(set.ServerIdle()),
		QueueTimeout:            engine.Milliseconds(set.QueueWait()),
		KeepAlive:               engine.Seconds(set.KeepAlive),
		ProbeEvery:              engine.ProbeEvery(set.KeepAlive),
		MaxQueue:                set.MaxQueue,
		AbortOnClose:            set.AbortOnClose,
		NoAccessLog:             set.NoAccessLog,
		Source:                  f.Source(),
		Retries:                 set.Retries,
		MaxConnections:          set.MaxConnections,
		MaxConnectionsPerClient: set.MaxConnectionsPerClient,
		MaxRatePerClient:        set.MaxRatePerClient,
		ServerParameters:        serverParameters(set),
		Pods:                    f.Pods,
		Certificate:             engine.TLSPath(set),
		Drain:                   engine.Seconds(set.Drain),
	}
	v.Balance, v.Consistent = balance(f)
	tracked := v.check(id, f)
	seen := map[string]bool{}
	for _, b := range f.Backends {
		if !lb.SafeNode(b.Node) || seen[b.Node] {
			return v, fmt.Errorf("the backend's node %.80q is not one name for one node", b.Node)
		}
		seen[b.Node] = true
		to := server{Name: b.Node, Address: b.Address, Backup: b.Backup}
		v.AllBackups = v.AllBackups || b.Backup
		if b.Share() > 1 {
			to.Weight = b.Share()
		}
		if tracked != nil {
			prefix, checks := sharedChecks, shared
			if tracked.Port == f.HealthCheckNodePort {
				prefix, checks = engine.ServiceName(id), own
			}
			checks[nodeCheck{*tracked, b.Node, b.Address.Addr()}] = true
			to.Track = tracked.name(prefix) + "/" + b.Node
		}
		v.Backends = append(v.Backends, to)
	}
	slices.SortFunc(v.Backends, func(a, b server) int { return strings.Compare(a.Name, b.Name) })
	if v.Consistent {
		identify(v.Backends)
	}
	return v, nil
}

// identify gives servers numbers by which HAProxy hashes clients. Its own are
// their positions, so that a node that leaves would move the clients of others.
func identify(servers []server) {
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

// check chooses how the nodes of a Frontend are judged. It returns the profile of
// the check that the servers track, if they do.
func (v *frontend) check(id lb.ID, f *engine.Frontend) *checkProfile {
	h := f.Settings.HealthCheck
	p := checkProfile{
		IPv4: f.Listener.Address.Is4(), Host: "localhost",
		Interval: engine.Milliseconds(h.Interval), Timeout: engine.Milliseconds(h.Timeout), Rise: h.Rise, Fall: h.Fall,
	}
	switch {
	case h.Type == lb.CheckAuto && f.Pods: // each answers for itself alone: by a connection
	case h.Type == lb.CheckAuto && f.HealthCheckNodePort > 0:
		p.Port, p.Path, p.Expect = f.HealthCheckNodePort, engine.KubeProxyPath, "200"
		return &p
	case h.Type == lb.CheckAuto:
		p.Port, p.Path, p.Expect = engine.KubeProxyPort, engine.KubeProxyPath, "200"
		return &p
	case h.Type == lb.CheckHTTP && h.Port > 0 && !h.TLS:
		p.Port, p.Path, p.Host, p.Expect = h.Port, h.Path, cmp.Or(h.Host, p.Host), h.Status.String()
		return &p
	case h.Type == lb.CheckHTTP:
		p.Path, p.Host, p.Expect = h.Path, cmp.Or(h.Host, id.Name+"."+id.Namespace), h.Status.String()
		v.HTTPCheck = &p
	case h.Type == lb.CheckTCP:
		v.Send, v.Expect = h.Send, h.Expect
	case h.Type == lb.CheckNone:
		return nil
	}
	v.CheckTimeout = p.Timeout
	v.ServerParameters = fmt.Sprintf(" check inter %s rise %d fall %d", p.Interval, p.Rise, p.Fall) + overTLS(h) + v.ServerParameters
	return nil
}

// overTLS are the parameters of a server that is asked over TLS, with a leading space.
func overTLS(h lb.HealthCheck) string {
	if !h.TLS || h.Type != lb.CheckHTTP {
		return ""
	}
	out := " check-ssl verify none"
	if h.Port > 0 {
		out += " port " + strconv.Itoa(int(h.Port))
	}
	return out
}

// balance chooses the algorithm. Affinity goes first.
func balance(f *engine.Frontend) (balance string, consistent bool) {
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

func serverParameters(set lb.Settings) string {
	parameters := ""
	if set.H2C {
		parameters += " proto h2"
	}
	if set.SlowStart > 0 {
		parameters += " slowstart " + engine.Milliseconds(set.SlowStart)
	}
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
