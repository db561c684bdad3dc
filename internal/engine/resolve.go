package engine

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/external-lb/external-lb/internal/lb"
)

// Service is a Service of the model with the nodes that carry it: what an engine
// renders.
type Service struct {
	ID lb.ID
	// MaxConnections of all Frontends together, which the host's owner allows every
	// Service. 0: no limit. See Capabilities.NoShares.
	MaxConnections int
	Frontends      []Frontend // sorted by Listener
}

// Frontend is one port of a Service on one of its addresses.
type Frontend struct {
	Listener lb.Listener
	Backends []Backend // sorted by address; may be empty: nothing answers then
	Allow    lb.Clients
	// Affinity keeps a client on one node for this long after its last
	// connection. 0: no affinity.
	Affinity time.Duration
	// HealthCheckNodePort answers on every node whether it has ready local
	// endpoints. 0: the Service has none.
	HealthCheckNodePort uint16
	// Direct: packets reach the nodes with the Listener's address still on them, and
	// answers go to the client without passing the balancer.
	Direct bool
	// NodePort answers on every node. 0: the Service has none, and is Direct or has Pods.
	NodePort uint16
	// Pods: Backends are pods. HealthCheckNodePort is 0 then.
	Pods     bool
	Settings lb.Settings
}

// Backend is a node that carries a Frontend, or a pod.
type Backend struct {
	Node    string // name, in the alphabet [a-z0-9.-]: of a pod, see PodName
	Address netip.AddrPort
	// Weight is its share of new connections, measured by those of the others. 0 is 1.
	Weight uint16
	// Draining: it gets no new connections and keeps those that it has. Only an engine
	// that does not keep them by itself has such Backends.
	Draining bool
	// Backup: it carries the Frontend only while no other Backend is up. Never all of them.
	Backup bool
}

// Share is the weight that counts.
func (b Backend) Share() uint16 { return max(b.Weight, 1) }

// Nodes are the nodes of a model, ready to be looked up.
type Nodes struct {
	byName map[string]lb.Node
	v4, v6 family
}

// family is nodes by their address of one family.
type family struct {
	all []node // sorted by address, each address once
	sum lb.Sum // of all
	// weighed is a sum that changes with their weights, too.
	weighed lb.Sum
}

// node is one by its address of one family.
type node struct {
	name     string
	address  netip.Addr
	weight   uint16
	draining bool
	backup   bool
}

// NewNodes makes Nodes. Of two nodes with one address, the first by name counts.
func NewNodes(all []lb.Node) *Nodes {
	ns := &Nodes{byName: make(map[string]lb.Node, len(all))}
	for _, n := range all {
		ns.byName[n.Name] = n
	}
	for _, ipv4 := range []bool{true, false} {
		f := ns.family(ipv4)
		f.all = having(all, ipv4)
		f.sum, f.weighed = sum(f.all, false), sum(f.all, true)
	}
	return ns
}

func (ns *Nodes) family(ipv4 bool) *family {
	if ipv4 {
		return &ns.v4
	}
	return &ns.v6
}

// byAddress keeps one node of each address: one that takes new connections, if there
// is any, and of these the first by name.
func byAddress(all []node) []node {
	slices.SortFunc(all, func(a, b node) int {
		if c := a.address.Compare(b.address); c != 0 {
			return c
		}
		switch {
		case a.draining == b.draining:
			return strings.Compare(a.name, b.name)
		case b.draining:
			return -1
		}
		return 1
	})
	return inFront(slices.CompactFunc(all, func(a, b node) bool { return a.address == b.address }))
}

// inFront lets nodes that wait for others carry where there are no others.
func inFront(all []node) []node {
	if !slices.ContainsFunc(all, func(n node) bool { return !n.backup }) {
		for i := range all {
			all[i].backup = false
		}
	}
	return all
}

// sum of what nodes say of themselves, of weights where they count: the rest is the Service's.
func sum(all []node, weighed bool) (s lb.Sum) {
	h := sha256.New()
	for _, n := range all {
		a := n.address.As16()
		h.Write(a[:]) // never fails
		h.Write([]byte(n.name + "\x00"))
		if n.draining {
			h.Write([]byte("draining\x00"))
		}
		if n.backup {
			h.Write([]byte("backup\x00"))
		}
		if weighed {
			h.Write(binary.BigEndian.AppendUint16(nil, n.weight))
		}
	}
	h.Sum(s[:0])
	return s
}

// of are the nodes that carry a Service for one address family.
func (ns *Nodes) of(s *lb.Service, ipv4 bool) []node {
	if len(s.Servers) > 0 {
		return having(s.Servers, ipv4)
	}
	t := &s.Family(ipv4).Targets
	if t.All {
		return choose(ns.family(ipv4).all, s.ID.UID, t.Limit)
	}
	out := make([]node, 0, len(t.Nodes))
	for _, target := range t.Nodes {
		if n, ok := ns.byName[target.Node]; ok && n.Address(ipv4).IsValid() {
			out = append(out, node{n.Name, n.Address(ipv4), cmp.Or(target.Weight, n.Weight, 1), target.Draining || n.Draining, n.Backup})
		}
	}
	return byAddress(out)
}

