package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/test/builder"
	"github.com/external-lb/external-lb/test/wait"
)

func ofClass(class *string) option {
	return func(svc *corev1.Service) { svc.Spec.LoadBalancerClass = class }
}

// settled waits until the manager has seen everything that was written before:
// a Service made now gets its address.
func (s *scene) settled() {
	s.t.Helper()
	probe := s.service(fmt.Sprintf("probe-%d", len(s.t.Name())), withPort("probe", corev1.ProtocolTCP, 7, 9000))
	s.published(probe)
	s.remove(s.t.Context(), probe)
}

func TestS01_OnlyOurClasses(t *testing.T) {
	s := newScene(t)
	foreign := s.service("foreign", ofClass(ptr.To("example.com/other")))
	classless := s.service("classless", ofClass(nil))
	s.settled()
	for _, svc := range []*corev1.Service{foreign, classless} {
		fresh := s.get(svc)
		if len(fresh.Finalizers) > 0 || len(fresh.Status.LoadBalancer.Ingress) > 0 || len(fresh.Status.Conditions) > 0 || len(fresh.Annotations) > 0 {
			t.Errorf("Service %s was touched: %+v %+v", svc.Name, fresh.ObjectMeta, fresh.Status)
		}
	}
	// A Balancer that says that it is the default serves those without a class.
	setDefault(t, true)
	t.Cleanup(func() { setDefault(t, false) })
	s.published(classless)
	if fresh := s.get(foreign); len(fresh.Finalizers) > 0 {
		t.Errorf("the foreign Service was touched: %+v", fresh.ObjectMeta)
	}
	// And lets them go when it no longer says so.
	setDefault(t, false)
	s.until(classless, "let go", func(svc *corev1.Service) bool {
		return len(svc.Finalizers) == 0 && len(svc.Status.LoadBalancer.Ingress) == 0
	})
}

func setDefault(t *testing.T, value bool) {
	t.Helper()
	patch := fmt.Appendf(nil, `{"spec":{"default":%t}}`, value)
	b := builder.Balancer(balancer).Manifest()
	must(t, env.Kube.Patch(context.Background(), b, client.RawPatch(types.MergePatchType, patch)))
}

// The class changes by way of another type, within one event as far as a
// controller can see.
func TestS02_ClassChangesByWayOfClusterIP(t *testing.T) {
	t.Parallel()
	s := besideScene(t)
	s.pod("web", "web-1", "node1")
	svc := s.service("web")
	address := s.published(svc)[0]
	s.update(svc, func(svc *corev1.Service) {
		svc.Spec.Type, svc.Spec.LoadBalancerClass = corev1.ServiceTypeClusterIP, nil
	})
	s.update(svc, func(svc *corev1.Service) {
		svc.Spec.Type, svc.Spec.LoadBalancerClass = corev1.ServiceTypeLoadBalancer, ptr.To("example.com/other")
		// What its provider does at once:
		if !slices.Contains(svc.Finalizers, v1alpha1.SharedFinalizer) {
			svc.Finalizers = append(svc.Finalizers, v1alpha1.SharedFinalizer)
		}
	})
	foreign := []corev1.LoadBalancerIngress{{IP: "192.0.2.200"}}
	wait.For(t, func(ctx context.Context) error {
		fresh := s.get(svc)
		fresh.Status.LoadBalancer.Ingress = foreign
		return env.Kube.Status().Update(ctx, fresh)
	})
	fresh := s.until(svc, "let go by us", func(svc *corev1.Service) bool {
		return !slices.Contains(svc.Finalizers, v1alpha1.CleanupFinalizer)
	})
	s.silent(address, 80)
	if !slices.Contains(fresh.Finalizers, v1alpha1.SharedFinalizer) {
		t.Error("the other provider's finalizer is gone")
	}
	if got := addresses(fresh); !slices.Equal(got, []string{"192.0.2.200"}) {
		t.Errorf("the other provider's status became %v", got)
	}
	s.update(svc, func(svc *corev1.Service) { svc.Finalizers = nil })
}

func TestS03_FinalizersComeFirstAndGoLast(t *testing.T) {
	s := newScene(t)
	s.pod("web", "web-1", "node1")
	svc := s.service("web")
	address := s.published(svc)[0]
	want := []string{v1alpha1.CleanupFinalizer, v1alpha1.SharedFinalizer}
	got := slices.Sorted(slices.Values(s.get(svc).Finalizers))
	if !slices.Equal(got, want) {
		t.Fatalf("finalizers %v, want %v", got, want)
	}
	// With a host out of reach nothing can be confirmed, so nothing goes (S08).
	host, heal := outOfReach(t)
	must(t, env.Kube.Delete(t.Context(), svc))
	s.event(svc, v1alpha1.EventDeleteFailed, host)
	if fresh := s.get(svc); !slices.Contains(fresh.Finalizers, v1alpha1.CleanupFinalizer) {
		t.Fatalf("the finalizer went though %s has not confirmed", host)
	}
	// Its address is not given to anybody else meanwhile (S33).
	greedy := s.service("greedy", withAnnotation(v1alpha1.AddressesAnnotation, address))
	s.until(greedy, "told to wait", func(svc *corev1.Service) bool {
		return condition(svc, v1alpha1.ConditionServiceProgrammed).Reason == v1alpha1.ReasonAddressUnavailable
	})
	heal()
	wait.For(t, func(ctx context.Context) error {
		if err := env.Kube.Get(ctx, client.ObjectKeyFromObject(svc), &corev1.Service{}); !apierrors.IsNotFound(err) {
			return fmt.Errorf("still there: %v", err)
		}
		return nil
	})
	if got := s.published(greedy); !slices.Contains(got, address) {
		t.Errorf("got %v, want the address that is free now, %s", got, address)
	}
}

