package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// Algorithm chooses the node for a new connection.
// +kubebuilder:validation:Enum=RoundRobin;LeastConnections;SourceHash;Random;DestinationHash;ShortestExpectedDelay;NeverQueue
type Algorithm string

// The algorithms.
const (
	RoundRobin       Algorithm = "RoundRobin"
	LeastConnections Algorithm = "LeastConnections"
	SourceHash       Algorithm = "SourceHash"
	Random           Algorithm = "Random"

	DestinationHash       Algorithm = "DestinationHash"
	ShortestExpectedDelay Algorithm = "ShortestExpectedDelay"
	NeverQueue            Algorithm = "NeverQueue"
)

// Mode is what the balancer understands of the traffic.
// +kubebuilder:validation:Enum=TCP;HTTP
type Mode string

// The modes.
const (
	ModeTCP  Mode = "TCP"
	ModeHTTP Mode = "HTTP"
)

// ProxyProtocolVersion is a version of the PROXY protocol.
// +kubebuilder:validation:Enum=None;V1;V2
type ProxyProtocolVersion string

// The versions of the PROXY protocol.
const (
	ProxyProtocolNone ProxyProtocolVersion = "None"
	ProxyProtocolV1   ProxyProtocolVersion = "V1"
	ProxyProtocolV2   ProxyProtocolVersion = "V2"
)

// HealthCheckType says how the balancer judges a node.
// +kubebuilder:validation:Enum=Auto;TCP;HTTP;None
type HealthCheckType string

// The health checks.
const (
	HealthCheckAuto HealthCheckType = "Auto"
	HealthCheckTCP  HealthCheckType = "TCP"
	HealthCheckHTTP HealthCheckType = "HTTP"
	HealthCheckNone HealthCheckType = "None"
)

// Duration is a time span such as 500ms, 10s or 1h, between 1 ms and 24 h.
// +kubebuilder:validation:MaxLength=32
// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1ms') && duration(self) <= duration('24h')",message="a duration is between 1ms and 24h, such as 500ms, 10s or 1h"
type Duration string

// SourceAddress is an address (10.0.0.5), or a range of them (10.0.0.0/24), IPv4 or IPv6. A
// range begins with its first address.
// +kubebuilder:validation:MinLength=2
// +kubebuilder:validation:MaxLength=49
// +kubebuilder:validation:XValidation:rule="self.matches('^((25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])([.](25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])){3}(/(3[0-2]|[12]?[0-9]))?|[0-9A-Fa-f]*:[0-9A-Fa-f:]*:[0-9A-Fa-f:.]*(/(12[0-8]|1[01][0-9]|[1-9]?[0-9]))?)$')",message="an entry is an address, or a range such as 10.0.0.0/24"
type SourceAddress string

// DrainTime is a time span such as 30s or 5m, in whole seconds, between 1s and 1h.
// +kubebuilder:validation:MaxLength=32
// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]+h)?([0-9]+m)?([0-9]+s)?$') && duration(self) >= duration('1s') && duration(self) <= duration('1h')",message="a drain is between 1s and 1h, in whole seconds, such as 30s or 5m"
type DrainTime string

