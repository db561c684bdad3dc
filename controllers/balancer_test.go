package controllers

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/test/builder"
	"github.com/external-lb/external-lb/test/wait"
)

func TestServiceLife(t *testing.T) {
	w := newWorld(t)
	svc := w.service("web")
	address := w.published(svc)
	if !strings.HasPrefix(address, "203.0.") {
		t.Errorf("address %s", address)
	}
	w.check(kube.Delete(t.Context(), svc))
	w.gone(svc)
	again := w.service("again")
	if got := w.published(again); got != address {
		t.Errorf("the address is not free again: got %s, want %s", got, address)
	}
}

// What one host refuses is told to its Service and costs nobody else anything.
func TestRefusedService(t *testing.T) {
	w := newWorld(t)
	w.host.set(func(h *fakeHost) { h.refuse = map[string]string{"bad": "unknown directive \"pwn\""} })
	bad, good := w.service("bad"), w.service("good")
	w.published(good)
	fresh := w.until(bad, "bad is told", func(s *corev1.Service) bool {
		c := meta.FindStatusCondition(s.Status.Conditions, v1alpha1.ConditionServiceProgrammed)
		return c != nil && c.Reason == v1alpha1.ReasonRefused && strings.Contains(c.Message, `unknown directive "pwn"`)
	})
	if len(fresh.Status.LoadBalancer.Ingress) > 0 {
		t.Error("a refused Service is published")
	}
	w.event(bad, v1alpha1.EventSyncFailed, "pwn")
	wait.For(w.t, func(ctx context.Context) error {
		var b v1alpha1.Balancer
		if err := kube.Get(ctx, client.ObjectKey{Name: w.balancer}, &b); err != nil {
			return err
		}
		c := meta.FindStatusCondition(b.Status.Conditions, v1alpha1.ConditionDegraded)
		if c == nil || c.Reason != v1alpha1.ReasonServicesRefused {
			return fmt.Errorf("%+v", b.Status)
		}
		return nil
	})
}

// A port that a host refuses costs the Service's other ports nothing, and is told
// where users look.
func TestRefusedPort(t *testing.T) {
	w := newWorld(t)
	w.host.set(func(h *fakeHost) { h.closed = map[string]string{"web": "host.yaml admits no listener on 443"} })
	svc := w.service("web", func(s *corev1.Service) {
		s.Spec.Ports = append(s.Spec.Ports, corev1.ServicePort{Name: "https", Port: closedPort})
	})
	w.published(svc)
	fresh := w.until(svc, "told of its port", func(s *corev1.Service) bool {
		c := meta.FindStatusCondition(s.Status.Conditions, v1alpha1.ConditionPortsError)
		return c != nil && c.Status == metav1.ConditionTrue && c.Reason == v1alpha1.ReasonRefused &&
			strings.Contains(c.Message, "host.yaml admits no listener")
	})
	for _, p := range fresh.Status.LoadBalancer.Ingress[0].Ports {
		if refused := p.Error != nil && *p.Error == v1alpha1.PortErrorRefused; refused != (p.Port == closedPort) {
			t.Errorf("port %d: refused %t", p.Port, refused)
		}
	}
	if !meta.IsStatusConditionTrue(fresh.Status.Conditions, v1alpha1.ConditionServiceProgrammed) {
		t.Errorf("not programmed: %+v", fresh.Status.Conditions)
	}
	w.event(svc, v1alpha1.EventSyncFailed, "host.yaml admits no listener on 443")
}

// What tools look at that know nothing of our kinds.
func TestEveryKindIsReady(t *testing.T) {
	w := newWorld(t)
	w.published(w.service("web"))
	policy := builder.UpstreamPolicy(w.namespace, "policy").For("web").Manifest()
	w.create(policy)
	b, p := &v1alpha1.Balancer{}, &v1alpha1.AddressPool{}
	ready := func(obj client.Object, generation int64, c []metav1.Condition) error {
		is := meta.FindStatusCondition(c, v1alpha1.ConditionReady)
		if is == nil || is.Status != metav1.ConditionTrue || is.ObservedGeneration != obj.GetGeneration() || generation != obj.GetGeneration() {
			return fmt.Errorf("%T of generation %d, status of %d: %+v", obj, obj.GetGeneration(), generation, c)
		}
		return nil
	}
	all := func(ctx context.Context) error {
		key := client.ObjectKey{Name: w.balancer}
		err := errors.Join(kube.Get(ctx, key, b), kube.Get(ctx, key, p), kube.Get(ctx, client.ObjectKeyFromObject(policy), policy))
		if err != nil {
			return err
		}
		return errors.Join(ready(b, b.Status.ObservedGeneration, b.Status.Conditions), ready(p, p.Status.ObservedGeneration, p.Status.Conditions),
			ready(policy, policy.Status.ObservedGeneration, policy.Status.Conditions))
	}
	wait.For(w.t, all)
	before := b.DeepCopy()
	b.Spec.Nodes.MaxPerService = 3
	w.check(kube.Patch(t.Context(), b, client.MergeFrom(before)))
	wait.For(w.t, all)
}

