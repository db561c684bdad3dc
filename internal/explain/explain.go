package explain

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/plan"
	"github.com/external-lb/external-lb/internal/record"
)

// Explain says how far a Service gets. An error is a fault of this program.
func Explain(f Facts) (Chain, error) {
	e := &explanation{Facts: f}
	e.claims = plan.NewClaims(f.Objects.Balancers, f.Objects.Pools.Accepted, f.Objects.Namespaces)
	e.manager()
	switch {
	case f.Service.DeletionTimestamp != nil:
		e.deleting()
		return e.chain, nil
	case !e.kind() || !e.class():
		return e.chain, nil
	}
	e.carrier()
	if err := e.expect(); err != nil {
		return nil, err
	}
	e.moving()
	e.address()
	e.listeners()
	e.hosts()
	e.refusals()
	e.nodes()
	e.endpoints()
	e.policies()
	e.status()
	return e.chain, nil
}

// explanation is one in the making.
type explanation struct {
	Facts
	chain    Chain
	claims   plan.Claims
	balancer *v1alpha1.Balancer // that serves the Service; nil: it is not known
	plan     *plan.Plan         // nil: not all that it depends on could be read
	view     *plan.Service      // of the plan; nil: the Service is not in it
}

func (e *explanation) add(f Finding) { e.chain = append(e.chain, f) }

func (e *explanation) ok(link, format string, args ...any) {
	e.add(Finding{Link: link, State: OK, Message: fmt.Sprintf(format, args...)})
}

// manager is whether somebody keeps the statuses true.
func (e *explanation) manager() {
	f := Finding{Link: LinkManager, State: e.Manager.State, Message: e.Manager.Message}
	if e.down() {
		f.See = seeManager
	}
	if f.State != "" {
		e.add(f)
	}
}

// down: nobody keeps the statuses true.
func (e *explanation) down() bool { return e.Manager.State == Wrong }

// reported is what a status says. It is not believed where it may be old.
func (e *explanation) reported(f Finding) {
	if e.down() && f.State == OK {
		f.State = Unknown
		f.Message += ", as the manager last saw it"
	}
	e.add(f)
}

func (e *explanation) unknown(link, format string, args ...any) {
	e.add(Finding{Link: link, State: Unknown, Message: fmt.Sprintf(format, args...)})
}

// wrong for the reason of a Service's condition, in its words.
func (e *explanation) wrong(reason, message string) {
	at := places[reason]
	e.add(Finding{Link: at.link, State: Wrong, Reason: reason, Message: message, See: at.see})
}

// told is a condition of the Service.
func (e *explanation) told(kind string) metav1.Condition {
	if c := meta.FindStatusCondition(e.Service.Status.Conditions, kind); c != nil {
		return *c
	}
	return metav1.Condition{}
}

// tells are what the Service's conditions say that is not well and belongs to a link.
func (e *explanation) tells(link string) (out []plan.Problem) {
	for _, kind := range []string{v1alpha1.ConditionServiceProgrammed, v1alpha1.ConditionPortsError} {
		c := e.told(kind)
		said := func(o plan.Problem) bool { return strings.Contains(o.Message, c.Message) }
		if places[c.Reason].link == link && !slices.ContainsFunc(out, said) {
			out = append(out, plan.Problem{Reason: c.Reason, Message: c.Message})
		}
	}
	return out
}

// blame says of each problem that it is wrong, and whether there is any.
func (e *explanation) blame(problems []plan.Problem) bool {
	for _, p := range problems {
		e.wrong(p.Reason, p.Message)
	}
	return len(problems) > 0
}

// unread joins why objects of some kinds could not be read.
func (e *explanation) unread(kinds ...string) string {
	var why []string
	for _, kind := range kinds {
		if text := e.Unread[kind]; text != "" {
			why = append(why, text)
		}
	}
	return strings.Join(why, "; ")
}

