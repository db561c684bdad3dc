package lbtest

import (
	"crypto/tls"
	"fmt"
	"net/netip"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/external-lb/external-lb/internal/lb"
)

// InBounds says what of a part of a model is out of the bounds and alphabets that
// the model promises. It shares nothing with lb.Decode, and wants to know each field
// of the model.
func InBounds(part any) error {
	switch part := part.(type) {
	case netip.Addr:
		if !oneMachine(part) {
			return fmt.Errorf("%s is not the address of one machine", part)
		}
		return nil
	case *lb.Certificate:
		if _, err := tls.X509KeyPair(part.PEM(), part.PEM()); err != nil || !matches(`[0-9a-f]{32}`)(part.Name()) {
			return fmt.Errorf("certificate %q: %v", part.Name(), err)
		}
		return nil
	case lb.Node:
		if !part.IPv4.IsValid() && !part.IPv6.IsValid() {
			return fmt.Errorf("node %s has no address", part.Name)
		}
	case *lb.Service:
		if err := service(part); err != nil {
			return err
		}
	case *lb.VRRP:
	default:
		return fmt.Errorf("a part of the type %T", part)
	}
	return walk(reflect.Indirect(reflect.ValueOf(part)), "")
}

// walk wants a rule for every field that is no struct or list of them.
func walk(v reflect.Value, name string) error {
	if rule, ok := fields[name]; ok {
		if !rule(v.Interface()) {
			return fmt.Errorf("%s is %.100v", name, v.Interface())
		}
		return nil
	}
	if rule, ok := types[v.Type()]; ok {
		if !rule(v.Interface()) {
			return fmt.Errorf("%s is %.100v", name, v.Interface())
		}
		return nil
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			if err := walk(v.Field(i), v.Type().Name()+"."+v.Type().Field(i).Name); err != nil {
				return err
			}
		}
	case reflect.Slice:
		if v.Len() > lengths[name] {
			return fmt.Errorf("%s has %d elements: lengths in lbtest says %d", name, v.Len(), lengths[name])
		}
		for i := range v.Len() {
			if err := walk(v.Index(i), name+"[]"); err != nil {
				return err
			}
		}
	case reflect.Bool:
	default:
		return fmt.Errorf("nobody says what %s may be: add it to fields in lbtest", name)
	}
	return nil
}

// types are bounded wherever they are.
var types = map[reflect.Type]func(any) bool{
	reflect.TypeFor[lb.Protocol]():        oneOf(lb.TCP, lb.UDP, lb.SCTP),
	reflect.TypeFor[lb.Algorithm]():       oneOf(lb.RoundRobin, lb.LeastConnections, lb.SourceHash, lb.Random, lb.DestinationHash, lb.ShortestExpectedDelay, lb.NeverQueue),
	reflect.TypeFor[lb.Mode]():            oneOf(lb.ModeTCP, lb.ModeHTTP),
	reflect.TypeFor[lb.ProxyProtocol]():   oneOf(lb.ProxyNone, lb.ProxyV1, lb.ProxyV2),
	reflect.TypeFor[lb.HealthCheckType](): oneOf(lb.CheckAuto, lb.CheckTCP, lb.CheckHTTP, lb.CheckNone),
	reflect.TypeFor[netip.Prefix]():       func(v any) bool { p := v.(netip.Prefix); return p.IsValid() && p == p.Masked() && !p.Addr().Is4In6() },
	reflect.TypeFor[uint16]():             func(any) bool { return true }, // a port, or none
}

var label = matches(`[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?`)

