package nginx

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/external-lb/external-lb/internal/engine"
	"github.com/external-lb/external-lb/internal/fileset"
	"github.com/external-lb/external-lb/internal/lb"
)

// service is what the templates print of a Service.
type service struct {
	ID        lb.ID
	Share     share
	Frontends []frontend // those of the stream block or those of the http block, sorted by Listener
}

// share is what the host's owner allows every Service. nginx counts the stream block and the
// http block apart, so a Service with ports in both has two.
type share struct {
	Zone           string // in which it is counted
	MaxConnections int    // 0: no limit
}

// frontend is what the templates print of a Frontend: an upstream with its
// servers, and a server that listens. Every string in it is printed from a
// number, a netip type or the parts of an lb.ID.
type frontend struct {
	Name                    string // of the upstream and its zones
	Listen                  string
	UDP                     bool
	HTTP                    bool   // requests are understood
	H2C                     bool   // and go to the nodes in HTTP/2, in plain text
	RedirectToHTTPS         bool   // they are not carried
	MaxBodyBytes            int64  // of one; 0: no limit
	MaxHeaderBytes          int32  // of one; 0: as many as the engine takes
	RequestTimeout          string // in which a client must have sent the head of one
	AcceptProxy             bool
	SendProxy               bool
	Restricted              bool
	Sources                 []netip.Prefix
	TrustedProxies          []netip.Prefix
	Backends                []string
	Balance                 string   // directive that chooses the server; "": round robin
	ServerParameters        string   // with a leading space; may be empty
	Backups                 []string // asked when every one of Backends is left out: nodes that wait for that, or some of them
	ConnectTimeout          string
	IdleTimeout             string // of a stream
	ClientTimeout           string // of HTTP, as ServerTimeout
	ServerTimeout           string
	KeepAlive, ProbeEvery   int64 // seconds of silence before TCP asks who is there, and between two questions; 0: it is not set
	NoAccessLog             bool
	Source                  netip.Addr // of connections to the nodes; the zero one: as the kernel chooses
	Retries                 int32
	MaxConnections          int32
	MaxConnectionsPerNode   int32
	MaxConnectionsPerClient int32
	MaxRatePerClient        int32
	Certificate             string // path below the root of the set; "": no TLS
	Share                   share  // of the Service

	socket fileset.Socket
}

// maxCounted is the largest number in limit_conn.
const maxCounted = 65535

// viewOf refuses what cannot be printed safely or nginx cannot do: this
// is the last gate before a file that a daemon runs.
func viewOf(s *engine.Service) (engine.View, error) {
	id, frontends, err := capabilities.CheckService(name, s)
	if err != nil {
		return engine.View{}, err
	}
	most := min(s.MaxConnections, maxCounted)
	stream := &service{ID: id, Share: share{engine.ServiceName(id) + ".share", most}}
	http := &service{ID: id, Share: share{engine.ServiceName(id) + ".http.share", most}}
	out, requests := engine.View{Data: stream}, engine.View{Data: http}
	for _, f := range frontends {
		if most := max(f.Settings.MaxConnections, f.Settings.MaxConnectionsPerClient); most > maxCounted {
			return engine.View{}, fmt.Errorf("frontend %s: nginx counts up to %d connections, not %d: lower the limit, or leave it out", f.Listener, maxCounted, most)
		}
		v, into, of := newFrontend(id, f), &out, stream
		if v.HTTP {
			into, of = &requests, http
		}
		v.Share = of.Share
		of.Frontends = append(of.Frontends, v)
		into.Listens = append(into.Listens, v.socket)
	}
	if len(http.Frontends) > 0 {
		out.HTTP = &requests
	}
	return out, nil
}

// requestTimeout keeps clients from holding connections with requests that never end.
const requestTimeout = 10 * time.Second

