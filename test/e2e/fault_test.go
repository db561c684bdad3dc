package e2e

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/external-lb/external-lb/api/v1alpha1"
	onRecord "github.com/external-lb/external-lb/internal/record"
	"github.com/external-lb/external-lb/test/builder"
	"github.com/external-lb/external-lb/test/lab"
	"github.com/external-lb/external-lb/test/wait"
)

// Each way in which a host cannot be reached is told in its own words, costs
// nobody else anything, and is over as soon as it is repaired.
func TestFault_KeysOfHosts(t *testing.T) {
	s := newScene(t)
	b, h := s.spare(nil)
	s.pod("web", "web-1", "node1")
	svc := s.service("web", ofClass(ptr.To("external-lb.dev/"+b.Name)))

	good := &corev1.Secret{}
	must(t, env.Kube.Get(t.Context(), client.ObjectKey{Namespace: lab.Namespace, Name: lab.SecretName}, good))
	privateKey := good.Data[corev1.SSHAuthPrivateKey]
	known, err := h.KnownHosts(t.Context())
	must(t, err)
	strangers, strangersPublic := strangersKey(t)
	fields := strings.Fields(known)
	changed := fields[0] + " " + string(ssh.MarshalAuthorizedKey(strangersPublic))

	s.hostSays(b.Name, "spare", v1alpha1.HostUnreachable, "Secret "+lab.Namespace+"/"+s.namespace)
	s.until(svc, "told why it has no address", func(svc *corev1.Service) bool {
		c := condition(svc, v1alpha1.ConditionServiceProgrammed)
		return c.Status == "False" && c.Reason == v1alpha1.ReasonHostsUnreachable && strings.Contains(c.Message, "Balancer "+b.Name)
	})
	s.event(svc, v1alpha1.EventSyncFailed, "Balancer "+b.Name)
	s.event(b, v1alpha1.ReasonHostsUnreachable, "Secret")
	for _, c := range []struct {
		name  string
		key   []byte
		known string
		says  string
	}{
		{"unknown host key", privateKey, "192.0.2.7 " + fields[1] + " " + fields[2], "ssh-keyscan"},
		{"changed host key", privateKey, changed, "has another for it"},
		{"refused key", strangers, known, "refuses the key"},
		{"no key", []byte("rubbish"), known, "cannot be read"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s.secret(c.key, c.known)
			s.hostSays(b.Name, "spare", v1alpha1.HostUnreachable, c.says)
		})
	}
	s.settled() // other Balancers do not notice
	s.secret(privateKey, known)
	address := s.published(svc)[0]
	s.via(h, address)
	s.answers("web", address, 80)
}

// An address is published when as many hosts as the Balancer asks for have
// proved it, and stays when they go away.
func TestFault_MinHosts(t *testing.T) {
	s := newScene(t)
	s.pod("web", "web-1", "node1")
	early := s.service("early")
	address := s.published(early)
	changeBalancer(t, balancer, func(b *v1alpha1.Balancer) { b.Spec.Publish.MinHosts = 2 })
	t.Cleanup(func() {
		changeBalancer(t, balancer, func(b *v1alpha1.Balancer) { b.Spec.Publish.MinHosts = 1 })
	})
	must(t, env.Cut(t.Context(), "lb2"))
	healed := false
	defer func() {
		if !healed {
			must(t, env.Heal(context.Background(), "lb2"))
		}
	}()
	svc := s.service("web")
	s.until(svc, "told which host is missing", func(svc *corev1.Service) bool {
		c := condition(svc, v1alpha1.ConditionServiceProgrammed)
		return c.Status == "False" && c.Reason == v1alpha1.ReasonHostsUnreachable && strings.Contains(c.Message, "lb2")
	})
	if got := addresses(s.get(svc)); len(got) > 0 {
		t.Errorf("published %v on the proof of one host", got)
	}
	if got := addresses(s.get(early)); len(got) != 1 || got[0] != address[0] {
		t.Errorf("what was published became %v, want %s", got, address)
	}
	wait.For(t, func(context.Context) error {
		b := getBalancer(t, balancer)
		c := meta.FindStatusCondition(b.Status.Conditions, v1alpha1.ConditionProgrammed)
		if c == nil || c.Status != metav1.ConditionFalse || !strings.Contains(c.Message, "lb2") {
			return fmt.Errorf("%+v", b.Status.Conditions)
		}
		return nil
	})
	must(t, env.Heal(t.Context(), "lb2"))
	healed = true
	s.published(svc)
}

