package v1alpha1

// Finalizers on a Service that is, or was, carried.
const (
	// SharedFinalizer is the one that every Service controller uses. A cloud
	// controller manager beside us strips it from a Service being deleted,
	// whatever its class: hence CleanupFinalizer.
	SharedFinalizer = "service.kubernetes.io/load-balancer-cleanup"
	// CleanupFinalizer is ours alone. On a Balancer it means: Services may
	// still be live on its hosts.
	CleanupFinalizer = "external-lb.dev/cleanup"
)

// DefaultClassPrefix and a Balancer's name make its default loadBalancerClass.
const DefaultClassPrefix = "external-lb.dev/"

// Annotations that a user puts on a Service.
const (
	// AddressesAnnotation asks for addresses, comma separated, at most one per family.
	AddressesAnnotation = "external-lb.dev/addresses"
	// AddressPoolAnnotation asks for an address of one pool.
	AddressPoolAnnotation = "external-lb.dev/address-pool"
	// BalancerAnnotation exposes a Service of type NodePort on a Balancer.
	BalancerAnnotation = "external-lb.dev/balancer"
	// FlavorAnnotation names the flavor of a cloud's load balancer, one that its provider
	// offers. Hosts have none: there it changes nothing.
	FlavorAnnotation = "external-lb.dev/flavor"
	// CertificateAnnotation names certificates that a cloud's provider offers, with which TLS is
	// terminated: NAME at each TCP port, or PORT=NAME,... at some.
	CertificateAnnotation = "external-lb.dev/certificate"
)

// AssignedAddressesAnnotation, which external-lb puts on a Service of type NodePort, is
// what status.loadBalancer.ingress is on one of type LoadBalancer: written once the
// addresses answer.
const AssignedAddressesAnnotation = "external-lb.dev/assigned-addresses"

// SourceRangesAnnotation is the older form of spec.loadBalancerSourceRanges.
const SourceRangesAnnotation = "service.beta.kubernetes.io/load-balancer-source-ranges"

// WeightAnnotation on a Node, 1 to 256, is its share of new connections, measured by those
// of the others.
const WeightAnnotation = "external-lb.dev/weight"

// Condition types.
const (
	// ConditionReady, on each of our kinds: it is in force, and of a Balancer enough
	// hosts proved that. What kstatus, Argo CD and Flux look at.
	ConditionReady = "Ready"
	// ConditionStalled, on each of our kinds: it does not become ready before somebody
	// corrects it. What makes kstatus and Flux say that it failed.
	ConditionStalled = "Stalled"
	// ConditionAccepted: the object is valid and in force.
	ConditionAccepted = "Accepted"
	// ConditionProgrammed, on a Balancer: enough hosts proved the desired
	// configuration.
	ConditionProgrammed = "Programmed"
	// ConditionDegraded, on a Balancer: some host or Service is not as desired.
	ConditionDegraded = "Degraded"
	// ConditionConflicted, on a policy's target: an older policy sets the same field.
	ConditionConflicted = "Conflicted"
	// ConditionUnsupported, on a policy's target: fields that the engine cannot do.
	ConditionUnsupported = "Unsupported"
	// ConditionCertificateReady, on a policy's target: the certificate of spec.tls
	// can be served, and is valid.
	ConditionCertificateReady = "CertificateReady"
	// ConditionServiceProgrammed, on a Service: its listeners are proved to be live.
	ConditionServiceProgrammed = "external-lb.dev/Programmed"
	// ConditionMoving, on a Service: it is on its way from one Balancer to another.
	ConditionMoving = "external-lb.dev/Moving"
	// ConditionBackendsHealthy, on a Service: no host says that a node behind it is down.
	// It is there once a host has said so. A new one is written at most once a minute.
	ConditionBackendsHealthy = "external-lb.dev/BackendsHealthy"
	// ConditionRecord, on a Service: who holds it, and its addresses. It is written
	// together with the finalizers, before anything is programmed, and is there, and
	// True, until the withdrawal is confirmed. Its message is for external-lb: the
	// Service's UID, the Balancers on whose hosts it may be live, in the order in which
	// they came, that one of several which tells its status, and the addresses.
	ConditionRecord = "external-lb.dev/Record"
	// ConditionPortsError, on a Service: some of its ports are not carried (KEP-1435).
	ConditionPortsError = "LoadBalancerPortsError"
)