func newFrontend(id lb.ID, f *engine.Frontend) frontend {
	set, address := f.Settings, netip.AddrPortFrom(f.Listener.Address, f.Listener.Port)
	protocol := strings.ToLower(string(f.Listener.Protocol))
	v := frontend{
		Name:                    engine.FrontendName(id, address, protocol),
		Listen:                  address.String(),
		UDP:                     f.Listener.Protocol == lb.UDP,
		HTTP:                    set.Mode == lb.ModeHTTP,
		H2C:                     set.H2C,
		RedirectToHTTPS:         set.RedirectToHTTPS,
		MaxBodyBytes:            set.MaxBodyBytes,
		MaxHeaderBytes:          set.MaxHeaderBytes,
		RequestTimeout:          engine.Milliseconds(min(set.ClientIdle(), requestTimeout)),
		AcceptProxy:             set.AcceptProxy,
		SendProxy:               set.SendProxy == lb.ProxyV1,
		Restricted:              !f.Allow.Everybody,
		Sources:                 engine.Sources(f.Allow),
		Backends:                servers(f),
		Balance:                 balance(f),
		ServerParameters:        serverParameters(set),
		Backups:                 backups(id, f),
		ConnectTimeout:          engine.Milliseconds(set.ConnectTimeout),
		IdleTimeout:             engine.Milliseconds(set.IdleTimeout),
		ClientTimeout:           engine.Milliseconds(set.ClientIdle()),
		ServerTimeout:           engine.Milliseconds(set.ServerIdle()),
		KeepAlive:               keepAlive(f),
		ProbeEvery:              engine.ProbeEvery(set.KeepAlive),
		NoAccessLog:             set.NoAccessLog,
		Source:                  f.Source(),
		Retries:                 set.Retries,
		MaxConnections:          set.MaxConnections,
		MaxConnectionsPerNode:   set.MaxConnectionsPerNode,
		MaxConnectionsPerClient: set.MaxConnectionsPerClient,
		MaxRatePerClient:        set.MaxRatePerClient,
		Certificate:             engine.TLSPath(set),
		socket:                  fileset.Socket{Network: protocol, Address: address},
	}
	if v.AcceptProxy {
		v.TrustedProxies = trustedProxies(v.Sources, f)
	}
	return v
}

// keepAlive is for connections: UDP has none.
func keepAlive(f *engine.Frontend) int64 {
	if f.Listener.Protocol == lb.UDP {
		return 0
	}
	return engine.Seconds(f.Settings.KeepAlive)
}

// Probes that a client may leave without an answer.
func (f frontend) Probes() int { return engine.Probes }

// Tries is how many servers one connection is tried on.
func (f frontend) Tries() int32 { return f.Retries + 1 }

// Burst is how many requests may come at once beside the first one.
func (f frontend) Burst() int32 { return f.MaxRatePerClient - 1 }

// ZoneKilobytes is the size of the upstream's zone: 1.5 kB per server, and 64k at
// least, of which nginx itself takes a part.
func (f frontend) ZoneKilobytes() int { return max(64, ((len(f.Backends)+len(f.Backups))*3+1)/2) }

// Ciphers of TLS 1.2.
func (f frontend) Ciphers() string { return engine.Ciphers }

// OneWorkerPerFlow gives every worker a socket of its own, so that the datagrams of one
// UDP flow are one session, not one in each worker: kube-proxy takes each session for a
// client, and may send it to another pod.
func (f frontend) OneWorkerPerFlow() bool { return f.UDP }

// trustedProxies are the peers whose PROXY header is believed: those that may
// connect. A peer outside of the ranges is judged by its own address, so nobody
// lies his way in; one inside of them speaks for clients, which must be inside, too.
func trustedProxies(sources []netip.Prefix, f *engine.Frontend) []netip.Prefix {
	if !f.Allow.Everybody {
		return sources
	}
	everybody, _ := f.Listener.Address.Prefix(0) // of the peers' family; 0 bits are never too many
	return []netip.Prefix{everybody}
}

