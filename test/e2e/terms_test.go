package e2e

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/controllers"
	"github.com/external-lb/external-lb/internal/deliver"
	"github.com/external-lb/external-lb/internal/lb"
	"github.com/external-lb/external-lb/test/lab"
	"github.com/external-lb/external-lb/test/wait"
)

// anotherLeader has the key of the hosts, and leads as it likes.
type anotherLeader struct {
	cluster string

	mu   sync.Mutex
	term int64
}

func (l *anotherLeader) Cluster() string { return l.cluster }

func (l *anotherLeader) Term() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.term
}

func (l *anotherLeader) Raise(_ context.Context, seen int64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.term = max(l.term, seen+1)
	return nil
}

// anotherController delivers nothing at all to the Balancer's hosts, over SSH, until end.
func (s *scene) anotherController(cluster string) (fleet *deliver.Fleet, end func()) {
	s.t.Helper()
	b := getBalancer(s.t, balancer)
	fleet = deliver.NewFleet(deliver.Options{Leader: &anotherLeader{cluster: cluster, term: 1}})
	fleet.Set(balancer, controllers.Targets(s.t.Context(), env.Kube, lab.Namespace, b, nil))
	want := map[string]*lb.Set{}
	for _, h := range b.Spec.Hosts {
		want[h.Name] = lb.NewSet()
	}
	fleet.Deliver(balancer, want, "services")
	s.t.Cleanup(fleet.Close)
	return fleet, fleet.Close
}

// hears waits until every host is in a state to another controller, and for one reason.
func hears(t *testing.T, fleet *deliver.Fleet, state v1alpha1.HostState, reason deliver.Reason) deliver.State {
	t.Helper()
	var last deliver.State
	wait.For(t, func(context.Context) error {
		for _, last = range fleet.States(balancer) {
			if last.State != state || last.Reason != reason {
				return fmt.Errorf("%s: %s %s %s", last.Host, last.State, last.Reason, last.Message)
			}
		}
		return nil
	})
	return last
}

// resetTerms has the Balancer's hosts forget who delivered to them.
func resetTerms(ctx context.Context, t *testing.T, cluster types.UID) (said string, err error) {
	for _, host := range getBalancer(t, balancer).Spec.Hosts { // the cluster has those of other tests, too
		its, failed := mustHost(t, host.Name).Exec(ctx, "external-lb", "host", "reset-term", "--cluster", string(cluster))
		said, err = said+its, errors.Join(err, failed)
	}
	return said, err
}

// Who may deliver to a host: the newest leader of the cluster that did so first. That
// can be undone in every case, in most of them by itself.
func TestFault_WhoDelivers(t *testing.T) {
	if engine.name != v1alpha1.EngineNginx {
		t.Skip("not applicable: it is the agent who decides, whatever the engine")
	}
	s := newScene(t)
	s.pod("web", "web-1", "node1")
	first := s.service("web")
	address := s.published(first)[0]
	n := 0
	works := func(what string) {
		t.Helper()
		n++
		s.published(s.service(fmt.Sprintf("web-%d", n), func(svc *corev1.Service) { svc.Spec.Selector = first.Spec.Selector }))
		s.inSync(balancer)
		s.answers("web", address, 80)
		t.Log(what)
	}
	starts := func(flags ...string) {
		t.Helper()
		must(t, env.StartManager(t.Context(), flags...))
	}

	must(t, env.Manager.Stop())
	starts("--leader-elect=false")
	works("without election")
	must(t, env.Manager.Stop())
	starts()
	works("with election again")

	must(t, env.Manager.Stop())
	must(t, env.Kube.Delete(t.Context(), &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: lab.Namespace, Name: "external-lb"}}))
	starts()
	works("with a Lease that starts anew, as that of a cluster that was restored from a backup")

	var system corev1.Namespace
	must(t, env.Kube.Get(t.Context(), client.ObjectKey{Name: metav1.NamespaceSystem}, &system))
	t.Cleanup(func() {
		if t.Failed() { // then hosts may take nothing from this cluster, and nor do the tests that follow
			_, err := resetTerms(context.Background(), t, system.UID)
			t.Log("reset-term:", err)
		}
	})
	stranger, end := s.anotherController("0c0c6d4e-5a3f-4d0a-9d7e-1f6a0c9b7a51")
	if told := fmt.Sprintf("%+v", hears(t, stranger, v1alpha1.HostFailed, deliver.ReasonOtherCluster)); strings.Contains(told, string(system.UID)) || strings.Contains(told, s.namespace) {
		t.Errorf("another cluster hears too much: %s", told)
	}
	end()
	works("while another cluster has the key")

	// A copy of the cluster: what it does is undone once, and then it gives in.
	must(t, env.Manager.Stop())
	starts()
	copied, end := s.anotherController(string(system.UID))
	works("beside a copy of the cluster")
	hears(t, copied, v1alpha1.HostFailed, deliver.ReasonContested)
	works("since the copy has given in")
	end()

	// It comes again and again: then this cluster gives in, and says so.
	wait.For(t, func(context.Context) error {
		copied, end = s.anotherController(string(system.UID))
		wait.True(t, "the copy is through", func() bool {
			return !slices.ContainsFunc(copied.States(balancer), func(st deliver.State) bool {
				return st.State != v1alpha1.HostInSync && st.Reason != deliver.ReasonContested
			})
		})
		end()
		n++
		s.service(fmt.Sprintf("late-%d", n), func(svc *corev1.Service) { svc.Spec.Selector = first.Spec.Selector })
		b := getBalancer(t, balancer)
		if c := meta.FindStatusCondition(b.Status.Conditions, v1alpha1.ConditionDegraded); c == nil || c.Reason != v1alpha1.ReasonContested {
			return fmt.Errorf("%+v", b.Status.Conditions)
		}
		return nil
	})
	s.event(getBalancer(t, balancer), v1alpha1.ReasonContested, "external-lb host reset-term")
	said, err := resetTerms(t.Context(), t, system.UID)
	must(t, err)
	t.Log(said)
	works("after reset-term")
}
