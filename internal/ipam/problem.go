package ipam

import (
	"cmp"
	"fmt"
	"net/netip"
	"strings"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/lb"
)

// problems collects what one Service is told.
type problems struct {
	reason   string // of the first
	messages []string
}

func (ps *problems) add(p *Problem) {
	if p == nil {
		return
	}
	if ps.reason == "" {
		ps.reason = p.Reason
	}
	for _, m := range ps.messages {
		if m == p.Message {
			return
		}
	}
	ps.messages = append(ps.messages, p.Message)
}

func (ps *problems) requireAll() {
	ps.messages = append(ps.messages, "with spec.ipFamilyPolicy RequireDualStack nothing new is assigned until every family can be: PreferDualStack takes what there is")
}

func (ps *problems) conflicts(conflicts []Conflict) {
	const listed = 4
	for _, c := range conflicts[:min(len(conflicts), listed)] {
		ps.add(listenerHeld(c))
	}
	if more := len(conflicts) - listed; more > 0 {
		ps.messages = append(ps.messages, fmt.Sprintf("and %d more listeners are held by others", more))
	}
}

// one is the whole of what was collected, nil if nothing was.
func (ps *problems) one() *Problem {
	if ps.reason == "" {
		return nil
	}
	return &Problem{Reason: ps.reason, Message: join(ps.messages)}
}

func join(messages []string) string { return strings.Join(messages, "; ") }

func unavailable(format string, args ...any) *Problem {
	return &Problem{Reason: v1alpha1.ReasonAddressUnavailable, Message: fmt.Sprintf(format, args...)}
}

// What is wrong with what is requested.

func noFamilies() *Problem {
	return &Problem{Reason: v1alpha1.ReasonInvalidSpec, Message: "spec.ipFamilies has neither IPv4 nor IPv6: name at least one"}
}

func notReal(a netip.Addr) *Problem {
	return unavailable("%s cannot be a balancer's address: ask for a plain IPv4 or IPv6 address", a)
}

func otherFamily(a netip.Addr, f family) *Problem {
	return unavailable("%s is asked for, but spec.ipFamilies has no %s: add it there, or do not ask for this address", a, f)
}

func twoOfFamily(a, b netip.Addr, f family) *Problem {
	return &Problem{
		Reason: v1alpha1.ReasonInvalidAnnotation,
		Message: fmt.Sprintf("%s and %s are both %s: ask for one address per family in the annotation %s",
			a, b, f, v1alpha1.AddressesAnnotation),
	}
}

// Why a named address is not given.

func inNoPool(a netip.Addr, given []*Pool) *Problem {
	if len(given) > 0 {
		return unavailable("no AddressPool of this Balancer has %s, and of AddressPool %s the cloud chooses the addresses: "+
			"add it to a pool of addresses that you name, or ask for none", a, given[0].Name)
	}
	return unavailable("no AddressPool of this Balancer has %s: add it to one, or ask for another address", a)
}

func inOtherPool(a netip.Addr, p *Pool, r *Request) *Problem {
	return unavailable("%s is in AddressPool %s, but the annotation %s names %.80q: correct one of the two",
		a, p.Name, poolAnnotation(r), r.Pool)
}

func forbidden(a netip.Addr, why string) *Problem {
	return unavailable("%s is not available to this Service: %s", a, why)
}

func heldBy(a netip.Addr, p *Pool, holder *service) *Problem {
	return unavailable("%s is held by Service %s, and AddressPool %s has sharing None: ask for another address, or wait until it is free",
		a, holder.Name, p.Name)
}

func heldWhole(a netip.Addr, holder *service) *Problem {
	return unavailable("%s is held by Service %s until its withdrawal is confirmed: wait, or ask for another address", a, holder.Name)
}

// holdsTooMany tells a Service that moves faster than hosts let go of its addresses.
func holdsTooMany(n int) *Problem {
	return &Problem{v1alpha1.ReasonAddressUnavailable, fmt.Sprintf(
		"the Service holds %d addresses, since hosts have not confirmed yet that they let go of those that it had before: "+
			"it gets no other one until they have; its Balancer says what is wrong with them", n)}
}