func byAddress(a, b engine.Backend) int { return a.Address.Compare(b.Address) }

// servers are printed in the order of their addresses. A hash has no weights: each
// unit of one is 160 points on the ring, and one that changes would move clients.
func servers(f *engine.Frontend) []string {
	hashed := strings.HasPrefix(balance(f), "hash ")
	var printed []string
	for _, b := range slices.SortedFunc(slices.Values(f.Backends), byAddress) {
		if b.Backup && takesBackups(f) {
			continue
		}
		printed = append(printed, b.Address.String())
		if weight := b.Share(); weight > 1 && !hashed {
			printed[len(printed)-1] += fmt.Sprintf(" weight=%d", weight)
		}
	}
	return printed
}

// takesBackups: nginx takes none with a hash or at random.
func takesBackups(f *engine.Frontend) bool { return balance(f) == "" || balance(f) == byConnections }

// waiting are the nodes that carry traffic only when no other is up. Who waits is never
// left out by itself: then nobody would be asked.
func waiting(f *engine.Frontend) []string {
	var printed []string
	for _, b := range slices.SortedFunc(slices.Values(f.Backends), byAddress) {
		if !b.Backup || !takesBackups(f) {
			continue
		}
		at := b.Address.String()
		if b.Share() > 1 {
			at += fmt.Sprintf(" weight=%d", b.Share())
		}
		if most := f.Settings.MaxConnectionsPerNode; most > 0 {
			at += fmt.Sprintf(" max_conns=%d", most)
		}
		printed = append(printed, at)
	}
	return printed
}

const byConnections = "least_conn"

// balance chooses the directive for the algorithm. Affinity goes first. A UDP client
// has a session of its own in every set of workers that a reload starts, and only a hash
// sends them to one node; so with UDP every algorithm that spreads is a hash of the
// client's address and port.
func balance(f *engine.Frontend) string {
	switch algorithm := f.Settings.Algorithm; {
	case f.Affinity > 0 || algorithm == lb.SourceHash:
		return "hash $remote_addr consistent"
	case f.Listener.Protocol == lb.UDP:
		return "hash $remote_addr:$remote_port consistent"
	case algorithm == lb.LeastConnections:
		return byConnections
	case algorithm == lb.Random:
		return "random"
	default:
		return ""
	}
}

// atLast is how many nodes are asked when all are left out: as many as one connection is
// tried on, with the default of retries.
const atLast = 3

// backups are nodes that are asked when every node is left out. Where all refuse at once,
// as kube-proxy does while a Service has no endpoints, that says nothing of the nodes:
// without backups nginx would refuse clients until healthCheck.interval is over. nginx
// counts their connections by themselves: then a limit for each node would be none. Where
// nodes wait for that moment, they are asked.
func backups(id lb.ID, f *engine.Frontend) []string {
	if behind := waiting(f); len(behind) > 0 {
		return behind
	}
	if !takesBackups(f) || f.Settings.HealthCheck.Type != lb.CheckAuto || f.Settings.MaxConnectionsPerNode > 0 || len(f.Backends) < 2 {
		return nil // one that is alone is never left out
	}
	name := func(b engine.Backend) string { return b.Address.String() }
	var printed []string
	for _, b := range slices.SortedFunc(slices.Values(lb.Choose(f.Backends, name, id.UID, atLast)), byAddress) {
		printed = append(printed, name(b))
	}
	return printed
}

func serverParameters(set lb.Settings) string {
	parameters := " max_fails=0"
	if set.HealthCheck.Type == lb.CheckAuto {
		parameters = fmt.Sprintf(" max_fails=%d fail_timeout=%ds", set.HealthCheck.Fall, engine.Seconds(set.HealthCheck.Interval))
	}
	if set.MaxConnectionsPerNode > 0 {
		parameters += fmt.Sprintf(" max_conns=%d", set.MaxConnectionsPerNode)
	}
	return parameters
}
