package e2e

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/external-lb/external-lb/api/v1alpha1"
	onRecord "github.com/external-lb/external-lb/internal/record"
	"github.com/external-lb/external-lb/test/builder"
	"github.com/external-lb/external-lb/test/cluster"
	"github.com/external-lb/external-lb/test/lab"
	"github.com/external-lb/external-lb/test/wait"
)

// asker asks an address at a steady rate, each time over a new connection.
type asker struct {
	busy   sync.Mutex // held during a request
	asked  int
	failed []error
	stop   func()
}

func (s *scene) asks(address string, port int32) *asker {
	s.t.Helper()
	ctx, cancel := context.WithCancel(s.t.Context())
	a, done := &asker{}, make(chan struct{})
	a.stop = sync.OnceFunc(func() { cancel(); <-done })
	s.t.Cleanup(a.stop)
	go func() {
		defer close(done)
		ticker := time.NewTicker(20 * time.Millisecond)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
			}
			a.busy.Lock()
			_, err := s.webWithin(ctx, lostAfter, "client", address, port)
			if ctx.Err() == nil {
				a.asked++
				if err != nil {
					a.failed = append(a.failed, err)
				}
			}
			a.busy.Unlock()
		}
	}()
	return a
}

// between does something while no request is on its way.
func (a *asker) between(do func()) {
	a.busy.Lock()
	defer a.busy.Unlock()
	do()
}

// movePool gives a pool to a Balancer.
func (s *scene) movePool(name, to string, keepOn ...string) {
	s.t.Helper()
	p := &v1alpha1.AddressPool{}
	must(s.t, env.Kube.Get(s.t.Context(), client.ObjectKey{Name: name}, p))
	before := p.DeepCopy()
	p.Spec.Balancer, p.Spec.KeepOn = to, keepOn
	must(s.t, env.Kube.Patch(s.t.Context(), p, client.MergeFrom(before)))
}

// movingPool is a pool of the suite's Balancer with one Service, not shared with other tests.
func (s *scene) movingPool(addresses v1alpha1.AddressRange) (pool string, svc *corev1.Service) {
	s.t.Helper()
	p := builder.AddressPool(s.namespace+"-moves", addresses).Manual().Manifest()
	s.make(p)
	s.pod("web", "web-1", "node1")
	s.pod("web", "web-2", "node2")
	return p.Name, s.service("web", withAnnotation(v1alpha1.AddressPoolAnnotation, p.Name))
}

// isOn waits until a Balancer alone holds a Service.
func (s *scene) isOn(svc *corev1.Service, balancer string) {
	s.t.Helper()
	s.until(svc, "on Balancer "+balancer+" alone", func(svc *corev1.Service) bool {
		return slices.Equal(onRecord.Holders(svc), []string{balancer}) && condition(svc, v1alpha1.ConditionMoving).Type == ""
	})
}

// isNotOn fails the test if a host has files of a Service.
func (s *scene) isNotOn(svc *corev1.Service, hosts ...string) {
	s.t.Helper()
	for _, name := range hosts {
		h, err := env.Host(name)
		must(s.t, err)
		left, err := h.Shell(s.t.Context(), "grep -rl "+string(svc.UID)+" "+engine.live()+" || true; find "+engine.live()+" -name '*"+string(svc.UID)+"*'")
		must(s.t, err)
		if left != "" {
			s.t.Errorf("%s still has\n%s", name, left)
		}
	}
}

func restartManager(t *testing.T) {
	t.Helper()
	must(t, env.Manager.Kill())
	must(t, env.StartManager(t.Context()))
}

// A pool moves to a Balancer with other hosts, while clients ask, the Service
// changes and the manager is killed: the address always answers.
func TestMove(t *testing.T) {
	s := newScene(t)
	next, spare := s.spare(func(b *v1alpha1.Balancer) { b.Spec.LoadBalancerClass = class })
	known, err := spare.KnownHosts(t.Context())
	must(t, err)
	good := &corev1.Secret{}
	must(t, env.Kube.Get(t.Context(), client.ObjectKey{Namespace: lab.Namespace, Name: lab.SecretName}, good))
	pool, svc := s.movingPool("203.0.113.224/29")
	address := s.published(svc)[0]
	s.inSync(balancer)
	clients := s.asks(address, 80)

	// The new hosts cannot be reached yet: the old ones go on.
	s.movePool(pool, next.Name, balancer)
	s.until(svc, "told that the new Balancer lacks something", func(svc *corev1.Service) bool {
		c := condition(svc, v1alpha1.ConditionMoving)
		return c.Reason == v1alpha1.ReasonHostsUnreachable && strings.Contains(c.Message, "Balancer "+next.Name+" says what is wrong")
	})
	restartManager(t)
	s.update(svc, func(svc *corev1.Service) { withPort("more", corev1.ProtocolTCP, 81, 8080)(svc) })
	s.answers("web", address, 81)

	// Both carry it, until the traffic has been led to the new ones.
	s.secret(good.Data[corev1.SSHAuthPrivateKey], known)
	s.until(svc, "proved on both", func(svc *corev1.Service) bool {
		return condition(svc, v1alpha1.ConditionMoving).Reason == v1alpha1.ReasonKept
	})
	clients.between(func() { s.via(spare, address) })
	s.answers("web", address, 81)
	s.movePool(pool, next.Name)
	s.until(svc, "taken over", func(svc *corev1.Service) bool {
		return onRecord.Of(svc).Carrier == next.Name
	})
	restartManager(t)
	s.isOn(svc, next.Name)
	s.isNotOn(svc, "lb1", "lb2")

	clients.stop()
	if n := len(clients.failed); n > 0 || clients.asked < 20 {
		t.Errorf("%d of %d requests failed, the first with: %v", n, clients.asked, clients.failed[:min(1, n)])
	}
	t.Logf("%d requests during the move", clients.asked)
	if got := addresses(s.get(svc)); !slices.Equal(got, []string{address}) {
		t.Errorf("published are %v, want %s", got, address)
	}
	for _, reason := range []string{v1alpha1.EventMoving, v1alpha1.EventMoved} {
		s.event(svc, reason, balancer)
	}

	// And back, without a stop.
	s.movePool(pool, balancer)
	s.isOn(svc, balancer)
	s.isNotOn(svc, "spare")
	_, err = env.Exec(t.Context(), "client", "ip", "route", "replace", address+"/32", "via", mustHost(t, "lb1").Addr().String())
	must(t, err)
	s.answers("web", address, 80)
}