func (w *world) event(of client.Object, reason, part string) {
	w.t.Helper()
	wait.For(w.t, func(ctx context.Context) error {
		var list corev1.EventList
		if err := kube.List(ctx, &list, client.InNamespace(cmp.Or(of.GetNamespace(), metav1.NamespaceDefault))); err != nil {
			return err
		}
		var seen []string
		for _, e := range list.Items {
			if e.InvolvedObject.UID == of.GetUID() && e.Reason == reason && strings.Contains(e.Message, part) {
				return nil
			}
			seen = append(seen, e.Reason+": "+e.Message)
		}
		return fmt.Errorf("only %q", seen)
	})
}

// A restart finds everything as it should be and writes nothing.
func TestS35_RestartWritesNothing(t *testing.T) {
	w := newWorld(t)
	versions := map[string]string{}
	for i := range 20 {
		w.published(w.service(fmt.Sprintf("web-%d", i)))
	}
	wait.For(w.t, func(ctx context.Context) error {
		var b v1alpha1.Balancer
		if err := kube.Get(ctx, client.ObjectKey{Name: w.balancer}, &b); err != nil || b.Status.Services == 20 && b.Status.HostsInSync == "1/1" {
			return err
		}
		return fmt.Errorf("%+v", b.Status)
	})
	w.stop()
	var list corev1.ServiceList
	w.check(kube.List(t.Context(), &list, client.InNamespace(w.namespace)))
	for _, s := range list.Items {
		versions[s.Name] = s.ResourceVersion
	}
	var before, after v1alpha1.Balancer
	w.check(kube.Get(t.Context(), client.ObjectKey{Name: w.balancer}, &before))
	epoch := w.host.taken()
	w.start()
	wait.For(w.t, func(context.Context) error {
		if now := w.host.taken(); now.Compare(epoch) <= 0 {
			return fmt.Errorf("epoch %s", now)
		}
		return nil
	})
	w.stop()
	w.check(kube.Get(t.Context(), client.ObjectKey{Name: w.balancer}, &after))
	if after.ResourceVersion != before.ResourceVersion {
		t.Errorf("the Balancer was written by a restart: %s", gocmp.Diff(before.Status, after.Status))
	}
	w.start()
	w.published(w.service("new"))
	w.check(kube.List(t.Context(), &list, client.InNamespace(w.namespace)))
	for _, s := range list.Items {
		if was, old := versions[s.Name]; old && s.ResourceVersion != was {
			t.Errorf("Service %s was written by a restart", s.Name)
		}
	}
}

// An address is not given away while a host that may still serve it is silent,
// not even over restarts.
func TestS08_HostOutOfReachHoldsTheAddress(t *testing.T) {
	w := newWorld(t, "192.0.2.1")
	first := w.service("first")
	w.published(first)
	w.host.set(func(h *fakeHost) { h.down = true })
	w.restart()
	w.check(kube.Delete(t.Context(), first))
	second := w.service("second")
	w.event(first, v1alpha1.EventDeleteFailed, "lb1")
	w.event(second, v1alpha1.EventSyncFailed, w.namespace+"/first")
	w.restart()
	var fresh corev1.Service
	w.check(kube.Get(t.Context(), client.ObjectKeyFromObject(first), &fresh))
	if !slices.Contains(fresh.Finalizers, v1alpha1.CleanupFinalizer) {
		t.Fatal("the finalizer went though nobody confirmed")
	}
	w.host.set(func(h *fakeHost) { h.down = false })
	if got := w.published(second); got != "192.0.2.1" {
		t.Errorf("got %s", got)
	}
}

// LoadBalancer → ClusterIP clears the status; the record still holds the address
// until the withdrawal is confirmed.
func TestS33_TypeFlipKeepsTheAddressUntilConfirmed(t *testing.T) {
	w := newWorld(t, "192.0.2.1")
	first := w.service("first")
	w.published(first)
	w.host.set(func(h *fakeHost) { h.down = true })
	w.restart()
	wait.For(w.t, func(ctx context.Context) error {
		w.check(kube.Get(ctx, client.ObjectKeyFromObject(first), first))
		first.Spec.Type, first.Spec.LoadBalancerClass = corev1.ServiceTypeClusterIP, nil
		return kube.Update(ctx, first)
	})
	second := w.service("second")
	w.event(second, v1alpha1.EventSyncFailed, w.namespace+"/first")
	w.host.set(func(h *fakeHost) { h.down = false })
	if got := w.published(second); got != "192.0.2.1" {
		t.Errorf("got %s", got)
	}
	w.until(first, "first is let go", func(s *corev1.Service) bool { return len(s.Finalizers) == 0 && len(s.Annotations) == 0 })
}

