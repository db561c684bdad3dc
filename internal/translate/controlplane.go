package translate

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/engine"
	"github.com/external-lb/external-lb/internal/engine/engines"
	"github.com/external-lb/external-lb/internal/lb"
)

// ControlPlaneService names the Service whose endpoints the API servers keep by themselves.
var ControlPlaneService = types.NamespacedName{Namespace: metav1.NamespaceDefault, Name: "kubernetes"}

// controlPlaneLabel is kubeadm's, and others': kubelets may not set it.
const controlPlaneLabel = "node-role.kubernetes.io/control-plane"

// apiPort is where API servers listen, if nobody says another port.
const apiPort = 6443

// watchTime is longer than a client's watch or shell says nothing.
const watchTime = time.Hour

// controlPlane is what carries the API servers, nil if nobody asks for it. Settings for
// Services do not count: whoever may change these must not change how the API is reached.
func controlPlane(in Input) (*lb.Service, *Problem) {
	spec := in.Balancer.Spec.ControlPlane
	if spec == nil {
		return nil, nil
	}
	at, ok := unicast(spec.Address)
	port, serverPort := cmp.Or(spec.Port, apiPort), cmp.Or(spec.ServerPort, apiPort)
	if !ok || !isPort(port) || !isPort(serverPort) {
		return nil, &Problem{v1alpha1.ReasonInvalid, fmt.Sprintf("spec.controlPlane of Balancer %s: want the address of one machine and ports", in.Balancer.Name), true}
	}
	e := engines.Named(in.Balancer.Spec.Engine)
	s := &lb.Service{
		ID: lb.ControlPlane, Servers: apiServers(in, at.Is4()),
		Frontends: []lb.Frontend{{
			Listener: lb.Listener{Address: at, Port: uint16(port), Protocol: lb.TCP},
			NodePort: uint16(serverPort), Settings: apiSettings(e),
		}},
	}
	s.Family(at.Is4()).Clients.Everybody = true
	if len(s.Servers) == 0 {
		return s, &Problem{v1alpha1.ReasonNoAPIServers, fmt.Sprintf("no node with the label %s has an InternalIP of the family of spec.controlPlane.address of Balancer %s", controlPlaneLabel, in.Balancer.Name), false}
	}
	return s, nil
}

func isPort(n int32) bool { return n > 0 && n <= 65535 }

// apiSettings are how API servers are carried.
func apiSettings(e *engine.Engine) lb.Settings {
	s := builtIn(e, lb.TCP)
	s.IdleTimeout = watchTime
	if e.Unsupported("healthCheck.type=HTTP", lb.TCP) == "" {
		s.HealthCheck.Type, s.HealthCheck.Path, s.HealthCheck.TLS = lb.CheckHTTP, "/readyz", true
	}
	return s
}

// apiServers are the InternalIPs of control-plane nodes: of those that are endpoints, or of
// all where none is. Endpoints choose among them and add none, whoever wrote them.
func apiServers(in Input, ipv4 bool) []lb.Node {
	endpoints := map[netip.Addr]bool{}
	for _, s := range in.Slices[ControlPlaneService] {
		for _, e := range s.Endpoints {
			for _, text := range e.Addresses {
				if a, ok := unicast(text); ok {
					endpoints[a] = true
				}
			}
		}
	}
	var all, serving []lb.Node
	for _, n := range in.Nodes {
		if _, is := n.Labels[controlPlaneLabel]; !is || n.DeletionTimestamp != nil || !lb.SafeNode(n.Name) {
			continue
		}
		first, endpoint := internalIPs(n, ipv4, endpoints)
		if first.IsValid() {
			all = append(all, apiServer(n.Name, first))
		}
		if endpoint.IsValid() {
			serving = append(serving, apiServer(n.Name, endpoint))
		}
	}
	if len(serving) > 0 {
		all = serving
	}
	slices.SortFunc(all, func(a, b lb.Node) int { return cmp.Compare(a.Name, b.Name) })
	return slices.CompactFunc(all, func(a, b lb.Node) bool { return a.Name == b.Name }) // in files
}

// internalIPs are the first of a family, and the first that is an endpoint.
func internalIPs(n *corev1.Node, ipv4 bool, endpoints map[netip.Addr]bool) (first, endpoint netip.Addr) {
	for _, na := range n.Status.Addresses {
		a, ok := unicast(na.Address)
		if !ok || na.Type != corev1.NodeInternalIP || a.Is4() != ipv4 {
			continue
		}
		first = cmp.Or(first, a)
		if endpoints[a] {
			endpoint = cmp.Or(endpoint, a)
		}
	}
	return first, endpoint
}

func apiServer(name string, a netip.Addr) lb.Node {
	if a.Is4() {
		return lb.Node{Name: name, IPv4: a}
	}
	return lb.Node{Name: name, IPv6: a}
}

// IsControlPlane reports whether an EndpointSlice is of the API servers.
func IsControlPlane(s *discoveryv1.EndpointSlice) bool {
	return s.Namespace == ControlPlaneService.Namespace && s.Labels[discoveryv1.LabelServiceName] == ControlPlaneService.Name
}
