package conditions

import (
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
)

// Service is what a carried Service's status is made of.
type Service struct {
	*plan.Service
	Proof Proof
	Hosts string // WhyUnproved of them
	By    string // the Balancer that tells

	Backends *metav1.Condition // what hosts say of its nodes; nil: it stays as it was told
}

// ProgrammedMessage is that of a Service with which nothing is wrong.
const ProgrammedMessage = "its listeners are proved to be live"

// Ingress is what a Service's users are told. An address appears once it was proved,
// and stays from then on.
func (s Service) Ingress() (out []corev1.LoadBalancerIngress) {
	if !record.Held(s.Object) && !s.Proof.Enough && len(s.Addresses) > 0 {
		return s.Object.Status.LoadBalancer.Ingress // it could not be put on record yet
	}
	for _, a := range s.Addresses {
		switch {
		case lb.Given(a):
			out = s.given(a, out)
		case s.shows(a):
			out = append(out, s.ingress(a, a))
		}
	}
	if len(out) == 0 && len(s.Addresses) == 0 && record.Held(s.Object) {
		return s.Object.Status.LoadBalancer.Ingress // nothing better is known
	}
	return out
}

// shows reports whether users are told of an address: once it answers, and from then on.
func (s Service) shows(a netip.Addr) bool {
	return s.Proof.Enough && s.answers(a) || slices.Contains(record.Published(s.Object), a)
}

// answers reports whether hosts have some port of an address that they do not all refuse: with a second family, one
// may have none.
func (s Service) answers(a netip.Addr) bool {
	return slices.ContainsFunc(s.Frontends, func(f lb.Frontend) bool {
		return f.Listener.Address == a && !s.Proof.Shut[f.Listener]
	})
}

// missing says at which addresses users do not reach a Service of which others are told.
func (s Service) missing() (out []string) {
	for _, family := range s.Object.Spec.IPFamilies {
		i := slices.IndexFunc(s.Addresses, func(a netip.Addr) bool { return a.Is4() == (family == corev1.IPv4Protocol) })
		switch {
		case i < 0, lb.Given(s.Addresses[i]) && s.given(s.Addresses[i], nil) == nil:
			out = append(out, fmt.Sprintf("it has no %s address", family))
		case !lb.Given(s.Addresses[i]) && !s.shows(s.Addresses[i]):
			out = append(out, fmt.Sprintf("%s is not published, since no port answers there", s.Addresses[i]))
		}
	}
	return out
}

// given adds what the cloud gave for an address, or what was told of that until it is proved.
// A hostname may be of both families.
func (s Service) given(a netip.Addr, out []corev1.LoadBalancerIngress) []corev1.LoadBalancerIngress {
	var found []corev1.LoadBalancerIngress
	if meta.FindStatusCondition(s.Object.Status.Conditions, v1alpha1.ConditionServiceProgrammed) != nil {
		found = s.Object.Status.LoadBalancer.Ingress // else somebody else has told that
	}
	if s.Proof.Enough {
		found = nil
		for _, g := range s.Proof.Given {
			switch {
			case g.Hostname != "":
				in := s.ingress(a, netip.Addr{})
				in.Hostname = g.Hostname
				found = append(found, in)
			case g.IP.Is4() == a.Is4():
				found = append(found, s.ingress(a, g.IP))
			}
		}
	}
	for _, in := range found {
		ip, err := netip.ParseAddr(in.IP)
		known := func(o corev1.LoadBalancerIngress) bool { return o.IP == in.IP && o.Hostname == in.Hostname }
		if (err != nil || ip.Is4() == a.Is4()) && !slices.ContainsFunc(out, known) {
			out = append(out, in)
		}
	}
	return out
}

// Told are the addresses that users of a Service are told once it is proved, without hostnames.
func (s Service) Told() (out []netip.Addr) {
	for _, a := range s.Addresses {
		if !lb.Given(a) {
			if s.shows(a) {
				out = append(out, a)
			}
			continue
		}
		for _, g := range s.Proof.Given {
			if g.IP.IsValid() && g.IP.Is4() == a.Is4() {
				out = append(out, g.IP)
			}
		}
	}
	return out
}