// choose as many nodes as a Service may have, and of those that drain the ones that it
// had before they did.
func choose(all []node, uid string, limit int) []node {
	if limit == 0 {
		return all
	}
	pick := func(some []node) []node {
		return lb.ChooseBoth(some, func(n node) string { return n.name }, func(n node) bool { return n.backup }, uid, limit)
	}
	chosen := byAddress(pick(all))
	if !slices.ContainsFunc(chosen, func(n node) bool { return n.draining }) {
		return chosen
	}
	stay := slices.DeleteFunc(slices.Clone(all), func(n node) bool { return n.draining })
	leave := slices.DeleteFunc(slices.Clone(chosen), func(n node) bool { return !n.draining })
	return byAddress(append(pick(stay), leave...))
}

// having are the nodes that have an address of a family.
func having(all []lb.Node, ipv4 bool) []node {
	out := make([]node, 0, len(all))
	for _, n := range all {
		if a := n.Address(ipv4); a.IsValid() {
			out = append(out, node{name: n.Name, address: a, weight: cmp.Or(n.Weight, 1), draining: n.Draining, backup: n.Backup})
		}
	}
	return byAddress(out)
}

// Sum changes with the nodes, or pods, that carry a Service, and with nothing else of them.
func (ns *Nodes) Sum(s *lb.Service) lb.Sum {
	if s.Pods {
		return sumOfPods(s)
	}
	var both [2]lb.Sum // of the families that are listened on
	for i, ipv4 := range []bool{true, false} {
		listens, weighed := false, false
		for k := range s.Frontends {
			if f := &s.Frontends[k]; f.Listener.Address.Is4() == ipv4 {
				listens, weighed = true, weighed || !returns(s, f)
			}
		}
		switch t := &s.Family(ipv4).Targets; {
		case !listens:
		case !t.All || t.Limit > 0 || len(s.Servers) > 0:
			both[i] = sum(ns.of(s, ipv4), weighed)
		case weighed:
			both[i] = ns.family(ipv4).weighed
		default:
			both[i] = ns.family(ipv4).sum
		}
	}
	return sha256.Sum256(slices.Concat(both[0][:], both[1][:]))
}

// Resolve finds the nodes that carry a Service.
func Resolve(s *lb.Service, ns *Nodes) *Service {
	carry := make(map[bool][]node, 2)
	out := &Service{ID: s.ID, Frontends: make([]Frontend, len(s.Frontends))}
	for i := range s.Frontends {
		f := &s.Frontends[i]
		ipv4 := f.Listener.Address.Is4()
		if s.Pods {
			out.Frontends[i] = ofPods(s, f)
			continue
		}
		nodes, known := carry[ipv4]
		if !known {
			nodes = ns.of(s, ipv4)
			carry[ipv4] = nodes
		}
		port := f.NodePort
		if s.Direct {
			port = f.Listener.Port
		}
		out.Frontends[i] = Frontend{
			Listener: f.Listener, Backends: backends(nodes, port, returns(s, f)), Allow: s.Family(ipv4).Clients,
			Affinity: s.Affinity, HealthCheckNodePort: s.HealthCheckNodePort,
			Direct: s.Direct, NodePort: f.NodePort, Settings: f.Settings,
		}
	}
	return out
}

// Kept is the Service for an engine by which connections to a node live on when it is no
// longer a Backend: it has none of those that drain, unless all do.
func (s *Service) Kept() *Service {
	for i := range s.Frontends {
		stay, leave := []Backend{}, []Backend{}
		for _, b := range s.Frontends[i].Backends {
			if !b.Draining {
				stay = append(stay, b)
				continue
			}
			b.Draining = false
			leave = append(leave, b)
		}
		if len(stay) == 0 {
			stay = leave
		}
		if !slices.ContainsFunc(stay, func(b Backend) bool { return !b.Backup }) {
			allInFront(stay)
		}
		s.Frontends[i].Backends = stay
	}
	return s
}

// AllInFront is the Service for an engine that lets no node wait for others.
func (s *Service) AllInFront() *Service {
	for i := range s.Frontends {
		allInFront(s.Frontends[i].Backends)
	}
	return s
}

func allInFront(backends []Backend) {
	for i := range backends {
		backends[i].Backup = false
	}
}

// returns reports whether clients come back to their node: then a weight that
// changes, as it does whenever an endpoint comes or goes, would move them.
func returns(s *lb.Service, f *lb.Frontend) bool {
	return s.Affinity > 0 || f.Settings.Algorithm == lb.SourceHash || f.Settings.Algorithm == lb.DestinationHash
}

func backends(nodes []node, port uint16, equal bool) []Backend {
	out := make([]Backend, len(nodes))
	for i, n := range nodes {
		out[i] = Backend{Node: n.name, Address: netip.AddrPortFrom(n.address, port), Weight: n.weight, Draining: n.draining, Backup: n.backup}
		if equal {
			out[i].Weight = 1
		}
	}
	return out
}
