package transport

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/external-lb/external-lb/internal/engine"
	"github.com/external-lb/external-lb/internal/lb"
	"github.com/external-lb/external-lb/provider"
)

// wish is what a provider is asked for one Service.
type wish struct {
	key     lb.Key
	sum     lb.Sum
	service *lb.Service
	spec    provider.Spec
	refused []lb.Refusal // what it cannot be asked for, by listener
}

// wishes are those of a set, by the Service's UID. What is none of the model is refused.
func wishes(set *lb.Set, can provider.Capabilities) (all map[string]*wish, refused []lb.Refusal) {
	var nodes []lb.Node
	all = map[string]*wish{}
	for it := range set.All() {
		part, err := lb.DecodeGiven(it)
		switch part := part.(type) {
		case lb.Node:
			nodes = append(nodes, part)
		case *lb.Service:
			all[part.ID.UID] = &wish{key: it.Key, sum: it.Sum, service: part}
		default:
			if err == nil {
				err = fmt.Errorf("%s: it is for hosts alone", it.Key.Describe())
			}
			refused = append(refused, lb.Refusal{Key: it.Key, Reason: lb.RefusedInvalid, Message: err.Error()})
		}
	}
	table := engine.NewNodes(nodes)
	for _, w := range all {
		w.resolve(engine.Resolve(w.service, table).Kept(), can)
	}
	return all, refused
}

// resolve makes the Spec of a Service with the nodes that carry it.
func (w *wish) resolve(s *engine.Service, can provider.Capabilities) {
	w.spec = provider.Spec{Namespace: s.ID.Namespace, Name: s.ID.Name, Flavor: w.service.Flavor, AffinitySeconds: seconds(w.service.Affinity)}
	for i := range s.Frontends {
		f := &s.Frontends[i]
		if why := w.add(f, can); why != "" {
			w.refused = append(w.refused, lb.Refusal{Key: w.key, Listener: f.Listener, Reason: lb.RefusedByEngine, Message: why})
		}
	}
}

// add a Frontend to the Spec, or say why it cannot be there.
func (w *wish) add(f *engine.Frontend, can provider.Capabilities) (why string) {
	family, at := familyOf(f.Listener.Address), -1
	for i := range w.spec.Families {
		if w.spec.Families[i].Family == family {
			at = i
		}
	}
	switch {
	case !slices.Contains(can.Families, family):
		return "the cloud has no " + string(family) + " addresses"
	case f.Direct:
		return "a cloud's load balancer sends to nodePorts"
	case f.Settings.Certificate != "":
		return "a provider is sent no certificates"
	case f.Settings.CloudCertificate != "" && can.Unsupported(provider.Certificates, provider.Protocol(f.Listener.Protocol)) != "":
		return "TLS is not terminated: " + can.Unsupported(provider.Certificates, provider.Protocol(f.Listener.Protocol))
	case at < 0 && len(w.spec.Families) > 0 && can.Unsupported(provider.DualStack, provider.TCP) != "":
		return can.Unsupported(provider.DualStack, provider.TCP)
	case at >= 0 && w.spec.Families[at].Address != wanted(f.Listener.Address):
		return "a load balancer has one address of each family: it has " + w.spec.Families[at].Address.String()
	case at < 0 && !wanted(f.Listener.Address).IsValid() && can.Unsupported(provider.GivenAddress, provider.TCP) != "":
		return "the cloud gives no address by itself: " + can.Unsupported(provider.GivenAddress, provider.TCP)
	case at < 0:
		w.spec.Families = append(w.spec.Families, provider.Family{
			Family: family, Address: wanted(f.Listener.Address), Sources: sources(f), Members: members(f, can),
		})
	default:
		w.spec.Families[at].Members = lightest(w.spec.Families[at].Members, members(f, can))
	}
	l := provider.Listener{Port: f.Listener.Port, Protocol: provider.Protocol(f.Listener.Protocol), NodePort: f.NodePort, Certificate: f.Settings.CloudCertificate}
	known := func(o provider.Listener) bool { return o.String() == l.String() }
	if !slices.ContainsFunc(w.spec.Listeners, known) { // it is one for both families
		l.Settings = settings(f, can)
		w.spec.Listeners = append(w.spec.Listeners, l)
	}
	return ""
}

// wanted is the address that a provider is asked for; the zero Addr: the cloud gives one.
func wanted(a netip.Addr) netip.Addr {
	if lb.Given(a) {
		return netip.Addr{}
	}
	return a
}

func familyOf(a netip.Addr) provider.IPFamily {
	if a.Is4() {
		return provider.IPv4
	}
	return provider.IPv6
}

