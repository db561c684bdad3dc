package provider

import (
	"net/netip"
	"strconv"
)

// ID is whose load balancer it is, and the tag by which its objects are found in the cloud.
// What does not bear it, or bears another, is a stranger's and is never touched.
type ID struct {
	Cluster string // a label: the UID of its namespace kube-system, and a sum of the Balancer's name
	Service string // the Service's UID
}

// Spec is all that is wanted of one load balancer.
type Spec struct {
	// Namespace and Name are the Service's: for people who look at the cloud's objects, and
	// for a client that knows of the load balancer only from a List.
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name,omitempty"`
	// Flavor is the size and charge that is wanted, one of Capabilities.Flavors. "": the
	// provider's own. The cloud refuses one that it does not know where it has no load
	// balancer yet; one that is there goes on to be kept right.
	Flavor string `json:"flavor,omitempty"`
	// Families are those of which the load balancer has an address: one or two.
	Families  []Family   `json:"families,omitempty"`
	Listeners []Listener `json:"listeners,omitempty"`
	// AffinitySeconds keeps a client on one member for this long after its last connection.
	// 0: no affinity.
	AffinitySeconds int32 `json:"affinitySeconds,omitempty"`
}

// IPFamily is spelled as in Kubernetes.
type IPFamily string

// The families.
const (
	IPv4 IPFamily = "IPv4"
	IPv6 IPFamily = "IPv6"
)

// Has reports whether an address is of the family.
func (f IPFamily) Has(a netip.Addr) bool { return a.Is4() == (f == IPv4) && a.IsValid() }

// Family is who may connect to the addresses of one family, and who answers there.
type Family struct {
	Family IPFamily `json:"family"`
	// Address is wanted. The zero Addr: the cloud chooses.
	Address netip.Addr `json:"address,omitzero"`
	// Sources are those of which clients may come; a /0, alone, is everybody, and none is nobody.
	Sources []netip.Prefix `json:"sources,omitempty"`
	// Members are the nodes. Each gets what arrives at a Listener at its NodePort.
	Members []Member `json:"members,omitempty"`
}

// Member is a node.
type Member struct {
	Address netip.Addr `json:"address"`
	// Weight is its share of new connections, measured by those of the others: 1 to 256.
	Weight int32 `json:"weight"`
}

// Protocol is a transport protocol, spelled as in Kubernetes.
type Protocol string

// The protocols.
const (
	TCP  Protocol = "TCP"
	UDP  Protocol = "UDP"
	SCTP Protocol = "SCTP"
)

var protocols = []Protocol{TCP, UDP, SCTP}

// Listener is one port of the load balancer.
type Listener struct {
	Port     uint16   `json:"port"`
	Protocol Protocol `json:"protocol"`
	NodePort uint16   `json:"nodePort"`
	Settings Settings `json:"settings,omitzero"`
	// Certificate is the name of one of Capabilities.Certificates, with which TLS is terminated.
	// "": it is not. One that the cloud does not know, it refuses: such a Listener is never
	// opened without TLS.
	Certificate string `json:"certificate,omitempty"`
}

// String prints a Listener as 80/TCP.
func (l Listener) String() string { return strconv.Itoa(int(l.Port)) + "/" + string(l.Protocol) }

// Settings say how a Listener is carried. Each one that the provider is able to do for the
// protocol is there at its effective value, and no other. See Capabilities.Prune.
type Settings struct {
	Algorithm                  string      `json:"algorithm,omitempty"`
	Mode                       string      `json:"mode,omitempty"`
	SendProxy                  string      `json:"sendProxy,omitempty"`
	AcceptProxy                bool        `json:"acceptProxy,omitempty"`
	ConnectTimeoutMilliseconds int32       `json:"connectTimeoutMilliseconds,omitempty"`
	IdleTimeoutMilliseconds    int32       `json:"idleTimeoutMilliseconds,omitempty"`
	HealthCheck                HealthCheck `json:"healthCheck,omitzero"`
	MaxConnections             int32       `json:"maxConnections,omitempty"`          // 0: no limit
	MaxConnectionsPerNode      int32       `json:"maxConnectionsPerNode,omitempty"`   // 0: no limit
	MaxConnectionsPerClient    int32       `json:"maxConnectionsPerClient,omitempty"` // 0: no limit
	Retries                    int32       `json:"retries,omitempty"`
}

