package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/test/builder"
	"github.com/external-lb/external-lb/test/wait"
)

func TestPolicy_ProxyProtocolAndUnsupported(t *testing.T) {
	t.Parallel()
	s := besideScene(t)
	s.pod("web", "web-1", "node1")
	svc := s.service("web")
	s.published(svc)
	policy := builder.UpstreamPolicy(s.namespace, "tuning").For("web").For("absent").Algorithm(foreignAlgorithm()).
		Set(func(u *v1alpha1.UpstreamSettings) { u.MaxConnectionsPerNode = ptr.To[int32](25011) }).Manifest()
	must(t, env.Kube.Create(t.Context(), policy))
	wait.For(t, func(context.Context) error {
		text := fragment(t, svc)
		if !strings.Contains(text, "25011") {
			return fmt.Errorf("the limit is not live:\n%s", text)
		}
		return nil
	})
	wait.For(t, func(ctx context.Context) error {
		if err := env.Kube.Get(ctx, client.ObjectKeyFromObject(policy), policy); err != nil {
			return err
		}
		if len(policy.Status.Targets) != 2 {
			return fmt.Errorf("status %+v", policy.Status)
		}
		for i, want := range []map[string]metav1.ConditionStatus{
			{v1alpha1.ConditionAccepted: "True", v1alpha1.ConditionUnsupported: "True"},
			{v1alpha1.ConditionAccepted: "False"},
		} {
			for _, c := range policy.Status.Targets[i].Conditions {
				if status, ok := want[c.Type]; ok && status != c.Status {
					return fmt.Errorf("target %d: %+v, want %s", i, c, status)
				}
			}
		}
		return nil
	})
}

// foreignAlgorithm is one that the engine does not have.
func foreignAlgorithm() v1alpha1.Algorithm {
	if engine.name == v1alpha1.EngineLVS {
		return v1alpha1.Random
	}
	return v1alpha1.NeverQueue
}

// policySays waits until a policy's first target has a condition that names something.
func (s *scene) policySays(policy *v1alpha1.UpstreamPolicy, condition, part string) {
	s.t.Helper()
	wait.For(s.t, func(ctx context.Context) error {
		if err := env.Kube.Get(ctx, client.ObjectKeyFromObject(policy), policy); err != nil {
			return err
		}
		for _, target := range policy.Status.Targets {
			c := meta.FindStatusCondition(target.Conditions, condition)
			if c != nil && c.Status == metav1.ConditionTrue && strings.Contains(c.Message, part) {
				return nil
			}
		}
		return fmt.Errorf("no %s with %q: %+v", condition, part, policy.Status)
	})
}
