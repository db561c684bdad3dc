package v1alpha1

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Engine is the software that carries the traffic on the hosts, or a provider.
// +kubebuilder:validation:Enum=nginx;haproxy;lvs;provider
type Engine string

// The engines.
const (
	EngineNginx   Engine = "nginx"
	EngineHAProxy Engine = "haproxy"
	EngineLVS     Engine = "lvs" // IPVS in the hosts' kernel, kept by keepalived
	// EngineProvider: no hosts, but the load balancers of a public cloud.
	EngineProvider Engine = "provider"
)

// Datagrams is the software that carries datagrams beside an engine.
// +kubebuilder:validation:Enum=LVS
type Datagrams string

// DatagramsLVS is IPVS in the hosts' kernel, kept by keepalived.
const DatagramsLVS Datagrams = "LVS"

// AnnotationProvider is another provider of LoadBalancer Services.
// +kubebuilder:validation:Enum=MetalLB
type AnnotationProvider string

// AnnotationsMetalLB are those of MetalLB.
const AnnotationsMetalLB AnnotationProvider = "MetalLB"

// BalancerSpec describes external machines and what they carry.
// +kubebuilder:validation:XValidation:rule="has(self.loadBalancerClass) == has(oldSelf.loadBalancerClass) && (!has(self.loadBalancerClass) || self.loadBalancerClass == oldSelf.loadBalancerClass)",message="loadBalancerClass is immutable, as that of Services is: create another Balancer for another class"
// +kubebuilder:validation:XValidation:rule="self.engine == oldSelf.engine",message="engine is immutable: create another Balancer and move the pools to it"
// +kubebuilder:validation:XValidation:rule="!has(self.publish) || !has(self.publish.minHosts) || self.publish.minHosts <= (has(self.hosts) ? size(self.hosts) : 1)",message="publish.minHosts is larger than the number of hosts: no address would ever be published"
// +kubebuilder:validation:XValidation:rule="!has(self.lvs) || (has(self.engine) && self.engine == 'lvs')",message="lvs is for engine lvs alone"
// +kubebuilder:validation:XValidation:rule="!has(self.datagrams) || !has(self.engine) || self.engine != 'lvs'",message="engine lvs carries datagrams itself: take datagrams out"
// +kubebuilder:validation:XValidation:rule="!has(self.datagrams) || !has(self.provider)",message="datagrams are for hosts: a provider carries what its cloud can"
// +kubebuilder:validation:XValidation:rule="!has(self.hosts) || self.hosts.all(h, self.hosts.exists_one(o, has(o.address) == has(h.address) && (!has(o.address) || o.address == h.address && o.port == h.port)))",message="two hosts are one machine: name each address and port once, and one host that is local"
// +kubebuilder:validation:XValidation:rule="!has(self.hosts) || self.hosts.exists(h, !has(h.drain) || !h.drain)",message="every host is drained: leave at least one that serves"
// +kubebuilder:validation:XValidation:rule="has(self.provider) == (has(self.engine) && self.engine == 'provider')",message="engine provider needs provider, and no other engine has one"
// +kubebuilder:validation:XValidation:rule="has(self.hosts) != has(self.provider)",message="a Balancer has hosts or, with engine provider, a provider"
// +kubebuilder:validation:XValidation:rule="!has(self.provider) || !has(self.virtualAddresses) || !has(self.virtualAddresses.mode) || self.virtualAddresses.mode == 'Static'",message="virtualAddresses are for hosts: with a provider, the cloud has the addresses"
// +kubebuilder:validation:XValidation:rule="!has(self.provider) || !has(self.controlPlane)",message="controlPlane is for hosts: a provider is asked for Services alone"
// +kubebuilder:validation:XValidation:rule="!has(self.nodes) || !has(self.nodes.backends) || self.nodes.backends != 'Pods' || !has(self.provider) && (!has(self.lvs) || !has(self.lvs.forwarding) || self.lvs.forwarding != 'DR')",message="nodes.backends: Pods is for hosts that send to pods themselves: neither for a provider nor for lvs.forwarding: DR"
type BalancerSpec struct {
	// engine is the software that carries the traffic on every host, or provider: the
	// load balancers of a public cloud, which spec.provider makes.
	// +optional
	// +kubebuilder:default=nginx
	Engine Engine `json:"engine,omitempty"`

	// datagrams lets other software on the same hosts carry what is not TCP. LVS: the
	// kernel carries UDP and SCTP, and keepalived keeps that; flows survive reloads. Each
	// host must be prepared for it: external-lb host install --datagrams lvs. Empty: the
	// engine carries UDP, if it can.
	// +optional
	Datagrams Datagrams `json:"datagrams,omitempty"`

	// loadBalancerClass selects the Services of this Balancer: those whose
	// spec.loadBalancerClass equals it. Default: external-lb.dev/ and the name of the Balancer.
	// Several Balancers may have one class: a Service is served by the one whose
	// pool has its addresses, and without addresses by the oldest that has a pool for it.
	// +optional
	// +kubebuilder:validation:MaxLength=316
	// +kubebuilder:validation:Pattern=`^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]$`
	LoadBalancerClass string `json:"loadBalancerClass,omitempty"`

	// default makes this Balancer serve Services without a class, too. Where
	// several Balancers say so, the oldest that has a pool for them serves them,
	// and the others are told. Those that have addresses are served by the one
	// whose pool has these. Taken away, those that no other Balancer serves lose
	// their addresses, and may get others when it is set again.
	// +optional
	Default bool `json:"default,omitempty"`

	// foreignAnnotations names other providers whose annotations on Services ask for
	// addresses and pools as ours do: those of MetalLB are metallb.io/loadBalancerIPs and
	// metallb.io/address-pool, and the same with metallb.universe.tf/. A Service whose
	// annotations ask for different things gets nothing new, and is told. Empty: they
	// are ignored.
	// +optional
	// +kubebuilder:validation:MaxItems=8
	// +listType=set
	ForeignAnnotations []AnnotationProvider `json:"foreignAnnotations,omitempty"`

	// hosts are the machines. All carry the same. A machine is there for
	// one Balancer: of several that name it, the oldest has it.
	// +optional
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	// +listType=map
	// +listMapKey=name
	Hosts []Host `json:"hosts,omitempty"`

	// provider makes the load balancers of a public cloud, one for each Service.
	// +optional
	Provider *Provider `json:"provider,omitempty"`

	// virtualAddresses says how the addresses of the pools come to the hosts.
	// +optional
	// +kubebuilder:default={}
	VirtualAddresses VirtualAddresses `json:"virtualAddresses,omitempty"`

	// lvs says how the engine lvs forwards.
	// +optional
	LVS *LVSSettings `json:"lvs,omitempty"`

	// controlPlane carries the API servers of the cluster, too: the address is for
	// kubeadm's controlPlaneEndpoint. Default: they are not carried.
	// +optional
	ControlPlane *ControlPlane `json:"controlPlane,omitempty"`

	// nodes says which nodes may be backends.
	// +optional
	// +kubebuilder:default={}
	Nodes NodeSelection `json:"nodes,omitempty"`

	// publish says when an address is written into a Service's status.
	// +optional
	// +kubebuilder:default={}
	Publish Publish `json:"publish,omitempty"`

	// reload limits how often the hosts reload.
	// +optional
	// +kubebuilder:default={}
	Reload Reload `json:"reload,omitempty"`

	// defaults are the settings of every Service of this Balancer, below any
	// UpstreamPolicy and above what is built in.
	// +optional
	Defaults UpstreamSettings `json:"defaults,omitempty"`
}

