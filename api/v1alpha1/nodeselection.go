package v1alpha1

// NodeSelection says which nodes may be backends.
type NodeSelection struct {
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

	// maxPerService bounds the number of nodes that carry one Service; which
	// ones is deterministic and moves little when nodes come and go. Of nodes that wait
	// (backup) there may be as many beside them. 0: all.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=5000
	MaxPerService int32 `json:"maxPerService,omitempty"`
}

// Cordoned is what becomes of cordoned nodes.
// +kubebuilder:validation:Enum=Keep;Drain
type Cordoned string

// What becomes of cordoned nodes.
const (
	CordonedKeep  Cordoned = "Keep"
	CordonedDrain Cordoned = "Drain"
)