func TestBadPools(t *testing.T) {
	w := newWorld(t, "192.0.2.0/30")
	bad := func(name string, balancer string, ranges ...v1alpha1.AddressRange) *v1alpha1.AddressPool {
		p := builder.AddressPool(name, ranges...).Balancer(balancer).Manifest()
		w.create(p)
		return p
	}
	for pool, reason := range map[*v1alpha1.AddressPool]string{
		bad("overlap", w.balancer, "192.0.2.2-192.0.2.9"):        v1alpha1.ReasonOverlap,
		bad("reversed", w.balancer, "198.51.100.9-198.51.100.1"): v1alpha1.ReasonInvalid,
		bad("lost", "nobody", "198.51.100.64/30"):                v1alpha1.ReasonUnknownBalancer,
		bad("bits", w.balancer, "2001:db8::1/64"):                v1alpha1.ReasonInvalid,
		bad("groups", w.balancer, "2001:db8:::1-2001:db8::2"):    v1alpha1.ReasonInvalid,
		bad("mapped", w.balancer, "::ffff:192.0.2.1"):            v1alpha1.ReasonInvalid,
	} {
		wait.For(w.t, func(ctx context.Context) error {
			if err := kube.Get(ctx, client.ObjectKeyFromObject(pool), pool); err != nil {
				return err
			}
			c := meta.FindStatusCondition(pool.Status.Conditions, v1alpha1.ConditionAccepted)
			if c == nil || c.Status != metav1.ConditionFalse || c.Reason != reason {
				return fmt.Errorf("%+v, want reason %s", pool.Status.Conditions, reason)
			}
			return nil
		})
		w.event(pool, reason, "")
	}
	w.published(w.service("web"))
}

// Of a Service that lost its last listener the holder is told, not the hosts.
func TestS34_PublishedServiceTakesATakenPort(t *testing.T) {
	w := newWorld(t, "192.0.2.1")
	shared := client.RawPatch(types.MergePatchType, []byte(`{"spec":{"sharing":"Ports"}}`))
	w.check(kube.Patch(t.Context(), builder.AddressPool(w.balancer).Manifest(), shared))
	first := w.service("first", func(s *corev1.Service) { s.Spec.Ports[0].Port = 443 })
	w.published(first)
	second := w.service("second")
	w.published(second)
	wait.For(w.t, func(ctx context.Context) error {
		w.check(kube.Get(ctx, client.ObjectKeyFromObject(second), second))
		second.Spec.Ports[0].Port = 443
		return kube.Update(ctx, second)
	})
	fresh := w.until(second, "told who has it", func(s *corev1.Service) bool {
		c := meta.FindStatusCondition(s.Status.Conditions, v1alpha1.ConditionServiceProgrammed)
		return c != nil && c.Status == metav1.ConditionFalse
	})
	c := meta.FindStatusCondition(fresh.Status.Conditions, v1alpha1.ConditionServiceProgrammed)
	if c.Reason != v1alpha1.ReasonPortConflict || !strings.Contains(c.Message, w.namespace+"/first") {
		t.Errorf("told %s: %s", c.Reason, c.Message)
	}
	w.check(kube.Delete(t.Context(), first))
	w.until(second, "it has it when it is free", func(s *corev1.Service) bool {
		return meta.IsStatusConditionTrue(s.Status.Conditions, v1alpha1.ConditionServiceProgrammed)
	})
}

// Two Balancers with one machine would remove each other's configuration forever:
// the older one has it, and the other one says so and takes it when it is free.
func TestTwoBalancersWithOneMachine(t *testing.T) {
	w := newWorld(t)
	w.published(w.service("web"))
	other := builder.Balancer(w.balancer + "-next").Hosts(local("here")).Manifest()
	w.create(other)
	t.Cleanup(func() { w.check(kube.Delete(context.Background(), other)) })
	wait.For(w.t, func(ctx context.Context) error {
		w.check(kube.Get(ctx, client.ObjectKeyFromObject(other), other))
		c := meta.FindStatusCondition(other.Status.Conditions, v1alpha1.ConditionProgrammed)
		if c == nil || c.Status != metav1.ConditionFalse ||
			!strings.Contains(c.Message, "Balancer "+w.balancer+", which is older, has this machine") {
			return fmt.Errorf("%+v", c)
		}
		return nil
	})
	w.check(kube.DeleteAllOf(t.Context(), &corev1.Service{}, client.InNamespace(w.namespace)))
	w.check(kube.Delete(t.Context(), builder.Balancer(w.balancer).Manifest()))
	wait.For(w.t, func(ctx context.Context) error {
		w.check(kube.Get(ctx, client.ObjectKeyFromObject(other), other))
		if other.Status.HostsInSync != "1/1" {
			return fmt.Errorf("%+v", other.Status)
		}
		return nil
	})
}

