package lb

import "slices"

// Engine is the software on the hosts.
type Engine string

// The engines.
const (
	Nginx   Engine = "nginx"
	HAProxy Engine = "haproxy"
	LVS     Engine = "lvs"
)

// Engines lists every engine.
var Engines = []Engine{Nginx, HAProxy, LVS}

// Field is a setting of an UpstreamPolicy, named by its path in the kind, or by
// path=value where engines differ by value.
type Field string

// Support says what the engines do for a Field. An engine that is no key of a
// map can do it; the others have the reason, in words for a user.
type Support struct {
	Field    Field
	Missing  map[Engine]string // with every protocol
	UDP      map[Engine]string // with UDP or SCTP
	Affinity map[Engine]string // for a Service with sessionAffinity: ClientIP
	Note     map[Engine]string // can, with a difference that a user may notice
}

const (
	passive     = "nginx has no active checks: it judges a node by the connections that it makes to it"
	blind       = "nginx cannot tell whether a datagram arrived, so it neither judges nodes by UDP nor tries another one"
	flows       = "nginx spreads UDP by a hash of the client's address and port, so that a client stays on one node"
	glued       = "nginx would put the header into the first datagram"
	affinity    = "nginx has one way to choose a node, and the Service's sessionAffinity decides it: a hash of the client's address"
	affinityLVS = "hosts that share the traffic must send a client to the same node, and the Service's sessionAffinity decides it: a hash of the client's address"
	affinityToo = "HAProxy has one way to choose a node, and the Service's sessionAffinity decides it: a hash of the client's address"
	uncounted   = "connections from before a reload are not counted"
	forwarded   = "adds X-Forwarded-For and sets X-Forwarded-Proto; at a reload, a few requests on connections that are kept alive may have to be sent again"
	packets     = "LVS forwards packets in the kernel, and understands nothing of what is in them"
	plainLVS    = "LVS forwards packets in the kernel and terminates nothing; so that nobody is served in plain text, the port is not carried"
	overTCP     = "TLS is spoken over TCP; a port of another protocol is carried as it is"
	onlyLVS     = "only LVS has it"
	asked       = "asked over TCP, a port of another protocol would not answer; kube-proxy's health check says how the node is (Auto)"
	perServer   = "each node is asked for each port of each Service: with many of both, set spec.nodes.maxPerService or a longer interval"
	followed    = "kube-proxy's health check on port 10256 of each node, once for all Services; for a Service with externalTrafficPolicy: Local, its healthCheckNodePort"
)

var byAffinity = map[Engine]string{Nginx: affinity, HAProxy: affinityToo, LVS: affinityLVS}