// UpstreamSettings tune how a balancer carries a Service. A field that is not
// set is decided by the next level: the policy for the port, the policy for the
// Service, the defaults of the Balancer, what is built in.
type UpstreamSettings struct {
	// algorithm that chooses the node for a new connection. DestinationHash,
	// ShortestExpectedDelay and NeverQueue are for the engine lvs alone. Built in:
	// RoundRobin.
	// +optional
	Algorithm Algorithm `json:"algorithm,omitempty"`
	// mode TCP forwards bytes; HTTP understands requests, with the engines nginx and
	// haproxy. Built in: TCP.
	// +optional
	Mode Mode `json:"mode,omitempty"`
	// +optional
	HTTP *HTTPSettings `json:"http,omitempty"`
	// +optional
	ProxyProtocol *ProxyProtocol `json:"proxyProtocol,omitempty"`
	// +optional
	Timeouts *Timeouts `json:"timeouts,omitempty"`
	// +optional
	HealthCheck *HealthCheck `json:"healthCheck,omitempty"`
	// maxConnections of one port of the Service on one host. 0: no limit.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=10000000
	MaxConnections *int32 `json:"maxConnections,omitempty"`
	// maxConnectionsPerNode of one port of the Service from one host. 0: no limit.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=10000000
	MaxConnectionsPerNode *int32 `json:"maxConnectionsPerNode,omitempty"`
	// maxQueue is how many connections to one port of the Service wait on one host for a
	// node with room, where maxConnectionsPerNode is set. One more is refused. 0: no limit.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=10000000
	MaxQueue *int32 `json:"maxQueue,omitempty"`
	// abortOnClose gives up what a client has asked for when the client closes its
	// connection: one that waits for a node with room, and with mode HTTP a request that
	// waits for an answer. A client that closes its side alone, and waits, is given up,
	// too. Built in: false.
	// +optional
	AbortOnClose *bool `json:"abortOnClose,omitempty"`
	// maxConnectionsPerClient address, of one port of the Service on one host. 0: no limit.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=10000000
	MaxConnectionsPerClient *int32 `json:"maxConnectionsPerClient,omitempty"`
	// maxRatePerClient address: new connections per second, to one port of the Service on
	// one host. nginx, with mode HTTP alone, counts requests instead. 0: no limit.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=1000000
	MaxRatePerClient *int32 `json:"maxRatePerClient,omitempty"`
	// accessLog false keeps connections and requests of the Service out of the logs of the
	// hosts' daemons. Built in: true, they are logged as the hosts' owner has it.
	// +optional
	AccessLog *bool `json:"accessLog,omitempty"`
	// retries on another node when a connection to one cannot be made. Built in: 2.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=15
	Retries *int32 `json:"retries,omitempty"`
	// slowStart is the time in which a node that failed its checks, and passes them again,
	// comes to its whole share of connections. Built in: it has it at once.
	// +optional
	SlowStart Duration `json:"slowStart,omitempty"`
	// sourceAddresses are those of the hosts from which they connect to nodes: an address, or
	// a range such as 10.0.0.0/24, for each address family. Each host takes the first address
	// in it that the host's owner admits (admit.sources in its host.yaml), and refuses the
	// ports for which there is none. Who may connect is loadBalancerSourceRanges of the
	// Service. Built in: as the kernel of each host chooses.
	// +optional
	// +kubebuilder:validation:MaxItems=2
	// +kubebuilder:validation:XValidation:rule="size(self) < 2 || self[0].contains(':') != self[1].contains(':')",message="sourceAddresses has one entry for each address family"
	// +listType=atomic
	SourceAddresses []SourceAddress `json:"sourceAddresses,omitempty"`
	// drain is for how long TCP connections are served to a node that gets no new ones any
	// more, because it leaves or has no endpoint of the Service left, and those of a port or
	// Service that is deleted. What is left then is ended. Built in: none is ended for that.
	// +optional
	Drain DrainTime `json:"drain,omitempty"`
}

// HTTPSettings are for mode HTTP.
type HTTPSettings struct {
	// redirectToHTTPS answers each request with a redirect, with status 308, to the same
	// name and path with https, on port 443. A port at which TLS is terminated is carried.
	// Built in: false.
	// +optional
	RedirectToHTTPS *bool `json:"redirectToHTTPS,omitempty"`
	// maxBodyBytes of a request. A longer one is answered with status 413. 0: no limit.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=1099511627776
	MaxBodyBytes *int64 `json:"maxBodyBytes,omitempty"`
	// maxHeaderBytes of a request, all headers together, 1024 to 65536. A longer one is
	// answered with status 400. 0: what the engine takes: nginx 32 KiB, and 8 KiB of one
	// header; HAProxy some 15 KiB.
	// +optional
	// +kubebuilder:validation:XValidation:rule="self == 0 || self >= 1024 && self <= 65536",message="maxHeaderBytes is between 1024 and 65536, or 0"
	MaxHeaderBytes *int32 `json:"maxHeaderBytes,omitempty"`
}

// ProxyProtocol carries the client's address to the pods, and from a balancer
// in front of this one.
type ProxyProtocol struct {
	// send the PROXY protocol to the nodes. Built in: None.
	// +optional
	Send ProxyProtocolVersion `json:"send,omitempty"`
	// accept the PROXY protocol from clients, which must then send it.
	// +optional
	Accept *bool `json:"accept,omitempty"`
}

