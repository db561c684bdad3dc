package v1alpha1

// ControlPlane is where clients find the API servers. Those are the InternalIPs of Nodes with
// the label node-role.kubernetes.io/control-plane which are endpoints of default/kubernetes, or
// of all of these Nodes where none is. No setting for Services changes how they are carried.
type ControlPlane struct {
	// address at which the hosts listen. It comes to them as those of Services do, and is
	// in no AddressPool.
	// +kubebuilder:validation:MinLength=2
	// +kubebuilder:validation:MaxLength=45
	// +kubebuilder:validation:Pattern=`^([0-9]{1,3}(\.[0-9]{1,3}){3}|[0-9A-Fa-f]*:[0-9A-Fa-f:.]+)$`
	Address string `json:"address"`

	// port at which the hosts listen.
	// +optional
	// +kubebuilder:default=6443
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	Port int32 `json:"port,omitempty"`

	// serverPort at which the API servers listen. Each host's owner admits it, since it is
	// no nodePort.
	// +optional
	// +kubebuilder:default=6443
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	ServerPort int32 `json:"serverPort,omitempty"`
}
