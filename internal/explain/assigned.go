package explain

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/lb"
	"github.com/external-lb/external-lb/internal/plan"
	"github.com/external-lb/external-lb/internal/record"
	"github.com/external-lb/external-lb/internal/translate"
)

// carrier is the Balancer that serves the Service, and whether it is in force.
func (e *explanation) carrier() {
	if !e.read(Balancers) {
		if name := record.Carrier(record.Holders(e.Service), e.Service); name != "" {
			e.ok(LinkBalancer, "%s, as the Service's record says", name)
			return
		}
		e.unknown(LinkBalancer, "%s", e.unread(Balancers))
		return
	}
	may := e.claims.MayServe(e.Service)
	if len(may) > 1 && !e.read(Pools, Namespaces) && len(record.Holders(e.Service)) == 0 {
		e.unknown(LinkBalancer, "which of several depends on their pools: %s", e.unread(Pools, Namespaces))
		return
	}
	b := e.claims.Of(e.Service)
	e.balancer = b
	accepted := meta.FindStatusCondition(b.Status.Conditions, v1alpha1.ConditionAccepted)
	switch {
	case accepted == nil:
		e.add(Finding{Link: LinkBalancer, State: Wrong, See: seeBalancer, Message: fmt.Sprintf(
			"the controller has not seen Balancer %s yet: is it running?", b.Name)})
	case accepted.Status != metav1.ConditionTrue:
		e.add(Finding{Link: LinkBalancer, State: Wrong, Reason: accepted.Reason, See: seeBalancer,
			Message: fmt.Sprintf("Balancer %s: %s", b.Name, accepted.Message)})
	case accepted.ObservedGeneration < b.Generation:
		e.unknown(LinkBalancer, "the controller has not looked at the last change of Balancer %s yet", b.Name)
	default:
		e.reported(Finding{Link: LinkBalancer, State: OK, Message: fmt.Sprintf("%s, with %s: %s", b.Name, translate.Carriers(b), accepted.Message)})
	}
}

// expect plans as the controller does, if all was read that the Service's part depends on.
// What depends on nodes, EndpointSlices or policies is looked at only where these were, too.
func (e *explanation) expect() (err error) {
	if e.balancer == nil || !e.read(Pools, Services, Namespaces) {
		return nil
	}
	if e.plan, err = plan.Expect(e.balancer, e.Objects); err != nil {
		return err
	}
	for _, view := range e.plan.Services {
		if view.Object.UID == e.Service.UID {
			e.view = view
		}
	}
	return nil
}

// problems of the plan that belong to a link.
func (e *explanation) problems(link string) (out []plan.Problem) {
	if e.view == nil {
		return nil
	}
	for _, p := range e.view.Problems {
		if places[p.Reason].link == link {
			out = append(out, p)
		}
	}
	return out
}

// moving says what keeps the Service on its way from one Balancer to another.
func (e *explanation) moving() {
	if c := e.told(v1alpha1.ConditionMoving); c.Status == metav1.ConditionTrue {
		state := Wrong
		if c.Reason == v1alpha1.ReasonPending {
			state = Unknown
		}
		e.add(Finding{Link: LinkBalancer, State: state, Reason: c.Reason, Message: c.Message, See: seeMove})
		return
	}
	e.blame(e.problems(LinkBalancer))
}

// address is what the Service is given of the pools.
func (e *explanation) address() {
	if e.view == nil {
		e.addressAsTold()
		return
	}
	if len(e.view.Addresses) == 0 {
		e.poolsNotInForce()
	}
	wrong := e.blame(e.problems(LinkAddress))
	for _, a := range e.view.Addresses {
		e.ok(LinkAddress, "%s%s", record.Describe([]netip.Addr{a}), e.ofPool(a))
	}
	if len(e.view.Addresses) == 0 && !wrong {
		e.unknown(LinkAddress, "none is assigned yet")
	}
}

func (e *explanation) ofPool(a netip.Addr) string {
	if lb.Given(a) {
		return ""
	}
	for _, p := range e.Objects.Pools.Accepted {
		if p.Contains(a) {
			return ", of AddressPool " + p.Name
		}
	}
	return ", of no pool that is in force"
}

