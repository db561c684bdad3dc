package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// SharingPolicy says whether Services may share an address.
// +kubebuilder:validation:Enum=None;Ports
type SharingPolicy string

// The sharing policies.
const (
	// SharingNone: one Service per address.
	SharingNone SharingPolicy = "None"
	// SharingPorts: Services whose (protocol, port) pairs do not collide may share an address.
	SharingPorts SharingPolicy = "Ports"
)

// LostPortsPolicy says whether a Service moves that would lose ports by that.
// +kubebuilder:validation:Enum=Stay;Move
type LostPortsPolicy string

// The policies of lost ports.
const (
	// LostPortsStay: it stays where it is, and so do all who share an address with it.
	LostPortsStay LostPortsPolicy = "Stay"
	// LostPortsMove: it moves without these ports.
	LostPortsMove LostPortsPolicy = "Move"
)

// AddressRange is a prefix (192.0.2.0/28), a range (192.0.2.64-192.0.2.80) or
// one address (198.51.100.7), IPv4 or IPv6. A prefix begins with its first address. The
// schema looks at the shape; the condition Accepted says what else is wrong. Provider, alone,
// is what the cloud of a Balancer's provider gives.
// +kubebuilder:validation:MinLength=2
// +kubebuilder:validation:MaxLength=91
// +kubebuilder:validation:XValidation:rule="self == 'Provider' || self.matches('^((25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])([.](25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])){3}(/(3[0-2]|[12]?[0-9])| *- *(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])([.](25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])){3})?|[0-9A-Fa-f]*:[0-9A-Fa-f:]*:[0-9A-Fa-f:.]*(/(12[0-8]|1[01][0-9]|[1-9]?[0-9])| *- *[0-9A-Fa-f]*:[0-9A-Fa-f:]*:[0-9A-Fa-f:.]*)?)$')",message="an entry is an address, a prefix (192.0.2.0/28) or a range (192.0.2.64-192.0.2.80), or Provider"
type AddressRange string

// AddressesOfProvider are those that the cloud of a Balancer's provider gives.
const AddressesOfProvider AddressRange = "Provider"

// AddressPoolSpec describes addresses that a Balancer may assign.
// +kubebuilder:validation:XValidation:rule="!self.addresses.exists(a, a == 'Provider') || size(self.addresses) == 1",message="addresses: Provider stands alone: make another pool for addresses that you name"
// +kubebuilder:validation:XValidation:rule="!self.addresses.exists(a, a == 'Provider') || !has(self.sharing) || self.sharing == 'None'",message="what a cloud gives is one Service's: sharing is for addresses that you name"
type AddressPoolSpec struct {
	// balancer that assigns these addresses. When it is changed, Services that
	// the other Balancer may serve, too (it has their class), move there and keep
	// their addresses: the new one proves them before the old one withdraws them.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Balancer string `json:"balancer"`

	// keepOn names Balancers that go on carrying the Services of this pool that
	// move away from them: both carry them until the name is taken out again. For
	// whoever must route the traffic to the other hosts by hand.
	// +optional
	// +kubebuilder:validation:MaxItems=8
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=63
	// +listType=set
	KeepOn []string `json:"keepOn,omitempty"`

	// onLostPorts is for a Service of this pool that would lose ports which answer now by
	// its move to the pool's Balancer, whose engine cannot carry them, or whose hosts refuse
	// them. Stay, as without it: it stays where it is, and so do all who share an address with
	// it; its condition says so. Move: it moves without these ports.
	// +optional
	OnLostPorts LostPortsPolicy `json:"onLostPorts,omitempty"`

	// addresses: prefixes, ranges and single addresses, IPv4 and IPv6. Every
	// address of a prefix is used, also its first and last. Or [Provider], with a Balancer
	// of the engine provider: the cloud gives each Service an address, or a hostname.
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=256
	// +listType=set
	Addresses []AddressRange `json:"addresses"`

	// autoAssign false: only for Services that name an address or this pool.
	// +optional
	// +kubebuilder:default=true
	AutoAssign *bool `json:"autoAssign,omitempty"`

	// priority: pools with a higher one are used first; equal ones by name.
	// +optional
	Priority int32 `json:"priority,omitempty"`

	// sharing of one address by several Services.
	// +optional
	// +kubebuilder:default=None
	Sharing SharingPolicy `json:"sharing,omitempty"`

	// serviceSelector: only Services with these labels. Empty: all.
	// +optional
	ServiceSelector LabelSelector `json:"serviceSelector,omitempty"`

	// namespaceSelector: only Services in namespaces with these labels. Empty: all.
	// +optional
	NamespaceSelector LabelSelector `json:"namespaceSelector,omitempty"`
}

// AddressUsage counts the addresses of one family.
type AddressUsage struct {
	// capacity is the number of addresses, at most 2^53.
	Capacity int64 `json:"capacity"`
	// assigned is the number of addresses that at least one Service has.
	Assigned int64 `json:"assigned"`
}

// AddressPoolStatus is what was last observed.
type AddressPoolStatus struct {
	// +optional
	IPv4 *AddressUsage `json:"ipv4,omitempty"`
	// +optional
	IPv6 *AddressUsage `json:"ipv6,omitempty"`
	// observedGeneration of the AddressPool that this status is about.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// conditions: Ready, Stalled, Accepted.
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// AddressPool holds addresses that a Balancer assigns to Services. An assigned
// address never changes under its Service, not by restarts and not by edits of
// pools.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,shortName={pool,pools},categories=external-lb
// +kubebuilder:printcolumn:name="Balancer",type=string,JSONPath=`.spec.balancer`
// +kubebuilder:printcolumn:name="Accepted",type=string,JSONPath=`.status.conditions[?(@.type=="Accepted")].status`
// +kubebuilder:printcolumn:name="IPv4 used",type=integer,JSONPath=`.status.ipv4.assigned`
// +kubebuilder:printcolumn:name="IPv4",type=integer,JSONPath=`.status.ipv4.capacity`
// +kubebuilder:printcolumn:name="IPv6 used",type=integer,JSONPath=`.status.ipv6.assigned`
// +kubebuilder:printcolumn:name="Addresses",type=string,JSONPath=`.spec.addresses`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name="Message",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="Accepted")].message`
type AddressPool struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   AddressPoolSpec   `json:"spec"`
	Status AddressPoolStatus `json:"status,omitempty"`
}

// AddressPoolList is a list of AddressPools.
// +kubebuilder:object:root=true
type AddressPoolList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []AddressPool `json:"items"`
}