// ingress of an address of the model, under the one that is shown; the zero Addr: under a hostname.
func (s Service) ingress(a, shown netip.Addr) corev1.LoadBalancerIngress {
	in := corev1.LoadBalancerIngress{}
	if shown.IsValid() {
		in.IP, in.IPMode = shown.String(), s.mode()
	}
	if len(s.PortErrors) == 0 && len(s.Proof.Closed) == 0 {
		return in
	}
	for _, port := range s.Object.Spec.Ports {
		status := corev1.PortStatus{Port: port.Port, Protocol: port.Protocol}
		if e, failed := s.PortError(port); failed {
			status.Error = &e
		} else if s.Proof.Closed[lb.Listener{Address: a, Port: uint16(port.Port), Protocol: lb.Protocol(port.Protocol)}] {
			status.Error = new(v1alpha1.PortErrorRefused)
		}
		in.Ports = append(in.Ports, status)
	}
	return in
}

// mode is how packets to an address reach the nodes.
func (s Service) mode() *corev1.LoadBalancerIPMode {
	if s.Direct {
		return new(corev1.LoadBalancerIPModeVIP)
	}
	return new(corev1.LoadBalancerIPModeProxy)
}

// Conditions that should be there, not dated yet. One of which nothing is known stays
// as it is and is not among them; one with Status "" should not be there.
func (s Service) Conditions() []metav1.Condition {
	var out []metav1.Condition
	if s.Object.Spec.Type != corev1.ServiceTypeNodePort {
		out = append(out, s.ports())
	}
	if c, known := s.moved(); known {
		out = append(out, c)
	}
	if c, known := s.programmed(); known {
		out = append(out, c)
	}
	if s.Backends != nil {
		out = append(out, *s.Backends)
	}
	return out
}

// ports says which ports are not carried (KEP-1435).
func (s Service) ports() metav1.Condition {
	c := metav1.Condition{Type: v1alpha1.ConditionPortsError}
	var messages []string
	if problem := s.PortsProblem(); problem != nil {
		c.Reason, messages = problem.Reason, append(messages, problem.Message)
	}
	if len(s.Proof.Closed) > 0 {
		if c.Reason == "" {
			c.Reason = v1alpha1.ReasonRefused
		}
		messages = append(messages, list(s.Proof.RefusedPorts))
	}
	if c.Message = strings.Join(messages, "; "); c.Reason != "" {
		c.Status = metav1.ConditionTrue
	}
	return c
}

// programmed sums a Service up. It is not known while a delivery is on its way: then
// what was said before stays.
func (s Service) programmed() (c metav1.Condition, known bool) {
	c = metav1.Condition{Type: v1alpha1.ConditionServiceProgrammed, Status: metav1.ConditionFalse}
	switch {
	case s.Fatal() != nil:
		c.Reason, c.Message = s.Fatal().Reason, s.ProblemMessages()
	case s.Proof.Enough:
		c.Status, c.Reason, c.Message = metav1.ConditionTrue, v1alpha1.ReasonProgrammed, ProgrammedMessage
		messages := s.missing()
		if len(s.Problems) > 0 {
			c.Reason, messages = s.Problems[0].Reason, append(messages, s.ProblemMessages())
		}
		if len(s.Proof.RefusedPorts) > 0 {
			c.Reason, messages = v1alpha1.ReasonRefused, append(messages, "ports are refused: "+list(s.Proof.RefusedPorts))
		}
		if len(s.Proof.Refused) > 0 {
			c.Reason, messages = v1alpha1.ReasonRefused, append(messages, "not on every host: "+list(s.Proof.Refused))
		}
		if messages != nil {
			c.Message = strings.Join(messages, "; ")
		}
	case s.refused() != "":
		c.Reason, c.Message = v1alpha1.ReasonRefused, s.refused()
	case len(s.Proof.Pending) > 0 && !meta.IsStatusConditionTrue(s.Object.Status.Conditions, c.Type):
		c.Reason, c.Message = v1alpha1.ReasonPending, list(s.Proof.Pending)
	case s.Shape == "" && len(s.Problems) > 0: // none of its listeners is left
		c.Reason, c.Message = s.Problems[0].Reason, s.ProblemMessages()
	case s.Proof.Settled && s.Hosts != "":
		c.Reason, c.Message = v1alpha1.ReasonHostsUnreachable, "too few hosts can prove it: "+s.Hosts
	default:
		return c, false
	}
	return c, true
}

