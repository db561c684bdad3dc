package controllers

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/deliver"
	"github.com/external-lb/external-lb/internal/lb"
	"github.com/external-lb/external-lb/internal/render"
)

// templated is the built-in template of a Service's file with a line at its end.
func templated(t *testing.T, line string) map[string]string {
	t.Helper()
	all, err := render.BuiltIn(lb.Nginx)
	if err != nil {
		t.Fatal(err)
	}
	return map[string]string{"service.conf.tmpl": strings.TrimRight(all["service.conf.tmpl"], "\n") + "\n" + line + "\n"}
}

// templates makes or changes the ConfigMap of the world's templates.
func (w *world) templates(data map[string]string) {
	w.t.Helper()
	cm := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceDefault, Name: w.balancer + "-templates"}, Data: data}
	err := kube.Create(context.Background(), cm)
	if apierrors.IsAlreadyExists(err) {
		err = kube.Update(context.Background(), cm)
	}
	w.check(err)
}

// refer makes the world's Balancer refer to a ConfigMap, or to none.
func (w *world) refer(name string) {
	w.t.Helper()
	w.eventually("the Balancer is changed", func(ctx context.Context) error {
		var b v1alpha1.Balancer
		if err := kube.Get(ctx, client.ObjectKey{Name: w.balancer}, &b); err != nil {
			return err
		}
		b.Spec.Templates = nil
		if name != "" {
			b.Spec.Templates = &v1alpha1.Templates{ConfigMapRef: v1alpha1.ConfigMapReference{Name: name}}
		}
		return kube.Update(ctx, &b)
	})
}

// accepted waits until the Balancer says what it thinks of its templates.
func (w *world) accepted(reason string, parts ...string) {
	w.t.Helper()
	w.eventually("the Balancer says "+reason, func(ctx context.Context) error {
		var b v1alpha1.Balancer
		if err := kube.Get(ctx, client.ObjectKey{Name: w.balancer}, &b); err != nil {
			return err
		}
		c := meta.FindStatusCondition(b.Status.Conditions, v1alpha1.ConditionAccepted)
		if c == nil || c.Reason != reason {
			return fmt.Errorf("%+v", b.Status.Conditions)
		}
		for _, part := range parts {
			if !strings.Contains(c.Message, part) {
				return fmt.Errorf("no %q in %q", part, c.Message)
			}
		}
		return nil
	})
}

// delivered waits until a Service's file has, or lacks, a text.
func (w *world) delivered(svc *corev1.Service, text string, has bool) {
	w.t.Helper()
	path := "services/" + svc.Namespace + "." + svc.Name + "." + string(svc.UID) + ".conf"
	w.eventually(fmt.Sprintf("%s has %q: %t", svc.Name, text, has), func(context.Context) error {
		var got string
		w.host.set(func(h *fakeHost) { got = h.texts[path] })
		if got == "" || strings.Contains(got, text) != has {
			return fmt.Errorf("%s", got)
		}
		return nil
	})
}

// told waits for an event on the Balancer.
func (w *world) told(reason, part string) {
	w.t.Helper()
	w.eventually("there is an event "+reason, func(ctx context.Context) error {
		var list corev1.EventList
		if err := kube.List(ctx, &list, client.InNamespace(metav1.NamespaceDefault)); err != nil {
			return err
		}
		for _, e := range list.Items {
			if e.InvolvedObject.Name == w.balancer && e.Reason == reason && strings.Contains(e.Message, part) {
				return nil
			}
		}
		return fmt.Errorf("none with %q", part)
	})
}

func (w *world) recorded(want map[string]string) {
	w.t.Helper()
	w.eventually("what is good is on record", func(ctx context.Context) error {
		var record corev1.ConfigMap
		err := kube.Get(ctx, client.ObjectKey{Namespace: metav1.NamespaceDefault, Name: w.balancer + recordSuffix}, &record)
		if want == nil && apierrors.IsNotFound(err) {
			return nil
		}
		if err != nil || !maps.Equal(record.Data, want) {
			return fmt.Errorf("%v, %v", err, record.Data)
		}
		return nil
	})
}

