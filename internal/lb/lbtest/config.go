package lbtest

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"github.com/external-lb/external-lb/internal/lb"
)

// Add puts a part, as lb.Decode returns it, into a Config.
func Add(cfg *lb.Config, part any) {
	switch part := part.(type) {
	case lb.Node:
		cfg.Nodes = append(cfg.Nodes, part)
	case *lb.Service:
		cfg.Services = append(cfg.Services, part)
	case *lb.Certificate:
		cfg.Certificates = append(cfg.Certificates, part)
	case netip.Addr:
		cfg.Addresses = append(cfg.Addresses, part)
	case *lb.VRRP:
		cfg.VRRP = part
	default:
		panic(fmt.Sprintf("a part of the type %T", part))
	}
}

// Sort puts all of a Config in its order.
func Sort(cfg *lb.Config) {
	slices.SortFunc(cfg.Services, func(a, b *lb.Service) int { return a.ID.Compare(b.ID) })
	slices.SortFunc(cfg.Nodes, func(a, b lb.Node) int { return cmp.Compare(a.Name, b.Name) })
	slices.SortFunc(cfg.Addresses, netip.Addr.Compare)
	slices.SortFunc(cfg.Certificates, func(a, b *lb.Certificate) int { return cmp.Compare(a.Name(), b.Name()) })
}

// Parts are all parts of a Config by their Keys, as a host has them after lb.Decode.
func Parts(cfg *lb.Config) map[lb.Key]any {
	parts := map[lb.Key]any{}
	for _, n := range cfg.Nodes {
		parts[lb.NodeKey(n.Name)] = n
	}
	for _, s := range cfg.Services {
		parts[lb.ServiceKey(s.ID)] = s
	}
	for _, c := range cfg.Certificates {
		parts[lb.CertificateKey(c.Name())] = c
	}
	for _, a := range cfg.Addresses {
		parts[lb.AddressKey(a)] = a
	}
	if cfg.VRRP != nil {
		parts[lb.VRRPKey] = cfg.VRRP
	}
	return parts
}
