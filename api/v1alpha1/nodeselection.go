package v1alpha1

// NodeSelection says which nodes may be backends, or that pods are.
// +kubebuilder:validation:XValidation:rule="!has(self.backends) || self.backends != 'Pods' || !has(self.backup) || !has(self.backup.matchLabels) && !has(self.backup.matchExpressions)",message="backup is for backends: Nodes: take it out, since no pod waits for others"
type NodeSelection struct {
	// backends says who gets the traffic. Nodes: the nodes, each at the nodePorts of Services, and
	// kube-proxy sends it on. Pods: the pods that are ready, each at its own port, without
	// nodePorts and kube-proxy. For that the hosts must have routes to pods, their owners must
	// admit the networks of these (admit.pods in host.yaml), and the controller must have the
	// right to read Pods (config/components/pods). Which nodes the pods are on does not matter then.
	// +optional
	// +kubebuilder:default=Nodes
	Backends Backends `json:"backends,omitempty"`

	// selector chooses nodes by label. Empty: all.
	// +optional
	Selector LabelSelector `json:"selector,omitempty"`

	// ignoreExcludeLabel includes nodes that carry
	// node.kubernetes.io/exclude-from-external-load-balancers. kubeadm puts it
	// on control-plane nodes, so single-node clusters need this.
	// +optional
	IgnoreExcludeLabel bool `json:"ignoreExcludeLabel,omitempty"`

	// cordoned says what becomes of a node that is cordoned, as `kubectl cordon` and
	// `kubectl drain` do before an upgrade. Keep: it carries traffic as before. Drain: it
	// gets no new connections, and those that it has live on. Where every node of a
	// Service is cordoned, all of them carry it.
	// +optional
	// +kubebuilder:default=Keep
	Cordoned Cordoned `json:"cordoned,omitempty"`

	// backup chooses nodes, of those that may be backends, that wait for the others: they
	// carry a Service only while none of its other nodes is up. Not set: no node does.
	// +optional
	Backup LabelSelector `json:"backup,omitempty"`

	// maxPerService bounds the number of nodes, or pods, that carry one Service; which
	// ones is deterministic and moves little when they come and go. Of nodes that wait
	// (backup) there may be as many beside them. 0: all.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=5000
	MaxPerService int32 `json:"maxPerService,omitempty"`
}

// Backends are who gets the traffic.
// +kubebuilder:validation:Enum=Nodes;Pods
type Backends string

// Who gets the traffic.
const (
	BackendsNodes Backends = "Nodes"
	BackendsPods  Backends = "Pods"
)

// Cordoned is what becomes of cordoned nodes.
// +kubebuilder:validation:Enum=Keep;Drain
type Cordoned string

// What becomes of cordoned nodes.
const (
	CordonedKeep  Cordoned = "Keep"
	CordonedDrain Cordoned = "Drain"
)

// ToPods reports whether pods get the traffic, and not nodes.
func (s *BalancerSpec) ToPods() bool {
	return s.Nodes.Backends == BackendsPods && s.Provider == nil && !s.Direct()
}
