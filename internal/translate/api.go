package translate

import (
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/lb"
)

// Service is a Kubernetes Service that a Balancer carries.
type Service struct {
	Object    *corev1.Service
	Addresses []netip.Addr // assigned, in the order of its families
	// Withheld are listeners at its Addresses that another Service has.
	Withheld []lb.Listener
	// Pods are its endpoints, where the Balancer sends to pods; the same pointer while they
	// are the same.
	Pods *Endpoints
	// Memory of what it became, if the caller keeps it; it says so afterwards.
	Memory *Memory
}

// Input is all that a Balancer's Config depends on. It is only read.
type Input struct {
	Balancer *v1alpha1.Balancer
	Services []Service
	Sorted   bool // Services are, by namespace, name and UID
	Nodes    []*corev1.Node
	// Slices by Service, of those with externalTrafficPolicy: Local, and of the API servers.
	Slices map[types.NamespacedName][]*discoveryv1.EndpointSlice
	// PodsUnread is why pods cannot be read; "": they can, or nobody asks.
	PodsUnread string
	// Policies of the cluster; those that target none of Services do nothing.
	Policies []*v1alpha1.UpstreamPolicy
	// Certificates that Policies name.
	Certificates Certificates
	// Elsewhere are addresses that another Balancer's hosts may still have: the hosts
	// listen there, and do not bring them yet.
	Elsewhere map[netip.Addr]bool
}

// Problem is something that a user should know.
type Problem struct {
	Reason  string // one of v1alpha1.Reason*
	Message string // what is wrong and what to do
	// Fatal, of a Service: it is left out of the Config. Fatal, of the nodes:
	// the Config has no backends because spec.nodes can not and could never be read, or
	// pods cannot, not because there are none; what the hosts run now is better.
	Fatal bool
}

// PortKey names a port of a Service.
type PortKey struct {
	Protocol corev1.Protocol
	Port     int32
}

// ServiceResult is what became of a Service.
type ServiceResult struct {
	// PortErrors are v1alpha1.PortError* of ports that are not carried.
	PortErrors map[PortKey]string
	Problems   []Problem // the fatal one first
}

// Output is what the hosts should carry and what users should know. It shares
// memory with later Outputs of its Translator: it is only read.
type Output struct {
	Config *lb.Config // without VRRP
	// VRRP by host; nil: the hosts do not agree on addresses.
	VRRP     map[string]*lb.VRRP
	Services map[types.UID]*ServiceResult // that have no Memory
	// NodesProblem is set where no node may be a backend, or pods are and cannot be read.
	NodesProblem *Problem
	// Unweighed says which node has a weight that cannot be read; "": none.
	Unweighed string
	// Unbacked says why spec.nodes.backup has no effect; "": it has.
	Unbacked string
	// Unread is set where spec.nodes.selector cannot be read: fatal as NodesProblem
	// is, or the one before it is in force; or where spec.nodes.backup cannot.
	Unread *Problem
	// ControlPlane is set where not all is well with the API servers; fatal: they are not
	// in the Config.
	ControlPlane *Problem
	// Unsupported are the settings of the Balancer's defaults that its engine
	// cannot do for some of these Services, with the reason.
	Unsupported []string
}