// A full disk on one host is told on the Balancer; the other host publishes.
func TestFault_FullDisk(t *testing.T) {
	s := newScene(t)
	s.pod("web", "web-1", "node1")
	h, err := env.Host("lb2")
	must(t, err)
	_, err = h.Shell(t.Context(), "cat /dev/zero > /filler || true; head -c 1 /dev/zero > /filler2 2>/dev/null || true")
	must(t, err)
	remove := func() {
		_, err := h.Shell(context.Background(), "rm -f /filler /filler2")
		must(t, err)
	}
	removed := false
	defer func() {
		if !removed {
			remove()
		}
	}()
	svc := s.service("web")
	s.published(svc)
	s.hostSays(balancer, "lb2", v1alpha1.HostFailed, "full")
	wait.For(t, func(context.Context) error {
		c := meta.FindStatusCondition(getBalancer(t, balancer).Status.Conditions, v1alpha1.ConditionDegraded)
		if c == nil || c.Status != metav1.ConditionTrue || !strings.Contains(c.Message, "full") {
			return fmt.Errorf("%+v", c)
		}
		return nil
	})
	remove()
	removed = true
	s.inSync(balancer)
}

// A change that one host cannot prove goes to no other: here because its daemon has frozen.
func TestFault_AChangeThatFailsOnOneHostGoesToNoOther(t *testing.T) {
	s := newScene(t)
	s.pod("web", "web-1", "node1")
	early := s.service("web")
	address := s.published(early)[0]
	s.inSync(balancer)
	h, err := env.Host("lb2") // the last one gets changes first
	must(t, err)
	signal := func(name string) {
		_, err := h.Shell(context.Background(), fmt.Sprintf("kill -%s $(cat %s)", name, engine.pidFile))
		must(t, err)
	}
	signal("STOP")
	defer signal("CONT")
	late := s.service("late", func(svc *corev1.Service) { svc.Spec.Selector = early.Spec.Selector })
	s.hostSays(balancer, "lb2", v1alpha1.HostFailed, engine.daemon+" refuses the configuration: ")
	s.hostSays(balancer, "lb1", v1alpha1.HostFailed, "the change failed on lb2, which gets each change first")
	s.until(late, "told what failed", func(svc *corev1.Service) bool {
		c := condition(svc, v1alpha1.ConditionServiceProgrammed)
		return c.Status == "False" && strings.Contains(c.Message, "Balancer "+balancer+" says what is wrong with") && len(addresses(svc)) == 0
	})
	s.answers("web", address, 80)
	signal("CONT")
	s.published(late)
	s.inSync(balancer)
}

// Changes that come faster than deliveries end reach both hosts.
func TestFault_AStormOfChangesReachesBothHosts(t *testing.T) {
	s := newScene(t)
	s.pod("web", "web-1", "node1")
	svc := s.service("web")
	s.published(svc)
	s.inSync(balancer)
	const enough = 5
	carried, changes := map[string]map[string]bool{"lb1": {}, "lb2": {}}, 0
	wait.For(t, func(context.Context) error {
		changes++
		s.update(svc, func(svc *corev1.Service) {
			svc.Spec.LoadBalancerSourceRanges = []string{fmt.Sprintf("198.18.%d.%d/32", changes/256, changes%256)}
		})
		for _, h := range getBalancer(t, balancer).Status.Hosts {
			carried[h.Name][h.Digest] = true
		}
		if one, other := len(carried["lb1"]), len(carried["lb2"]); one < enough || other < enough {
			return fmt.Errorf("of %d changes, lb1 has carried %d, and lb2 %d", changes, one, other)
		}
		return nil
	})
	s.inSync(balancer)
}

