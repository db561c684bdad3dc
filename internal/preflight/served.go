package preflight

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/explain"
	"github.com/external-lb/external-lb/internal/lb"
	"github.com/external-lb/external-lb/internal/record"
)

// A pool is nearly full as the alert ExternalLBPoolNearlyFull has it: a small one may be
// full on purpose.
const (
	poolShare = 0.9
	poolLeast = 10
)

func (c *checks) pools() {
	if c.unread(explain.Pools) {
		c.skip("pools", c.Unread[explain.Pools], more)
		return
	}
	for _, p := range c.Pools {
		topic := "pool " + p.Name
		if problem := c.Objects.Pools.Problems[p.Name]; problem != nil {
			c.fail(topic, problem.Reason+": "+problem.Message, "correct it: until then nobody gets an address of it")
			continue
		}
		c.usage(topic, "IPv4", p.Status.IPv4)
		c.usage(topic, "IPv6", p.Status.IPv6)
	}
	if len(c.Pools) == 0 {
		c.warn("pools", "there is no AddressPool, so no Service gets an address", "make one: config/samples has it")
	}
}

func (c *checks) usage(topic, family string, u *v1alpha1.AddressUsage) {
	if u == nil {
		return
	}
	text := fmt.Sprintf("%d of %d %s addresses are assigned", u.Assigned, u.Capacity, family) + c.old()
	if u.Capacity >= poolLeast && float64(u.Assigned) > poolShare*float64(u.Capacity) {
		c.warn(topic, text, "add addresses, or another pool, before Services get none")
		return
	}
	c.ok(topic, "%s", text)
}

// services that have no address, by why.
func (c *checks) services() {
	if c.unread(explain.Services) {
		c.skip("services", c.Unread[explain.Services], more)
		return
	}
	why := map[string][]string{}
	served := 0
	for _, b := range c.Objects.Balancers {
		for _, svc := range c.of(b) {
			served++
			if p := meta.FindStatusCondition(svc.Status.Conditions, v1alpha1.ConditionServiceProgrammed); p != nil && p.Status == metav1.ConditionFalse {
				why[p.Reason] = append(why[p.Reason], name(svc))
			}
		}
	}
	for _, reason := range slices.Sorted(maps.Keys(why)) {
		slices.Sort(why[reason])
		c.fail("services", fmt.Sprintf("%s: %s", reason, few(why[reason])), "external-lb explain service "+why[reason][0])
	}
	if len(why) == 0 {
		c.ok("services", "of the %d that Balancers serve, none says that it lacks its address", served)
	}
}

// rivals serve Services of type LoadBalancer, too, by the group of their kinds.
var rivals = map[string]string{"metallb.io": "MetalLB", "purelb.io": "PureLB", "loxilb.io": "loxilb", "kubelb.k8c.io": "KubeLB"}

// others are whoever serves what Balancers serve.
func (c *checks) others() {
	fine := true
	for _, svc := range c.Objects.Services {
		if stranger := foreign(svc); stranger != "" {
			fine = false
			c.fail("others", fmt.Sprintf("somebody else writes the status of Service %s: %s is not of external-lb", name(svc), stranger), see(seeOthers))
		}
	}
	for _, b := range c.Objects.Balancers {
		for _, group := range c.Groups {
			if b.Spec.Default && rivals[group] != "" {
				fine = false
				c.warn("others", fmt.Sprintf("%s is in this cluster, and Balancer %s serves Services that name no class", rivals[group], b.Name),
					"let one of the two serve these: see docs/howto/from-metallb.md")
			}
		}
	}
	for _, svc := range c.Objects.Services {
		class := svc.Spec.LoadBalancerClass
		if class != nil && strings.HasPrefix(*class, v1alpha1.DefaultClassPrefix) && !c.unread(explain.Balancers) && len(c.claims.MayServe(svc)) == 0 {
			fine = false
			c.warn("others", fmt.Sprintf("nobody serves the class %s of Service %s", *class, name(svc)), "external-lb explain service "+name(svc))
		}
	}
	if fine && !c.unread(explain.Services) {
		c.ok("others", "nobody else is seen to serve what Balancers serve")
	}
}

// foreign is an address of a Service's status that is not on its record.
func foreign(svc *corev1.Service) string {
	if svc.Spec.Type != corev1.ServiceTypeLoadBalancer || len(record.Holders(svc)) == 0 {
		return ""
	}
	ours := record.Addresses(svc)
	for _, a := range record.Published(svc) {
		if !slices.ContainsFunc(ours, func(o netip.Addr) bool { return o == a || lb.Given(o) && o.Is4() == a.Is4() }) {
			return a.String()
		}
	}
	return ""
}
