package e2e

import (
	"context"
	"fmt"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/host"
	"github.com/external-lb/external-lb/test/wait"
)

// tweaks are lines for the file of a Service: one that the engine takes, and one
// that renders and that it does not know.
var tweaks = map[v1alpha1.Engine]struct{ template, after, good, bad string }{
	v1alpha1.EngineNginx:   {"server.conf.tmpl", "    proxy_timeout {{.IdleTimeout}};", "    tcp_nodelay on; # ", "    no_such_directive on; # "},
	v1alpha1.EngineHAProxy: {"listen.conf.tmpl", "    balance {{.Balance}}", "    option tcp-smart-connect # ", "    no-such-keyword # "},
	v1alpha1.EngineLVS:     {"service.conf.tmpl", "    lvs_sched {{.Scheduler}}", "    # ", "    no_such_keyword # "},
}

// tweaked is a built-in template as an owner gets and changes it.
func tweaked(t *testing.T, line string) string {
	t.Helper()
	tweak := tweaks[engine.name]
	out, err := exec.CommandContext(t.Context(), binary, "host", "templates", "print", "--engine", string(engine.name), tweak.template).Output()
	must(t, err)
	if !strings.Contains(string(out), tweak.after) {
		t.Fatalf("%s has no %q:\n%s", tweak.template, tweak.after, out)
	}
	return strings.Replace(string(out), tweak.after, tweak.after+"\n"+line, 1)
}

// owned puts a template on a host, as its owner does, and gives it to somebody.
func owned(t *testing.T, name, text, owner string) {
	t.Helper()
	h, err := env.Host(name)
	must(t, err)
	dir := host.TemplatesDir + "/" + string(engine.name)
	_, err = h.Shell(t.Context(), "install -d "+dir)
	must(t, err)
	next := dir + "/next"
	must(t, h.WriteFile(t.Context(), next, []byte(text)))
	_, err = h.Shell(t.Context(), fmt.Sprintf("chmod 644 %[1]s; chown %[2]s %[1]s; mv %[1]s %[3]s/%[4]s", next, owner, dir, tweaks[engine.name].template))
	must(t, err)
}

// onHosts puts a template on both hosts.
func onHosts(t *testing.T, text string) {
	t.Helper()
	owned(t, "lb1", text, "root")
	owned(t, "lb2", text, "root")
}

// hasLine reports whether the file of a Service on a host has a text.
func (s *scene) hasLine(ctx context.Context, name string, svc *corev1.Service, text string) (bool, error) {
	h, err := env.Host(name)
	if err != nil {
		return false, err
	}
	data, err := h.ReadFile(ctx, engine.live()+fragmentPath(svc))
	return strings.Contains(string(data), text), err
}

// everywhere waits until the file of a Service has, or lacks, a text on every host.
func (s *scene) everywhere(svc *corev1.Service, text string, has bool) {
	s.t.Helper()
	for _, name := range []string{"lb1", "lb2"} {
		wait.For(s.t, func(ctx context.Context) error {
			if found, err := s.hasLine(ctx, name, svc, text); err != nil || found != has {
				return fmt.Errorf("%s: %q in the file: %t, want %t: %w", name, text, found, has, err)
			}
			return nil
		})
	}
}

// lb2First waits until both hosts have a text in the file of a Service, and fails if
// the first of spec.hosts has it before the last.
func (s *scene) lb2First(svc *corev1.Service, text string) {
	s.t.Helper()
	wait.For(s.t, func(ctx context.Context) error {
		one, err := s.hasLine(ctx, "lb1", svc, text)
		if err != nil {
			return err
		}
		two, err := s.hasLine(ctx, "lb2", svc, text)
		if err != nil {
			return err
		}
		if one && !two {
			s.t.Errorf("lb1 has %q before lb2", text)
		}
		if !one || !two {
			return fmt.Errorf("%q: on lb1 %t, on lb2 %t", text, one, two)
		}
		return nil
	})
}

// degraded waits until the Balancer's condition has a reason and all parts of a message.
func (s *scene) degraded(reason string, parts ...string) {
	s.t.Helper()
	wait.For(s.t, func(context.Context) error {
		c := meta.FindStatusCondition(getBalancer(s.t, balancer).Status.Conditions, v1alpha1.ConditionDegraded)
		if c == nil || c.Reason != reason {
			return fmt.Errorf("want %s: %+v", reason, c)
		}
		for _, part := range parts {
			if !strings.Contains(c.Message, part) {
				return fmt.Errorf("no %q in %q", part, c.Message)
			}
		}
		return nil
	})
}