// A host whose owner has broken its configuration says so, and keeps no change from the others.
func TestFault_AHostThatItsOwnerBrokeHoldsNoOtherBack(t *testing.T) {
	s := newScene(t)
	s.pod("web", "web-1", "node1")
	early := s.service("web")
	address := s.published(early)[0]
	s.inSync(balancer)
	h, err := env.Host("lb2")
	must(t, err)
	_, err = h.Shell(t.Context(), fmt.Sprintf("cp -a %[1]s %[1]s.good; echo '%[2]s' >> %[1]s", engine.conf, engine.nonsense))
	must(t, err)
	repair := func() {
		_, err := h.Shell(context.Background(), fmt.Sprintf("[ ! -e %[1]s.good ] || mv %[1]s.good %[1]s", engine.conf))
		must(t, err)
	}
	defer repair()
	must(t, env.RouteVia(t.Context(), "lb1"))
	defer func() { must(t, env.RouteVia(context.Background(), "lb1", "lb2")) }()
	for _, name := range []string{"late", "later"} {
		svc := s.service(name, func(svc *corev1.Service) { svc.Spec.Selector = early.Spec.Selector })
		s.answers("web", s.published(svc)[0], 80)
		s.hostSays(balancer, "lb1", v1alpha1.HostInSync, "")
		s.hostSays(balancer, "lb2", v1alpha1.HostFailed, "it refuses what its owner has written: ")
		s.hostSays(balancer, "lb2", v1alpha1.HostFailed, "nonsense")
	}
	wait.For(t, func(context.Context) error {
		c := meta.FindStatusCondition(getBalancer(t, balancer).Status.Conditions, v1alpha1.ConditionDegraded)
		if c == nil || c.Status != metav1.ConditionTrue || !strings.Contains(c.Message, "nonsense") {
			return fmt.Errorf("%+v", c)
		}
		return nil
	})
	must(t, env.RouteVia(t.Context(), "lb2")) // what it had runs on
	s.answers("web", address, 80)
	repair()
	s.inSync(balancer)
}

// An address that no host has, and a port that something else on the host has:
// only the Service that wants it is told, and is served when it is free.
func TestFault_WhatCannotBeBound(t *testing.T) {
	s := newScene(t)
	s.pod("web", "web-1", "node1")
	pool := builder.AddressPool(s.namespace, "198.51.100.0/30").Manual().Manifest()
	s.make(pool)

	t.Run("address", func(t *testing.T) {
		lost := s.service("lost", withAnnotation(v1alpha1.AddressPoolAnnotation, pool.Name))
		s.published(s.service("web"))
		s.until(lost, "told that no host has its address", func(svc *corev1.Service) bool {
			c := condition(svc, v1alpha1.ConditionServiceProgrammed)
			return c.Reason == v1alpha1.ReasonRefused && strings.Contains(c.Message, "198.51.100.") && len(addresses(svc)) == 0
		})
		s.event(lost, v1alpha1.EventSyncFailed, "198.51.100.")
		s.remove(t.Context(), lost)
	})
	t.Run("port", func(t *testing.T) {
		const wanted = "203.0.113.140"
		for _, name := range []string{"lb1", "lb2"} {
			h, err := env.Host(name)
			must(t, err)
			takePort(t, h, wanted, 80, "/run/other-sshd.pid")
		}
		svc := s.service("taken", withAnnotation(v1alpha1.AddressesAnnotation, wanted), func(svc *corev1.Service) {
			svc.Spec.Selector = map[string]string{"app": "web"}
		})
		s.until(svc, "told who has its port", func(svc *corev1.Service) bool {
			c := condition(svc, v1alpha1.ConditionServiceProgrammed)
			return c.Reason == v1alpha1.ReasonRefused && strings.Contains(c.Message, wanted+":80 is taken")
		})
		for _, name := range []string{"lb1", "lb2"} {
			h, err := env.Host(name)
			must(t, err)
			_, err = h.Shell(t.Context(), "kill $(cat /run/other-sshd.pid)")
			must(t, err)
		}
		s.published(svc)
		s.answers("web", wanted, 80)
	})
}