// Capabilities is the one table of what engines can do: the statuses of
// policies, the documentation and the tests are made from it.
var Capabilities = []Support{
	{Field: "algorithm=RoundRobin", Affinity: byAffinity, Note: map[Engine]string{Nginx: "with UDP: " + flows}},
	{Field: "algorithm=LeastConnections", UDP: map[Engine]string{Nginx: flows}, Affinity: byAffinity},
	{Field: "algorithm=SourceHash"},
	{Field: "algorithm=Random", Missing: map[Engine]string{LVS: "IPVS has no such scheduler"}, UDP: map[Engine]string{Nginx: flows}, Affinity: byAffinity},
	{Field: "algorithm=DestinationHash", Missing: map[Engine]string{Nginx: onlyLVS, HAProxy: onlyLVS}, Affinity: byAffinity, Note: map[Engine]string{LVS: "all clients of one address are on one node"}},
	{Field: "algorithm=ShortestExpectedDelay", Missing: map[Engine]string{Nginx: onlyLVS, HAProxy: onlyLVS}, Affinity: byAffinity},
	{Field: "algorithm=NeverQueue", Missing: map[Engine]string{Nginx: onlyLVS, HAProxy: onlyLVS}, Affinity: byAffinity},
	{Field: "mode=TCP"},
	{Field: "mode=HTTP", Missing: map[Engine]string{Nginx: "nginx carries Services at layer 4, with its stream module", LVS: packets}, Note: map[Engine]string{HAProxy: forwarded}},
	{Field: "proxyProtocol.send=None"},
	{Field: "proxyProtocol.send=V1", Missing: map[Engine]string{LVS: packets + "; spec.lvs.forwarding: DR keeps the client's address"}, UDP: map[Engine]string{Nginx: glued}},
	{Field: "proxyProtocol.send=V2", Missing: map[Engine]string{Nginx: "nginx sends only version 1 of the PROXY protocol", LVS: packets + "; spec.lvs.forwarding: DR keeps the client's address"}},
	{Field: "proxyProtocol.accept", Missing: map[Engine]string{LVS: packets}, UDP: map[Engine]string{Nginx: "nginx does not accept the PROXY protocol over UDP"}},
	{Field: "timeouts.connect", Missing: map[Engine]string{LVS: "LVS makes no connections: clients connect to the nodes themselves"}, UDP: map[Engine]string{Nginx: "with UDP there is no connection to wait for"}},
	{Field: "timeouts.idle", Missing: map[Engine]string{LVS: "the kernel has one idle timeout for all connections (15 minutes for TCP, 5 for UDP): ipvsadm --set on the host changes it"}},
	{Field: "healthCheck.type=Auto", Note: map[Engine]string{Nginx: passive + "; " + blind, HAProxy: followed, LVS: "kube-proxy's health check on port 10256, or the Service's healthCheckNodePort; " + perServer}},
	{Field: "healthCheck.type=None"},
	{Field: "healthCheck.type=TCP", Missing: map[Engine]string{Nginx: passive}, UDP: map[Engine]string{LVS: asked}, Note: map[Engine]string{HAProxy: "a connection to the nodePort of each node, for each port of the Service", LVS: "a connection to the nodePort; " + perServer}},
	{Field: "healthCheck.type=HTTP", Missing: map[Engine]string{Nginx: passive}, UDP: map[Engine]string{LVS: asked}, Note: map[Engine]string{HAProxy: "a status of 200 to 399 is good", LVS: "a status of 200 to 399 is good; " + perServer}},
	{Field: "healthCheck.http", Missing: map[Engine]string{Nginx: passive}, Note: map[Engine]string{HAProxy: "with a port, each node is asked once for all Services that ask the same"}},
	{Field: "healthCheck.interval", UDP: map[Engine]string{Nginx: blind}, Note: map[Engine]string{Nginx: "in whole seconds, rounded up; a node that failed is left out for this long"}},
	{Field: "healthCheck.timeout", Missing: map[Engine]string{Nginx: passive + "; timeouts.connect bounds those"}, Note: map[Engine]string{LVS: "in whole seconds, rounded up"}},
	{Field: "healthCheck.rise", Missing: map[Engine]string{Nginx: passive + ", and uses it again after healthCheck.interval", LVS: "keepalived takes a node back at the first check that succeeds"}},
	{Field: "healthCheck.fall", UDP: map[Engine]string{Nginx: blind}, Note: map[Engine]string{Nginx: "connections that fail within healthCheck.interval; a node that is the only one is never left out"}},
	{Field: "maxConnections", Missing: map[Engine]string{LVS: "IPVS counts connections for each node: see maxConnectionsPerNode"}, Note: map[Engine]string{HAProxy: uncounted}},
	{Field: "maxConnectionsPerNode", Note: map[Engine]string{Nginx: uncounted, HAProxy: uncounted + "; a connection waits as long as timeouts.connect for a node with room", LVS: "connections that are not answered when all nodes are full; a connection that has ended counts for up to two minutes"}},
	{Field: "maxConnectionsPerClient", Missing: map[Engine]string{LVS: "IPVS does not count the connections of a client"}, Note: map[Engine]string{HAProxy: uncounted}},
	{Field: "retries", Missing: map[Engine]string{LVS: "LVS makes no connections: a client whose node does not answer tries again itself"}, UDP: map[Engine]string{Nginx: blind}},
	{Field: "drain", Missing: map[Engine]string{
		Nginx:   "established connections to a node that leaves live until they end, or until worker_shutdown_timeout of the host's nginx cuts them",
		HAProxy: "established connections to a node that leaves live until they end, or until haproxy.hardStopAfter of the host's settings cuts them",
		LVS:     "established connections to a node that fails its checks live on, and those to one that leaves the cluster end",
	}},
	{Field: "tls.secretRef", Missing: map[Engine]string{LVS: plainLVS}, UDP: map[Engine]string{Nginx: overTCP, HAProxy: overTCP}, Note: map[Engine]string{
		Nginx:   "TLS 1.2 and 1.3",
		HAProxy: "TLS 1.2 and 1.3; with mode=HTTP also HTTP/2, and X-Forwarded-Proto is https",
	}},
}

// Known reports whether a field is in Capabilities.
func Known(field Field) bool { return support(field) != nil }

func support(field Field) *Support {
	i := slices.IndexFunc(Capabilities, func(s Support) bool { return s.Field == field })
	if i < 0 {
		return nil
	}
	return &Capabilities[i]
}

// Unsupported says why an engine cannot do a field for a protocol, or "" if it can.
func (e Engine) Unsupported(field Field, p Protocol) string {
	s := support(field)
	if s == nil {
		return "no engine knows this setting"
	}
	if reason := s.Missing[e]; reason != "" || p == TCP {
		return reason
	}
	return s.UDP[e]
}

// Overruled says why a field does nothing for a Service with session affinity,
// or "" if it does.
func (e Engine) Overruled(field Field) string {
	if s := support(field); s != nil {
		return s.Affinity[e]
	}
	return ""
}

// Carries reports whether an engine can carry a protocol.
func (e Engine) Carries(p Protocol) bool {
	switch e {
	case Nginx:
		return p == TCP || p == UDP
	case HAProxy:
		return p == TCP
	case LVS:
		return p == TCP || p == UDP || p == SCTP
	}
	return false
}

// KeepsConnections reports whether connections to a node live on when it is no
// longer a Backend.
func (e Engine) KeepsConnections() bool { return e != LVS }
