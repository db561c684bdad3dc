package provider

import (
	"fmt"
	"net/http"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/external-lb/external-lb/internal/text"
)

// The bounds of the contract. A provider's own may be lower: see Capabilities.
const (
	MaxBody         = 1 << 20 // bytes of a request
	MaxAnswer       = 4 << 20 // bytes of an answer
	maxValues       = 150_000 // of a request or an answer: members of objects, and items of lists
	MaxListeners    = 256
	MaxMembers      = 5000   // of one family
	MaxSources      = 1000   // of one family
	MaxPage         = 100    // load balancers of one List
	MaxList         = 20_000 // load balancers of one cluster
	MaxRefused      = 50_000 // listeners that all of these refuse together
	MaxMessage      = 256    // bytes of a message or reason
	MaxFlavors      = 32     // that a provider offers
	MaxCertificates = 256    // that it offers
	maxSettings     = 64     // that a provider states
	maxVersion      = 63     // bytes
	maxHostname     = 253    // bytes
	maxAddresses    = 4      // of one load balancer: a hostname may be of two families
	maxWeight       = 256
	maxNumber       = 1_000_000_000
	maxAffinity     = 86400
	maxRetryAfter   = 3600 // seconds
)

var (
	label    = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`)
	path     = regexp.MustCompile(`^/[-A-Za-z0-9._~/%]{0,255}$`)
	hostname = regexp.MustCompile(`^([a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?[.])*[a-z]([-a-z0-9]{0,61}[a-z0-9])?$`) // the last part shows that it is no number
	sum      = regexp.MustCompile(`^[0-9a-f]{64}$`)
	setting  = regexp.MustCompile(`^[A-Za-z][-A-Za-z0-9._=]{0,62}$`)
)

// check that the parts that a path has are DNS labels, as Kubernetes' UIDs are.
func (id ID) check(r *http.Request) error {
	for _, part := range [...]struct{ name, value string }{{"cluster", id.Cluster}, {"service", id.Service}} {
		if strings.Contains(r.Pattern, "{"+part.name+"}") && !label.MatchString(part.value) {
			return invalid(part.name, "%.80q is not a DNS label", part.value)
		}
	}
	return nil
}

// Admit is what a provider's owner lets traffic be sent to.
type Admit struct {
	// Nodes are the networks in which they are. None: all, but for loopback, link-local,
	// multicast and unspecified addresses.
	Nodes []netip.Prefix
	// FirstPort and LastPort are the nodePorts. 0: 30000 and 32767, as Kubernetes has them.
	FirstPort, LastPort uint16
}

// kubeProxyHealth is where kube-proxy says whether a node takes traffic.
const kubeProxyHealth = 10256

func (a Admit) node(addr netip.Addr) bool {
	if len(a.Nodes) > 0 {
		return slices.ContainsFunc(a.Nodes, func(p netip.Prefix) bool { return p.Contains(addr) })
	}
	return addr.IsGlobalUnicast()
}

func (a Admit) port(port uint16) bool {
	first, last := a.FirstPort, a.LastPort
	if last == 0 {
		first, last = 30000, 32767
	}
	return first <= port && port <= last
}

// check that a Spec is within the contract, and within what is admitted.
func (a Admit) check(s Spec) *Error {
	for _, name := range [...]struct{ field, value string }{{"namespace", s.Namespace}, {"name", s.Name}} {
		if !label.MatchString(name.value) {
			return invalid(name.field, "%.80q is not a DNS label", name.value)
		}
	}
	if s.Flavor != "" && !label.MatchString(s.Flavor) {
		return invalid("flavor", "%.80q is not a DNS label", s.Flavor)
	}
	if s.AffinitySeconds < 0 || s.AffinitySeconds > maxAffinity {
		return invalid("affinitySeconds", "%d is not from 0 to %d", s.AffinitySeconds, maxAffinity)
	}
	if len(s.Families) == 0 || len(s.Families) > 2 || len(s.Families) == 2 && s.Families[0].Family == s.Families[1].Family {
		return invalid("families", "want IPv4, IPv6 or both, each once")
	}
	for i, f := range s.Families {
		if err := a.checkFamily("families["+strconv.Itoa(i)+"]", f); err != nil {
			return err
		}
	}
	if len(s.Listeners) == 0 || len(s.Listeners) > MaxListeners {
		return invalid("listeners", "%d of them: want 1 to %d", len(s.Listeners), MaxListeners)
	}
	seen := map[string]bool{}
	for i, l := range s.Listeners {
		field := "listeners[" + strconv.Itoa(i) + "]"
		if err := a.checkListener(field, l); err != nil {
			return err
		}
		if seen[l.String()] {
			return invalid(field, "%s is there twice", l)
		}
		seen[l.String()] = true
	}
	return nil
}

func (a Admit) checkFamily(field string, f Family) *Error {
	if f.Family != IPv4 && f.Family != IPv6 {
		return invalid(field+".family", "%.20q is neither IPv4 nor IPv6", f.Family)
	}
	if f.Address.IsValid() && (!f.Family.Has(f.Address) || odd(f.Address)) {
		return invalid(field+".address", "%s is no address of %s for a load balancer", f.Address, f.Family)
	}
	if len(f.Sources) > MaxSources || len(f.Members) > MaxMembers {
		return invalid(field, "%d sources and %d members: want %d and %d at most", len(f.Sources), len(f.Members), MaxSources, MaxMembers)
	}
	ranges := map[netip.Prefix]bool{}
	for i, p := range f.Sources {
		switch {
		case !f.Family.Has(p.Addr()) || p.Addr().Is4In6() || p != p.Masked() || ranges[p]:
			return invalid(field+".sources["+strconv.Itoa(i)+"]", "%s is no network of %s, or is there twice", p, f.Family)
		case p.Bits() == 0 && len(f.Sources) > 1: // clouds have no words for the others
			return invalid(field+".sources", "%s is everybody, and there are others beside it", p)
		}
		ranges[p] = true
	}
	members := map[netip.Addr]bool{}
	for i, m := range f.Members {
		field := field + ".members[" + strconv.Itoa(i) + "]"
		switch {
		case !f.Family.Has(m.Address) || odd(m.Address) || members[m.Address]:
			return invalid(field+".address", "%s is no address of %s, or is there twice", m.Address, f.Family)
		case !a.node(m.Address):
			return invalid(field+".address", "%s is in no network in which nodes may be", m.Address)
		case m.Weight < 1 || m.Weight > maxWeight:
			return invalid(field+".weight", "%d is not from 1 to %d", m.Weight, maxWeight)
		}
		members[m.Address] = true
	}
	return nil
}

// odd addresses are no load balancer's and no node's, whatever is admitted.
func odd(a netip.Addr) bool {
	return a.Zone() != "" || a.Is4In6() || a.IsUnspecified() || a.IsMulticast() || a.IsLinkLocalUnicast() || a == broadcast
}

var broadcast = netip.AddrFrom4([4]byte{255, 255, 255, 255})

// checkValues counts them before they are decoded: a text of tiny ones takes a hundred times its bytes then.
func checkValues(text []byte) error {
	n, quoted := 0, false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '"':
			quoted = !quoted
		case quoted && c == '\\':
			i++
		case !quoted && (c == ',' || c == '{' || c == '['): // before each of them is one of these
			n++
		}
	}
	if n > maxValues {
		return fmt.Errorf("it has more than %d values", maxValues)
	}
	return nil
}

func (a Admit) checkListener(field string, l Listener) *Error {
	check := l.Settings.HealthCheck
	switch {
	case l.Port == 0:
		return invalid(field+".port", "is 0")
	case !slices.Contains(protocols, l.Protocol):
		return invalid(field+".protocol", "%.20q is none", l.Protocol)
	case !a.port(l.NodePort):
		return invalid(field+".nodePort", "%d is not among the nodePorts", l.NodePort)
	case check.Port != 0 && check.Port != kubeProxyHealth && !a.port(check.Port):
		return invalid(field+".settings.healthCheck.port", "%d is neither a nodePort nor %d", check.Port, kubeProxyHealth)
	case l.Certificate != "" && !label.MatchString(l.Certificate):
		return invalid(field+".certificate", "%.80q is not a DNS label", l.Certificate)
	case l.Certificate != "" && l.Protocol != TCP:
		return invalid(field+".certificate", "%s has no TLS", l.Protocol)
	case check.Path != "" && !path.MatchString(check.Path):
		return invalid(field+".settings.healthCheck.path", "%.80q is none, or has other letters than A-Za-z0-9 and -._~/%%", check.Path)
	}
	return nil
}

// check says what of a Spec the provider cannot do.
func (c Capabilities) check(s Spec) *Error {
	family := func(f Family) bool { return slices.Contains(c.Families, f.Family) }
	for i, f := range s.Families {
		field := "families[" + strconv.Itoa(i) + "]"
		switch {
		case !family(f):
			return &Error{Code: Unsupported, Field: field, Message: string(f.Family) + " is not carried"}
		case over(len(f.Members), c.MaxMembers) || over(len(f.Sources), c.MaxSources):
			return &Error{Code: Unsupported, Field: field, Message: "more members or sources than the cloud takes"}
		}
	}
	if over(len(s.Listeners), c.MaxListeners) {
		return &Error{Code: Unsupported, Field: "listeners", Message: "more than the cloud takes"}
	}
	for i, l := range s.Listeners {
		field := "listeners[" + strconv.Itoa(i) + "]"
		if !slices.Contains(c.Protocols, l.Protocol) {
			return &Error{Code: Unsupported, Field: field + ".protocol", Message: string(l.Protocol) + " is not carried"}
		}
		for _, setting := range s.uses() {
			if err := c.unsupported(setting, l); err != nil {
				return err
			}
		}
		if l.Certificate != "" {
			if err := c.unsupported(Certificates, l); err != nil {
				return err
			}
		}
		if err := c.checkSettings(field+".settings", l); err != nil {
			return err
		}
	}
	return nil
}

func over(n int, limit int32) bool { return limit > 0 && n > int(limit) }

// uses are the settings beside those of policies that a Spec needs.
func (s Spec) uses() (out []Setting) {
	if s.AffinitySeconds > 0 {
		out = append(out, SessionAffinity)
	}
	if len(s.Families) > 1 {
		out = append(out, DualStack)
	}
	for _, f := range s.Families {
		if f.Address.IsValid() {
			out = append(out, WantedAddress)
		} else {
			out = append(out, GivenAddress)
		}
		if !slices.ContainsFunc(f.Sources, func(p netip.Prefix) bool { return p.Bits() == 0 }) {
			out = append(out, SourceRanges)
		}
		if slices.ContainsFunc(f.Members, func(m Member) bool { return m.Weight != 1 }) {
			out = append(out, Weights)
		}
	}
	return out
}

// checkNames of what a provider offers.
func checkNames(field string, names []string, most int) error {
	if len(names) > most {
		return invalid(field, "%d of them: want %d at most", len(names), most)
	}
	for i, name := range names {
		if !label.MatchString(name) || slices.Contains(names[:i], name) {
			return invalid(field, "%.80q is not a DNS label, or is there twice", name)
		}
	}
	return nil
}

// Check that a provider states all that it has to, and nothing that it cannot mean.
func (c Capabilities) Check() error {
	if !label.MatchString(c.Name) {
		return invalid("name", "%.80q is not a DNS label", c.Name)
	}
	if len(c.Version) > maxVersion || strings.ContainsFunc(c.Version, text.Unprintable) {
		return invalid("version", "%.80q is not one line of %d bytes at most", c.Version, maxVersion)
	}
	if !some(c.Protocols, protocols...) {
		return invalid("protocols", "want some of TCP, UDP and SCTP, each once")
	}
	if !some(c.Families, IPv4, IPv6) {
		return invalid("families", "want IPv4, IPv6 or both, each once")
	}
	for field, n := range map[string]int32{"maxListeners": c.MaxListeners, "maxMembers": c.MaxMembers, "maxSources": c.MaxSources} {
		if n < 0 || n > maxNumber {
			return invalid(field, "%d is not from 0 to %d", n, maxNumber)
		}
	}
	if err := checkNames("flavors", c.Flavors, MaxFlavors); err != nil {
		return err
	}
	if err := checkNames("certificates", c.Certificates, MaxCertificates); err != nil {
		return err
	}
	for _, s := range AllSettings() {
		if _, stated := c.Settings[s]; !stated {
			return invalid("settings", "what becomes of %s is not stated", s)
		}
	}
	if len(c.Settings) > maxSettings {
		return invalid("settings", "%d of them", len(c.Settings))
	}
	for name, s := range c.Settings {
		if !setting.MatchString(string(name)) {
			return invalid("settings", "%.80q is no name of a setting", name)
		}
		for _, words := range [...]string{s.Missing, s.UDP, s.Affinity, s.Note} {
			if len(words) > MaxMessage || strings.ContainsFunc(words, text.Unprintable) {
				return invalid("settings."+string(name), "a reason is one line of %d bytes at most", MaxMessage)
			}
		}
	}
	for _, ch := range choices {
		if !slices.ContainsFunc(ch.values, func(v string) bool { return c.able(ch.setting(v), c.Protocols[0]) }) {
			return invalid("settings", "no value of %s can be done", ch.name)
		}
	}
	for _, s := range Unsaid {
		if c.able(s, TCP) {
			return invalid("settings."+string(s), "v1 has no words for it")
		}
	}
	return nil
}

// some reports whether there is at least one of the words, each once, and nothing else.
func some[W comparable](got []W, words ...W) bool {
	for i, w := range got {
		if !slices.Contains(words, w) || slices.Contains(got[:i], w) {
			return false
		}
	}
	return len(got) > 0
}
