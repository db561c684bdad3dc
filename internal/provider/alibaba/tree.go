package alibaba

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/external-lb/external-lb/internal/provider/sources"
	"github.com/external-lb/external-lb/provider"
)

// tree is all that there is of one Service.
type tree struct {
	id     provider.ID
	name   string // namespace/name
	lb     *balancer
	others []balancer // that have the same tags, younger ones
	groups []group
	acls   []acl
}

type balancer struct {
	id, created string
	state       provider.State // Deleting, Failed, Live, or Pending while the cloud is at work on it
	message     string
	address     provider.Address
	off         bool
	private     bool
	vpc         string // "": it is in none
	flavor      string
	listeners   []listener
}

// group of servers.
type group struct {
	id, name string
	busy     bool
	gone     bool // since it was listed
	fields   params
	servers  []server
}

// server is a node at a port. It has no address where the cloud does not say which node it is.
type server struct {
	id     string
	ip     netip.Addr
	port   uint16
	weight int32
	busy   bool
}

type listener struct {
	id       string
	port     uint16
	protocol provider.Protocol // "": one that we do not make
	raw      string            // protocol, as the cloud calls it
	tls      bool              // is terminated
	busy     bool
	stopped  bool
	group    string
	nodePort uint16
	// certificate that it was made with, by the name that was offered.
	certificate string
	acl         string // "": it is open to everybody
	fields      params
}

// acl is a list of networks that may connect.
type acl struct {
	id, name string
	gone     bool // since it was listed
	entries  []string
}

func (t *tree) empty() bool {
	return t.lb == nil && len(t.groups) == 0 && len(t.acls) == 0
}

// listeners of the load balancer that counts.
func (t *tree) listeners() []listener {
	if t.lb == nil {
		return nil
	}
	return t.lb.listeners
}

func (t *tree) at(l provider.Listener) *listener {
	all := t.listeners()
	for i := range all {
		if all[i].port == l.Port && all[i].protocol == l.Protocol && all[i].tls == (l.Certificate != "") { // TLS neither comes nor goes: it is made anew
			return &all[i]
		}
	}
	return nil
}

// group of a listener: of those that have its name, the one that the listener has.
func (t *tree) group(l provider.Listener) (found *group) {
	at := t.at(l)
	for i := range t.groups {
		g := &t.groups[i]
		if g.name == groupName(l) && (found == nil || at != nil && at.group == g.id) {
			found = g
		}
	}
	return found
}

func (t *tree) byID(id string) *group {
	i := slices.IndexFunc(t.groups, func(g group) bool { return g.id == id })
	if i < 0 {
		return nil
	}
	return &t.groups[i]
}

// acl that counts, of two with one name.
func (t *tree) acl() *acl {
	if len(t.acls) == 0 {
		return nil
	}
	return &t.acls[0]
}

// groupName begins with a letter, and has letters, numbers, dots and hyphens only.
func groupName(l provider.Listener) string {
	return fmt.Sprintf("external-lb-%s-%d", l.Protocol, l.Port)
}

// describe is the description of a listener: its nodePort, which is not known where there is no member, and
// the name of its certificate. CLB takes 80 letters, digits and -/._ of it.
func describe(l provider.Listener) string {
	text := "nodePort-" + strconv.Itoa(int(l.NodePort))
	if l.Certificate != "" {
		text += "/" + l.Certificate
	}
	return text
}

func described(text string) (nodePort uint16, certificate string) {
	number, ok := strings.CutPrefix(text, "nodePort-")
	number, certificate, _ = strings.Cut(number, "/")
	port, err := strconv.ParseUint(number, 10, 16)
	if !ok || err != nil {
		return 0, ""
	}
	return uint16(port), certificate
}

// certificate of a listener, by ID; "": the provider does not offer it. One that it offers no more stays
// at the listener that has it.
func (o Options) certificate(l provider.Listener, at *listener) string {
	if id := o.Certificates[l.Certificate]; id != "" || at == nil || at.certificate != l.Certificate {
		return id
	}
	return at.fields[certificateID]
}

