package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/test/builder"
	"github.com/external-lb/external-lb/test/wait"
)

// Strings that would be configuration if anybody pasted them: none comes near a
// host, each is told to its owner, and the others are served.
func TestInput_HostileStrings(t *testing.T) {
	t.Parallel()
	s := besideScene(t)
	s.pod("web", "web-1", "node1")
	const hostile = "192.0.2.1; } } hostile_directive on; #\n"
	told := func(reason string) func(*corev1.Service) bool {
		return func(svc *corev1.Service) bool {
			return condition(svc, v1alpha1.ConditionServiceProgrammed).Reason == reason
		}
	}
	for name, c := range map[string]struct {
		change option
		reason string
	}{
		"addresses":        {withAnnotation(v1alpha1.AddressesAnnotation, hostile), v1alpha1.ReasonInvalidAnnotation},
		"address-pool":     {withAnnotation(v1alpha1.AddressPoolAnnotation, hostile), v1alpha1.ReasonNoPool},
		"load-balancer-ip": {func(svc *corev1.Service) { svc.Spec.LoadBalancerIP = hostile }, v1alpha1.ReasonInvalidSpec},
	} {
		svc := s.service(name, c.change)
		s.until(svc, "told "+c.reason, told(c.reason))
		s.event(svc, v1alpha1.EventSyncFailed, "")
	}
	exposed := s.service("exposed", withAnnotation(v1alpha1.BalancerAnnotation, hostile), func(svc *corev1.Service) {
		svc.Spec.Type, svc.Spec.LoadBalancerClass = corev1.ServiceTypeNodePort, nil
	})
	web := s.service("web")
	s.answers("web", s.published(web)[0], 80)
	s.inSync(balancer)
	s.event(exposed, v1alpha1.EventSyncFailed, "no Balancer serves this Service")
	typo := s.service("typo", ofClass(ptr.To("external-lb.dev/egde")))
	s.event(typo, v1alpha1.EventSyncFailed, `called "egde"`)
	if fresh := s.get(typo); len(fresh.Finalizers) > 0 || len(fresh.Status.Conditions) > 0 {
		t.Errorf("a Service of a class that is not ours was touched: %+v", fresh)
	}
	if fresh := s.get(exposed); len(fresh.Finalizers) > 0 {
		t.Errorf("a Service that names no Balancer is held: %+v", fresh.ObjectMeta)
	}
	for _, name := range []string{"lb1", "lb2"} {
		h, err := env.Host(name)
		must(t, err)
		if found, err := h.Shell(t.Context(), "! grep -rl hostile_directive /etc/"+string(engine.name)+"/. "+engine.live()); err != nil {
			t.Errorf("on %s: %s%v", name, found, err)
		}
	}
}

// Of two policies that set the same field for the same Service the older has its
// way; the younger is told, and has its way with what only it sets.
func TestInput_PoliciesThatConflict(t *testing.T) {
	t.Parallel()
	s := besideScene(t)
	svc := s.service("web")
	s.published(svc)
	target := []v1alpha1.PolicyTargetReference{{Kind: "Service", Name: "web"}}
	policy := func(name string, settings v1alpha1.UpstreamSettings) *v1alpha1.UpstreamPolicy {
		p := builder.UpstreamPolicy(s.namespace, name).Manifest()
		p.Spec.TargetRefs, p.Spec.UpstreamSettings = target, settings
		must(t, env.Kube.Create(t.Context(), p))
		return p
	}
	// Created within one second, so that the name decides.
	policy("a", v1alpha1.UpstreamSettings{MaxConnectionsPerNode: ptr.To[int32](250111)})
	younger := policy("b", v1alpha1.UpstreamSettings{MaxConnectionsPerNode: ptr.To[int32](777111), Algorithm: v1alpha1.LeastConnections})
	wait.For(t, func(context.Context) error {
		text := fragment(t, svc)
		if !strings.Contains(text, "250111") || strings.Contains(text, "777111") || !strings.Contains(text, engine.leastConns) {
			return fmt.Errorf("live:\n%s", text)
		}
		return nil
	})
	wait.For(t, func(ctx context.Context) error {
		if err := env.Kube.Get(ctx, client.ObjectKeyFromObject(younger), younger); err != nil {
			return err
		}
		if len(younger.Status.Targets) == 1 {
			c := meta.FindStatusCondition(younger.Status.Targets[0].Conditions, v1alpha1.ConditionConflicted)
			if c != nil && c.Status == metav1.ConditionTrue && strings.Contains(c.Message, "maxConnectionsPerNode by a") {
				return nil
			}
		}
		return fmt.Errorf("status %+v", younger.Status)
	})
	s.event(younger, "NotInForce", "maxConnectionsPerNode")
}

// A pool that overlaps an older one, or whose range runs backwards, gives out
// nothing and says why; the others give.
func TestInput_BadPools(t *testing.T) {
	t.Parallel()
	s := besideScene(t)
	for reason, addresses := range map[string]v1alpha1.AddressRange{
		v1alpha1.ReasonOverlap: "203.0.113.100-203.0.113.200",
		v1alpha1.ReasonInvalid: "198.51.100.9-198.51.100.1",
	} {
		pool := builder.AddressPool(s.namespace+"-"+strings.ToLower(reason), addresses).Manifest()
		s.make(pool)
		s.event(pool, reason, "")
		asked := s.service(strings.ToLower(reason), withAnnotation(v1alpha1.AddressPoolAnnotation, pool.Name))
		s.until(asked, "told that the pool is not in force", func(svc *corev1.Service) bool {
			c := condition(svc, v1alpha1.ConditionServiceProgrammed)
			return c.Status == "False" && strings.Contains(c.Message, pool.Name)
		})
	}
	s.settled()
}