// sources of clients: a /0 is everybody.
func sources(f *engine.Frontend) []netip.Prefix {
	if f.Allow.Everybody {
		return []netip.Prefix{netip.PrefixFrom(zero(f.Listener.Address), 0)}
	}
	return slices.Clone(f.Allow.Sources)
}

func zero(like netip.Addr) netip.Addr {
	if like.Is4() {
		return netip.IPv4Unspecified()
	}
	return netip.IPv6Unspecified()
}

// members are the nodes of a Frontend that take new connections.
func members(f *engine.Frontend, can provider.Capabilities) (out []provider.Member) {
	weighs := can.Unsupported(provider.Weights, provider.TCP) == ""
	for _, b := range f.Backends {
		m := provider.Member{Address: b.Address.Addr(), Weight: 1}
		if weighs {
			m.Weight = int32(min(b.Share(), lb.MaxWeight))
		}
		out = append(out, m)
	}
	return out
}

// lightest are the same members with the lower weight of two: those of a load balancer are
// for all of its listeners, and one on which clients come back to their node has equal ones.
func lightest(a, b []provider.Member) []provider.Member {
	for i := range a { // both are the same nodes, in one order
		a[i].Weight = min(a[i].Weight, b[i].Weight)
	}
	return a
}

// settings of a Frontend, as far as the cloud can do them.
func settings(f *engine.Frontend, can provider.Capabilities) provider.Settings {
	s := f.Settings
	return can.Prune(provider.Protocol(f.Listener.Protocol), provider.Settings{
		Algorithm: string(s.Algorithm), Mode: string(s.Mode), SendProxy: string(s.SendProxy), AcceptProxy: s.AcceptProxy,
		ConnectTimeoutMilliseconds: milliseconds(s.ConnectTimeout), IdleTimeoutMilliseconds: milliseconds(s.IdleTimeout),
		HealthCheck: check(f, can), MaxConnections: s.MaxConnections, MaxConnectionsPerNode: s.MaxConnectionsPerNode,
		MaxConnectionsPerClient: s.MaxConnectionsPerClient, Retries: s.Retries,
	})
}

// check of the members. Auto asks whether the node takes traffic for the Service, where the
// cloud can ask that: kube-proxy, or with externalTrafficPolicy: Local for the Service alone.
func check(f *engine.Frontend, can provider.Capabilities) provider.HealthCheck {
	h := f.Settings.HealthCheck
	out := provider.HealthCheck{
		Type: string(h.Type), Path: h.Path, Port: h.Port, Rise: h.Rise, Fall: h.Fall,
		IntervalMilliseconds: milliseconds(h.Interval), TimeoutMilliseconds: milliseconds(h.Timeout),
	}
	p := provider.Protocol(f.Listener.Protocol)
	noServer := h.Type == lb.CheckHTTP && h.Port == 0 && p != provider.TCP // speaks HTTP at such a nodePort
	if h.Type != lb.CheckAuto && !noServer {
		return out
	}
	out.Type, out.Path, out.Port = provider.CheckTCP, "", 0
	for _, needs := range []provider.Setting{"healthCheck.type=Auto", "healthCheck.type=HTTP", "healthCheck.http"} {
		if can.Unsupported(needs, p) != "" {
			return out
		}
	}
	out.Type, out.Path, out.Port = provider.CheckHTTP, engine.KubeProxyPath, cmp.Or(f.HealthCheckNodePort, engine.KubeProxyPort)
	return out
}

func milliseconds(d time.Duration) int32 { return int32(d.Milliseconds()) }

// seconds rounds up, and stays within the contract.
func seconds(d time.Duration) int32 {
	const most = 24 * time.Hour
	return int32((min(d, most) + time.Second - 1) / time.Second)
}

// kept is an older Spec with those listeners only whose nodePort is the same in a newer
// one: another nodePort may be another Service's by now.
func kept(older, newer provider.Spec) provider.Spec {
	older.Listeners = slices.DeleteFunc(slices.Clone(older.Listeners), func(l provider.Listener) bool {
		return !slices.ContainsFunc(newer.Listeners, func(n provider.Listener) bool {
			return n.NodePort == l.NodePort && n.Port == l.Port && n.Protocol == l.Protocol
		})
	})
	return older
}

// listeners of the model that a provider names by port and protocol.
func (w *wish) listeners(port uint16, p provider.Protocol) (out []lb.Listener) {
	for _, f := range w.service.Frontends {
		l := f.Listener
		of := func(f provider.Family) bool { return f.Address == wanted(l.Address) && f.Family == familyOf(l.Address) }
		if l.Port == port && provider.Protocol(l.Protocol) == p && slices.ContainsFunc(w.spec.Families, of) {
			out = append(out, l)
		}
	}
	return out
}
