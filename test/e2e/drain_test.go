package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/external-lb/external-lb/api/v1alpha1"
	table "github.com/external-lb/external-lb/internal/engine/engines"
	"github.com/external-lb/external-lb/internal/lb"
	"github.com/external-lb/external-lb/test/builder"
	"github.com/external-lb/external-lb/test/wait"
)

// ends waits until a connection is no more, which must not be before its time.
func (c *connection) ends(t *testing.T, began time.Time, drain time.Duration) {
	t.Helper()
	wait.For(t, func(context.Context) error {
		answer, err := c.ask()
		switch {
		case err == nil:
			return fmt.Errorf("%s answers on it after %s", answer.Pod, time.Since(began))
		case errors.Is(err, os.ErrDeadlineExceeded):
			return fmt.Errorf("nobody says that it has ended: %w", err)
		}
		return nil
	})
	took := time.Since(began)
	if took < drain {
		t.Errorf("the connection has ended after %s, want %s", took, drain)
	}
	t.Logf("the connection has ended after %s", took)
}

// A pod terminates on a node that has no other: what is left of its connections ends after 4s.
func endsWhatIsLeft(f *field) {
	const drain = 4 * time.Second
	f.pod("drain", "drain-1", "node1")
	f.pod("drain", "drain-2", "node2")
	must(f.t, env.Kube.Patch(f.t.Context(), f.service, client.RawPatch(types.MergePatchType, []byte(`{"spec":{"selector":{"app":"drain"}}}`))))
	ends, lives := f.connectTo("drain-1", f.host, 80), f.connectTo("drain-2", f.host, 80)
	began := time.Now()
	must(f.t, env.TerminatePod(f.t.Context(), f.namespace, "drain-1"))
	ends.ends(f.t, began, drain)
	lives.lives(f.t, "drain-2")
	f.newConnectionsGo("drain-2", f.host, 80)
}

// A node that drains keeps its connections for as long as the policy says, and one that is back
// in time keeps them for good.
func TestUpgrade_ADrainEndsWhatIsLeft(t *testing.T) {
	cordonedDrain(t)
	s := newScene(t)
	const drain = 20 * time.Second // a busy machine takes some for a node to leave and to be back
	policy := builder.UpstreamPolicy(s.namespace, "drains").For("web").
		Set(func(u *v1alpha1.UpstreamSettings) { u.Drain = v1alpha1.DrainTime(drain.String()) }).Manifest()
	must(t, env.Kube.Create(t.Context(), policy))
	s.policiesTold()
	s.pod("web", "web-1", "node1")
	s.pod("web", "web-2", "node2")
	svc := s.service("web", withLocal, withPort("tcp", corev1.ProtocolTCP, 80, 9000))
	address := s.published(svc)[0]
	if table.Named(engine.name).Unsupported("drain", lb.TCP) != "" {
		s.policySays(policy, v1alpha1.ConditionUnsupported, "drain: ")
		ends := s.connectTo("web-1", address, 80)
		patchNode(t, "node1", cordon, uncordon)
		s.newConnectionsGo("web-2", address, 80)
		ends.lives(t, "web-1")
		return
	}
	var first, second *connection
	for began := (time.Time{}); time.Since(began) > drain; { // once more if it was not back in time
		first, began = s.connectTo("web-1", address, 80), time.Now()
		patchNode(t, "node1", cordon, uncordon)
		s.newConnectionsGo("web-2", address, 80)
		patchNode(t, "node1", uncordon, uncordon)
		second = s.connectTo("web-2", address, 80)
		s.connectTo("web-1", address, 80) // it is back
	}

	began := time.Now()
	patchNode(t, "node2", cordon, uncordon)
	s.newConnectionsGo("web-1", address, 80)
	second.ends(t, began, drain)
	first.lives(t, "web-1") // by now its time would be over, too
	patchNode(t, "node2", uncordon, uncordon)
	s.connectTo("web-2", address, 80)

	began = time.Now()
	patchNode(t, "node1", cordon, uncordon)
	first.ends(t, began, drain)
	s.newConnectionsGo("web-2", address, 80)
	if engine.name == v1alpha1.EngineLVS { // the kernel forgets the connections of a Service that is deleted
		return
	}
	last := s.connectTo("web-2", address, 80)
	began = time.Now()
	s.remove(t.Context(), svc)
	last.ends(t, began, drain)
}
