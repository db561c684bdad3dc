package builder

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

// ServiceBuilder makes a Service.
type ServiceBuilder struct {
	object[corev1.Service, ServiceBuilder]
}

// Service begins one of type LoadBalancer, without ports.
func Service(namespace, name string) *ServiceBuilder {
	b, svc := &ServiceBuilder{}, &corev1.Service{}
	b.object = begin(b, svc, &svc.ObjectMeta, namespace, name)
	svc.Spec.Type = corev1.ServiceTypeLoadBalancer
	return b
}

// Class sets spec.loadBalancerClass.
func (b *ServiceBuilder) Class(class string) *ServiceBuilder {
	b.obj.Spec.LoadBalancerClass = &class
	return b
}

// App selects the pods that have the label app with this value.
func (b *ServiceBuilder) App(app string) *ServiceBuilder {
	b.obj.Spec.Selector = map[string]string{"app": app}
	return b
}

// Port adds a TCP port whose nodePort is 30000 more.
func (b *ServiceBuilder) Port(port int32) *ServiceBuilder {
	return b.PortOf(corev1.ProtocolTCP, port, 30000+port)
}

// PortOf adds a port, whose name is its number with a p before it. Its nodePort may be 0,
// which is none; an API server chooses one then.
func (b *ServiceBuilder) PortOf(protocol corev1.Protocol, port, nodePort int32) *ServiceBuilder {
	b.obj.Spec.Ports = append(b.obj.Spec.Ports, corev1.ServicePort{
		Name: fmt.Sprintf("p%d", port), Protocol: protocol, Port: port, NodePort: nodePort,
	})
	return b
}

// Local sets externalTrafficPolicy, and the nodePort on which nodes say whether they have
// endpoints.
func (b *ServiceBuilder) Local(healthCheckNodePort int32) *ServiceBuilder {
	b.obj.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
	b.obj.Spec.HealthCheckNodePort = healthCheckNodePort
	return b
}

// Sticky sets the session affinity ClientIP, with a timeout where one is given.
func (b *ServiceBuilder) Sticky(seconds ...int32) *ServiceBuilder {
	b.obj.Spec.SessionAffinity = corev1.ServiceAffinityClientIP
	if len(seconds) > 0 {
		b.obj.Spec.SessionAffinityConfig = &corev1.SessionAffinityConfig{ClientIP: &corev1.ClientIPConfig{TimeoutSeconds: &seconds[0]}}
	}
	return b
}

// Ranges sets spec.loadBalancerSourceRanges.
func (b *ServiceBuilder) Ranges(ranges ...string) *ServiceBuilder {
	b.obj.Spec.LoadBalancerSourceRanges = ranges
	return b
}

// EndpointSliceBuilder makes an EndpointSlice.
type EndpointSliceBuilder struct {
	object[discoveryv1.EndpointSlice, EndpointSliceBuilder]
}

// EndpointSlice begins one of a family, without endpoints. It names no Service.
func EndpointSlice(namespace, name string, family discoveryv1.AddressType) *EndpointSliceBuilder {
	b, slice := &EndpointSliceBuilder{}, &discoveryv1.EndpointSlice{AddressType: family}
	b.object = begin(b, slice, &slice.ObjectMeta, namespace, name)
	return b
}

// Endpoint adds one on a node, with an address that differs by the slice's name and by
// its place in the slice. A nil condition is one that is not said, "" is no node.
func (b *EndpointSliceBuilder) Endpoint(node string, ready, serving, terminating *bool) *EndpointSliceBuilder {
	e := discoveryv1.Endpoint{
		Addresses:  []string{fmt.Sprintf("10.244.%s.%d", b.obj.Name, len(b.obj.Endpoints))},
		Conditions: discoveryv1.EndpointConditions{Ready: ready, Serving: serving, Terminating: terminating},
	}
	if node != "" {
		e.NodeName = &node
	}
	b.obj.Endpoints = append(b.obj.Endpoints, e)
	return b
}

// Ready adds an endpoint that is ready, on each of the nodes.
func (b *EndpointSliceBuilder) Ready(nodes ...string) *EndpointSliceBuilder {
	for _, node := range nodes {
		b.Endpoint(node, new(true), new(true), new(false))
	}
	return b
}

// Port adds a port of all endpoints, over TCP.
func (b *EndpointSliceBuilder) Port(name string, port int32) *EndpointSliceBuilder {
	protocol := corev1.ProtocolTCP
	b.obj.Ports = append(b.obj.Ports, discoveryv1.EndpointPort{Name: &name, Port: &port, Protocol: &protocol})
	return b
}

// Pod adds an endpoint that is ready, and a pod of the slice's namespace.
func (b *EndpointSliceBuilder) Pod(name, address string, changes ...func(*discoveryv1.Endpoint)) *EndpointSliceBuilder {
	e := discoveryv1.Endpoint{
		Addresses: []string{address}, Conditions: discoveryv1.EndpointConditions{Ready: new(true)},
		TargetRef: &corev1.ObjectReference{Kind: "Pod", Namespace: b.obj.Namespace, Name: name},
	}
	for _, change := range changes {
		change(&e)
	}
	b.obj.Endpoints = append(b.obj.Endpoints, e)
	return b
}