// refused is why hosts leave a Service out, "" if they do not. All of its ports are as
// much as the whole.
func (s Service) refused() string {
	if len(s.Proof.Refused) == 0 && len(s.Proof.Closed) > 0 && len(s.Proof.Closed) < len(s.Frontends) {
		return ""
	}
	return list(slices.Concat(s.Proof.Refused, s.Proof.RefusedPorts))
}

// LosesPorts reports whether a host refuses ports of an arriving Service that answer
// where it is now, and may not lose them.
func (s Service) LosesPorts() bool {
	if s.MayLose {
		return false
	}
	for l := range s.Proof.Closed {
		if s.Object.Spec.Type == corev1.ServiceTypeNodePort {
			return true // nothing says what answers
		}
		for _, in := range s.Object.Status.LoadBalancer.Ingress {
			if in.IP == l.Address.String() && !slices.ContainsFunc(in.Ports, func(was corev1.PortStatus) bool {
				return was.Port == int32(l.Port) && lb.Protocol(was.Protocol) == l.Protocol && was.Error != nil
			}) {
				return true
			}
		}
	}
	return false
}

// moved says of a carried Service who has not let go of it yet. A Service that
// stays until another Balancer takes it over is told by that one.
func (s Service) moved() (c metav1.Condition, known bool) {
	c.Type = v1alpha1.ConditionMoving
	if len(s.Others) > 0 {
		c.Status, c.Reason = metav1.ConditionTrue, v1alpha1.ReasonWithdrawing
		c.Message = fmt.Sprintf("Balancer %s carries it; %s has not confirmed yet that it no longer does", s.By, plan.NameBalancers(s.Others))
	}
	return c, !s.Staying
}

// Arriving says how far a Service is that another Balancer carries, and why no
// further. blocked is why it is not taken over though it is proved.
func (s Service) Arriving(blocked string) metav1.Condition {
	c := metav1.Condition{Type: v1alpha1.ConditionMoving, Status: metav1.ConditionTrue}
	way := fmt.Sprintf("Balancer %s carries it; it moves to Balancer %s", s.From, s.By)
	switch {
	case s.Fatal() != nil:
		c.Reason, c.Message = s.Fatal().Reason, way+", which cannot take it: "+s.ProblemMessages()
	case s.Proof.Enough && s.LosesPorts():
		c.Reason, c.Message = v1alpha1.ReasonRefused, way+", whose hosts refuse ports that answer now: "+list(s.Proof.RefusedPorts)
	case s.Proof.Enough:
		c.Reason, c.Message = v1alpha1.ReasonKept, way+", which has proved it. "+blocked
	case s.refused() != "":
		c.Reason, c.Message = v1alpha1.ReasonRefused, way+", whose hosts refuse it: "+s.refused()
	case s.Shape == "" && len(s.Problems) > 0: // none of its listeners is left
		c.Reason, c.Message = s.Problems[0].Reason, way+", which cannot take it: "+s.ProblemMessages()
	case s.Proof.Settled && s.Hosts != "":
		c.Reason, c.Message = v1alpha1.ReasonHostsUnreachable, way+", of which too few hosts can prove it: "+s.Hosts
	default:
		c.Reason, c.Message = v1alpha1.ReasonPending, way+", which is to prove it first"
		if was := meta.FindStatusCondition(s.Object.Status.Conditions, c.Type); was != nil && strings.HasPrefix(was.Message, way) {
			return *was // until it is known to be otherwise
		}
	}
	return c
}