func (e *explanation) deleting() {
	if !record.Marked(e.Service) {
		e.add(Finding{Link: LinkService, State: Wrong, Message: "it is being deleted, and does not wait for external-lb"})
		return
	}
	e.add(Finding{
		Link: LinkService, State: Wrong, See: seeDeleted,
		Message: "it is being deleted, and waits until every host has confirmed that it no longer carries it",
	})
	for _, b := range e.Objects.Balancers {
		if slices.Contains(record.Holders(e.Service), b.Name) {
			e.balancer = b
			e.hosts()
		}
	}
}

// kind reports whether the Service is of a type that a Balancer serves.
func (e *explanation) kind() bool {
	svc := e.Service
	switch {
	case svc.Spec.Type == corev1.ServiceTypeLoadBalancer:
		e.ok(LinkService, "of type LoadBalancer")
		return true
	case svc.Spec.Type == corev1.ServiceTypeNodePort && svc.Annotations[v1alpha1.BalancerAnnotation] != "":
		e.ok(LinkService, "of type NodePort, with the annotation %s", v1alpha1.BalancerAnnotation)
		return true
	}
	e.add(Finding{Link: LinkService, State: Wrong, See: seeAddress, Message: fmt.Sprintf(
		"it is of type %s: only Services of type LoadBalancer are served, and those of type NodePort with the annotation %s",
		svc.Spec.Type, v1alpha1.BalancerAnnotation)})
	return false
}

// class reports whether a Balancer may serve what the Service asks for.
func (e *explanation) class() bool {
	asks := e.asks()
	may := e.claims.MayServe(e.Service)
	switch {
	case !e.read(Balancers):
		e.unknown(LinkClass, "%s: whether a Balancer serves that is not known: %s", asks, e.unread(Balancers))
	case len(may) == 0:
		e.add(Finding{Link: LinkClass, State: Wrong, See: seeAddress, Message: asks + ", and " + e.nobody()})
		return false
	case len(may) == 1:
		e.ok(LinkClass, "%s: Balancer %s", asks, may[0].Name)
	default:
		e.ok(LinkClass, "%s: %s", asks, plan.NameBalancers(names(may)))
	}
	return true
}

// asks is what the Service says of who should serve it.
func (e *explanation) asks() string {
	svc := e.Service
	switch {
	case svc.Spec.Type == corev1.ServiceTypeNodePort:
		return fmt.Sprintf("it names Balancer %.80q", svc.Annotations[v1alpha1.BalancerAnnotation])
	case svc.Spec.LoadBalancerClass == nil:
		return "it names no class, which is for Balancers with default: true"
	default:
		return "its class is " + *svc.Spec.LoadBalancerClass
	}
}

// nobody says why no Balancer serves the Service, and what there is instead.
func (e *explanation) nobody() string {
	var there []string
	for _, b := range e.Objects.Balancers {
		switch {
		case b.DeletionTimestamp != nil && (plan.AsksFor(e.Service) == b.Name || e.Service.Spec.LoadBalancerClass == nil && b.Spec.Default):
			return fmt.Sprintf("Balancer %s is being deleted", b.Name)
		case e.Service.Spec.Type == corev1.ServiceTypeNodePort:
			there = append(there, b.Name)
		default:
			there = append(there, plan.Class(b))
		}
	}
	slices.Sort(there)
	switch {
	case len(there) == 0:
		return "there is no Balancer"
	case e.Service.Spec.Type == corev1.ServiceTypeNodePort:
		return "there is none of that name, only " + some(there)
	case e.Service.Spec.LoadBalancerClass == nil:
		return fmt.Sprintf("there is none: set that of one, or name one of the classes in spec.loadBalancerClass: %s", some(there))
	default:
		return fmt.Sprintf("no Balancer serves it: the classes are %s", some(slices.Compact(there)))
	}
}

func names(balancers []*v1alpha1.Balancer) []string {
	out := make([]string, len(balancers))
	for i, b := range balancers {
		out[i] = b.Name
	}
	return out
}

// some of a list, if it is long.
func some(list []string) string {
	const most = 5
	if len(list) <= most {
		return strings.Join(list, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(list[:most], ", "), len(list)-most)
}
