package v1alpha1

import corev1 "k8s.io/api/core/v1"

// ProviderHost is the name of the one host of a Balancer with a provider, in its status
// and in metrics.
const ProviderHost = "provider"

// AllHosts are the hosts, or the one that stands for the provider.
func (s *BalancerSpec) AllHosts() []Host {
	if s.Provider != nil {
		return []Host{{Name: ProviderHost}}
	}
	return s.Hosts
}

// Provider is how the program is reached that makes a cloud's load balancers.
type Provider struct {
	// url of its API, such as https://provider.example.net. http is for loopback alone:
	// a container beside the controller.
	// +kubebuilder:validation:MaxLength=512
	// +kubebuilder:validation:XValidation:rule="self.matches('^https://[^/?#@]+|^http://(localhost|127([.][0-9]{1,3}){3}|[[]::1[]])(:[0-9]+)?(/|$)') && self.matches('^[!-~]+$') && !self.matches('[?#@]')",message="url is https://HOST or, on loopback, http://127.0.0.1:PORT, without user, query and fragment"
	URL string `json:"url"`

	// secretRef names a Secret in the controller's namespace with the key token, which
	// requests bear, and ca.crt, where systems do not know who signed the provider's certificate.
	SecretRef corev1.LocalObjectReference `json:"secretRef"`
}

// ProviderStatus is what a provider says that its cloud can do.
type ProviderStatus struct {
	// name of the provider, such as openstack.
	Name string `json:"name"`
	// version of the provider.
	// +optional
	Version string `json:"version,omitempty"`
	// protocols that are carried.
	// +listType=set
	Protocols []string `json:"protocols"`
	// families of addresses.
	// +listType=set
	Families []string `json:"families"`
	// flavors of load balancers, of which a Service may name one in the annotation
	// external-lb.dev/flavor.
	// +optional
	// +listType=set
	Flavors []string `json:"flavors,omitempty"`
	// certificates by their names, of which a Service may name one for each of its ports in the
	// annotation external-lb.dev/certificate.
	// +optional
	// +listType=set
	Certificates []string `json:"certificates,omitempty"`
	// settings and what becomes of them.
	// +optional
	// +listType=map
	// +listMapKey=name
	Settings []ProviderSetting `json:"settings,omitempty"`
}

// ProviderSetting says what a cloud does for a setting. Without any reason, it does what
// the setting says.
type ProviderSetting struct {
	// name of the setting.
	Name string `json:"name"`
	// missing is why it cannot be done.
	// +optional
	Missing string `json:"missing,omitempty"`
	// udp is why it cannot be done with UDP or SCTP.
	// +optional
	UDP string `json:"udp,omitempty"`
	// affinity is why it does nothing together with sessionAffinity.
	// +optional
	Affinity string `json:"affinity,omitempty"`
	// note is a difference that a user may notice.
	// +optional
	Note string `json:"note,omitempty"`
}