// HealthCheck says how members are judged. With None nothing else is there.
type HealthCheck struct {
	Type                 string `json:"type,omitempty"`
	Path                 string `json:"path,omitempty"` // of HTTP
	Port                 uint16 `json:"port,omitempty"` // of HTTP; 0: the NodePort
	IntervalMilliseconds int32  `json:"intervalMilliseconds,omitempty"`
	TimeoutMilliseconds  int32  `json:"timeoutMilliseconds,omitempty"`
	Rise                 int32  `json:"rise,omitempty"`
	Fall                 int32  `json:"fall,omitempty"`
}

// Values of Settings.
const (
	RoundRobin            = "RoundRobin"
	LeastConnections      = "LeastConnections"
	SourceHash            = "SourceHash"
	Random                = "Random"
	DestinationHash       = "DestinationHash"
	ShortestExpectedDelay = "ShortestExpectedDelay"
	NeverQueue            = "NeverQueue"

	ModeTCP  = "TCP"
	ModeHTTP = "HTTP"

	ProxyNone = "None"
	ProxyV1   = "V1"
	ProxyV2   = "V2"

	CheckNone = "None"
	CheckTCP  = "TCP"
	CheckHTTP = "HTTP"
)

// State is what became of a load balancer.
type State string

// The states. A load balancer that is gone has none: it is NotFound.
const (
	Pending  State = "Pending"  // the cloud is still at work, or the provider has to be asked again
	Live     State = "Live"     // what was read back carries traffic; whether it is what is wanted, the digest says
	Failed   State = "Failed"   // it does not come to be without somebody's help: see Reason
	Deleting State = "Deleting" // it goes; only NotFound says that it is gone
)

// LoadBalancer is what a provider answers.
type LoadBalancer struct {
	Service   string `json:"service"` // its UID
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	State     State  `json:"state"`
	// Digest is Spec.Digest of what was read back from the cloud.
	Digest    string    `json:"digest,omitempty"`
	Addresses []Address `json:"addresses,omitempty"`
	// Refused are Listeners that the cloud does not take. The digest is of the others.
	Refused []Refusal `json:"refused,omitempty"`
	Reason  Code      `json:"reason,omitempty"`  // of Failed, and of Pending where something holds it up
	Message string    `json:"message,omitempty"` // the same in words
	// RetryAfterSeconds is when to ask again; 0: as the client likes.
	RetryAfterSeconds int32 `json:"retryAfterSeconds,omitempty"`
	// Calls are those of the cloud's API that this answer took. Of a List, the sum over all its
	// pages is what it took: which load balancer has them does not matter.
	Calls Calls `json:"calls,omitzero"`
}

// Address is where a load balancer is reached.
type Address struct {
	Family   IPFamily   `json:"family"`
	IP       netip.Addr `json:"ip,omitzero"`
	Hostname string     `json:"hostname,omitempty"` // where the cloud has no lasting IP
}

// Refusal is one Listener that is left out.
type Refusal struct {
	Port     uint16   `json:"port"`
	Protocol Protocol `json:"protocol"`
	Reason   Code     `json:"reason"`
	Message  string   `json:"message"`
}

// Calls of a cloud's API: what a change costs.
type Calls struct {
	Reads  int32 `json:"reads,omitempty"`
	Writes int32 `json:"writes,omitempty"`
}

// List is a page of a cluster's load balancers, sorted by Service.
type List struct {
	LoadBalancers []LoadBalancer `json:"loadBalancers"`
	More          bool           `json:"more,omitempty"` // ask again, after the last one
}