func mustHost(t *testing.T, name string) *cluster.Host {
	t.Helper()
	h, err := env.Host(name)
	must(t, err)
	return h
}

// Where keepalived moves the addresses, one is never on hosts of both Balancers:
// the new ones listen, the old ones let go of it, and then it comes.
func TestMoveWithVRRP(t *testing.T) {
	router := func(id int32) v1alpha1.VirtualAddresses {
		return v1alpha1.VirtualAddresses{
			Mode: v1alpha1.VRRP,
			VRRP: &v1alpha1.VRRPSettings{Interface: "eth0", VirtualRouterID: id, AdvertisementInterval: "100ms"},
		}
	}
	var hosts []v1alpha1.Host
	useLab(t, lab.Options{
		Cluster: cluster.Options{Nodes: 2, Hosts: 2, DualStack: true, Addresses: "vrrp"},
		Change: func(b *v1alpha1.Balancer) {
			hosts = b.Spec.Hosts
			b.Spec.Hosts, b.Spec.VirtualAddresses, b.Spec.Reload.MinInterval = hosts[:1], router(51), "100ms"
		},
	})
	s := newScene(t)
	next := builder.Balancer("next").Manifest()
	next.Spec.Engine, next.Spec.Datagrams, next.Spec.LoadBalancerClass, next.Spec.Hosts = engine.name, engine.datagrams, class, hosts[1:]
	next.Spec.VirtualAddresses, next.Spec.Reload.MinInterval = router(52), "100ms"
	must(t, env.Kube.Create(t.Context(), next))
	s.pod("web", "web-1", "node1")
	svc := s.service("web", dualStack)
	all := s.published(svc)
	s.inSync(next.Name)
	for _, c := range []struct{ to, host, from string }{{next.Name, "lb2", "lb1"}, {balancer, "lb1", "lb2"}} {
		gap := s.without(all[0], func() {
			s.movePool("public", c.to)
			wait.For(t, func(ctx context.Context) error {
				for _, address := range all {
					// The new host first: what it has now the old one must have lost before.
					var on []string
					for _, name := range []string{c.host, c.from} {
						out, err := mustHost(t, name).Exec(ctx, "ip", "-o", "addr", "show", "dev", "eth0")
						must(t, err)
						if strings.Contains(out, " "+address+"/") {
							on = append(on, name)
						}
					}
					if len(on) == 2 {
						t.Errorf("%s is on both hosts", address)
					}
					if !slices.Equal(on, []string{c.host}) {
						return fmt.Errorf("%s is on %v, want %s", address, on, c.host)
					}
				}
				return nil
			})
		})
		t.Logf("nobody answered for %v when the addresses moved to %s", gap, c.host)
		s.isOn(svc, c.to)
		s.isNotOn(svc, c.from)
		if got := addresses(s.get(svc)); !slices.Equal(got, all) {
			t.Errorf("published are %v, want %v", got, all)
		}
		s.answers("web", all[0], 80)
	}

	// From hosts that are gone, to whom nobody listens any more. When they are
	// back, they let go of what they had.
	must(t, mustHost(t, "lb1").PowerOff(t.Context()))
	s.movePool("public", next.Name)
	s.answers("web", all[0], 80)
	s.until(svc, "told what is not confirmed", func(svc *corev1.Service) bool {
		c := condition(svc, v1alpha1.ConditionMoving)
		return c.Reason == v1alpha1.ReasonWithdrawing && strings.Contains(c.Message, "Balancer "+balancer)
	})
	must(t, mustHost(t, "lb1").PowerOn(t.Context()))
	s.isOn(svc, next.Name)
	s.movesTo(all[0], "lb2")
	s.answers("web", all[0], 80)
	s.remove(t.Context(), svc)
}