// The life of custom templates: missing, good, broken in each way, mended, gone.
func TestCustomTemplates(t *testing.T) {
	w := newWorld(t)
	w.host.set(func(h *fakeHost) { h.unknown = "no_such_directive" })
	web := w.service("web")
	address := w.published(web)
	name := w.balancer + "-templates"

	w.refer(name)
	w.accepted(v1alpha1.ReasonTemplatesNotFound, "default/"+name, "the built-in templates stay in force")
	w.told(v1alpha1.ReasonTemplatesNotFound, name)

	first := templated(t, "# first")
	w.templates(first)
	w.delivered(web, "# first", true)
	w.accepted(v1alpha1.ReasonAccepted)
	w.recorded(first)

	// Wrong by themselves: nothing is delivered, and the rest goes on.
	w.templates(map[string]string{"service.conf.tmpl": "a\n{{if}}"})
	w.accepted(v1alpha1.ReasonTemplatesInvalid, "service.conf.tmpl:2: missing value for if", "the last good templates stay in force")
	w.told(v1alpha1.ReasonTemplatesInvalid, "service.conf.tmpl:2")
	w.templates(map[string]string{"service.conf.tmpl": "a\n\n{{.Nope}}"})
	w.told(v1alpha1.ReasonTemplatesInvalid, "service.conf.tmpl:3") // the next mistake is told, too
	second := w.service("second")
	w.published(second)
	w.delivered(second, "# first", true)

	// Wrong for the daemon: refused as a whole, in its words.
	w.templates(templated(t, "no_such_directive;"))
	w.accepted(v1alpha1.ReasonTemplatesRefused, "lb1", `unknown directive "no_such_directive"`, "the last good templates stay in force")
	w.told(v1alpha1.ReasonTemplatesRefused, "no_such_directive")
	third := w.service("third")
	w.published(third)
	w.delivered(third, "# first", true)
	w.delivered(web, "# first", true)

	// S18: what changes and goes meanwhile does so. Also after a restart.
	w.restart()
	w.check(kube.Delete(t.Context(), second))
	w.eventually("the second is gone", func(ctx context.Context) error {
		if err := kube.Get(ctx, client.ObjectKeyFromObject(second), &corev1.Service{}); !apierrors.IsNotFound(err) {
			return fmt.Errorf("still there: %v", err)
		}
		return nil
	})
	fourth := w.service("fourth")
	w.published(fourth)
	w.delivered(fourth, "# first", true)
	w.accepted(v1alpha1.ReasonTemplatesRefused, "no_such_directive")
	w.recorded(first)
	if fresh := w.until(web, "web is published", func(s *corev1.Service) bool { return len(s.Status.LoadBalancer.Ingress) == 1 }); fresh.Status.LoadBalancer.Ingress[0].IP != address {
		t.Errorf("another address: %+v", fresh.Status)
	}

	mended := templated(t, "# mended")
	w.templates(mended)
	w.delivered(web, "# mended", true)
	w.accepted(v1alpha1.ReasonAccepted)
	w.recorded(mended)

	w.refer("")
	w.delivered(web, "# mended", false)
	w.recorded(nil)
	w.accepted(v1alpha1.ReasonAccepted)
}

// Templates that fail for a Service that is there are no better than others.
func TestTemplatesThatFailForAService(t *testing.T) {
	w := newWorld(t)
	web := w.service("web")
	w.published(web)
	w.templates(templated(t, `# odd{{if eq .ID.Name "web"}}{{index nil 1}}{{end}}`))
	w.refer(w.balancer + "-templates")
	w.accepted(v1alpha1.ReasonTemplatesInvalid, "Service "+w.namespace+"/web: service.conf.tmpl:")
	w.delivered(web, "# odd", false)

	// One that comes later is carried all the same, and told.
	w.templates(templated(t, `# late{{if eq .ID.Name "late"}}{{index nil 1}}{{end}}`))
	w.delivered(web, "# late", true)
	w.accepted(v1alpha1.ReasonAccepted)
	late := w.service("late")
	w.published(late)
	w.delivered(late, "# late", false)
	w.event(late, v1alpha1.EventSyncFailed, "carried with the built-in templates: service.conf.tmpl:")
	w.accepted(v1alpha1.ReasonTemplatesInvalid, "in force but for", "/late")
	w.delivered(web, "# late", true)
}

// The record goes with the Balancer, and one of a former life is not believed.
func TestTheRecordIsTheBalancersOwn(t *testing.T) {
	w := newWorld(t)
	stranger := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceDefault, Name: w.balancer + recordSuffix}, Data: templated(t, "# stranger")}
	w.create(stranger)
	t.Cleanup(func() { w.check(client.IgnoreNotFound(kube.Delete(context.Background(), stranger))) })
	web := w.service("web")
	w.published(web)
	w.templates(map[string]string{"service.conf.tmpl": "{{if}}"})
	w.refer(w.balancer + "-templates")
	w.accepted(v1alpha1.ReasonTemplatesInvalid, "the built-in templates stay in force")
	w.delivered(web, "# stranger", false)

	good := templated(t, "# good")
	w.templates(good)
	w.recorded(good)
	var record corev1.ConfigMap
	w.check(kube.Get(t.Context(), client.ObjectKeyFromObject(stranger), &record))
	if !slices.ContainsFunc(record.OwnerReferences, func(o metav1.OwnerReference) bool { return o.Kind == "Balancer" && o.Name == w.balancer }) {
		t.Errorf("nobody's: %+v", record.OwnerReferences)
	}
}

// A rejection is not for ever, where it may have been the host's fault.
func TestRejectedTemplatesAreTriedAgain(t *testing.T) {
	wanted, now := map[string]string{"a": "b"}, time.Unix(1000, 0)
	name := trialName(wanted)
	refused := []deliver.State{{Host: "lb1", Trial: deliver.Trial{Name: name, Refused: "no"}}}
	passed := []deliver.State{{Host: "lb1", Trial: deliver.Trial{Name: name, Passed: true}}, {Host: "lb2", Trial: deliver.Trial{Name: name}}}

	ts := templates{onTrial: name}
	ts.judge(wanted, passed, now)
	if ts.trial(wanted, now) != name || ts.rejected != nil {
		t.Errorf("one host of two decided: %+v", ts)
	}
	ts.judge(wanted, refused, now)
	if ts.trial(wanted, now) != "" || ts.tryAgain(now) != retryTemplates {
		t.Errorf("refused, and on trial at once: %+v", ts)
	}
	if ts.trial(map[string]string{"a": "c"}, now) == "" {
		t.Error("others are not tried")
	}
	ts.onTrial = ""
	later := now.Add(retryTemplates)
	ts.judge(wanted, refused, later) // an old verdict
	if ts.trial(wanted, later) != name {
		t.Errorf("not tried again: %+v", ts)
	}
	ts.onTrial = name
	passed[1].Trial.Passed = true
	ts.judge(wanted, passed, later)
	if ts.trial(wanted, later) != "" || !maps.Equal(ts.good, wanted) || ts.rejected != nil || ts.tryAgain(later) != 0 {
		t.Errorf("all proved it: %+v", ts)
	}
}