// asking asks an address over and over, and counts. It ends with the test, or before.
func (s *scene) asking(address string) (stop func() (asked, failed int64, last error)) {
	var answered, failed atomic.Int64
	var last atomic.Value
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	done.Go(func() {
		every := time.NewTicker(20 * time.Millisecond)
		defer every.Stop()
		for ctx.Err() == nil {
			if _, err := s.webWithin(ctx, lostAfter, "client", address, 80); err == nil {
				answered.Add(1)
			} else if ctx.Err() == nil {
				failed.Add(1)
				last.Store(fmt.Errorf("%s: %w", time.Now().Format(time.TimeOnly), err))
			}
			select {
			case <-ctx.Done():
			case <-every.C:
			}
		}
	})
	once := sync.OnceFunc(func() { cancel(); done.Wait() })
	s.t.Cleanup(once)
	return func() (int64, int64, error) {
		once()
		err, _ := last.Load().(error)
		return answered.Load() + failed.Load(), failed.Load(), err
	}
}

// Templates of the hosts' owner go live with the next delivery when they are good.
// Whatever is wrong with them, traffic goes on, Services come and go, and the Balancer
// says why.
func TestTemplates(t *testing.T) {
	s := newScene(t)
	tweak := tweaks[engine.name]
	s.pod("web", "web-1", "node1")
	toWeb := func(svc *corev1.Service) { svc.Spec.Selector = map[string]string{"app": "web"} }
	web := s.service("web")
	address := s.published(web)[0]
	s.answers("web", address, 80)
	stop := s.asking(address)
	t.Cleanup(func() {
		for _, name := range []string{"lb1", "lb2"} {
			if h, err := env.Host(name); err == nil {
				_, err = h.Shell(context.Background(), "rm -rf "+host.TemplatesDir)
				must(t, err)
			}
		}
	})

	// A delivery takes them along, to one host first. Nothing else would have changed web's file.
	onHosts(t, tweaked(t, tweak.good+"first"))
	second := s.service("second", toWeb)
	s.lb2First(web, "first")
	s.answers("web", s.published(second)[0], 80)

	// One that does not parse, and one that somebody else than root can write.
	owned(t, "lb1", tweaked(t, tweak.good+"{{if}}"), "root")
	owned(t, "lb2", tweaked(t, tweak.good+"stranger"), "external-lb")
	third := s.service("third", toWeb)
	s.answers("web", s.published(third)[0], 80)
	s.everywhere(third, "first", true)
	s.degraded(v1alpha1.ReasonTemplatesInvalid,
		"lb1: ", tweak.template, "missing value for if", "lb2: ", tweak.template+" must be root's", "the last good ones are in force")
	s.event(getBalancer(t, balancer), v1alpha1.ReasonTemplatesInvalid, "cannot be used")
	described := mustKubectl(t, "describe", "balancer", balancer)
	for _, part := range []string{"Degraded", v1alpha1.ReasonTemplatesInvalid, "missing value for if", "must be root's"} {
		if !strings.Contains(described, part) {
			t.Errorf("kubectl describe lacks %q:\n%s", part, described)
		}
	}

	// One that only the daemon can find wrong: the last good ones make everything.
	onHosts(t, tweaked(t, tweak.bad))
	s.remove(t.Context(), second)
	fourth := s.service("fourth", toWeb)
	s.answers("web", s.published(fourth)[0], 80)
	s.everywhere(fourth, "first", true)
	s.everywhere(web, "first", true)
	s.degraded(v1alpha1.ReasonTemplatesInvalid, "lb1: ", "lb2: ", strings.Fields(tweak.bad)[0], "the last good ones are in force")
	if c := meta.FindStatusCondition(getBalancer(t, balancer).Status.Conditions, v1alpha1.ConditionReady); c == nil || c.Status != metav1.ConditionTrue {
		t.Errorf("every host runs what it should, and the Balancer is not ready: %+v", c)
	}

	// Corrected. Nobody changes anything in the cluster: the controller sees it by itself.
	onHosts(t, tweaked(t, tweak.good+"corrected"))
	s.lb2First(web, "corrected")
	s.everywhere(fourth, "corrected", true)
	s.degraded(v1alpha1.ReasonHealthy)

	// Without templates all is as built in.
	for _, name := range []string{"lb1", "lb2"} {
		h, err := env.Host(name)
		must(t, err)
		_, err = h.Shell(t.Context(), "rm -rf "+host.TemplatesDir)
		must(t, err)
	}
	s.service("fifth", toWeb)
	s.everywhere(web, "corrected", false)
	s.inSync(balancer)
	if asked, failed, err := stop(); failed > 0 || asked < 10 {
		t.Errorf("%d of %d requests failed, the last one: %v", failed, asked, err)
	}
}