// unoffered are the listeners whose certificate is none that may be named.
func (s *session) unoffered(t *tree, want provider.Spec) (out []provider.Refusal) {
	for _, l := range want.Listeners {
		if l.Certificate != "" && s.certificate(l, t.at(l)) == "" {
			out = append(out, provider.Refusal{Port: l.Port, Protocol: l.Protocol, Reason: provider.Unsupported,
				Message: provider.NoCertificate(l.Certificate, slices.Sorted(maps.Keys(s.Certificates)))})
		}
	}
	return out
}

// observed is what a tree carries, in the words of the contract. Of a listener for which they do not do, only
// port and protocol are there, as no Spec asks for it: so the digest is another one.
func (t *tree) observed(s *session) provider.Observed {
	var o provider.Observed
	o.Service = t.id.Service
	o.Spec.Namespace, o.Spec.Name, _ = strings.Cut(t.name, "/")
	if t.lb == nil {
		o.State = provider.Pending
		return o
	}
	if o.State = t.lb.state; o.State == provider.Failed {
		o.Reason, o.Message = provider.Internal, t.lb.message
	}
	if why := s.elsewhere(t.lb); why != "" && o.State == provider.Live {
		o.State, o.Reason, o.Message = provider.Failed, provider.Unsupported, why
	}
	if t.lb.address.Hostname != "" || t.lb.address.IP.IsValid() {
		o.Addresses = []provider.Address{t.lb.address}
	}
	if len(t.others) > 0 || t.lb.off {
		if o.State == provider.Live {
			o.State = provider.Pending
		}
		return o
	}
	o.Spec.Flavor = t.lb.flavor
	f := provider.Family{Family: provider.IPv4}
	var others []provider.Listener
	for i := range t.lb.listeners {
		at := &t.lb.listeners[i]
		c, ok := t.carried(s, at)
		switch {
		case ok && len(o.Spec.Listeners) == 0:
			f.Sources, f.Members, o.Spec.AffinitySeconds = c.clients, c.members, c.affinity
		case !ok || !slices.Equal(f.Sources, c.clients) || !slices.Equal(f.Members, c.members) || o.Spec.AffinitySeconds != c.affinity:
			others = append(others, bare(at))
			continue
		}
		o.Spec.Listeners = append(o.Spec.Listeners, c.Listener)
	}
	o.Spec.Families = []provider.Family{f}
	if len(o.Spec.Listeners) > 0 {
		o.Spec.Listeners = append(o.Spec.Listeners, others...)
	} else if o.State == provider.Live {
		o.State = provider.Pending
	}
	return o
}

// bare is a listener of which only that is said.
func bare(at *listener) provider.Listener {
	return provider.Listener{Port: at.port, Protocol: cmp.Or(at.protocol, provider.Protocol(at.raw))}
}

// withoutBare leaves out those that were refused: they are not what the digest is of.
func withoutBare(all []provider.Listener, refused []provider.Refusal) []provider.Listener {
	return slices.DeleteFunc(all, func(l provider.Listener) bool {
		return l.NodePort == 0 && l.AmongRefused(refused)
	})
}

// elsewhere says what to do about a load balancer from when the provider had other flags; "": it is where it is wanted.
func (s *session) elsewhere(b *balancer) string {
	const anew = ": the cloud does not change that, so make the Service anew"
	switch {
	case b.vpc != "" && b.vpc != s.VPC:
		return "it is in the VPC " + b.vpc + ", and the provider runs with --vpc " + s.VPC + anew
	case b.private && !s.Private:
		return "its address is private, and the provider runs without --private" + anew
	case !b.private && s.Private:
		return "its address is public, and the provider runs with --private" + anew
	}
	return ""
}

// carried is a listener with what belongs to it, in the words of the contract.
type carried struct {
	provider.Listener
	clients  []netip.Prefix
	members  []provider.Member
	affinity int32
}