// fields are bounded by what they are for.
var fields = map[string]func(any) bool{
	"Node.Name":     matches(`[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?`),
	"Node.IPv4":     func(v any) bool { a := v.(netip.Addr); return !a.IsValid() || a.Is4() && oneMachine(a) },
	"Node.IPv6":     func(v any) bool { a := v.(netip.Addr); return !a.IsValid() || a.Is6() && oneMachine(a) },
	"Node.Weight":   between[uint16](0, lb.MaxWeight),
	"ID.Namespace":  label,
	"ID.Name":       label,
	"ID.UID":        label,
	"Target.Node":   matches(`[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?`),
	"Target.Weight": between[uint16](0, lb.MaxWeight),
	"Targets.Limit": between(0, 1<<30),

	"Service.Affinity": durationOrNone,
	"Service.Flavor":   matches(`([a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)?`),

	"Listener.Address": func(v any) bool { return oneMachine(v.(netip.Addr)) },
	"Listener.Port":    between[uint16](1, 65535),

	"Endpoint.Address": func(v any) bool { a := v.(netip.AddrPort); return oneMachine(a.Addr()) && a.Port() > 0 },

	"Settings.ConnectTimeout":          duration,
	"Settings.IdleTimeout":             duration,
	"Settings.ClientTimeout":           durationOrNone,
	"Settings.ServerTimeout":           durationOrNone,
	"Settings.QueueTimeout":            durationOrNone,
	"Settings.SlowStart":               durationOrNone,
	"Settings.KeepAlive":               func(v any) bool { d := v.(time.Duration); return d == 0 || d >= time.Second && d <= 9*time.Hour },
	"Settings.Drain":                   func(v any) bool { d := v.(time.Duration); return d%time.Second == 0 && d >= 0 && d <= time.Hour },
	"Settings.MaxQueue":                between[int32](0, 1<<30),
	"Settings.MaxConnections":          between[int32](0, 1<<30),
	"Settings.MaxConnectionsPerNode":   between[int32](0, 1<<30),
	"Settings.MaxConnectionsPerClient": between[int32](0, 1<<30),
	"Settings.MaxRatePerClient":        between[int32](0, 1_000_000),
	"Settings.Retries":                 between[int32](0, 100),
	"Settings.MaxBodyBytes":            between[int64](0, 1<<40),
	"Settings.MaxHeaderBytes":          func(v any) bool { return v == int32(0) || between[int32](1024, 65536)(v) },
	"Settings.Certificate":             matches(`([0-9a-f]{32})?`),
	"Settings.CloudCertificate":        matches(`([a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)?`),
	"Settings.HealthCheck":             healthCheck,
	"Source.IPv4":                      sourceOf(true),
	"Source.IPv6":                      sourceOf(false),

	"VRRP.Interface": matches(`[A-Za-z0-9][-A-Za-z0-9_.]{0,14}`),
	"VRRP.RouterID":  between[uint8](1, 255),
	"VRRP.Priority":  between[uint8](1, 254),
	"VRRP.Interval": func(v any) bool {
		d := v.(time.Duration)
		return d >= 10*time.Millisecond && d <= 40*time.Second && d%(10*time.Millisecond) == 0
	},
}

// lengths bound every list.
var lengths = map[string]int{"Targets.Nodes": 8192, "Clients.Sources": 4096, "Service.Frontends": 512, "Service.Servers": 64, "Frontend.Endpoints": 2048}

// healthCheck says nothing but its type, or all that there is.
func healthCheck(v any) bool {
	h := v.(lb.HealthCheck)
	if h.Type == lb.CheckNone {
		return h == lb.HealthCheck{Type: lb.CheckNone}
	}
	return oneOf(lb.CheckAuto, lb.CheckTCP, lb.CheckHTTP)(h.Type) && matches(`(/[-A-Za-z0-9._~/%]{0,255})?`)(h.Path) && (h.Path != "" || h.Type != lb.CheckHTTP) &&
		duration(h.Interval) && h.Interval >= 100*time.Millisecond && duration(h.Timeout) &&
		between[int32](1, 100)(h.Rise) && between[int32](1, 100)(h.Fall) && reflect.TypeOf(h).NumField() == 12 &&
		matches(`([0-9a-f]{2}){0,256}`)(h.Send) && matches(`([0-9a-f]{2}){0,256}`)(h.Expect) &&
		matches(`([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?)?`)(h.Host) && (h.Status == lb.Status{} || 100 <= h.Status.From && h.Status.From <= h.Status.To && h.Status.To <= 599)
}