// Timeouts of connections.
// +kubebuilder:validation:XValidation:rule="!has(self.keepAlive) || duration(self.keepAlive) >= duration('1s') && duration(self.keepAlive) <= duration('9h')",message="keepAlive is between 1s and 9h"
type Timeouts struct {
	// connect to a node. Built in: 1s.
	// +optional
	Connect Duration `json:"connect,omitempty"`
	// idle time after which a connection (a session, with UDP) is closed.
	// Built in: 10m, 10s with UDP.
	// +optional
	Idle Duration `json:"idle,omitempty"`
	// client replaces idle on the client's side; with mode HTTP also between two requests.
	// With mode TCP each side has its time, and the shorter one ends the connection.
	// Built in: as idle.
	// +optional
	Client Duration `json:"client,omitempty"`
	// server replaces idle on the node's side; with mode HTTP, how long an answer may be
	// waited for. Built in: as idle.
	// +optional
	Server Duration `json:"server,omitempty"`
	// queue is how long a connection waits for a node with room, where
	// maxConnectionsPerNode is set. Built in: as connect.
	// +optional
	Queue Duration `json:"queue,omitempty"`
	// keepAlive is after how much silence a client, and with HAProxy a node, is asked by TCP
	// whether it is there still, 1s to 9h. One that answers no three probes in a row has gone.
	// Built in: as the host has it.
	// +optional
	KeepAlive Duration `json:"keepAlive,omitempty"`
}

// HealthCheck says how the balancer judges a node.
// +kubebuilder:validation:XValidation:rule="!has(self.http) || !has(self.type) || self.type == 'HTTP'",message="http is for checks of type HTTP: set type to HTTP, or leave it out"
// +kubebuilder:validation:XValidation:rule="!has(self.tcp) || !has(self.type) || self.type == 'TCP'",message="tcp is for checks of type TCP: set type to TCP, or leave it out"
// +kubebuilder:validation:XValidation:rule="!has(self.tcp) || !has(self.http)",message="a check is of type HTTP or of type TCP: set http or tcp"
// +kubebuilder:validation:XValidation:rule="!has(self.interval) || duration(self.interval) >= duration('100ms')",message="checks are 100ms apart at least"
type HealthCheck struct {
	// type Auto: what the engine does best. Built in: Auto; HTTP where http is set, TCP
	// where tcp is.
	// +optional
	Type HealthCheckType `json:"type,omitempty"`
	// http says what an HTTP check asks for, and that it is one.
	// +optional
	HTTP *HTTPHealthCheck `json:"http,omitempty"`
	// tcp says what a TCP check sends and wants to hear, and that it is one.
	// +optional
	TCP *TCPHealthCheck `json:"tcp,omitempty"`
	// interval between two checks, 100ms at least. Built in: 2s. Checks that are made for
	// a Service alone are further apart where there is much to ask: all Services of a
	// Balancer together ask 10,000 times a second, on each host, and each has the same share
	// of it. So with 500 nodes, 100 Services and one port it is 13s. No check is
	// more than a minute apart because of that.
	// +optional
	Interval Duration `json:"interval,omitempty"`
	// timeout of one check. Built in: 1s.
	// +optional
	Timeout Duration `json:"timeout,omitempty"`
	// rise is how many checks in a row must pass before a node is used again.
	// Built in: 2.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100
	Rise *int32 `json:"rise,omitempty"`
	// fall is how many checks (with passive checks: connections) in a row must
	// fail before a node is left out. Built in: 3; 1 with passive checks (nginx).
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100
	Fall *int32 `json:"fall,omitempty"`
}

