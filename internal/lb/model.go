package lb

import (
	"cmp"
	"fmt"
	"net/netip"
	"regexp"
	"time"
)

// Protocol is a transport protocol, spelled as in Kubernetes.
type Protocol string

// The protocols of a Service's port.
const (
	TCP  Protocol = "TCP"
	UDP  Protocol = "UDP"
	SCTP Protocol = "SCTP"
)

// Listener is where a balancer accepts traffic. No two Frontends of a Config
// have the same one.
type Listener struct {
	Address  netip.Addr
	Port     uint16
	Protocol Protocol
}

// String prints a Listener as 192.0.2.1:80/TCP.
func (l Listener) String() string {
	return fmt.Sprintf("%s/%s", netip.AddrPortFrom(l.Address, l.Port), l.Protocol)
}

// Compare orders Listeners by address, port and protocol.
func (l Listener) Compare(o Listener) int {
	return cmp.Or(l.Address.Compare(o.Address), cmp.Compare(l.Port, o.Port), cmp.Compare(l.Protocol, o.Protocol))
}

// ID names a Service. Its parts are in the alphabet [a-z0-9-], so that it can be
// a file's name and part of an identifier in any engine's configuration.
type ID struct {
	Namespace, Name string
	UID             string // of this life of the Service: one that is deleted and made again has another
}

var safe = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`)

// NewID checks that a Service's namespace, name and UID are safe to print. The
// API server guarantees it of every Service; manifests read from files need it.
func NewID(namespace, name, uid string) (ID, error) {
	for _, part := range [...]struct{ what, value string }{{"namespace", namespace}, {"name", name}, {"uid", uid}} {
		if !safe.MatchString(part.value) {
			return ID{}, fmt.Errorf("the Service's %s %.80q is not a DNS label", part.what, part.value)
		}
	}
	return ID{Namespace: namespace, Name: name, UID: uid}, nil
}

// String prints an ID as namespace/name.
func (id ID) String() string { return id.Namespace + "/" + id.Name }

// Compare orders IDs by namespace, name and UID.
func (id ID) Compare(o ID) int {
	return cmp.Or(cmp.Compare(id.Namespace, o.Namespace), cmp.Compare(id.Name, o.Name), cmp.Compare(id.UID, o.UID))
}

// Config is everything that one Balancer carries.
type Config struct {
	Services []*Service // sorted by ID
	VRRP     *VRRP      // nil: the hosts have the addresses already
}

// Service is one Kubernetes Service and the unit of a configuration: it is
// rendered, refused and withdrawn as a whole. It is not changed once made, so
// that what was made from it can be kept.
type Service struct {
	ID        ID
	Frontends []Frontend // sorted by Listener
}

// Frontend is one port of a Service on one of its addresses.
type Frontend struct {
	Listener Listener
	Backends []Backend // sorted by address; may be empty: nothing answers then
	Allow    Allow
	// Affinity keeps a client on one node for this long after its last
	// connection. 0: no affinity.
	Affinity time.Duration
	// HealthCheckNodePort answers on every node whether it has ready local
	// endpoints. 0: the Service has none.
	HealthCheckNodePort uint16
	// Direct: packets reach the nodes with the Listener's address still on them, and
	// answers go to the client without passing the balancer.
	Direct bool
	// NodePort answers on every node. 0: the Service has none, and is Direct.
	NodePort uint16
	Settings Settings
}

// Backend is a node that carries a Frontend.
type Backend struct {
	Node    string // name, in the alphabet [a-z0-9.-]
	Address netip.AddrPort
	// Weight is its share of new connections, measured by those of the others. 0 is 1.
	Weight uint16
	// Draining: it gets no new connections and keeps those that it has. Only an engine
	// that does not keep them by itself has such Backends.
	Draining bool
}

// MaxWeight is the largest that every engine takes.
const MaxWeight = 256

// Share is the weight that counts.
func (b Backend) Share() uint16 { return max(b.Weight, 1) }

// Allow is the set of clients that may connect.
type Allow struct {
	Everybody bool
	Sources   []netip.Prefix // masked, sorted, of the Listener's family; none and not Everybody: closed
}

// Settings are how one Frontend is carried: every level of precedence is
// resolved, so every field has its effective value.
type Settings struct {
	Algorithm               Algorithm
	Mode                    Mode
	SendProxy               ProxyProtocol
	AcceptProxy             bool
	ConnectTimeout          time.Duration
	IdleTimeout             time.Duration
	HealthCheck             HealthCheck
	MaxConnections          int32 // 0: no limit
	MaxConnectionsPerNode   int32 // 0: no limit
	MaxConnectionsPerClient int32 // 0: no limit
	Retries                 int32
	Drain                   time.Duration
	// Certificate with which TLS is terminated. nil: it is not.
	Certificate *Certificate
}

// Algorithm chooses the Backend of a new connection.
type Algorithm string

// The algorithms.
const (
	RoundRobin       Algorithm = "RoundRobin"
	LeastConnections Algorithm = "LeastConnections"
	SourceHash       Algorithm = "SourceHash"
	Random           Algorithm = "Random"
	// Those that IPVS alone has.
	DestinationHash       Algorithm = "DestinationHash"
	ShortestExpectedDelay Algorithm = "ShortestExpectedDelay"
	NeverQueue            Algorithm = "NeverQueue"
)

// Mode is what the balancer understands of the traffic.
type Mode string

// The modes.
const (
	ModeTCP  Mode = "TCP"
	ModeHTTP Mode = "HTTP"
)

// ProxyProtocol is the version of the PROXY protocol that Backends are sent.
type ProxyProtocol string

// The versions of the PROXY protocol.
const (
	ProxyNone ProxyProtocol = "None"
	ProxyV1   ProxyProtocol = "V1"
	ProxyV2   ProxyProtocol = "V2"
)

// HealthCheckType says how Backends are judged.
type HealthCheckType string

// The health checks.
const (
	CheckAuto HealthCheckType = "Auto"
	CheckTCP  HealthCheckType = "TCP"
	CheckHTTP HealthCheckType = "HTTP"
	CheckNone HealthCheckType = "None"
)

// HealthCheck says how Backends are judged.
type HealthCheck struct {
	Type              HealthCheckType
	Path              string // of CheckHTTP; in the alphabet [-A-Za-z0-9._~/%]
	Port              uint16 // of CheckHTTP; 0: the Backend's
	Interval, Timeout time.Duration
	Rise, Fall        int32
}
