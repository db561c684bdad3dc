package engine

import (
	"crypto/sha256"
	"encoding/binary"
	"net/netip"
	"strings"

	"github.com/external-lb/external-lb/internal/lb"
)

// PodName is what a pod is called in a daemon's configuration, in the alphabet of nodes'
// names: its address, with dashes for colons.
func PodName(a netip.Addr) string { return strings.ReplaceAll(a.StringExpanded(), ":", "-") }

// ofPods is a Frontend for which pods answer. They are asked where traffic goes: other ports
// of health checks are of nodes.
func ofPods(s *lb.Service, f *lb.Frontend) Frontend {
	out := Frontend{
		Listener: f.Listener, Backends: pods(f.Endpoints), Allow: s.Family(f.Listener.Address.Is4()).Clients,
		Affinity: s.Affinity, NodePort: f.NodePort, Pods: true, Settings: f.Settings,
	}
	out.Settings.HealthCheck.Port = 0
	return out
}

func pods(all []lb.Endpoint) []Backend {
	out := make([]Backend, len(all))
	for i, e := range all {
		out[i] = Backend{Node: PodName(e.Address.Addr()), Address: e.Address, Weight: 1, Draining: e.Draining}
	}
	return out
}

// sumOfPods changes with the pods that answer for each port.
func sumOfPods(s *lb.Service) (sum lb.Sum) {
	h := sha256.New()
	for i := range s.Frontends {
		h.Write([]byte(s.Frontends[i].Listener.String() + "\x00")) // never fails
		for _, e := range s.Frontends[i].Endpoints {
			a := e.Address.Addr().As16()
			h.Write(binary.BigEndian.AppendUint16(a[:], e.Address.Port()))
			if e.Draining {
				h.Write([]byte("draining\x00"))
			}
		}
	}
	h.Sum(sum[:0])
	return sum
}
