package importer

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/engine"
	"github.com/external-lb/external-lb/internal/engine/engines"
	"github.com/external-lb/external-lb/internal/lb"
)

// able are the settings of a frontend that the engine can do for its ports in a group; the
// others are told. A policy with them would always say that something is unsupported.
func (m *making) able(f *Frontend, g *service) v1alpha1.UpstreamSettings {
	var protocols []lb.Protocol
	for _, p := range g.ports {
		if protocol := lb.Protocol(p.listener.Protocol); p.frontend == f && !slices.Contains(protocols, protocol) {
			protocols = append(protocols, protocol)
		}
	}
	settings := asMap(&f.Settings)
	for _, field := range engine.Fields {
		path, value, byValue := strings.Cut(string(field), "=")
		parent, key := lookup(settings, path)
		is, set := parent[key]
		if !set || byValue && fmt.Sprint(is) != value {
			continue
		}
		if why := unable(engines.Named(m.Engine), field, protocols, settings["mode"]); why != "" {
			delete(parent, key)
			if is != false && is != float64(0) { // who asks for nothing gets it
				m.notes.Add(f.Place, "%s is not carried over: %s", field, why)
			}
		}
	}
	out := asSettings(settings)
	if h := out.HealthCheck; h != nil && h.HTTP != nil && h.HTTP.Port != nil && !asked(g.of, *h.HTTP.Port) {
		m.notes.Add(f.Place, "the check at port %d is at the nodePort: a policy asks nodes at ports of its Service, or at kube-proxy's "+
			"%d", *h.HTTP.Port, engine.KubeProxyPort)
		h.HTTP.Port = nil
	}
	for _, a := range out.SourceAddresses {
		m.notes.Add(f.Place, "nodes are connected to from %s: each host's owner must name it in admit.sources of host.yaml. Hosts have "+
			"different addresses: say a range in sourceAddresses of the policy, of which each host takes its own", a)
	}
	return out
}

// asked reports whether a policy for a Service may ask nodes at a port.
func asked(svc *corev1.Service, port int32) bool {
	return port == engine.KubeProxyPort || port == svc.Spec.HealthCheckNodePort ||
		slices.ContainsFunc(svc.Spec.Ports, func(p corev1.ServicePort) bool { return p.NodePort == port })
}

// unable says why an engine cannot do a field for any of the protocols, "" if it can for one.
func unable(e *engine.Engine, field engine.Field, protocols []lb.Protocol, mode any) (why string) {
	for _, p := range protocols {
		if why = e.Unsupported(field, p); why == "" {
			in := lb.ModeTCP
			if mode == string(lb.ModeHTTP) {
				in = lb.ModeHTTP
			}
			return e.NotInMode(field, in)
		}
	}
	return why
}

// lookup the map that has the last part of a path; one that is not there is empty.
func lookup(m map[string]any, path string) (map[string]any, string) {
	for {
		head, rest, more := strings.Cut(path, ".")
		if !more {
			return m, head
		}
		m, _ = m[head].(map[string]any)
		path = rest
	}
}

// asMap is the JSON of settings, in which a path of engine.Fields is a path.
func asMap(s *v1alpha1.UpstreamSettings) map[string]any {
	out := map[string]any{}
	if data, err := json.Marshal(s); err == nil {
		_ = json.Unmarshal(data, &out) // what was marshalled can be read
	}
	return out
}

// asSettings leaves out what is empty.
func asSettings(m map[string]any) (out v1alpha1.UpstreamSettings) {
	for key, value := range m {
		if inner, ok := value.(map[string]any); ok && len(inner) == 0 {
			delete(m, key)
		}
	}
	if data, err := json.Marshal(m); err == nil {
		_ = json.Unmarshal(data, &out)
	}
	return out
}
