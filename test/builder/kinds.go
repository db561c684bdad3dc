package builder

import "github.com/external-lb/external-lb/api/v1alpha1"

// BalancerBuilder makes a Balancer.
type BalancerBuilder struct {
	object[v1alpha1.Balancer, BalancerBuilder]
}

// Balancer begins one with nginx, without hosts.
func Balancer(name string) *BalancerBuilder {
	b, balancer := &BalancerBuilder{}, &v1alpha1.Balancer{}
	b.object = begin(b, balancer, &balancer.ObjectMeta, "", name)
	balancer.Spec.Engine = v1alpha1.EngineNginx
	return b
}

// Hosts adds hosts.
func (b *BalancerBuilder) Hosts(hosts ...v1alpha1.Host) *BalancerBuilder {
	b.obj.Spec.Hosts = append(b.obj.Spec.Hosts, hosts...)
	return b
}

// AddressPoolBuilder makes an AddressPool.
type AddressPoolBuilder struct {
	object[v1alpha1.AddressPool, AddressPoolBuilder]
}

// AddressPool begins one of the Balancer edge.
func AddressPool(name string, addresses ...v1alpha1.AddressRange) *AddressPoolBuilder {
	b, pool := &AddressPoolBuilder{}, &v1alpha1.AddressPool{}
	b.object = begin(b, pool, &pool.ObjectMeta, "", name)
	pool.Spec.Balancer, pool.Spec.Addresses = "edge", addresses
	return b
}

// Balancer gives the pool to another one.
func (b *AddressPoolBuilder) Balancer(name string) *AddressPoolBuilder {
	b.obj.Spec.Balancer = name
	return b
}

// Shared lets Services share an address, by ports.
func (b *AddressPoolBuilder) Shared() *AddressPoolBuilder {
	b.obj.Spec.Sharing = v1alpha1.SharingPorts
	return b
}

// Manual keeps the pool for those who name it, or an address of it.
func (b *AddressPoolBuilder) Manual() *AddressPoolBuilder {
	b.obj.Spec.AutoAssign = new(false)
	return b
}

// Priority sets the priority.
func (b *AddressPoolBuilder) Priority(priority int32) *AddressPoolBuilder {
	b.obj.Spec.Priority = priority
	return b
}

// Services selects Services by a label.
func (b *AddressPoolBuilder) Services(key, value string) *AddressPoolBuilder {
	b.obj.Spec.ServiceSelector.MatchLabels = map[string]v1alpha1.LabelValue{key: v1alpha1.LabelValue(value)}
	return b
}

// Namespaces selects namespaces by a label.
func (b *AddressPoolBuilder) Namespaces(key, value string) *AddressPoolBuilder {
	b.obj.Spec.NamespaceSelector.MatchLabels = map[string]v1alpha1.LabelValue{key: v1alpha1.LabelValue(value)}
	return b
}

// UpstreamPolicyBuilder makes an UpstreamPolicy.
type UpstreamPolicyBuilder struct {
	object[v1alpha1.UpstreamPolicy, UpstreamPolicyBuilder]
}

// UpstreamPolicy begins one without targets and settings.
func UpstreamPolicy(namespace, name string) *UpstreamPolicyBuilder {
	b, policy := &UpstreamPolicyBuilder{}, &v1alpha1.UpstreamPolicy{}
	b.object = begin(b, policy, &policy.ObjectMeta, namespace, name)
	return b
}

// For adds a target: a Service, or one port of it where a name is given.
func (b *UpstreamPolicyBuilder) For(service string, port ...string) *UpstreamPolicyBuilder {
	ref := v1alpha1.PolicyTargetReference{Kind: "Service", Name: service}
	if len(port) > 0 {
		ref.SectionName = port[0]
	}
	b.obj.Spec.TargetRefs = append(b.obj.Spec.TargetRefs, ref)
	return b
}

// Set changes the settings.
func (b *UpstreamPolicyBuilder) Set(change func(*v1alpha1.UpstreamSettings)) *UpstreamPolicyBuilder {
	change(&b.obj.Spec.UpstreamSettings)
	return b
}

// Algorithm sets the algorithm.
func (b *UpstreamPolicyBuilder) Algorithm(algorithm v1alpha1.Algorithm) *UpstreamPolicyBuilder {
	b.obj.Spec.Algorithm = algorithm
	return b
}

// Retries sets how often to try again.
func (b *UpstreamPolicyBuilder) Retries(retries int32) *UpstreamPolicyBuilder {
	b.obj.Spec.Retries = &retries
	return b
}

// Idle sets the idle timeout, and no other.
func (b *UpstreamPolicyBuilder) Idle(timeout v1alpha1.Duration) *UpstreamPolicyBuilder {
	b.obj.Spec.Timeouts = &v1alpha1.Timeouts{Idle: timeout}
	return b
}

// TLS names the Secret of the certificate.
func (b *UpstreamPolicyBuilder) TLS(secret string) *UpstreamPolicyBuilder {
	b.obj.Spec.TLS = &v1alpha1.TLS{SecretRef: v1alpha1.SecretReference{Name: secret}}
	return b
}