// Host is one balancer machine: reached over SSH, or by the agent's socket (local).
// +kubebuilder:validation:XValidation:rule="has(self.local) != has(self.address)",message="a host has either an address (reached over SSH) or local: {}"
// +kubebuilder:validation:XValidation:rule="has(self.local) || has(self.secretRef)",message="a host reached over SSH needs secretRef: a Secret with ssh-privatekey and known_hosts"
type Host struct {
	// name identifies the host in status, events and metrics.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`
	Name string `json:"name"`

	// address is where sshd listens: an IP address or a DNS name.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:Pattern=`^[A-Za-z0-9]([-A-Za-z0-9.]*[A-Za-z0-9])?$|^[0-9A-Fa-f:.]+$`
	Address string `json:"address,omitempty"`

	// port of sshd.
	// +optional
	// +kubebuilder:default=22
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	Port int32 `json:"port,omitempty"`

	// user to log in as. Its authorized_keys line restricts the key to
	// `external-lb host serve`.
	// +optional
	// +kubebuilder:default=external-lb
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:Pattern=`^[a-z_][-a-z0-9_]*$`
	User string `json:"user,omitempty"`

	// secretRef names a Secret in the controller's namespace with the keys
	// ssh-privatekey and known_hosts.
	// +optional
	SecretRef *corev1.LocalObjectReference `json:"secretRef,omitempty"`

	// drain takes the host out for maintenance: with VRRP its addresses go to
	// another host, and no address waits for its proof. It goes on serving what
	// still reaches it, and is kept up to date while it can be reached.
	// +optional
	Drain bool `json:"drain,omitempty"`

	// local: the host is the machine on which the controller runs. The controller
	// speaks to the socket of its agent, without SSH.
	// +optional
	Local *LocalHost `json:"local,omitempty"`
}