func TestWhoseMachine(t *testing.T) {
	at := func(name, address string, port int32) v1alpha1.Host {
		return v1alpha1.Host{Name: name, Address: address, Port: port}
	}
	oldest := builder.Balancer("z").Age(2).Deleting().
		Hosts(at("a", "LB1.example", 22), at("b", "2001:db8::1", 22), at("c", "192.0.2.5", 22)).Obj()
	second := builder.Balancer("y").Age(1).Hosts(at("a", "lb1.example", 0), local("b"), at("c", "192.0.2.5", 2222)).Obj()
	third := builder.Balancer("x").Hosts(at("a", "lb1.example", 22), local("b"), at("c", "2001:DB8:0::1", 22),
		at("d", "192.0.2.5", 2222), at("e", "192.0.2.6", 22), at("f", "::ffff:192.0.2.6", 22)).Obj()
	for b, want := range map[*v1alpha1.Balancer][]string{
		oldest: {"", "", ""},
		second: {"Balancer z", "", ""},
		third:  {"Balancer z", "Balancer y", "Balancer z", "Balancer y", "", "host e is the same machine"},
	} {
		for i, target := range Targets(t.Context(), nil, "", b, []*v1alpha1.Balancer{second, third, oldest}) {
			got := ""
			if target.Problem != nil {
				got = target.Problem.Error()
			}
			if (got == "") != (want[i] == "") || !strings.HasPrefix(got, want[i]) {
				t.Errorf("Balancer %s, host %s: %q, want %q", b.Name, target.Host.Name, got, want[i])
			}
		}
	}
}

// Whose host has another name, or another Balancer, is not told to stop its daemon.
func TestHostsThatAreRemoved(t *testing.T) {
	ssh := func(name, address string) v1alpha1.Host { return v1alpha1.Host{Name: name, Address: address} }
	before := []v1alpha1.Host{ssh("lb1", "192.0.2.5"), ssh("lb2", "2001:db8::1"), local("lb3")}
	for name, c := range map[string]struct {
		now, others []v1alpha1.Host
		removed     []string
	}{
		"nothing changed":              {now: before},
		"one has another name":         {now: []v1alpha1.Host{ssh("a", "192.0.2.5"), ssh("lb2", "2001:db8::1"), local("lb3")}},
		"all have other names":         {now: []v1alpha1.Host{ssh("a", "192.0.2.5"), ssh("b", "2001:DB8:0::1"), local("c")}},
		"they changed places":          {now: []v1alpha1.Host{ssh("lb2", "192.0.2.5"), ssh("lb1", "2001:db8::1"), local("lb3")}},
		"one went to another Balancer": {now: before[1:], others: []v1alpha1.Host{ssh("x", "192.0.2.5")}},
		"one is gone":                  {now: before[1:], removed: []string{"lb1"}},
		"a port tells machines apart":  {now: []v1alpha1.Host{{Name: "a", Address: "192.0.2.5", Port: 2222}}, removed: []string{"lb1", "lb2", "lb3"}},
	} {
		t.Run(name, func(t *testing.T) {
			b, other := builder.Balancer("edge").Hosts(c.now...).Obj(), builder.Balancer("other").Hosts(c.others...).Obj()
			if got := removedHosts(before, b, []*v1alpha1.Balancer{b, other}); !slices.Equal(got, c.removed) {
				t.Errorf("removed: %v, want %v", got, c.removed)
			}
		})
	}
}

// What somebody else writes into the status of our kinds does not stay.
func TestStatusIsRepaired(t *testing.T) {
	w := newWorld(t)
	w.published(w.service("web"))
	var b v1alpha1.Balancer
	var p v1alpha1.AddressPool
	key := client.ObjectKey{Name: w.balancer}
	truth := func(ctx context.Context) error {
		if err := errors.Join(kube.Get(ctx, key, &b), kube.Get(ctx, key, &p)); err != nil {
			return err
		}
		if b.Status.HostsInSync != "1/1" || p.Status.IPv4 == nil || p.Status.IPv4.Assigned != 1 {
			return fmt.Errorf("%+v %+v", b.Status, p.Status)
		}
		return nil
	}
	wait.For(w.t, truth)
	bare, barePool := b.DeepCopy(), p.DeepCopy()
	b.Status.HostsInSync, p.Status.IPv4.Assigned = "7/7", 77
	w.check(kube.Status().Patch(t.Context(), &b, client.MergeFrom(bare)))
	w.check(kube.Status().Patch(t.Context(), &p, client.MergeFrom(barePool)))
	wait.For(w.t, truth)
}
