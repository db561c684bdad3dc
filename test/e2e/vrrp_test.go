package e2e

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/utils/ptr"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/test/builder"
	"github.com/external-lb/external-lb/test/cluster"
	"github.com/external-lb/external-lb/test/lab"
	"github.com/external-lb/external-lb/test/wait"
)

// useLab runs a test in a lab of its own.
func useLab(t *testing.T, o lab.Options) {
	t.Helper()
	o.Cluster.Dir, o.Cluster.Binary = filepath.Join(t.TempDir(), "cluster"), binary
	o.Cluster.Engine, o.Cluster.Datagrams = string(engine.name), engine.datagrams != ""
	o.Root, o.Balancer = filepath.Join("..", ".."), balancer
	own, err := lab.Start(t.Context(), o)
	must(t, err)
	shared := env
	env = own
	t.Cleanup(func() {
		env = shared
		if err := own.Stop(); err != nil {
			t.Error(err)
		}
	})
	must(t, createPools(t.Context()))
}

func dualStack(svc *corev1.Service) {
	svc.Spec.IPFamilyPolicy = ptr.To(corev1.IPFamilyPolicyRequireDualStack)
}

// movingLab has two hosts between which keepalived moves the addresses.
var movingLab = lab.Options{
	Cluster: cluster.Options{Nodes: 2, Hosts: 2, DualStack: true, Addresses: "vrrp"},
	Change: func(b *v1alpha1.Balancer) {
		b.Spec.Reload.MinInterval = "100ms"
		b.Spec.VirtualAddresses = v1alpha1.VirtualAddresses{
			Mode: v1alpha1.VRRP,
			VRRP: &v1alpha1.VRRPSettings{Interface: "eth0", VirtualRouterID: 51, AdvertisementInterval: "100ms"},
		}
	},
}

// TestVRRP: keepalived moves the addresses. One lab for all of it.
func TestVRRP(t *testing.T) {
	useLab(t, movingLab)
	for _, test := range []struct {
		name string
		do   func(t *testing.T, s *scene)
	}{
		{"OneHostHasTheAddresses", vrrpOneHost},
		{"FailOver", vrrpFailOver},
		{"ADaemonThatEndsMovesThem", vrrpDaemonEnds},
		{"ARoundThatReachesOneHost", vrrpOneReached},
		{"Drain", vrrpDrain},
		{"SameRouterID", vrrpSameRouter},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newScene(t)
			s.pod("web", "web-1", "node1")
			test.do(t, s)
		})
	}
}

// has lists the hosts that have an address.
func has(t *testing.T, address string) (hosts []string) {
	t.Helper()
	for _, name := range env.Hosts() {
		h, err := env.Host(name)
		must(t, err)
		out, err := h.Exec(t.Context(), "ip", "-o", "addr", "show", "dev", "eth0")
		if err == nil && strings.Contains(out, " "+address+"/") {
			hosts = append(hosts, name)
		}
	}
	return hosts
}

func (s *scene) movesTo(address string, hosts ...string) {
	s.t.Helper()
	wait.For(s.t, func(context.Context) error {
		if got := has(s.t, address); !slices.Equal(got, hosts) {
			return fmt.Errorf("%s is on %v, want %v", address, got, hosts)
		}
		return nil
	})
}

func vrrpOneHost(t *testing.T, s *scene) {
	svc := s.service("web", dualStack)
	for _, address := range s.published(svc) {
		if got := has(t, address); len(got) == 0 {
			t.Errorf("%s is published, and no host has it", address)
		}
		s.movesTo(address, "lb1") // which may come later: the last host gets each change first
		s.answers("web", address, 80)
	}
	gone := addresses(s.get(svc))
	s.remove(t.Context(), svc)
	for _, address := range gone {
		if got := has(t, address); len(got) > 0 {
			t.Errorf("%s was withdrawn and is on %v", address, got)
		}
	}
	// What is left is not empty: that would drop the router itself.
	s.movesTo("169.254.76.51", "lb1")
}

// without measures how long nobody answers, with a new connection for each request.
func (s *scene) without(address string, during func()) time.Duration {
	s.t.Helper()
	ask := func() bool {
		ctx, stop := context.WithTimeout(s.t.Context(), 250*time.Millisecond)
		defer stop()
		_, err := s.web(ctx, address, 80)
		return err == nil
	}
	s.answers("web", address, 80)
	ended, longest := make(chan struct{}), make(chan time.Duration)
	go func() {
		last, gap, over := time.Now(), time.Duration(0), false
		for !over {
			select {
			case <-ended:
				over = true
			default:
			}
			for !ask() && s.t.Context().Err() == nil {
			}
			gap, last = max(gap, time.Since(last)), time.Now()
		}
		longest <- gap
	}()
	during()
	close(ended)
	return <-longest
}