func TestS04_SharedFinalizerStripped(t *testing.T) {
	s := newScene(t)
	s.pod("web", "web-1", "node1")
	svc := s.service("web")
	address := s.published(svc)[0]
	host, heal := outOfReach(t)
	must(t, env.Kube.Delete(t.Context(), svc))
	// A cloud controller manager beside us.
	s.update(svc, func(svc *corev1.Service) {
		svc.Finalizers = slices.DeleteFunc(svc.Finalizers, func(f string) bool { return f == v1alpha1.SharedFinalizer })
	})
	if cloud == nil {
		s.silent(address, 80) // the other host withdrew, as the routes to this one are cut
	} else {
		s.event(svc, v1alpha1.EventDeleteFailed, host)
	}
	if fresh := s.get(svc); !slices.Contains(fresh.Finalizers, v1alpha1.CleanupFinalizer) {
		t.Errorf("our own finalizer is gone before %s confirmed", host)
	}
	heal()
	s.silent(address, 80)
}

func TestS05_DeletedBeforeWeCame(t *testing.T) {
	t.Parallel()
	s := besideScene(t)
	svc := s.service("web", func(svc *corev1.Service) { svc.Finalizers = []string{"example.com/keep"} }, ofClass(ptr.To("example.com/other")))
	must(t, env.Kube.Delete(t.Context(), svc))
	s.settled()
	if fresh := s.get(svc); len(fresh.Finalizers) != 1 || len(fresh.Status.LoadBalancer.Ingress) > 0 {
		t.Errorf("a Service on its way out was provisioned: %+v %+v", fresh.Finalizers, fresh.Status)
	}
	s.update(svc, func(svc *corev1.Service) { svc.Finalizers = nil })
}

func TestS06_WithdrawnOnTypeChange(t *testing.T) {
	s := newScene(t)
	s.pod("web", "web-1", "node1")
	svc := s.service("web")
	address := s.published(svc)[0]
	// While no manager runs, so that it is found on the first list.
	must(t, env.Manager.Stop())
	s.update(svc, func(svc *corev1.Service) {
		svc.Spec.Type, svc.Spec.LoadBalancerClass = corev1.ServiceTypeClusterIP, nil
	})
	must(t, env.StartManager(t.Context()))
	fresh := s.until(svc, "let go", func(svc *corev1.Service) bool { return len(svc.Finalizers) == 0 })
	s.silent(address, 80)
	if len(fresh.Status.Conditions) > 0 || len(fresh.Annotations) > 0 {
		t.Errorf("left behind (S14): %+v %+v", fresh.Status.Conditions, fresh.Annotations)
	}
}

func TestS07_FinalizersOfOthersSurvive(t *testing.T) {
	t.Parallel()
	s := besideScene(t)
	svc := s.service("web", func(svc *corev1.Service) { svc.Finalizers = []string{"example.com/keep"} })
	s.published(svc)
	s.update(svc, func(svc *corev1.Service) { svc.Finalizers = append(svc.Finalizers, "example.com/late") })
	must(t, env.Kube.Delete(t.Context(), svc))
	fresh := s.until(svc, "let go by us", func(svc *corev1.Service) bool {
		return !slices.Contains(svc.Finalizers, v1alpha1.CleanupFinalizer)
	})
	if want := []string{"example.com/keep", "example.com/late"}; !slices.Equal(fresh.Finalizers, want) {
		t.Errorf("finalizers %v, want %v", fresh.Finalizers, want)
	}
	s.update(svc, func(svc *corev1.Service) { svc.Finalizers = nil })
}

func TestS09_StatusIsRepaired(t *testing.T) {
	t.Parallel()
	s := besideScene(t)
	s.pod("web", "web-1", "node1")
	svc := s.service("web")
	address := s.published(svc)[0]
	for _, wrong := range [][]corev1.LoadBalancerIngress{nil, {{IP: "192.0.2.99"}}} {
		wait.For(t, func(ctx context.Context) error {
			fresh := s.get(svc)
			fresh.Status.LoadBalancer.Ingress = wrong
			return env.Kube.Status().Update(ctx, fresh)
		})
		s.until(svc, "repaired", func(svc *corev1.Service) bool { return slices.Equal(addresses(svc), []string{address}) })
	}
	s.settled() // the conditions may follow the address
	version := s.get(svc).ResourceVersion
	s.settled()
	if fresh := s.get(svc); fresh.ResourceVersion != version {
		t.Error("written again though nothing differs")
	}
}

