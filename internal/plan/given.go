package plan

import (
	"fmt"
	"slices"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/ipam"
)

// given finds which families a cloud gives addresses of, for the pools whose addresses it
// gives, and leaves out those of which it does not. Nothing is known of a cloud whose provider
// was never reached: what it turns out not to give is given up again before anything is delivered.
func given(pools []*ipam.Pool, balancers map[string]*v1alpha1.Balancer) (out []*ipam.Pool, problems map[string]*ipam.Problem) {
	problems = map[string]*ipam.Problem{}
	for _, p := range pools {
		b := balancers[p.Balancer]
		switch {
		case !p.Given || b == nil: // that is told elsewhere
		case b.Spec.Provider == nil:
			problems[p.Name] = &ipam.Problem{Reason: v1alpha1.ReasonInvalid, Message: fmt.Sprintf(
				"spec.addresses is %s, and Balancer %s has hosts: name its addresses, or a Balancer with engine: provider",
				v1alpha1.AddressesOfProvider, b.Name)}
			continue
		case b.Status.Provider != nil:
			if why := missing(b.Status.Provider, "givenAddress"); why != "" {
				problems[p.Name] = &ipam.Problem{Reason: v1alpha1.ReasonUnsupported, Message: fmt.Sprintf(
					"the cloud of the provider %s gives no addresses by itself (%s): name addresses in place of %s",
					b.Status.Provider.Name, why, v1alpha1.AddressesOfProvider)}
				continue
			}
			p = p.Giving(b.Status.Provider.Families)
		}
		out = append(out, p)
	}
	return out, problems
}

// missing is why a provider cannot do something, "" if it can.
func missing(p *v1alpha1.ProviderStatus, setting string) string {
	i := slices.IndexFunc(p.Settings, func(s v1alpha1.ProviderSetting) bool { return s.Name == setting })
	if i < 0 {
		return "the provider does not know this setting"
	}
	return p.Settings[i].Missing
}

// Misplaced is why no cloud gives the addresses of a pool that wants that; nil: one does, or
// the pool has its own.
func (c Claims) Misplaced(pool string) *ipam.Problem { return c.misplaced[pool] }
