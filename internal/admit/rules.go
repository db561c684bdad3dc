package admit

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/external-lb/external-lb/internal/lb"
)

// Rules are what a host's owner admits, as in host.yaml. What is left out is as
// the comments say; a list that is there and empty is a mistake.
type Rules struct {
	// Addresses that may be listened on and brought to the host. None: every one.
	Addresses []netip.Prefix `json:"addresses,omitempty"`
	// Ports that may be listened on. None: all that the host's own daemons did not
	// hold when it was prepared (Held).
	Ports []PortRange `json:"ports,omitempty"`
	// Backends are the networks and ports that may be sent to. None: every network
	// on 30000-32767. kube-proxy's health port, 10256, is always among the ports.
	Backends []Backends `json:"backends,omitempty"`
	// Pods are the networks of pods that may be sent to, on every port. None: pods are not.
	// A node there is refused, unless Backends name a smaller network that it is in.
	Pods []netip.Prefix `json:"pods,omitempty"`
	// OwnPorts are those on which this host's own addresses may be backends, as on a
	// node of the cluster. None: they may not.
	OwnPorts []PortRange `json:"ownPorts,omitempty"`
	// Sources are addresses of this host from which a Service may have its nodes connected
	// to, where its policy asks for that. None: no such policy is obeyed.
	Sources []netip.Addr `json:"sources,omitempty"`
	// RouterIDs, 1 to 255, and Interfaces of VRRP. None: all.
	RouterIDs  []int    `json:"routerIDs,omitempty"`
	Interfaces []string `json:"interfaces,omitempty"`
	// MaxBackends of all Services together: their ports, each times its nodes. 0: as many
	// as the machine has memory for.
	MaxBackends int `json:"maxBackends,omitempty"`
	// Held are ports of the host's own daemons, which no Service can have.
	Held []Held `json:"held,omitempty"`
}

// Backends are networks whose machines may be sent to on some ports.
type Backends struct {
	Networks []netip.Prefix `json:"networks,omitempty"` // none: every one
	Ports    []PortRange    `json:"ports,omitempty"`    // none: 30000-32767
}

// PortRange is a port, or ports with a dash: 80 or 8000-8999.
type PortRange struct{ First, Last uint16 }

// NodePorts are those that Kubernetes allocates by default.
var NodePorts = PortRange{30000, 32767}

// Reserved are ports of daemons that nodes have for themselves: sshd, etcd, the API
// server, kubelet and its kind. A Service that is direct, whose packets reach a node
// at the listener's own port, has none of them unless admit.backends names it.
var Reserved = []PortRange{{22, 22}, {2379, 2382}, {6443, 6443}, {10248, 10260}}

// HealthPort is where kube-proxy says how a node is.
const HealthPort = 10256

// ParsePortRange reads 80 or 8000-8999.
func ParsePortRange(text string) (PortRange, error) {
	first, last, isRange := strings.Cut(text, "-")
	if !isRange {
		last = first
	}
	a, errA := strconv.ParseUint(strings.TrimSpace(first), 10, 16)
	b, errB := strconv.ParseUint(strings.TrimSpace(last), 10, 16)
	if errA != nil || errB != nil || a == 0 || a > b {
		return PortRange{}, fmt.Errorf("%.40q is neither a port nor a range of ports: want 80 or 8000-8999", text)
	}
	return PortRange{uint16(a), uint16(b)}, nil
}

// UnmarshalJSON reads 80, "80" or "8000-8999".
func (r *PortRange) UnmarshalJSON(data []byte) (err error) {
	*r, err = ParsePortRange(strings.Trim(string(data), `"`))
	return err
}

// MarshalJSON prints "80" or "8000-8999".
func (r PortRange) MarshalJSON() ([]byte, error) { return strconv.AppendQuote(nil, r.String()), nil }

// String prints 80 or 8000-8999.
func (r PortRange) String() string {
	if r.First == r.Last {
		return strconv.Itoa(int(r.First))
	}
	return fmt.Sprintf("%d-%d", r.First, r.Last)
}

// Held is a port that a daemon of the host's own listens on.
type Held struct {
	Address  netip.Addr  `json:"address"` // 0.0.0.0 or ::, on every address
	Port     uint16      `json:"port"`
	Protocol lb.Protocol `json:"protocol"`
	By       string      `json:"by,omitempty"` // name of its process
}

func (h Held) holds(l lb.Listener) bool {
	a := h.Address.Unmap()
	return h.Port == l.Port && h.Protocol == l.Protocol &&
		(a == l.Address || a.IsUnspecified() && (a.Is6() || l.Address.Is4()))
}