func TestS14_ExposedNodePort(t *testing.T) {
	t.Parallel()
	s := besideScene(t)
	s.pod("web", "web-1", "node1")
	svc := s.service("web", withAnnotation(v1alpha1.BalancerAnnotation, balancer), func(svc *corev1.Service) {
		svc.Spec.Type, svc.Spec.LoadBalancerClass = corev1.ServiceTypeNodePort, nil
	})
	fresh := s.until(svc, "assigned", func(svc *corev1.Service) bool { return svc.Annotations[v1alpha1.AssignedAddressesAnnotation] != "" })
	address := fresh.Annotations[v1alpha1.AssignedAddressesAnnotation]
	s.answers("web", address, 80)
	s.event(svc, v1alpha1.EventEnsured, address)
	// Without the annotation it is withdrawn.
	s.update(svc, func(svc *corev1.Service) { delete(svc.Annotations, v1alpha1.BalancerAnnotation) })
	fresh = s.until(svc, "let go", func(svc *corev1.Service) bool { return len(svc.Finalizers) == 0 })
	s.silent(address, 80)
	if len(fresh.Annotations) > 0 {
		left, _ := json.Marshal(fresh.Annotations)
		t.Errorf("left behind: %s", left)
	}
}

// What a Service's author writes on it, as if it had the address of another one, takes no
// traffic from that: neither annotations nor finalizers nor a manifest that was copied.
func TestS14_WhatIsWrittenOnAServiceTakesNoTraffic(t *testing.T) {
	t.Parallel()
	s := besideScene(t)
	s.pod("web", "web-1", "node1")
	s.pod("thief", "thief-1", "node2")
	onPort := withPort("http", corev1.ProtocolTCP, 80, 8080)
	exposes := func(svc *corev1.Service) {
		svc.Spec.Type, svc.Spec.LoadBalancerClass = corev1.ServiceTypeNodePort, nil
		withAnnotation(v1alpha1.BalancerAnnotation, balancer)(svc)
	}
	thief := s.service("thief", onPort, ofClass(nil), func(svc *corev1.Service) { svc.Spec.Type = corev1.ServiceTypeClusterIP })
	victim := s.service("web", onPort, exposes)
	assigned := func(svc *corev1.Service) bool { return svc.Annotations[v1alpha1.AssignedAddressesAnnotation] != "" }
	written := s.until(victim, "assigned", assigned)
	address := written.Annotations[v1alpha1.AssignedAddressesAnnotation]
	s.answers("web", address, 80)

	s.update(thief, func(svc *corev1.Service) {
		exposes(svc)
		svc.Finalizers, svc.Status.Conditions = written.Finalizers, written.Status.Conditions
		for _, key := range []string{"held-addresses", "assigned-addresses"} {
			withAnnotation("external-lb.dev/"+key, address)(svc)
		}
		withAnnotation("external-lb.dev/held-by", balancer)(svc)
	})
	fresh := s.until(thief, "judged", func(svc *corev1.Service) bool {
		return condition(svc, v1alpha1.ConditionServiceProgrammed).Type != ""
	})
	s.settled()
	for range 5 {
		s.answers("web", address, 80)
	}
	if got := s.get(victim).Annotations[v1alpha1.AssignedAddressesAnnotation]; got != address {
		t.Errorf("the exposed Service has %q", got)
	}
	if c := condition(fresh, v1alpha1.ConditionServiceProgrammed); c.Status == "True" {
		got := s.until(thief, "repaired", func(svc *corev1.Service) bool {
			return assigned(svc) && svc.Annotations[v1alpha1.AssignedAddressesAnnotation] != address
		}).Annotations[v1alpha1.AssignedAddressesAnnotation]
		s.answers("thief", got, 80)
	}
}

// Who never had an address was told why. Once it asks for none any more, or somebody else
// for one, nothing of ours is left on it.
func TestS14_WhoNeverHadAnAddress(t *testing.T) {
	t.Parallel()
	s := besideScene(t)
	for name, change := range map[string]func(*corev1.Service){
		"another-type": func(*corev1.Service) {},
		"another-class": func(svc *corev1.Service) {
			svc.Spec.Type, svc.Spec.LoadBalancerClass = corev1.ServiceTypeLoadBalancer, ptr.To("example.com/other")
		},
	} {
		svc := s.service(name, withAnnotation(v1alpha1.AddressesAnnotation, "192.0.2.77"))
		s.until(svc, "told why it has no address", func(svc *corev1.Service) bool {
			return condition(svc, v1alpha1.ConditionServiceProgrammed).Reason == v1alpha1.ReasonAddressUnavailable
		})
		s.update(svc, func(svc *corev1.Service) {
			svc.Spec.Type, svc.Spec.LoadBalancerClass = corev1.ServiceTypeClusterIP, nil
		})
		s.update(svc, change)
		s.until(svc, "let go", func(svc *corev1.Service) bool { return len(svc.Status.Conditions)+len(svc.Finalizers) == 0 })
	}
}