// Reasons of conditions.
const (
	ReasonAccepted   = "Accepted"
	ReasonProgrammed = "Programmed"
	ReasonInvalid    = "Invalid"
	ReasonNotStalled = "NotStalled" // Stalled=False

	// Balancer
	ReasonDefaultTaken     = "DefaultTaken"     // an older Balancer serves Services without a class
	ReasonRouterIDShared   = "RouterIDShared"   // another Balancer has this virtual router ID
	ReasonPending          = "Pending"          // a delivery is on its way
	ReasonHostsUnreachable = "HostsUnreachable" // too few hosts can be reached
	ReasonHostsFailed      = "HostsFailed"      // too few hosts could make the configuration live
	ReasonContested        = "Contested"        // somebody else delivers to a host in the name of this cluster
	ReasonOtherCluster     = "OtherCluster"     // another cluster delivers to a host
	ReasonHealthy          = "Healthy"          // Degraded=False
	ReasonNoEligibleNodes  = "NoEligibleNodes"  // no node may be a backend
	ReasonPodsUnreadable   = "PodsUnreadable"   // the controller cannot read Pods, of which it sends nothing then
	ReasonNoAPIServers     = "NoAPIServers"     // no node is an API server for spec.controlPlane
	ReasonServicesRefused  = "ServicesRefused"  // a host refused Services, or ports of them
	ReasonItemsRefused     = "ItemsRefused"     // a host refused a node, an address or a certificate
	ReasonTemplatesInvalid = "TemplatesInvalid" // templates of a host's owner cannot be used: the last good ones are in force there
	ReasonHostsCrowded     = "HostsCrowded"     // hosts have nearly used up their connections, open files or memory
	ReasonHostsDiffer      = "HostsDiffer"      // hosts render with different versions, templates or settings

	// Notes of a host
	NoteWarns              = "Warns"                     // its agent says what may keep its daemons from answering
	NoteClock              = "ClockDiffers"              // from the manager's
	NoteRestarted          = "DaemonRestarted"           // by somebody else, lately
	NoteConnections        = "ConnectionsCrowded"        // nearly used up, here and below
	NoteFiles              = "FilesCrowded"              // that may be open
	NoteMemory             = "MemoryCrowded"             // of the machine
	NoteOldWorkers         = "OldWorkersCrowded"         // the memory that they may hold
	NoteTrackedConnections = "TrackedConnectionsCrowded" // by the kernel

	// AddressPool
	ReasonOverlap         = "Overlap"         // an older pool has some of these addresses
	ReasonUnknownBalancer = "UnknownBalancer" // spec.balancer, or keepOn, names no Balancer
	ReasonHeldElsewhere   = "HeldElsewhere"   // Services keep addresses of it on a Balancer that it was taken from

	// Service
	ReasonAddressUnavailable = "AddressUnavailable" // requested and taken, or in no pool that allows it
	ReasonPoolExhausted      = "PoolExhausted"      // every address that would do is taken
	ReasonNoPool             = "NoPool"             // no pool for this Service
	ReasonPortConflict       = "PortConflict"       // another Service has (address, protocol, port)
	ReasonInvalidAnnotation  = "InvalidAnnotation"  // an annotation cannot be parsed
	ReasonInvalidSpec        = "InvalidSpec"        // a field of the Service cannot be parsed
	ReasonNoNodePort         = "NoNodePort"         // a port has no nodePort
	ReasonNoEndpoints        = "NoEndpoints"        // externalTrafficPolicy: Local, or pods are backends, and no endpoint counts
	ReasonTooLarge           = "TooLarge"           // it has more pods than hosts are sent of it
	ReasonNoRoom             = "NoRoom"             // all Services of its Balancer are more than hosts are sent, and its namespace has the most
	ReasonRefused            = "Refused"            // a host refused the Service, or ports of it
	ReasonHeld               = "Held"               // on record
	ReasonWithdrawing        = "Withdrawing"        // held by its former Balancer
	ReasonKept               = "Kept"               // proved on both Balancers; keepOn of the pool, or a Service beside it, keeps the old one
	ReasonNoCertificate      = "NoCertificate"      // a port's certificate cannot be served
	ReasonTLSNotSupported    = "TLSNotSupported"    // the engine cannot terminate TLS
	ReasonChecksSpread       = "ChecksSpread"       // its nodes are asked less often than a policy wants
	ReasonMixedProtocol      = "LoadBalancerMixedProtocolNotSupported"
	ReasonAllNodesUp         = "AllNodesUp"    // BackendsHealthy=True
	ReasonSomeNodesDown      = "SomeNodesDown" // hosts say that some nodes are down
	ReasonNoNodeUp           = "NoNodeUp"      // every host says that every node is down, for a port at least

	// UpstreamPolicy
	ReasonTargetNotFound  = "TargetNotFound"   // no such Service or port
	ReasonTargetNotOurs   = "TargetNotCarried" // no Balancer carries the Service
	ReasonTooManyPolicies = "TooManyPolicies"  // for the Service: the oldest count
	ReasonConflicted      = "OlderPolicy"
	ReasonUnsupported     = "NotOnThisEngine"
	ReasonSupported       = "Supported"
	ReasonNoConflict      = "NoConflict"

	// UpstreamPolicy, CertificateReady
	ReasonCertificateValid    = "Valid"
	ReasonCertificateExpiring = "CertificateExpiring"    // it is valid, and time for a new one
	ReasonCertificateExpired  = "CertificateExpired"     // served still
	ReasonCertificateEarly    = "CertificateNotYetValid" // served already
	ReasonCertificateInvalid  = "CertificateInvalid"     // the Secret holds no certificate with its key
	ReasonSecretNotFound      = "SecretNotFound"
	ReasonSecretsUnreadable   = "SecretsNotReadable" // the controller runs without --tls-secrets, or the API server does not give a Secret
)