// carried returns false for a listener that is not finished, or has what no Spec can ask for.
func (t *tree) carried(s *session, at *listener) (c carried, ok bool) {
	g := t.byID(at.group)
	if g == nil || g.busy || at.busy || at.stopped || at.protocol == "" {
		return c, false
	}
	c.Listener = provider.Listener{Port: at.port, Protocol: at.protocol, NodePort: at.nodePort, Certificate: at.certificate}
	if c.Settings, c.affinity, ok = s.settings(at, g, c.Listener); !ok || c.NodePort == 0 || at.tls != (at.certificate != "") ||
		t.at(c.Listener) != at || t.group(c.Listener) != g {
		return c, false
	}
	for _, m := range g.servers {
		if !m.ip.IsValid() || m.busy || m.port != c.NodePort {
			return c, false
		}
		c.members = append(c.members, provider.Member{Address: m.ip, Weight: m.weight})
	}
	slices.SortFunc(c.members, func(a, b provider.Member) int { return a.Address.Compare(b.Address) })
	if at.acl == "" {
		c.clients = []netip.Prefix{sources.Everybody}
		return c, true
	}
	list := t.acl()
	if list == nil || list.id != at.acl || len(list.entries) == 0 { // an empty one lets everybody in
		return c, false
	}
	c.clients, ok = sources.Read(list.entries)
	return c, ok && sources.Same(list.entries, sources.List(c.clients))
}

// garden is where trees grow of load balancers, groups and lists that have tags.
type garden map[provider.ID]*tree

// of returns the tree of an object with tags, or nil where they are not all that were asked for.
func (all garden) of(tags, asked params) *tree {
	for key, value := range asked {
		if tags[key] != value {
			return nil
		}
	}
	id := provider.ID{Cluster: tags[clusterTag], Service: tags[serviceTag]}
	if id.Cluster == "" || id.Service == "" {
		return nil
	}
	if all[id] == nil {
		all[id] = &tree{id: id}
	}
	if all[id].name == "" {
		all[id].name = strings.TrimPrefix(tags[nameTag], nameOf)
	}
	return all[id]
}

// balancers are all that have the tags.
func (t *tree) balancers() []balancer {
	if t.lb == nil {
		return nil
	}
	return append([]balancer{*t.lb}, t.others...)
}

// byID are the load balancers of all trees. It holds until one is added.
func (all garden) byID() map[string]*balancer {
	out := map[string]*balancer{}
	for _, t := range all {
		if t.lb != nil {
			out[t.lb.id] = t.lb
		}
		for i := range t.others {
			out[t.others[i].id] = &t.others[i]
		}
	}
	return out
}

func (t *tree) add(b balancer) {
	all := append(t.balancers(), b)
	slices.SortFunc(all, func(a, b balancer) int { return cmp.Or(cmp.Compare(a.created, b.created), cmp.Compare(a.id, b.id)) })
	t.lb, t.others = &all[0], all[1:]
}

// sorted trees without what is gone, with their parts in an order that does not change.
func (all garden) sorted() []*tree {
	out := slices.SortedFunc(maps.Values(all), func(a, b *tree) int { return cmp.Compare(a.id.Service, b.id.Service) })
	for _, t := range out {
		t.groups = slices.DeleteFunc(t.groups, func(g group) bool { return g.gone })
		t.acls = slices.DeleteFunc(t.acls, func(a acl) bool { return a.gone })
		slices.SortFunc(t.groups, func(a, b group) int { return cmp.Compare(a.id, b.id) })
		slices.SortFunc(t.acls, func(a, b acl) int { return cmp.Compare(a.id, b.id) })
		slices.SortFunc(t.listeners(), func(a, b listener) int {
			return cmp.Or(cmp.Compare(a.port, b.port), cmp.Compare(a.raw, b.raw))
		})
	}
	return out
}

// tagged adds the tags of what is made for a Service.
func (p params) tagged(id provider.ID, name string, more ...params) params {
	return p.list("Tag", append([]params{
		{"Key": clusterTag, "Value": id.Cluster}, {"Key": serviceTag, "Value": id.Service}, {"Key": nameTag, "Value": nameOf + name},
	}, more...))
}

// asking adds the tags that are asked for.
func (p params) asking(tags params) params {
	var all []params
	for _, key := range slices.Sorted(maps.Keys(tags)) {
		all = append(all, params{"Key": key, "Value": tags[key]})
	}
	return p.list("Tag", all)
}

// list adds items as the API numbers them: Tag.1.Key.
func (p params) list(name string, items []params) params {
	for i, item := range items {
		for key, value := range item {
			p[strings.TrimSuffix(fmt.Sprintf("%s.%d.%s", name, i+1, key), ".")] = value
		}
	}
	return p
}

// with other params.
func (p params) with(others ...params) params {
	for _, o := range others {
		maps.Copy(p, o)
	}
	return p
}

func sum(parts ...string) string {
	h := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	return hex.EncodeToString(h[:16])
}
