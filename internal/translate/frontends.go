package translate

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/lb"
)

// listening is where a Service has one of its ports.
type listening struct {
	listener lb.Listener
	port     int // of those that are carried
}

// listeners of ports, on each address that the Service has them on.
func (t *translation) listeners(ports []corev1.ServicePort) []listening {
	withheld := make(map[lb.Listener]bool, len(t.in.Withheld))
	for _, l := range t.in.Withheld {
		withheld[l] = true
	}
	out := make([]listening, 0, len(ports)*len(t.in.Addresses))
	for _, a := range t.in.Addresses {
		for i, port := range ports {
			l := lb.Listener{Address: a.Unmap(), Port: uint16(port.Port), Protocol: lb.Protocol(port.Protocol)}
			if !withheld[l] {
				out = append(out, listening{l, i})
			}
		}
	}
	return out
}

// frontends are one for each listener. Settings are settled once for all ports for which the
// same policies are.
func (t *translation) frontends(at []listening, ports []corev1.ServicePort, secured []tlsPort) []lb.Frontend {
	settled := map[decided]lb.Settings{}
	out := make([]lb.Frontend, 0, len(at))
	for _, l := range at {
		port, secured := ports[l.port], secured[l.port]
		by := decided{t.precedence.section(port.Name), l.listener.Protocol}
		settings, known := settled[by]
		if !known {
			settings = t.precedence.resolve(t.carriers, by.section, by.protocol)
			settled[by] = settings
		}
		settings.Certificate, settings.CloudCertificate = secured.certificate, secured.cloud
		settings.RedirectToHTTPS = settings.RedirectToHTTPS && settings.Certificate == ""
		settings.H2C = settings.Mode == lb.ModeHTTP && speaksH2C(port)
		out = append(out, lb.Frontend{Listener: l.listener, NodePort: uint16(port.NodePort), Settings: settings})
	}
	return out
}

// speaksH2C reports whether the pods of a port say that they speak HTTP/2 in plain text.
func speaksH2C(port corev1.ServicePort) bool {
	protocol := deref(port.AppProtocol)
	return protocol == "kubernetes.io/h2c" || protocol == "grpc"
}

// carriedPorts are the ports that the engine can carry, each with what becomes of its
// TLS; the others get an error.
func (t *translation) carriedPorts() (carried []corev1.ServicePort, tls []tlsPort) {
	var cannot, lacking []string
	var open notTerminated
	for _, port := range t.in.Object.Spec.Ports {
		key := PortKey{port.Protocol, port.Port}
		name := fmt.Sprintf("%d/%s", port.Port, clip(string(port.Protocol)))
		secured := t.tlsOf(port)
		switch {
		case !t.carriers.Carries(lb.Protocol(port.Protocol)):
			t.result.PortErrors[key] = v1alpha1.PortErrorProtocol
			cannot = append(cannot, name)
		case port.NodePort == 0 && !t.direct && !t.pods:
			t.result.PortErrors[key] = v1alpha1.PortErrorNoNodePort
			lacking = append(lacking, name)
		case secured.portError != "":
			t.result.PortErrors[key] = secured.portError
			open.add(name, secured.problem)
		default:
			carried, tls = append(carried, port), append(tls, secured)
		}
	}
	if len(cannot) > 0 {
		t.problem(v1alpha1.ReasonMixedProtocol, "%s cannot carry %s", t.carriers, strings.Join(cannot, ", "))
	}
	if len(lacking) > 0 {
		t.problem(v1alpha1.ReasonNoNodePort, "no nodePort for %s: set spec.ports[].nodePort, or spec.allocateLoadBalancerNodePorts: true",
			strings.Join(lacking, ", "))
	}
	if len(open.ports) > 0 {
		t.problem(open.reason, "%s", &open)
	}
	if len(carried) == 0 {
		t.result.Problems[0].Fatal = true // there is at least one port, and so one problem
	}
	return carried, tls
}
