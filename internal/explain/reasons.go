package explain

import "github.com/external-lb/external-lb/api/v1alpha1"

// Headings of docs/troubleshooting.md.
const (
	seeAddress  = "A Service has no address"
	seeTLS      = "A port is closed though its policy has TLS"
	seePolicy   = "A policy has no effect"
	seeRefused  = "A Service, or a port of it, is refused by a host"
	seeBalancer = "A Balancer is not programmed"
	seeOthers   = "Somebody else delivers to a host"
	seeHealth   = "Every node fails its health check"
	seeWarns    = "A host says that something is wrong"
	seeExpires  = "A certificate is about to expire"
	seeManager  = "No manager works"
	seeMove     = "A Service does not move with its pool"
	seeDeleted  = "A Service is not deleted"
	seeNodes    = "A node gets no traffic"
	seeSilent   = "An address does not answer"

	seeEndpoints = "A Local Service does not answer"
	seeTooLarge  = "Pods get no traffic"
)

// place is where a reason of a Service's conditions belongs in the chain, and where it is
// written what to do.
type place struct{ link, see string }

var places = map[string]place{
	v1alpha1.ReasonWithdrawing: {LinkBalancer, seeMove},
	v1alpha1.ReasonKept:        {LinkBalancer, seeMove},

	v1alpha1.ReasonNoPool:             {LinkAddress, seeAddress},
	v1alpha1.ReasonPoolExhausted:      {LinkAddress, seeAddress},
	v1alpha1.ReasonAddressUnavailable: {LinkAddress, seeAddress},
	v1alpha1.ReasonInvalidAnnotation:  {LinkAddress, seeAddress},
	v1alpha1.ReasonInvalidSpec:        {LinkAddress, seeAddress},

	v1alpha1.ReasonPortConflict:    {LinkListener, seeAddress},
	v1alpha1.ReasonNoRoom:          {LinkListener, seeAddress},
	v1alpha1.ReasonNoNodePort:      {LinkListener, seeAddress},
	v1alpha1.ReasonMixedProtocol:   {LinkListener, seeAddress},
	v1alpha1.ReasonNoCertificate:   {LinkListener, seeTLS},
	v1alpha1.ReasonTLSNotSupported: {LinkListener, seeTLS},

	v1alpha1.ReasonRefused:          {LinkHost, seeRefused},
	v1alpha1.ReasonHostsUnreachable: {LinkHost, seeBalancer},

	v1alpha1.ReasonChecksSpread: {LinkPolicy, seePolicy},
	v1alpha1.ReasonUnsupported:  {LinkPolicy, seePolicy},

	v1alpha1.ReasonNoEligibleNodes: {LinkNodes, seeNodes},
	v1alpha1.ReasonNoNodeUp:        {LinkNodes, seeHealth},
	v1alpha1.ReasonNoEndpoints:     {LinkEndpoints, seeEndpoints},
	v1alpha1.ReasonTooLarge:        {LinkEndpoints, seeTooLarge},
}

// reasonOf is the reason of a Service's condition for an error of one of its ports.
var reasonOf = map[string]string{
	v1alpha1.PortErrorProtocol:    v1alpha1.ReasonMixedProtocol,
	v1alpha1.PortErrorNoNodePort:  v1alpha1.ReasonNoNodePort,
	v1alpha1.PortErrorCertificate: v1alpha1.ReasonNoCertificate,
	v1alpha1.PortErrorTLS:         v1alpha1.ReasonTLSNotSupported,
}
