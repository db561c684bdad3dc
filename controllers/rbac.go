package controllers

// The rights that the controller needs, and no more. Secrets and the Lease are in
// its own namespace; the right to read certificates in others is added by
// config/components/tls.
//
// +kubebuilder:rbac:groups="",resources=services,verbs=get;list;watch
// +kubebuilder:rbac:groups="",resources=services/status,verbs=patch
// +kubebuilder:rbac:groups="",resources=nodes;namespaces,verbs=get;list;watch
// +kubebuilder:rbac:groups="",resources=events,verbs=create;patch
// +kubebuilder:rbac:groups=discovery.k8s.io,resources=endpointslices,verbs=get;list;watch
// +kubebuilder:rbac:groups=external-lb.dev,resources=balancers,verbs=get;list;watch;patch
// +kubebuilder:rbac:groups=external-lb.dev,resources=addresspools;upstreampolicies,verbs=get;list;watch
// +kubebuilder:rbac:groups=external-lb.dev,resources=balancers/status;addresspools/status;upstreampolicies/status,verbs=patch
// +kubebuilder:rbac:groups="",namespace=external-lb-system,resources=secrets,verbs=get;list;watch
// +kubebuilder:rbac:groups=coordination.k8s.io,namespace=external-lb-system,resources=leases,verbs=get;create;update
