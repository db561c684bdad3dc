package plan

import (
	"cmp"
	"fmt"
	"math"
	"net/netip"
	"reflect"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/ipam"
	"github.com/external-lb/external-lb/internal/lb"
	"github.com/external-lb/external-lb/internal/record"
	"github.com/external-lb/external-lb/internal/translate"
)

// Assignments say which Services a Balancer carries, and on which addresses.
type Assignments struct {
	// Carried are the Services that this Balancer programs from now on, Leaving
	// those whose withdrawal is to be confirmed, Waiting those that another
	// Balancer has not let go yet, Elsewhere those that another one carries on
	// addresses of this one's pools.
	Carried, Leaving, Waiting, Elsewhere []*corev1.Service
	// Unrecorded are those of Carried, by index, that have something which is not on record.
	Unrecorded []int
	// Left are those that were carried the last time, and are not now.
	Left      []types.UID
	ByService map[types.UID]ipam.Assignment
	Usage     map[string]ipam.Usage // by pool

	balancer string
	claims   Claims
	entries  map[types.UID]*entry
	carried  []*entry // those of Carried
}

// Assign settles who is carried and on which addresses.
func Assign(s *Snapshot) *Assignments { return NewPlanner("").Assign(s) }

// Assign settles who is carried and on which addresses. It costs what has changed since the
// last time, and what it returns is good until the next time.
func (p *Planner) Assign(s *Snapshot) *Assignments {
	changed, gone := p.look(s)
	if p.assigner == nil {
		p.assigner = ipam.NewAssigner(slices.Concat(s.own, s.foreign))
	}
	a := &Assignments{balancer: s.Balancer.Name, claims: *s.claims, entries: p.entries}
	for _, e := range gone {
		p.assigner.Remove(e.uid)
		a.left(e, e.role)
	}
	for _, e := range changed {
		was := e.role
		p.ask(s, e)
		a.left(e, was)
	}
	a.ByService, a.Usage = p.assigner.Assign()
	p.sort(changed, gone)
	for _, uid := range p.assigner.Settled() {
		a.settle(p.entries[uid])
	}
	a.Carried, a.carried = make([]*corev1.Service, 0, len(p.sorted)), make([]*entry, 0, len(p.sorted))
	for _, e := range p.sorted {
		a.add(e)
	}
	return a
}

// left notes a Service that was carried and is not any more.
func (a *Assignments) left(e *entry, was role) {
	if was.carries() && (e.gone || !e.role.carries()) {
		a.Left = append(a.Left, e.uid)
	}
}

// ask of the pools what a Service asks for.
func (p *Planner) ask(s *Snapshot, e *entry) {
	svc := e.object
	e.role = s.role(svc)
	if e.role == nobody {
		p.assigner.Remove(svc.UID)
		return
	}
	var asked asked
	asked, e.invalid = requested(s.Balancer, svc)
	if e.invalid == nil {
		e.invalid = translate.CheckPorts(svc)
	}
	if e.invalid == nil && e.early != "" {
		e.invalid = &translate.Problem{Reason: v1alpha1.ReasonPending, Message: fmt.Sprintf("the API server does not tell of %s at the moment: "+
			"they may say how this Service is to be served, so it waits for them", e.early)}
	}
	request := s.request(svc, asked, e.invalid != nil || frozen(e.role, svc))
	request.Apart = e.role == arriving || e.role == waiting || e.role == elsewhere
	p.assigner.Set(&request)
}

// settle takes what the pools gave a Service.
func (a *Assignments) settle(e *entry) {
	if now := a.ByService[e.object.UID]; !reflect.DeepEqual(now, e.assigned) {
		e.assigned, e.planned.object = now, nil
	}
	e.unrecorded = e.role.carries() && len(e.assigned.Addresses) > 0 && a.Record(e.object).Patch(e.object) != nil
}