func listenerHeld(c Conflict) *Problem {
	return &Problem{
		Reason:  v1alpha1.ReasonPortConflict,
		Message: fmt.Sprintf("%s is held by Service %s: use another port or address, or wait until it is free", c.Listener, c.Holder),
	}
}

// name of an address, also of one that only the cloud knows.
func name(a netip.Addr) string {
	if lb.Given(a) {
		return fmt.Sprintf("the %s address that the cloud gives", familyOf(a))
	}
	return a.String()
}

// poolAnnotation is the one that names the pool: ours, if it is not said.
func poolAnnotation(r *Request) string {
	return cmp.Or(r.PoolAnnotation, v1alpha1.AddressPoolAnnotation)
}

// Why no address is found for a Service that names none.

func noSuchPool(r *Request) *Problem {
	return &Problem{
		Reason: v1alpha1.ReasonNoPool,
		Message: fmt.Sprintf("AddressPool %q, which the annotation %s names, is not in force for this Balancer: correct the name, or see the pool's conditions",
			r.Pool, poolAnnotation(r)),
	}
}

func poolForbids(why string, r *Request) *Problem {
	return &Problem{
		Reason:  v1alpha1.ReasonNoPool,
		Message: fmt.Sprintf("%s, though the annotation %s names it: correct one of the two", why, poolAnnotation(r)),
	}
}

func noPool(pools []*Pool) *Problem {
	message := "no AddressPool is in force for this Balancer: create one whose spec.balancer names it"
	if len(pools) > 0 {
		message = fmt.Sprintf("no AddressPool of this Balancer assigns addresses to this Service by itself: see the selectors and autoAssign of its pools, or name one in the annotation %s",
			v1alpha1.AddressPoolAnnotation)
	}
	return &Problem{Reason: v1alpha1.ReasonNoPool, Message: message}
}

func noneOfFamily(f family, named string) *Problem {
	where := "no AddressPool that this Service may use has"
	if named != "" {
		where = fmt.Sprintf("AddressPool %s does not have", named)
	}
	return &Problem{
		Reason:  v1alpha1.ReasonNoPool,
		Message: fmt.Sprintf("%s %s addresses: add some, or take %s out of spec.ipFamilies", where, f, f),
	}
}

// allHeld names an example, if there is one: it is where to begin to look.
func allHeld(f family, pools []*Pool, example *Problem) *Problem {
	names := make([]string, len(pools))
	for i, p := range pools {
		names[i] = p.Name
	}
	message := fmt.Sprintf("every %s address of AddressPool %s that would do is held: add addresses, or delete Services that hold some",
		f, strings.Join(names, ", "))
	if example != nil {
		message += " (" + example.Message + ")"
	}
	return &Problem{Reason: v1alpha1.ReasonPoolExhausted, Message: message}
}

// notice tells of an address that a Service keeps and could not get now.
func (c *chooser) notice(a netip.Addr, s *service) []string {
	p := c.ledger.pools.find(a)
	switch {
	case lb.Given(a) && c.ledger.entitled(a, s):
		return nil
	case lb.Given(a):
		return []string{"no AddressPool of this Balancer gives the Service an address of the cloud any more; it keeps " + name(a) +
			" until it asks for another or is deleted"}
	case p == nil, p.Foreign:
		return []string{fmt.Sprintf("no AddressPool of this Balancer has %s any more; the Service keeps it until it asks for another or is deleted", a)}
	case s.Pool != "" && s.Pool != p.Name:
		return []string{fmt.Sprintf("the Service keeps %s of AddressPool %s, as an address in use does not change by itself; to move it to AddressPool %s, name an address of that in the annotation %s",
			a, p.Name, s.Pool, v1alpha1.AddressesAnnotation)}
	}
	if why := p.forbids(s.Request); why != "" {
		return []string{fmt.Sprintf("the Service keeps %s, though %s", a, why)}
	}
	return nil
}