// sourceOf is a range of a family, or none.
func sourceOf(ipv4 bool) func(any) bool {
	return func(v any) bool {
		p := v.(netip.Prefix)
		return !p.IsValid() && p == netip.Prefix{} || p.IsValid() && p == p.Masked() && p.Addr().Is4() == ipv4 && !p.Addr().Is4In6()
	}
}

func service(s *lb.Service) error {
	if len(s.Frontends) == 0 {
		return fmt.Errorf("%s has no frontends", s.ID)
	}
	for i, f := range s.Frontends {
		if i > 0 && s.Frontends[i-1].Listener.Compare(f.Listener) >= 0 {
			return fmt.Errorf("%s: frontend %s is not in its place, or twice", s.ID, f.Listener)
		}
		if f.NodePort == 0 && !s.Direct && !s.Pods {
			return fmt.Errorf("%s: frontend %s has no nodePort", s.ID, f.Listener)
		}
		for k, e := range f.Endpoints {
			if !s.Pods || e.Address.Addr().Is4() != f.Listener.Address.Is4() || k > 0 && f.Endpoints[k-1].Address.Addr().Compare(e.Address.Addr()) >= 0 {
				return fmt.Errorf("%s: endpoint %s is not in its place, twice, or of the other family", s.ID, e.Address)
			}
		}
	}
	nodes := s.IPv4.Targets.All || s.IPv6.Targets.All || len(s.IPv4.Targets.Nodes)+len(s.IPv6.Targets.Nodes) > 0
	if n := s.Endpoints(); n > 1<<15 || s.Pods && (s.Direct || nodes) {
		return fmt.Errorf("%s has %d endpoints, or nodes beside them", s.ID, n)
	}
	for i, n := range s.Servers {
		if i > 0 && s.Servers[i-1].Name >= n.Name || !n.IPv4.IsValid() && !n.IPv6.IsValid() {
			return fmt.Errorf("%s: server %s is not in its place, twice, or has no address", s.ID, n.Name)
		}
	}
	if n := s.Ranges(); n > 1<<17 {
		return fmt.Errorf("%s has %d source ranges for its ports", s.ID, n)
	}
	for _, ipv4 := range []bool{true, false} {
		targets, clients := s.Family(ipv4).Targets, s.Family(ipv4).Clients
		if targets.All && len(targets.Nodes) > 0 || clients.Everybody && len(clients.Sources) > 0 {
			return fmt.Errorf("%s: all and a list at once", s.ID)
		}
		for i, n := range targets.Nodes {
			if i > 0 && targets.Nodes[i-1].Node >= n.Node {
				return fmt.Errorf("%s: node %s is not in its place, or twice", s.ID, n.Node)
			}
		}
		for i, p := range clients.Sources {
			if p.Addr().Is4() != ipv4 || i > 0 && clients.Sources[i-1].Compare(p) >= 0 {
				return fmt.Errorf("%s: source range %s is not in its place, twice or of the other family", s.ID, p)
			}
		}
	}
	return nil
}

func oneMachine(a netip.Addr) bool {
	return a.IsValid() && a.Zone() == "" && !a.Is4In6() && !a.IsUnspecified() && !a.IsLoopback() && !a.IsMulticast() &&
		!a.IsLinkLocalUnicast() && a != netip.AddrFrom4([4]byte{255, 255, 255, 255})
}

func matches(pattern string) func(any) bool {
	whole := regexp.MustCompile(`\A(?:` + pattern + `)\z`)
	return func(v any) bool { return whole.MatchString(v.(string)) && !strings.ContainsAny(v.(string), "\n\r\x00") }
}

func oneOf[T comparable](all ...T) func(any) bool {
	return func(v any) bool { return slices.Contains(all, v.(T)) }
}

func between[T int | int32 | int64 | uint8 | uint16](least, most T) func(any) bool {
	return func(v any) bool { return v.(T) >= least && v.(T) <= most }
}

func duration(v any) bool {
	d := v.(time.Duration)
	return d >= time.Millisecond && d <= 24*time.Hour
}

func durationOrNone(v any) bool { return v == time.Duration(0) || duration(v) }