// sort keeps the Services in the order of their names.
func (p *Planner) sort(changed, gone []*entry) {
	if len(gone) > 0 {
		p.sorted = slices.DeleteFunc(p.sorted, func(e *entry) bool { return e.gone })
	}
	fresh := slices.DeleteFunc(changed, func(e *entry) bool { return e.placed })
	for _, e := range fresh {
		e.placed = true
	}
	if len(fresh) > fewNew {
		p.sorted = append(p.sorted, fresh...)
		slices.SortFunc(p.sorted, byName)
		return
	}
	for _, e := range fresh {
		i, _ := slices.BinarySearchFunc(p.sorted, e, byName)
		p.sorted = slices.Insert(p.sorted, i, e)
	}
}

// fewNew Services are put in their places one by one: of more, all are sorted.
const fewNew = 100

func byName(a, b *entry) int {
	x, y := &a.object.ObjectMeta, &b.object.ObjectMeta
	return cmp.Or(cmp.Compare(x.Namespace, y.Namespace), cmp.Compare(x.Name, y.Name), cmp.Compare(x.UID, y.UID))
}

// add a Service to those of its role.
func (a *Assignments) add(e *entry) {
	switch e.role {
	case carried, arriving, staying:
		if e.unrecorded {
			a.Unrecorded = append(a.Unrecorded, len(a.Carried))
		}
		a.Carried, a.carried = append(a.Carried, e.object), append(a.carried, e)
	case leaving:
		a.Leaving = append(a.Leaving, e.object)
	case waiting:
		a.Waiting = append(a.Waiting, e.object)
	case elsewhere:
		a.Elsewhere = append(a.Elsewhere, e.object)
	case nobody:
	}
}

// role of a Service that was assigned.
func (a *Assignments) role(svc *corev1.Service) role { return a.entries[svc.UID].role }

// frozen reports whether a Service keeps what it has and gets nothing new:
// because another Balancer has a say in it, or none will. What moves, moves
// first and gets what it wants then; but where nobody was told of an address,
// another one will do.
func frozen(r role, svc *corev1.Service) bool {
	return r != carried && (r != arriving || len(record.Published(svc)) > 0)
}

// asked is what a Service asks for by name.
type asked struct {
	addresses        []netip.Addr
	pool, annotation string
}

// requested reads what a Service asks a Balancer for, in the ways that this understands.
func requested(b *v1alpha1.Balancer, svc *corev1.Service) (out asked, problem *translate.Problem) {
	out.addresses, problem = translate.RequestedAddresses(svc, b.Spec.ForeignAnnotations...)
	pool, annotation, poolProblem := translate.RequestedPool(svc, b.Spec.ForeignAnnotations...)
	out.pool, out.annotation = pool, annotation
	if problem == nil {
		problem = poolProblem
	}
	return out, problem
}

// request is what a Service asks of the pools. Frozen, it keeps what it has and
// gets nothing new.
func (s *Snapshot) request(svc *corev1.Service, asked asked, frozen bool) ipam.Request {
	r := ipam.Request{
		UID:             svc.UID,
		Name:            svc.Namespace + "/" + svc.Name,
		Created:         svc.CreationTimestamp.Time,
		Families:        svc.Spec.IPFamilies,
		RequireAll:      svc.Spec.IPFamilyPolicy != nil && *svc.Spec.IPFamilyPolicy == corev1.IPFamilyPolicyRequireDualStack,
		Requested:       asked.addresses,
		Pool:            asked.pool,
		PoolAnnotation:  asked.annotation,
		Labels:          svc.Labels,
		NamespaceLabels: s.Namespaces[svc.Namespace],
		Recorded:        record.Addresses(svc),
		Listeners:       record.Listeners(svc),
		Withdrawing:     frozen,
	}
	if record.Held(svc) {
		r.Published = append(record.Given(svc), record.Published(svc)...)
	} else {
		r.Shown, r.ShownByUs = record.Shown(svc)
	}
	for _, p := range svc.Spec.Ports {
		if p.Port > 0 && p.Port <= math.MaxUint16 { // others are told: see translate.CheckPorts
			r.Ports = append(r.Ports, ipam.Port{Protocol: lb.Protocol(p.Protocol), Port: uint16(p.Port)})
		}
	}
	return r
}
