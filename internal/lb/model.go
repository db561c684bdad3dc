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
// have the same one, but where the address is a Given one.
type Listener struct {
	Address  netip.Addr
	Port     uint16
	Protocol Protocol
}

// Given reports whether an address stands for the one that a provider's cloud gives: it is the
// unspecified one of its family. No host takes it.
func Given(a netip.Addr) bool { return a.IsUnspecified() }

// String prints a Listener as 192.0.2.1:80/TCP, and one of a Given address as IPv4:80/TCP.
func (l Listener) String() string {
	switch {
	case Given(l.Address) && l.Address.Is4():
		return fmt.Sprintf("IPv4:%d/%s", l.Port, l.Protocol)
	case Given(l.Address):
		return fmt.Sprintf("IPv6:%d/%s", l.Port, l.Protocol)
	}
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

// ControlPlane is the ID under which the API servers of the cluster are carried. It is no
// Kubernetes Service's: these have other UIDs.
var ControlPlane = ID{Namespace: "default", Name: "kubernetes", UID: "control-plane"}

var (
	safeLabel = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`)
	safeNode  = regexp.MustCompile(`^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$`)
	safePath  = regexp.MustCompile(`^/[-A-Za-z0-9._~/%]{0,255}$`)
	safeHex   = regexp.MustCompile(`^([0-9a-f]{2}){0,256}$`)

	safeCertificate = regexp.MustCompile(`^[0-9a-f]{32}$`)
)

// NewID checks that a Service's namespace, name and UID are safe to print. The
// API server guarantees it of every Service; manifests and hosts' peers need it.
func NewID(namespace, name, uid string) (ID, error) {
	for _, part := range [...]struct{ what, value string }{{"namespace", namespace}, {"name", name}, {"uid", uid}} {
		if !safeLabel.MatchString(part.value) {
			return ID{}, fmt.Errorf("the Service's %s %.80q is not a DNS label", part.what, part.value)
		}
	}
	return ID{Namespace: namespace, Name: name, UID: uid}, nil
}

// SafeOffer reports whether the name of what a provider offers is a DNS label, or there is none.
func SafeOffer(name string) bool { return name == "" || safeLabel.MatchString(name) }

// SafeNode reports whether a node's name is in the alphabet [a-z0-9.-].
func SafeNode(name string) bool { return safeNode.MatchString(name) }

// SafePath reports whether the path of a health check has only letters, digits and
// -._~/%, and begins with /.
func SafePath(path string) bool { return safePath.MatchString(path) }

// SafeHost reports whether the host of a health check is a name in the alphabet
// [a-z0-9.-], or none.
func SafeHost(host string) bool { return host == "" || safeNode.MatchString(host) }

// SafeHex reports whether what a health check sends or expects is at most 256 bytes in hex.
func SafeHex(bytes string) bool { return safeHex.MatchString(bytes) }

// SafeCertificate reports whether the name of a certificate is a sum in hex, or there is none.
func SafeCertificate(name string) bool { return name == "" || safeCertificate.MatchString(name) }

// String prints an ID as namespace/name.
func (id ID) String() string { return id.Namespace + "/" + id.Name }

// Compare orders IDs by namespace, name and UID.
func (id ID) Compare(o ID) int {
	return cmp.Or(cmp.Compare(id.Namespace, o.Namespace), cmp.Compare(id.Name, o.Name), cmp.Compare(id.UID, o.UID))
}

// Config is everything that one Balancer carries. Its size is that of Services
// plus nodes: Services name nodes by rule or by name and never hold their addresses.
type Config struct {
	Nodes        []Node         // that may be backends, sorted by name
	Services     []*Service     // sorted by ID
	Certificates []*Certificate // that Services name, sorted by name
	Addresses    []netip.Addr   // that the hosts bring, sorted; none: they have them already
	VRRP         *VRRP          // of one host; nil: hosts do not agree on addresses
}

// Node is a node of the cluster.
type Node struct {
	Name       string     // in the alphabet [a-z0-9.-]
	IPv4, IPv6 netip.Addr // the zero Addr: it has none of that family
	// Draining: it gets no new connections and keeps those that it has, unless every
	// node of a Service does: then none is better than another.
	Draining bool
	// Weight is its share of new connections, measured by those of the others. 0 is 1.
	Weight uint16
	// Backup: it carries a Service only while none of its other nodes is up.
	Backup bool
}

// Address of a family; the zero Addr: it has none.
func (n Node) Address(ipv4 bool) netip.Addr {
	if ipv4 {
		return n.IPv4
	}
	return n.IPv6
}

// Service is one Kubernetes Service and the unit of a configuration: it is
// sent, rendered and withdrawn as a whole. It is not changed once made, so
// that what was made from it can be kept.
type Service struct {
	ID        ID
	Frontends []Frontend // sorted by Listener
	// IPv4 and IPv6 are what Frontends of that family share.
	IPv4, IPv6 Family
	// Affinity keeps a client on one node for this long after its last
	// connection. 0: no affinity.
	Affinity time.Duration
	// HealthCheckNodePort answers on every node whether it has ready local
	// endpoints. 0: the Service has none.
	HealthCheckNodePort uint16
	// Direct: packets reach the nodes with the Listener's address still on them, and
	// answers go to the client without passing the balancer.
	Direct bool
	// Servers are the API servers of the cluster, sorted by name: of the ControlPlane alone.
	// They answer in the place of Targets, and need be no Nodes of the Config.
	Servers []Node
	// Pods: the Endpoints of each Frontend answer, in the place of Targets. nodePorts and
	// HealthCheckNodePort are those of the Service, and nothing is sent there.
	Pods bool
	// Flavor of a cloud's load balancer that is wanted: a DNS label. "": the provider's own.
	// Hosts have none.
	Flavor string
}

// Endpoints is how many there are, of all Frontends together.
func (s *Service) Endpoints() (n int) {
	for i := range s.Frontends {
		n += len(s.Frontends[i].Endpoints)
	}
	return n
}

// Ranges are those of which clients may come, of all Frontends together.
func (s *Service) Ranges() (n int) {
	for i := range s.Frontends {
		n += len(s.Family(s.Frontends[i].Listener.Address.Is4()).Clients.Sources)
	}
	return n
}

// Family is what a Service's Frontends of one address family share.
func (s *Service) Family(ipv4 bool) *Family {
	if ipv4 {
		return &s.IPv4
	}
	return &s.IPv6
}

// Family is who answers and who may connect.
type Family struct {
	Targets Targets
	Clients Clients
}

// Targets say which nodes answer.
type Targets struct {
	// All nodes that have an address of the family, or Limit of them (see ChooseBoth).
	All   bool
	Limit int // 0: none
	// Nodes, if not All: sorted by name, each once.
	Nodes []Target
}

// Target is a node by its name.
type Target struct {
	Node string
	// Weight is its share of new connections, measured by those of the others. 0: the node's.
	Weight uint16
	// Draining: it gets no new connections and keeps those that it has. Only an engine
	// that does not keep them by itself has such Targets.
	Draining bool
}

// MaxWeight is the largest that every engine takes.
const MaxWeight = 256

// Clients is the set of those that may connect.
type Clients struct {
	Everybody bool
	Sources   []netip.Prefix // masked, sorted, of the family; none and not Everybody: closed
}

// Frontend is one port of a Service on one of its addresses.
type Frontend struct {
	Listener Listener
	// NodePort answers on every node. 0: the Service has none, and is Direct or has Pods.
	NodePort uint16
	Settings Settings
	// Endpoints of a Service with Pods: sorted by address, no two with one, of the
	// Listener's family.
	Endpoints []Endpoint
}

// Endpoint is a pod, at the port that answers for a Frontend.
type Endpoint struct {
	Address netip.AddrPort
	// Draining: it gets no new connections and keeps those that it has. Only an engine
	// that does not keep them by itself has such Endpoints.
	Draining bool
}

// MaxFrontends of a Service: 100 ports on two addresses, and then some.
const MaxFrontends = 512

// MaxPods of a Frontend, MaxEndpoints of all Frontends of a Service, and MaxAllEndpoints of
// all Services that one host is sent.
const MaxPods, MaxEndpoints, MaxAllEndpoints = 1 << 11, 1 << 15, 1 << 20

// What all Services that one host is sent have together at most, well below what a host takes:
// the rest is for nodes, API servers and, of the bytes, for Endpoints.
const (
	MaxAllItems     = MaxItems / 4 * 3 // Services, their certificates, and addresses that hosts bring
	MaxAllFrontends = 1 << 17 / 4 * 3  // of those that a host carries
	MaxAllBytes     = MaxSetBytes / 2  // of their Items, see Bytes
)

// VRRP is how one host agrees with others which of them has the addresses: of
// those that work, the one with the highest priority.
type VRRP struct {
	Interface string        // in the alphabet [A-Za-z0-9_.-], 15 bytes at most
	RouterID  uint8         // 1 to 255; no other router on the network segment has it
	Interval  time.Duration // between advertisements, in hundredths of a second
	Priority  uint8         // 1 to 254
}