// HTTPHealthCheck says what an HTTP check asks for.
type HTTPHealthCheck struct {
	// path to request.
	// +optional
	// +kubebuilder:default="/"
	// +kubebuilder:validation:MaxLength=256
	// +kubebuilder:validation:Pattern=`^/[-A-Za-z0-9._~/%]*$`
	Path string `json:"path,omitempty"`
	// port on the node: a nodePort of the Service, its healthCheckNodePort, or 10256,
	// kube-proxy's. With another one a policy is refused: the hosts would look into other
	// tenants' Services. In the defaults of a Balancer it may be any that the hosts' owner
	// admits. Default: the nodePort.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	Port *int32 `json:"port,omitempty"`
	// host is the request's Host header. Built in: with HAProxy NAME.NAMESPACE of the
	// Service, localhost where port is set; else the node's address.
	// +optional
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$`
	Host string `json:"host,omitempty"`
	// status of a good answer, such as 204, or a range, 200-299. Built in: 200-399.
	// +optional
	// +kubebuilder:validation:MaxLength=7
	// +kubebuilder:validation:Pattern=`^[1-5][0-9]{2}(-[1-5][0-9]{2})?$`
	Status string `json:"status,omitempty"`
}

// TCPHealthCheck says what a TCP check sends, and what it wants to hear. Without either, a
// connection that can be made is enough.
type TCPHealthCheck struct {
	// send this when the connection is open, 256 bytes at most. A line that ends as many
	// protocols want it is "PING\r\n", with the double quotes of YAML.
	// +optional
	// +kubebuilder:validation:MaxLength=256
	Send string `json:"send,omitempty"`
	// expect is what a good answer has in it, 256 bytes at most.
	// +optional
	// +kubebuilder:validation:MaxLength=256
	Expect string `json:"expect,omitempty"`
}

// PolicyTargetReference names a Service in the policy's namespace, or one port of it.
type PolicyTargetReference struct {
	// kind of the target.
	// +optional
	// +kubebuilder:default=Service
	// +kubebuilder:validation:Enum=Service
	Kind string `json:"kind,omitempty"`
	// name of the Service.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Name string `json:"name"`
	// sectionName is the name of one port. Empty: all ports.
	// +optional
	// +kubebuilder:validation:MaxLength=63
	SectionName string `json:"sectionName,omitempty"`
}

// UpstreamPolicySpec tunes the upstreams of Services in its namespace.
type UpstreamPolicySpec struct {
	// targetRefs are the Services, or single ports of them, that this is for.
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=64
	// +listType=atomic
	TargetRefs []PolicyTargetReference `json:"targetRefs"`

	UpstreamSettings `json:",inline"`

	// tls is terminated by the balancer, at the TCP ports of the targets: the nodes
	// get plain text. Such a port is never served without TLS.
	// +optional
	TLS *TLS `json:"tls,omitempty"`
}

// TLS that the balancer terminates.
type TLS struct {
	// secretRef names a Secret of type kubernetes.io/tls in the policy's namespace:
	// the certificate and those of its issuers in tls.crt, the key in tls.key. A
	// change of it goes to the hosts by itself. The controller needs the right to
	// read it: config/components/tls.
	SecretRef SecretReference `json:"secretRef"`
}

// SecretReference names a Secret in the namespace of what refers to it.
type SecretReference struct {
	// name of the Secret.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$`
	Name string `json:"name"`
}

// PolicyTargetStatus is what a policy does for one target.
type PolicyTargetStatus struct {
	// targetRef as in the spec.
	TargetRef PolicyTargetReference `json:"targetRef"`
	// balancer that carries the target.
	// +optional
	Balancer string `json:"balancer,omitempty"`
	// conditions: Accepted, Conflicted, Unsupported; CertificateReady with tls.
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// UpstreamPolicyStatus is what was last observed.
type UpstreamPolicyStatus struct {
	// targets, in the order of spec.targetRefs.
	// +optional
	// +listType=atomic
	Targets []PolicyTargetStatus `json:"targets,omitempty"`
	// accepted is True when every target is, for the printer column.
	// +optional
	Accepted string `json:"accepted,omitempty"`
	// message sums up what is wrong.
	// +optional
	Message string `json:"message,omitempty"`
	// observedGeneration of the UpstreamPolicy that this status is about.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// conditions: Ready, Stalled.
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// UpstreamPolicy tunes how a balancer carries Services.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Namespaced,shortName=upol,categories=external-lb
// +kubebuilder:printcolumn:name="Targets",type=string,JSONPath=`.spec.targetRefs[*].name`
// +kubebuilder:printcolumn:name="Accepted",type=string,JSONPath=`.status.accepted`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name="Message",type=string,priority=1,JSONPath=`.status.message`
type UpstreamPolicy struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   UpstreamPolicySpec   `json:"spec"`
	Status UpstreamPolicyStatus `json:"status,omitempty"`
}

// UpstreamPolicyList is a list of UpstreamPolicies.
// +kubebuilder:object:root=true
type UpstreamPolicyList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []UpstreamPolicy `json:"items"`
}
