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
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/test/lab"
)

// tweaks are lines for the file of a Service: one that the engine takes, and one
// that renders and that it does not know.
var tweaks = map[v1alpha1.Engine]struct{ template, after, good, bad string }{
	v1alpha1.EngineNginx:   {"server.conf.tmpl", "    proxy_timeout {{.IdleTimeout}};", "    tcp_nodelay on; # ", "    no_such_directive on; # "},
	v1alpha1.EngineHAProxy: {"listen.conf.tmpl", "    balance {{.Balance}}", "    option tcp-smart-connect # ", "    no-such-keyword # "},
	v1alpha1.EngineLVS:     {"service.conf.tmpl", "    lvs_sched {{.Scheduler}}", "    # ", "    no_such_keyword # "},
}

// tweaked is a built-in template as a user gets and changes it.
func tweaked(t *testing.T, line string) map[string]string {
	t.Helper()
	tweak := tweaks[engine.name]
	out, err := exec.CommandContext(t.Context(), binary, "templates", string(engine.name), tweak.template).Output()
	must(t, err)
	if !strings.Contains(string(out), tweak.after) {
		t.Fatalf("%s has no %q:\n%s", tweak.template, tweak.after, out)
	}
	return map[string]string{tweak.template: strings.Replace(string(out), tweak.after, tweak.after+"\n"+line, 1)}
}

// templates makes or changes the ConfigMap of a test.
func (s *scene) templates(data map[string]string) {
	s.t.Helper()
	cm := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: lab.Namespace, Name: s.namespace}, Data: data}
	err := env.Kube.Create(s.t.Context(), cm)
	if apierrors.IsAlreadyExists(err) {
		err = env.Kube.Update(s.t.Context(), cm)
	}
	must(s.t, err)
}

// templatesOf makes the Balancer refer to the ConfigMap of a test, or to none.
func templatesOf(t *testing.T, name string) {
	t.Helper()
	changeBalancer(t, balancer, func(b *v1alpha1.Balancer) {
		b.Spec.Templates = nil
		if name != "" {
			b.Spec.Templates = &v1alpha1.Templates{ConfigMapRef: v1alpha1.ConfigMapReference{Name: name}}
		}
	})
}

// accepts waits until the Balancer's condition says what it thinks of its templates.
func (s *scene) accepts(reason string, parts ...string) {
	s.t.Helper()
	eventually(s.t, func(context.Context) error {
		c := meta.FindStatusCondition(getBalancer(s.t, balancer).Status.Conditions, v1alpha1.ConditionAccepted)
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

// everywhere waits until the file of a Service has, or lacks, a text on every host.
func (s *scene) everywhere(svc *corev1.Service, text string, has bool) {
	s.t.Helper()
	for _, host := range []string{"lb1", "lb2"} {
		h, err := env.Host(host)
		must(s.t, err)
		eventually(s.t, func(ctx context.Context) error {
			data, err := h.ReadFile(ctx, engine.live()+fragmentPath(svc))
			if err != nil || strings.Contains(string(data), text) != has {
				return fmt.Errorf("%s: %q in the file: not %t: %v\n%s", host, text, has, err, data)
			}
			return nil
		})
	}
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
			if _, err := s.web(ctx, address, 80); err == nil {
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

// Custom templates go live when they are good. Whatever is wrong with them, traffic
// goes on, Services come, change and go, and the Balancer says why.
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
		templatesOf(t, "")
		must(t, client.IgnoreNotFound(env.Kube.Delete(context.Background(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: lab.Namespace, Name: s.namespace}})))
	})
	b := getBalancer(t, balancer)

	s.templates(tweaked(t, tweak.good+"first"))
	templatesOf(t, s.namespace)
	s.everywhere(web, "first", true)
	s.accepts(v1alpha1.ReasonAccepted)

	// A mistake of the template language: nothing of it reaches a host.
	s.templates(tweaked(t, tweak.good+"{{if}}"))
	s.accepts(v1alpha1.ReasonTemplatesInvalid, tweak.template, "missing value for if", "the last good templates stay in force")
	s.event(b, v1alpha1.ReasonTemplatesInvalid, "missing value for if")
	second := s.service("second", toWeb)
	s.answers("web", s.published(second)[0], 80)
	s.everywhere(second, "first", true)

	// A mistake that only the daemon can find: refused as a whole, in its words.
	s.templates(tweaked(t, tweak.bad))
	s.accepts(v1alpha1.ReasonTemplatesRefused, "lb", "the last good templates stay in force")
	s.event(b, v1alpha1.ReasonTemplatesRefused, strings.Fields(tweak.bad)[0])
	third := s.service("third", toWeb)
	s.answers("web", s.published(third)[0], 80)
	s.everywhere(third, "first", true)
	s.everywhere(web, "first", true)
	s.inSync(balancer)

	// The manager starts while they are broken: what is good is on record.
	must(t, env.Manager.Stop())
	s.update(third, func(svc *corev1.Service) { svc.Spec.Ports[0].Port = 81 })
	must(t, env.Kube.Delete(t.Context(), second))
	must(t, env.StartManager(t.Context()))
	s.answers("web", s.published(third)[0], 81)
	s.remove(t.Context(), second)
	s.everywhere(third, "first", true)
	s.accepts(v1alpha1.ReasonTemplatesRefused, "the last good templates stay in force")

	// Mended.
	s.templates(tweaked(t, tweak.good+"mended"))
	s.everywhere(web, "mended", true)
	s.everywhere(third, "mended", true)
	s.accepts(v1alpha1.ReasonAccepted)

	// Without the reference all is as built in.
	templatesOf(t, "")
	s.everywhere(web, "mended", false)
	s.inSync(balancer)
	if asked, failed, err := stop(); failed > 0 || asked < 10 {
		t.Errorf("%d of %d requests failed, the last one: %v", failed, asked, err)
	}
}