// LocalHost is the machine on which the controller runs.
type LocalHost struct{}

// VirtualAddressMode says who puts the addresses on the hosts.
// +kubebuilder:validation:Enum=Static;VRRP
type VirtualAddressMode string

// The modes.
const (
	// Static: the hosts have the addresses already.
	Static VirtualAddressMode = "Static"
	// VRRP: keepalived puts them on one host, and on another when that one fails.
	VRRP VirtualAddressMode = "VRRP"
)

// VirtualAddresses says how the addresses come to the hosts.
// +kubebuilder:validation:XValidation:rule="!has(self.mode) || self.mode != 'VRRP' || has(self.vrrp)",message="mode VRRP needs vrrp: the interface and the virtual router ID"
// +kubebuilder:validation:XValidation:rule="!has(self.vrrp) || (has(self.mode) && self.mode == 'VRRP')",message="vrrp is for mode VRRP alone"
type VirtualAddresses struct {
	// mode Static: the hosts have the addresses already (configured by their
	// owner, or routed to them). VRRP: keepalived on the hosts keeps all of them on
	// one host, the first of spec.hosts that works.
	// +optional
	// +kubebuilder:default=Static
	Mode VirtualAddressMode `json:"mode,omitempty"`

	// vrrp says how the hosts agree which of them has the addresses.
	// +optional
	VRRP *VRRPSettings `json:"vrrp,omitempty"`
}

// UsesVRRP reports whether one host has the addresses at a time.
func (s *BalancerSpec) UsesVRRP() bool { return s.VirtualAddresses.Mode == VRRP }

// VRRPSettings are those of one virtual router. Version 3 of the protocol is
// spoken, over IPv4; it carries addresses of both families.
type VRRPSettings struct {
	// interface of every host on which the hosts see each other, and which gets the
	// addresses.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=15
	// +kubebuilder:validation:Pattern=`^[A-Za-z0-9][-A-Za-z0-9_.]*$`
	Interface string `json:"interface"`

	// virtualRouterID tells this Balancer's hosts from other routers on the same
	// network segment: no two there may have the same.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=255
	VirtualRouterID int32 `json:"virtualRouterID"`

	// advertisementInterval is how often the active host says that it lives. When
	// it has not for about three times as long, another takes over.
	// +optional
	// +kubebuilder:default="1s"
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('10ms') && duration(self) <= duration('40s')",message="advertisementInterval is between 10ms and 40s, in whole hundredths of a second"
	// +kubebuilder:validation:XValidation:rule="duration(self).getMilliseconds() % 10 == 0",message="advertisementInterval is in whole hundredths of a second"
	AdvertisementInterval Duration `json:"advertisementInterval,omitempty"`
}