// poolsNotInForce tells of the Balancer's pools that could have had an address.
func (e *explanation) poolsNotInForce() {
	for _, p := range slices.Concat(e.Objects.Pools.Rejected, e.Objects.Pools.Accepted) {
		if problem := cmp.Or(e.Objects.Pools.Problems[p.Name], e.claims.Misplaced(p.Name)); p.Balancer == e.balancer.Name && problem != nil {
			e.add(Finding{Link: LinkAddress, State: Wrong, Reason: problem.Reason, See: seeAddress,
				Message: fmt.Sprintf("AddressPool %s is not in force: %s", p.Name, problem.Message)})
		}
	}
}

// addressAsTold is what the Service itself says of its address.
func (e *explanation) addressAsTold() {
	wrong := e.blame(e.tells(LinkAddress))
	has := strings.Join(record.Shows(e.Service), ",")
	if has == "" {
		has = record.Describe(record.Addresses(e.Service))
	}
	switch {
	case has != "":
		e.ok(LinkAddress, "%s, as the Service's status says", has)
	case wrong:
	case e.read(Balancers, Pools, Services, Namespaces):
		e.unknown(LinkAddress, "none is assigned yet")
	default:
		e.unknown(LinkAddress, "%s", e.unread(Balancers, Pools, Services, Namespaces))
	}
}

// listeners are what hosts are to listen on.
func (e *explanation) listeners() {
	if e.view == nil {
		e.listenersAsTold()
		return
	}
	problems := e.problems(LinkListener)
	for _, p := range problems {
		if p.Reason == v1alpha1.ReasonPortConflict {
			e.wrong(p.Reason, p.Message)
		}
	}
	for _, port := range e.Service.Spec.Ports {
		portError, failed := e.view.PortError(port)
		if portError == v1alpha1.PortErrorCertificate {
			e.certificate(port)
			continue
		}
		i := slices.IndexFunc(problems, func(p plan.Problem) bool { return p.Reason == reasonOf[portError] })
		if failed && i >= 0 {
			e.wrongPort(port, problems[i])
		}
	}
	for _, f := range e.frontends() {
		if e.view.Pods {
			e.ok(LinkListener, "%s to pods, each at its own port", f.Listener)
			continue
		}
		if f.NodePort == 0 {
			e.ok(LinkListener, "%s to the same port of nodes", f.Listener)
			continue
		}
		e.ok(LinkListener, "%s to nodePort %d", f.Listener, f.NodePort)
	}
}

// wrongPort says what is wrong with a port, once where the words are of several.
func (e *explanation) wrongPort(port corev1.ServicePort, p plan.Problem) {
	text := p.Message
	if !strings.Contains(text, portName(port)) {
		text = portName(port) + ": " + text
	}
	said := func(f Finding) bool { return f.Reason == p.Reason && f.Message == text }
	if !slices.ContainsFunc(e.chain, said) {
		e.wrong(p.Reason, text)
	}
}

func portName(p corev1.ServicePort) string { return fmt.Sprintf("%d/%s", p.Port, p.Protocol) }

// frontends of the Service in the model.
func (e *explanation) frontends() []lb.Frontend {
	item, there := e.plan.Set.Get(e.view.Key)
	if !there {
		return nil
	}
	part, err := lb.DecodeGiven(item)
	if svc, ok := part.(*lb.Service); ok && err == nil {
		return svc.Frontends
	}
	return nil
}

// certificate says what the controller said of a port whose TLS is terminated: Secrets are
// not read here.
func (e *explanation) certificate(port corev1.ServicePort) {
	for _, c := range e.tells(LinkListener) {
		if c.Reason == v1alpha1.ReasonNoCertificate {
			e.wrong(c.Reason, fmt.Sprintf("%s: %s", portName(port), c.Message))
			return
		}
	}
	if e.told(v1alpha1.ConditionServiceProgrammed).Status == metav1.ConditionTrue {
		e.ok(LinkListener, "%s with TLS", portName(port))
		return
	}
	e.unknown(LinkListener, "%s: whether its certificate can be served is the controller's to say, and it has not yet", portName(port))
}

func (e *explanation) listenersAsTold() {
	wrong := e.blame(e.tells(LinkListener))
	var ports []string
	for _, p := range e.Service.Spec.Ports {
		ports = append(ports, portName(p))
	}
	switch {
	case wrong:
	case e.told(v1alpha1.ConditionServiceProgrammed).Status == metav1.ConditionTrue:
		e.ok(LinkListener, "%s, as the Service's status says", strings.Join(ports, ", "))
	default:
		e.unknown(LinkListener, "%s: not before it has an address", strings.Join(ports, ", "))
	}
}