// Errors in a Service's status.loadBalancer.ingress[].ports[].error.
const (
	PortErrorProtocol   = "external-lb.dev/ProtocolNotSupported"
	PortErrorNoNodePort = "external-lb.dev/NoNodePort"
	// PortErrorCertificate: TLS is to be terminated, and there is no certificate that
	// could be served.
	PortErrorCertificate = "external-lb.dev/NoCertificate"
	// PortErrorTLS: TLS is to be terminated, and the engine cannot do it.
	PortErrorTLS = "external-lb.dev/TLSNotSupported"
	// PortErrorRefused: a host refuses the port, and the Service's condition and
	// events have its words. The Service's other ports answer.
	PortErrorRefused = "external-lb.dev/Refused"
)

// Reasons of events on a Service: those of Kubernetes' own service controller.
const (
	EventEnsuring     = "EnsuringLoadBalancer"
	EventEnsured      = "EnsuredLoadBalancer"
	EventUpdated      = "UpdatedLoadBalancer"
	EventDeleting     = "DeletingLoadBalancer"
	EventDeleted      = "DeletedLoadBalancer"
	EventSyncFailed   = "SyncLoadBalancerFailed"
	EventUpdateFailed = "UpdateLoadBalancerFailed"
	EventDeleteFailed = "DeleteLoadBalancerFailed"
	EventUnavailable  = "UnAvailableLoadBalancer"
	// And two of our own, for what no cloud does.
	EventMoving = "MovingLoadBalancer"
	EventMoved  = "MovedLoadBalancer"
)
