package controllers

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/types"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/translate"
)

// endpointsOf some Services, where pods get the traffic: all of them from one copy of the Pods.
// What says the same as before stays the same.
func (r reader) endpointsOf(services []*corev1.Service, pods *podCopy, was map[types.NamespacedName]*translate.Endpoints) (map[types.NamespacedName]*translate.Endpoints, error) {
	out := map[types.NamespacedName]*translate.Endpoints{}
	for _, svc := range services {
		name := types.NamespacedName{Namespace: svc.Namespace, Name: svc.Name}
		if out[name] != nil {
			continue
		}
		slices, err := r.slicesOfOne(name)
		if err != nil {
			return nil, err
		}
		now := translate.ReadEndpoints(svc.Spec.Ports, slices, pods.in(svc.Namespace))
		if before := was[name]; before.Same(now) {
			now = before
		}
		out[name] = now
	}
	return out, nil
}

// touched notes a Service of which something else has changed than itself.
func (c *causes) touched(balancer string, svc *corev1.Service) {
	c.mu.Lock()
	defer c.mu.Unlock()
	why := c.get(balancer)
	why.must = true
	why.services[svc.UID] = client.ObjectKeyFromObject(svc)
}

// touch enqueues those who carry a Service for what is behind it.
func (p *pace) touch(who *whoServes, q queue, svc *corev1.Service) {
	for _, name := range who.behind(svc) {
		if p.causes != nil {
			p.causes.touched(name, svc)
		}
		q.AddAfter(request(name), p.wait(name))
	}
}

// behind are those to whom it matters which endpoints a Service has: all who carry one with
// externalTrafficPolicy: Local, and those who send to pods.
func (w *whoServes) behind(svc *corev1.Service) (names []string) {
	local := svc.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal
	if w == nil || !local && len(w.toPods) == 0 {
		return nil
	}
	for _, name := range w.all(svc) {
		if local || w.toPods[name] {
			names = append(names, name)
		}
	}
	slices.Sort(names) // who carries one may be there as who holds it, too
	return slices.Compact(names)
}

func toPods(b *v1alpha1.Balancer) bool { return b.Spec.ToPods() }

// watchSlices is watch for EndpointSlices: what they are about is the Service.
func (p *pace) watchSlices(c concerns) handler.EventHandler {
	look := func(ctx context.Context, q queue, obj client.Object, gone bool) {
		slice := obj.(*discoveryv1.EndpointSlice)
		if translate.IsControlPlane(slice) {
			for _, name := range c.controlPlane(ctx) {
				p.add(q, name, slice, gone)
			}
			return
		}
		if svc := c.serviceOf(ctx, slice); svc != nil && concernsSome(svc) {
			p.touch(c.whoServes(ctx), q, svc)
		}
	}
	return handler.Funcs{
		CreateFunc: func(ctx context.Context, e event.CreateEvent, q queue) { look(ctx, q, e.Object, false) },
		UpdateFunc: func(ctx context.Context, e event.UpdateEvent, q queue) {
			if was, is := e.ObjectOld.GetLabels(), e.ObjectNew.GetLabels(); was[discoveryv1.LabelServiceName] != is[discoveryv1.LabelServiceName] {
				look(ctx, q, e.ObjectOld, false)
			}
			look(ctx, q, e.ObjectNew, false)
		},
		DeleteFunc: func(ctx context.Context, e event.DeleteEvent, q queue) { look(ctx, q, e.Object, true) },
	}
}

// serviceOf an EndpointSlice, nil if there is none.
func (c concerns) serviceOf(ctx context.Context, s *discoveryv1.EndpointSlice) *corev1.Service {
	return c.serviceNamed(ctx, s.Namespace, s.Labels[discoveryv1.LabelServiceName])
}

// podChanges lets Pods start reconciles.
type podChanges struct {
	pace     *pace
	concerns concerns
	hosts    *hostChanges // which have the queue
}

// changed starts one of those who carry a Service with an endpoint that is this Pod.
func (p *podChanges) changed(namespace, name string) {
	q := p.hosts.waiting()
	found, err := p.concerns.reader.stores.slices.ByIndex(indexPods, namespace+"/"+name)
	if q == nil || err != nil {
		return
	}
	services, who := map[string]bool{}, (*whoServes)(nil)
	for _, s := range of[*discoveryv1.EndpointSlice](found) {
		service := s.Labels[discoveryv1.LabelServiceName]
		if services[service] {
			continue
		}
		services[service] = true
		if svc := p.concerns.serviceOf(context.Background(), s); svc != nil && concernsSome(svc) { // of a cache
			if who == nil {
				who = p.concerns.whoServes(context.Background())
			}
			p.pace.touch(who, q, svc)
		}
	}
}

// wantPods begins to read Pods, or ends it. Which EndpointSlices name a Pod is kept from when
// somebody sends to pods on: others have no use for it.
func (r reader) wantPods(wanted bool) error {
	if _, kept := r.stores.slices.GetIndexers()[indexPods]; wanted && !kept {
		if err := r.stores.slices.AddIndexers(toolscache.Indexers{indexPods: indexBy(podsOf)}); err != nil {
			return fmt.Errorf("indexing EndpointSlices: %w", err)
		}
	}
	r.pods.want(wanted)
	return nil
}

// indexPods of EndpointSlices: namespace/name of each Pod that one names.
const indexPods = "external-lb/pods"

// podsOf names the Pods of an EndpointSlice.
func podsOf(s *discoveryv1.EndpointSlice) (names []string) {
	for i := range s.Endpoints {
		if ref := s.Endpoints[i].TargetRef; ref != nil && ref.Kind == "Pod" {
			names = append(names, s.Namespace+"/"+ref.Name)
		}
	}
	return names
}

// readable starts one of all who send to pods: these can be read now, or not.
func (p *podChanges) readable() {
	balancers, err := p.concerns.reader.balancers(context.Background())
	if err != nil {
		return
	}
	for _, b := range balancers {
		if toPods(b) {
			p.hosts.look(b.Name, true)
		}
	}
}

// errSoon: what is not known yet is worth to be waited for.
var errSoon = errors.New("the Pods of the cluster are being read")

// readEndpoints is what a reconcile reads of pods: of the Services only those that were read.
func (r *balancerReconciler) readEndpoints(s *scope) error {
	o, m := &s.objects, s.memory
	if !toPods(s.balancer) {
		m.endpoints = nil
		return nil
	}
	pods, unread, soon := r.reader.pods.read()
	if o.PodsUnread = unread; unread == "" && o.Partial && m.endpoints == nil {
		o.PodsUnread, soon = "they have just been read", true
	}
	switch {
	case soon:
		return errSoon
	case o.PodsUnread != "":
		o.Endpoints = m.endpoints
		return nil
	}
	fresh, err := r.reader.endpointsOf(o.Services, pods, m.endpoints)
	if err != nil {
		return fmt.Errorf("endpoints: %w", err)
	}
	if !r.reader.pods.holds(pods) { // what was found may be old
		return errSoon
	}
	if o.Partial {
		all := maps.Clone(m.endpoints) // never nil: all was read once
		maps.Copy(all, fresh)
		fresh = all
	}
	m.endpoints, o.Endpoints = fresh, fresh
	return nil
}
