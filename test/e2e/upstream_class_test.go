package e2e

import (
	"context"
	"encoding/json"
	"slices"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/test/wait"
)

const foreignClass = "example.com/other"

// provider is another one beside us: it serves its own class, and, as a cloud
// controller manager does, takes the shared finalizer from any Service that goes.
type provider struct {
	address string
}

// run it until the test ends.
func (p provider) run(s *scene) {
	s.t.Helper()
	watch, err := env.Client().CoreV1().Services(s.namespace).Watch(s.t.Context(), metav1.ListOptions{})
	must(s.t, err)
	var done sync.WaitGroup
	s.t.Cleanup(func() { watch.Stop(); done.Wait() })
	done.Go(func() {
		for e := range watch.ResultChan() {
			svc, ok := e.Object.(*corev1.Service)
			if !ok {
				continue
			}
			// What is out of date comes again.
			if err := client.IgnoreNotFound(p.reconcile(context.Background(), svc)); err != nil && !apierrors.IsConflict(err) {
				s.t.Error(err)
			}
		}
	})
}

func (p provider) reconcile(ctx context.Context, svc *corev1.Service) error {
	has := slices.Contains(svc.Finalizers, v1alpha1.SharedFinalizer)
	ours := ptr.Deref(svc.Spec.LoadBalancerClass, "") == foreignClass
	switch {
	case svc.DeletionTimestamp != nil && has:
		svc.Finalizers = slices.DeleteFunc(svc.Finalizers, func(f string) bool { return f == v1alpha1.SharedFinalizer })
		return env.Kube.Update(ctx, svc)
	case svc.DeletionTimestamp != nil || !ours:
		return nil
	case !has:
		svc.Finalizers = append(svc.Finalizers, v1alpha1.SharedFinalizer)
		return env.Kube.Update(ctx, svc)
	case len(svc.Status.LoadBalancer.Ingress) == 0:
		svc.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: p.address}}
		return env.Kube.Status().Update(ctx, svc)
	}
	return nil
}

// Two providers, each with a class of its own, share the cluster and the finalizer.
func TestS04_AnotherProviderBesideUs(t *testing.T) {
	t.Parallel()
	s := besideScene(t)
	s.pod("web", "web-1", "node1")
	provider{address: "192.0.2.201"}.run(s)
	theirs := s.service("theirs", ofClass(ptr.To(foreignClass)))
	ours := s.service("web")
	address := s.published(ours)[0]
	s.answers("web", address, 80)
	if got := s.published(theirs); !slices.Equal(got, []string{"192.0.2.201"}) {
		t.Errorf("theirs has %v", got)
	}
	s.settled()
	if fresh := s.get(theirs); !slices.Equal(fresh.Finalizers, []string{v1alpha1.SharedFinalizer}) || len(fresh.Status.Conditions) > 0 {
		t.Errorf("theirs was touched: %+v %+v", fresh.Finalizers, fresh.Status)
	}
	// It strips the shared finalizer from ours; ours is withdrawn all the same.
	s.remove(t.Context(), ours)
	if answer, err := s.web(t.Context(), address, 80); err == nil {
		t.Errorf("%s answers for a Service that is gone", answer.Pod)
	}
	s.remove(t.Context(), theirs)
}

// A Service of a foreign class goes through its life, and we do not touch it.
func TestE20_StatusOfAForeignClass(t *testing.T) {
	t.Parallel()
	s := besideScene(t)
	svc := s.service("web", ofClass(ptr.To(foreignClass)))
	write := func(change func(*corev1.Service)) {
		t.Helper()
		wait.For(t, func(ctx context.Context) error {
			svc = s.get(svc)
			change(svc)
			return env.Kube.Status().Update(ctx, svc)
		})
	}
	for _, step := range []func(){
		func() {
			write(func(svc *corev1.Service) {
				svc.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "203.0.113.1"}}
			})
		},
		func() {
			write(func(svc *corev1.Service) {
				svc.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{Hostname: "lb.example.com"}}
			})
		},
		func() {
			svc = s.update(svc, func(svc *corev1.Service) { svc.Labels = map[string]string{"step": "labelled"} })
		},
		func() { svc = s.update(svc, func(svc *corev1.Service) { svc.Spec.Ports[0].Port = 81 }) },
		func() { write(func(svc *corev1.Service) { svc.Status.LoadBalancer.Ingress = nil }) },
	} {
		step()
		s.settled()
		if fresh := s.get(svc); fresh.ResourceVersion != svc.ResourceVersion {
			was, _ := json.Marshal(svc)
			is, _ := json.Marshal(fresh)
			t.Errorf("it was touched, from\n%s\nto\n%s", was, is)
		}
	}
}