func (h Held) validate() error {
	if !h.Address.IsValid() || h.Port == 0 || h.Protocol != lb.TCP && h.Protocol != lb.UDP && h.Protocol != lb.SCTP {
		return fmt.Errorf("admit.held: want an address, a port and a protocol, such as {address: 0.0.0.0, port: 22, protocol: TCP}, not %s, %d and %.20q", h.Address, h.Port, h.Protocol)
	}
	return nil
}

// Validate says what is wrong with rules.
func (r *Rules) Validate() error {
	errs := []error{
		networks("addresses", r.Addresses), filled("ports", r.Ports), filled("backends", r.Backends),
		networks("pods", r.Pods), sources(r.Sources), filled("routerIDs", r.RouterIDs), filled("interfaces", r.Interfaces),
	}
	for _, b := range r.Backends {
		errs = append(errs, networks("backends.networks", b.Networks), filled("backends.ports", b.Ports))
	}
	for _, p := range r.Pods {
		if p.Bits() == 0 {
			errs = append(errs, fmt.Errorf("admit.pods: %s is every machine on every port: name the networks of the pods", p))
		}
	}
	for _, id := range r.RouterIDs {
		if id < 1 || id > 255 {
			errs = append(errs, fmt.Errorf("admit.routerIDs: %d: want between 1 and 255", id))
		}
	}
	if r.MaxBackends < 0 {
		errs = append(errs, fmt.Errorf("admit.maxBackends: %d: want a number, or leave it out", r.MaxBackends))
	}
	for _, h := range r.Held {
		errs = append(errs, h.validate())
	}
	return errors.Join(errs...)
}

func sources(all []netip.Addr) error {
	for _, a := range all {
		if what := never(a); what != "" {
			return fmt.Errorf("admit.sources: %s is %s: want addresses of this host from which it reaches nodes", a, what)
		}
	}
	return filled("sources", all)
}

func networks(what string, prefixes []netip.Prefix) error {
	for _, p := range prefixes {
		switch {
		case !p.IsValid() || p.Addr().Is4In6():
			return fmt.Errorf("admit.%s: %s is no network: want one such as 192.0.2.0/24", what, p)
		case p != p.Masked():
			return fmt.Errorf("admit.%s: %s has bits behind its prefix: want %s", what, p, p.Masked())
		}
	}
	return filled(what, prefixes)
}

// filled refuses a list that is there and empty: it reads as "none", and would be all.
func filled[T any](what string, list []T) error {
	if list != nil && len(list) == 0 {
		return fmt.Errorf("admit.%s is empty, which says neither none nor all: name some, or leave it out", what)
	}
	return nil
}

// Open reports whether the owner has left open what may be listened on.
func (r *Rules) Open() bool { return len(r.Addresses) == 0 && len(r.Ports) == 0 }

func within(ranges []PortRange, port uint16) bool {
	return slices.ContainsFunc(ranges, func(r PortRange) bool { return r.First <= port && port <= r.Last })
}

func inside(prefixes []netip.Prefix, a netip.Addr) bool {
	return slices.ContainsFunc(prefixes, func(p netip.Prefix) bool { return p.Contains(a) })
}

// list names the first of what an owner has named.
func list[T fmt.Stringer](all []T) string {
	const most = 5
	var words []string
	for _, one := range all[:min(most, len(all))] {
		words = append(words, one.String())
	}
	if len(all) > most {
		words = append(words, fmt.Sprintf("and %d more", len(all)-most))
	}
	return strings.Join(words, ", ")
}

// portsOf are the ports on which a machine may be sent to; none: it may not.
func (r *Rules) portsOf(a netip.Addr) (ports []PortRange) {
	if len(r.Backends) == 0 {
		return []PortRange{NodePorts}
	}
	for _, b := range r.Backends {
		switch {
		case len(b.Networks) > 0 && !inside(b.Networks, a):
		case len(b.Ports) == 0:
			ports = append(ports, NodePorts)
		default:
			ports = append(ports, b.Ports...)
		}
	}
	return ports
}

// ofPods reports whether the owner has said that pods are at an address, and nodes are not: the
// smallest network that is named counts, and if two are the same, that of the pods. One that has
// every address says nothing of any: no owner can name it (see Validate), `external-lb render` does.
func (r *Rules) ofPods(a netip.Addr) bool {
	nodes := -1
	for _, b := range r.Backends {
		nodes = max(nodes, smallest(b.Networks, a))
	}
	pods := smallest(r.Pods, a)
	return pods > 0 && pods >= nodes
}

// smallest of the networks that have an address, by its bits; -1: none has it.
func smallest(networks []netip.Prefix, a netip.Addr) int {
	bits := -1
	for _, n := range networks {
		if n.Contains(a) {
			bits = max(bits, n.Bits())
		}
	}
	return bits
}