// Forwarding is how packets reach the nodes.
// +kubebuilder:validation:Enum=NAT;DR
type Forwarding string

// The ways of forwarding.
const (
	// ForwardNAT: to the nodePort, with the host's address as the client's.
	ForwardNAT Forwarding = "NAT"
	// ForwardDR: to the Service's port, with the client's address.
	ForwardDR Forwarding = "DR"
)

// LVSSettings say how the engine lvs forwards.
type LVSSettings struct {
	// forwarding NAT: to the nodePort of each node, which sees the host's address as
	// the client's; answers come back through the host. DR: to the Service's port on
	// each node, which sees the client's address and answers it without passing the
	// host. The hosts and the nodes must share a network segment for DR, and the
	// nodes' network must let them answer from the Service's address.
	// +optional
	// +kubebuilder:default=NAT
	Forwarding Forwarding `json:"forwarding,omitempty"`
}

// Direct reports whether packets reach the nodes as they came (DR).
func (s *BalancerSpec) Direct() bool { return s.LVS != nil && s.LVS.Forwarding == ForwardDR }

// Publish says when an address is written into a Service's status.
type Publish struct {
	// minHosts is how many hosts must prove that the configuration with the
	// Service is live before its address is published. Others that can be reached
	// and are about to prove it are waited for, too. With VRRP, the host that has
	// the addresses must be among those that proved it.
	// +optional
	// +kubebuilder:default=1
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=16
	MinHosts int32 `json:"minHosts,omitempty"`
}

// Reload limits how often the hosts reload.
type Reload struct {
	// minInterval between two reloads of one host, or two rounds of changes at a
	// provider. What only adds something waits for this and goes together. What withdraws or
	// changes something goes at once, with all that waits: a nodePort may be somebody else's by then.
	// Of a long series of changes, one round goes each second. Where workers of earlier configurations hold
	// nearly all the memory that they may, a namespace has one each ten seconds.
	// +optional
	// +kubebuilder:default="1s"
	// +kubebuilder:validation:XValidation:rule="duration(self) <= duration('10m')",message="minInterval is at most 10m"
	MinInterval Duration `json:"minInterval,omitempty"`
}

// HostState is what a host does.
// +kubebuilder:validation:Enum=Connecting;Delivering;InSync;Partial;Failed;Unreachable
type HostState string

// The states of a host.
const (
	HostConnecting  HostState = "Connecting"  // no answer yet since the controller started
	HostDelivering  HostState = "Delivering"  // a newer configuration is on its way
	HostInSync      HostState = "InSync"      // runs exactly what is desired, proved
	HostPartial     HostState = "Partial"     // runs what is desired but for refused Services
	HostFailed      HostState = "Failed"      // reached, but what is desired could not be made live
	HostUnreachable HostState = "Unreachable" // no connection: network, key, host key or user
)

