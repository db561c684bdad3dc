package cli

import (
	"cmp"
	"fmt"
	"hash/fnv"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// An API server's own range, unless it is told otherwise.
const firstNodePort, nodePorts = 30000, 2768

// assumeNodePorts gives Services the nodePorts that their manifests leave to the
// cluster, as most in Git do. Each comes from the names of Service and port, so that a
// Service more changes nothing for the others, unless two meet. What an API server gave
// back has what it has.
func (o *objects) assumeNodePorts() {
	taken := map[int32]bool{}
	for _, svc := range o.services {
		taken[svc.Spec.HealthCheckNodePort] = true
		for _, p := range svc.Spec.Ports {
			taken[p.NodePort] = true
		}
	}
	o.assumed = map[string]string{}
	sorted := slices.SortedFunc(slices.Values(o.services), func(a, b *corev1.Service) int { return cmp.Compare(name(a), name(b)) })
	for _, svc := range sorted {
		if svc.ResourceVersion == "" && wantsNodePorts(svc) {
			assume(svc, taken, o.assumed)
		}
	}
}

// wantsNodePorts reports whether an API server would give a Service nodePorts.
func wantsNodePorts(svc *corev1.Service) bool {
	switch svc.Spec.Type {
	case corev1.ServiceTypeNodePort:
		return true
	case corev1.ServiceTypeLoadBalancer:
		return svc.Spec.AllocateLoadBalancerNodePorts == nil || *svc.Spec.AllocateLoadBalancerNodePorts
	default:
		return false
	}
}

func assume(svc *corev1.Service, taken map[int32]bool, said map[string]string) {
	var words []string
	fill := func(port *int32, what string) {
		if *port == 0 {
			*port = choose(name(svc)+" "+what, taken)
			words = append(words, fmt.Sprintf("%d for %s", *port, what))
		}
	}
	for i := range svc.Spec.Ports {
		p := &svc.Spec.Ports[i]
		fill(&p.NodePort, fmt.Sprintf("%d/%s", p.Port, p.Protocol))
	}
	if svc.Spec.Type == corev1.ServiceTypeLoadBalancer && svc.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal {
		fill(&svc.Spec.HealthCheckNodePort, "health checks")
	}
	if len(words) > 0 {
		said[name(svc)] = "the manifest leaves nodePorts to the cluster, which may choose others: rendered with " + strings.Join(words, ", ")
	}
}

// choose a nodePort that is not taken, and take it.
func choose(what string, taken map[int32]bool) int32 {
	hash := fnv.New32a()
	hash.Write([]byte(what))
	first := hash.Sum32() % nodePorts
	for i := range uint32(nodePorts) {
		if port := firstNodePort + int32((first+i)%nodePorts); !taken[port] {
			taken[port] = true
			return port
		}
	}
	return 0 // all are taken: as an API server, it gives none
}