func vrrpFailOver(t *testing.T, s *scene) {
	address := s.published(s.service("web"))[0]
	h, err := env.Host("lb1")
	must(t, err)
	gap := s.without(address, func() {
		must(t, h.PowerOff(t.Context()))
		s.movesTo(address, "lb2")
	})
	t.Logf("nobody answered for %v after the active host was switched off, with an advertisement each 100 ms", gap)
	must(t, h.PowerOn(t.Context()))
	s.movesTo(address, "lb1")
	s.inSync(balancer)
	s.answers("web", address, 80)
}

// A host whose balancer does not run must not have the addresses.
func vrrpDaemonEnds(t *testing.T, s *scene) {
	address := s.published(s.service("web"))[0]
	s.inSync(balancer)
	h, err := env.Host("lb1")
	must(t, err)
	_, err = h.Shell(t.Context(), engine.stop)
	must(t, err)
	s.movesTo(address, "lb2")
	s.answers("web", address, 80)
	must(t, h.StartEngine(t.Context()))
	s.movesTo(address, "lb1")
	s.answers("web", address, 80)
	s.inSync(balancer)
}

// Hosts with different addresses are still one router, with one active host.
func vrrpOneReached(t *testing.T, s *scene) {
	h, err := env.Host("lb2")
	must(t, err)
	_, err = h.Shell(t.Context(), "pkill -x sshd; until ! pgrep -x sshd; do sleep 0.05; done")
	must(t, err)
	address := s.published(s.service("web"))[0]
	s.hostSays(balancer, "lb2", v1alpha1.HostUnreachable, "")
	steadily(t, func(context.Context) error { // two seconds of advertisements, of which a busy machine may be late with some
		time.Sleep(100 * time.Millisecond)
		for _, a := range []string{address, "169.254.76.51"} {
			if got := has(t, a); !slices.Equal(got, []string{"lb1"}) {
				return fmt.Errorf("%s is on %v, want lb1", a, got)
			}
		}
		return nil
	})
	_, err = h.Shell(t.Context(), "/usr/sbin/sshd -E /var/log/sshd.log")
	must(t, err)
	s.inSync(balancer)
	s.answers("web", address, 80)
}

// A host that is taken out gives its addresses away and is not waited for.
func vrrpDrain(t *testing.T, s *scene) {
	drain := func(name string, value bool) {
		changeBalancer(t, balancer, func(b *v1alpha1.Balancer) {
			b.Spec.Publish.MinHosts = 1
			if value {
				b.Spec.Publish.MinHosts = 2 // of those that serve
			}
			for i := range b.Spec.Hosts {
				b.Spec.Hosts[i].Drain = value && b.Spec.Hosts[i].Name == name
			}
		})
	}
	early := s.service("web")
	address := s.published(early)[0]
	gap := s.without(address, func() {
		drain("lb1", true)
		s.movesTo(address, "lb2")
	})
	t.Logf("nobody answered for %v when the active host was drained", gap)
	h, err := env.Host("lb1")
	must(t, err)
	must(t, h.PowerOff(t.Context()))
	late := s.service("late", func(svc *corev1.Service) { svc.Spec.Selector = early.Spec.Selector })
	s.answers("web", s.published(late)[0], 80)
	must(t, h.PowerOn(t.Context()))
	s.inSync(balancer)
	s.movesTo(address, "lb2") // still
	drain("lb1", false)
	s.movesTo(address, "lb1")
	s.movesTo(addresses(s.get(late))[0], "lb1")
	s.answers("web", address, 80)
}

func vrrpSameRouter(t *testing.T, s *scene) {
	other := builder.Balancer(s.namespace).Manifest()
	other.Spec.Engine, other.Spec.Datagrams = engine.name, engine.datagrams
	other.Spec.Hosts = []v1alpha1.Host{{Name: "lb9", Address: "192.0.2.9", SecretRef: &corev1.LocalObjectReference{Name: "none"}}}
	other.Spec.VirtualAddresses = v1alpha1.VirtualAddresses{
		Mode: v1alpha1.VRRP, VRRP: &v1alpha1.VRRPSettings{Interface: "eth0", VirtualRouterID: 51, AdvertisementInterval: "1s"},
	}
	must(t, env.Kube.Create(t.Context(), other))
	t.Cleanup(func() { must(t, env.Kube.Delete(context.Background(), other)) })
	for name, names := range map[string]string{balancer: other.Name, other.Name: balancer} {
		wait.For(t, func(context.Context) error {
			c := meta.FindStatusCondition(getBalancer(t, name).Status.Conditions, v1alpha1.ConditionAccepted)
			if c == nil || c.Reason != v1alpha1.ReasonRouterIDShared || !strings.Contains(c.Message, names) {
				return fmt.Errorf("Balancer %s: %+v", name, c)
			}
			return nil
		})
	}
}
