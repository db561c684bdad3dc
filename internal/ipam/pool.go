package ipam

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"sort"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/external-lb/external-lb/api/v1alpha1"
)

// Pool is an AddressPool. Its addresses are in no other Pool.
type Pool struct {
	Name       string
	Balancer   string
	AutoAssign bool
	Priority   int32
	SharePorts bool
	KeepOn     []string // Balancers that go on carrying Services which move away from them
	LosePorts  bool     // Services that move to its Balancer may lose ports by that
	// Foreign: it is another Balancer's by now, or not in force. Who has an address of
	// it keeps that, nobody gets one.
	Foreign bool
	// Given: a provider's cloud gives the addresses, and the pool has none of its own.
	Given bool

	gives                [families]bool // of which families the cloud gives one
	of                   *Pool          // of which Giving made this one
	services, namespaces labels.Selector
	ranges               [families][]addrRange // sorted, apart from each other
}

// Contains reports whether an address is one of the pool's.
func (p *Pool) Contains(a netip.Addr) bool {
	ranges := p.ranges[familyOf(a)]
	i := sort.Search(len(ranges), func(i int) bool { return !ranges[i].last.Less(a) })
	return i < len(ranges) && ranges[i].contains(a)
}

func (p *Pool) capacity(f family) int64 {
	var n int64
	for _, s := range p.ranges[f] {
		n = min(n+s.size(), maxCapacity)
	}
	return n
}

// forbids says why the selectors keep a Service off the pool, "" if they do not.
func (p *Pool) forbids(r *Request) string {
	switch {
	case !p.services.Matches(r.Labels):
		return fmt.Sprintf("the serviceSelector of AddressPool %s does not match the Service's labels", p.Name)
	case !p.namespaces.Matches(r.NamespaceLabels):
		return fmt.Sprintf("the namespaceSelector of AddressPool %s does not match the labels of the Service's namespace", p.Name)
	}
	return ""
}

// SelectsNamespaces reports whether labels of namespaces decide who may have an address.
func (p *Pool) SelectsNamespaces() bool { return !p.namespaces.Empty() }

// ParsePools parses all AddressPools of the cluster. One that is bad, or that
// overlaps an older one (by creationTimestamp, then name), is not in force as a
// whole and has a problem, by its name. Accepted pools are sorted by name. Rejected
// are what could be read of the others and is in no accepted one, as foreign ones.
func ParsePools(pools []v1alpha1.AddressPool) (accepted, rejected []*Pool, problems map[string]*Problem) {
	byAge := make([]*v1alpha1.AddressPool, len(pools))
	for i := range pools {
		byAge[i] = &pools[i]
	}
	slices.SortFunc(byAge, func(a, b *v1alpha1.AddressPool) int {
		return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Name, b.Name))
	})
	problems = map[string]*Problem{}
	var taken index
	for _, object := range byAge {
		p, err := parsePool(&object.Spec)
		p.Name = object.Name
		problem := taken.overlap(p)
		if err != nil {
			problem = &Problem{Reason: v1alpha1.ReasonInvalid, Message: err.Error()}
		}
		if problem != nil {
			problems[p.Name] = problem
			rejected = append(rejected, p)
			continue
		}
		taken.add(p)
		accepted = append(accepted, p)
	}
	for _, p := range rejected {
		p.Foreign = true
		for f, ranges := range p.ranges {
			p.ranges[f] = nil
			for _, s := range ranges {
				p.ranges[f] = append(p.ranges[f], taken.gaps(s)...)
			}
		}
		taken.add(p)
	}
	slices.SortFunc(accepted, func(a, b *Pool) int { return cmp.Compare(a.Name, b.Name) })
	return accepted, rejected, problems
}

// parsePool returns what it could read with an error, too.
func parsePool(spec *v1alpha1.AddressPoolSpec) (*Pool, error) {
	p := &Pool{
		Balancer:   spec.Balancer,
		AutoAssign: spec.AutoAssign == nil || *spec.AutoAssign,
		Priority:   spec.Priority,
		SharePorts: spec.Sharing == v1alpha1.SharingPorts,
		KeepOn:     spec.KeepOn,
		LosePorts:  spec.OnLostPorts == v1alpha1.LostPortsMove,
	}
	var ofServices, ofNamespaces error
	p.services, ofServices = parseSelector("serviceSelector", &spec.ServiceSelector)
	p.namespaces, ofNamespaces = parseSelector("namespaceSelector", &spec.NamespaceSelector)
	ofAddresses := p.parseAddresses(spec.Addresses)
	switch {
	case p.Given && p.SharePorts:
		return p, fmt.Errorf("spec.sharing is %s: what a cloud gives is one Service's, so write None", spec.Sharing)
	case p.Balancer == "":
		return p, fmt.Errorf("spec.balancer is empty: name the Balancer that assigns these addresses")
	case !slices.Contains([]v1alpha1.SharingPolicy{"", v1alpha1.SharingNone, v1alpha1.SharingPorts}, spec.Sharing):
		return p, fmt.Errorf("spec.sharing is %q: write None or Ports", spec.Sharing)
	default:
		return p, cmp.Or(ofServices, ofNamespaces, ofAddresses)
	}
}