// HostStatus is what one host was last seen to do.
type HostStatus struct {
	// name of the host in spec.hosts.
	Name string `json:"name"`
	// state of the host.
	State HostState `json:"state"`
	// digest of the model that the host proved to be live.
	// +optional
	Digest string `json:"digest,omitempty"`
	// desiredDigest is the digest of the model that it should carry.
	// +optional
	DesiredDigest string `json:"desiredDigest,omitempty"`
	// draining: the host is taken out by spec.hosts[].drain.
	// +optional
	Draining bool `json:"draining,omitempty"`
	// active: the host has the addresses, when it was asked last. With virtualAddresses.mode VRRP one host has them.
	// +optional
	Active bool `json:"active,omitempty"`
	// engineVersion is what the daemon on the host says of itself.
	// +optional
	EngineVersion string `json:"engineVersion,omitempty"`
	// lastAppliedTime is when the host last proved a new configuration.
	// +optional
	LastAppliedTime *metav1.Time `json:"lastAppliedTime,omitempty"`
	// message says why the host is not InSync, and what to do.
	// +optional
	Message string `json:"message,omitempty"`
	// notes are what else is to be told of the host, whatever its state.
	// +kubebuilder:validation:MaxItems=16
	// +optional
	// +listType=map
	// +listMapKey=reason
	Notes []HostNote `json:"notes,omitempty"`
}

// HostNote is something to be told of a host beside its state.
type HostNote struct {
	// reason in one word: Warns, ClockDiffers, DaemonRestarted, ConnectionsCrowded, FilesCrowded, MemoryCrowded,
	// OldWorkersCrowded or TrackedConnectionsCrowded.
	// +kubebuilder:validation:MaxLength=64
	Reason string `json:"reason"`
	// message says what it is and what to do.
	// +kubebuilder:validation:MaxLength=2048
	Message string `json:"message"`
}

// Note is the message of a note; "" if there is none of that reason.
func (h HostStatus) Note(reason string) string {
	for _, n := range h.Notes {
		if n.Reason == reason {
			return n.Message
		}
	}
	return ""
}

// BalancerStatus is what was last observed.
type BalancerStatus struct {
	// hosts, in the order of spec.hosts.
	// +optional
	// +listType=map
	// +listMapKey=name
	Hosts []HostStatus `json:"hosts,omitempty"`
	// provider is what the provider said last of its cloud. It counts until it says
	// something else, also while it cannot be reached.
	// +optional
	Provider *ProviderStatus `json:"provider,omitempty"`
	// hostsInSync counts the hosts that run what is desired, over all: "2/2".
	// +optional
	HostsInSync string `json:"hostsInSync,omitempty"`
	// loadBalancerClass in force.
	// +optional
	LoadBalancerClass string `json:"loadBalancerClass,omitempty"`
	// services that this Balancer serves.
	// +optional
	Services int32 `json:"services"`
	// nodes that are backends.
	// +optional
	Nodes int32 `json:"nodes"`
	// nodeSelector in force, in the form of kubectl's --selector: that of spec.nodes,
	// or what it was before if that cannot be read. Empty: all nodes.
	// +optional
	NodeSelector *string `json:"nodeSelector,omitempty"`
	// observedGeneration of the Balancer that this status is about.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// conditions: Ready, Stalled, Accepted, Programmed, Degraded.
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// Balancer is a set of external machines that carry the LoadBalancer Services
// of one class.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,shortName=bal,categories=external-lb
// +kubebuilder:printcolumn:name="Engine",type=string,JSONPath=`.spec.engine`
// +kubebuilder:printcolumn:name="Programmed",type=string,JSONPath=`.status.conditions[?(@.type=="Programmed")].status`
// +kubebuilder:printcolumn:name="Hosts",type=string,JSONPath=`.status.hostsInSync`
// +kubebuilder:printcolumn:name="Services",type=integer,JSONPath=`.status.services`
// +kubebuilder:printcolumn:name="Nodes",type=integer,JSONPath=`.status.nodes`
// +kubebuilder:printcolumn:name="Class",type=string,JSONPath=`.status.loadBalancerClass`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name="Message",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="Programmed")].message`
// +kubebuilder:validation:XValidation:rule="size(self.metadata.name) <= 63",message="the name of a Balancer has at most 63 characters"
type Balancer struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   BalancerSpec   `json:"spec"`
	Status BalancerStatus `json:"status,omitempty"`
}

// BalancerList is a list of Balancers.
// +kubebuilder:object:root=true
type BalancerList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []Balancer `json:"items"`
}