// The ways in which nodePorts are allocated, or not.
func TestE21_NodePortAllocation(t *testing.T) {
	t.Parallel()
	s := besideScene(t)
	s.pod("web", "web-1", "node1")
	twoPorts := func(svc *corev1.Service) {
		withPort("a", corev1.ProtocolTCP, 80, 8080)(svc)
		withPort("b", corev1.ProtocolTCP, 81, 8080)(svc)
	}
	ofWeb := func(svc *corev1.Service) { svc.Spec.Selector = map[string]string{"app": "web"} }
	allocate := func(yes bool) func(*corev1.Service) {
		return func(svc *corev1.Service) { svc.Spec.AllocateLoadBalancerNodePorts = ptr.To(yes) }
	}
	number := func(ports ...int32) option {
		return func(svc *corev1.Service) {
			for i, p := range ports {
				svc.Spec.Ports[i].NodePort = p
			}
		}
	}
	for _, c := range []struct {
		name   string
		create []option
		change []option // after the Service is as it should be at first; may be none
		works  []bool   // for each port, in the end
	}{
		{"allocated", []option{twoPorts}, nil, []bool{true, true}},
		{"not-allocated", []option{twoPorts, allocate(false)}, nil, []bool{false, false}},
		{"all-chosen", []option{twoPorts, allocate(false), number(nodePortOfAllA, nodePortOfAllB)}, nil, []bool{true, true}},
		{"one-chosen", []option{twoPorts, allocate(false), number(nodePortOfOne)}, nil, []bool{true, false}},
		{"enabled", []option{twoPorts, allocate(false)}, []option{allocate(true)}, []bool{true, true}},
		{"disabled", []option{twoPorts}, []option{allocate(false)}, []bool{true, true}},
		{"given-back", []option{twoPorts}, []option{allocate(false), number(0, 0)}, []bool{false, false}},
	} {
		t.Run(c.name, func(t *testing.T) {
			svc := s.service(c.name, append(c.create, ofWeb)...)
			s.until(svc, "judged", func(svc *corev1.Service) bool {
				return condition(svc, v1alpha1.ConditionServiceProgrammed).Status != ""
			})
			if c.change != nil {
				s.update(svc, func(svc *corev1.Service) {
					for _, change := range c.change {
						change(svc)
					}
				})
			}
			s.nodePortsAre(svc, c.works)
		})
	}
}

// nodePortsAre waits until the ports of a Service that have a nodePort answer, and the
// others are told that they have none.
func (s *scene) nodePortsAre(svc *corev1.Service, works []bool) {
	s.t.Helper()
	fresh := s.until(svc, "told", func(svc *corev1.Service) bool {
		for i, p := range svc.Spec.Ports {
			if (p.NodePort > 0) != works[i] {
				s.t.Fatalf("port %d has the nodePort %d", p.Port, p.NodePort)
			}
		}
		c := condition(svc, v1alpha1.ConditionServiceProgrammed)
		lacks := slices.Contains(works, false)
		return (c.Status == "True") == slices.Contains(works, true) && (c.Reason == v1alpha1.ReasonNoNodePort) == lacks
	})
	if !slices.Contains(works, true) {
		return
	}
	address := s.published(svc)[0]
	for i, p := range fresh.Spec.Ports {
		if works[i] {
			s.answers("web", address, p.Port)
		} else {
			s.silent(address, p.Port)
		}
	}
}

func TestE21_TheClassIsImmutable(t *testing.T) {
	t.Parallel()
	s := besideScene(t)
	svc := s.service("web")
	address := s.published(svc)[0]
	for _, other := range []*string{ptr.To(foreignClass), nil} {
		fresh := s.get(svc)
		fresh.Spec.LoadBalancerClass = other
		if err := env.Kube.Update(t.Context(), fresh); !apierrors.IsInvalid(err) {
			t.Errorf("the class became %v: %v", other, err)
		}
	}
	if got := addresses(s.get(svc)); !slices.Equal(got, []string{address}) {
		t.Errorf("addresses %v, want %s", got, address)
	}
}

// What is carried of several protocols is published; the mode of its address is there,
// and the API server refuses another type's.
func TestE21_MixedProtocolsAndIPMode(t *testing.T) {
	t.Parallel()
	s := besideScene(t)
	s.pod("web", "web-1", "node1")
	svc := s.service("web",
		withPort("tcp", corev1.ProtocolTCP, 80, 8080),
		withPort("udp", corev1.ProtocolUDP, 80, 9000))
	address := s.published(svc)[0]
	s.answers("web", address, 80)
	if carried(t, corev1.ProtocolUDP) {
		s.datagramAnswers("web", address, 80)
	} else {
		s.until(svc, "told of its protocols", func(svc *corev1.Service) bool {
			return condition(svc, v1alpha1.ConditionPortsError).Reason == v1alpha1.ReasonMixedProtocol
		})
	}
	fresh := s.get(svc)
	if mode := fresh.Status.LoadBalancer.Ingress[0].IPMode; mode == nil || *mode != corev1.LoadBalancerIPModeProxy {
		t.Errorf("ipMode %v, want Proxy", mode)
	}
	fresh = s.update(svc, func(svc *corev1.Service) {
		svc.Spec.Type, svc.Spec.LoadBalancerClass = corev1.ServiceTypeClusterIP, nil
	})
	fresh.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: address}}
	if err := env.Kube.Status().Update(t.Context(), fresh); err == nil {
		t.Error("a ClusterIP Service took an address (S14)")
	}
}