// parseSelector selects everything where there is an error.
func parseSelector(field string, s *v1alpha1.LabelSelector) (labels.Selector, error) {
	parsed, err := s.Parse()
	if err != nil {
		return labels.Everything(), fmt.Errorf("correct spec.%s: %w", field, err)
	}
	return parsed, nil
}

// Giving is the same pool of a cloud that gives addresses of some families.
func (p *Pool) Giving(names []string) *Pool {
	out := *p
	out.of, out.gives = p, [families]bool{}
	for _, name := range names {
		if f, ok := parseFamily(corev1.IPFamily(name)); ok {
			out.gives[f] = true
		}
	}
	return &out
}

// Same reports whether two are one pool, of a cloud that gives the same.
func (p *Pool) Same(o *Pool) bool { return p == o || p.of != nil && p.of == o.of && p.gives == o.gives }

func (p *Pool) parseAddresses(entries []v1alpha1.AddressRange) error {
	if len(entries) == 0 {
		return fmt.Errorf("spec.addresses is empty: add a prefix, a range or an address")
	}
	if slices.Contains(entries, v1alpha1.AddressesOfProvider) {
		p.Given, p.gives = true, [families]bool{true, true}
		if len(entries) > 1 {
			return fmt.Errorf("spec.addresses has %s and others: make another pool for addresses that you name", v1alpha1.AddressesOfProvider)
		}
		return nil
	}
	const listed = 5
	var bad []string
	for _, entry := range entries {
		s, err := parseRange(string(entry))
		switch {
		case err == nil:
			f := familyOf(s.first)
			p.ranges[f] = append(p.ranges[f], s)
		case len(bad) < listed:
			bad = append(bad, fmt.Sprintf("spec.addresses: %q %v", entry, err))
		}
	}
	for f := range p.ranges {
		p.ranges[f] = merge(p.ranges[f])
	}
	if bad != nil {
		return fmt.Errorf("%s", strings.Join(bad, "; "))
	}
	return nil
}

// index finds the pool of an address.
type index []indexed // sorted, apart from each other

type indexed struct {
	addrRange
	pool *Pool
}

func newIndex(pools []*Pool) index {
	var x index
	for _, p := range pools {
		for _, ranges := range p.ranges {
			for _, s := range ranges {
				x = append(x, indexed{s, p})
			}
		}
	}
	slices.SortFunc(x, func(a, b indexed) int { return a.first.Compare(b.first) })
	return x
}

// from is the place of the first range that does not end before an address.
func (x index) from(a netip.Addr) int {
	return sort.Search(len(x), func(i int) bool { return !x[i].last.Less(a) })
}

// find is the pool that has an address, nil if none has.
func (x index) find(a netip.Addr) *Pool {
	if i := x.from(a); i < len(x) && x[i].contains(a) {
		return x[i].pool
	}
	return nil
}

func (x index) overlap(p *Pool) *Problem {
	for _, ranges := range p.ranges {
		for _, s := range ranges {
			if i := x.from(s.first); i < len(x) && x[i].overlaps(s) {
				return &Problem{
					Reason: v1alpha1.ReasonOverlap,
					Message: fmt.Sprintf("AddressPool %s, which is older, has addresses of %s (%s): take them out of one of the two",
						x[i].pool.Name, s, x[i].addrRange),
				}
			}
		}
	}
	return nil
}

// gaps are the parts of a range that no pool has.
func (x index) gaps(s addrRange) (out []addrRange) {
	for i := x.from(s.first); i < len(x) && x[i].overlaps(s); i++ {
		if s.first.Less(x[i].first) {
			out = append(out, addrRange{s.first, x[i].first.Prev()})
		}
		if !x[i].last.Less(s.last) {
			return out
		}
		s.first = x[i].last.Next()
	}
	return append(out, s)
}

func (x *index) add(p *Pool) {
	for _, ranges := range p.ranges {
		for _, s := range ranges {
			*x = slices.Insert(*x, x.from(s.first), indexed{s, p})
		}
	}
}