// What somebody changes on a host is mended.
func TestFault_DriftIsRepaired(t *testing.T) {
	s := newScene(t)
	s.pod("web", "web-1", "node1")
	svc := s.service("web")
	s.published(svc)
	s.inSync(balancer)
	before := fragment(t, svc)
	h, err := env.Host("lb1")
	must(t, err)
	address, path := addresses(s.get(svc))[0], engine.runningPath(svc)
	_, err = h.Shell(t.Context(), fmt.Sprintf("sed -i 's/%[1]s:80/%[1]s:8099/' %[2]s; ! grep %[1]s:80' ' %[2]s; %[3]s", address, path, engine.reload))
	must(t, err)
	wait.For(t, func(ctx context.Context) error {
		if after := fragment(t, svc); after != before {
			return fmt.Errorf("on the host:\n%s", after)
		}
		_, err := h.Shell(ctx, "! grep 8099 "+path)
		return err
	})
	must(t, env.RouteVia(t.Context(), "lb1"))
	defer func() { must(t, env.RouteVia(context.Background(), "lb1", "lb2")) }()
	s.answers("web", address, 80)
	s.silent(address, 8099)
}

// Without a manager a host that reboots, or whose daemon is killed and started
// by its own means, serves what was last proved.
func TestFault_HostsServeWithoutTheManager(t *testing.T) {
	s := newScene(t)
	s.pod("web", "web-1", "node1")
	svc := s.service("web")
	address := s.published(svc)[0]
	s.inSync(balancer)
	must(t, env.RouteVia(t.Context(), "lb1"))
	defer func() { must(t, env.RouteVia(context.Background(), "lb1", "lb2")) }()
	must(t, env.Manager.Stop())
	h, err := env.Host("lb1")
	must(t, err)
	for name, do := range map[string]func() error{
		"reboot": func() error { return h.Reboot(t.Context()) },
		"kill": func() error {
			if _, err := h.Shell(t.Context(), engine.kill); err != nil {
				return err
			}
			return h.StartEngine(t.Context())
		},
	} {
		if err := do(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		s.answers("web", address, 80)
	}
	must(t, env.StartManager(t.Context()))
	s.inSync(balancer)
	// A daemon that does not run is told, by its own name.
	_, err = h.Shell(t.Context(), engine.stop)
	must(t, err)
	s.update(svc, func(svc *corev1.Service) { svc.Spec.Ports[0].Port = 81 })
	s.hostSays(balancer, "lb1", v1alpha1.HostFailed, engine.daemon+" does not run")
	must(t, h.StartEngine(t.Context()))
	s.inSync(balancer)
	s.answers("web", address, 81)
}

// Of two Balancers that want the same, the older has it and the younger is told;
// a class they may share.
func TestFault_BalancersThatConflict(t *testing.T) {
	s := newScene(t)
	setDefault(t, true)
	t.Cleanup(func() { setDefault(t, false) })
	for reason, change := range map[string]func(*v1alpha1.Balancer){
		v1alpha1.ReasonAccepted:     func(b *v1alpha1.Balancer) { b.Spec.LoadBalancerClass = class },
		v1alpha1.ReasonDefaultTaken: func(b *v1alpha1.Balancer) { b.Spec.Default = true },
	} {
		t.Run(reason, func(t *testing.T) {
			b := builder.Balancer(strings.ToLower(reason)).Manifest()
			b.Spec.Hosts = []v1alpha1.Host{{Name: "lb9", Address: "192.0.2.9", SecretRef: &corev1.LocalObjectReference{Name: "none"}}}
			change(b)
			must(t, env.Kube.Create(t.Context(), b))
			t.Cleanup(func() { must(t, env.Kube.Delete(context.Background(), b)) })
			wait.For(t, func(context.Context) error {
				conditions := getBalancer(t, b.Name).Status.Conditions
				c := meta.FindStatusCondition(conditions, v1alpha1.ConditionAccepted)
				if c == nil || c.Reason != reason || !strings.Contains(c.Message, balancer) {
					return fmt.Errorf("%+v", conditions)
				}
				return nil
			})
			if reason != v1alpha1.ReasonAccepted {
				s.event(b, reason, balancer)
			}
			s.settled()
		})
	}
	svc := s.service("classless", ofClass(nil))
	s.published(svc)
	if got := onRecord.Holders(s.get(svc)); !slices.Equal(got, []string{balancer}) {
		t.Errorf("held by %q", got)
	}
	// Before the default goes away.
	s.remove(t.Context(), svc)
}
